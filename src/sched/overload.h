/* Overload: ready work waits too long although all workers that may be there are.
 *
 *              age > target, for after_ns
 *      CALM ------------------------------> OVERLOADED
 *        ^                                       |
 *        +---- age <= target / 2, for after_ns --+
 *
 * The age is that of the oldest ready runnable, in the ready queue or in a worker's own queue. Who
 * changes the state tells the lanes, which accept no connection and receive less while it lasts.
 * See docs/adr/0006-overload.md.
 *
 * Looks: the scheduler thread, while it watches the pool. The published numbers: any thread.
 */
#ifndef RONDO_SCHED_OVERLOAD_H
#define RONDO_SCHED_OVERLOAD_H

#include "age.h"
#include "atomics.h"

#include <stdbool.h>

struct pool;

struct overload_options {
    uint64_t target_ns; /* 0: the age is measured, and that is all */
    uint64_t after_ns;
    void (*changed)(void *ctx, bool overloaded);
    void *ctx;
};

/* A worker's own queue, whose counters are narrow. */
struct overload_local {
    struct age age;
    uint64_t taken;
    uint32_t head;
};

struct overload {
    struct overload_options options;
    struct age shared;
    struct overload_local *locals; /* by the worker's slot */
    uint64_t since_ns;             /* on the way to the other state since then; 0: not */

    _Atomic uint64_t shared_age_ns; /* for a worker that takes a share, see overload_share() */
    _Atomic uint64_t age_ns;
    _Atomic uint64_t age_max_ns;
    _Atomic uint64_t count; /* times it was entered */
    _Atomic bool is_on;
};

/* 0 or -ENOMEM. */
int overload_init(struct overload *overload, const struct overload_options *options,
                  uint32_t max_workers);
void overload_fini(struct overload *overload);

/* How often to look while watching. */
uint64_t overload_period_ns(const struct overload *overload, uint64_t watch_period_ns);

/* Scheduler thread: measure, and enter or leave the state. */
void overload_look(struct pool *pool, uint64_t now_ns);

/* Any thread: whether it is on. */
static inline bool overload_is_on(struct overload *overload)
{
    return load_relaxed(&overload->is_on); /* Relaxed: a moment's value. */
}

/* What a worker notes when it took a share of the ready queue and put it into its own: how old the
 * oldest was, and where in its own queue the share ends. One word, so that both fit together. */
static inline uint64_t overload_share(struct overload *overload, uint32_t end)
{
    uint64_t age_us = load_relaxed(&overload->shared_age_ns) / 1000; /* Relaxed: a measurement. */

    return (age_us < UINT32_MAX ? age_us : UINT32_MAX) << 32 | end;
}

#endif
