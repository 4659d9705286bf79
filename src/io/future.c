/* Operations of the user's own; see rondo/op.h.
 *
 *   OPEN --set_result--> SET ---------------------------------------------> ended with the result
 *     \---cancel---> ASKED (the user's cancelled runs) --set_result, ran--> ended with the result
 *      \--cancel, no callback for it--> DROPPED: ended; a late result is disposed of
 *
 * The parts word collects what has happened; each part is set once, and whoever sets one asks the
 * lane to look. create, set_result: any thread. cancelled: a worker. The rest: the lane's thread.
 */
#include "operation.h"

enum future_part {
    FUTURE_SET = 1 << 0,     /* the result is there */
    FUTURE_ASKED = 1 << 1,   /* the user's cancelled was, or is to be called */
    FUTURE_TOLD = 1 << 2,    /* and has returned */
    FUTURE_DROPPED = 1 << 3, /* ended without the result */
};

struct rondo_future {
    struct operation base;
    _Atomic uint32_t parts;
    struct runnable cancel_event;
    rondo_callback_fn *cancelled;
    void (*dispose)(const struct rondo_result *result, void *ctx);
    void *ctx;
    struct rondo_result set;
};

RONDO_STATIC_ASSERT(sizeof(struct rondo_future) <= OPERATION_SIZE);

static void cancel_run(struct runnable *runnable)
{
    struct rondo_future *future = container_of(runnable, struct rondo_future, cancel_event);

    future->cancelled(future->ctx);
    /* Pairs with rondo_future_set_result(): who comes second returns it. */
    if (or_acq_rel(&future->parts, FUTURE_TOLD) & FUTURE_SET)
        operation_return(&future->base);
}

static void future_cancel(struct lane *lane, struct operation *operation)
{
    struct rondo_future *future = (struct rondo_future *)operation;
    uint32_t part = future->cancelled ? FUTURE_ASKED : FUTURE_DROPPED;
    uint32_t parts = load_relaxed(&future->parts); /* Relaxed: the exchange validates it. */

    do {
        if (parts & FUTURE_SET)
            return; /* The result came first, and its return follows. */
        /* Pairs with rondo_future_set_result(). */
    } while (!cas_weak_acq_rel(&future->parts, &parts, parts | part));
    if (part == FUTURE_DROPPED)
        operation_end(lane, operation, -ECANCELED);
    else if (operation->strand)
        lane_post(lane, operation->strand, &future->cancel_event);
    else
        chain_append(&lane->ready, &future->cancel_event.node);
}

static void future_returned(struct lane *lane, struct operation *operation)
{
    struct rondo_future *future = (struct rondo_future *)operation;

    operation->result = future->set;
    operation_end(lane, operation, future->set.value);
}

static const struct operation_kind future_kind = {
    .name = "future",
    .cancel = future_cancel,
    .returned = future_returned,
};

RONDO_PUBLIC int rondo_future_create(rondo_loop *loop, const struct rondo_request *request,
                                     rondo_callback_fn *cancelled,
                                     void (*dispose)(const struct rondo_result *result, void *ctx),
                                     void *ctx, rondo_future **ret_future)
{
    struct operation *operation;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error || !ret_future)
        return error ? error : -EINVAL;
    error = operation_create(&future_kind, hub, hub_lane(hub), NULL, request, &operation);
    if (error)
        return error;
    struct rondo_future *future = (struct rondo_future *)operation;
    future->cancel_event.run = cancel_run;
    future->cancelled = cancelled;
    future->dispose = dispose;
    future->ctx = ctx;
    operation_mark_started(operation); /* The user does the work. */
    operation_ref(operation);          /* The user's, until the result is set. */
    *ret_future = future;
    operation_submit(operation);
    return 0;
}

RONDO_PUBLIC void rondo_future_set_result(rondo_future *future, const struct rondo_result *result)
{
    uint32_t parts = load_relaxed(&future->parts); /* Relaxed: the exchange validates it. */

    future->set = *result;
    do {
        RONDO_ASSERT(!(parts & FUTURE_SET));
        /* Pairs with future_cancel() and cancel_run(). */
    } while (!cas_weak_acq_rel(&future->parts, &parts, parts | FUTURE_SET));
    if (parts & FUTURE_DROPPED) {
        if (future->dispose)
            future->dispose(&future->set, future->ctx);
    } else if (!(parts & FUTURE_ASKED) || (parts & FUTURE_TOLD)) {
        operation_return(&future->base);
    }
    operation_unref(&future->base);
}
