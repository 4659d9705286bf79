/* Slab allocation: a cache in each thread, a depot of batches behind a lock.
 *
 * Any thread. A thread that ends gives its cached nodes back to the depot.
 */
#include "slab.h"

#include "check.h"
#include "sys.h"

#include <pthread.h>
#include <string.h>

/* The first bytes of a free node: the next in its batch, and in a batch's first the next batch. */
struct free_node {
    struct free_node *next;
    struct free_node *next_batch;
};

struct slab_cache {
    struct slab *slab;
    struct free_node *head; /* at most 2 * SLAB_BATCH_SIZE nodes */
    uint32_t count;
};

static _Thread_local struct slab_cache caches[_SLAB_COUNT];
static _Thread_local bool cleanup_armed;
static pthread_key_t cleanup_key;
static pthread_once_t cleanup_once = PTHREAD_ONCE_INIT;

static void depot_push(struct slab *slab, struct free_node *batch)
{
    lock_acquire(&slab->lock);
    batch->next_batch = slab->depot;
    slab->depot = batch;
    lock_release(&slab->lock);
}

/* The thread ends: its nodes, in batches of any size, go back to everybody. */
static void caches_flush(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < _SLAB_COUNT; i++) {
        if (caches[i].head)
            depot_push(caches[i].slab, caches[i].head);
        caches[i].head = NULL;
        caches[i].count = 0;
    }
    cleanup_armed = false;
}

static void cleanup_key_create(void)
{
    int error = pthread_key_create(&cleanup_key, caches_flush);

    RONDO_ASSERT(error == 0);
}

static void cleanup_arm(void)
{
    (void)pthread_once(&cleanup_once, cleanup_key_create);
    (void)pthread_setspecific(cleanup_key, caches);
    cleanup_armed = true;
}

/* A batch of new nodes from the newest chunk, or NULL. Under the lock. */
static struct free_node *batch_carve(struct slab *slab)
{
    struct free_node *batch = NULL;

    if (slab->chunk_count == 0 || slab->carved_count == SLAB_CHUNK_NODE_COUNT) {
        if (slab->chunk_count == SLAB_CHUNK_COUNT_MAX)
            return NULL;
        char *chunk = sys.alloc_aligned((size_t)SLAB_CHUNK_NODE_COUNT * slab->node_size);
        if (!chunk)
            return NULL;
        for (uint32_t i = 0; i < SLAB_CHUNK_NODE_COUNT && slab->node_init; i++)
            slab->node_init(chunk + (size_t)i * slab->node_size,
                            slab->chunk_count * SLAB_CHUNK_NODE_COUNT + i);
        /* Pairs with the acquire load in slab_at(): the nodes are initialised first. */
        store_release(&slab->chunks[slab->chunk_count], chunk);
        slab->chunk_count++;
        slab->carved_count = 0;
    }
    /* Relaxed: written above or under this lock. */
    char *chunk = load_relaxed(&slab->chunks[slab->chunk_count - 1]);
    for (uint32_t i = SLAB_BATCH_SIZE; i > 0; i--) {
        size_t at = slab->carved_count + i - 1;
        struct free_node *node = (void *)(chunk + at * slab->node_size);
        node->next = batch;
        batch = node;
    }
    slab->carved_count += SLAB_BATCH_SIZE;
    return batch;
}

static bool cache_refill(struct slab *slab, struct slab_cache *cache)
{
    struct free_node *batch;

    if (!cleanup_armed)
        cleanup_arm();
    lock_acquire(&slab->lock);
    batch = slab->depot;
    if (batch)
        slab->depot = batch->next_batch;
    else
        batch = batch_carve(slab);
    lock_release(&slab->lock);
    if (!batch)
        return false;

    cache->slab = slab;
    cache->head = batch;
    cache->count = 0;
    for (struct free_node *node = batch; node; node = node->next)
        cache->count++;
    return true;
}

void *slab_alloc(struct slab *slab)
{
    struct slab_cache *cache = &caches[slab->id];

    if (unlikely(!cache->head) && !cache_refill(slab, cache))
        return NULL;
    struct free_node *node = cache->head;
    cache->head = node->next;
    cache->count--;
    __builtin_prefetch(cache->head, 1); /* Another processor may have used it last. */
    return node;
}

void slab_free(struct slab *slab, void *memory)
{
    struct slab_cache *cache = &caches[slab->id];
    struct free_node *node = memory;

    if (unlikely(!cleanup_armed))
        cleanup_arm();
    cache->slab = slab;
    node->next = cache->head;
    cache->head = node;
    cache->count++;
    if (cache->count >= 2 * SLAB_BATCH_SIZE) {
        /* Keep the newer half, which is warm, and give the older one away. */
        struct free_node *keep = cache->head;
        for (uint32_t i = 1; i < SLAB_BATCH_SIZE; i++)
            keep = keep->next;
        struct free_node *batch = keep->next;
        keep->next = NULL;
        cache->count -= SLAB_BATCH_SIZE;
        depot_push(slab, batch);
    }
}
