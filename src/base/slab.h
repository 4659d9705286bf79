/* Equal-sized nodes for the whole process, handed out and taken back by any thread.
 *
 * Each thread keeps two magazines of free nodes; full and empty magazines change hands in a depot
 * under a lock, so a thread that only allocates and one that only frees meet the lock once per
 * SLAB_MAGAZINE_SIZE nodes. A magazine holds pointers, and a free node is not touched, so the next
 * nodes can be fetched from another processor's cache before they are needed.
 *
 * Memory is never returned to the system: a node's address stays readable for ever, which is what
 * lets a stale handle be looked up safely.
 *
 * Invariants: (1) a free node is in one place: a magazine, the loose list, or not carved yet;
 * (2) only the loose list writes into a free node, its first pointer; (3) at most
 * SLAB_NODE_COUNT_MAX nodes exist.
 */
#ifndef RONDO_BASE_SLAB_H
#define RONDO_BASE_SLAB_H

#include "atomics.h"
#include "lock.h"

enum {
    SLAB_MAGAZINE_SIZE = 62,
    SLAB_CHUNK_NODE_COUNT = 1024,
    SLAB_CHUNK_COUNT_MAX = 16384,
    SLAB_NODE_COUNT_MAX = SLAB_CHUNK_NODE_COUNT * SLAB_CHUNK_COUNT_MAX,
};

/* One row per slab of the process; its cache is found in thread-local storage by this number. */
enum slab_id {
    SLAB_CALLBACK,
    SLAB_WRITE,
    SLAB_OPERATION,
    SLAB_PACKET,
    SLAB_PACKET_LARGE,
    SLAB_BURST,
    _SLAB_COUNT
};

struct magazine {
    struct magazine *next;
    uint32_t count;
    void *nodes[SLAB_MAGAZINE_SIZE];
};

struct slab {
    enum slab_id id;
    uint32_t node_size;
    /* Called once for each node, when its memory is new. May be NULL. */
    void (*node_init)(void *node, uint32_t index);

    struct lock lock;
    /* Under the lock. */
    struct magazine *filled; /* with at least one node each */
    struct magazine *empty;
    bool fork_held; /* the lock is held across forks */
    void *loose;    /* nodes that came when there was no memory for a magazine */
    uint32_t chunk_count;
    uint32_t carved_count; /* nodes handed out from the newest chunk */

    _Atomic(char *) chunks[SLAB_CHUNK_COUNT_MAX];
};

/* A node, or NULL when memory or SLAB_NODE_COUNT_MAX is exhausted. */
void *slab_alloc(struct slab *slab);

void slab_free(struct slab *slab, void *node);

/* The node with this index, or NULL if there is no memory behind it. */
static inline void *slab_at(struct slab *slab, uint32_t index)
{
    if (index >= SLAB_NODE_COUNT_MAX)
        return NULL;
    /* Pairs with the release store in slab.c that publishes the chunk. */
    char *chunk = load_acquire(&slab->chunks[index / SLAB_CHUNK_NODE_COUNT]);
    return chunk ? chunk + (size_t)(index % SLAB_CHUNK_NODE_COUNT) * slab->node_size : NULL;
}

#endif
