/* A worker's own share of ready work: the owner pushes and takes, idle workers steal half.
 *
 * A ring of LOCAL_QUEUE_SIZE slots. The owner alone writes the tail; whoever takes, the owner or a
 * thief, advances the head by compare-and-swap, and a slot counts only if that succeeds. The owner
 * never overwrites a slot before the head has passed it, so a thief that read a stale slot fails
 * its compare-and-swap.
 *
 * Invariants: (1) tail - head <= LOCAL_QUEUE_SIZE; (2) slots head..tail-1 are full.
 * Order: FIFO for the owner, and a thief takes the oldest. Linearisation: the head's exchange.
 */
#ifndef RONDO_QUEUE_LOCAL_QUEUE_H
#define RONDO_QUEUE_LOCAL_QUEUE_H

#include "atomics.h"
#include "check.h"
#include "node.h"

enum { LOCAL_QUEUE_SIZE = 256 };

struct local_queue {
    CACHE_ALIGNED _Atomic uint32_t head;
    CACHE_ALIGNED _Atomic uint32_t tail;
    _Atomic(struct node *) slots[LOCAL_QUEUE_SIZE];
};

static inline uint32_t local_queue_depth(struct local_queue *queue)
{
    /* Relaxed: a hint unless the caller fenced. Head first: it never passes a tail read later. */
    uint32_t head = load_relaxed(&queue->head);

    return load_relaxed(&queue->tail) - head;
}

/* Owner only; false when full. */
static inline bool local_queue_push(struct local_queue *queue, struct node *node)
{
    uint32_t tail = load_relaxed(&queue->tail); /* Relaxed: only the owner writes it. */

    /* Acquire pairs with the exchanges that advance the head: the slot was read before. */
    if (tail - load_acquire(&queue->head) >= LOCAL_QUEUE_SIZE)
        return false;
    store_relaxed(&queue->slots[tail % LOCAL_QUEUE_SIZE], node); /* Published by the tail. */
    store_release(&queue->tail, tail + 1); /* Pairs with the acquire in local_queue_steal(). */
    return true;
}

/* Owner only: the oldest node, or NULL. */
static inline struct node *local_queue_take(struct local_queue *queue)
{
    uint32_t head = load_relaxed(&queue->head); /* Relaxed: the exchange validates it. */

    for (;;) {
        uint32_t tail = load_relaxed(&queue->tail); /* Relaxed: only the owner writes it. */
        if (head == tail)
            return NULL;
        /* Relaxed: the owner wrote it. */
        struct node *node = load_relaxed(&queue->slots[head % LOCAL_QUEUE_SIZE]);
        /* Pairs with the acquire of the head in local_queue_push(). */
        if (cas_weak_acq_rel(&queue->head, &head, head + 1))
            return node;
    }
}

/* Any thread: up to half of what is inside, at most @count, oldest first; how many. */
static inline uint32_t local_queue_steal(struct local_queue *queue, struct node **ret_nodes,
                                         uint32_t count)
{
    uint32_t head = load_acquire(&queue->head); /* Before the tail: pairs with other takers. */

    for (;;) {
        /* Pairs with the release in local_queue_push(): the slots are written. */
        uint32_t depth = load_acquire(&queue->tail) - head;
        uint32_t half = depth - depth / 2;

        if (depth == 0)
            return 0;
        if (depth > LOCAL_QUEUE_SIZE) {        /* head is stale: look again */
            head = load_acquire(&queue->head); /* Pairs with other takers. */
            continue;
        }
        if (half > count)
            half = count;
        /* Relaxed: complete since the tail was acquired, void if the exchange fails. */
        for (uint32_t i = 0; i < half; i++)
            ret_nodes[i] = load_relaxed(&queue->slots[(head + i) % LOCAL_QUEUE_SIZE]);
        /* Pairs with the acquire of the head in local_queue_push(). */
        if (cas_acq_rel(&queue->head, &head, head + half))
            return half;
    }
}

#endif
