/* The timers that wait, soonest first: a heap with four children per entry, so that a million
 * timers are ten levels and one cache line holds most of a level's comparison.
 *
 * Entries compare by (deadline, sequence): equal deadlines come out in the order they went in.
 * Scheduler thread only. Invariant: no entry is before its parent.
 */
#ifndef RONDO_TIMER_HEAP_H
#define RONDO_TIMER_HEAP_H

#include "callback.h"

struct heap_entry {
    uint64_t deadline_ns;
    uint64_t sequence;
    struct callback *callback;
};

struct heap {
    struct heap_entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint64_t sequence_next;
};

void heap_fini(struct heap *heap);

/* False: no memory; the heap is as it was. */
bool heap_push(struct heap *heap, struct callback *callback);

/* The soonest entry, or NULL. */
static inline const struct heap_entry *heap_top(const struct heap *heap)
{
    return heap->count ? &heap->entries[0] : NULL;
}

/* Takes the soonest entry out. */
struct callback *heap_pop(struct heap *heap);

/* Takes out every entry for which @drop says so, in one pass over all. */
void heap_sweep(struct heap *heap, bool (*drop)(struct callback *callback));

#endif
