/* A TCP stream, seen from inside: what any thread asks of it, and what its lane does about it.
 *
 * Flags word: any thread sets what it wants (levels, not edges) together with QUEUED; who set
 * QUEUED first puts the stream into the lane's inbox. The lane takes QUEUED off, then compares what
 * is wanted with what is in the kernel. Closing ends with one exchange from "not QUEUED" to CLOSED,
 * after which nothing reaches the lane any more. A write counts itself in the same word while it is
 * being queued, so that the last exchange waits for it.
 *
 *   OPEN --close--> writes go out --+
 *     \---abort, error-------------> cancel receive and send --none in the kernel--> close
 *                                    --> CLOSED, last event posted
 *
 * Invariants: (1) one receive and one send in the kernel at most; (2) the descriptor is closed only
 * when neither is; (3) each write ends once, in order; (4) the closed event is the last.
 */
#ifndef RONDO_IO_STREAM_H
#define RONDO_IO_STREAM_H

#include "rondo/stream.h"

#include "lane.h"

enum stream_flag {
    STREAM_QUEUED = 1 << 0,
    STREAM_STARTED = 1 << 1,  /* handlers are set */
    STREAM_READ = 1 << 2,     /* the user wants to read */
    STREAM_SHUTDOWN = 1 << 3, /* half close after the writes */
    STREAM_CLOSE = 1 << 4,    /* close after the writes */
    STREAM_ABORT = 1 << 5,    /* close now */
    STREAM_CLOSED = 1 << 6,   /* the lane is done */
    STREAM_CAPPED = 1 << 7,   /* too many buffers wait for the user: do not receive */
    STREAM_DRAINED = 1 << 8,  /* the drained event is on its way */
    STREAM_TOLD = 1 << 9,     /* the closed event has run */
    STREAM_WRITER = 1 << 16,  /* from here up: threads that are inside a write */
};

/* Buffers received and not yet consumed by the user, at which receiving pauses: usually, and while
 * the loop is overloaded. */
enum { STREAM_BUFFERS_MAX = 32, STREAM_BUFFERS_OVERLOAD = 4 };

/* One message touches three cache lines of a stream: the strand's, the one that workers and the
 * lane share, and the lane's own. What is needed less often comes behind. */
struct rondo_stream {
    struct strand strand;

    /* Any thread, now and then. */
    _Atomic uint64_t low;
    uint64_t queued_max;
    struct rondo_listener *listener; /* until accepted was called */
    struct lock fd_lock;

    /* Any thread, for every message. */
    CACHE_ALIGNED struct lane_request request;
    struct lane *lane;
    _Atomic uint32_t flags;
    _Atomic uint32_t consumed;                    /* buffers handed to the user and done with */
    struct inbox writes;                          /* any thread pushes, the lane takes */
    _Atomic uint64_t queued;                      /* bytes accepted and not yet sent */
    const struct rondo_stream_handlers *handlers; /* set before STARTED */
    void *ctx;

    /* Lane thread only. */
    CACHE_ALIGNED struct chain sending; /* writes taken, the first one partly sent */
    uint64_t sent_of_first;
    uint64_t send_data;    /* user_data of the send in the kernel */
    _Atomic uint64_t high; /* set by any thread */
    uint32_t delivered;
    int fd; /* written under the lock, which others hold to use it */
    bool receiving : 1;
    bool receive_cancelled : 1;
    bool send_in_flight : 1;
    bool send_cancelled : 1;
    bool is_starved : 1;
    bool above_high : 1;
    bool ended : 1; /* the peer sent its last byte */
    bool shut_down : 1;
    bool broken : 1;    /* an error, or the loop, closes it */
    bool closing : 1;   /* the close is in the kernel, or done */
    bool fd_closed : 1; /* it is done */
    bool listed : 1;

    int32_t file; /* its place in the lane's table of descriptors, or -1 */

    int error; /* what the closed event will say */
    uint64_t receive_data;
    struct lane_handle handle;
    struct lane_request starved;

    struct runnable accepted_event;
    struct runnable end_event;
    struct runnable drained_event;
    struct runnable draining_event;
    struct runnable closed_event;
};

/* Any thread: a stream that takes @fd over, to live on @lane, and is counted as a connection. The
 * caller asks the lane to run its request. NULL: no memory, or the loop has stopped. */
struct rondo_stream *stream_create(struct lane *lane, int fd, uint64_t queued_max);

/* Any thread: have the lane look at the stream, with @flags set. The flags as they were. */
uint32_t stream_ask(struct rondo_stream *stream, uint32_t flags);

/* Lane thread: the functions behind the lane's requests. */
void stream_lane_init(struct rondo_stream *stream);

/* Lane thread: bring the kernel in line with what is wanted. */
void stream_advance(struct lane *lane, struct rondo_stream *stream);

#endif
