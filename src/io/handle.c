/* The life of handles; see handle.h.
 *
 * init, submit, discard, ask, close: any thread. closed_run: a worker. The rest: the lane's thread.
 */
#include "handle.h"

static void destroy(struct strand *strand)
{
    struct handle *handle = container_of(strand, struct handle, strand);

    handle->kind->destroy(handle);
}

static void closed_run(struct runnable *runnable)
{
    struct handle *handle = container_of(runnable, struct handle, closed_event);

    handle->kind->closed(handle);
    strand_unref(&handle->strand);
}

/* ---- on the lane ---- */

/* The last step: nobody reaches the lane through this handle any more. */
static void finish(struct lane *lane, struct handle *handle)
{
    uint32_t flags = load_relaxed(&handle->flags); /* Relaxed: the exchange validates it. */

    do {
        if (flags & HANDLE_QUEUED || flags >= HANDLE_USER)
            return; /* It is or will be in the inbox, and comes here again. */
        /* Pairs with the exchanges in handle_ask(), handle_enter() and handle_leave(). */
    } while (!cas_weak_acq_rel(&handle->flags, &flags, flags | HANDLE_CLOSED));
    if (handle->kind->ended)
        handle->kind->ended(lane, handle);
    lane_handle_remove(lane, &handle->list);
    /* From here on the handle is the worker's, which may free it at once. */
    lane_post(lane, &handle->strand, &handle->closed_event);
}

static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct handle *handle = owner;

    (void)result; /* The descriptor is gone, whatever close(2) says. */
    (void)flags;
    handle->fd_closed = true;
    finish(lane, handle);
}

static const struct op_kind close_kind = {"close", close_complete};

static void close_arm(struct lane *lane, struct handle *handle)
{
    struct io_uring_sqe *sqe = NULL;
    int fd = handle->fd;

    handle->closing = true;
    handle->fd = -1;
    if (fd >= 0)
        sqe = lane_submit(lane, &close_kind, handle, NULL);
    if (sqe) {
        io_uring_prep_close(sqe, fd);
        return;
    }
    if (fd >= 0)
        (void)sys.close(fd);
    close_complete(lane, handle, 0, 0);
}

void handle_fail(struct handle *handle, int error)
{
    if (!handle->error)
        handle->error = error;
    (void)or_acq_rel(&handle->flags, HANDLE_CLOSE); /* Pairs with other closers. */
}

void handle_advance(struct lane *lane, struct handle *handle)
{
    if (handle->closing)
        return;
    if (!handle_has_flag(handle, HANDLE_CLOSE))
        handle->kind->advance(lane, handle);
    if (handle_has_flag(handle, HANDLE_CLOSE) && handle->kind->quiesce(lane, handle))
        close_arm(lane, handle);
}

static void handle_drain(struct lane *lane, struct lane_handle *list)
{
    struct handle *handle = container_of(list, struct handle, list);

    if (handle->kind->drain)
        handle->kind->drain(lane, handle);
    else
        (void)or_acq_rel(&handle->flags, HANDLE_CLOSE); /* Pairs with other closers. */
    handle_advance(lane, handle);
}

static void handle_abort(struct lane *lane, struct lane_handle *list)
{
    struct handle *handle = container_of(list, struct handle, list);

    if (!handle_has_flag(handle, HANDLE_CLOSE))
        handle_fail(handle, -ECANCELED);
    handle_advance(lane, handle);
}

static void handle_overload(struct lane *lane, struct lane_handle *list)
{
    struct handle *handle = container_of(list, struct handle, list);

    handle->kind->overload(lane, handle);
    handle_advance(lane, handle);
}

static void request_run(struct lane *lane, struct lane_request *request)
{
    struct handle *handle = container_of(request, struct handle, request);

    /* Pairs with the exchange in handle_ask(): what was asked before is seen now. */
    (void)and_acq_rel(&handle->flags, ~(uint32_t)HANDLE_QUEUED);
    if (!handle->listed) {
        handle->listed = true;
        if (!lane_handle_add(lane, &handle->list))
            return;
    }
    if (handle->fd_closed)
        finish(lane, handle);
    else
        handle_advance(lane, handle);
}

/* ---- any thread ---- */

bool handle_init(struct handle *handle, const struct handle_kind *kind, struct lane *lane, int fd)
{
    if (!life_add(lane->options.life))
        return false;
    strand_init(&handle->strand, lane->options.pool, destroy);
    handle->lane = lane;
    handle->kind = kind;
    handle->fd = fd;
    handle->request.run = request_run;
    handle->list.drain = handle_drain;
    handle->list.abort = handle_abort;
    handle->list.overload = kind->overload ? handle_overload : NULL;
    handle->closed_event.run = closed_run;
    store_relaxed(&handle->flags, HANDLE_QUEUED); /* Relaxed: the inbox publishes it. */
    return true;
}

void handle_submit(struct handle *handle)
{
    lane_ask(handle->lane, &handle->request);
}

void handle_discard(struct handle *handle)
{
    life_drop(handle->lane->options.life, 1);
}

uint32_t handle_ask(struct handle *handle, uint32_t flags)
{
    /* Pairs with request_run() and finish() on the lane. */
    uint32_t old = or_acq_rel(&handle->flags, flags | HANDLE_QUEUED);

    if (!(old & (HANDLE_QUEUED | HANDLE_CLOSED)))
        lane_ask(handle->lane, &handle->request);
    return old;
}

void handle_leave(struct handle *handle)
{
    uint32_t old = load_relaxed(&handle->flags); /* Relaxed: the exchange validates it. */

    /* Pairs with request_run() and finish() on the lane. */
    while (!cas_weak_acq_rel(&handle->flags, &old, (old - HANDLE_USER) | HANDLE_QUEUED))
        ;
    if (!(old & (HANDLE_QUEUED | HANDLE_CLOSED)))
        lane_ask(handle->lane, &handle->request);
}

int handle_enter(struct handle *handle)
{
    uint32_t old = add_acq_rel(&handle->flags, HANDLE_USER); /* Pairs with finish() on the lane. */

    if (!(old & (HANDLE_CLOSE | HANDLE_CLOSED)))
        return 0;
    handle_leave(handle);
    return -EBADF;
}

int handle_close(struct handle *handle)
{
    return handle_ask(handle, HANDLE_CLOSE) & (HANDLE_CLOSE | HANDLE_CLOSED) ? -EALREADY : 0;
}
