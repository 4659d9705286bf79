/* A futex mutex for critical sections of a few instructions. Any thread.
 *
 *      0 free --acquire--> 1 held --somebody waits--> 2 held, waiters --release--> 0 + wake one
 *
 * Not recursive, not fair. The holder must not block.
 */
#ifndef RONDO_BASE_LOCK_H
#define RONDO_BASE_LOCK_H

#include "atomics.h"
#include "check.h"
#include "clock.h"
#include "sys.h"

struct lock {
    _Atomic uint32_t word;
};

enum lock_state { LOCK_FREE, LOCK_HELD, LOCK_CONTENDED };
enum { LOCK_SPIN_COUNT = 40 };

static inline bool lock_try_acquire(struct lock *lock)
{
    uint32_t expected = LOCK_FREE;

    /* Pairs with the exchange in lock_release(). */
    return cas_acq_rel(&lock->word, &expected, LOCK_HELD);
}

static inline void lock_acquire_slow(struct lock *lock)
{
    for (int i = 0; i < LOCK_SPIN_COUNT; i++) {
        /* Relaxed: only a hint, the acquiring CAS decides. */
        if (load_relaxed(&lock->word) == LOCK_FREE && lock_try_acquire(lock))
            return;
        cpu_relax();
    }
    /* Pairs with the exchange in lock_release(). */
    while (exchange_acq_rel(&lock->word, LOCK_CONTENDED) != LOCK_FREE)
        (void)sys.futex_wait(&lock->word, LOCK_CONTENDED, UINT32_MAX, DEADLINE_NEVER);
}

static inline void lock_acquire(struct lock *lock)
{
    if (unlikely(!lock_try_acquire(lock)))
        lock_acquire_slow(lock);
}

static inline void lock_release(struct lock *lock)
{
    /* Publishes the section to the next holder's acquire. */
    uint32_t old = exchange_acq_rel(&lock->word, LOCK_FREE);

    RONDO_ASSERT(old != LOCK_FREE);
    if (unlikely(old == LOCK_CONTENDED))
        (void)sys.futex_wake(&lock->word, 1, UINT32_MAX);
}

#endif
