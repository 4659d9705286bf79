/* A doorbell: wakes a thread that sleeps in its ring. Rung by any thread; the owner keeps a poll
 * of the descriptor armed in its ring.
 *
 * A worker that has more callbacks to run may owe the ring for a moment instead of paying at once,
 * so that several replies leave in one batch. What is owed is paid by whoever comes first: the
 * worker at the end of its batch, or the scheduler's watch if that worker got stuck.
 */
#ifndef RONDO_BASE_BELL_H
#define RONDO_BASE_BELL_H

#include "atomics.h"
#include "check.h"
#include "sys.h"

struct bell {
    int fd;
    _Atomic bool owed;
};

static inline int bell_init(struct bell *bell)
{
    bell->fd = sys.event_create();
    store_relaxed(&bell->owed, false); /* Relaxed: not shared yet. */
    return bell->fd < 0 ? bell->fd : 0;
}

static inline void bell_fini(struct bell *bell)
{
    if (bell->fd >= 0)
        (void)sys.close(bell->fd);
    bell->fd = -1;
}

static inline void bell_ring(struct bell *bell)
{
    int error = sys.event_ring(bell->fd);

    RONDO_ASSERT(error == 0);
}

static inline void bell_owe(struct bell *bell)
{
    /* Pairs with the exchange in bell_pay(): the payer rings after what was pushed before. */
    store_release(&bell->owed, true);
}

static inline void bell_pay(struct bell *bell)
{
    /* Relaxed look first: a debt made just now is seen by the worker that made it. */
    if (load_relaxed(&bell->owed) && exchange_acq_rel(&bell->owed, false))
        bell_ring(bell);
}

#endif
