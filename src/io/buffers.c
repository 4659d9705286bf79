/* Sets of registered buffers; see rondo/buffer.h.
 *
 * Public functions: any thread. register_run, free_run: the lane for files, which owns the table of
 * regions. A set holds a life of the loop while the lane has a request of it: without lives no
 * operation on a file is under way, and none begins.
 */
#include "rondo/buffer.h"

#include "hub.h"

enum { PAGE_SIZE_MIN = 4096 };

struct rondo_buffers {
    struct hub *hub;
    char *memory;
    size_t buffer_size;
    uint32_t count;
    _Atomic int status;
    struct lane_request to_register;
    struct lane_request to_free;
    int32_t place; /* lane thread; negative: none */

    struct lock lock;
    /* Under the lock. */
    uint32_t free_count;
    uint32_t *free_indexes;
    bool *taken;
};

static void release(struct rondo_buffers *buffers)
{
    if (buffers->memory)
        sys.unmap(buffers->memory, buffers->buffer_size * buffers->count);
    sys.release(buffers->free_indexes);
    sys.release(buffers->taken);
    sys.release(buffers);
}

static void register_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_buffers *buffers = container_of(request, struct rondo_buffers, to_register);

    if (lane->given_up)
        buffers->place = -ECANCELED;
    else
        buffers->place = region_add(&lane->regions, &lane->ring, buffers->memory,
                                    buffers->buffer_size * buffers->count);
    /* Relaxed: it stands for itself. */
    store_relaxed(&buffers->status, buffers->place < 0 ? buffers->place : 0);
    lane->dropped_lives++;
}

static void free_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_buffers *buffers = container_of(request, struct rondo_buffers, to_free);

    if (buffers->place >= 0)
        region_remove(&lane->regions, &lane->ring, buffers->place);
    release(buffers);
    lane->dropped_lives++;
}

static struct rondo_buffers *create(struct hub *hub, size_t buffer_size, uint32_t count)
{
    struct rondo_buffers *buffers = sys.alloc(sizeof(*buffers));

    if (!buffers)
        return NULL;
    buffers->hub = hub;
    buffers->buffer_size = buffer_size;
    buffers->count = buffers->free_count = count;
    buffers->to_register.run = register_run;
    buffers->to_free.run = free_run;
    store_relaxed(&buffers->status, -EINPROGRESS); /* Relaxed: not shared yet. */
    buffers->free_indexes = sys.alloc(count * sizeof(*buffers->free_indexes));
    buffers->taken = sys.alloc(count * sizeof(*buffers->taken));
    buffers->memory = sys.map(buffer_size * count);
    if (!buffers->free_indexes || !buffers->taken || !buffers->memory) {
        release(buffers);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        buffers->free_indexes[i] = count - 1 - i;
    return buffers;
}

RONDO_PUBLIC int rondo_buffers_create(rondo_loop *loop, size_t buffer_size, uint32_t count,
                                      rondo_buffers **ret_buffers)
{
    struct rondo_buffers *buffers;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error)
        return error;
    if (!ret_buffers || buffer_size < 1 || count < 1 || buffer_size > REGION_SIZE_MAX)
        return -EINVAL;
    buffer_size = (buffer_size + PAGE_SIZE_MIN - 1) & ~((size_t)PAGE_SIZE_MIN - 1);
    if (count > REGION_SIZE_MAX / buffer_size)
        return -EINVAL;
    buffers = create(hub, buffer_size, count);
    if (!buffers)
        return -ENOMEM;
    if (!life_add(hub->life)) {
        release(buffers);
        return -ESHUTDOWN;
    }
    *ret_buffers = buffers;
    lane_ask(hub_file_lane(hub), &buffers->to_register);
    return 0;
}

RONDO_PUBLIC void rondo_buffers_free(rondo_buffers *buffers)
{
    if (!buffers)
        return;
    if (hub_is_forked(buffers->hub) || !life_add(buffers->hub->life))
        release(buffers);
    else
        lane_ask(hub_file_lane(buffers->hub), &buffers->to_free);
}

RONDO_PUBLIC void *rondo_buffers_take(rondo_buffers *buffers)
{
    char *data = NULL;

    if (!buffers)
        return NULL;
    lock_acquire(&buffers->lock);
    if (buffers->free_count > 0) {
        uint32_t index = buffers->free_indexes[--buffers->free_count];
        buffers->taken[index] = true;
        data = buffers->memory + index * buffers->buffer_size;
    }
    lock_release(&buffers->lock);
    return data;
}

RONDO_PUBLIC int rondo_buffers_give(rondo_buffers *buffers, void *data)
{
    size_t offset;
    size_t index;
    int error = 0;

    if (!buffers || !data)
        return -EINVAL;
    offset = (uintptr_t)data - (uintptr_t)buffers->memory;
    index = offset / buffers->buffer_size;
    if (index >= buffers->count || offset % buffers->buffer_size)
        return -EINVAL;
    lock_acquire(&buffers->lock);
    if (buffers->taken[index]) {
        buffers->taken[index] = false;
        buffers->free_indexes[buffers->free_count++] = (uint32_t)index;
    } else {
        error = -EALREADY;
    }
    lock_release(&buffers->lock);
    return error;
}

RONDO_PUBLIC int rondo_buffers_status(const rondo_buffers *buffers)
{
    /* Relaxed: it stands for itself. */
    return buffers ? load_relaxed(&buffers->status) : -EINVAL;
}
