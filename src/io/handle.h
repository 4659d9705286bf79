/* What stays open on a lane until it is closed: a descriptor, a strand for its events, one closed
 * event. Listeners and everything else with a closed callback, other than streams, begin with it.
 *
 * Flags word: any thread sets what it wants (levels, not edges) together with QUEUED; who set
 * QUEUED first puts the handle into its lane's inbox. The lane takes QUEUED off, then compares what
 * is wanted with what is in the kernel. The end is one exchange from "not QUEUED" to CLOSED, after
 * which nothing reaches the lane any more.
 *
 *   OPEN --CLOSE, or the loop's end--> kind->quiesce until nothing is in the kernel --> close
 *                                       --> CLOSED, last event posted
 *
 * Invariants: (1) the descriptor is closed only when the kernel holds no operation on it; (2) the
 * closed event is the last one in the strand.
 */
#ifndef RONDO_IO_HANDLE_H
#define RONDO_IO_HANDLE_H

#include "hub.h"

enum handle_flag {
    HANDLE_QUEUED = 1 << 0,
    HANDLE_CLOSE = 1 << 1,
    HANDLE_CLOSED = 1 << 2,
    HANDLE_OWN = 1 << 8,   /* from here up: the kind's own */
    HANDLE_USER = 1 << 20, /* from here up: threads between handle_enter() and handle_leave() */
};

struct handle;

/* One row per kind of handle, beside its implementation. */
struct handle_kind {
    const char *name;
    /* Lane thread, while it is open: bring the kernel in line with what is wanted. */
    void (*advance)(struct lane *lane, struct handle *handle);
    /* Lane thread, while it closes: cancel what is in the kernel. True: nothing is left there.
     * Called again after handle_advance(). */
    bool (*quiesce)(struct lane *lane, struct handle *handle);
    /* Lane thread: the loop drains. NULL: it is closed. */
    void (*drain)(struct lane *lane, struct handle *handle);
    /* Lane thread: the loop became overloaded, see lane.h; it advances next. NULL: it need not
     * know. */
    void (*overload)(struct lane *lane, struct handle *handle);
    /* Lane thread, the last call there: end what was queued too late. NULL: nothing can be. */
    void (*ended)(struct lane *lane, struct handle *handle);
    /* Worker: tell the user. The last event. */
    void (*closed)(struct handle *handle);
    /* Worker or any thread that drops the last reference: free it. */
    void (*destroy)(struct handle *handle);
};

struct handle {
    struct strand strand;
    struct lane *lane;
    struct lane_request request;
    _Atomic uint32_t flags;
    int error; /* what the closed event says */
    const struct handle_kind *kind;

    /* Lane thread only. */
    struct lane_handle list;
    int fd; /* -1: it has none */
    bool listed;
    bool closing;
    bool fd_closed;

    struct runnable closed_event;
};

/* Any thread: a new handle on @lane that takes @fd over, not begun; the caller zeroed it. It has
 * one reference, which the closed event drops. False: the loop has stopped; the descriptor is still
 * the caller's. */
bool handle_init(struct handle *handle, const struct handle_kind *kind, struct lane *lane, int fd);

/* Any thread: begin. */
void handle_submit(struct handle *handle);

/* Any thread, instead of handle_submit(): nothing is left of it but its memory. */
void handle_discard(struct handle *handle);

/* Any thread: have the lane look at the handle, with @flags set. The flags as they were. */
uint32_t handle_ask(struct handle *handle, uint32_t flags);

/* Any thread: count the caller in, so that the handle does not end before what it queues is seen by
 * the lane. 0, or -EBADF (closing or closed) and it is not in. */
int handle_enter(struct handle *handle);

/* And out, having the lane look. */
void handle_leave(struct handle *handle);

/* Any thread: close it. 0, or -EALREADY. What a public close function is made of. */
int handle_close(struct handle *handle);

/* Lane thread: something changed, decide what is next. Ends what closes. */
void handle_advance(struct lane *lane, struct handle *handle);

/* Lane thread: it ends with @error, if there is none yet. handle_advance() follows. */
void handle_fail(struct handle *handle, int error);

/* Lane thread: deliver @event in the handle's strand. */
static inline void handle_post(struct lane *lane, struct handle *handle, struct runnable *event)
{
    lane_post(lane, &handle->strand, event);
}

static inline bool handle_has_flag(struct handle *handle, uint32_t flag)
{
    /* Relaxed: who sets a flag asks the lane to look again. */
    return (load_relaxed(&handle->flags) & flag) != 0;
}

#endif
