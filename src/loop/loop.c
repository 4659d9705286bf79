/* Creating, starting and ending a loop; see loop.h for the order of things. */
#include "loop.h"

#include "error.h"
#include "fork.h"
#include "options.h"
#include "worker.h"

#include <errno.h>
#include <string.h>

static enum loop_state state_of(struct rondo_loop *loop)
{
    /* Acquire pairs with the release in state_set(). */
    return (enum loop_state)load_acquire(&loop->state);
}

static void state_set(struct rondo_loop *loop, enum loop_state state)
{
    store_release(&loop->state, state); /* Pairs with state_of(). */
}

int loop_check(const struct rondo_loop *loop)
{
    if (!loop)
        return -EINVAL;
    return hub_is_forked(&loop->hub) ? -ECHILD : 0;
}

bool loop_is_own_worker(const struct rondo_loop *loop)
{
    struct worker *worker = worker_self();

    return worker && worker->pool == &loop->pool;
}

int loop_enter(struct rondo_loop *loop)
{
    int error = loop_check(loop);

    if (error)
        return error;
    /* The loop's own workers need not be counted: they end after the gate is closed. */
    bool open = loop_is_own_worker(loop) ? !gate_is_closed(&loop->gate) : gate_enter(&loop->gate);
    return likely(open) ? 0 : -ESHUTDOWN;
}

void loop_leave(struct rondo_loop *loop)
{
    if (!loop_is_own_worker(loop))
        gate_leave(&loop->gate);
}

static void on_quiet(void *ctx)
{
    struct rondo_loop *loop = ctx;

    latch_set(&loop->quiet);
}

static void watch_start(void *ctx)
{
    struct rondo_loop *loop = ctx;

    scheduler_watch(&loop->scheduler);
}

/* The scheduler found that ready work waits too long, or no more. */
static void overload_changed(void *ctx, bool overloaded)
{
    struct rondo_loop *loop = ctx;

    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_overload(&loop->lanes[i], overloaded);
}

/* ---- creation ---- */

/* The lanes for the network, and behind them the one for files, which needs no receive buffers. */
static int lanes_create(struct rondo_loop *loop)
{
    const struct rondo_loop_options *options = &loop->options;
    uint32_t count = options->lanes + 1;

    loop->lanes = sys.alloc_aligned(count * sizeof(*loop->lanes));
    if (!loop->lanes)
        return error_set(-ENOMEM, "no memory for the lanes");
    for (uint32_t i = 0; i < count; i++) {
        bool for_files = i == options->lanes;
        struct lane_options lane_options = {
            .pool = &loop->pool,
            .life = &loop->life,
            .index = i,
            .submissions = options->submissions,
            .completions = options->completions,
            .buffers = for_files ? 0 : options->buffers,
            .buffer_size = options->buffer_size,
            .zero_copy_size = options->zero_copy_size,
        };
        int error = lane_init(&loop->lanes[i], &lane_options);
        if (error)
            return error;
        loop->lanes_ready++;
        loop->pool.bells[i] = &loop->lanes[i].bell;
    }
    loop->pool.bell_count = count;
    return 0;
}

/* What the io layer needs; the lanes are there. */
static void hub_fill(struct rondo_loop *loop)
{
    loop->hub.lanes = loop->lanes;
    loop->hub.lane_count = loop->options.lanes;
    loop->hub.pool = &loop->pool;
    loop->hub.life = &loop->life;
    loop->hub.scheduler = &loop->scheduler;
    loop->hub.write_queue_max = loop->options.write_queue_max;
    loop->hub.orphans.next = loop->hub.orphans.previous = &loop->hub.orphans;
    loop->hub.shed_after_ns = loop->options.shed_after_ns;
}

static int pool_create(struct rondo_loop *loop)
{
    struct pool_options pool_options = {
        .workers = loop->options.workers,
        .max_workers = loop->options.max_workers,
        .spin_ns = loop->options.spin_ns,
        .retire_after_ns = loop->options.retire_after_ns,
        .watch_period_ns = loop->options.grow_after_ns,
        .loop = loop,
        .watch_start = watch_start,
        .watch_ctx = loop,
        .overload =
            {
                .target_ns = loop->options.overload_target_ns,
                .after_ns = loop->options.overload_after_ns,
                .changed = overload_changed,
                .ctx = loop,
            },
    };
    int error = pool_init(&loop->pool, &pool_options);

    return error ? error_set(error, "no memory for the worker pool") : 0;
}

RONDO_PUBLIC int rondo_loop_create(const struct rondo_loop_options *options, rondo_loop **ret_loop)
{
    struct rondo_loop_options resolved;
    struct rondo_loop *loop;
    int error;

    if (!ret_loop)
        return error_set(-EINVAL, "ret_loop is NULL");
    error = options_resolve(options, &resolved);
    if (error)
        return error;
    loop = sys.alloc_aligned(sizeof(*loop));
    if (!loop)
        return error_set(-ENOMEM, "no memory for a loop");
    fork_watch();
    /* Relaxed: see hub_is_forked(). */
    loop->hub.fork_generation = load_relaxed(&fork_generation);
    loop->options = resolved;
    (void)strncpy(loop->name, resolved.name, sizeof(loop->name) - 1);
    loop->options.name = loop->name;
    loop->drain_deadline_ns = DEADLINE_NEVER;
    loop->life =
        (struct life){.connections_max = resolved.connections, .quiet = on_quiet, .ctx = loop};
    store_relaxed(&loop->life.count, resolved.lanes + 1); /* Relaxed: not shared yet. */

    error = pool_create(loop);
    if (error)
        goto out_free;
    error = scheduler_init(&loop->scheduler, &loop->pool, resolved.grow_after_ns);
    if (error)
        goto out_pool;
    error = lanes_create(loop);
    if (error)
        goto out_lanes;
    loop->hub.blocking = blocking_create(resolved.blocking_threads, resolved.retire_after_ns);
    if (!loop->hub.blocking) {
        error = error_set(-ENOMEM, "no memory for the blocking pool");
        goto out_lanes;
    }
    hub_fill(loop);
    *ret_loop = loop;
    return 0;

out_lanes:
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_fini(&loop->lanes[i]);
    sys.release(loop->lanes);
    scheduler_fini(&loop->scheduler);
out_pool:
    pool_fini(&loop->pool);
out_free:
    sys.release(loop);
    return error;
}

/* ---- start ---- */

static int threads_start(struct rondo_loop *loop)
{
    int error = scheduler_start(&loop->scheduler);

    if (error)
        return error;
    error = pool_start(&loop->pool);
    if (error)
        return error_set(error, "no thread for a worker: %s", rondo_error_name(error));
    for (uint32_t i = 0; !error && i < loop->lanes_ready; i++)
        error = lane_start(&loop->lanes[i]);
    /* Connections go to any lane, so none begins before all can. */
    for (uint32_t i = 0; !error && i < loop->lanes_ready; i++)
        lane_go(&loop->lanes[i]);
    return error;
}

RONDO_PUBLIC int rondo_loop_start(rondo_loop *loop)
{
    int error = loop_check(loop);

    if (error)
        return error;
    lock_acquire(&loop->control_lock);
    if (state_of(loop) != LOOP_CREATED) {
        error = -EBUSY;
    } else {
        error = threads_start(loop);
        loop->start_error = error;
        state_set(loop, error ? LOOP_STOPPING : LOOP_RUNNING);
    }
    lock_release(&loop->control_lock);
    return error;
}

/* ---- the end ---- */

static void lanes_drain(struct rondo_loop *loop)
{
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_drain(&loop->lanes[i]);
}

/* Cancel what is still open; once. Under the lock. */
static void lanes_abort(struct rondo_loop *loop)
{
    bool is_drained = state_of(loop) >= LOOP_DRAINING;

    if (state_of(loop) >= LOOP_STOPPING)
        return;
    state_set(loop, LOOP_STOPPING);
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_abort(&loop->lanes[i]);
    if (!is_drained)
        lanes_drain(loop);
}

/* A worker, at the drain's deadline. */
static void drain_deadline(void *ctx)
{
    struct rondo_loop *loop = ctx;

    lock_acquire(&loop->control_lock);
    if (state_of(loop) == LOOP_DRAINING && !latch_is_set(&loop->quiet)) {
        /* Release pairs with the load after the wait. */
        store_release(&loop->timed_out, true);
        lanes_abort(loop);
    }
    lock_release(&loop->control_lock);
}

RONDO_PUBLIC int rondo_loop_stop(rondo_loop *loop)
{
    int error = loop_check(loop);

    if (error)
        return error;
    lock_acquire(&loop->control_lock);
    if (state_of(loop) == LOOP_CREATED)
        error = -EINVAL;
    else
        lanes_abort(loop);
    lock_release(&loop->control_lock);
    return error;
}

/* Bring the deadline to @deadline_ns if that is nearer. Under the lock. */
static void drain_arm(struct rondo_loop *loop, uint64_t deadline_ns)
{
    if (deadline_ns >= loop->drain_deadline_ns)
        return;
    loop->drain_deadline_ns = deadline_ns;
    (void)rondo_cancel(loop->drain_timer);
    struct callback *callback = callback_alloc(drain_deadline, loop, CALLBACK_ARMED);
    if (!callback) {
        lanes_abort(loop); /* No deadline can be kept: end now rather than never. */
        return;
    }
    loop->drain_timer = callback_handle(callback);
    callback->deadline_ns = deadline_ns;
    scheduler_arm(&loop->scheduler, callback);
}

RONDO_PUBLIC int rondo_loop_drain(rondo_loop *loop, uint64_t timeout_ns)
{
    int error = loop_check(loop);

    if (error)
        return error;
    lock_acquire(&loop->control_lock);
    if (state_of(loop) == LOOP_CREATED) {
        error = -EINVAL;
    } else if (state_of(loop) < LOOP_STOPPING) {
        if (state_of(loop) == LOOP_RUNNING) {
            state_set(loop, LOOP_DRAINING);
            lanes_drain(loop);
        }
        drain_arm(loop, clock_add_ns(clock_now_ns(), timeout_ns));
    }
    lock_release(&loop->control_lock);
    return error;
}

/* The controller ends the threads of a loop whose lanes are quiet. */
static void threads_end(struct rondo_loop *loop)
{
    gate_close(&loop->gate);
    ready_queue_close(&loop->pool.ready);
    scheduler_stop(&loop->scheduler);
    pool_stop(&loop->pool);
    /* A timer that came in before the gate closed and is due still fires: here. */
    scheduler_finish(&loop->scheduler);
    worker_run_rest(&loop->pool);
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_stop(&loop->lanes[i]);
}

/* The controller ends a loop whose start failed: what was posted and what is open still gets its
 * last callback, on workers if there are any and else on this thread. */
static void threads_give_up(struct rondo_loop *loop)
{
    gate_close(&loop->gate);
    ready_queue_close(&loop->pool.ready);
    scheduler_stop(&loop->scheduler);
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_give_up(&loop->lanes[i]);
    parker_close(&loop->pool.parker);
    scheduler_finish(&loop->scheduler);
    worker_run_rest(&loop->pool);
    pool_stop(&loop->pool);
}

RONDO_PUBLIC int rondo_loop_wait(rondo_loop *loop)
{
    int error = loop_check(loop);
    bool is_controller;

    if (error)
        return error;
    if (worker_self())
        return -EDEADLK;
    lock_acquire(&loop->control_lock);
    error = state_of(loop) == LOOP_CREATED ? -EINVAL : 0;
    is_controller = !error && !loop->ending;
    loop->ending = loop->ending || is_controller;
    lock_release(&loop->control_lock);
    if (error)
        return error;

    if (is_controller) {
        if (loop->start_error) {
            threads_give_up(loop);
        } else {
            latch_wait(&loop->quiet);
            threads_end(loop);
        }
        state_set(loop, LOOP_STOPPED);
        latch_set(&loop->ended);
    }
    latch_wait(&loop->ended);
    /* Acquire pairs with the release in drain_deadline(). */
    return load_acquire(&loop->timed_out) ? -ETIMEDOUT : 0;
}

RONDO_PUBLIC int rondo_loop_run(rondo_loop *loop)
{
    int error = rondo_loop_start(loop);

    return error && error != -EBUSY ? error : rondo_loop_wait(loop);
}

/* The child of a fork has the memory and the descriptors, but none of the threads. */
static void free_forked(struct rondo_loop *loop)
{
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_abandon(&loop->lanes[i]);
    scheduler_abandon(&loop->scheduler);
    blocking_forget(loop->hub.blocking);
    pool_fini(&loop->pool);
    sys.release(loop->lanes);
    sys.release(loop);
}

RONDO_PUBLIC void rondo_loop_free(rondo_loop *loop)
{
    if (!loop)
        return;
    if (hub_is_forked(&loop->hub)) {
        free_forked(loop);
        return;
    }
    /* One that never ran is run to its end: what was posted runs, what is open is closed. */
    if (state_of(loop) == LOOP_CREATED)
        (void)rondo_loop_start(loop);
    (void)rondo_loop_stop(loop);
    (void)rondo_loop_wait(loop);
    blocking_free(loop->hub.blocking);
    hub_free_orphans(&loop->hub);
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        lane_fini(&loop->lanes[i]);
    scheduler_fini(&loop->scheduler);
    pool_fini(&loop->pool);
    sys.release(loop->lanes);
    sys.release(loop);
}

RONDO_PUBLIC rondo_loop *rondo_current_loop(void)
{
    struct worker *worker = worker_self();

    return worker ? worker->pool->options.loop : NULL;
}
