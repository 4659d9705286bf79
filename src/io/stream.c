/* The public side of a stream, and its events as they run on workers.
 *
 * Any thread calls in; nothing here touches what belongs to the lane. See stream.h.
 */
#include "stream.h"

#include "write.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

enum { STREAM_LOW = 64 * 1024, STREAM_HIGH = 256 * 1024 };

/* ---- events, in the stream's strand ---- */

static void end_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, end_event);

    if (load_acquire(&stream->flags) & (STREAM_CLOSE | STREAM_ABORT))
        return; /* Acquire pairs with stream_ask(). */
    if (stream->handlers->end)
        stream->handlers->end(stream, stream->ctx);
    else
        (void)rondo_stream_close(stream);
}

static void drained_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, drained_event);

    /* Before the call: it may fill the queue again. Pairs with watermarks_check(). */
    (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_DRAINED);
    if (stream->handlers->drained)
        stream->handlers->drained(stream, stream->ctx);
}

static void draining_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, draining_event);

    if (stream->handlers->draining)
        stream->handlers->draining(stream, stream->ctx);
    else
        (void)rondo_stream_close(stream); /* What arrived before was delivered before. */
}

static void closed_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, closed_event);
    /* Pairs with the exchange in rondo_stream_start(): either this sees the handlers, or that
     * start is refused. */
    uint32_t old = or_acq_rel(&stream->flags, STREAM_TOLD);

    if ((old & STREAM_STARTED) && stream->handlers->closed)
        stream->handlers->closed(stream, stream->error, stream->ctx);
    strand_unref(&stream->strand);
}

static void destroy(struct strand *strand)
{
    struct rondo_stream *stream = container_of(strand, struct rondo_stream, strand);

    RONDO_ASSERT(stream->fd == -1);
    sys.release(stream);
}

struct rondo_stream *stream_create(struct lane *lane, int fd, uint64_t queued_max)
{
    struct life *life = lane->options.life;
    struct rondo_stream *stream = sys.alloc_aligned(sizeof(*stream));

    if (!stream || !life_add(life)) {
        sys.release(stream);
        return NULL;
    }
    /* All relaxed: counters that order nothing. */
    (void)add_relaxed(&life->connections, 1);
    (void)add_relaxed(&life->connections_total, 1);
    strand_init(&stream->strand, lane->options.pool, destroy);
    stream->lane = lane;
    stream->fd = fd;
    stream->file = -1;
    stream->queued_max = queued_max;
    stream->end_event.run = end_run;
    stream->drained_event.run = drained_run;
    stream->draining_event.run = draining_run;
    stream->closed_event.run = closed_run;
    inbox_init(&stream->writes, false);
    /* Relaxed: not shared yet. It is queued for its lane by its creator. */
    store_relaxed(&stream->flags, STREAM_QUEUED);
    store_relaxed(&stream->low, STREAM_LOW);
    store_relaxed(&stream->high, STREAM_HIGH);
    stream_lane_init(stream);
    return stream;
}

/* ---- asking the lane ---- */

uint32_t stream_ask(struct rondo_stream *stream, uint32_t flags)
{
    /* Pairs with request_run() and finish() on the lane. */
    uint32_t old = or_acq_rel(&stream->flags, flags | STREAM_QUEUED);

    if (!(old & (STREAM_QUEUED | STREAM_CLOSED)))
        lane_ask(stream->lane, &stream->request);
    return old;
}

/* 0, or why nothing more may be asked of a stream with these flags. */
static int open_error(uint32_t flags)
{
    return flags & (STREAM_CLOSE | STREAM_ABORT | STREAM_CLOSED) ? -EBADF : 0;
}

RONDO_PUBLIC int rondo_stream_start(rondo_stream *stream,
                                    const struct rondo_stream_handlers *handlers, void *ctx)
{
    if (!stream || !handlers || handlers->size != sizeof(*handlers) || !handlers->read)
        return -EINVAL;
    uint32_t flags = load_acquire(&stream->flags); /* Pairs with an earlier start. */
    if (flags & STREAM_STARTED)
        return -EALREADY;
    if (flags & (STREAM_CLOSE | STREAM_ABORT | STREAM_TOLD))
        return -EBADF;
    stream->handlers = handlers;
    stream->ctx = ctx;
    return stream_ask(stream, STREAM_STARTED | STREAM_READ) & STREAM_TOLD ? -EBADF : 0;
}

RONDO_PUBLIC int rondo_stream_read_stop(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    /* Pairs with the lane, which is asked to look again. */
    uint32_t old = and_acq_rel(&stream->flags, ~(uint32_t)STREAM_READ);
    if (!open_error(old) && (old & STREAM_READ))
        (void)stream_ask(stream, 0);
    return open_error(old);
}

RONDO_PUBLIC int rondo_stream_read_start(rondo_stream *stream)
{
    /* Acquire pairs with rondo_stream_start(). */
    if (!stream || !(load_acquire(&stream->flags) & STREAM_STARTED))
        return -EINVAL;
    return open_error(stream_ask(stream, STREAM_READ));
}

/* ---- writing ---- */

static void write_leave(struct rondo_stream *stream)
{
    uint32_t old = load_relaxed(&stream->flags); /* Relaxed: the exchange validates it. */

    /* Pairs with request_run() and finish() on the lane. */
    while (!cas_weak_acq_rel(&stream->flags, &old, (old - STREAM_WRITER) | STREAM_QUEUED))
        ;
    if (!(old & (STREAM_QUEUED | STREAM_CLOSED)))
        lane_ask(stream->lane, &stream->request);
}

/* Count the caller in, so that the stream cannot close under it: 0, or an error and it is out. */
static int write_enter(struct rondo_stream *stream, size_t size)
{
    /* Relaxed: the limit may be passed by writes that race for its last bytes. */
    if (size > stream->queued_max || load_relaxed(&stream->queued) > stream->queued_max - size)
        return -ENOBUFS;
    /* Pairs with finish() on the lane. */
    uint32_t old = add_acq_rel(&stream->flags, STREAM_WRITER);
    if (!(old & (STREAM_CLOSE | STREAM_ABORT | STREAM_CLOSED | STREAM_SHUTDOWN)))
        return 0;
    write_leave(stream);
    return open_error(old) ? -EBADF : -EPIPE;
}

/* Queue what write_copy() or write_lend() made, or end what write_enter() began. */
static int write_push(struct rondo_stream *stream, struct write *write)
{
    if (write) {
        (void)add_acq_rel(&stream->queued, write->size); /* Pairs with itself: a sum. */
        (void)inbox_push(&stream->writes, &write->event.node);
    }
    write_leave(stream);
    return write ? 0 : -ENOMEM;
}

RONDO_PUBLIC int rondo_stream_write(rondo_stream *stream, const void *data, size_t size)
{
    if (!stream || !data || size == 0)
        return -EINVAL;
    int error = write_enter(stream, size);
    return error ? error : write_push(stream, write_copy(stream, data, size));
}

RONDO_PUBLIC int rondo_stream_write_lent(rondo_stream *stream, const void *data, size_t size,
                                         rondo_written_fn *written, void *ctx)
{
    if (!stream || !data || size == 0 || !written)
        return -EINVAL;
    int error = write_enter(stream, size);
    return error ? error : write_push(stream, write_lend(stream, data, size, written, ctx));
}

RONDO_PUBLIC size_t rondo_stream_write_queued(const rondo_stream *stream)
{
    return stream ? load_relaxed(&stream->queued) : 0; /* Relaxed: a moment's value. */
}

RONDO_PUBLIC int rondo_stream_set_watermarks(rondo_stream *stream, size_t low, size_t high)
{
    if (!stream || high == 0 || low > high)
        return -EINVAL;
    store_relaxed(&stream->low, low); /* Relaxed: the lane is asked to look after. */
    store_relaxed(&stream->high, high);
    (void)stream_ask(stream, 0);
    return 0;
}

/* ---- closing ---- */

RONDO_PUBLIC int rondo_stream_shutdown(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    uint32_t old = stream_ask(stream, STREAM_SHUTDOWN);
    if (open_error(old))
        return open_error(old);
    return old & STREAM_SHUTDOWN ? -EALREADY : 0;
}

RONDO_PUBLIC int rondo_stream_close(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    return open_error(stream_ask(stream, STREAM_CLOSE)) ? -EALREADY : 0;
}

RONDO_PUBLIC int rondo_stream_abort(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    return stream_ask(stream, STREAM_ABORT) & (STREAM_ABORT | STREAM_CLOSED) ? -EALREADY : 0;
}

RONDO_PUBLIC rondo_stream *rondo_stream_ref(rondo_stream *stream)
{
    if (stream)
        strand_ref(&stream->strand);
    return stream;
}

RONDO_PUBLIC void rondo_stream_unref(rondo_stream *stream)
{
    if (stream)
        strand_unref(&stream->strand);
}

/* ---- the socket ---- */

/* Calls @call with the descriptor while it cannot be closed: its result, or -EBADF. */
#define WITH_FD(stream, call)             \
    __extension__({                       \
        int result_ = -EBADF;             \
        lock_acquire(&(stream)->fd_lock); \
        int fd = (stream)->fd;            \
        if (fd >= 0)                      \
            result_ = (call);             \
        lock_release(&(stream)->fd_lock); \
        result_;                          \
    })

RONDO_PUBLIC int rondo_stream_peer_address(rondo_stream *stream,
                                           struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!stream || !ret_address)
        return -EINVAL;
    return WITH_FD(stream, sys.getpeername(fd, (struct sockaddr *)ret_address, &size));
}

RONDO_PUBLIC int rondo_stream_local_address(rondo_stream *stream,
                                            struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!stream || !ret_address)
        return -EINVAL;
    return WITH_FD(stream, sys.getsockname(fd, (struct sockaddr *)ret_address, &size));
}

RONDO_PUBLIC int rondo_stream_set_nodelay(rondo_stream *stream, bool nodelay)
{
    int on = nodelay;

    if (!stream)
        return -EINVAL;
    return WITH_FD(stream, sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}

static int keepalive_set(int fd, int idle_s, int interval_s, int count)
{
    int on = idle_s > 0;
    int error = sys.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));

    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    return error;
}

RONDO_PUBLIC int rondo_stream_set_keepalive(rondo_stream *stream, uint32_t idle_s,
                                            uint32_t interval_s, uint32_t count)
{
    if (!stream || idle_s > 32767)
        return -EINVAL;
    if (idle_s > 0 && (interval_s < 1 || interval_s > 32767 || count < 1 || count > 127))
        return -EINVAL;
    return WITH_FD(stream, keepalive_set(fd, (int)idle_s, (int)interval_s, (int)count));
}

RONDO_PUBLIC rondo_strand *rondo_stream_strand(rondo_stream *stream)
{
    return stream ? (rondo_strand *)&stream->strand : NULL;
}
