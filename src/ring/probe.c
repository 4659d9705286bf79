/* The probe: rondo_probe() makes a table afresh, probe_has() answers from what was found once.
 *
 * Any thread. Several threads that ask first find the same, each by itself, so nobody waits and a
 * fork at any moment leaves nothing held.
 */
#include "probe_facts.h"

#include "atomics.h"
#include "check.h"
#include "sys.h"

#include <errno.h>
#include <stdio.h>

/* What rondo_probe() hands out, in one piece. */
struct table {
    struct rondo_probe head;
    char release[65];
    char verdict[PROBE_TEXT_SIZE];
    struct rondo_facility rows[PROBE_COUNT];
    const struct rondo_facility *pointers[PROBE_COUNT];
    char reasons[PROBE_COUNT][PROBE_TEXT_SIZE];
    char remedies[PROBE_COUNT][PROBE_TEXT_SIZE];
};

/* What probe_has() keeps. Whoever finds something writes the same, so all but ready is relaxed. */
static struct {
    _Atomic bool has[PROBE_COUNT];
    _Atomic bool ops[PROBE_OP_COUNT];
    _Atomic bool ready;
} kept;

/* By probe_force_absent(): facilities and operations. */
static _Atomic bool forced[PROBE_COUNT];
static _Atomic bool forced_ops[PROBE_OP_COUNT];

static void find_out(struct probe_facts *facts)
{
    *facts = (struct probe_facts){.ring_call = ""};
    probe_surroundings(&facts->here);
    probe_ring(facts);
    probe_kernel(facts);
}

/* ---- the lookup of the layers above ---- */

/* What says nothing about the kernel. A limit on locked memory stays, so a lack of memory counts
 * only where no ring could be made. */
static bool is_of_the_moment(const struct probe_facts *facts)
{
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++)
        if (facts->errors[i] == -EMFILE || facts->errors[i] == -ENFILE)
            return true;
    return facts->ring_error == -ENOMEM || facts->ring_error == -EAGAIN;
}

static void find_and_keep(struct probe_facts *facts)
{
    find_out(facts);
    if (is_of_the_moment(facts))
        return;
    for (uint32_t i = 0; i < PROBE_COUNT; i++)
        store_relaxed(&kept.has[i], facts->errors[i] == 0); /* Relaxed: ready publishes it. */
    for (uint32_t i = 0; i < PROBE_OP_COUNT; i++)
        store_relaxed(&kept.ops[i], facts->ops[i]); /* Relaxed: ready publishes it. */
    store_release(&kept.ready, true);               /* Pairs with the loads of the lookups. */
}

bool probe_has(enum probe_facility facility)
{
    struct probe_facts facts;

    RONDO_ASSERT(facility < PROBE_COUNT);
    if (load_relaxed(&forced[facility])) /* Relaxed: written by a test before it asks. */
        return false;
    if (load_acquire(&kept.ready)) /* Pairs with find_and_keep(). */
        return load_relaxed(&kept.has[facility]);
    find_and_keep(&facts);
    return facts.errors[facility] == 0;
}

bool probe_op_supported(uint8_t opcode)
{
    struct probe_facts facts;

    if (load_relaxed(&forced_ops[opcode])) /* Relaxed: written by a test before it asks. */
        return false;
    if (load_acquire(&kept.ready)) /* Pairs with find_and_keep(). */
        return load_relaxed(&kept.ops[opcode]);
    find_and_keep(&facts);
    return facts.ops[opcode];
}

void probe_force_absent(enum probe_facility facility, bool absent)
{
    const struct probe_row *row = &probe_rows[facility];

    RONDO_ASSERT(facility < PROBE_COUNT);
    store_relaxed(&forced[facility], absent); /* Relaxed: the test asks after it. */
    if (row->how == PROBE_BY_OPCODE || row->how == PROBE_BY_USE)
        store_relaxed(&forced_ops[row->what], absent); /* As above. */
}

/* ---- the table ---- */

static void judge(struct table *table)
{
    uint32_t missing[3] = {0};
    const struct rondo_facility *worst = NULL;

    for (uint32_t i = 0; i < PROBE_COUNT; i++) {
        const struct rondo_facility *row = &table->rows[i];
        if (row->state == RONDO_FACILITY_LIVE)
            continue;
        missing[row->need]++;
        if (row->need < RONDO_FACILITY_PLANNED && (!worst || row->need < worst->need))
            worst = row;
    }
    table->head.is_usable = missing[RONDO_FACILITY_REQUIRED] == 0;
    table->head.remedy = worst ? worst->remedy : "";
    if (!table->head.is_usable)
        (void)snprintf(table->verdict, sizeof(table->verdict), "rondo cannot work here: %s: %s",
                       worst->name, worst->reason);
    else if (missing[RONDO_FACILITY_USED] > 0)
        (void)snprintf(table->verdict, sizeof(table->verdict),
                       "rondo works here, with a replacement for %u of what it uses, beginning "
                       "with %s",
                       missing[RONDO_FACILITY_USED], worst->name);
    else
        (void)snprintf(table->verdict, sizeof(table->verdict),
                       "rondo works here, with all that it uses");
}

RONDO_PUBLIC int rondo_probe(struct rondo_probe **ret_probe)
{
    struct probe_facts facts;
    struct table *table;

    if (!ret_probe)
        return -EINVAL;
    table = sys.alloc(sizeof(*table));
    if (!table)
        return -ENOMEM;
    find_out(&facts);
    for (uint32_t i = 0; i < PROBE_COUNT; i++) {
        table->pointers[i] = &table->rows[i];
        probe_tell(&facts, (enum probe_facility)i, &table->rows[i], table->reasons[i],
                   table->remedies[i]);
    }
    (void)snprintf(table->release, sizeof(table->release), "%s", facts.here.release);
    table->head = (struct rondo_probe){
        .size = sizeof(table->head),
        .kernel = table->release,
        .verdict = table->verdict,
        .facility_count = PROBE_COUNT,
        .facilities = table->pointers,
    };
    judge(table);
    *ret_probe = &table->head;
    return 0;
}

RONDO_PUBLIC void rondo_probe_free(struct rondo_probe *probe)
{
    if (probe)
        sys.release(container_of(probe, struct table, head));
}
