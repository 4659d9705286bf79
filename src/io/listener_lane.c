/* The lane's side of a listener: accepting, pausing; and its events as they run on workers.
 *
 * Functions that take a lane: that lane's thread. Events: a worker. See listener.h.
 */
#include "listener.h"

#include "stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

enum { LISTENER_SHED_MAX = 64 }; /* connections closed unseen at a time */

static void accept_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind accept_kind = {"accept", accept_complete};

/* ---- events, in the listener's strand ---- */

static void accepted_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, accepted_event);
    struct rondo_listener *listener = stream->listener;

    listener->handlers->accepted(listener, stream, listener->ctx);
    strand_unref(&stream->strand); /* The accepted event's. */
}

static void listener_closed(struct handle *handle)
{
    struct rondo_listener *listener = listener_of(handle);

    if (listener->handlers->closed)
        listener->handlers->closed(listener, handle->error, listener->ctx);
}

static void listener_destroy(struct handle *handle)
{
    sys.release(listener_of(handle));
}

/* ---- accepting, on the lane ---- */

/* Connections that may still be accepted. */
static uint64_t room(struct rondo_listener *listener)
{
    struct life *life = listener->hub->life;
    uint64_t open = load_relaxed(&life->connections); /* Relaxed: a limit, not an order. */

    return open < life->connections_max ? life->connections_max - open : 0;
}

static void pause_accept(struct lane *lane, struct rondo_listener *listener)
{
    if (listener->is_paused)
        return;
    listener->is_paused = true;
    lane_pause_accept(lane, &listener->paused);
}

static void reserve_take(struct rondo_listener *listener)
{
    if (listener->reserve < 0)
        listener->reserve = sys.event_create();
}

static void reserve_drop(struct rondo_listener *listener)
{
    if (listener->reserve >= 0)
        (void)sys.close(listener->reserve);
    listener->reserve = -1;
}

/* Those who wait get an end instead of silence. */
static void shed(struct lane *lane, struct rondo_listener *listener)
{
    reserve_drop(listener);
    for (uint32_t i = 0; i < LISTENER_SHED_MAX; i++) {
        int fd = sys.accept_now(listener->handle.fd);
        if (fd < 0)
            break; /* Nobody waits, or another thread took the descriptor. */
        (void)sys.close(fd);
        count_add(&lane->shed_count, 1);
    }
    reserve_take(listener);
}

/* No descriptor is left: the connection waits in the kernel's backlog. */
static void exhausted(struct lane *lane, struct rondo_listener *listener)
{
    uint64_t shed_after_ns = listener->hub->shed_after_ns;
    uint64_t now_ns = clock_now_ns();

    if (listener->exhausted_ns == 0)
        listener->exhausted_ns = now_ns;
    if (shed_after_ns > 0 && now_ns - listener->exhausted_ns >= shed_after_ns)
        shed(lane, listener);
    pause_accept(lane, listener);
}

void listener_paused_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_listener *listener = container_of(request, struct rondo_listener, paused);

    listener->is_paused = false;
    handle_advance(lane, &listener->handle);
}

static void accept_one(struct lane *lane, struct rondo_listener *listener, int fd)
{
    struct lane *home = hub_lane(listener->hub);
    struct rondo_stream *stream = NULL;
    bool closing = handle_has_flag(&listener->handle, HANDLE_CLOSE);
    int on = 1;

    if (!closing)
        stream = stream_create(home, fd, listener->hub->write_queue_max);
    if (!stream) {
        /* Closing, or no memory: a late result is disposed of, not leaked. */
        (void)sys.close(fd);
        if (!closing)
            pause_accept(lane, listener);
        return;
    }
    listener->exhausted_ns = 0;
    reserve_take(listener);
    if (listener->nodelay)
        (void)sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    strand_ref(&stream->strand); /* The user may close it before accepted_run() has ended. */
    stream->listener = listener;
    stream->accepted_event.run = accepted_run;
    lane_post(lane, &listener->handle.strand, &stream->accepted_event);
    lane_ask(home, &stream->request);
}

static void accept_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_listener *listener = owner;

    if (!(flags & IORING_CQE_F_MORE))
        listener->accepting = false;
    switch (result) {
    case -ECANCELED: /* We paused, or close. */
    case -EINTR:
    case -EAGAIN:
        break;
    case -ECONNABORTED: /* The peer left while it waited: errors of one connection. */
    case -EPROTO:
    case -EPERM:
    case -ENETDOWN:
    case -ENOPROTOOPT:
    case -EHOSTDOWN:
    case -ENONET:
    case -EHOSTUNREACH:
    case -EOPNOTSUPP:
    case -ENETUNREACH:
        break;
    case -EMFILE:
    case -ENFILE:
        exhausted(lane, listener);
        break;
    case -ENOBUFS: /* As above, but closing one would not help. */
    case -ENOMEM:
        pause_accept(lane, listener);
        break;
    default:
        if (result >= 0)
            accept_one(lane, listener, result);
        else
            handle_fail(&listener->handle, result);
    }
    handle_advance(lane, &listener->handle);
}

static void accept_arm(struct lane *lane, struct rondo_listener *listener)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &accept_kind, listener, &listener->accept_data);

    if (!sqe) {
        pause_accept(lane, listener);
        return;
    }
    /* A multishot takes all that the backlog holds at once, so near the limit it is one by one. No
     * address: one buffer shared by all connections of a multishot would be overwritten. */
    if (room(listener) > listener->backlog)
        io_uring_prep_multishot_accept(sqe, listener->handle.fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, listener->handle.fd, NULL, NULL, SOCK_CLOEXEC);
    listener->accepting = true;
    listener->accept_cancelled = false;
}

static void cancel_accept(struct lane *lane, struct rondo_listener *listener)
{
    if (!listener->accepting || listener->accept_cancelled)
        return;
    lane_cancel(lane, listener->accept_data);
    listener->accept_cancelled = true;
}

static void listener_advance(struct lane *lane, struct handle *handle)
{
    struct rondo_listener *listener = listener_of(handle);

    if (lane->overloaded || room(listener) == 0) {
        cancel_accept(lane, listener);
        pause_accept(lane, listener);
    } else if (!listener->accepting && !listener->is_paused) {
        accept_arm(lane, listener);
    }
}

static void listener_overload(struct lane *lane, struct handle *handle)
{
    (void)lane;
    listener_of(handle)->exhausted_ns = 0; /* If nobody is accepted now, it is for overload. */
}

static bool listener_quiesce(struct lane *lane, struct handle *handle)
{
    struct rondo_listener *listener = listener_of(handle);

    if (listener->is_paused) {
        lane_forget_accept(lane, &listener->paused);
        listener->is_paused = false;
    }
    cancel_accept(lane, listener);
    reserve_drop(listener);
    return !listener->accepting;
}

const struct handle_kind listener_kind = {
    .name = "listener",
    .advance = listener_advance,
    .quiesce = listener_quiesce,
    .overload = listener_overload,
    .closed = listener_closed,
    .destroy = listener_destroy,
};
