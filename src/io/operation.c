/* The life of operations; see operation.h.
 *
 * Creating, cancelling, returning: any thread. Done: a worker. The rest: the lane's thread.
 */
#include "operation.h"

#include "handle_id.h"
#include "slab.h"

#include <string.h>

#define OPERATION_FLAGS UINT64_C(0xff)

static void operation_init(void *node, uint32_t index)
{
    struct operation *operation = node;

    /* Relaxed: the slab publishes new nodes. */
    store_relaxed(&operation->state, handle_id_first(index) | OPERATION_OVER);
}

static struct slab operation_slab = {
    .id = SLAB_OPERATION,
    .node_size = OPERATION_SIZE,
    .node_init = operation_init,
};

/* ---- its end, on a worker ---- */

void operation_ref(struct operation *operation)
{
    (void)add_relaxed(&operation->refs, 1); /* Relaxed: the caller has a reference. */
}

void operation_unref(struct operation *operation)
{
    /* Pairs with itself: the last one sees all that was done under the other references. */
    if (sub_acq_rel(&operation->refs, 1) > 1)
        return;
    /* Relaxed: nobody changes it after OVER. */
    uint64_t next = handle_id_next(load_relaxed(&operation->state));
    /* Pairs with the load in operation_cancel(): "finished" is said after the end's effects. */
    store_release(&operation->state, next | OPERATION_OVER);
    slab_free(&operation_slab, operation);
}

static void done_run(struct runnable *runnable)
{
    struct operation *operation = container_of(runnable, struct operation, event);
    struct strand *strand = operation->strand;

    operation->done(&operation->result, operation->ctx);
    if (operation->kind->release)
        operation->kind->release(operation);
    operation_unref(operation);
    if (strand)
        strand_unref(strand);
}

/* ---- asking the lane ---- */

/* Set @flag and have the lane look, unless it is over or one of @unless is set. The state as it
 * was. */
static uint64_t ask(struct operation *operation, uint64_t flag, uint64_t unless)
{
    uint64_t state = load_acquire(&operation->state); /* Pairs with operation_unref(). */

    do {
        if (state & (unless | OPERATION_OVER))
            return state;
        /* Pairs with the exchanges in request_run() and finish(). */
    } while (!cas_weak_acq_rel(&operation->state, &state, state | flag | OPERATION_QUEUED));
    /* While QUEUED is ours to clear, the operation cannot end. */
    if (!(state & OPERATION_QUEUED))
        lane_ask(operation->lane, &operation->request);
    return state;
}

static void deadline_run(void *ctx)
{
    struct operation *operation = ctx;

    (void)ask(operation, OPERATION_TIMEOUT, OPERATION_CANCEL | OPERATION_TIMEOUT);
    operation_unref(operation); /* The timer's. */
}

void operation_return(struct operation *operation)
{
    uint64_t old = ask(operation, OPERATION_RETURNED, OPERATION_RETURNED);

    RONDO_ASSERT(!(old & (OPERATION_OVER | OPERATION_RETURNED)));
}

int operation_cancel(rondo_handle handle)
{
    struct operation *operation = slab_at(&operation_slab, handle_id_index(handle));

    if (!operation)
        return -EINVAL;
    for (;;) {
        uint64_t state = load_acquire(&operation->state); /* Pairs with operation_unref(). */

        if (!handle_id_names(handle, state) || (state & OPERATION_OVER))
            return RONDO_CANCEL_FINISHED;
        uint64_t asked = state | OPERATION_CANCEL | OPERATION_QUEUED;
        /* Pairs with the exchanges in start(), request_run() and finish(). */
        if (!(state & (OPERATION_CANCEL | OPERATION_TIMEOUT))) {
            if (!cas_acq_rel(&operation->state, &state, asked))
                continue;
            if (!(state & OPERATION_QUEUED))
                lane_ask(operation->lane, &operation->request);
        }
        return state & OPERATION_STARTED ? RONDO_CANCEL_IN_FLIGHT : RONDO_CANCEL_NOT_STARTED;
    }
}

/* ---- creation ---- */

static int check_request(const struct rondo_request *request)
{
    if (!request || request->size != sizeof(*request) || !request->done)
        return -EINVAL;
    return 0;
}

static int deadline_create(struct operation *operation, uint64_t deadline_ns)
{
    struct callback *timer = callback_alloc(deadline_run, operation, CALLBACK_ARMED);

    if (!timer)
        return -ENOMEM;
    timer->deadline_ns = deadline_ns;
    operation->timer = timer;
    operation->timer_handle = callback_handle(timer);
    operation_ref(operation);
    return 0;
}

static void request_run(struct lane *lane, struct lane_request *request);
static void operation_drain(struct lane *lane, struct lane_handle *handle);
static void operation_abort(struct lane *lane, struct lane_handle *handle);

/* All but the state word, which a cancel with an old handle may look at. */
static void clear(struct operation *operation)
{
    char *bytes = (char *)operation;
    size_t behind = offsetof(struct operation, state) + sizeof(operation->state);

    memset(bytes, 0, offsetof(struct operation, state));
    memset(bytes + behind, 0, OPERATION_SIZE - behind);
}

int operation_create(const struct operation_kind *kind, struct hub *hub, struct lane *lane,
                     struct strand *strand, const struct rondo_request *request,
                     struct operation **ret_operation)
{
    int error = check_request(request);
    struct operation *operation;
    uint64_t state;

    if (error)
        return error;
    if (!life_add(hub->life))
        return -ESHUTDOWN;
    operation = slab_alloc(&operation_slab);
    if (!operation) {
        life_drop(hub->life, 1);
        return -ENOMEM;
    }
    /* Relaxed: nobody else may touch a free node, and the inbox will publish it. */
    state = load_relaxed(&operation->state) & ~OPERATION_FLAGS;
    clear(operation);
    operation->event.run = done_run;
    operation->request.run = request_run;
    operation->handle.drain = operation_drain;
    operation->handle.abort = operation_abort;
    operation->kind = kind;
    operation->lane = lane;
    operation->strand = request->strand ? (struct strand *)request->strand : strand;
    operation->done = request->done;
    operation->ctx = request->ctx;
    store_relaxed(&operation->refs, 1); /* Relaxed twice: not shared yet. */
    store_relaxed(&operation->state, state | OPERATION_QUEUED);
    if (operation->strand)
        strand_ref(operation->strand);
    if (request->deadline_ns && deadline_create(operation, request->deadline_ns)) {
        operation_discard(operation);
        return -ENOMEM;
    }
    operation->ret_handle = request->ret_handle;
    *ret_operation = operation;
    return 0;
}

void operation_discard(struct operation *operation)
{
    struct life *life = operation->lane->options.life;

    if (operation->timer) {
        callback_free(operation->timer);
        operation_unref(operation);
    }
    if (operation->strand)
        strand_unref(operation->strand);
    operation_unref(operation);
    life_drop(life, 1);
}

void operation_mark_started(struct operation *operation)
{
    /* Relaxed twice: not shared yet. */
    store_relaxed(&operation->state, load_relaxed(&operation->state) | OPERATION_STARTED);
}

void operation_submit(struct operation *operation)
{
    struct callback *timer = operation->timer;
    struct pool *pool = operation->lane->options.pool;
    struct hub *hub = pool->options.loop;

    if (timer && timer->deadline_ns <= clock_now_ns()) {
        callback_free(timer);
        operation_unref(operation);
        operation->timer_handle.id = 0;
        /* Relaxed: the inbox publishes it. */
        store_relaxed(&operation->state, load_relaxed(&operation->state) | OPERATION_TIMEOUT);
    }
    /* Nobody can cancel it before: the state above is changed by this thread alone. */
    if (operation->ret_handle)
        /* Relaxed: its upper part does not change while it is alive. */
        *operation->ret_handle = handle_id_of(load_relaxed(&operation->state), HANDLE_OPERATION);
    if (operation->timer_handle.id)
        scheduler_arm(hub->scheduler, timer);
    lane_ask(operation->lane, &operation->request);
}

/* ---- on the lane ---- */

struct io_uring_sqe *operation_submission(struct lane *lane, const struct op_kind *op,
                                          struct operation *operation)
{
    struct io_uring_sqe *sqe = lane_submit(lane, op, operation, &operation->user_data);

    if (!sqe)
        operation_end(lane, operation, lane->given_up ? -ECANCELED : -ENOMEM);
    return sqe;
}

void operation_cancel_submission(struct lane *lane, struct operation *operation)
{
    lane_cancel(lane, operation->user_data);
}

bool operation_is_cancelled(struct operation *operation)
{
    /* Relaxed: who sets it asks the lane to look again. */
    return load_relaxed(&operation->state) & (OPERATION_CANCEL | OPERATION_TIMEOUT);
}

/* The timer no longer counts. Its callback may run at this moment; then it drops the reference. */
static void deadline_cancel(struct operation *operation)
{
    if (operation->timer_handle.id &&
        callback_cancel(operation->timer_handle) == RONDO_CANCEL_NOT_STARTED)
        operation_unref(operation);
}

static void finish(struct lane *lane, struct operation *operation)
{
    uint64_t state = load_relaxed(&operation->state); /* Relaxed: the exchange validates it. */

    do {
        if (state & OPERATION_QUEUED)
            return; /* It is or will be in the inbox, and comes here again. */
        /* Pairs with the exchanges in ask() and operation_cancel(). */
    } while (!cas_weak_acq_rel(&operation->state, &state, state | OPERATION_OVER));
    if (operation->result.value == -ECANCELED && (state & OPERATION_TIMEOUT))
        operation->result.value = -ETIMEDOUT;
    deadline_cancel(operation);
    lane_handle_remove(lane, &operation->handle);
    /* From here on it is the worker's, which may free it at once. */
    if (operation->strand)
        lane_post(lane, operation->strand, &operation->event);
    else
        chain_append(&lane->ready, &operation->event.node);
}

void operation_end(struct lane *lane, struct operation *operation, int64_t value)
{
    RONDO_ASSERT(!operation->ended);
    operation->result.value = value;
    operation->ended = true;
    finish(lane, operation);
}

/* False: it was cancelled before. */
static bool start(struct operation *operation)
{
    uint64_t state = load_relaxed(&operation->state); /* Relaxed: the exchange validates it. */

    do {
        if (state & (OPERATION_CANCEL | OPERATION_TIMEOUT))
            return false;
        /* Pairs with the exchanges in ask() and operation_cancel(). */
    } while (!cas_weak_acq_rel(&operation->state, &state, state | OPERATION_STARTED));
    return true;
}

static void advance(struct lane *lane, struct operation *operation)
{
    /* Pairs with operation_return(), which may come after request_run() looked. */
    uint64_t state = load_acquire(&operation->state);

    if (operation->ended) {
        finish(lane, operation);
    } else if (!(state & OPERATION_STARTED)) {
        if (start(operation))
            operation->kind->start(lane, operation);
        else
            operation_end(lane, operation, -ECANCELED);
    } else if (state & OPERATION_RETURNED) {
        operation->kind->returned(lane, operation);
    } else if (operation_is_cancelled(operation) && !operation->cancel_sent) {
        operation->cancel_sent = true;
        if (operation->kind->cancel)
            operation->kind->cancel(lane, operation);
    }
}

static void request_run(struct lane *lane, struct lane_request *request)
{
    struct operation *operation = container_of(request, struct operation, request);

    /* Pairs with ask() and operation_cancel(): what was asked before is seen now. */
    (void)and_acq_rel(&operation->state, ~(uint64_t)OPERATION_QUEUED);
    if (!operation->listed) {
        operation->listed = true;
        (void)lane_handle_add(lane, &operation->handle);
    }
    advance(lane, operation);
}

/* Work in hand goes on until the drain's deadline. */
static void operation_drain(struct lane *lane, struct lane_handle *handle)
{
    (void)lane;
    (void)handle;
}

static void operation_abort(struct lane *lane, struct lane_handle *handle)
{
    struct operation *operation = container_of(handle, struct operation, handle);
    uint64_t state = load_relaxed(&operation->state); /* Relaxed: the exchange validates it. */

    do {
        if (state & (OPERATION_CANCEL | OPERATION_TIMEOUT))
            return; /* It is asked to end already. */
        /* Pairs with ask() and operation_cancel(). */
    } while (!cas_weak_acq_rel(&operation->state, &state, state | OPERATION_CANCEL));
    if (state & OPERATION_STARTED && !operation->ended)
        advance(lane, operation);
}
