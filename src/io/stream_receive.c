/* Receiving from a stream's descriptor, into the lane's buffers or for a read operation.
 *
 * Lane thread, except buffer_run() and stream_consumed(). One receive is in the kernel at most, of
 * either kind, or a poll in its place.
 */
#include "stream.h"

#include <poll.h>

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind receive_kind = {"receive", receive_complete};
static const struct op_kind poll_kind = {"receive-poll", poll_complete};

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

    if (!stream_has_flag(stream, STREAM_CAPPED)) {
        /* Relaxed: a late answer is only too high. */
        uint32_t waiting = stream->delivered - load_relaxed(&stream->consumed);
        if (waiting < max)
            return false;
        /* Pairs with the increment in stream_consumed(): one of the two sees the other. */
        (void)or_seq_cst(&stream->flags, STREAM_CAPPED);
        count_add(waiting < STREAM_BUFFERS_MAX ? &lane->overload_read_pause_count
                                               : &lane->read_pause_count,
                  1);
    }
    /* Pairs with the increment in stream_consumed(), as above. */
    if (stream->delivered - load_seq_cst(&stream->consumed) > max / 2)
        return true;
    (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_CAPPED); /* Only the lane writes it. */
    return false;
}

/* Whether to receive into the lane's buffers. */
static bool wants_receive(struct rondo_stream *stream)
{
    if (!stream->can_read || stream->ended || stream->broken || stream->is_starved)
        return false;
    if (stream_has_flag(stream, STREAM_CLOSE | STREAM_ABORT))
        return false;
    if (!stream_is_forwarding(stream) &&
        (stream->above_high || !stream_has_flag(stream, STREAM_READ)))
        return false;
    return !is_capped(stream);
}

struct io_uring_sqe *stream_receive_submission(struct lane *lane, struct rondo_stream *stream,
                                               const struct op_kind *kind)
{
    struct io_uring_sqe *sqe = lane_submit(lane, kind, stream, &stream->receive_data);

    if (!sqe) {
        stream_break(stream, -ENOMEM);
        return NULL;
    }
    stream->receiving = true;
    stream->receive_cancelled = false;
    return sqe;
}

static void receive_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct io_uring_sqe *sqe = stream_receive_submission(lane, stream, &receive_kind);

    if (!sqe)
        return;
    /* A multishot fills many buffers before a cancel can end it. */
    if (stream->is_socket && unlikely(lane->overloaded))
        io_uring_prep_recv(sqe, stream->fd, NULL, 0, 0);
    else if (stream->is_socket)
        io_uring_prep_recv_multishot(sqe, stream->fd, NULL, 0, 0);
    else
        io_uring_prep_read(sqe, stream->fd, NULL, lane->buffers.buffer_size, UINT64_MAX);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    stream_use_file(stream, sqe);
}

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    (void)flags;
    stream->receiving = false;
    if (result < 0 && result != -ECANCELED && result != -EINTR)
        stream_break(stream, result);
    stream_advance(lane, stream);
}

/* The descriptor was opened not to block: wait until it is ready. */
static void poll_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct io_uring_sqe *sqe = stream_receive_submission(lane, stream, &poll_kind);

    if (!sqe)
        return;
    io_uring_prep_poll_add(sqe, stream->fd, POLLIN);
    stream_use_file(stream, sqe);
}

void stream_consumed(struct rondo_stream *stream, struct buffer *buffer)
{
    lane_return_buffer(stream->lane, &stream->lane->buffers, buffer);
    /* Pairs with is_capped(): one of the two sees the other. */
    (void)add_seq_cst(&stream->consumed, 1);
    if (unlikely(load_seq_cst(&stream->flags) & STREAM_CAPPED))
        (void)stream_ask(stream, 0);
}

static void buffer_run(struct runnable *runnable)
{
    struct buffer *buffer = container_of(runnable, struct buffer, event);
    struct rondo_stream *stream = buffer->owner;

    /* Acquire pairs with stream_ask(): a stream that is closing drops what arrives. */
    if (!(load_acquire(&stream->flags) & (STREAM_CLOSE | STREAM_ABORT)))
        stream->handlers->read(stream, buffer_data(buffer), buffer->size, stream->ctx);
    stream_consumed(stream, buffer);
}

void stream_receive_end(struct lane *lane, struct rondo_stream *stream, int32_t result)
{
    if (result == -EIO && stream->is_terminal)
        result = 0; /* The other side of a terminal is closed. */
    switch (result) {
    case 0: /* The peer sent its last byte. */
        stream->ended = true;
        if (stream_has_flag(stream, STREAM_STARTED))
            lane_post(lane, &stream->strand, &stream->end_event);
        break;
    case -ENOBUFS: /* Receive again when buffers come back. */
        stream->is_starved = true;
        lane_wait_for_buffers(lane, &lane->buffers, &stream->starved);
        break;
    case -EAGAIN:
        if (!stream->broken && !stream_has_flag(stream, STREAM_CLOSE | STREAM_ABORT))
            poll_arm(lane, stream);
        break;
    case -ECANCELED: /* We paused, or close. */
    case -EINTR:
        break;
    default:
        stream_break(stream, result);
    }
}

/* @size bytes are in the buffer that the kernel picked. */
static void buffer_picked(struct lane *lane, struct rondo_stream *stream, uint32_t id,
                          uint32_t size)
{
    struct buffer *buffer = buffer_ring_picked(&lane->buffers, id, size);

    if (size == 0 || stream->broken) {
        (void)buffer_return(&lane->buffers, buffer);
        return;
    }
    buffer->owner = stream;
    stream->delivered++;
    count_add(&lane->received_bytes, size);
    if (unlikely(stream_has_flag(stream, STREAM_PULLED))) {
        stream_forward(lane, stream, buffer);
    } else {
        buffer->event.run = buffer_run;
        lane_post(lane, &stream->strand, &buffer->event);
    }
}

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    if (!(flags & IORING_CQE_F_MORE))
        stream->receiving = false;
    if (flags & IORING_CQE_F_BUFFER)
        buffer_picked(lane, stream, flags >> IORING_CQE_BUFFER_SHIFT,
                      result > 0 ? (uint32_t)result : 0);
    if (result <= 0)
        stream_receive_end(lane, stream, result);
    /* The usual case, one more message, changes nothing that needs a decision. */
    if (!stream->receiving || stream->delivered % (STREAM_BUFFERS_MAX / 2) == 0 ||
        lane->overloaded || stream_relay_failed(stream))
        stream_advance(lane, stream);
}

void stream_receive_stop(struct lane *lane, struct rondo_stream *stream)
{
    if (stream->is_starved) {
        lane_forget_buffers(&lane->buffers, &stream->starved);
        stream->is_starved = false;
    }
    if (stream->receiving && !stream->receive_cancelled) {
        lane_cancel(lane, stream->receive_data);
        stream->receive_cancelled = true;
    }
}

void stream_receive_advance(struct lane *lane, struct rondo_stream *stream)
{
    bool wants;

    if (unlikely(stream_has_flag(stream, STREAM_PULLED))) {
        stream_reads_advance(lane, stream);
        if (stream_relay_failed(stream))
            stream_receive_stop(lane, stream);
        if (!stream_is_forwarding(stream))
            return;
    }
    wants = wants_receive(stream);
    if (wants && !stream->receiving)
        receive_arm(lane, stream);
    else if (!wants && stream->receiving && !stream->receive_cancelled)
        stream_receive_stop(lane, stream);
}

void stream_receive_init(struct rondo_stream *stream)
{
    stream->starved.run = starved_run;
}
