/* Registering memory; see regions.h. Lane thread only. */
#include "regions.h"

#include "check.h"

#include <errno.h>

int32_t region_add(struct regions *regions, struct ring *ring, void *memory, size_t size)
{
    uint32_t place = 0;
    int error;

    if (!regions->has_table)
        regions->has_table = ring_buffers_register(ring, REGION_COUNT_MAX);
    if (!regions->has_table)
        return -EOPNOTSUPP;
    while (place < REGION_COUNT_MAX && regions->places[place].size > 0)
        place++;
    if (place == REGION_COUNT_MAX)
        return -ENOSPC;
    error = ring_buffer_set(ring, place, memory, size);
    if (error)
        return error;
    regions->places[place].begin = (uintptr_t)memory;
    regions->places[place].size = size;
    if (place >= regions->used_end)
        regions->used_end = place + 1;
    return (int32_t)place;
}

void region_remove(struct regions *regions, struct ring *ring, int32_t place)
{
    int error = ring_buffer_set(ring, (uint32_t)place, NULL, 0);

    RONDO_ASSERT(error == 0); /* The kernel would keep the memory. */
    regions->places[place].size = 0;
    while (regions->used_end > 0 && regions->places[regions->used_end - 1].size == 0)
        regions->used_end--;
}
