/* Allocation, cancellation and running of callbacks.
 *
 * Allocation and cancel: any thread. Running: a worker. Making ready: the scheduler thread.
 */
#include "callback.h"

#include "handle_id.h"
#include "slab.h"
#include "strand.h"

#include <errno.h>

static void callback_init(void *node, uint32_t index)
{
    struct callback *callback = node;

    /* Relaxed: the slab publishes new nodes. */
    store_relaxed(&callback->state, handle_id_first(index) | CALLBACK_FREE);
}

static struct slab callback_slab = {
    .id = SLAB_CALLBACK,
    .node_size = sizeof(struct callback),
    .node_init = callback_init,
};

static enum callback_phase phase_of(uint64_t state)
{
    return (enum callback_phase)(state & HANDLE_LOW_MASK);
}

static uint64_t with_phase(uint64_t state, enum callback_phase phase)
{
    return (state & ~HANDLE_LOW_MASK) | phase;
}

static void callback_run(struct runnable *runnable)
{
    struct callback *callback = container_of(runnable, struct callback, runnable);
    /* Pairs with the exchange in callback_cancel(): a cancelled one is freed. */
    uint64_t state = load_acquire(&callback->state);

    if (likely(phase_of(state) == CALLBACK_READY)) {
        /* Pairs with the exchange in callback_cancel(): exactly one of the two wins. */
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
    return handle_id_of(load_relaxed(&callback->state), HANDLE_CALLBACK);
}

bool callback_make_ready(struct callback *callback)
{
    uint64_t state = load_acquire(&callback->state); /* As in callback_run(). */

    if (phase_of(state) == CALLBACK_ARMED &&
        cas_acq_rel(&callback->state, &state, with_phase(state, CALLBACK_READY)))
        return true; /* Pairs with the exchange in callback_cancel(). */
    RONDO_ASSERT(phase_of(state) == CALLBACK_CANCELLED);
    return false;
}

bool callback_is_cancelled(struct callback *callback)
{
    /* Acquire pairs with callback_cancel(): the node is about to be freed. */
    return phase_of(load_acquire(&callback->state)) == CALLBACK_CANCELLED;
}

void callback_free(struct callback *callback)
{
    struct strand *strand = callback->strand;
    /* Relaxed: in these phases the word changes in no other place. */
    uint64_t state = load_relaxed(&callback->state);

    RONDO_ASSERT(phase_of(state) != CALLBACK_FREE);
    /* Pairs with the load in callback_cancel(): "finished" is said after the callback's effects. */
    store_release(&callback->state, handle_id_next(state) | CALLBACK_FREE);
    slab_free(&callback_slab, callback);
    if (strand)
        strand_unref(strand);
}

int callback_cancel(rondo_handle handle)
{
    struct callback *callback = slab_at(&callback_slab, handle_id_index(handle));

    if (!callback)
        return -EINVAL;
    for (;;) {
        uint64_t state = load_acquire(&callback->state); /* Pairs with callback_free(). */
        enum callback_phase phase = phase_of(state);

        if (!handle_id_names(handle, state))
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
