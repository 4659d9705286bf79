/* Where workers sleep when there is nothing to do, and how they are woken: once for each piece of
 * work, never all for one, never none.
 *
 * One word:   31       30          29 15             14 0
 *           +--------+-----------+----------------+----------------+
 *           | closed | searching | tokens granted | idle workers   |
 *           +--------+-----------+----------------+----------------+
 *
 * A worker that found nothing becomes idle (idle++), looks at the queues again, and sleeps while
 * there is no token. A waker turns idle workers into tokens in one step, so work that arrives
 * before they have got up is not announced to them twice. A token is persistent: whoever is idle
 * takes it and looks for work. One worker at a time may be searching: it is awake and will look
 * again before it sleeps, so, like a token, it counts as a worker that comes.
 *
 * Lost wake-ups are excluded because the waker pushes before it reads the word and the worker
 * announces itself before it looks again: for the shared queue its lock puts the two in order, for
 * a worker's own queue a fence on each side does. Who takes work and sees more of it wakes the
 * next. Model: tests/model/park.pml.
 *
 * Invariant: idle + tokens <= workers alive.
 */
#ifndef RONDO_QUEUE_PARKER_H
#define RONDO_QUEUE_PARKER_H

#include "atomics.h"
#include "check.h"
#include "clock.h"
#include "sys.h"

#include <errno.h>

struct parker {
    CACHE_ALIGNED _Atomic uint32_t word;
};

#define PARKER_IDLE_MASK UINT32_C(0x7fff)
#define PARKER_TOKEN UINT32_C(0x8000)
#define PARKER_TOKEN_MASK UINT32_C(0x3fff8000)
#define PARKER_SEARCHING UINT32_C(0x40000000)
#define PARKER_CLOSED UINT32_C(0x80000000)

/* Regular workers are woken before surplus ones, so that surplus ones get their rest and retire. */
enum parker_rank { PARKER_REGULAR = 1, PARKER_SURPLUS = 2 };

enum park_outcome { PARK_WOKEN, PARK_CLOSED, PARK_TIMED_OUT };

/* Become the one that searches. False: there is one. */
static inline bool parker_search(struct parker *parker)
{
    if (load_relaxed(&parker->word) & PARKER_SEARCHING) /* Relaxed: the exchange decides. */
        return false;
    return !(or_seq_cst(&parker->word, PARKER_SEARCHING) & PARKER_SEARCHING);
}

/* The searcher found work. */
static inline void parker_search_end(struct parker *parker)
{
    (void)and_seq_cst(&parker->word, ~PARKER_SEARCHING);
}

/* Announce that this worker found nothing; it no longer searches if it did. It must look again,
 * then leave or sleep. */
static inline void parker_announce(struct parker *parker, bool was_searching)
{
    /* One step: a waker sees it searching, or idle. Pairs with the load in parker_wake(). */
    uint32_t old = add_seq_cst(&parker->word, was_searching ? 1 - PARKER_SEARCHING : 1);

    RONDO_ASSERT((old & PARKER_IDLE_MASK) < PARKER_IDLE_MASK);
    fence_seq_cst(); /* Pairs with the fence in pool_post(): the look comes after. */
}

/* Leave: with a granted token if there is one, else by taking the announcement back. */
static inline bool parker_leave(struct parker *parker)
{
    uint32_t old = load_relaxed(&parker->word); /* Relaxed: the exchange validates it. */
    uint32_t next;

    do {
        RONDO_ASSERT(old & (PARKER_TOKEN_MASK | PARKER_IDLE_MASK));
        next = old & PARKER_TOKEN_MASK ? old - PARKER_TOKEN : old - 1;
        /* Pairs with the exchange in parker_wake(): a token is granted once and taken once. */
    } while (!cas_weak_seq_cst(&parker->word, &old, next));
    return (old & PARKER_TOKEN_MASK) != 0;
}

/* Sleep until a token is granted, the parker is closed or @deadline_ns has come. */
static inline enum park_outcome parker_sleep(struct parker *parker, enum parker_rank rank,
                                             uint64_t deadline_ns)
{
    for (;;) {
        uint32_t seen = load_seq_cst(&parker->word); /* Pairs with the exchange in wake. */
        int result;

        if (seen & (PARKER_TOKEN_MASK | PARKER_CLOSED)) {
            (void)parker_leave(parker);
            return seen & PARKER_CLOSED ? PARK_CLOSED : PARK_WOKEN;
        }
        result = sys.futex_wait(&parker->word, seen, rank, deadline_ns);
        if (result == -ETIMEDOUT)
            return parker_leave(parker) ? PARK_WOKEN : PARK_TIMED_OUT;
    }
}

/* @count pieces of work were pushed: see that as many workers come, as far as there are idle ones.
 * How many were woken for it: fewer than @count means that some work depends on workers who were
 * on their way already, or busy. */
static inline uint32_t parker_wake(struct parker *parker, uint32_t count)
{
    uint32_t old = load_seq_cst(&parker->word); /* After the push; pairs with parker_announce(). */
    uint32_t granted;

    do {
        uint32_t idle = old & PARKER_IDLE_MASK;
        uint32_t coming = (old & PARKER_TOKEN_MASK) / PARKER_TOKEN;
        if (old & PARKER_SEARCHING)
            coming++;
        if (coming >= count || idle == 0)
            return 0;
        granted = count - coming < idle ? count - coming : idle;
        /* Pairs with the loads in parker_sleep() and parker_leave(). */
    } while (!cas_weak_seq_cst(&parker->word, &old, old - granted + granted * PARKER_TOKEN));

    int woken = sys.futex_wake(&parker->word, granted, PARKER_REGULAR);
    if (woken >= 0 && (uint32_t)woken < granted)
        (void)sys.futex_wake(&parker->word, granted - (uint32_t)woken, PARKER_SURPLUS);
    return granted;
}

/* No sleep lasts from here on; workers leave when they find no more work. */
static inline void parker_close(struct parker *parker)
{
    (void)or_seq_cst(&parker->word, PARKER_CLOSED); /* Pairs with the load in parker_sleep(). */
    (void)sys.futex_wake(&parker->word, INT32_MAX, PARKER_REGULAR | PARKER_SURPLUS);
}

/* Workers that are idle and have no token yet: free for new work. A hint. */
static inline uint32_t parker_idle_count(struct parker *parker)
{
    return load_relaxed(&parker->word) & PARKER_IDLE_MASK; /* Relaxed: only a hint. */
}

#endif
