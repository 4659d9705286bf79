/* Sending what is queued on a stream: one send at a time, which gathers what it can.
 *
 * Lane thread. A large write of lent memory goes out without copying where the kernel can do that;
 * it says afterwards whether it could, and where it could not, the stream copies from then on.
 */
#include "write.h"

#include <poll.h>

static void send_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void zero_copy_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind send_kind = {"send", send_complete};
static const struct op_kind zero_copy_kind = {"send-zero-copy", zero_copy_complete};
static const struct op_kind poll_kind = {"send-poll", poll_complete};

/* ---- what is queued ---- */

/* It ends with @sent bytes sent, whatever it was to send. */
static void take_first(struct lane *lane, struct rondo_stream *stream, int result)
{
    struct write *first = write_of(chain_take(&stream->sending));
    uint64_t sent = stream->sent_of_first < first->size ? stream->sent_of_first : first->size;

    stream->sent_of_first -= sent;
    if (sent < first->size) /* Pairs with itself in stream_write_push(): only a sum. */
        (void)sub_acq_rel(&stream->queued, first->size - sent);
    write_end(lane, first, sent, result);
}

/* The kernel took @size more bytes: end the writes that are complete. */
static void sent(struct lane *lane, struct rondo_stream *stream, uint64_t size)
{
    count_add(&lane->sent_bytes, size);
    /* Pairs with itself in stream_write_push(): only a sum. */
    (void)sub_acq_rel(&stream->queued, size);
    stream->sent_of_first += size;
    while (stream->sending.first && stream->sent_of_first >= write_of(stream->sending.first)->size)
        take_first(lane, stream, 0);
    RONDO_ASSERT(stream->sending.first || stream->sent_of_first == 0);
}

/* Take off the queue what was cancelled; nothing is in the kernel. */
static void drop_cancelled(struct lane *lane, struct rondo_stream *stream)
{
    struct chain kept = {0};
    struct node *node;

    if (!stream->drops_writes)
        return;
    stream->drops_writes = false;
    while (stream->sending.first && write_of(stream->sending.first)->cancelled)
        take_first(lane, stream, -ECANCELED);
    while ((node = chain_take(&stream->sending))) {
        struct write *write = write_of(node);
        if (!write->cancelled) {
            chain_append(&kept, node);
            continue;
        }
        (void)sub_acq_rel(&stream->queued, write->size); /* Pairs as above. */
        write_end(lane, write, 0, -ECANCELED);
    }
    stream->sending = kept;
}

void stream_writes_fail(struct lane *lane, struct rondo_stream *stream)
{
    (void)inbox_take(&stream->writes, &stream->sending);
    while (stream->sending.first)
        take_first(lane, stream, stream->error ? stream->error : -ECANCELED);
}

/* ---- one send ---- */

static struct io_uring_sqe *submission(struct lane *lane, struct rondo_stream *stream,
                                       const struct op_kind *kind, void *owner)
{
    struct io_uring_sqe *sqe = lane_submit(lane, kind, owner, &stream->send_data);

    if (!sqe) {
        stream_break(stream, -ENOMEM);
        return NULL;
    }
    stream->send_in_flight = true;
    stream->send_cancelled = false;
    return sqe;
}

/* The parts of the queue from its first unsent byte on: how many were filled in. Descriptors go
 * with the first byte of their write, so that one begins a send of its own. */
static uint32_t gather(struct rondo_stream *stream, struct iovec *parts)
{
    uint64_t skip = stream->sent_of_first;
    uint32_t count = 0;

    for (struct node *node = stream->sending.first; node; node = node->next) {
        struct write *write = write_of(node);
        if (node != stream->sending.first && write->has_control)
            break;
        for (uint32_t i = 0; i < write->part_count; i++) {
            struct iovec part = write->parts[i];
            if (skip >= part.iov_len) {
                skip -= part.iov_len;
                continue;
            }
            if (count == LANE_GATHER_PARTS)
                return count;
            parts[count++] = (struct iovec){(char *)part.iov_base + skip, part.iov_len - skip};
            skip = 0;
        }
    }
    return count;
}

static void send_one(struct rondo_stream *stream, struct io_uring_sqe *sqe,
                     const struct iovec *part)
{
    uint32_t size = part->iov_len > STREAM_SIZE_MAX ? STREAM_SIZE_MAX : (uint32_t)part->iov_len;

    if (stream->is_socket)
        io_uring_prep_send(sqe, stream->fd, part->iov_base, size, MSG_NOSIGNAL | MSG_WAITALL);
    else
        io_uring_prep_write(sqe, stream->fd, part->iov_base, size, UINT64_MAX);
}

static bool can_avoid_copy(struct lane *lane, struct rondo_stream *stream)
{
    struct write *first = write_of(stream->sending.first);

    if (first->size - stream->sent_of_first < lane->options.zero_copy_size || stream->copies)
        return false;
    /* Until the kernel has said how it is here, one is enough to find out. */
    return (stream->avoids_copies || stream->notifications == 0) && first->part_count == 1 &&
           !first->has_control;
}

static void zero_copy_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct write *first = write_of(stream->sending.first);
    struct io_uring_sqe *sqe = submission(lane, stream, &zero_copy_kind, first);
    size_t size = first->size - stream->sent_of_first;

    if (!sqe)
        return;
    io_uring_prep_send_zc(sqe, stream->fd, (char *)first->one.iov_base + stream->sent_of_first,
                          size > STREAM_SIZE_MAX ? STREAM_SIZE_MAX : size,
                          MSG_NOSIGNAL | MSG_WAITALL, IORING_SEND_ZC_REPORT_USAGE);
    stream_use_file(stream, sqe);
    first->notifications++;
    stream->notifications++;
}

static void send_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct write *first = write_of(stream->sending.first);
    bool with_control = first->has_control && stream->sent_of_first == 0;

    if (unlikely(can_avoid_copy(lane, stream))) {
        zero_copy_arm(lane, stream);
        return;
    }
    lane_gather_reserve(lane);
    struct io_uring_sqe *sqe = submission(lane, stream, &send_kind, stream);
    if (!sqe)
        return;
    if (stream->sending.count == 1 && first->part_count == 1 && !with_control) {
        struct iovec rest = {(char *)first->one.iov_base + stream->sent_of_first,
                             first->size - stream->sent_of_first};
        send_one(stream, sqe, &rest);
        stream_use_file(stream, sqe);
        return;
    }
    struct lane_gather *batch = lane_gather(lane);
    batch->header.msg_iovlen = gather(stream, batch->parts);
    if (with_control) {
        batch->header.msg_control = first->control->msg_control;
        batch->header.msg_controllen = first->control->msg_controllen;
    }
    if (stream->is_socket)
        io_uring_prep_sendmsg(sqe, stream->fd, &batch->header, MSG_NOSIGNAL | MSG_WAITALL);
    else
        io_uring_prep_writev(sqe, stream->fd, batch->parts, (uint32_t)batch->header.msg_iovlen,
                             UINT64_MAX);
    stream_use_file(stream, sqe);
}

/* ---- its end ---- */

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_stream *stream = owner;

    (void)flags;
    stream->send_in_flight = false;
    if (result < 0 && result != -ECANCELED && result != -EINTR)
        stream_break(stream, result);
    stream_advance(lane, stream);
}

/* The descriptor was opened not to block: wait until it is ready. */
static void poll_arm(struct lane *lane, struct rondo_stream *stream)
{
    struct io_uring_sqe *sqe = submission(lane, stream, &poll_kind, stream);

    if (!sqe)
        return;
    io_uring_prep_poll_add(sqe, stream->fd, POLLOUT);
    stream_use_file(stream, sqe);
}

static void send_end(struct lane *lane, struct rondo_stream *stream, int32_t result)
{
    stream->send_in_flight = false;
    if (result >= 0)
        sent(lane, stream, (uint64_t)result);
    else if (result == -EAGAIN && !stream->broken && !stream->drops_writes)
        poll_arm(lane, stream);
    else if (result != -EINTR && result != -EAGAIN && result != -ECANCELED)
        stream_break(stream, result);
    stream_advance(lane, stream);
}

static void send_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    (void)flags;
    send_end(lane, owner, result);
}

/* The result comes first, and later, or with it, word that the kernel needs the memory no more. */
static void zero_copy_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct write *write = owner;
    struct rondo_stream *stream = write->stream;
    bool is_notification = flags & IORING_CQE_F_NOTIF;

    if (is_notification) {
        stream->avoids_copies = !((uint32_t)result & IORING_NOTIF_USAGE_ZC_COPIED);
        stream->copies = !stream->avoids_copies;
        count_add(&lane->zero_copy_copied_count, stream->copies);
    }
    if (!(flags & IORING_CQE_F_MORE)) {
        stream->notifications--;
        write_notified(lane, write); /* It may be gone now. */
    }
    if (is_notification) {
        stream_advance(lane, stream);
        return;
    }
    count_add(&lane->zero_copy_count, 1);
    if (result == -EOPNOTSUPP || result == -EINVAL) {
        stream->copies = true; /* This socket, or this kernel, always copies. */
        result = -EINTR;
    }
    send_end(lane, stream, result);
}

void stream_send_advance(struct lane *lane, struct rondo_stream *stream)
{
    if (stream->send_in_flight)
        return;
    drop_cancelled(lane, stream);
    if (!stream->broken && stream->sending.first)
        send_arm(lane, stream);
}

void stream_write_cancel(struct lane *lane, struct write *write)
{
    struct rondo_stream *stream = write->stream;

    write->cancelled = true;
    if (write->over)
        return;
    (void)inbox_take(&stream->writes, &stream->sending);
    stream->drops_writes = true;
    if (stream->send_in_flight && !stream->send_cancelled) {
        lane_cancel(lane, stream->send_data);
        stream->send_cancelled = true;
    }
    stream_advance(lane, stream);
}
