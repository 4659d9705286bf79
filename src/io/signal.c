/* Watchers of signals, and waiting for one once; see signal_source.h.
 *
 * Public functions: any thread. received_run, signal_closed, wait_release: a worker. The rest: the
 * lane's thread.
 */
#include "signal_source.h"

#include "operation.h"

#include <signal.h>

enum {
    SIGNAL_CONSUMED = HANDLE_OWN,
    SIGNAL_MAX = 64,
};

/* A watcher. Its queue is a ring with three places that only move on:
 *
 *   taken_count   <=   given_count   <=   queued_count
 *        the worker's event       waits for the next event
 */
struct rondo_signal {
    struct handle handle;
    struct signal_taker taker;
    const struct rondo_signal_handlers *handlers;
    void *ctx;
    struct rondo_signal_info queue[SIGNAL_QUEUE_COUNT];

    /* Lane thread only. */
    uint32_t taken_count;
    uint32_t given_count;
    uint32_t queued_count;

    /* The event: from taken_count on, as it was then. */
    struct runnable event;
    uint32_t event_begin;
    uint32_t event_count;
};

static struct rondo_signal *signal_of(struct handle *handle)
{
    return container_of(handle, struct rondo_signal, handle);
}

/* ---- a watcher, on a worker ---- */

static void received_run(struct runnable *runnable)
{
    struct rondo_signal *signal = container_of(runnable, struct rondo_signal, event);

    for (uint32_t i = 0; i < signal->event_count; i++) {
        if (handle_has_flag(&signal->handle, HANDLE_CLOSE))
            break;
        signal->handlers->received(
            signal, &signal->queue[(signal->event_begin + i) % SIGNAL_QUEUE_COUNT], signal->ctx);
    }
    (void)handle_ask(&signal->handle, SIGNAL_CONSUMED);
}

static void signal_closed(struct handle *handle)
{
    struct rondo_signal *signal = signal_of(handle);

    if (signal->handlers->closed)
        signal->handlers->closed(signal, handle->error, signal->ctx);
    signal_source_put(signal->taker.source);
}

static void signal_destroy(struct handle *handle)
{
    sys.release(signal_of(handle));
}

/* ---- a watcher, on the lane ---- */

/* Give the worker what is queued, unless it still has some. */
static void give(struct lane *lane, struct rondo_signal *signal)
{
    if (signal->given_count != signal->taken_count || signal->queued_count == signal->given_count)
        return;
    signal->event_begin = signal->taken_count;
    signal->event_count = signal->queued_count - signal->taken_count;
    signal->given_count = signal->queued_count;
    handle_post(lane, &signal->handle, &signal->event);
}

static void watcher_deliver(struct lane *lane, struct signal_taker *taker,
                            const struct rondo_signal_info *info)
{
    struct rondo_signal *signal = container_of(taker, struct rondo_signal, taker);

    RONDO_ASSERT(!taker->is_full);
    signal->queue[signal->queued_count++ % SIGNAL_QUEUE_COUNT] = *info;
    taker->is_full = signal->queued_count - signal->taken_count == SIGNAL_QUEUE_COUNT;
    give(lane, signal);
}

static void watcher_fail(struct lane *lane, struct signal_taker *taker, int error)
{
    struct rondo_signal *signal = container_of(taker, struct rondo_signal, taker);

    handle_fail(&signal->handle, error);
    handle_advance(lane, &signal->handle);
}

static void signal_advance(struct lane *lane, struct handle *handle)
{
    struct rondo_signal *signal = signal_of(handle);
    struct signal_taker *taker = &signal->taker;
    int error = taker->listed ? 0 : signal_taker_add(lane, taker);

    if (error)
        handle_fail(handle, error);
    /* Pairs with handle_ask() in received_run(): the worker has read its part of the queue. */
    if (!(and_acq_rel(&handle->flags, ~(uint32_t)SIGNAL_CONSUMED) & SIGNAL_CONSUMED))
        return;
    signal->taken_count = signal->given_count;
    give(lane, signal);
    if (!taker->is_full)
        return;
    taker->is_full = false;
    signal_taker_has_room(lane, taker);
}

static bool signal_quiesce(struct lane *lane, struct handle *handle)
{
    struct signal_taker *taker = &signal_of(handle)->taker;

    signal_taker_remove(taker);
    if (taker->is_full)
        signal_taker_has_room(lane, taker);
    taker->is_full = false;
    return true;
}

static const struct handle_kind signal_kind = {
    .name = "signal",
    .advance = signal_advance,
    .quiesce = signal_quiesce,
    .closed = signal_closed,
    .destroy = signal_destroy,
};

/* ---- a watcher, any thread ---- */

/* The bit of @number, or 0: it cannot be watched. */
static uint64_t bit_of(int number)
{
    bool is_kept = number == SIGKILL || number == SIGSTOP || number == 32 || number == 33;

    return number < 1 || number > SIGNAL_MAX || is_kept ? 0 : UINT64_C(1) << (number - 1);
}

RONDO_PUBLIC int rondo_signal_create(rondo_loop *loop, int number,
                                     const struct rondo_signal_handlers *handlers, void *ctx,
                                     rondo_signal **ret_signal)
{
    struct signal_source *source;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error)
        return error;
    if (!ret_signal || !handlers || handlers->size != sizeof(*handlers) || !handlers->received ||
        !bit_of(number))
        return -EINVAL;
    struct rondo_signal *signal = sys.alloc(sizeof(*signal));
    if (!signal)
        return -ENOMEM;
    error = signal_source_get(hub, &source);
    if (error) {
        sys.release(signal);
        return error;
    }
    if (!handle_init(&signal->handle, &signal_kind, &hub->lanes[0], -1)) {
        signal_source_put(source);
        sys.release(signal);
        return -ESHUTDOWN;
    }
    signal->taker.source = source;
    signal->taker.mask = bit_of(number);
    signal->taker.deliver = watcher_deliver;
    signal->taker.fail = watcher_fail;
    signal->event.run = received_run;
    signal->handlers = handlers;
    signal->ctx = ctx;
    (void)sys.signal_block(signal->taker.mask);
    *ret_signal = signal;
    handle_submit(&signal->handle);
    return 0;
}

RONDO_PUBLIC int rondo_signal_close(rondo_signal *signal)
{
    return signal ? handle_close(&signal->handle) : -EINVAL;
}

RONDO_PUBLIC rondo_strand *rondo_signal_strand(rondo_signal *signal)
{
    return signal ? (rondo_strand *)&signal->handle.strand : NULL;
}

/* ---- once ---- */

struct signal_operation {
    struct operation base;
    struct signal_taker taker;
    struct rondo_signal_info *info;
};

RONDO_STATIC_ASSERT(sizeof(struct signal_operation) <= OPERATION_SIZE);

static void wait_end(struct lane *lane, struct signal_operation *self, int64_t value)
{
    signal_taker_remove(&self->taker);
    operation_end(lane, &self->base, value);
}

static void wait_deliver(struct lane *lane, struct signal_taker *taker,
                         const struct rondo_signal_info *info)
{
    struct signal_operation *self = container_of(taker, struct signal_operation, taker);

    if (self->info)
        *self->info = *info;
    wait_end(lane, self, info->number);
}

static void wait_fail(struct lane *lane, struct signal_taker *taker, int error)
{
    wait_end(lane, container_of(taker, struct signal_operation, taker), error);
}

static void wait_start(struct lane *lane, struct operation *operation)
{
    struct signal_operation *self = (struct signal_operation *)operation;
    int error = signal_taker_add(lane, &self->taker);

    if (error)
        operation_end(lane, operation, error);
}

static void wait_cancel(struct lane *lane, struct operation *operation)
{
    struct signal_operation *self = (struct signal_operation *)operation;

    if (signal_is_coming(&self->taker))
        self->taker.is_cancelled = true;
    else
        wait_end(lane, self, -ECANCELED);
}

static void wait_release(struct operation *operation)
{
    signal_source_put(((struct signal_operation *)operation)->taker.source);
}

static const struct operation_kind wait_kind = {
    .name = "signal-wait",
    .start = wait_start,
    .cancel = wait_cancel,
    .release = wait_release,
};

/* The bits of @numbers, or 0: there are none, or not all can be watched. */
static uint64_t mask_of(const int *numbers, uint32_t count)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; numbers && i < count; i++) {
        if (!bit_of(numbers[i]))
            return 0;
        mask |= bit_of(numbers[i]);
    }
    return mask;
}

RONDO_PUBLIC int rondo_signal_wait(rondo_loop *loop, const int *numbers, uint32_t count,
                                   struct rondo_signal_info *ret_info,
                                   const struct rondo_request *request)
{
    struct signal_source *source;
    struct operation *operation;
    struct hub *hub;
    uint64_t mask = mask_of(numbers, count);
    int error = hub_of(loop, &hub);

    if (error || !mask)
        return error ? error : -EINVAL;
    error = signal_source_get(hub, &source);
    if (error)
        return error;
    error = operation_create(&wait_kind, hub, &hub->lanes[0], NULL, request, &operation);
    if (error) {
        signal_source_put(source);
        return error;
    }
    struct signal_operation *self = (struct signal_operation *)operation;
    self->taker.source = source;
    self->taker.mask = mask;
    self->taker.deliver = wait_deliver;
    self->taker.fail = wait_fail;
    self->info = ret_info;
    (void)sys.signal_block(mask);
    operation_submit(operation);
    return 0;
}
