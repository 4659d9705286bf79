/* Slab allocation: two magazines in each thread, a depot of magazines behind a lock.
 *
 * Any thread. A thread that ends gives its magazines back to the depot.
 */
#include "slab.h"

#include "check.h"
#include "fork.h"
#include "sys.h"

#include <pthread.h>

enum { SLAB_AHEAD = 4 }; /* nodes fetched before they are asked for */

/* The thread's own: it allocates from and frees into @loaded, and swaps when that runs out. */
struct slab_cache {
    struct slab *slab;
    struct magazine *loaded;
    struct magazine *spare;
};

static _Thread_local struct slab_cache caches[_SLAB_COUNT];
static pthread_key_t cleanup_key;
static pthread_once_t cleanup_once = PTHREAD_ONCE_INIT;

/* Under the lock. */
static void depot_put(struct slab *slab, struct magazine *magazine)
{
    struct magazine **list = magazine->count > 0 ? &slab->filled : &slab->empty;

    magazine->next = *list;
    *list = magazine;
}

/* Under the lock. */
static struct magazine *depot_take(struct magazine **list)
{
    struct magazine *magazine = *list;

    if (magazine)
        *list = magazine->next;
    return magazine;
}

/* The thread ends: its nodes go back to everybody. */
static void caches_flush(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < _SLAB_COUNT; i++) {
        struct slab_cache *cache = &caches[i];
        if (!cache->slab)
            continue;
        lock_acquire(&cache->slab->lock);
        if (cache->loaded)
            depot_put(cache->slab, cache->loaded);
        if (cache->spare)
            depot_put(cache->slab, cache->spare);
        lock_release(&cache->slab->lock);
        *cache = (struct slab_cache){0};
    }
}

static void cleanup_key_create(void)
{
    int error = pthread_key_create(&cleanup_key, caches_flush);

    RONDO_ASSERT(error == 0);
}

/* The first use of a slab by a thread. */
static void cache_init(struct slab_cache *cache, struct slab *slab)
{
    (void)pthread_once(&cleanup_once, cleanup_key_create);
    lock_acquire(&slab->lock);
    bool is_first = !slab->fork_held;
    slab->fork_held = true;
    lock_release(&slab->lock);
    if (is_first)
        fork_hold(&slab->lock);
    (void)pthread_setspecific(cleanup_key, caches);
    cache->slab = slab;
}

static bool chunk_add(struct slab *slab)
{
    char *chunk;

    if (slab->chunk_count == SLAB_CHUNK_COUNT_MAX)
        return false;
    chunk = sys.alloc_aligned((size_t)SLAB_CHUNK_NODE_COUNT * slab->node_size);
    if (!chunk)
        return false;
    for (uint32_t i = 0; i < SLAB_CHUNK_NODE_COUNT && slab->node_init; i++)
        slab->node_init(chunk + (size_t)i * slab->node_size,
                        slab->chunk_count * SLAB_CHUNK_NODE_COUNT + i);
    /* Pairs with the acquire load in slab_at(): the nodes are initialised first. */
    store_release(&slab->chunks[slab->chunk_count], chunk);
    slab->chunk_count++;
    slab->carved_count = 0;
    return true;
}

/* Fill @magazine with loose nodes and new ones. Under the lock. */
static void fill(struct slab *slab, struct magazine *magazine)
{
    while (magazine->count < SLAB_MAGAZINE_SIZE && slab->loose) {
        void **node = slab->loose;
        slab->loose = *node;
        magazine->nodes[magazine->count++] = node;
    }
    while (magazine->count < SLAB_MAGAZINE_SIZE) {
        bool none_left = slab->chunk_count == 0 || slab->carved_count == SLAB_CHUNK_NODE_COUNT;
        if (none_left && !chunk_add(slab))
            return;
        /* Relaxed: written under this lock. */
        char *chunk = load_relaxed(&slab->chunks[slab->chunk_count - 1]);
        magazine->nodes[magazine->count++] = chunk + (size_t)slab->carved_count++ * slab->node_size;
    }
}

static struct magazine *magazine_new(void)
{
    return sys.alloc(sizeof(struct magazine));
}

/* Both magazines are empty: change one for a filled one. */
static bool refill(struct slab *slab, struct slab_cache *cache)
{
    if (!cache->slab)
        cache_init(cache, slab);
    lock_acquire(&slab->lock);
    struct magazine *filled = depot_take(&slab->filled);
    if (filled && cache->loaded)
        depot_put(slab, cache->loaded);
    if (filled)
        cache->loaded = filled;
    else if (!cache->loaded && !(cache->loaded = depot_take(&slab->empty)))
        cache->loaded = magazine_new();
    if (!filled && cache->loaded)
        fill(slab, cache->loaded);
    lock_release(&slab->lock);
    return cache->loaded && cache->loaded->count > 0;
}

static void swap(struct slab_cache *cache)
{
    struct magazine *loaded = cache->loaded;

    cache->loaded = cache->spare;
    cache->spare = loaded;
}

void *slab_alloc(struct slab *slab)
{
    struct slab_cache *cache = &caches[slab->id];

    if (unlikely(!cache->loaded || cache->loaded->count == 0)) {
        if (cache->spare && cache->spare->count > 0)
            swap(cache);
        else if (!refill(slab, cache))
            return NULL;
    }
    struct magazine *magazine = cache->loaded;
    void *node = magazine->nodes[--magazine->count];
    if (likely(magazine->count >= SLAB_AHEAD))
        __builtin_prefetch(magazine->nodes[magazine->count - SLAB_AHEAD], 1);
    return node;
}

/* Both magazines are full: change one for an empty one. False: no memory for it. */
static bool make_room(struct slab *slab, struct slab_cache *cache)
{
    struct magazine *empty;

    if (!cache->slab)
        cache_init(cache, slab);
    lock_acquire(&slab->lock);
    empty = depot_take(&slab->empty);
    lock_release(&slab->lock);
    if (!empty && !(empty = magazine_new()))
        return false;
    if (cache->loaded) {
        swap(cache); /* The full one stays at hand, the full spare goes. */
        if (cache->loaded) {
            lock_acquire(&slab->lock);
            depot_put(slab, cache->loaded);
            lock_release(&slab->lock);
        }
    }
    cache->loaded = empty;
    return true;
}

void slab_free(struct slab *slab, void *node)
{
    struct slab_cache *cache = &caches[slab->id];

    if (unlikely(!cache->loaded || cache->loaded->count == SLAB_MAGAZINE_SIZE)) {
        if (cache->spare && cache->spare->count < SLAB_MAGAZINE_SIZE) {
            swap(cache);
        } else if (!make_room(slab, cache)) {
            lock_acquire(&slab->lock);
            *(void **)node = slab->loose;
            slab->loose = node;
            lock_release(&slab->lock);
            return;
        }
    }
    cache->loaded->nodes[cache->loaded->count++] = node;
}
