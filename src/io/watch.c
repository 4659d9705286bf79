/* Watches of files: an inotify descriptor that is read on a lane. See source.h.
 *
 * Public functions: any thread; the descriptor they use is open until the closed callback has
 * returned. changed_run, watch_closed: a worker.
 */
#include "rondo/watch.h"

#include "error.h"
#include "source.h"

#include <stdalign.h>

enum { WATCH_BUFFER_SIZE = 4096 };

struct rondo_watch {
    struct source source;
    struct hub *hub;
    const struct rondo_watch_handlers *handlers;
    void *ctx;
    alignas(struct inotify_event) char records[WATCH_BUFFER_SIZE];
};

/* The longest record fits, or the kernel would give none. */
RONDO_STATIC_ASSERT(sizeof(struct inotify_event) + 256 <= WATCH_BUFFER_SIZE);

static struct rondo_watch *watch_of(struct handle *handle)
{
    return container_of(source_of(handle), struct rondo_watch, source);
}

static void changed_run(struct runnable *runnable)
{
    struct rondo_watch *watch = container_of(runnable, struct rondo_watch, source.event);
    uint32_t offset = 0;

    /* Pairs with publish(). */
    (void)load_acquire(&watch->source.handle.flags);
    while (offset < watch->source.filled) {
        const struct inotify_event *record = (const void *)(watch->records + offset);
        struct rondo_change change = {
            .id = record->wd,
            .mask = record->mask,
            .cookie = record->cookie,
            .name = record->len > 0 ? record->name : NULL,
        };
        if (handle_has_flag(&watch->source.handle, HANDLE_CLOSE))
            break;
        watch->handlers->changed(watch, &change, watch->ctx);
        offset += (uint32_t)sizeof(*record) + record->len;
    }
    source_consumed(&watch->source);
}

static void watch_closed(struct handle *handle)
{
    struct rondo_watch *watch = watch_of(handle);

    if (watch->handlers->closed)
        watch->handlers->closed(watch, handle->error, watch->ctx);
}

static void watch_destroy(struct handle *handle)
{
    source_fini(source_of(handle));
    sys.release(watch_of(handle));
}

static const struct handle_kind watch_kind = {
    .name = "watch",
    .advance = source_advance,
    .quiesce = source_quiesce,
    .closed = watch_closed,
    .destroy = watch_destroy,
};

static int explain_create(int error)
{
    if (error == -EMFILE)
        return error_set(error, "no inotify instance: raise the sysctl "
                                "fs.inotify.max_user_instances, or the limit of open descriptors "
                                "(ulimit -n); one watch can watch many files");
    return error;
}

RONDO_PUBLIC int rondo_watch_create(rondo_loop *loop, const struct rondo_watch_handlers *handlers,
                                    void *ctx, rondo_watch **ret_watch)
{
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error)
        return error;
    if (!ret_watch || !handlers || handlers->size != sizeof(*handlers) || !handlers->changed)
        return -EINVAL;
    struct rondo_watch *watch = sys.alloc(sizeof(*watch));
    if (!watch)
        return -ENOMEM;
    int fd = sys.watch_create();
    if (fd >= 0 && source_init(&watch->source, &watch_kind, hub_lane(hub), fd, watch->records,
                               sizeof(watch->records))) {
        watch->source.event.run = changed_run;
        watch->hub = hub;
        watch->handlers = handlers;
        watch->ctx = ctx;
        *ret_watch = watch;
        handle_submit(&watch->source.handle);
        return 0;
    }
    if (fd >= 0)
        (void)sys.close(fd);
    sys.release(watch);
    return fd < 0 ? explain_create(fd) : -ESHUTDOWN;
}

static int check_open(struct rondo_watch *watch)
{
    if (hub_is_forked(watch->hub))
        return -ECHILD;
    return handle_has_flag(&watch->source.handle, HANDLE_CLOSE) ? -EBADF : 0;
}

/* What is told of @watch from here on is told after what the caller did before: so it is in the
 * kernel, and this says it in the terms of the memory model. */
static void publish(struct rondo_watch *watch)
{
    (void)or_acq_rel(&watch->source.handle.flags, 0); /* Pairs with changed_run() and the end. */
}

RONDO_PUBLIC int rondo_watch_add(rondo_watch *watch, const char *path, uint32_t mask,
                                 int32_t *ret_id)
{
    int error = watch && path && ret_id ? check_open(watch) : -EINVAL;
    int32_t id;

    if (error)
        return error;
    id = sys.watch_add(watch->source.fd, path, mask);
    if (id == -ENOSPC)
        return error_set(id, "no watch for %s: raise the sysctl fs.inotify.max_user_watches", path);
    if (id < 0)
        return id;
    *ret_id = id;
    publish(watch);
    return 0;
}

RONDO_PUBLIC int rondo_watch_remove(rondo_watch *watch, int32_t id)
{
    int error = watch ? check_open(watch) : -EINVAL;

    if (error)
        return error;
    error = sys.watch_remove(watch->source.fd, id);
    publish(watch);
    return error;
}

RONDO_PUBLIC int rondo_watch_close(rondo_watch *watch)
{
    return watch ? handle_close(&watch->source.handle) : -EINVAL;
}

RONDO_PUBLIC rondo_strand *rondo_watch_strand(rondo_watch *watch)
{
    return watch ? (rondo_strand *)&watch->source.handle.strand : NULL;
}
