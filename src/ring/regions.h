/* Memory that a ring's operations name by its place in a table, so that the kernel has it pinned
 * already. Lane thread only.
 *
 * Invariant: a place is either free, or holds one region that the kernel has registered.
 */
#ifndef RONDO_RING_REGIONS_H
#define RONDO_RING_REGIONS_H

#include "ring.h"

#include <stddef.h>

enum { REGION_COUNT_MAX = 64, REGION_SIZE_MAX = 1 << 30 };

struct regions {
    struct {
        uintptr_t begin;
        size_t size; /* 0: the place is free */
    } places[REGION_COUNT_MAX];
    uint32_t used_end; /* all places from here on are free */
    bool has_table;
};

/* The place of the new region, or -ENOMEM (locked memory), -ENOSPC (the table is full), -EOPNOTSUPP
 * (no table). */
int32_t region_add(struct regions *regions, struct ring *ring, void *memory, size_t size);

void region_remove(struct regions *regions, struct ring *ring, int32_t place);

/* The place of the region that @size bytes from @data on lie in, or -1. */
static inline int32_t region_find(const struct regions *regions, const void *data, size_t size)
{
    for (uint32_t i = 0; i < regions->used_end; i++) {
        /* Memory before the region is a huge offset. */
        size_t offset = (uintptr_t)data - regions->places[i].begin;
        if (offset < regions->places[i].size && size <= regions->places[i].size - offset)
            return (int32_t)i;
    }
    return -1;
}

#endif
