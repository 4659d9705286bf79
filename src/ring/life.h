/* What is alive on all lanes of a loop together: its handles and its connections.
 *
 * Each lane holds one life until it drains, each handle one until it is closed; whoever drops the
 * last tells the loop that it is quiet. Any thread.
 */
#ifndef RONDO_RING_LIFE_H
#define RONDO_RING_LIFE_H

#include "atomics.h"
#include "check.h"

struct life {
    _Atomic uint64_t count;
    _Atomic uint64_t connections;
    _Atomic uint64_t connections_total;
    uint64_t connections_max;
    void (*quiet)(void *ctx);
    void *ctx;
};

/* One more handle. False: the loop is quiet already. */
static inline bool life_add(struct life *life)
{
    uint64_t count = load_relaxed(&life->count); /* Relaxed: the exchange validates it. */

    do {
        if (count == 0)
            return false;
        /* Pairs with the decrement in life_drop(). */
    } while (!cas_weak_acq_rel(&life->count, &count, count + 1));
    return true;
}

static inline void life_drop(struct life *life, uint64_t number)
{
    uint64_t old = sub_acq_rel(&life->count, number); /* Pairs with life_add() and itself. */

    RONDO_ASSERT(old >= number);
    if (old == number)
        life->quiet(life->ctx);
}

#endif
