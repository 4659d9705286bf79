/* How a rondo_handle names a node of a slab: its generation and its index, and which slab it is.
 *
 *   63        32 31          8 7      0
 *  +------------+-------------+--------+
 *  | generation | slab index  | which  |
 *  +------------+-------------+--------+
 *
 * A node's state word has the same upper part and keeps its own flags in the lower eight bits, so
 * that one load tells whether a handle still names it and how it is.
 */
#ifndef RONDO_BASE_HANDLE_ID_H
#define RONDO_BASE_HANDLE_ID_H

#include "rondo/loop.h"

#include "check.h"
#include "slab.h"

#include <stdbool.h>

enum handle_which { HANDLE_CALLBACK = 0, HANDLE_OPERATION = 1 };

#define HANDLE_LOW_MASK UINT64_C(0xff)

RONDO_STATIC_ASSERT(SLAB_NODE_COUNT_MAX <= 1 << 24);

/* The upper part for a new node. Generation 1, so that no handle is zero. */
static inline uint64_t handle_id_first(uint32_t index)
{
    return UINT64_C(1) << 32 | (uint64_t)index << 8;
}

/* The upper part after @state, for the node's next use. */
static inline uint64_t handle_id_next(uint64_t state)
{
    uint64_t next = (state & ~HANDLE_LOW_MASK) + (UINT64_C(1) << 32);

    return next >> 32 ? next : next + (UINT64_C(1) << 32);
}

static inline rondo_handle handle_id_of(uint64_t state, enum handle_which which)
{
    return (rondo_handle){(state & ~HANDLE_LOW_MASK) | which};
}

static inline enum handle_which handle_id_which(rondo_handle handle)
{
    return (enum handle_which)(handle.id & HANDLE_LOW_MASK);
}

static inline uint32_t handle_id_index(rondo_handle handle)
{
    return (uint32_t)handle.id >> 8;
}

static inline bool handle_id_names(rondo_handle handle, uint64_t state)
{
    return ((handle.id ^ state) & ~HANDLE_LOW_MASK) == 0;
}

#endif
