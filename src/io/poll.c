/* Readiness of descriptors that are not ours: once, or again and again.
 *
 * A poller has one poll in the kernel, or one event with a worker, never both: the next poll is
 * armed when the worker is done. A poll that is armed looks first, so nothing is missed, and what
 * is still ready is told again.
 *
 * Public functions: any thread. ready_run, poller_closed: a worker. The rest: the lane's thread.
 */
#include "rondo/poll.h"

#include "handle.h"
#include "operation.h"

/* What may be asked for; the kernel's other bits change how a poll works. */
#define EVENTS                                                                              \
    (POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLERR | POLLHUP | POLLRDNORM | POLLRDBAND | \
     POLLWRNORM | POLLWRBAND | POLLMSG)

static int check(rondo_loop *loop, int fd, uint32_t events, struct hub **ret_hub)
{
    int error = hub_of(loop, ret_hub);

    if (error)
        return error;
    if (events & ~(uint32_t)EVENTS)
        return -EINVAL;
    int traits = sys.descriptor_traits(fd);
    return traits < 0 ? traits : 0;
}

/* ---- once ---- */

struct poll_operation {
    struct operation base;
    int fd;
    uint32_t events;
};

RONDO_STATIC_ASSERT(sizeof(struct poll_operation) <= OPERATION_SIZE);

static void once_start(struct lane *lane, struct operation *operation);

static void once_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct operation *operation = owner;

    (void)flags;
    if (result == -EINTR && !operation_is_cancelled(operation))
        once_start(lane, operation);
    else
        operation_end(lane, operation, result == -EINTR ? -ECANCELED : result);
}

static const struct op_kind once_op = {"poll", once_complete};

static void once_start(struct lane *lane, struct operation *operation)
{
    struct poll_operation *self = (struct poll_operation *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &once_op, operation);

    if (sqe)
        io_uring_prep_poll_add(sqe, self->fd, self->events);
}

static const struct operation_kind once_kind = {
    .name = "poll",
    .start = once_start,
    .cancel = operation_cancel_submission,
};

RONDO_PUBLIC int rondo_poll(rondo_loop *loop, int fd, uint32_t events,
                            const struct rondo_request *request)
{
    struct operation *operation;
    struct hub *hub;
    int error = check(loop, fd, events, &hub);

    if (!error)
        error = operation_create(&once_kind, hub, hub_lane(hub), NULL, request, &operation);
    if (error)
        return error;
    struct poll_operation *self = (struct poll_operation *)operation;
    self->fd = fd;
    self->events = events;
    operation_submit(operation);
    return 0;
}

/* ---- again and again ---- */

enum {
    POLLER_CONSUMED = HANDLE_OWN,
    POLLER_CHANGED = HANDLE_OWN << 1,
};

struct rondo_poller {
    struct handle handle;
    int fd;
    _Atomic uint32_t events;
    const struct rondo_poller_handlers *handlers;
    void *ctx;

    /* Lane thread only. */
    uint64_t user_data;
    bool polling;
    bool cancelled;
    bool held; /* a worker has the event */

    struct runnable event;
    uint32_t ready; /* what the event says */
};

static struct rondo_poller *poller_of(struct handle *handle)
{
    return container_of(handle, struct rondo_poller, handle);
}

static void ready_run(struct runnable *runnable)
{
    struct rondo_poller *poller = container_of(runnable, struct rondo_poller, event);

    if (!handle_has_flag(&poller->handle, HANDLE_CLOSE))
        poller->handlers->ready(poller, poller->ready, poller->ctx);
    (void)handle_ask(&poller->handle, POLLER_CONSUMED);
}

static void poller_closed(struct handle *handle)
{
    struct rondo_poller *poller = poller_of(handle);

    if (poller->handlers->closed)
        poller->handlers->closed(poller, handle->error, poller->ctx);
}

static void poller_destroy(struct handle *handle)
{
    sys.release(poller_of(handle));
}

static void poller_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_poller *poller = owner;

    (void)flags;
    poller->polling = false;
    if (result > 0) {
        poller->ready = (uint32_t)result;
        poller->held = true;
        handle_post(lane, &poller->handle, &poller->event);
    } else if (result < 0 && result != -ECANCELED && result != -EINTR) {
        handle_fail(&poller->handle, result);
    }
    handle_advance(lane, &poller->handle);
}

static const struct op_kind poller_op = {"poller", poller_complete};

static void poller_arm(struct lane *lane, struct rondo_poller *poller)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &poller_op, poller, &poller->user_data);

    if (!sqe) {
        handle_fail(&poller->handle, -ENOMEM);
        return;
    }
    /* Relaxed: who changes the events asks the lane to look again. */
    io_uring_prep_poll_add(sqe, poller->fd, load_relaxed(&poller->events));
    poller->polling = true;
    poller->cancelled = false;
}

static void cancel(struct lane *lane, struct rondo_poller *poller)
{
    if (!poller->polling || poller->cancelled)
        return;
    poller->cancelled = true;
    lane_cancel(lane, poller->user_data);
}

static void poller_advance(struct lane *lane, struct handle *handle)
{
    struct rondo_poller *poller = poller_of(handle);
    /* Pairs with handle_ask() in ready_run() and rondo_poller_set_events(). */
    uint32_t flags = and_acq_rel(&handle->flags, ~(uint32_t)(POLLER_CONSUMED | POLLER_CHANGED));

    if (flags & POLLER_CONSUMED)
        poller->held = false;
    if (flags & POLLER_CHANGED)
        cancel(lane, poller);
    if (!poller->polling && !poller->held)
        poller_arm(lane, poller);
}

static bool poller_quiesce(struct lane *lane, struct handle *handle)
{
    struct rondo_poller *poller = poller_of(handle);

    cancel(lane, poller);
    return !poller->polling;
}

static const struct handle_kind poller_kind = {
    .name = "poller",
    .advance = poller_advance,
    .quiesce = poller_quiesce,
    .closed = poller_closed,
    .destroy = poller_destroy,
};

RONDO_PUBLIC int rondo_poller_create(rondo_loop *loop, int fd, uint32_t events,
                                     const struct rondo_poller_handlers *handlers, void *ctx,
                                     rondo_poller **ret_poller)
{
    struct hub *hub;
    int error = check(loop, fd, events, &hub);

    if (error)
        return error;
    if (!ret_poller || !handlers || handlers->size != sizeof(*handlers) || !handlers->ready)
        return -EINVAL;
    struct rondo_poller *poller = sys.alloc(sizeof(*poller));
    if (!poller)
        return -ENOMEM;
    /* The descriptor is not the handle's: it would close it. */
    if (!handle_init(&poller->handle, &poller_kind, hub_lane(hub), -1)) {
        sys.release(poller);
        return -ESHUTDOWN;
    }
    poller->fd = fd;
    store_relaxed(&poller->events, events); /* Relaxed: the inbox publishes it. */
    poller->event.run = ready_run;
    poller->handlers = handlers;
    poller->ctx = ctx;
    *ret_poller = poller;
    handle_submit(&poller->handle);
    return 0;
}

RONDO_PUBLIC int rondo_poller_set_events(rondo_poller *poller, uint32_t events)
{
    if (!poller || events & ~(uint32_t)EVENTS)
        return -EINVAL;
    store_relaxed(&poller->events, events); /* Relaxed: the lane is asked after it. */
    return handle_ask(&poller->handle, POLLER_CHANGED) & (HANDLE_CLOSE | HANDLE_CLOSED) ? -EBADF
                                                                                        : 0;
}

RONDO_PUBLIC int rondo_poller_close(rondo_poller *poller)
{
    return poller ? handle_close(&poller->handle) : -EINVAL;
}

RONDO_PUBLIC rondo_strand *rondo_poller_strand(rondo_poller *poller)
{
    return poller ? (rondo_strand *)&poller->handle.strand : NULL;
}
