/* The lane's side of a datagram socket: receiving, watermarks, closing; and its events as they run
 * on workers.
 *
 * Functions that take a lane: that lane's thread. Events: a worker. See datagram.h.
 */
#include "datagram.h"

#include <netinet/in.h>
#include <netinet/udp.h>

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind receive_kind = {"datagram-receive", receive_complete};

/* ---- events, in the socket's strand ---- */

/* What the kernel wrote into a buffer, besides the datagram. */
struct arrival {
    struct rondo_message message;
    size_t segment_size; /* above 0: several datagrams of this size, the last perhaps shorter */
};

static void read_control(struct rondo_datagram *datagram, struct io_uring_recvmsg_out *out,
                         struct arrival *arrival)
{
    struct msghdr header = {
        .msg_control = (char *)(out + 1) + datagram->receive_header.msg_namelen,
        .msg_controllen = out->controllen,
    };

    for (struct cmsghdr *one = CMSG_FIRSTHDR(&header); one; one = CMSG_NXTHDR(&header, one)) {
        int *numbers = (int *)(void *)CMSG_DATA(one);
        if (one->cmsg_level == SOL_UDP && one->cmsg_type == UDP_GRO) {
            arrival->segment_size = (size_t)numbers[0];
        } else if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS) {
            arrival->message.descriptors = numbers;
            arrival->message.descriptor_count =
                (uint32_t)((one->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        }
    }
}

static struct arrival arrival_of(struct rondo_datagram *datagram, struct buffer *buffer)
{
    struct io_uring_recvmsg_out *out = buffer_data(buffer);
    size_t head = sizeof(*out) + datagram->receive_header.msg_namelen +
                  datagram->receive_header.msg_controllen;
    struct arrival arrival = {
        .message =
            {
                .data = (char *)out + head,
                .size = buffer->size - head,
                .real_size = out->payloadlen,
                .from = (struct sockaddr *)(void *)(out + 1),
                .from_size = out->namelen,
                .truncated = (out->flags & MSG_TRUNC) != 0,
                .descriptors_truncated = (out->flags & MSG_CTRUNC) != 0,
            },
    };

    if (out->namelen <= sizeof(sa_family_t)) {
        arrival.message.from = NULL;
        arrival.message.from_size = 0;
    }
    if (datagram->receive_header.msg_controllen > 0)
        read_control(datagram, out, &arrival);
    return arrival;
}

/* One callback for each datagram of the arrival. */
static void deliver(struct rondo_datagram *datagram, const struct arrival *arrival)
{
    const struct rondo_datagram_handlers *handlers = datagram->handlers;
    struct rondo_message one = arrival->message;
    size_t left = one.size;

    if (arrival->segment_size == 0 || left <= arrival->segment_size) {
        handlers->received(datagram, &one, datagram->ctx);
        return;
    }
    for (; left > 0; left -= one.size) {
        one.size = left < arrival->segment_size ? left : arrival->segment_size;
        one.real_size = one.size;
        handlers->received(datagram, &one, datagram->ctx);
        one.data = (const char *)one.data + one.size;
    }
}

static void received_run(struct runnable *runnable)
{
    struct buffer *buffer = container_of(runnable, struct buffer, event);
    struct rondo_datagram *datagram = buffer->owner;
    struct lane *lane = datagram->handle.lane;
    struct arrival arrival = arrival_of(datagram, buffer);

    /* Acquire pairs with handle_ask(): a socket that is closing drops what arrives. */
    if (!(load_acquire(&datagram->handle.flags) & HANDLE_CLOSE))
        deliver(datagram, &arrival);
    for (uint32_t i = 0; i < arrival.message.descriptor_count; i++)
        if (arrival.message.descriptors[i] >= 0)
            (void)sys.close(arrival.message.descriptors[i]);
    lane_return_buffer(lane, &lane->datagrams, buffer);
    /* Pairs with is_capped(): one of the two sees the other. */
    (void)add_seq_cst(&datagram->consumed, 1);
    if (unlikely(load_seq_cst(&datagram->handle.flags) & DATAGRAM_CAPPED))
        (void)handle_ask(&datagram->handle, 0);
}

static void drained_run(struct runnable *runnable)
{
    struct rondo_datagram *datagram = container_of(runnable, struct rondo_datagram, drained_event);

    /* Before the call: it may fill the queue again. Pairs with watermarks_check(). */
    (void)and_acq_rel(&datagram->handle.flags, ~(uint32_t)DATAGRAM_DRAINED);
    if (datagram->handlers->drained)
        datagram->handlers->drained(datagram, datagram->ctx);
}

static void error_run(struct runnable *runnable)
{
    struct rondo_datagram *datagram = container_of(runnable, struct rondo_datagram, error_event);
    int error = datagram->told_error;

    /* From here on the next one may be told. Pairs with datagram_tell(). */
    (void)and_acq_rel(&datagram->handle.flags, ~(uint32_t)DATAGRAM_ERROR);
    if (datagram->handlers->error)
        datagram->handlers->error(datagram, error, datagram->ctx);
}

static void draining_run(struct runnable *runnable)
{
    struct rondo_datagram *datagram = container_of(runnable, struct rondo_datagram, draining_event);

    (void)handle_close(&datagram->handle); /* What arrived before was delivered before. */
}

static void datagram_closed(struct handle *handle)
{
    struct rondo_datagram *datagram = datagram_of(handle);

    if (datagram->handlers->closed)
        datagram->handlers->closed(datagram, handle->error, datagram->ctx);
}

static void datagram_destroy(struct handle *handle)
{
    sys.release(datagram_of(handle));
}

void datagram_tell(struct lane *lane, struct rondo_datagram *datagram, int error)
{
    /* Pairs with error_run(): the event is posted again only after it ran. */
    if (or_acq_rel(&datagram->handle.flags, DATAGRAM_ERROR) & DATAGRAM_ERROR)
        return;
    datagram->told_error = error;
    handle_post(lane, &datagram->handle, &datagram->error_event);
}

/* ---- receiving, on the lane ---- */

static void starved_run(struct lane *lane, struct lane_request *request)
{
    struct rondo_datagram *datagram = container_of(request, struct rondo_datagram, starved);

    datagram->is_starved = false;
    handle_advance(lane, &datagram->handle);
}

static bool is_capped(struct rondo_datagram *datagram)
{
    struct handle *handle = &datagram->handle;

    if (!handle_has_flag(handle, DATAGRAM_CAPPED)) {
        /* Relaxed: a late answer is only too high. */
        if (datagram->delivered - load_relaxed(&datagram->consumed) < DATAGRAM_BUFFERS_MAX)
            return false;
        /* Pairs with the increment in received_run(): one of the two sees the other. */
        (void)or_seq_cst(&handle->flags, DATAGRAM_CAPPED);
        count_add(&handle->lane->read_pause_count, 1);
    }
    /* Pairs with the increment in received_run(), as above. */
    if (datagram->delivered - load_seq_cst(&datagram->consumed) > DATAGRAM_BUFFERS_MAX / 2)
        return true;
    (void)and_acq_rel(&handle->flags, ~(uint32_t)DATAGRAM_CAPPED); /* Only the lane writes it. */
    return false;
}

static bool wants_receive(struct rondo_datagram *datagram)
{
    if (datagram->is_starved || datagram->above_high ||
        !handle_has_flag(&datagram->handle, DATAGRAM_RECEIVE))
        return false;
    return !is_capped(datagram);
}

static void receive_arm(struct lane *lane, struct rondo_datagram *datagram)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &receive_kind, datagram, &datagram->receive_data);

    if (!sqe) {
        handle_fail(&datagram->handle, -ENOMEM);
        return;
    }
    io_uring_prep_recvmsg_multishot(sqe, datagram->handle.fd, &datagram->receive_header,
                                    MSG_TRUNC | MSG_CMSG_CLOEXEC);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = DATAGRAM_GROUP;
    if (datagram->file >= 0) {
        sqe->fd = datagram->file;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    datagram->receiving = true;
    datagram->receive_cancelled = false;
}

static void receive_cancel(struct lane *lane, struct rondo_datagram *datagram)
{
    if (!datagram->receiving || datagram->receive_cancelled)
        return;
    lane_cancel(lane, datagram->receive_data);
    datagram->receive_cancelled = true;
}

static void receive_failed(struct lane *lane, struct rondo_datagram *datagram, int32_t error)
{
    switch (error) {
    case -ENOBUFS: /* Receive again when buffers come back. */
        datagram->is_starved = true;
        lane_wait_for_buffers(lane, &lane->datagrams, &datagram->starved);
        break;
    case -ECANCELED: /* We paused, or close. */
    case -EINTR:
    case -EAGAIN:
        break;
    case -ECONNREFUSED: /* Answers of the network to what was sent. */
    case -ECONNRESET:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -ENETDOWN:
    case -ENONET:
    case -EPROTO:
    case -ENOPROTOOPT:
    case -EACCES:
    case -EPERM:
    case -EMSGSIZE:
    case -ETIMEDOUT:
        datagram_tell(lane, datagram, error);
        break;
    default:
        handle_fail(&datagram->handle, error);
    }
}

static void received(struct lane *lane, struct rondo_datagram *datagram, int32_t result,
                     uint32_t flags)
{
    struct buffer_ring *buffers = &lane->datagrams;
    uint32_t size = result > 0 ? (uint32_t)result : 0; /* as if all of it had found room */
    uint32_t kept = size < buffers->buffer_size ? size : buffers->buffer_size;
    struct buffer *buffer = buffer_ring_picked(buffers, flags >> IORING_CQE_BUFFER_SHIFT, kept);

    if (result < 0) {
        (void)buffer_return(buffers, buffer);
        return;
    }
    buffer->event.run = received_run;
    buffer->owner = datagram;
    datagram->delivered++;
    lane->arrivals++;
    count_add(&lane->received_bytes, kept);
    count_add(&lane->received_datagrams, 1);
    handle_post(lane, &datagram->handle, &buffer->event);
}

static void receive_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_datagram *datagram = owner;

    if (!(flags & IORING_CQE_F_MORE))
        datagram->receiving = false;
    if (flags & IORING_CQE_F_BUFFER)
        received(lane, datagram, result, flags);
    if (result < 0)
        receive_failed(lane, datagram, result);
    /* The usual case, one more datagram, changes nothing that needs a decision. */
    if (!datagram->receiving || datagram->delivered % (DATAGRAM_BUFFERS_MAX / 2) == 0)
        handle_advance(lane, &datagram->handle);
}

/* ---- what the handle wants ---- */

/* The send queue against its watermarks. */
static void watermarks_check(struct lane *lane, struct rondo_datagram *datagram)
{
    uint64_t queued = load_relaxed(&datagram->queued); /* Relaxed: every change asks again. */

    if (!datagram->above_high && queued > load_relaxed(&datagram->high)) {
        datagram->above_high = true;
        count_add(&lane->read_pause_count, 1);
    } else if (datagram->above_high && queued <= load_relaxed(&datagram->low)) {
        datagram->above_high = false;
        /* Pairs with drained_run(): the event is posted again only after it ran. */
        if (!(or_acq_rel(&datagram->handle.flags, DATAGRAM_DRAINED) & DATAGRAM_DRAINED))
            handle_post(lane, &datagram->handle, &datagram->drained_event);
    }
}

static void prepare(struct lane *lane, struct rondo_datagram *datagram)
{
    int error = lane_datagrams_init(lane);

    datagram->prepared = true;
    if (error)
        handle_fail(&datagram->handle, error);
    else
        datagram->file = lane_file_add(lane, datagram->handle.fd);
}

static void datagram_advance(struct lane *lane, struct handle *handle)
{
    struct rondo_datagram *datagram = datagram_of(handle);

    if (!datagram->prepared)
        prepare(lane, datagram);
    if (handle_has_flag(handle, HANDLE_CLOSE))
        return;
    datagram_take(datagram);
    datagram_send_arm(lane, datagram);
    watermarks_check(lane, datagram);
    bool wants = wants_receive(datagram);
    if (!wants)
        receive_cancel(lane, datagram);
    else if (!datagram->receiving)
        receive_arm(lane, datagram);
}

static bool datagram_quiesce(struct lane *lane, struct handle *handle)
{
    struct rondo_datagram *datagram = datagram_of(handle);
    bool at_once = handle->error || lane->aborting || handle_has_flag(handle, DATAGRAM_ABORT);
    bool is_quiet;

    if (datagram->is_starved) {
        lane_forget_buffers(&lane->datagrams, &datagram->starved);
        datagram->is_starved = false;
    }
    receive_cancel(lane, datagram);
    datagram_take(datagram);
    if (at_once) {
        if (!handle->error &&
            (handle_has_flag(handle, DATAGRAM_ABORT) || !datagram_is_sent(datagram)))
            handle->error = -ECANCELED;
        is_quiet = datagram_send_end(lane, datagram);
    } else {
        datagram_send_arm(lane, datagram);
        is_quiet = datagram_is_sent(datagram);
    }
    if (!is_quiet || datagram->receiving)
        return false;
    if (datagram->file >= 0)
        lane_file_remove(lane, datagram->file);
    datagram->file = -1;
    lock_acquire(&datagram->fd_lock);
    datagram->fd = -1;
    lock_release(&datagram->fd_lock);
    return true;
}

static void datagram_ended(struct lane *lane, struct handle *handle)
{
    (void)datagram_send_end(lane, datagram_of(handle));
}

static void datagram_drain(struct lane *lane, struct handle *handle)
{
    handle_post(lane, handle, &datagram_of(handle)->draining_event);
}

void datagram_lane_init(struct rondo_datagram *datagram)
{
    datagram->file = -1;
    datagram->probe = -1;
    datagram->starved.run = starved_run;
    datagram->drained_event.run = drained_run;
    datagram->draining_event.run = draining_run;
    datagram->error_event.run = error_run;
}

const struct handle_kind datagram_kind = {
    .name = "datagram",
    .advance = datagram_advance,
    .quiesce = datagram_quiesce,
    .drain = datagram_drain,
    .ended = datagram_ended,
    .closed = datagram_closed,
    .destroy = datagram_destroy,
};
