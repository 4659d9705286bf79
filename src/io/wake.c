/* Wakes: an eventfd that is read on a lane. See source.h.
 *
 * State word:  31             1      0
 *             +----------------+------+
 *             | ringers inside | rung |
 *             +----------------+------+
 *
 * Whoever finds it not rung makes it rung and writes to the eventfd; the others rely on that write.
 * The worker takes "rung" off before it calls, so a later ring brings another call. The end waits
 * for the moment until those who write have left: the call that a ring brings may close the wake
 * before that ring has returned.
 *
 * create, ring, close: any thread, and ring in a signal handler. rung_run, wake_closed: a worker.
 */
#include "rondo/wake.h"

#include "source.h"

#include "clock.h"

enum { WAKE_RUNG = 1, WAKE_RINGER = 2 };

struct rondo_wake {
    struct source source;
    struct hub *hub;
    uint64_t count; /* what is read, and nobody asks for */
    _Atomic uint32_t state;
    const struct rondo_wake_handlers *handlers;
    void *ctx;
};

static struct rondo_wake *wake_of(struct handle *handle)
{
    return container_of(source_of(handle), struct rondo_wake, source);
}

static void rung_run(struct runnable *runnable)
{
    struct rondo_wake *wake = container_of(runnable, struct rondo_wake, source.event);

    /* Pairs with the exchange in rondo_wake_ring(): what was written before is seen in rung(), and
     * a ring from here on brings another call. */
    (void)and_acq_rel(&wake->state, ~(uint32_t)WAKE_RUNG);
    if (!handle_has_flag(&wake->source.handle, HANDLE_CLOSE))
        wake->handlers->rung(wake, wake->ctx);
    source_consumed(&wake->source);
}

static void wake_closed(struct handle *handle)
{
    struct rondo_wake *wake = wake_of(handle);

    if (wake->handlers->closed)
        wake->handlers->closed(wake, handle->error, wake->ctx);
}

static void wake_destroy(struct handle *handle)
{
    struct rondo_wake *wake = wake_of(handle);

    /* Pairs with the exchanges in rondo_wake_ring(). */
    while (load_acquire(&wake->state) >= WAKE_RINGER)
        clock_nap_ns(NS_PER_MS / 20);
    source_fini(&wake->source);
    sys.release(wake);
}

static const struct handle_kind wake_kind = {
    .name = "wake",
    .advance = source_advance,
    .quiesce = source_quiesce,
    .closed = wake_closed,
    .destroy = wake_destroy,
};

RONDO_PUBLIC int rondo_wake_create(rondo_loop *loop, const struct rondo_wake_handlers *handlers,
                                   void *ctx, rondo_wake **ret_wake)
{
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error)
        return error;
    if (!ret_wake || !handlers || handlers->size != sizeof(*handlers) || !handlers->rung)
        return -EINVAL;
    struct rondo_wake *wake = sys.alloc(sizeof(*wake));
    if (!wake)
        return -ENOMEM;
    int fd = sys.event_create();
    if (fd >= 0 && source_init(&wake->source, &wake_kind, hub_lane(hub), fd, &wake->count,
                               sizeof(wake->count))) {
        wake->source.event.run = rung_run;
        wake->hub = hub;
        wake->handlers = handlers;
        wake->ctx = ctx;
        *ret_wake = wake;
        handle_submit(&wake->source.handle);
        return 0;
    }
    if (fd >= 0)
        (void)sys.close(fd);
    sys.release(wake);
    return fd < 0 ? fd : -ESHUTDOWN;
}

RONDO_PUBLIC int rondo_wake_ring(rondo_wake *wake)
{
    uint32_t state;
    int error;

    if (!wake)
        return -EINVAL;
    if (hub_is_forked(wake->hub))
        return -ECHILD;
    state = load_relaxed(&wake->state); /* Relaxed: the exchange validates it. */
    /* Pairs with rung_run() and wake_destroy(). One that is rung is exchanged for the same, so that
     * what was written before is published too. */
    while (!cas_weak_acq_rel(&wake->state, &state,
                             state & WAKE_RUNG ? state : (state | WAKE_RUNG) + WAKE_RINGER))
        ;
    if (state & WAKE_RUNG)
        return 0;
    error = sys.event_ring(wake->source.fd);
    (void)sub_acq_rel(&wake->state, WAKE_RINGER); /* Pairs with wake_destroy(). */
    return error;
}

RONDO_PUBLIC int rondo_wake_close(rondo_wake *wake)
{
    return wake ? handle_close(&wake->source.handle) : -EINVAL;
}

RONDO_PUBLIC rondo_strand *rondo_wake_strand(rondo_wake *wake)
{
    return wake ? (rondo_strand *)&wake->source.handle.strand : NULL;
}
