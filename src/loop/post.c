/* Putting callbacks into the loop, soon, at a time, or on a strand, and cancelling them.
 *
 * Any thread. Every call goes through the loop's gate or the lock of its ready queue, so that after
 * both are closed nothing comes in any more and what came in runs.
 */
#include "loop.h"

#include "rondo/strand.h"
#include "rondo/timer.h"

#include "handle_id.h"
#include "operation.h"
#include "strand.h"

#include <errno.h>

struct rondo_strand {
    struct strand strand; /* a stream's strand is handed out as one of these */
};

/* From outside, the ready queue itself says whether it still takes anything: the fastest way in. */
RONDO_PUBLIC int rondo_call_soon(rondo_loop *loop, rondo_callback_fn *fn, void *ctx,
                                 rondo_handle *ret_handle)
{
    int error = loop_check(loop);

    if (error || !fn)
        return error ? error : -EINVAL;
    bool inside = loop_is_own_worker(loop);
    if (inside && gate_is_closed(&loop->gate))
        return -ESHUTDOWN;
    struct callback *callback = callback_alloc(fn, ctx, CALLBACK_READY);
    if (!callback)
        return -EAGAIN;
    if (ret_handle)
        *ret_handle = callback_handle(callback);
    if (inside) {
        pool_post(&loop->pool, &callback->runnable);
    } else if (!pool_post_outside(&loop->pool, &callback->runnable)) {
        callback_free(callback);
        return -ESHUTDOWN;
    }
    return 0;
}

RONDO_PUBLIC int rondo_cancel(rondo_handle handle)
{
    if (handle.id == 0)
        return -EINVAL;
    switch (handle_id_which(handle)) {
    case HANDLE_CALLBACK:
        return callback_cancel(handle);
    case HANDLE_OPERATION:
        return operation_cancel(handle);
    }
    return -EINVAL;
}

static int call_at(rondo_loop *loop, struct strand *strand, uint64_t deadline_ns,
                   rondo_callback_fn *fn, void *ctx, rondo_handle *ret_handle)
{
    int error = loop_enter(loop);

    if (error)
        return error;
    struct callback *callback = fn ? callback_alloc(fn, ctx, CALLBACK_ARMED) : NULL;
    if (callback) {
        callback->deadline_ns = deadline_ns;
        callback->strand = strand;
        if (strand)
            strand_ref(strand);
        if (ret_handle)
            *ret_handle = callback_handle(callback);
        scheduler_arm(&loop->scheduler, callback);
    } else {
        error = fn ? -EAGAIN : -EINVAL;
    }
    loop_leave(loop);
    return error;
}

RONDO_PUBLIC int rondo_call_at(rondo_loop *loop, uint64_t deadline_ns, rondo_callback_fn *fn,
                               void *ctx, rondo_handle *ret_handle)
{
    return call_at(loop, NULL, deadline_ns, fn, ctx, ret_handle);
}

RONDO_PUBLIC int rondo_call_later(rondo_loop *loop, uint64_t delay_ns, rondo_callback_fn *fn,
                                  void *ctx, rondo_handle *ret_handle)
{
    return call_at(loop, NULL, clock_add_ns(clock_now_ns(), delay_ns), fn, ctx, ret_handle);
}

/* ---- strands ---- */

static void strand_destroy(struct strand *strand)
{
    sys.release(container_of(strand, struct rondo_strand, strand));
}

RONDO_PUBLIC int rondo_strand_create(rondo_loop *loop, rondo_strand **ret_strand)
{
    int error = loop_check(loop);

    if (error || !ret_strand)
        return error ? error : -EINVAL;
    rondo_strand *strand = sys.alloc(sizeof(*strand));
    if (!strand)
        return -ENOMEM;
    strand_init(&strand->strand, &loop->pool, strand_destroy);
    *ret_strand = strand;
    return 0;
}

RONDO_PUBLIC rondo_strand *rondo_strand_ref(rondo_strand *strand)
{
    if (strand)
        strand_ref(&strand->strand);
    return strand;
}

RONDO_PUBLIC void rondo_strand_unref(rondo_strand *strand)
{
    if (strand)
        strand_unref(&strand->strand);
}

RONDO_PUBLIC rondo_loop *rondo_strand_loop(const rondo_strand *strand)
{
    return strand ? strand->strand.pool->options.loop : NULL;
}

RONDO_PUBLIC int rondo_strand_post(rondo_strand *strand, rondo_callback_fn *fn, void *ctx,
                                   rondo_handle *ret_handle)
{
    rondo_loop *loop = strand ? strand->strand.pool->options.loop : NULL;
    int error = loop_enter(loop);

    if (error)
        return error;
    struct callback *callback = fn ? callback_alloc(fn, ctx, CALLBACK_READY) : NULL;
    if (callback) {
        if (ret_handle)
            *ret_handle = callback_handle(callback);
        strand_post(&strand->strand, &callback->runnable);
    } else {
        error = fn ? -EAGAIN : -EINVAL;
    }
    loop_leave(loop);
    return error;
}

RONDO_PUBLIC int rondo_strand_call_at(rondo_strand *strand, uint64_t deadline_ns,
                                      rondo_callback_fn *fn, void *ctx, rondo_handle *ret_handle)
{
    if (!strand)
        return -EINVAL;
    return call_at(strand->strand.pool->options.loop, &strand->strand, deadline_ns, fn, ctx,
                   ret_handle);
}

RONDO_PUBLIC int rondo_strand_call_later(rondo_strand *strand, uint64_t delay_ns,
                                         rondo_callback_fn *fn, void *ctx, rondo_handle *ret_handle)
{
    return rondo_strand_call_at(strand, clock_add_ns(clock_now_ns(), delay_ns), fn, ctx,
                                ret_handle);
}
