/* Allocation, cancellation and running of callbacks.
 *
 * Allocation and cancel: any thread. Running: a worker. Making ready: the scheduler thread.
 */
#include "callback.h"

#include "slab.h"
#include "strand.h"

#include <errno.h>

#define PHASE_MASK UINT64_C(0xff)
#define INDEX_SHIFT 8
#define INDEX_MASK UINT64_C(0xffffff)
#define GENERATION_SHIFT 32

RONDO_STATIC_ASSERT(SLAB_NODE_COUNT_MAX <= 1 << 24);

static void callback_init(void *node, uint32_t index)
{
    struct callback *callback = node;

    /* Relaxed: the slab publishes new nodes. Generation 1, so that no handle is zero. */
    store_relaxed(&callback->state,
                  UINT64_C(1) << GENERATION_SHIFT | (uint64_t)index << INDEX_SHIFT | CALLBACK_FREE);
}

static struct slab callback_slab = {
    .id = SLAB_CALLBACK,
    .node_size = sizeof(struct callback),
    .node_init = callback_init,
};

static enum callback_phase phase_of(uint64_t state)
{
    return (enum callback_phase)(state & PHASE_MASK);
}

static uint64_t with_phase(uint64_t state, enum callback_phase phase)
{
    return (state & ~PHASE_MASK) | phase;
}

static void callback_run(struct runnable *runnable)
{
    struct callback *callback = container_of(runnable, struct callback, runnable);
    /* Pairs with the exchange in rondo_cancel(): a cancelled one is freed. */
    uint64_t state = load_acquire(&callback->state);

    if (likely(phase_of(state) == CALLBACK_READY)) {
        /* Pairs with the exchange in rondo_cancel(): exactly one of the two wins. */
        if (cas_acq_rel(&callback->state, &state, with_phase(state, CALLBACK_RUNNING))) {
            callback->fn(callback->ctx);
            callback_free(callback);
            return;
        }
    }
    RONDO_ASSERT(phase_of(state) == CALLBACK_CANCELLED);
    callback_free(callback);
}

bool callback_is(const struct runnable *runnable)
{
    return runnable->run == callback_run;
}

struct callback *callback_alloc(rondo_callback_fn *fn, void *ctx, enum callback_phase phase)
{
    struct callback *callback = slab_alloc(&callback_slab);

    if (!callback)
        return NULL;
    /* Relaxed twice: nobody else may touch a free node, and a queue will publish it. */
    uint64_t state = load_relaxed(&callback->state);
    RONDO_ASSERT(phase_of(state) == CALLBACK_FREE);
    store_relaxed(&callback->state, with_phase(state, phase));
    callback->runnable.run = callback_run;
    callback->fn = fn;
    callback->ctx = ctx;
    store_relaxed(&callback->holder, NULL); /* Relaxed: valid in phase ARMED only. */
    callback->strand = NULL;
    return callback;
}

rondo_handle callback_handle(const struct callback *callback)
{
    /* Relaxed: not shared yet, only the phase can change. */
    return (rondo_handle){load_relaxed(&callback->state) & ~PHASE_MASK};
}

bool callback_make_ready(struct callback *callback)
{
    uint64_t state = load_acquire(&callback->state); /* As in callback_run(). */

    if (phase_of(state) == CALLBACK_ARMED &&
        cas_acq_rel(&callback->state, &state, with_phase(state, CALLBACK_READY)))
        return true; /* Pairs with the exchange in rondo_cancel(). */
    RONDO_ASSERT(phase_of(state) == CALLBACK_CANCELLED);
    return false;
}

bool callback_is_cancelled(struct callback *callback)
{
    /* Acquire pairs with rondo_cancel(): the node is about to be freed. */
    return phase_of(load_acquire(&callback->state)) == CALLBACK_CANCELLED;
}

void callback_free(struct callback *callback)
{
    struct strand *strand = callback->strand;
    /* Relaxed: in these phases the word changes in no other place. */
    uint64_t state = load_relaxed(&callback->state);
    uint64_t generation = (state >> GENERATION_SHIFT) + 1;

    RONDO_ASSERT(phase_of(state) != CALLBACK_FREE);
    if ((uint32_t)generation == 0)
        generation = 1;
    /* Pairs with the load in rondo_cancel(): "finished" is said after the callback's effects. */
    store_release(&callback->state, (generation & UINT32_MAX) << GENERATION_SHIFT |
                                        (state & INDEX_MASK << INDEX_SHIFT) | CALLBACK_FREE);
    slab_free(&callback_slab, callback);
    if (strand)
        strand_unref(strand);
}

RONDO_PUBLIC int rondo_cancel(rondo_handle handle)
{
    uint32_t index = (uint32_t)(handle.id >> INDEX_SHIFT & INDEX_MASK);
    struct callback *callback = slab_at(&callback_slab, index);

    if (!callback || handle.id == 0 || (handle.id & PHASE_MASK))
        return -EINVAL;
    for (;;) {
        uint64_t state = load_acquire(&callback->state); /* Pairs with callback_free(). */
        enum callback_phase phase = phase_of(state);

        if ((state & ~PHASE_MASK) != handle.id)
            return RONDO_CANCEL_FINISHED;
        if (phase == CALLBACK_RUNNING)
            return RONDO_CANCEL_IN_FLIGHT;
        if (phase != CALLBACK_ARMED && phase != CALLBACK_READY)
            return RONDO_CANCEL_FINISHED;
        /* Read before the exchange: after it the owner may free and reuse the node. Relaxed: only
         * used if the exchange proves that the node was still ours. */
        struct callback_holder *holder = load_relaxed(&callback->holder);
        /* Pairs with the exchanges in callback_run() and callback_make_ready(). */
        if (cas_acq_rel(&callback->state, &state, with_phase(state, CALLBACK_CANCELLED))) {
            if (phase == CALLBACK_ARMED)
                holder->cancelled(holder);
            return RONDO_CANCEL_NOT_STARTED;
        }
    }
}
