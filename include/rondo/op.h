/* Operations: what every call that takes a struct rondo_request has in common.
 *
 * A call that returned 0 ends in exactly one call of done; one that returned an error in none.
 * Memory and strings lent to an operation stay lent until done is called, whatever happens, unless
 * its function says that it copies them. Each operation can have a deadline and can be cancelled;
 * either way done is still called, once, and says how it ended. Every function here may be called
 * from any thread and from any callback.
 */
#ifndef RONDO_OP_H
#define RONDO_OP_H

#include <stdint.h>

#include "loop.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

struct rondo_stream;
struct rondo_file;
struct rondo_addresses;
struct rondo_directory;

/* How an operation ended. */
struct rondo_result {
    /* What its function says: 0, a count of bytes, a number; or a negative errno value, of which
     * every operation may give -ETIMEDOUT (its deadline came), -ECANCELED (it was cancelled, or the
     * loop stopped) and -ENOMEM. */
    int64_t value;
    /* Bytes that were moved, also when value is an error: what was done before a cancel counts. */
    uint64_t bytes;
    /* What came into being, for operations that create something; it is yours. NULL otherwise. */
    union {
        void *object;
        struct rondo_stream *stream;
        struct rondo_file *file;
        struct rondo_addresses *addresses;
        struct rondo_directory *directory;
    };
};

/* The end of an operation, on a worker. @result is valid until it returns. */
typedef void rondo_done_fn(const struct rondo_result *result, void *ctx);

/* What the caller wants of an operation. It is copied: it may live on your stack. */
struct rondo_request {
    size_t size;
    rondo_done_fn *done;
    void *ctx;
    /* rondo_now_ns() at which it is given up with -ETIMEDOUT; 0: never. One in the past ends it at
     * once. */
    uint64_t deadline_ns;
    /* Where done runs. NULL: on the strand of the handle that the operation works on, or on any
     * worker if it has none. */
    rondo_strand *strand;
    /* Where to put the name of the operation for rondo_cancel(), before it begins; may be NULL. */
    rondo_handle *ret_handle;
};

/* For C: &RONDO_REQUEST(.done = on_read, .ctx = me, .deadline_ns = rondo_now_ns() + 1000000000) */
#define RONDO_REQUEST(...) \
    ((struct rondo_request){.size = sizeof(struct rondo_request), __VA_ARGS__})

/* Run @fn(ctx) on a thread of its own, from a pool apart from the workers, for work that blocks for
 * long. Any thread; does not suspend. The result's value is what @fn returned.
 * Cancelled or past its deadline before it started, @fn is never called. One that runs is not
 * interrupted: rondo_blocking_cancelled() tells it, and done is called when it returns, with what
 * it returned.
 * Returns 0, -EINVAL, -ENOMEM (also: 16,777,216 operations are alive), -ESHUTDOWN (the loop has
 * stopped), -ECHILD. Since 0.1. */
int rondo_run_blocking(rondo_loop *loop, int64_t (*fn)(void *ctx), void *ctx,
                       const struct rondo_request *request);

/* Inside the function of rondo_run_blocking(): whether it was cancelled or its deadline came, so
 * that it better ends. False on other threads. Does not suspend. Since 0.1. */
int rondo_blocking_cancelled(void);

/* An operation of your own: its done is called when you say so. For libraries that offer operations
 * with the same contract. */
typedef struct rondo_future rondo_future;

/* Begin one. Any thread; does not suspend. @cancelled(ctx) is called at most once, on a worker,
 * when it is cancelled or its deadline comes before rondo_future_set_result(): stop what you do and
 * set a result soon. It may be NULL; a cancel then ends the future itself, and the result that is
 * set later is dropped (with @dispose, if that is not NULL, to give back what it holds).
 * *ret_future is yours until rondo_future_set_result(), which must be called exactly once.
 * Returns 0, -EINVAL, -ENOMEM, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_future_create(rondo_loop *loop, const struct rondo_request *request,
                        rondo_callback_fn *cancelled,
                        void (*dispose)(const struct rondo_result *result, void *ctx), void *ctx,
                        rondo_future **ret_future);

/* End it: done is called with @result, which is copied. A value of -ECANCELED becomes -ETIMEDOUT
 * when it was the deadline that cancelled it. Any thread; does not suspend. Since 0.1. */
void rondo_future_set_result(rondo_future *future, const struct rondo_result *result);

#ifdef __cplusplus
}
#endif

#endif
