/* The ready queue: any thread pushes, any worker takes, nothing is refused and nothing is lost.
 *
 * An intrusive FIFO under a lock that is held for a handful of instructions: a batch goes in or
 * out in one section, so a busy lane or a worker that takes a share of the queue meets the lock
 * once per batch. Measured against lock-free forms in docs/adr/0002-ready-queue.md.
 *
 * Invariants: (1) first to last are linked, depth of them; (2) taken + depth == pushed;
 * (3) counters change under the lock only, and may be read at any time.
 */
#ifndef RONDO_QUEUE_READY_QUEUE_H
#define RONDO_QUEUE_READY_QUEUE_H

#include "atomics.h"
#include "check.h"
#include "lock.h"
#include "node.h"

struct ready_queue {
    CACHE_ALIGNED struct lock lock;
    struct chain chain;
    _Atomic uint32_t depth;
    _Atomic uint64_t pushed;
};

/* Puts the nodes of @chain behind all others and empties it. */
static inline void ready_queue_push(struct ready_queue *queue, struct chain *chain)
{
    uint32_t count = chain->count;

    RONDO_ASSERT(count > 0);
    lock_acquire(&queue->lock);
    chain_join(&queue->chain, chain);
    /* Both relaxed: written under the lock; who must not miss them fences, see parker.h. */
    store_relaxed(&queue->depth, queue->chain.count);
    count_add(&queue->pushed, count);
    lock_release(&queue->lock);
}

/* Takes up to @count nodes from the front into @ret_nodes; how many. */
static inline uint32_t ready_queue_take(struct ready_queue *queue, struct node **ret_nodes,
                                        uint32_t count)
{
    uint32_t taken = 0;

    /* Relaxed: an empty answer may be late, parking looks again after a fence. */
    if (load_relaxed(&queue->depth) == 0)
        return 0;
    lock_acquire(&queue->lock);
    while (taken < count && queue->chain.first)
        ret_nodes[taken++] = chain_take(&queue->chain);
    store_relaxed(&queue->depth, queue->chain.count); /* Relaxed: as in push. */
    lock_release(&queue->lock);
    return taken;
}

/* Nodes waiting now. A hint unless the caller fenced. */
static inline uint32_t ready_queue_depth(struct ready_queue *queue)
{
    return load_relaxed(&queue->depth); /* Relaxed: see above. */
}

/* Nodes ever pushed, and with the depth those ever taken: tells whether the oldest moved. */
static inline uint64_t ready_queue_pushed(struct ready_queue *queue)
{
    return load_relaxed(&queue->pushed); /* Relaxed: a statistic. */
}

#endif
