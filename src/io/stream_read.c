/* Read operations of a stream: some bytes, exactly so many, up to a delimiter, with descriptors.
 *
 * Public functions: any thread. Everything else: the lane's thread. See stream_read.h.
 */
#include "stream_read.h"

#include <string.h>

static void read_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind read_kind = {"read", read_complete};

/* ---- the surplus ---- */

/* See that @size bytes could be kept. */
static bool surplus_reserve(struct surplus *surplus, size_t size)
{
    if (surplus->capacity >= size)
        return true;
    RONDO_ASSERT(surplus->size == 0);
    char *bytes = sys.alloc_raw(size);
    if (!bytes)
        return false;
    sys.release(surplus->bytes);
    *surplus = (struct surplus){.bytes = bytes, .capacity = size};
    return true;
}

static void surplus_keep(struct surplus *surplus, const char *bytes, size_t size)
{
    RONDO_ASSERT(surplus->size == 0 && size <= surplus->capacity);
    memcpy(surplus->bytes, bytes, size);
    surplus->begin = 0;
    surplus->size = size;
}

size_t stream_surplus_take(struct rondo_stream *stream, char *bytes, size_t size)
{
    struct surplus *surplus = &stream->surplus;
    size_t count = surplus->size < size ? surplus->size : size;

    memcpy(bytes, surplus->bytes + surplus->begin, count);
    surplus->begin += count;
    surplus->size -= count;
    return count;
}

/* ---- the first operation ---- */

void stream_end_first_read(struct lane *lane, struct rondo_stream *stream, int64_t value)
{
    struct read_operation *read = stream_first_read(stream);

    (void)chain_take(&stream->reads);
    read->base.result.bytes = read->have;
    operation_end(lane, &read->base, value);
}

/* Where in its bytes it ends, 0: not yet. The delimiter is not in the first @before alone. */
static size_t find_end(const struct read_operation *read, size_t before)
{
    size_t from = before >= read->delimiter_size ? before - (read->delimiter_size - 1) : 0;
    const char *found;

    if (!read->delimiter)
        return read->have >= read->enough ? read->have : 0;
    found = memmem(read->data + from, read->have - from, read->delimiter, read->delimiter_size);
    return found ? (size_t)(found - read->data) + read->delimiter_size : 0;
}

/* @count more bytes are in its memory: end it if that is enough. */
static void took(struct lane *lane, struct rondo_stream *stream, size_t count, bool from_surplus)
{
    struct read_operation *read = stream_first_read(stream);
    size_t before = read->have;

    read->have += count;
    size_t end = find_end(read, before);
    size_t beyond = read->have - end;
    if (end == 0) {
        if (read->have == read->size)
            stream_end_first_read(lane, stream, -EMSGSIZE);
        return;
    }
    if (from_surplus) {
        stream->surplus.begin -= beyond; /* It is still there. */
        stream->surplus.size += beyond;
    } else if (beyond > 0) {
        surplus_keep(&stream->surplus, read->data + end, beyond);
    }
    read->have = end;
    stream_end_first_read(lane, stream, (int64_t)end);
}

static void arm(struct lane *lane, struct rondo_stream *stream, struct read_operation *read)
{
    size_t room = read->size - read->have;
    uint32_t size = room > STREAM_SIZE_MAX ? STREAM_SIZE_MAX : (uint32_t)room;
    char *data = read->data + read->have;

    if (read->delimiter && !surplus_reserve(&stream->surplus, room)) {
        stream_end_first_read(lane, stream, -ENOMEM);
        return;
    }
    struct io_uring_sqe *sqe = stream_receive_submission(lane, stream, &read_kind);
    if (!sqe)
        return;
    if (!stream->is_socket) {
        io_uring_prep_read(sqe, stream->fd, data, size, UINT64_MAX);
    } else if (!read->descriptors) {
        io_uring_prep_recv(sqe, stream->fd, data, size, 0);
    } else {
        read->part = (struct iovec){data, size};
        read->header = (struct msghdr){.msg_iov = &read->part, .msg_iovlen = 1};
        read->header.msg_control = &read->control;
        read->header.msg_controllen = CMSG_SPACE(read->descriptor_room * sizeof(int));
        io_uring_prep_recvmsg(sqe, stream->fd, &read->header, MSG_CMSG_CLOEXEC);
    }
    stream_use_file(stream, sqe);
}

/* How the first operation ends at the end of the stream. */
static int64_t value_at_end(const struct read_operation *read)
{
    bool takes_any = !read->delimiter && read->enough == 1;

    return takes_any ? 0 : -ENODATA;
}

void stream_reads_advance(struct lane *lane, struct rondo_stream *stream)
{
    struct read_operation *read;

    if (stream_has_flag(stream, STREAM_CLOSE | STREAM_ABORT)) {
        stream_receive_stop(lane, stream);
        if (!stream->receiving)
            stream_reads_end(lane, stream, -ECANCELED);
        return;
    }
    while (!stream->broken && !stream->receiving && (read = stream_first_read(stream))) {
        if (read->to) {
            stream_relay_advance(lane, stream);
            if (stream_first_read(stream) == read)
                return;
        } else if (read->cancelled) {
            stream_end_first_read(lane, stream, -ECANCELED);
        } else if (stream->surplus.size > 0) {
            took(lane, stream,
                 stream_surplus_take(stream, read->data + read->have, read->size - read->have),
                 true);
        } else if (!stream->can_read) {
            stream_end_first_read(lane, stream, -EBADF);
        } else if (stream->ended) {
            stream_end_first_read(lane, stream, value_at_end(read));
        } else {
            arm(lane, stream, read);
        }
    }
}

void stream_reads_end(struct lane *lane, struct rondo_stream *stream, int error)
{
    while (stream->reads.first)
        stream_end_first_read(lane, stream, error);
}

/* ---- descriptors ---- */

/* Hands out what came with the bytes. False: there were more than there was room for; none is. */
static bool take_descriptors(struct read_operation *read)
{
    struct msghdr *header = &read->header;
    bool cut = header->msg_flags & MSG_CTRUNC;
    uint32_t count = 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        const char *bytes = (const char *)CMSG_DATA(part);
        for (size_t at = 0; at + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int fd;
            memcpy(&fd, bytes + at, sizeof(fd));
            if (cut)
                (void)sys.close(fd);
            else
                read->descriptors[count++] = fd;
        }
    }
    *read->descriptor_count = count;
    return !cut;
}

static void read_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;
    struct read_operation *read = stream_first_read(stream);

    (void)flags;
    stream->receiving = false;
    if (result > 0) {
        count_add(&lane->received_bytes, (uint64_t)result);
        if (read->descriptors && !take_descriptors(read)) {
            read->have += (size_t)result;
            stream_end_first_read(lane, stream, -EMSGSIZE);
        } else {
            took(lane, stream, (size_t)result, false);
        }
    } else {
        stream_receive_end(lane, stream, result);
    }
    stream_advance(lane, stream);
}

/* ---- the operation ---- */

static void read_start(struct lane *lane, struct operation *operation)
{
    struct read_operation *read = (struct read_operation *)operation;
    struct rondo_stream *stream = read->stream;

    if (stream->closing) {
        operation_end(lane, operation, stream->error ? stream->error : -ECANCELED);
        return;
    }
    chain_append(&stream->reads, &read->node);
    stream_advance(lane, stream);
}

static void read_cancel(struct lane *lane, struct operation *operation)
{
    struct read_operation *read = (struct read_operation *)operation;
    struct rondo_stream *stream = read->stream;

    read->cancelled = true;
    if (stream_first_read(stream) == read) {
        stream_receive_stop(lane, stream);
        stream_advance(lane, stream);
    } else {
        chain_remove(&stream->reads, &read->node);
        operation_end(lane, operation, -ECANCELED);
    }
}

static void read_release(struct operation *operation)
{
    struct read_operation *read = (struct read_operation *)operation;

    if (read->to)
        strand_unref(&read->to->strand);
    strand_unref(&read->stream->strand);
}

static const struct operation_kind read_operation_kind = {
    .name = "read",
    .start = read_start,
    .cancel = read_cancel,
    .release = read_release,
};

int stream_read_create(struct rondo_stream *stream, const struct rondo_request *request,
                       struct read_operation **ret_read)
{
    struct operation *operation;
    /* Pairs with the exchange in rondo_stream_start(): one of the two ways to read. */
    uint32_t flags = or_acq_rel(&stream->flags, STREAM_PULLED);
    int error;

    if (flags & STREAM_STARTED) {
        (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_PULLED); /* As it was. */
        return -EALREADY;
    }
    if (flags & (STREAM_CLOSE | STREAM_ABORT))
        return -EBADF;
    error = operation_create(&read_operation_kind, stream_hub(stream), stream->lane,
                             &stream->strand, request, &operation);
    if (error)
        return error;
    struct read_operation *read = (struct read_operation *)operation;
    strand_ref(&stream->strand);
    read->stream = stream;
    *ret_read = read;
    return 0;
}

/* ---- any thread ---- */

static int start_read(rondo_stream *stream, void *data, size_t size, size_t enough,
                      const struct rondo_request *request)
{
    struct read_operation *read;

    if (!stream || !data || size == 0)
        return -EINVAL;
    int error = stream_read_create(stream, request, &read);
    if (error)
        return error;
    read->data = data;
    read->size = size;
    read->enough = enough;
    operation_submit(&read->base);
    return 0;
}

RONDO_PUBLIC int rondo_stream_read(rondo_stream *stream, void *data, size_t size,
                                   const struct rondo_request *request)
{
    return start_read(stream, data, size, 1, request);
}

RONDO_PUBLIC int rondo_stream_read_exactly(rondo_stream *stream, void *data, size_t size,
                                           const struct rondo_request *request)
{
    return start_read(stream, data, size, size, request);
}

RONDO_PUBLIC int rondo_stream_read_until(rondo_stream *stream, const void *delimiter,
                                         size_t delimiter_size, void *data, size_t size,
                                         const struct rondo_request *request)
{
    struct read_operation *read;

    if (!stream || !delimiter || delimiter_size == 0 || !data || size < delimiter_size)
        return -EINVAL;
    int error = stream_read_create(stream, request, &read);
    if (error)
        return error;
    read->data = data;
    read->size = size;
    read->delimiter = delimiter;
    read->delimiter_size = delimiter_size;
    operation_submit(&read->base);
    return 0;
}

RONDO_PUBLIC int rondo_stream_read_descriptors(rondo_stream *stream, void *data, size_t size,
                                               int *descriptors, uint32_t *count,
                                               const struct rondo_request *request)
{
    struct read_operation *read;

    if (!stream || !data || size == 0 || !descriptors || !count || *count < 1 ||
        *count > STREAM_DESCRIPTORS_MAX)
        return -EINVAL;
    if (!stream->is_socket)
        return -ENOTSOCK;
    int error = stream_read_create(stream, request, &read);
    if (error)
        return error;
    read->data = data;
    read->size = size;
    read->enough = 1;
    read->descriptors = descriptors;
    read->descriptor_count = count;
    read->descriptor_room = *count;
    *count = 0;
    operation_submit(&read->base);
    return 0;
}
