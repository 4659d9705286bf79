/* Wakes: a bell that any thread or signal handler may ring to have a callback run on the loop. */
#ifndef RONDO_WAKE_H
#define RONDO_WAKE_H

#include "loop.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_wake rondo_wake;

/* What a wake tells its user. rung must not be NULL. */
struct rondo_wake_handlers {
    size_t size;
    /* It was rung, once or more often since the last call. */
    void (*rung)(rondo_wake *wake, void *ctx);
    /* The last callback. @error: 0 (asked for, or the loop drained), -ECANCELED (it
     * stopped), or -ENOMEM. May be NULL. */
    void (*closed)(rondo_wake *wake, int error, void *ctx);
};

/* Create a wake. Any thread; does not suspend. @handlers and @ctx must stay valid until the closed
 * callback. *ret_wake is valid until the closed callback returns: nobody may begin to ring it after
 * that. A wake keeps no drain waiting: it is closed when the loop drains.
 * Returns 0, -EINVAL, -ENOMEM, -EMFILE, -ENFILE, -ESHUTDOWN (the loop is stopping), -ECHILD.
 * Since 0.1. */
int rondo_wake_create(rondo_loop *loop, const struct rondo_wake_handlers *handlers, void *ctx,
                      rondo_wake **ret_wake);

/* Have rung called soon: at least once after this call. Rings that come before it is called share
 * the call; what a thread wrote before it rang is visible there. Any thread, and any signal
 * handler: this is async-signal-safe and leaves errno alone. Does not suspend. After a close, and
 * before the closed callback has returned, it does nothing.
 * Returns 0, -EINVAL (NULL), -ECHILD. Since 0.1. */
int rondo_wake_ring(rondo_wake *wake);

/* Close it; the closed callback follows, rung is not called any more once this has returned on the
 * wake's strand. Any thread; does not suspend. Returns 0, -EINVAL, -EALREADY (closing already).
 * Since 0.1. */
int rondo_wake_close(rondo_wake *wake);

/* The strand its callbacks run on. Any thread; does not suspend. Valid as long as the wake.
 * Since 0.1. */
rondo_strand *rondo_wake_strand(rondo_wake *wake);

#ifdef __cplusplus
}
#endif

#endif
