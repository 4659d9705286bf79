/* Listeners; see listener.h.
 *
 * Public functions: any thread. Functions that take a lane: that lane's thread. Events: a worker.
 */
#include "listener.h"

#include "error.h"
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum listener_flag { LISTENER_QUEUED = 1 << 0, LISTENER_CLOSE = 1 << 1, LISTENER_CLOSED = 1 << 2 };

struct rondo_listener {
    struct strand strand;
    struct lane *lane;
    struct lane_request request;
    _Atomic uint32_t flags;
    struct listener_options options;
    bool nodelay;
    uint32_t backlog;
    const struct rondo_listener_handlers *handlers;
    void *ctx;
    struct sockaddr_storage address;

    /* Lane thread only. */
    struct lane_handle handle;
    struct lane_request paused;
    int fd;
    uint64_t accept_data;
    uint32_t next_lane;
    int error;
    bool listed;
    bool accepting;
    bool accept_cancelled;
    bool is_paused;
    bool closing;
    bool fd_closed;

    struct runnable closed_event;
};

static void accept_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void advance(struct lane *lane, struct rondo_listener *listener);

static const struct op_kind accept_kind = {"accept", accept_complete};
static const struct op_kind close_kind = {"close", close_complete};

/* ---- events, in the listener's strand ---- */

static void accepted_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, accepted_event);
    struct rondo_listener *listener = stream->listener;

    listener->handlers->accepted(listener, stream, listener->ctx);
    strand_unref(&stream->strand); /* The accepted event's. */
}

static void closed_run(struct runnable *runnable)
{
    struct rondo_listener *listener = container_of(runnable, struct rondo_listener, closed_event);

    if (listener->handlers->closed)
        listener->handlers->closed(listener, listener->error, listener->ctx);
    strand_unref(&listener->strand);
}

static void destroy(struct strand *strand)
{
    sys.release(container_of(strand, struct rondo_listener, strand));
}

/* ---- accepting, on the lane ---- */

/* Connections that may still be accepted. */
static uint64_t room(struct rondo_listener *listener)
{
    struct life *life = listener->lane->options.life;
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

static void paused_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_listener *listener = container_of(request, struct rondo_listener, paused);

    listener->is_paused = false;
    advance(lane, listener);
}

static void accept_one(struct lane *lane, struct rondo_listener *listener, int fd)
{
    struct life *life = lane->options.life;
    struct lane *home = &listener->options.lanes[listener->next_lane];
    struct rondo_stream *stream = NULL;
    int on = 1;

    if (!listener->closing)
        stream = stream_create(home, fd, listener, listener->options.write_queue_max);
    if (!stream) {
        /* Closing, or no memory: a late result is disposed of, not leaked. */
        (void)sys.close(fd);
        if (!listener->closing)
            pause_accept(lane, listener);
        return;
    }
    listener->next_lane = (listener->next_lane + 1) % listener->options.lane_count;
    if (listener->nodelay)
        (void)sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bool alive = life_add(life);
    RONDO_ASSERT(alive); /* This listener is alive. */
    /* All relaxed: counters that order nothing. */
    (void)add_relaxed(&life->connections, 1);
    (void)add_relaxed(&life->connections_total, 1);

    strand_ref(&stream->strand); /* The user may close it before accepted_run() has ended. */
    stream->accepted_event.run = accepted_run;
    lane_post(lane, &listener->strand, &stream->accepted_event);
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
    case -EMFILE: /* Exhausted: the connection waits in the kernel's backlog. */
    case -ENFILE:
    case -ENOBUFS:
    case -ENOMEM:
        pause_accept(lane, listener);
        break;
    default:
        if (result >= 0) {
            accept_one(lane, listener, result);
        } else {
            listener->error = result;
            (void)or_acq_rel(&listener->flags, LISTENER_CLOSE); /* Pairs with other closers. */
        }
    }
    advance(lane, listener);
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
        io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    listener->accepting = true;
    listener->accept_cancelled = false;
}

static void finish(struct lane *lane, struct rondo_listener *listener)
{
    uint32_t flags = load_relaxed(&listener->flags); /* Relaxed: the exchange validates it. */

    do {
        if (flags & LISTENER_QUEUED)
            return; /* It is in the inbox, and comes here again. */
        /* Pairs with the exchange in rondo_listener_close(). */
    } while (!cas_weak_acq_rel(&listener->flags, &flags, flags | LISTENER_CLOSED));
    lane_handle_remove(lane, &listener->handle);
    /* From here on the listener is the worker's, which may free it at once. */
    lane_post(lane, &listener->strand, &listener->closed_event);
}

static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_listener *listener = owner;

    (void)result;
    (void)flags;
    listener->fd_closed = true;
    finish(lane, listener);
}

static void cancel_accept(struct lane *lane, struct rondo_listener *listener)
{
    if (!listener->accepting || listener->accept_cancelled)
        return;
    lane_cancel(lane, listener->accept_data);
    listener->accept_cancelled = true;
}

static void close_advance(struct lane *lane, struct rondo_listener *listener)
{
    if (listener->is_paused) {
        lane_forget_accept(lane, &listener->paused);
        listener->is_paused = false;
    }
    cancel_accept(lane, listener);
    if (listener->accepting)
        return;
    listener->closing = true;
    struct io_uring_sqe *sqe = lane_submit(lane, &close_kind, listener, NULL);
    if (sqe) {
        io_uring_prep_close(sqe, listener->fd);
    } else {
        (void)sys.close(listener->fd);
        close_complete(lane, listener, 0, 0);
    }
}

static void advance(struct lane *lane, struct rondo_listener *listener)
{
    if (listener->closing)
        return;
    /* Relaxed: who sets it asks the lane to look again. */
    if (load_relaxed(&listener->flags) & LISTENER_CLOSE) {
        close_advance(lane, listener);
    } else if (room(listener) == 0) {
        cancel_accept(lane, listener);
        pause_accept(lane, listener);
    } else if (!listener->accepting && !listener->is_paused) {
        accept_arm(lane, listener);
    }
}

static void listener_drain(struct lane *lane, struct lane_handle *handle)
{
    struct rondo_listener *listener = container_of(handle, struct rondo_listener, handle);

    (void)or_acq_rel(&listener->flags, LISTENER_CLOSE); /* Pairs with other closers. */
    advance(lane, listener);
}

static void listener_abort(struct lane *lane, struct lane_handle *handle)
{
    struct rondo_listener *listener = container_of(handle, struct rondo_listener, handle);

    if (!listener->error && !(load_relaxed(&listener->flags) & LISTENER_CLOSE))
        listener->error = -ECANCELED; /* Relaxed: only which reason is told. */
    listener_drain(lane, handle);
}

static void request_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_listener *listener = container_of(request, struct rondo_listener, request);

    /* Pairs with rondo_listener_close(): what was asked before is seen now. */
    (void)and_acq_rel(&listener->flags, ~(uint32_t)LISTENER_QUEUED);
    if (!listener->listed) {
        listener->listed = true;
        if (!lane_handle_add(lane, &listener->handle))
            return;
    }
    if (listener->fd_closed)
        finish(lane, listener);
    else
        advance(lane, listener);
}

/* ---- creation ---- */

static int parse_address(const char *host, uint16_t port, struct sockaddr_storage *ret_address,
                         socklen_t *ret_size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;

    *ret_address = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *ret_size = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *ret_size = sizeof(*v6);
        return 0;
    }
    return error_set(-EINVAL,
                     "host: \"%s\" is not a numeric IPv4 or IPv6 address such as "
                     "127.0.0.1 or ::1",
                     host);
}

static int configure(int fd, int family, const struct rondo_listener_options *options)
{
    int on = 1;
    int v6only = options->ipv6_only;
    int error = sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));

    if (!error && options->reuse_port)
        error = sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (!error && family == AF_INET6)
        error = sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    return error;
}

int listener_socket(const char *host, uint16_t port, const struct rondo_listener_options *options)
{
    struct sockaddr_storage address;
    socklen_t size = 0;
    const char *step = "socket";
    int fd;
    int error = parse_address(host, port, &address, &size);

    if (error)
        return error;
    if (options->backlog < 1 || options->backlog > 65535)
        return error_set(-EINVAL, "backlog: %u is not between 1 and 65535", options->backlog);
    error = fd = sys.socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        error = configure(fd, address.ss_family, options);
        if (!error) {
            step = "bind";
            error = sys.bind(fd, (struct sockaddr *)&address, size);
        }
        if (!error) {
            step = "listen";
            error = sys.listen(fd, (int)options->backlog);
        }
        if (!error)
            return fd;
        (void)sys.close(fd);
    }
    if (error == -EADDRINUSE)
        return error_set(error,
                         "port %u of %s is taken: stop the program that listens there, or "
                         "choose another port (0 lets the system choose)",
                         port, host);
    if (error == -EACCES)
        return error_set(error,
                         "port %u needs more rights: use a port above 1023, or give the "
                         "program CAP_NET_BIND_SERVICE",
                         port);
    return error_set(error, "%s of %s port %u failed: %s", step, host, port,
                     rondo_error_name(error));
}

int listener_create(const struct listener_options *options, int fd,
                    const struct rondo_listener_options *given,
                    const struct rondo_listener_handlers *handlers, void *ctx,
                    struct rondo_listener **ret_listener)
{
    struct rondo_listener *listener = sys.alloc(sizeof(*listener));
    socklen_t size = sizeof(listener->address);

    if (!listener)
        return error_set(-ENOMEM, "no memory for a listener");
    strand_init(&listener->strand, options->pool, destroy);
    listener->lane = &options->lanes[0];
    listener->options = *options;
    listener->nodelay = given->nodelay;
    listener->backlog = given->backlog;
    listener->handlers = handlers;
    listener->ctx = ctx;
    listener->fd = fd;
    listener->request.run = request_run;
    listener->paused.run = paused_run;
    listener->handle.drain = listener_drain;
    listener->handle.abort = listener_abort;
    listener->closed_event.run = closed_run;
    (void)sys.getsockname(fd, (struct sockaddr *)&listener->address, &size);
    store_relaxed(&listener->flags, LISTENER_QUEUED); /* Relaxed: the inbox publishes it. */
    if (ret_listener)
        *ret_listener = listener;
    lane_ask(listener->lane, &listener->request);
    return 0;
}

RONDO_PUBLIC int rondo_listener_address(const rondo_listener *listener,
                                        struct sockaddr_storage *ret_address)
{
    if (!listener || !ret_address)
        return -EINVAL;
    *ret_address = listener->address;
    return 0;
}

RONDO_PUBLIC int rondo_listener_close(rondo_listener *listener)
{
    if (!listener)
        return -EINVAL;
    /* Pairs with request_run() and finish() on the lane. */
    uint32_t old = or_acq_rel(&listener->flags, LISTENER_CLOSE | LISTENER_QUEUED);
    if (!(old & (LISTENER_QUEUED | LISTENER_CLOSED)))
        lane_ask(listener->lane, &listener->request);
    return old & (LISTENER_CLOSE | LISTENER_CLOSED) ? -EALREADY : 0;
}
