/* A strand runs the callbacks posted to it one at a time, in the order of the posts, on any worker:
 * mutual exclusion without a lock. Streams and listeners are strands of their own. */
#ifndef RONDO_STRAND_H
#define RONDO_STRAND_H

#include "loop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_strand rondo_strand;

/* Create a strand. Any thread; does not suspend. On success *ret_strand is yours until
 * rondo_strand_unref(); it must go before its loop is freed.
 * Returns 0, -EINVAL, -ENOMEM, -ECHILD. Since 0.1. */
int rondo_strand_create(rondo_loop *loop, rondo_strand **ret_strand);

/* Keep the strand alive for one more user. Any thread; does not suspend. Returns @strand.
 * Since 0.1. */
rondo_strand *rondo_strand_ref(rondo_strand *strand);

/* Drop one use; NULL is nothing. Any thread; does not suspend. What was posted still runs, then the
 * strand is gone. Since 0.1. */
void rondo_strand_unref(rondo_strand *strand);

/* The loop whose workers run the strand. Any thread; does not suspend. NULL for NULL. Since 0.1. */
rondo_loop *rondo_strand_loop(const rondo_strand *strand);

/* Run @fn(ctx) after all that was posted to @strand before. Any thread; does not suspend.
 * @ret_handle may be NULL; otherwise it names the callback for rondo_cancel().
 * Returns 0, -EINVAL, -EAGAIN (16,777,216 callbacks are alive), -ESHUTDOWN (the loop is stopping),
 * -ECHILD. Since 0.1. */
int rondo_strand_post(rondo_strand *strand, rondo_callback_fn *fn, void *ctx,
                      rondo_handle *ret_handle);

/* rondo_call_at() whose callback runs on the strand. Any thread; does not suspend. The strand stays
 * alive until the timer is over. Returns what rondo_call_at() returns. Since 0.1. */
int rondo_strand_call_at(rondo_strand *strand, uint64_t deadline_ns, rondo_callback_fn *fn,
                         void *ctx, rondo_handle *ret_handle);

/* rondo_strand_call_at() of now + @delay_ns. Any thread; does not suspend. Returns what
 * rondo_call_at() returns. Since 0.1. */
int rondo_strand_call_later(rondo_strand *strand, uint64_t delay_ns, rondo_callback_fn *fn,
                            void *ctx, rondo_handle *ret_handle);

#ifdef __cplusplus
}
#endif

#endif
