/* How a lane sends datagrams: in bursts, each one submission. A burst is one datagram, or up to
 * BURST_PACKETS_MAX of one size to one address, which the kernel cuts apart (GSO); the last may be
 * shorter.
 *
 * Waiting for room has two steps: the socket's own buffer, and for a Unix socket that is not
 * connected the queue of the receiver, which only a socket connected to it (the probe) can poll.
 *
 * Lane thread. See datagram.h.
 */
#include "datagram.h"

#include "slab.h"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>

enum {
    BURST_PACKETS_MAX = 64, /* what every kernel with GSO takes */
    BURST_SIZE_MAX = 65507, /* bytes, after the headers of IPv4 */
    BURST_CONTROL_SIZE = CMSG_SPACE(sizeof(uint16_t)),
};

struct burst {
    struct rondo_datagram *datagram;
    struct chain packets;
    struct msghdr header;
    char control[BURST_CONTROL_SIZE] __attribute__((aligned(8)));
    struct iovec parts[BURST_PACKETS_MAX];
};

static struct slab burst_slab = {.id = SLAB_BURST, .node_size = sizeof(struct burst)};

static void burst_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind burst_kind = {"datagram-send", burst_complete};

RONDO_STATIC_ASSERT(sizeof(struct lent_send) <= OPERATION_SIZE);

/* ---- the end of one packet ---- */

static void packet_end(struct lane *lane, struct rondo_datagram *datagram, struct packet *packet,
                       int64_t result)
{
    struct lent_send *lent = packet->lent;

    if (!packet->is_dead)
        (void)sub_relaxed(&datagram->queued, packet_cost(packet)); /* Relaxed: a sum. */
    if (lent) {
        lent->base.result.bytes = result > 0 ? (uint64_t)result : 0;
        operation_end(lane, &lent->base, result);
    } else if (result < 0 && result != -ECANCELED) {
        datagram_tell(lane, datagram, (int)result);
    }
    packet_free(packet);
}

static void lent_send_cancel(struct lane *lane, struct operation *operation)
{
    struct lent_send *lent = container_of(operation, struct lent_send, base);
    struct rondo_datagram *datagram = lent->datagram;
    struct packet *packet = lent->packet;

    if (packet->in_burst)
        return; /* It ends at once, and what goes back to the queue looks at the cancel. */
    /* Its place in the queue stays, empty: it may not even be in the lane's part of it yet. */
    packet->is_dead = true;
    packet->lent = NULL;
    (void)sub_relaxed(&datagram->queued, packet_cost(packet)); /* Relaxed: a sum. */
    operation_end(lane, operation, -ECANCELED);
    handle_advance(lane, &datagram->handle);
}

const struct operation_kind lent_send_kind = {
    .name = "datagram-send",
    .cancel = lent_send_cancel,
};

/* ---- the end of a burst ---- */

/* To the front of the queue, behind what was refused before, or to its end if it is cancelled. */
static void give_back(struct lane *lane, struct rondo_datagram *datagram, struct packet *packet)
{
    packet->in_burst = false;
    if (packet->lent && operation_is_cancelled(&packet->lent->base))
        packet_end(lane, datagram, packet, -ECANCELED);
    else
        chain_append(&datagram->refused, &packet->node);
}

static void burst_sent(struct lane *lane, struct burst *burst, int32_t result)
{
    struct rondo_datagram *datagram = burst->datagram;
    struct node *node;

    count_add(&lane->sent_bytes, (uint64_t)result);
    count_add(&lane->sent_datagrams, burst->packets.count);
    while ((node = chain_take(&burst->packets)))
        packet_end(lane, datagram, packet_of(node), packet_of(node)->size);
}

/* Whether a failed burst may succeed in another way, which is prepared. */
static bool can_retry(struct lane *lane, struct burst *burst, int32_t error)
{
    struct rondo_datagram *datagram = burst->datagram;
    struct packet *first = packet_of(burst->packets.first);

    switch (error) {
    case -EAGAIN: /* No room. */
        datagram->no_room = true;
        return true;
    case -EINTR:
    case -ECANCELED:
        return true;
    case -ECONNREFUSED:
        /* The answer to an earlier datagram, told to this one, which has not left. */
        if (datagram->family == AF_UNIX || first->repeated)
            return false;
        datagram_tell(lane, datagram, error);
        for (struct node *node = &first->node; node; node = node->next)
            packet_of(node)->repeated = true;
        return true;
    case -EINVAL: /* The path takes no datagrams of this size together, or no such bursts. */
    case -EIO:
    case -EMSGSIZE:
    case -EOPNOTSUPP:
        if (burst->packets.count == 1)
            return false;
        count_add(&lane->segment_refusal_count, 1);
        datagram->segment_max = error == -EIO ? 0 : first->size - 1;
        for (struct node *node = &first->node; node; node = node->next)
            packet_of(node)->is_alone = true;
        return true;
    default:
        return false;
    }
}

static void burst_failed(struct lane *lane, struct burst *burst, int32_t error)
{
    bool retry = can_retry(lane, burst, error);
    struct node *node;

    while ((node = chain_take(&burst->packets))) {
        if (retry)
            give_back(lane, burst->datagram, packet_of(node));
        else
            packet_end(lane, burst->datagram, packet_of(node), error);
    }
}

static void burst_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct burst *burst = owner;
    struct rondo_datagram *datagram = burst->datagram;

    (void)flags;
    datagram->burst_count--;
    if (result >= 0)
        burst_sent(lane, burst, result);
    else
        burst_failed(lane, burst, result);
    slab_free(&burst_slab, burst);
    handle_advance(lane, &datagram->handle);
}

/* ---- a new burst ---- */

static bool joins(const struct rondo_datagram *datagram, const struct burst *burst,
                  const struct packet *packet, size_t total)
{
    const struct packet *first = packet_of(burst->packets.first);

    return burst->packets.count < BURST_PACKETS_MAX && first->size <= datagram->segment_max &&
           packet->size > 0 && packet->size <= first->size &&
           total + packet->size <= BURST_SIZE_MAX && packets_match(first, packet);
}

/* Takes packets out of the queue. False: only dead ones were there. */
static bool burst_fill(struct rondo_datagram *datagram, struct burst *burst)
{
    struct chain *packets = &burst->packets;
    size_t total = 0;

    while (datagram->sending.first) {
        struct packet *packet = packet_of(datagram->sending.first);
        if (!packet->is_dead && packets->first && !joins(datagram, burst, packet, total))
            break;
        (void)chain_take(&datagram->sending);
        if (packet->is_dead) {
            packet_free(packet);
            continue;
        }
        burst->parts[packets->count] =
            (struct iovec){(void *)(uintptr_t)packet->data, packet->size};
        chain_append(packets, &packet->node);
        packet->in_burst = true;
        total += packet->size;
        if (packet->size < packet_of(packets->first)->size)
            break; /* A shorter one is the last. */
    }
    return packets->count > 0;
}

static void put_segment_size(struct burst *burst, uint32_t size)
{
    struct cmsghdr *control;

    burst->header.msg_control = burst->control;
    burst->header.msg_controllen = BURST_CONTROL_SIZE;
    control = CMSG_FIRSTHDR(&burst->header);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    *(uint16_t *)(void *)CMSG_DATA(control) = (uint16_t)size;
}

static void burst_describe(struct burst *burst)
{
    struct packet *first = packet_of(burst->packets.first);

    burst->header = (struct msghdr){
        .msg_name = first->address_size ? first->bytes : NULL,
        .msg_namelen = first->address_size,
        .msg_iov = burst->parts,
        .msg_iovlen = burst->packets.count,
        .msg_control = first->control,
        .msg_controllen = first->control_size,
    };
    if (burst->packets.count > 1)
        put_segment_size(burst, first->size);
}

/* Gives the kernel the next burst of the queue. */
static void burst_arm(struct lane *lane, struct rondo_datagram *datagram)
{
    struct burst *burst = slab_alloc(&burst_slab);
    struct io_uring_sqe *sqe;

    if (!burst) {
        packet_end(lane, datagram, packet_of(chain_take(&datagram->sending)), -ENOMEM);
        return;
    }
    burst->datagram = datagram;
    burst->packets = (struct chain){0};
    if (!burst_fill(datagram, burst)) {
        slab_free(&burst_slab, burst);
        return;
    }
    burst_describe(burst);
    sqe = lane_submit(lane, &burst_kind, burst, NULL);
    if (!sqe) {
        burst_failed(lane, burst, -ENOMEM);
        slab_free(&burst_slab, burst);
        return;
    }
    io_uring_prep_sendmsg(sqe, datagram->handle.fd, &burst->header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (datagram->file >= 0) {
        sqe->fd = datagram->file;
        sqe->flags |= IOSQE_FIXED_FILE;
    }
    datagram->burst_count++;
}

/* ---- waiting for room ---- */

static void wait_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind wait_kind = {"datagram-wait", wait_complete};

static void wait_on(struct lane *lane, struct rondo_datagram *datagram, int fd)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &wait_kind, datagram, &datagram->wait_data);

    if (!sqe) {
        handle_fail(&datagram->handle, -ENOMEM);
        return;
    }
    io_uring_prep_poll_add(sqe, fd, POLLOUT);
    datagram->awaited = packet_of(datagram->sending.first);
    datagram->waiting = true;
    datagram->wait_cancelled = false;
}

static void wait_cancel(struct lane *lane, struct rondo_datagram *datagram)
{
    if (!datagram->waiting || datagram->wait_cancelled)
        return;
    lane_cancel(lane, datagram->wait_data);
    datagram->wait_cancelled = true;
}

/* A socket that can be written to when the receiver of @packet has room: or an error, which is one
 * of sending to it. */
static int probe_open(const struct packet *packet)
{
    int fd = sys.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? fd : sys.connect(fd, packet_address(packet), packet->address_size);

    if (fd >= 0 && error)
        (void)sys.close(fd);
    return error ? error : fd;
}

static void probe_close(struct rondo_datagram *datagram)
{
    if (datagram->probe >= 0)
        (void)sys.close(datagram->probe);
    datagram->probe = -1;
}

/* The second step, for the packet that waits. */
static void wait_for_receiver(struct lane *lane, struct rondo_datagram *datagram)
{
    int fd = probe_open(packet_of(datagram->sending.first));

    if (fd < 0) {
        packet_end(lane, datagram, packet_of(chain_take(&datagram->sending)), fd);
        datagram->no_room = false;
        return;
    }
    datagram->probe = fd;
    wait_on(lane, datagram, fd);
}

static void wait_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_datagram *datagram = owner;
    struct node *first = datagram->sending.first;
    /* The packet it was for may have been cancelled, and the next one goes elsewhere. */
    bool is_same = first && packet_of(first) == datagram->awaited;

    (void)flags;
    datagram->waiting = false;
    if (result >= 0 && is_same && datagram->probe < 0 && datagram->family == AF_UNIX &&
        !packet_of(first)->is_dead && packet_of(first)->address_size > 0 &&
        !handle_has_flag(&datagram->handle, DATAGRAM_ABORT)) {
        wait_for_receiver(lane, datagram);
    } else {
        probe_close(datagram);
        datagram->no_room = false;
    }
    handle_advance(lane, &datagram->handle);
}

/* ---- the queue ---- */

void datagram_take(struct rondo_datagram *datagram)
{
    (void)inbox_take(&datagram->packets, &datagram->sending);
}

/* What was refused comes first again. */
static void queue_refused(struct rondo_datagram *datagram)
{
    chain_join(&datagram->refused, &datagram->sending);
    datagram->sending = datagram->refused;
    datagram->refused = (struct chain){0};
}

static void drop_dead(struct rondo_datagram *datagram)
{
    while (datagram->sending.first && packet_of(datagram->sending.first)->is_dead) {
        struct packet *packet = packet_of(chain_take(&datagram->sending));
        if (packet == datagram->awaited)
            datagram->awaited = NULL; /* The next packet may get the same memory. */
        packet_free(packet);
    }
}

void datagram_send_arm(struct lane *lane, struct rondo_datagram *datagram)
{
    uint32_t bursts_max = datagram->family == AF_UNIX ? 1 : DATAGRAM_BURSTS_MAX;

    if (datagram->refused.first) {
        if (datagram->burst_count > 0)
            return; /* What they refuse comes before it, or behind it. */
        queue_refused(datagram);
    }
    drop_dead(datagram);
    if (datagram->waiting) {
        if (!datagram->sending.first || packet_of(datagram->sending.first) != datagram->awaited)
            wait_cancel(lane, datagram);
        return;
    }
    if (!datagram->sending.first)
        datagram->no_room = false;
    else if (datagram->no_room)
        wait_on(lane, datagram, datagram->handle.fd);
    while (!datagram->no_room && datagram->sending.first && datagram->burst_count < bursts_max)
        burst_arm(lane, datagram);
}

bool datagram_send_end(struct lane *lane, struct rondo_datagram *datagram)
{
    struct node *node;

    datagram_take(datagram);
    queue_refused(datagram);
    while ((node = chain_take(&datagram->sending)))
        packet_end(lane, datagram, packet_of(node), -ECANCELED);
    wait_cancel(lane, datagram);
    return datagram->burst_count == 0 && !datagram->waiting;
}
