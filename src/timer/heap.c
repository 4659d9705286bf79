/* The four-ary heap of timers; see heap.h. Scheduler thread only. */
#include "heap.h"

#include "sys.h"

#include <string.h>

enum { HEAP_ARITY = 4, HEAP_FIRST_CAPACITY = 64 };

static bool is_before(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->deadline_ns < b->deadline_ns ||
           (a->deadline_ns == b->deadline_ns && a->sequence < b->sequence);
}

static void sift_up(struct heap *heap, uint32_t at, struct heap_entry entry)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / HEAP_ARITY;
        if (!is_before(&entry, &heap->entries[parent]))
            break;
        heap->entries[at] = heap->entries[parent];
        at = parent;
    }
    heap->entries[at] = entry;
}

static void sift_down(struct heap *heap, uint32_t at, struct heap_entry entry)
{
    for (;;) {
        uint64_t first = (uint64_t)at * HEAP_ARITY + 1;
        uint64_t end = first + HEAP_ARITY < heap->count ? first + HEAP_ARITY : heap->count;
        if (first >= heap->count)
            break;
        uint32_t soonest = (uint32_t)first;
        for (uint32_t child = soonest + 1; child < end; child++)
            if (is_before(&heap->entries[child], &heap->entries[soonest]))
                soonest = child;
        if (!is_before(&heap->entries[soonest], &entry))
            break;
        heap->entries[at] = heap->entries[soonest];
        at = soonest;
    }
    heap->entries[at] = entry;
}

static bool grow(struct heap *heap)
{
    uint32_t capacity = heap->capacity ? heap->capacity * 2 : HEAP_FIRST_CAPACITY;
    struct heap_entry *entries = sys.alloc_raw(capacity * sizeof(*entries));

    if (!entries)
        return false;
    if (heap->entries)
        memcpy(entries, heap->entries, heap->count * sizeof(*entries));
    sys.release(heap->entries);
    heap->entries = entries;
    heap->capacity = capacity;
    return true;
}

void heap_fini(struct heap *heap)
{
    sys.release(heap->entries);
    *heap = (struct heap){0};
}

bool heap_push(struct heap *heap, struct callback *callback)
{
    if (heap->count == heap->capacity && !grow(heap))
        return false;
    sift_up(heap, heap->count++,
            (struct heap_entry){callback->deadline_ns, heap->sequence_next++, callback});
    return true;
}

struct callback *heap_pop(struct heap *heap)
{
    RONDO_ASSERT(heap->count > 0);
    struct callback *callback = heap->entries[0].callback;

    heap->count--;
    if (heap->count > 0)
        sift_down(heap, 0, heap->entries[heap->count]);
    return callback;
}

void heap_sweep(struct heap *heap, bool (*drop)(struct callback *callback))
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < heap->count; i++)
        if (!drop(heap->entries[i].callback))
            heap->entries[kept++] = heap->entries[i];
    heap->count = kept;
    /* From the last parent to the root: linear in the number kept. */
    for (uint32_t at = kept / HEAP_ARITY + 1; at-- > 0;)
        if (at < kept)
            sift_down(heap, at, heap->entries[at]);
}
