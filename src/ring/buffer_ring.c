/* The provided-buffer ring; see buffer_ring.h for threads and invariants. */
#include "buffer_ring.h"

#include "sys.h"

#include <errno.h>
#include <sys/mman.h>

static size_t entries_size(uint32_t count)
{
    return count * sizeof(struct io_uring_buf);
}

/* A header and its bytes, and the next header on a cache line of its own. */
static size_t stride(const struct buffer_ring *buffers)
{
    return (sizeof(struct buffer) + buffers->buffer_size + CACHE_LINE_SIZE - 1) &
           ~(size_t)(CACHE_LINE_SIZE - 1);
}

static void add(struct buffer_ring *buffers, struct buffer *buffer)
{
    RONDO_ASSERT(buffer->out);
    buffer->out = false;
    io_uring_buf_ring_add(buffers->entries, buffer_data(buffer), buffers->buffer_size, buffer->id,
                          io_uring_buf_ring_mask(buffers->count_max),
                          (int)buffers->unpublished_count);
    buffers->unpublished_count++;
    buffers->free_count++;
}

static bool grow(struct buffer_ring *buffers)
{
    uint32_t left = buffers->count_max - buffers->allocated_count;
    uint32_t count = left < BUFFER_CHUNK_COUNT ? left : BUFFER_CHUNK_COUNT;
    char *chunk;

    if (count == 0)
        return false;
    /* Not touched before it is used: most datagrams fill little of their buffer. */
    chunk = sys.alloc(count * stride(buffers) + CACHE_LINE_SIZE);
    if (!chunk)
        return false;
    buffers->chunks[buffers->chunk_count++] = chunk;
    chunk += -(uintptr_t)chunk % CACHE_LINE_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        struct buffer *buffer = (void *)(chunk + i * stride(buffers));
        buffer->id = (uint16_t)(buffers->allocated_count + i);
        buffer->out = true;
        buffers->buffers[buffer->id] = buffer;
        add(buffers, buffer);
    }
    buffers->allocated_count += count;
    return true;
}

int buffer_ring_init(struct buffer_ring *buffers, struct ring *ring, enum buffer_group group,
                     uint32_t count_max, uint32_t buffer_size)
{
    struct io_uring_buf_reg registration;
    uint32_t chunk_count_max = count_max / BUFFER_CHUNK_COUNT + 1;
    int error = -ENOMEM;

    *buffers = (struct buffer_ring){
        .count_max = count_max,
        .buffer_size = buffer_size,
        .group = group,
    };
    inbox_init(&buffers->returns, false);
    buffers->entries = mmap(NULL, entries_size(count_max), PROT_READ | PROT_WRITE,
                            MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (buffers->entries == MAP_FAILED)
        buffers->entries = NULL;
    buffers->buffers = sys.alloc(count_max * sizeof(*buffers->buffers));
    buffers->chunks = sys.alloc(chunk_count_max * sizeof(*buffers->chunks));
    if (!buffers->entries || !buffers->buffers || !buffers->chunks)
        goto out;

    registration = (struct io_uring_buf_reg){
        .ring_addr = (uint64_t)(uintptr_t)buffers->entries,
        .ring_entries = count_max,
        .bgid = (uint16_t)group,
    };
    io_uring_buf_ring_init(buffers->entries);
    error = io_uring_register_buf_ring(&ring->uring, &registration, 0);
    if (error == 0 && !grow(buffers))
        error = -ENOMEM;
    if (error == 0) {
        buffer_ring_refill(buffers, 0);
        return 0;
    }
out:
    buffer_ring_fini(buffers);
    return ring_explain(error);
}

void buffer_ring_fini(struct buffer_ring *buffers)
{
    for (uint32_t i = 0; i < buffers->chunk_count; i++)
        sys.release(buffers->chunks[i]);
    sys.release(buffers->chunks);
    sys.release(buffers->buffers);
    if (buffers->entries)
        (void)munmap(buffers->entries, entries_size(buffers->count_max));
    *buffers = (struct buffer_ring){0};
}

struct buffer *buffer_ring_picked(struct buffer_ring *buffers, uint32_t id, uint32_t size)
{
    RONDO_ASSERT(id < buffers->allocated_count && size <= buffers->buffer_size);
    struct buffer *buffer = buffers->buffers[id];

    RONDO_ASSERT(!buffer->out && buffers->free_count > 0);
    buffer->out = true;
    buffer->size = size;
    buffers->free_count--;
    return buffer;
}

/* Buffers to have ready: a quarter of all, which doubles them in a few steps under a growing load,
 * and one for each handle that found none. */
static uint32_t reserve(const struct buffer_ring *buffers, uint32_t wanted)
{
    uint32_t quarter = buffers->allocated_count / 4;

    return wanted > quarter ? wanted : quarter;
}

void buffer_ring_refill(struct buffer_ring *buffers, uint32_t wanted)
{
    struct chain returned = {0};
    struct node *node;

    (void)inbox_take(&buffers->returns, &returned);
    while ((node = chain_take(&returned)))
        add(buffers, container_of(runnable_of(node), struct buffer, event));
    while (buffers->free_count < reserve(buffers, wanted) && grow(buffers))
        ;
    if (buffers->unpublished_count > 0) {
        /* A release store of the tail: the entries are written first. */
        io_uring_buf_ring_advance(buffers->entries, (int)buffers->unpublished_count);
        buffers->unpublished_count = 0;
    }
}
