/* A datagram socket, seen from inside: a multishot receive on its lane, a queue of packets that any
 * thread fills and the lane sends in bursts.
 *
 * Bursts are given to the kernel in the order of the queue and never wait there: the kernel forgets
 * the bytes of a datagram that it took apart before it found no room. What it refused goes back to
 * the front, and the lane polls until there is room. Unix sockets, which promise order, have one
 * burst at a time.
 *
 * Invariants: (1) one receive in the kernel at most; (2) a packet is in the inbox, in `sending`, in
 * `refused` or in one burst; (3) a burst in the kernel keeps its memory and its packets; (4) each
 * lent send ends once, before the closed event.
 */
#ifndef RONDO_IO_DATAGRAM_H
#define RONDO_IO_DATAGRAM_H

#include "rondo/datagram.h"

#include "address.h"
#include "handle.h"
#include "operation.h"
#include "packet.h"

enum datagram_flag {
    DATAGRAM_RECEIVE = HANDLE_OWN << 0, /* the user wants to receive */
    DATAGRAM_ABORT = HANDLE_OWN << 1,   /* close now */
    DATAGRAM_CAPPED = HANDLE_OWN << 2,  /* too many buffers wait for the user: do not receive */
    DATAGRAM_DRAINED = HANDLE_OWN << 3, /* the drained event is on its way */
    DATAGRAM_ERROR = HANDLE_OWN << 4,   /* the error event is on its way */
};

enum {
    DATAGRAM_BUFFERS_MAX = 256, /* received and not yet consumed, at which receiving pauses */
    DATAGRAM_BURSTS_MAX = 64,   /* in the kernel at a time */
    DATAGRAM_NAME_SIZE = 112,   /* place for a sender's address */
};

struct rondo_datagram {
    struct handle handle;
    struct hub *hub;
    const struct rondo_datagram_handlers *handlers;
    void *ctx;
    sa_family_t family;
    uint64_t queued_max;
    struct address bound; /* what it was bound to; size 0: nothing */

    struct lock fd_lock;
    int fd; /* the handle's, for other threads; -1 before it closes */

    /* Any thread, for every datagram. */
    CACHE_ALIGNED struct inbox packets;
    _Atomic uint64_t queued;   /* cost of the packets not yet sent */
    _Atomic uint32_t consumed; /* buffers handed to the user and done with */
    _Atomic bool connected;

    /* Lane thread only. */
    CACHE_ALIGNED struct chain sending;
    struct chain refused; /* by bursts that found no room, in order */
    _Atomic uint64_t low; /* set by any thread */
    _Atomic uint64_t high;
    uint64_t receive_data;
    uint64_t wait_data;
    struct packet *awaited; /* the one that found no room, while waiting; not looked into */
    struct msghdr receive_header;
    uint32_t delivered;
    uint32_t burst_count; /* in the kernel */
    uint32_t segment_max; /* the largest datagram that can be sent with others; 0: none */
    int32_t file;         /* its place in the lane's table of descriptors, or -1 */
    int probe;            /* a socket connected to the address that has no room, or -1 */
    bool receiving : 1;
    bool receive_cancelled : 1;
    bool is_starved : 1;
    bool above_high : 1;
    bool no_room : 1; /* wait before the next burst */
    bool waiting : 1;
    bool wait_cancelled : 1;
    bool prepared : 1;
    struct lane_request starved;

    struct runnable drained_event;
    struct runnable draining_event;
    struct runnable error_event;
    int told_error; /* with DATAGRAM_ERROR */
};

static inline struct rondo_datagram *datagram_of(struct handle *handle)
{
    return container_of(handle, struct rondo_datagram, handle);
}

/* One rondo_datagram_send_lent(). */
struct lent_send {
    struct operation base;
    struct rondo_datagram *datagram;
    /* Lane thread only. */
    struct packet *packet;
};

/* The lane's side: receiving, and what happens when. */
extern const struct handle_kind datagram_kind;
void datagram_lane_init(struct rondo_datagram *datagram);

/* Lane thread: tell the user of an error that does not end the socket. */
void datagram_tell(struct lane *lane, struct rondo_datagram *datagram, int error);

/* Lane thread, sending: take over what was queued. */
void datagram_take(struct rondo_datagram *datagram);

/* Lane thread, sending: give the kernel what it may have now. */
void datagram_send_arm(struct lane *lane, struct rondo_datagram *datagram);

/* Lane thread, sending: drop what is not in the kernel, and end the waiting. True: nothing is left
 * there. */
bool datagram_send_end(struct lane *lane, struct rondo_datagram *datagram);

/* Lane thread, sending: nothing is queued and nothing is in the kernel. */
static inline bool datagram_is_sent(const struct rondo_datagram *datagram)
{
    return !datagram->sending.first && !datagram->refused.first && datagram->burst_count == 0 &&
           !datagram->waiting;
}

extern const struct operation_kind lent_send_kind;

/* Calls @call with the descriptor in `fd` while it cannot be closed: its result, or -EBADF. */
#define WITH_DATAGRAM_FD(datagram, call)    \
    __extension__({                         \
        int result_ = -EBADF;               \
        lock_acquire(&(datagram)->fd_lock); \
        int fd = (datagram)->fd;            \
        if (fd >= 0)                        \
            result_ = (call);               \
        lock_release(&(datagram)->fd_lock); \
        result_;                            \
    })

#endif
