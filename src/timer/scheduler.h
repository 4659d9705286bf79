/* The scheduler thread: owns the timers and the watch over the worker pool.
 *
 * Timers arrive in its inbox and wait in the heap; at most one absolute timeout is in its ring, and
 * moved only when something nearer arrives. Due timers leave the heap in batches. A cancelled timer
 * stays in the heap until its time, or until cancelled ones are the majority and are swept out.
 *
 * Invariants: (1) the heap and the ring belong to the thread; (2) it sleeps only with its inbox
 * marked asleep; (3) the armed timeout is never later than the nearest deadline.
 */
#ifndef RONDO_TIMER_SCHEDULER_H
#define RONDO_TIMER_SCHEDULER_H

#include "bell.h"
#include "callback.h"
#include "heap.h"
#include "inbox.h"
#include "latch.h"
#include "pool.h"
#include "ring.h"

#include <pthread.h>

struct scheduler {
    struct inbox inbox;
    struct bell bell;
    struct pool *pool;
    uint64_t watch_period_ns;
    uint64_t look_period_ns;
    pthread_t thread;
    bool started;

    struct ring ring;
    struct heap heap;
    struct chain arriving; /* taken from the inbox, not in the heap yet */
    struct __kernel_timespec timeout;
    uint64_t armed_ns; /* the deadline in the ring, DEADLINE_NEVER: none */
    bool bell_armed;
    bool watching;
    uint64_t tick_ns; /* the next tick of the watch */
    uint64_t look_ns; /* the next look for overload, while watching */

    struct callback_holder holder;
    _Atomic uint32_t cancelled_count; /* of those in the heap or the inbox */
    _Atomic uint32_t armed_count;     /* in the heap, for the statistics and the sweep */
    _Atomic bool watch_asked;
    _Atomic bool stopping;
    _Atomic uint64_t fired_count;
    _Atomic uint64_t wake_count;
    int start_error;
    struct latch ready; /* the thread has set up its ring, or failed to */
};

/* Controller: 0, or an error with a text. */
int scheduler_init(struct scheduler *scheduler, struct pool *pool, uint64_t watch_period_ns);
void scheduler_fini(struct scheduler *scheduler);
/* In the child of a fork: scheduler_fini() that leaves the parent's ring and callbacks alone. */
void scheduler_abandon(struct scheduler *scheduler);
int scheduler_start(struct scheduler *scheduler);
void scheduler_stop(struct scheduler *scheduler);

/* Controller, after the thread has ended: what came late and is due goes to the ready queue. */
void scheduler_finish(struct scheduler *scheduler);

/* Any thread: arm a callback that is ARMED, with its deadline set. */
void scheduler_arm(struct scheduler *scheduler, struct callback *callback);

/* Any thread: begin to tick the watch of the pool. */
void scheduler_watch(struct scheduler *scheduler);

#endif
