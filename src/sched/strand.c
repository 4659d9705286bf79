/* Turns of strands.
 *
 * Pushing: any thread. Turns: the worker that took the strand from the ready queue.
 */
#include "strand.h"

#include "pool.h"

static void strand_run(struct runnable *runnable)
{
    struct strand *strand = container_of(runnable, struct strand, runnable);
    struct node *node;
    uint32_t left = STRAND_BUDGET;

    (void)inbox_take(&strand->mailbox, &strand->pending);
    while (left-- > 0 && (node = chain_take(&strand->pending))) {
        struct runnable *event = runnable_of(node);
        event->run(event);
        worker_count_run();
    }
    if (strand->pending.first || !inbox_sleep(&strand->mailbox))
        pool_yield(strand->pool, &strand->runnable);
    else
        strand_unref(strand);
}

void strand_init(struct strand *strand, struct pool *pool, void (*destroy)(struct strand *strand))
{
    *strand = (struct strand){.runnable.run = strand_run, .pool = pool, .destroy = destroy};
    inbox_init(&strand->mailbox, true);
    store_relaxed(&strand->refs, 1); /* Relaxed: not shared yet. */
}

void strand_ref(struct strand *strand)
{
    /* Relaxed: the caller has a reference, so it cannot go meanwhile. */
    uint32_t old = add_relaxed(&strand->refs, 1);

    RONDO_ASSERT(old > 0);
}

void strand_unref(struct strand *strand)
{
    /* Pairs with itself: the last one sees all that was done under the other references. */
    uint32_t old = sub_acq_rel(&strand->refs, 1);

    RONDO_ASSERT(old > 0);
    if (old == 1)
        strand->destroy(strand);
}

bool strand_push(struct strand *strand, struct runnable *event)
{
    if (!inbox_push(&strand->mailbox, &event->node))
        return false;
    strand_ref(strand);
    return true;
}

void strand_post(struct strand *strand, struct runnable *event)
{
    if (strand_push(strand, event))
        pool_post(strand->pool, &strand->runnable);
}
