/* The lane's side of a stream: what to do next, half close and close.
 *
 * Lane thread. stream_advance() compares what is wanted with what is in the kernel; every
 * completion ends in it, so there is one place where the next step is decided.
 */
#include "operation.h"
#include "stream.h"

static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind close_kind = {"close", close_complete};

void stream_break(struct rondo_stream *stream, int error)
{
    if (!stream->error)
        stream->error = error;
    stream->broken = true;
}

/* The write queue against its watermarks. */
static void watermarks_check(struct lane *lane, struct rondo_stream *stream)
{
    uint64_t queued = load_relaxed(&stream->queued); /* Relaxed: every change asks again. */

    if (!stream->above_high && queued > load_relaxed(&stream->high)) {
        stream->above_high = true;
        count_add(&lane->read_pause_count, 1);
    } else if (stream->above_high && queued <= load_relaxed(&stream->low)) {
        stream->above_high = false;
        /* Pairs with drained_run(): the event is posted again only after it ran. */
        if (stream_has_flag(stream, STREAM_STARTED) &&
            !(or_acq_rel(&stream->flags, STREAM_DRAINED) & STREAM_DRAINED))
            lane_post(lane, &stream->strand, &stream->drained_event);
    }
}

/* ---- closing ---- */

static void shut_down(struct rondo_stream *stream)
{
    /* By the system call, which does not wait. The ring gives a shutdown to a thread of the kernel
     * that looks the number up when it gets to it: after a close behind it, that may be the number
     * of another connection. A peer that is gone already has seen the end; the receive tells. */
    (void)sys.shutdown(stream->fd, SHUT_WR);
    stream->shut_down = true;
}

static void close_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &close_kind, stream, NULL);
    int fd = stream->fd;

    stream->closing = true;
    if (stream->file >= 0)
        lane_file_remove(lane, stream->file);
    lock_acquire(&stream->fd_lock);
    stream->fd = -1;
    lock_release(&stream->fd_lock);
    if (!sqe) {
        (void)sys.close(fd);
        close_complete(lane, stream, 0, 0);
        return;
    }
    io_uring_prep_close(sqe, fd);
}

/* The last step: nobody reaches the lane through this stream any more. */
static void finish(struct lane *lane, struct rondo_stream *stream)
{
    uint32_t flags = load_relaxed(&stream->flags); /* Relaxed: the exchange validates it. */

    if (stream->notifications > 0)
        return; /* The last one comes here again. */
    do {
        if (flags & STREAM_QUEUED || flags >= STREAM_WRITER)
            return; /* It is or will be in the inbox, and comes here again. */
        /* Pairs with the exchanges in stream_ask() and stream_write_leave(). */
    } while (!cas_weak_acq_rel(&stream->flags, &flags, flags | STREAM_CLOSED));
    stream_writes_fail(lane, stream);
    stream_reads_end(lane, stream, stream->error ? stream->error : -ECANCELED);
    if (stream->finisher)
        operation_end(lane, stream->finisher, stream->error);
    lane_handle_remove(lane, &stream->handle);
    /* From here on the stream is the worker's, which may free it at once. */
    lane_post(lane, &stream->strand, &stream->closed_event);
    (void)sub_acq_rel(&lane->options.life->connections, 1); /* Pairs with the limit's check. */
    lane_resume_accepts(lane);
}

static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    (void)result; /* The descriptor is gone, whatever close(2) says. */
    (void)flags;
    RONDO_ASSERT(stream->closing);
    stream->fd_closed = true;
    finish(lane, stream);
}

static void close_advance(struct lane *lane, struct rondo_stream *stream, bool at_once)
{
    stream_receive_stop(lane, stream);
    if (at_once && stream->send_in_flight && !stream->send_cancelled) {
        lane_cancel(lane, stream->send_data);
        stream->send_cancelled = true;
    }
    if (stream->receiving || stream->send_in_flight)
        return;
    if (!at_once && stream->notifications > 0)
        return; /* Closed now, a peer that never reads could not be reset any more. */
    if (at_once) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        /* A reset also takes from the kernel what it reads of memory that is lent. */
        if (stream->is_socket && (stream_has_flag(stream, STREAM_ABORT) || stream->notifications))
            (void)sys.setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        stream_writes_fail(lane, stream);
    }
    close_arm(lane, stream);
}

static void stream_drain(struct lane *lane, struct lane_handle *handle);

void stream_advance(struct lane *lane, struct rondo_stream *stream)
{
    if (stream->closing) {
        if (stream->fd_closed)
            finish(lane, stream);
        return;
    }
    if (unlikely(stream->drains_late) && !stream_has_flag(stream, STREAM_NEW)) {
        stream->drains_late = false;
        stream_drain(lane, &stream->handle);
        return;
    }
    if (stream_has_flag(stream, STREAM_ABORT) && !stream->broken)
        stream_break(stream, -ECANCELED);
    (void)inbox_take(&stream->writes, &stream->sending);
    watermarks_check(lane, stream);
    stream_send_advance(lane, stream);
    stream_receive_advance(lane, stream);

    bool written = !stream->send_in_flight && !stream->sending.first;
    if (written && stream->drains_written)
        stream_break(stream, -ECANCELED);
    if (stream->broken)
        close_advance(lane, stream, true);
    else if (written && stream_has_flag(stream, STREAM_CLOSE))
        close_advance(lane, stream, false);
    else if (written && stream_has_flag(stream, STREAM_SHUTDOWN) && !stream->shut_down)
        shut_down(stream);
}

/* ---- requests ---- */

static void stream_abort(struct lane *lane, struct lane_handle *handle)
{
    struct rondo_stream *stream = container_of(handle, struct rondo_stream, handle);

    stream_break(stream, -ECANCELED);
    stream_advance(lane, stream);
}

static void stream_drain(struct lane *lane, struct lane_handle *handle)
{
    struct rondo_stream *stream = container_of(handle, struct rondo_stream, handle);
    /* Acquire pairs with rondo_stream_start(): the handlers are set. */
    uint32_t flags = load_acquire(&stream->flags);

    stream->drains_late = flags & STREAM_NEW;
    if (stream->drains_late)
        return;
    if (flags & STREAM_STARTED)
        lane_post(lane, &stream->strand, &stream->draining_event);
    else if (!(flags & (STREAM_PULLED | STREAM_TARGET)))
        stream->drains_written = true; /* The others' operations end them, or the deadline does. */
    stream_advance(lane, stream);      /* Until it is closed, it goes on. */
}

static void request_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_stream *stream = container_of(request, struct rondo_stream, request);

    /* Pairs with the exchange in stream_ask(): what was asked before is seen now. */
    (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_QUEUED);
    if (!stream->listed) {
        stream->listed = true;
        stream->file = lane_file_add(lane, stream->fd);
        if (!lane_handle_add(lane, &stream->handle))
            return;
    }
    stream_advance(lane, stream);
}

void stream_lane_init(struct rondo_stream *stream)
{
    stream->request.run = request_run;
    stream->handle.drain = stream_drain;
    stream->handle.abort = stream_abort;
    stream_receive_init(stream);
}
