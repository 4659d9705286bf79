/* A strand: a mailbox of events that runs on one worker at a time, in order.
 *
 *   mailbox ASLEEP (idle) --first push--> in the ready queue --worker--> running
 *        ^                                      ^                           |
 *        |                                      +---- events are left ------+
 *        +------------------------- none left ------------------------------+
 *
 * The pusher that finds the mailbox ASLEEP schedules the strand, and nobody else does, so it is in
 * the ready queue at most once and on one worker at most. Model: tests/model/strand.pml.
 *
 * Invariants: (1) while scheduled or running the strand holds a reference to itself; (2) only the
 * running worker touches @pending.
 */
#ifndef RONDO_SCHED_STRAND_H
#define RONDO_SCHED_STRAND_H

#include "inbox.h"
#include "runnable.h"

struct pool;

/* Events a strand runs before others get their turn. */
enum { STRAND_BUDGET = 64 };

struct strand {
    struct runnable runnable;
    struct inbox mailbox;
    struct chain pending;
    struct pool *pool;
    _Atomic uint32_t refs;
    /* Called by whoever drops the last reference. */
    void (*destroy)(struct strand *strand);
};

/* One reference, the caller's. */
void strand_init(struct strand *strand, struct pool *pool, void (*destroy)(struct strand *strand));

void strand_ref(struct strand *strand);
void strand_unref(struct strand *strand);

/* Any thread: put an event at the end. True: the strand was idle, and the caller must push
 * strand->runnable on the ready queue (a lane gathers several first). */
bool strand_push(struct strand *strand, struct runnable *event);

/* strand_push() that also schedules. */
void strand_post(struct strand *strand, struct runnable *event);

#endif
