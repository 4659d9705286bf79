/* The gate for calls from outside that put callbacks into the loop: it counts who is inside, so
 * that the loop can close it and know that nothing comes in any more. Any thread.
 *
 * Word:   63            1    0
 *       +----------------+--------+
 *       | callers inside | closed |
 *       +----------------+--------+
 */
#ifndef RONDO_LOOP_GATE_H
#define RONDO_LOOP_GATE_H

#include "atomics.h"
#include "clock.h"

struct gate {
    CACHE_ALIGNED _Atomic uint64_t word;
};

static inline bool gate_is_closed(struct gate *gate)
{
    return load_acquire(&gate->word) & 1; /* Pairs with gate_close(). */
}

/* False: the gate is closed. True: the caller is inside until gate_leave(). */
static inline bool gate_enter(struct gate *gate)
{
    /* Pairs with gate_close(). */
    if (!(add_acq_rel(&gate->word, 2) & 1))
        return true;
    (void)sub_acq_rel(&gate->word, 2);
    return false;
}

static inline void gate_leave(struct gate *gate)
{
    (void)sub_acq_rel(&gate->word, 2); /* Pairs with the loads in gate_close(). */
}

/* Refuse newcomers, and wait the moment until those inside have left. */
static inline void gate_close(struct gate *gate)
{
    (void)or_acq_rel(&gate->word, 1);      /* Pairs with gate_enter(). */
    while (load_acquire(&gate->word) != 1) /* Pairs with gate_leave(). */
        clock_nap_ns(NS_PER_MS / 20);
}

#endif
