/* One scheduled user callback: posted now, at a time, or to a strand.
 *
 * State word:   63        32 31          8 7      0
 *             +------------+-------------+--------+
 *             | generation | slab index  | phase  |    the upper part as in handle_id.h
 *             +------------+-------------+--------+
 *
 *   FREE --alloc--> ARMED --due--> READY --worker--> RUNNING --end--> FREE, generation + 1
 *     \__alloc________|______________^                                  ^
 *                     |              |                                  |
 *                     +---cancel-----+--> CANCELLED --reaped by owner---+
 *
 * Every change is one compare-and-swap here, so a cancel and a start meet in exactly one order. The
 * slab keeps the word readable for ever, so a stale handle differs in generation and is answered
 * "finished".
 */
#ifndef RONDO_SCHED_CALLBACK_H
#define RONDO_SCHED_CALLBACK_H

#include "rondo/loop.h"

#include "atomics.h"
#include "runnable.h"

struct strand;

enum callback_phase {
    CALLBACK_FREE,
    CALLBACK_ARMED,
    CALLBACK_READY,
    CALLBACK_RUNNING,
    CALLBACK_CANCELLED,
};

/* Who holds an armed callback, and wants to know when it is cancelled there. */
struct callback_holder {
    void (*cancelled)(struct callback_holder *holder);
};

struct callback {
    struct runnable runnable;
    rondo_callback_fn *fn;
    void *ctx;
    _Atomic uint64_t state;
    _Atomic(struct callback_holder *) holder; /* while ARMED; a late cancel may read it */
    struct strand *strand;                    /* the strand to run on, with a reference, or NULL */
    uint64_t deadline_ns;
};

RONDO_STATIC_ASSERT(sizeof(struct callback) == 64 || sizeof(void *) != 8);

/* A callback in @phase (ARMED or READY), or NULL at the limit. */
struct callback *callback_alloc(rondo_callback_fn *fn, void *ctx, enum callback_phase phase);

/* The name of a callback that was just allocated and is not shared yet. */
rondo_handle callback_handle(const struct callback *callback);

/* Holder only: the callback is due. False: it was cancelled, free it. */
bool callback_make_ready(struct callback *callback);

/* Holder only: it was cancelled while it was armed. */
bool callback_is_cancelled(struct callback *callback);

/* What rondo_cancel() does when @handle names a callback. */
int callback_cancel(rondo_handle handle);

/* This runnable is a callback, not a strand. */
bool callback_is(const struct runnable *runnable);

/* Owner only: give back a callback that will not run. */
void callback_free(struct callback *callback);

#endif
