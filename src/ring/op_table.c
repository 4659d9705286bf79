/* Slots with generations; see op_table.h. Lane thread only. */
#include "op_table.h"

#include "sys.h"

#include <errno.h>
#include <string.h>

enum { OP_TABLE_FIRST_CAPACITY = 256, OP_TABLE_CAPACITY_MAX = 1 << 26 };

static bool grow(struct op_table *table, uint32_t capacity)
{
    struct op *ops = sys.alloc(capacity * sizeof(*ops));

    if (!ops)
        return false;
    if (table->ops)
        memcpy(ops, table->ops, table->capacity * sizeof(*ops));
    sys.release(table->ops);
    for (uint32_t i = table->capacity; i < capacity; i++) {
        ops[i].generation = 1;
        ops[i].next_free = i + 1 < capacity ? i + 1 : table->free_head;
    }
    table->free_head = table->capacity;
    table->ops = ops;
    table->capacity = capacity;
    return true;
}

int op_table_init(struct op_table *table)
{
    *table = (struct op_table){.free_head = OP_NONE};
    return grow(table, OP_TABLE_FIRST_CAPACITY) ? 0 : -ENOMEM;
}

void op_table_fini(struct op_table *table)
{
    sys.release(table->ops);
    *table = (struct op_table){.free_head = OP_NONE};
}

bool op_take(struct op_table *table, const struct op_kind *kind, void *owner,
             uint64_t *ret_user_data)
{
    if (table->free_head == OP_NONE &&
        (table->capacity == OP_TABLE_CAPACITY_MAX || !grow(table, table->capacity * 2)))
        return false;
    uint32_t slot = table->free_head;
    struct op *op = &table->ops[slot];
    RONDO_ASSERT(!op->kind);
    table->free_head = op->next_free;
    op->kind = kind;
    op->owner = owner;
    table->live_count++;
    *ret_user_data = (uint64_t)op->generation << 32 | slot;
    return true;
}

struct op *op_find(struct op_table *table, uint64_t user_data)
{
    uint32_t slot = (uint32_t)user_data;

    if (slot >= table->capacity)
        return NULL;
    struct op *op = &table->ops[slot];
    return op->kind && op->generation == user_data >> 32 ? op : NULL;
}

void op_free(struct op_table *table, struct op *op)
{
    RONDO_ASSERT(op->kind && table->live_count > 0);
    op->kind = NULL;
    op->owner = NULL;
    op->generation++;
    op->next_free = table->free_head;
    table->free_head = (uint32_t)(op - table->ops);
    table->live_count--;
}
