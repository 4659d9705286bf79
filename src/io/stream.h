/* A stream of bytes, seen from inside: what any thread asks of it, and what its lane does about it.
 * Its descriptor is a socket, or a pipe, a terminal and the like.
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
 * It is read in one of two ways, decided by what the user asks first: STARTED streams push what
 * arrives to their handlers, PULLED ones receive into the memory of one read operation at a time.
 *
 * Who frees it: the closed event drops the first reference of a started stream, or of one that the
 * user has closed. Any other stays valid for the user, on the list of orphans, until the user
 * closes it or the loop is freed.
 *
 * Invariants: (1) one receive and one send in the kernel at most; (2) the descriptor is closed only
 * when neither is; (3) each write ends once, and is sent in order; (4) the closed event comes last.
 */
#ifndef RONDO_IO_STREAM_H
#define RONDO_IO_STREAM_H

#include "rondo/stream.h"

#include "hub.h"

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
    STREAM_PULLED = 1 << 10,  /* read operations are used */
    STREAM_NEW = 1 << 11,     /* connected, and who asked for it has not been told yet */
    STREAM_TARGET = 1 << 12,  /* it was relayed to */
    STREAM_WRITER = 1 << 16,  /* from here up: threads that are inside a write */
};

enum {
    STREAM_BUFFERS_MAX = 32,     /* received and not consumed by the user: receiving pauses */
    STREAM_BUFFERS_OVERLOAD = 4, /* the same while the loop is overloaded */
    STREAM_SIZE_MAX = 1 << 30,   /* of one submission; the rest follows */
};

/* What a read took from the kernel beyond its end: the next one gets it first. */
struct surplus {
    char *bytes;
    size_t begin;
    size_t size; /* from begin on */
    size_t capacity;
};

/* One message touches three cache lines of a stream: the strand's, the one that workers and the
 * lane share, and the lane's own. What is needed less often comes behind. */
struct rondo_stream {
    struct strand strand;

    /* Any thread, now and then. */
    _Atomic uint64_t low;
    uint64_t queued_max;
    struct rondo_listener *listener; /* until accepted was called */
    bool is_socket;                  /* these four are set before it is shared */
    bool is_terminal;
    bool can_read;
    bool can_write;
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
    bool copies : 1;         /* the kernel said that it copies anyhow */
    bool avoids_copies : 1;  /* or that it does not */
    bool drops_writes : 1;   /* some that are queued were cancelled */
    bool drains_written : 1; /* the loop drains: it closes once all is written */
    bool drains_late : 1;    /* the loop drains; it will be told when it is not new any more */

    int32_t file; /* its place in the lane's table of descriptors, or -1 */

    int error; /* what the closed event will say */
    uint64_t receive_data;
    struct chain reads; /* read operations, in order; the first one receives */
    struct surplus surplus;
    struct operation *finisher; /* rondo_stream_finish() */
    uint32_t notifications;     /* of all writes */
    struct lane_handle handle;  /* later its place among the orphans */
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

/* Its loop's. */
static inline struct hub *stream_hub(const struct rondo_stream *stream)
{
    return stream->lane->options.pool->options.loop;
}

/* The loop is freed, and with it a closed stream that its user still had. */
void stream_free_orphan(struct lane_handle *handle);

/* Any thread: have the lane look at the stream, with @flags set. The flags as they were. */
uint32_t stream_ask(struct rondo_stream *stream, uint32_t flags);

/* Any thread, what a write begins and ends with: the stream does not close between the two. 0, or
 * an error and it is out again. */
int stream_write_enter(struct rondo_stream *stream);
void stream_write_leave(struct rondo_stream *stream);

/* Any thread, between the two: queue it. */
struct write;
void stream_write_push(struct rondo_stream *stream, struct write *write);

/* Any thread: the bytes in @buffer, which it received, are done with. */
void stream_consumed(struct rondo_stream *stream, struct buffer *buffer);

/* The rest: lane thread. */

/* The functions behind the lane's requests. */
void stream_lane_init(struct rondo_stream *stream);

/* Bring the kernel in line with what is wanted. */
void stream_advance(struct lane *lane, struct rondo_stream *stream);

/* An error of the connection, or the end of the loop: it closes at the next advance. */
void stream_break(struct rondo_stream *stream, int error);

/* Receiving: set up; bring it in line; its part of an advance that closes; what became of it when
 * it brought no bytes. */
void stream_receive_init(struct rondo_stream *stream);
void stream_receive_end(struct lane *lane, struct rondo_stream *stream, int32_t result);
void stream_receive_advance(struct lane *lane, struct rondo_stream *stream);
void stream_receive_stop(struct lane *lane, struct rondo_stream *stream);

/* A submission for the one receive, which @kind gets the completion of. NULL: no memory, and the
 * stream is broken. */
struct io_uring_sqe *stream_receive_submission(struct lane *lane, struct rondo_stream *stream,
                                               const struct op_kind *kind);

struct operation;

/* Read operations: let the first one go on; or end them all with @error. */
void stream_reads_advance(struct lane *lane, struct rondo_stream *stream);
void stream_reads_end(struct lane *lane, struct rondo_stream *stream, int error);

/* The first read operation takes what arrives in receive buffers. */
bool stream_is_forwarding(const struct rondo_stream *stream);
bool stream_relay_failed(const struct rondo_stream *stream);
void stream_forward(struct lane *lane, struct rondo_stream *stream, struct buffer *buffer);

/* Sending: the next send if there is none; or drop what is queued. */
void stream_send_advance(struct lane *lane, struct rondo_stream *stream);
void stream_writes_fail(struct lane *lane, struct rondo_stream *stream);

static inline bool stream_has_flag(struct rondo_stream *stream, uint32_t flag)
{
    /* Relaxed: who sets a flag asks the lane to look again. */
    return (load_relaxed(&stream->flags) & flag) != 0;
}

/* The usual operations name the descriptor by its place in the lane's table. */
static inline void stream_use_file(const struct rondo_stream *stream, struct io_uring_sqe *sqe)
{
    if (stream->file < 0)
        return;
    sqe->fd = stream->file;
    sqe->flags |= IOSQE_FIXED_FILE;
}

#endif
