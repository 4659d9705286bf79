/* Passing on what one stream receives to another: the lane moves the receive buffers themselves, so
 * the bytes are neither copied nor seen by a worker.
 *
 * Public function: any thread. Everything else: the receiving stream's lane. The other stream may
 * live on another lane: it is written to as from any thread.
 */
#include "stream_read.h"
#include "write.h"

bool stream_is_forwarding(const struct rondo_stream *stream)
{
    const struct read_operation *read = stream_first_read(stream);

    return read && read->to && !read->cancelled && !read->error;
}

bool stream_relay_failed(const struct rondo_stream *stream)
{
    const struct read_operation *read = stream_first_read(stream);

    return read && read->error;
}

/* Queue @write on the other stream; on failure it is undone and passing on ends. The limit of the
 * queue is not asked: it is for writers that can come back later, and what waits there is bounded
 * by the receive buffers that the source may hold. */
static bool pass_on(struct read_operation *read, struct write *write, size_t size)
{
    int error = stream_write_enter(read->to);

    if (!error && write)
        stream_write_push(read->to, write);
    if (!error)
        stream_write_leave(read->to);
    read->error = error ? error : write ? 0 : -ENOMEM;
    if (!read->error)
        read->have += size;
    return !read->error;
}

void stream_forward(struct lane *lane, struct rondo_stream *stream, struct buffer *buffer)
{
    struct read_operation *read = stream_first_read(stream);
    struct write *write = NULL;

    RONDO_ASSERT(read && read->to);
    if (!read->error)
        write = write_forward(read->to, stream, buffer);
    if (read->error || !write) {
        read->error = read->error ? read->error : -ENOMEM;
        stream_consumed(stream, buffer);
    } else if (!pass_on(read, write, buffer->size)) {
        write_end(lane, write, 0, read->error); /* Gives the buffer back. */
    }
}

/* What an earlier read left over goes first. */
static void forward_surplus(struct lane *lane, struct rondo_stream *stream)
{
    struct surplus *surplus = &stream->surplus;
    struct read_operation *read = stream_first_read(stream);
    size_t size = surplus->size;

    if (size == 0)
        return;
    struct write *write = write_copy(read->to, surplus->bytes + surplus->begin, size);
    if (pass_on(read, write, size))
        surplus->size = 0;
    else if (write)
        write_end(lane, write, 0, read->error);
}

void stream_relay_advance(struct lane *lane, struct rondo_stream *stream)
{
    struct read_operation *read = stream_first_read(stream);

    if (!read->cancelled && !read->error)
        forward_surplus(lane, stream);
    if (read->error)
        stream_end_first_read(lane, stream, read->error);
    else if (read->cancelled)
        stream_end_first_read(lane, stream, -ECANCELED);
    else if (!stream->can_read)
        stream_end_first_read(lane, stream, -EBADF);
    else if (stream->ended)
        stream_end_first_read(lane, stream, 0);
}

RONDO_PUBLIC int rondo_stream_relay(rondo_stream *from, rondo_stream *to,
                                    const struct rondo_request *request)
{
    struct read_operation *read;

    if (!from || !to || from == to || stream_hub(from) != stream_hub(to))
        return -EINVAL;
    int error = stream_read_create(from, request, &read);
    if (error)
        return error;
    strand_ref(&to->strand);
    read->to = to;
    /* Pairs with the load in stream_drain(): the loop's drain does not close it under the relay. */
    (void)or_acq_rel(&to->flags, STREAM_TARGET);
    operation_submit(&read->base);
    return 0;
}
