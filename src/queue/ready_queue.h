/* The ready queue: any thread pushes, any worker takes, nothing is refused and nothing is lost.
 *
 * A FIFO under a lock that is held for a handful of instructions: a batch goes in or out in one
 * section, so a busy lane or a worker that takes a share of the queue meets the lock once per
 * batch. A ring of pointers is the usual way through; it grows with the depth, and where it cannot
 * grow, nodes wait in an intrusive chain behind it. Taking pointers from a ring, and not walking a
 * list, keeps cache misses out of the section and lets them overlap outside of it.
 *
 * Pushes from outside of the loop can be closed off, in the same section as the push: what was
 * accepted before is inside, and nothing comes after.
 * Measured against other forms in docs/adr/0002-ready-queue.md.
 *
 * Invariants: (1) everything in the ring is older than everything in the chain; (2) depth is what
 * both hold; (3) both change under the lock only, the two counters may be read at any time.
 */
#ifndef RONDO_QUEUE_READY_QUEUE_H
#define RONDO_QUEUE_READY_QUEUE_H

#include "atomics.h"
#include "check.h"
#include "lock.h"
#include "node.h"

#include <string.h>

enum {
    READY_QUEUE_FIRST_CAPACITY = 256,
    READY_QUEUE_CAPACITY_MAX = 1 << 20,
    READY_QUEUE_REFILL = 64, /* moved from the chain into the ring at a time */
};

struct ready_queue {
    CACHE_ALIGNED struct lock lock;
    uint32_t head;
    uint32_t count;
    uint32_t capacity; /* a power of two */
    struct node **slots;
    struct chain behind;
    bool closed; /* to pushes from outside */
    _Atomic uint32_t depth;
    _Atomic uint64_t pushed;
    struct node *first_slots[READY_QUEUE_FIRST_CAPACITY];
};

static inline void ready_queue_init(struct ready_queue *queue)
{
    *queue = (struct ready_queue){.capacity = READY_QUEUE_FIRST_CAPACITY};
    queue->slots = queue->first_slots;
}

static inline void ready_queue_fini(struct ready_queue *queue)
{
    if (queue->slots != queue->first_slots)
        sys.release(queue->slots);
    queue->slots = NULL;
}

/* Room for one more in the ring. Under the lock. */
static inline bool ready_queue_has_room(struct ready_queue *queue)
{
    if (likely(queue->count < queue->capacity))
        return true;
    if (queue->capacity == READY_QUEUE_CAPACITY_MAX)
        return false;
    struct node **larger = sys.alloc_raw(2 * (size_t)queue->capacity * sizeof(*larger));
    if (!larger)
        return false;
    uint32_t first_part = queue->capacity - queue->head;
    memcpy(larger, queue->slots + queue->head, first_part * sizeof(*larger));
    memcpy(larger + first_part, queue->slots, queue->head * sizeof(*larger));
    if (queue->slots != queue->first_slots)
        sys.release(queue->slots);
    queue->slots = larger;
    queue->head = 0;
    queue->capacity *= 2;
    return true;
}

/* Under the lock. */
static inline void ready_queue_put(struct ready_queue *queue, struct node *node)
{
    if (likely(!queue->behind.first && ready_queue_has_room(queue)))
        queue->slots[(queue->head + queue->count++) & (queue->capacity - 1)] = node;
    else
        chain_append(&queue->behind, node);
}

/* Under the lock. */
static inline void ready_queue_count(struct ready_queue *queue, uint32_t pushed)
{
    /* Both relaxed: written under the lock; who must not miss work looks under it. */
    store_relaxed(&queue->depth, queue->count + queue->behind.count);
    count_add(&queue->pushed, pushed);
}

/* Puts the nodes of @chain behind all others and empties it. */
static inline void ready_queue_push(struct ready_queue *queue, struct chain *chain)
{
    uint32_t pushed = chain->count;
    struct node *node;

    RONDO_ASSERT(pushed > 0);
    lock_acquire(&queue->lock);
    while ((node = chain_take(chain)))
        ready_queue_put(queue, node);
    ready_queue_count(queue, pushed);
    lock_release(&queue->lock);
}

/* Puts one node, from outside of the loop, behind all others. False: the queue is closed. */
static inline bool ready_queue_push_outside(struct ready_queue *queue, struct node *node)
{
    lock_acquire(&queue->lock);
    bool open = !queue->closed;
    if (likely(open)) {
        ready_queue_put(queue, node);
        ready_queue_count(queue, 1);
    }
    lock_release(&queue->lock);
    return open;
}

static inline void ready_queue_close(struct ready_queue *queue)
{
    lock_acquire(&queue->lock);
    queue->closed = true;
    lock_release(&queue->lock);
}

/* Takes up to @count nodes from the front into @ret_nodes; how many. */
static inline uint32_t ready_queue_take(struct ready_queue *queue, struct node **ret_nodes,
                                        uint32_t count)
{
    uint32_t taken = 0;

    /* Relaxed: an empty answer may be late, parking looks again under the lock. */
    if (load_relaxed(&queue->depth) == 0)
        return 0;
    lock_acquire(&queue->lock);
    while (taken < count && queue->count > 0) {
        struct node *node = queue->slots[queue->head];
        __builtin_prefetch(node, 1);
        ret_nodes[taken++] = node;
        queue->head = (queue->head + 1) & (queue->capacity - 1);
        queue->count--;
    }
    for (uint32_t i = 0; i < READY_QUEUE_REFILL && unlikely(queue->behind.first); i++) {
        if (queue->count == queue->capacity)
            break;
        struct node *node = chain_take(&queue->behind);
        queue->slots[(queue->head + queue->count++) & (queue->capacity - 1)] = node;
    }
    if (queue->count == 0)
        queue->head = 0; /* A shallow queue stays in the same few cache lines. */
    store_relaxed(&queue->depth, queue->count + queue->behind.count); /* Relaxed: as in push. */
    lock_release(&queue->lock);
    return taken;
}

/* Nodes waiting now. A hint. */
static inline uint32_t ready_queue_depth(struct ready_queue *queue)
{
    return load_relaxed(&queue->depth); /* Relaxed: a hint. */
}

/* True if nothing is inside, ordered by the lock: a pusher that comes later sees what the caller
 * did before, which is how a worker that announces itself and then looks misses nothing. */
static inline bool ready_queue_is_empty(struct ready_queue *queue)
{
    lock_acquire(&queue->lock);
    bool empty = queue->count == 0 && !queue->behind.first;
    lock_release(&queue->lock);
    return empty;
}

/* Nodes ever pushed, and with the depth those ever taken: tells whether the oldest moved. */
static inline uint64_t ready_queue_pushed(struct ready_queue *queue)
{
    return load_relaxed(&queue->pushed); /* Relaxed: a statistic. */
}

#endif
