/* Writing to a stream: copies, lent memory, and write operations. Any thread; the lane sends.
 *
 * A write counts itself in the stream's flags while it is being queued, so that the stream cannot
 * close under it.
 */
#include "stream_read.h"
#include "write.h"

#include <limits.h>
#include <string.h>

void stream_write_leave(struct rondo_stream *stream)
{
    uint32_t old = load_relaxed(&stream->flags); /* Relaxed: the exchange validates it. */

    /* Pairs with request_run() and finish() on the lane. */
    while (!cas_weak_acq_rel(&stream->flags, &old, (old - STREAM_WRITER) | STREAM_QUEUED))
        ;
    if (!(old & (STREAM_QUEUED | STREAM_CLOSED)))
        lane_ask(stream->lane, &stream->request);
}

int stream_write_enter(struct rondo_stream *stream)
{
    /* Pairs with finish() on the lane. */
    uint32_t old = add_acq_rel(&stream->flags, STREAM_WRITER);
    if (!(old & (STREAM_CLOSE | STREAM_ABORT | STREAM_CLOSED | STREAM_SHUTDOWN)) &&
        stream->can_write)
        return 0;
    stream_write_leave(stream);
    return old & (STREAM_CLOSE | STREAM_ABORT | STREAM_CLOSED) || !stream->can_write ? -EBADF
                                                                                     : -EPIPE;
}

void stream_write_push(struct rondo_stream *stream, struct write *write)
{
    if (!write->send)
        (void)add_acq_rel(&stream->queued, write->size); /* Pairs with itself: a sum. */
    (void)inbox_push(&stream->writes, &write->event.node);
}

/* The same for a write of the user's, within the limit of the queue. */
static int enter_with(struct rondo_stream *stream, size_t size)
{
    /* Relaxed: the limit may be passed by writes that race for its last bytes. */
    if (size > stream->queued_max || load_relaxed(&stream->queued) > stream->queued_max - size)
        return -ENOBUFS;
    return stream_write_enter(stream);
}

/* Queue what was made, or end what stream_write_enter() began. */
static int write_push(struct rondo_stream *stream, struct write *write)
{
    if (write)
        stream_write_push(stream, write);
    stream_write_leave(stream);
    return write ? 0 : -ENOMEM;
}

RONDO_PUBLIC int rondo_stream_write(rondo_stream *stream, const void *data, size_t size)
{
    if (!stream || !data || size == 0)
        return -EINVAL;
    int error = enter_with(stream, size);
    return error ? error : write_push(stream, write_copy(stream, data, size));
}

RONDO_PUBLIC int rondo_stream_write_lent(rondo_stream *stream, const void *data, size_t size,
                                         rondo_written_fn *written, void *ctx)
{
    if (!stream || !data || size == 0 || !written)
        return -EINVAL;
    int error = enter_with(stream, size);
    return error ? error : write_push(stream, write_lend(stream, data, size, written, ctx));
}

/* ---- write operations ---- */

struct write_operation {
    struct operation base;
    struct write write;
    struct msghdr header;
    union {
        struct cmsghdr align;
        char bytes[STREAM_CONTROL_SIZE];
    } control;
};

RONDO_STATIC_ASSERT(sizeof(struct write_operation) <= OPERATION_SIZE);

static void write_operation_end(struct lane *lane, struct write *write)
{
    struct write_operation *self = container_of(write, struct write_operation, write);

    self->base.result.bytes = write->sent;
    operation_end(lane, &self->base, write->result ? write->result : (int64_t)write->size);
}

static void write_operation_cancel(struct lane *lane, struct operation *operation)
{
    struct write_operation *self = (struct write_operation *)operation;

    stream_write_cancel(lane, &self->write);
}

static void write_operation_release(struct operation *operation)
{
    struct write_operation *self = (struct write_operation *)operation;

    strand_unref(&self->write.stream->strand);
}

/* It has begun when it is queued; the lane of the stream does the rest. */
static const struct operation_kind write_operation_kind = {
    .name = "write",
    .cancel = write_operation_cancel,
    .release = write_operation_release,
};

static int parts_size(const struct iovec *parts, uint32_t count, size_t *ret_size)
{
    *ret_size = 0;
    if (!parts || count == 0 || count > IOV_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        if (!parts[i].iov_base || parts[i].iov_len == 0 || parts[i].iov_len > SSIZE_MAX - *ret_size)
            return -EINVAL;
        *ret_size += parts[i].iov_len;
    }
    return 0;
}

/* Descriptors that go with the first byte. */
static void set_control(struct write_operation *self, const int *descriptors, uint32_t count)
{
    struct cmsghdr *part = &self->control.align;

    self->header.msg_control = part;
    self->header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(part), descriptors, count * sizeof(int));
    self->write.control = &self->header;
    self->write.has_control = true;
}

/* @parts: NULL for the one part in @one. */
static int write_begin(struct rondo_stream *stream, const struct iovec *parts, uint32_t count,
                       const struct iovec *one, const int *descriptors, uint32_t descriptor_count,
                       const struct rondo_request *request)
{
    struct operation *operation;
    size_t size;
    int error = parts_size(parts ? parts : one, count, &size);

    if (!error)
        error = enter_with(stream, size);
    if (error)
        return error;
    error = operation_create(&write_operation_kind, stream_hub(stream), stream->lane,
                             &stream->strand, request, &operation);
    if (!error) {
        struct write_operation *self = (struct write_operation *)operation;
        strand_ref(&stream->strand);
        self->write.stream = stream;
        self->write.end = write_operation_end;
        self->write.size = size;
        self->write.part_count = count;
        self->write.one = one ? *one : parts[0];
        self->write.parts = parts ? parts : &self->write.one;
        if (descriptor_count > 0)
            set_control(self, descriptors, descriptor_count);
        operation_mark_started(operation);
        stream_write_push(stream, &self->write);
        operation_submit(operation);
    }
    stream_write_leave(stream);
    return error;
}

RONDO_PUBLIC int rondo_stream_writev(rondo_stream *stream, const struct iovec *parts,
                                     uint32_t count, const struct rondo_request *request)
{
    return stream ? write_begin(stream, parts, count, NULL, NULL, 0, request) : -EINVAL;
}

RONDO_PUBLIC int rondo_stream_write_all(rondo_stream *stream, const void *data, size_t size,
                                        const struct rondo_request *request)
{
    struct iovec one = {(void *)(uintptr_t)data, size}; /* Only read. */

    return stream ? write_begin(stream, NULL, 1, &one, NULL, 0, request) : -EINVAL;
}

RONDO_PUBLIC int rondo_stream_write_descriptors(rondo_stream *stream, const void *data, size_t size,
                                                const int *descriptors, uint32_t count,
                                                const struct rondo_request *request)
{
    struct iovec one = {(void *)(uintptr_t)data, size}; /* Only read. */

    if (!stream || !descriptors || count < 1 || count > STREAM_DESCRIPTORS_MAX)
        return -EINVAL;
    if (!stream->is_socket)
        return -ENOTSOCK;
    return write_begin(stream, NULL, 1, &one, descriptors, count, request);
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
