/* The operations a lane has in the kernel.
 *
 * user_data of a submission:   63        32 31       0
 *                            +------------+----------+
 *                            | generation |   slot   |      never a pointer
 *                            +------------+----------+
 *
 * A slot is taken at submission and freed at the final completion (no F_MORE); its generation
 * changes then, so a completion that comes too late or twice is recognised, counted and dropped.
 *
 * Lane thread only. Invariant: live_count slots are taken, each by one operation in the kernel.
 */
#ifndef RONDO_RING_OP_TABLE_H
#define RONDO_RING_OP_TABLE_H

#include "check.h"

#include <stdbool.h>
#include <stdint.h>

struct lane;

/* One row per kind of operation, beside its implementation. */
struct op_kind {
    const char *name;
    /* Called for each completion; @flags as the kernel set them. After the final one (no F_MORE)
     * the slot is free already. */
    void (*complete)(struct lane *lane, void *owner, int32_t result, uint32_t flags);
};

struct op {
    const struct op_kind *kind; /* NULL: the slot is free */
    void *owner;
    uint32_t generation;
    uint32_t next_free;
};

struct op_table {
    struct op *ops;
    uint32_t capacity;
    uint32_t free_head;
    uint32_t live_count;
};

#define OP_NONE UINT32_MAX

/* user_data of a submission whose completion nobody needs: no slot is ever that high. */
#define OP_UNTRACKED UINT64_MAX

int op_table_init(struct op_table *table);
void op_table_fini(struct op_table *table);

/* Takes a slot and writes the user_data for its submission. False: no memory for another one. */
bool op_take(struct op_table *table, const struct op_kind *kind, void *owner,
             uint64_t *ret_user_data);

/* The operation that this completion belongs to, or NULL when it is stale. */
struct op *op_find(struct op_table *table, uint64_t user_data);

void op_free(struct op_table *table, struct op *op);

#endif
