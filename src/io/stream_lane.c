/* The lane's side of a stream: receives, sends, half close and close.
 *
 * Lane thread. stream_advance() compares what is wanted with what is in the kernel; every
 * completion ends in it, so there is one place where the next step is decided.
 */
#include "stream.h"
#include "write.h"

#include <errno.h>

enum { SEND_SIZE_MAX = 1 << 30 }; /* of one submission; the rest follows */

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void send_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind receive_kind = {"receive", receive_complete};
static const struct op_kind send_kind = {"send", send_complete};
static const struct op_kind close_kind = {"close", close_complete};

static bool has_flag(struct rondo_stream *stream, uint32_t flag)
{
    /* Relaxed: who sets a flag asks the lane to look again. */
    return (load_relaxed(&stream->flags) & flag) != 0;
}

/* An error of the connection, or the end of the loop: it closes at the next advance. */
static void stream_break(struct rondo_stream *stream, int error)
{
    if (!stream->error)
        stream->error = error;
    stream->broken = true;
}

/* The usual operations name the descriptor by its place in the lane's table. */
static void use_file(const struct rondo_stream *stream, struct io_uring_sqe *sqe)
{
    if (stream->file < 0)
        return;
    sqe->fd = stream->file;
    sqe->flags |= IOSQE_FIXED_FILE;
}

/* ---- receiving ---- */

static void starved_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_stream *stream = container_of(request, struct rondo_stream, starved);

    stream->is_starved = false;
    stream_advance(lane, stream);
}

/* While it is capped the user has a buffer left, and asks for a new look when done with it: so a
 * stream capped by overload needs nobody to tell it that overload is over. */
static bool is_capped(struct rondo_stream *stream)
{
    struct lane *lane = stream->lane;
    uint32_t max = unlikely(lane->overloaded) ? STREAM_BUFFERS_OVERLOAD : STREAM_BUFFERS_MAX;

    if (!has_flag(stream, STREAM_CAPPED)) {
        /* Relaxed: a late answer is only too high. */
        uint32_t waiting = stream->delivered - load_relaxed(&stream->consumed);
        if (waiting < max)
            return false;
        /* Pairs with the increment in buffer_run(): one of the two sees the other. */
        (void)or_seq_cst(&stream->flags, STREAM_CAPPED);
        count_add(waiting < STREAM_BUFFERS_MAX ? &lane->overload_read_pause_count
                                               : &lane->read_pause_count,
                  1);
    }
    /* Pairs with the increment in buffer_run(), as above. */
    if (stream->delivered - load_seq_cst(&stream->consumed) > max / 2)
        return true;
    (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_CAPPED); /* Only the lane writes it. */
    return false;
}

static bool wants_receive(struct rondo_stream *stream)
{
    if (stream->ended || stream->broken || stream->is_starved || stream->above_high)
        return false;
    if (has_flag(stream, STREAM_CLOSE | STREAM_ABORT) || !has_flag(stream, STREAM_READ))
        return false;
    return !is_capped(stream);
}

static void receive_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &receive_kind, stream, &stream->receive_data);

    if (!sqe) {
        stream_break(stream, -ENOMEM);
        return;
    }
    /* A multishot fills many buffers before a cancel can end it. */
    if (unlikely(lane->overloaded))
        io_uring_prep_recv(sqe, stream->fd, NULL, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, stream->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    use_file(stream, sqe);
    stream->receiving = true;
    stream->receive_cancelled = false;
}

static void buffer_run(struct runnable *runnable)
{
    struct buffer *buffer = container_of(runnable, struct buffer, event);
    struct rondo_stream *stream = buffer->owner;
    struct lane *lane = stream->lane;

    /* Acquire pairs with stream_ask(): a stream that is closing drops what arrives. */
    if (!(load_acquire(&stream->flags) & (STREAM_CLOSE | STREAM_ABORT)))
        stream->handlers->read(stream, buffer_data(buffer), buffer->size, stream->ctx);
    lane_return_buffer(lane, buffer);
    /* Pairs with is_capped(): one of the two sees the other. */
    (void)add_seq_cst(&stream->consumed, 1);
    if (unlikely(load_seq_cst(&stream->flags) & STREAM_CAPPED))
        (void)stream_ask(stream, 0);
}

static void receive_end(struct lane *lane, struct rondo_stream *stream, int32_t result)
{
    switch (result) {
    case 0: /* The peer sent its last byte. */
        stream->ended = true;
        lane_post(lane, &stream->strand, &stream->end_event);
        break;
    case -ENOBUFS: /* Receive again when buffers come back. */
        stream->is_starved = true;
        lane_wait_for_buffers(lane, &stream->starved);
        break;
    case -ECANCELED: /* We paused, or close. */
    case -EINTR:
    case -EAGAIN:
        break;
    default:
        stream_break(stream, result);
    }
}

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    if (!(flags & IORING_CQE_F_MORE))
        stream->receiving = false;
    if (flags & IORING_CQE_F_BUFFER) {
        uint32_t size = result > 0 ? (uint32_t)result : 0;
        struct buffer *buffer =
            buffer_ring_picked(&lane->buffers, flags >> IORING_CQE_BUFFER_SHIFT, size);
        if (size > 0 && !stream->broken) {
            buffer->event.run = buffer_run;
            buffer->owner = stream;
            stream->delivered++;
            count_add(&lane->received_bytes, size);
            lane_post(lane, &stream->strand, &buffer->event);
        } else {
            (void)buffer_return(&lane->buffers, buffer);
        }
    }
    if (result <= 0)
        receive_end(lane, stream, result);
    /* The usual case, one more message, changes nothing that needs a decision. */
    if (!stream->receiving || stream->delivered % (STREAM_BUFFERS_MAX / 2) == 0 || lane->overloaded)
        stream_advance(lane, stream);
}

/* ---- sending ---- */

static void send_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct write *first = write_of(stream->sending.first);
    lane_gather_reserve(lane);
    struct io_uring_sqe *sqe = lane_submit(lane, &send_kind, stream, &stream->send_data);
    const char *data = first->data + stream->sent_of_first;
    size_t size = first->size - stream->sent_of_first;

    if (size > SEND_SIZE_MAX)
        size = SEND_SIZE_MAX;

    if (!sqe) {
        stream_break(stream, -ENOMEM);
        return;
    }
    stream->send_in_flight = true;
    stream->send_cancelled = false;
    if (stream->sending.count == 1) {
        io_uring_prep_send(sqe, stream->fd, data, size, MSG_NOSIGNAL | MSG_WAITALL);
        use_file(stream, sqe);
        return;
    }
    struct lane_gather *gather = lane_gather(lane);
    size_t count = 0;
    gather->parts[count++] = (struct iovec){(void *)(uintptr_t)data, size};
    for (struct node *node = first->event.node.next; node && count < LANE_GATHER_PARTS;
         node = node->next) {
        struct write *write = write_of(node);
        gather->parts[count++] = (struct iovec){(void *)(uintptr_t)write->data, write->size};
    }
    gather->header.msg_iovlen = count;
    io_uring_prep_sendmsg(sqe, stream->fd, &gather->header, MSG_NOSIGNAL | MSG_WAITALL);
    use_file(stream, sqe);
}

/* The kernel took @size more bytes: end the writes that are complete. */
static void writes_sent(struct lane *lane, struct rondo_stream *stream, uint64_t size)
{
    count_add(&lane->sent_bytes, size);
    /* Pairs with itself in stream_write(): only a sum. */
    (void)sub_acq_rel(&stream->queued, size);
    stream->sent_of_first += size;
    while (stream->sending.first) {
        struct write *first = write_of(stream->sending.first);
        if (stream->sent_of_first < first->size)
            break;
        stream->sent_of_first -= first->size;
        (void)chain_take(&stream->sending);
        write_end(lane, first, 0);
    }
    RONDO_ASSERT(stream->sending.first || stream->sent_of_first == 0);
}

/* The rest of the writes will not go out. */
static void writes_fail(struct lane *lane, struct rondo_stream *stream)
{
    struct node *node;

    (void)inbox_take(&stream->writes, &stream->sending);
    while ((node = chain_take(&stream->sending))) {
        struct write *write = write_of(node);
        /* Relaxed: a sum that only shrinks now. */
        (void)sub_acq_rel(&stream->queued, write->size - stream->sent_of_first);
        stream->sent_of_first = 0;
        write_end(lane, write, stream->error ? stream->error : -ECANCELED);
    }
}

static void send_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    (void)flags;
    stream->send_in_flight = false;
    if (result >= 0) {
        writes_sent(lane, stream, (uint64_t)result);
    } else if (result != -EINTR && result != -EAGAIN && result != -ECANCELED) {
        stream_break(stream, result);
    }
    stream_advance(lane, stream);
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
        if (!(or_acq_rel(&stream->flags, STREAM_DRAINED) & STREAM_DRAINED))
            lane_post(lane, &stream->strand, &stream->drained_event);
    }
}

/* ---- closing ---- */

static void shutdown_arm(struct lane *lane, struct rondo_stream *stream)
{
    /* A peer that is gone already has seen the end; the receive tells. */
    io_uring_prep_shutdown(lane_submit_untracked(lane), stream->fd, SHUT_WR);
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

    do {
        if (flags & STREAM_QUEUED || flags >= STREAM_WRITER)
            return; /* It is or will be in the inbox, and comes here again. */
        /* Pairs with the exchanges in stream_ask() and stream_write(). */
    } while (!cas_weak_acq_rel(&stream->flags, &flags, flags | STREAM_CLOSED));
    writes_fail(lane, stream);
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
    if (stream->is_starved) {
        lane_forget_buffers(lane, &stream->starved);
        stream->is_starved = false;
    }
    if (stream->receiving && !stream->receive_cancelled) {
        lane_cancel(lane, stream->receive_data);
        stream->receive_cancelled = true;
    }
    if (at_once && stream->send_in_flight && !stream->send_cancelled) {
        lane_cancel(lane, stream->send_data);
        stream->send_cancelled = true;
    }
    if (stream->receiving || stream->send_in_flight)
        return;
    if (at_once) {
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        if (has_flag(stream, STREAM_ABORT))
            (void)sys.setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        writes_fail(lane, stream);
    }
    close_arm(lane, stream);
}

void stream_advance(struct lane *lane, struct rondo_stream *stream)
{
    if (stream->closing)
        return;
    if (has_flag(stream, STREAM_ABORT) && !stream->broken)
        stream_break(stream, -ECANCELED);
    (void)inbox_take(&stream->writes, &stream->sending);
    watermarks_check(lane, stream);
    if (!stream->broken && !stream->send_in_flight && stream->sending.first)
        send_arm(lane, stream);

    bool wants = wants_receive(stream);
    if (wants && !stream->receiving) {
        receive_arm(lane, stream);
    } else if (!wants && stream->receiving && !stream->receive_cancelled) {
        lane_cancel(lane, stream->receive_data);
        stream->receive_cancelled = true;
    }

    bool written = !stream->send_in_flight && !stream->sending.first;
    if (stream->broken)
        close_advance(lane, stream, true);
    else if (written && has_flag(stream, STREAM_CLOSE))
        close_advance(lane, stream, false);
    else if (written && has_flag(stream, STREAM_SHUTDOWN) && !stream->shut_down)
        shutdown_arm(lane, stream);
}

/* ---- requests and events ---- */

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

    if (!(flags & STREAM_STARTED)) {
        stream_abort(lane, handle);
        return;
    }
    lane_post(lane, &stream->strand, &stream->draining_event);
    stream_advance(lane, stream); /* Until it is closed, it goes on. */
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
    if (stream->fd_closed)
        finish(lane, stream);
    else
        stream_advance(lane, stream);
}

void stream_lane_init(struct rondo_stream *stream)
{
    stream->request.run = request_run;
    stream->starved.run = starved_run;
    stream->handle.drain = stream_drain;
    stream->handle.abort = stream_abort;
}
