/* The sends of a datagram socket, as users call them. Any thread. See datagram.h; what the lane
 * does with them is in datagram_burst.c. */
#include "datagram.h"

#include <limits.h>
#include <netinet/in.h>
#include <sys/un.h>

enum { BATCH_MAX = 65536 };

/* What the headers leave of 65535 bytes. */
enum { UDP4_SIZE_MAX = 65507, UDP6_SIZE_MAX = 65527 };

static int check_address(const struct rondo_datagram *datagram, const struct sockaddr *to,
                         socklen_t size)
{
    if (!to) {
        if (size > 0)
            return -EINVAL;
        /* Relaxed: the kernel has the last word. */
        return load_relaxed(&datagram->connected) ? 0 : -EDESTADDRREQ;
    }
    if (size < sizeof(sa_family_t))
        return -EINVAL;
    if (to->sa_family != datagram->family)
        return -EAFNOSUPPORT;
    if (datagram->family == AF_INET)
        return size == sizeof(struct sockaddr_in) ? 0 : -EINVAL;
    if (datagram->family == AF_INET6)
        return size == sizeof(struct sockaddr_in6) ? 0 : -EINVAL;
    return size > sizeof(sa_family_t) && size <= sizeof(struct sockaddr_un) ? 0 : -EINVAL;
}

static int check_message(const struct rondo_datagram *datagram,
                         const struct rondo_datagram_message *message)
{
    size_t size_max = datagram->family == AF_INET    ? UDP4_SIZE_MAX
                      : datagram->family == AF_INET6 ? UDP6_SIZE_MAX
                                                     : INT_MAX;

    if (message->size > 0 && !message->data)
        return -EINVAL;
    if (message->descriptor_count > 0 && (datagram->family != AF_UNIX || !message->descriptors ||
                                          message->descriptor_count > PACKET_DESCRIPTORS_MAX))
        return -EINVAL;
    if (message->size > size_max)
        return -EMSGSIZE;
    int error = check_address(datagram, message->to, message->to_size);
    if (error)
        return error;
    /* Relaxed: the limit may be passed by sends that race for its last bytes. */
    uint64_t queued = load_relaxed(&datagram->queued) + message->size + PACKET_COST;
    return queued > datagram->queued_max ? -ENOBUFS : 0;
}

/* The caller is inside handle_enter(). */
static void push(struct rondo_datagram *datagram, struct packet *packet)
{
    (void)add_relaxed(&datagram->queued, packet_cost(packet)); /* Relaxed: a sum. */
    (void)inbox_push(&datagram->packets, &packet->node);
}

static int push_copy(struct rondo_datagram *datagram, const struct rondo_datagram_message *message)
{
    struct packet *packet;
    int error = check_message(datagram, message);

    if (!error)
        error = packet_create(message, false, &packet);
    if (!error)
        push(datagram, packet);
    return error;
}

RONDO_PUBLIC int rondo_datagram_send_batch(rondo_datagram *datagram,
                                           const struct rondo_datagram_message *messages,
                                           uint32_t count)
{
    if (!datagram || !messages || count < 1 || count > BATCH_MAX)
        return -EINVAL;
    uint32_t pushed = 0;
    int error = handle_enter(&datagram->handle);
    if (error)
        return error;
    while (pushed < count && !error) {
        error = push_copy(datagram, &messages[pushed]);
        if (!error)
            pushed++;
    }
    handle_leave(&datagram->handle);
    return pushed > 0 ? (int)pushed : error;
}

RONDO_PUBLIC int rondo_datagram_send(rondo_datagram *datagram, const void *data, size_t size,
                                     const struct sockaddr *to, socklen_t to_size)
{
    struct rondo_datagram_message message = {
        .data = data,
        .size = size,
        .to = to,
        .to_size = to_size,
    };
    int result = rondo_datagram_send_batch(datagram, &message, 1);

    return result > 0 ? 0 : result;
}

static int send_lent(struct rondo_datagram *datagram, const struct rondo_datagram_message *message,
                     const struct rondo_request *request)
{
    struct operation *operation;
    struct packet *packet;
    int error = check_message(datagram, message);

    if (!error)
        error = packet_create(message, true, &packet);
    if (error)
        return error;
    error = operation_create(&lent_send_kind, datagram->hub, datagram->handle.lane,
                             &datagram->handle.strand, request, &operation);
    if (error) {
        packet_free(packet);
        return error;
    }
    struct lent_send *lent = container_of(operation, struct lent_send, base);
    lent->datagram = datagram;
    lent->packet = packet;
    packet->lent = lent;
    /* Its place is the packet's, among the copies. Begun first: the packet is ours until pushed,
     * the operation may be over. */
    operation_mark_started(operation);
    operation_submit(operation);
    push(datagram, packet);
    return 0;
}

RONDO_PUBLIC int rondo_datagram_send_lent(rondo_datagram *datagram,
                                          const struct rondo_datagram_message *message,
                                          const struct rondo_request *request)
{
    if (!datagram || !message || hub_is_forked(datagram->hub))
        return datagram && message ? -ECHILD : -EINVAL;
    int error = handle_enter(&datagram->handle);
    if (error)
        return error;
    error = send_lent(datagram, message, request);
    handle_leave(&datagram->handle);
    return error;
}

RONDO_PUBLIC size_t rondo_datagram_send_queued(const rondo_datagram *datagram)
{
    return datagram ? load_relaxed(&datagram->queued) : 0; /* Relaxed: a moment's value. */
}
