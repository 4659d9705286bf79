/* A latch: closed until it is set, once; whoever waits for it goes on then. Any thread.
 *
 * What the setter did before is seen by those who waited.
 */
#ifndef RONDO_BASE_LATCH_H
#define RONDO_BASE_LATCH_H

#include "atomics.h"
#include "clock.h"
#include "sys.h"

struct latch {
    _Atomic uint32_t word; /* 1: set */
};

static inline bool latch_is_set(struct latch *latch)
{
    return load_acquire(&latch->word) != 0; /* Pairs with latch_set(). */
}

static inline void latch_set(struct latch *latch)
{
    store_release(&latch->word, 1); /* Pairs with latch_is_set(). */
    (void)sys.futex_wake(&latch->word, INT32_MAX, UINT32_MAX);
}

static inline void latch_wait(struct latch *latch)
{
    while (!latch_is_set(latch))
        (void)sys.futex_wait(&latch->word, 0, UINT32_MAX, DEADLINE_NEVER);
}

#endif
