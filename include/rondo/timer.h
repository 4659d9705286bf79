/* Time and timers. All times are CLOCK_MONOTONIC nanoseconds. */
#ifndef RONDO_TIMER_H
#define RONDO_TIMER_H

#include "loop.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Monotonic time now, in nanoseconds. Any thread; does not suspend. Since 0.1. */
uint64_t rondo_now_ns(void);

/* Run @fn(ctx) on a worker once rondo_now_ns() has reached @deadline_ns: never early, once. Any
 * thread; does not suspend. A deadline in the past is due at once; UINT64_MAX never comes, but can
 * be cancelled. Equal deadlines fire in the order in which they were armed.
 * @ret_handle may be NULL. Cancel with rondo_cancel(); a timer that was cancelled never fires.
 * Returns 0, -EINVAL (loop or fn is NULL), -EAGAIN (16,777,216 callbacks are alive), -ESHUTDOWN
 * (the loop is stopping), -ECHILD. Since 0.1. */
int rondo_call_at(rondo_loop *loop, uint64_t deadline_ns, rondo_callback_fn *fn, void *ctx,
                  rondo_handle *ret_handle);

/* rondo_call_at() of now + @delay_ns; a sum that does not fit is the latest time there is. Any
 * thread; does not suspend. Returns what rondo_call_at() returns. Since 0.1. */
int rondo_call_later(rondo_loop *loop, uint64_t delay_ns, rondo_callback_fn *fn, void *ctx,
                     rondo_handle *ret_handle);

#ifdef __cplusplus
}
#endif

#endif
