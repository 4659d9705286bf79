/* Pushing work, starting and stopping workers, and the watch that grows the pool.
 *
 * See pool.h for which thread calls what.
 */
#include "pool.h"

#include <errno.h>

enum {
    WATCH_QUIET_TICKS = 64,   /* empty ticks after which the watch ends */
    WATCH_COMPUTES_PART = 16, /* who had this part of a tick on a processor computes */
    WATCH_SLOW_RUNS = 8,      /* a worker that finished fewer runs in a tick is slow */
    POOL_DEEP = 256,          /* so many waiting call for one more worker */
};

struct worker *pool_worker(struct pool *pool, uint32_t slot)
{
    /* Pairs with the release in worker_add(): the worker is initialised. */
    return load_acquire(&pool->slots[slot]);
}

int pool_init(struct pool *pool, const struct pool_options *options)
{
    RONDO_ASSERT(options->workers > 0 && options->workers <= options->max_workers);
    RONDO_ASSERT(options->max_workers <= POOL_WORKERS_MAX);
    *pool = (struct pool){.options = *options};
    ready_queue_init(&pool->ready);
    pool->slots = sys.alloc(options->max_workers * sizeof(*pool->slots));
    pool->samples = sys.alloc(options->max_workers * sizeof(*pool->samples));
    int error = overload_init(&pool->overload, &options->overload, options->max_workers);
    if (pool->slots && pool->samples && !error)
        return 0;
    pool_fini(pool);
    return -ENOMEM;
}

void pool_fini(struct pool *pool)
{
    /* Relaxed: all threads have ended. */
    for (uint32_t i = 0; pool->slots && i < load_relaxed(&pool->slot_count); i++)
        sys.release(load_relaxed(&pool->slots[i]));
    overload_fini(&pool->overload);
    ready_queue_fini(&pool->ready);
    sys.release(pool->slots);
    sys.release(pool->samples);
    pool->slots = NULL;
    pool->samples = NULL;
}

/* A worker in a slot that has none, or whose worker retired. Controller or scheduler thread. */
static int worker_add(struct pool *pool)
{
    uint32_t count = load_relaxed(&pool->slot_count); /* Relaxed: written here only. */
    struct worker *worker = NULL;
    int error;

    for (uint32_t i = pool->options.workers; i < count && !worker; i++) {
        struct worker *old = pool_worker(pool, i);
        uint32_t life = load_acquire(&old->life); /* Pairs with the release at its end. */
        if (life == WORKER_ALIVE)
            continue;
        if (life == WORKER_ENDED)
            (void)pthread_join(old->thread, NULL);
        worker = old;
    }
    if (!worker) {
        if (count == pool->options.max_workers)
            return -EAGAIN;
        worker = sys.alloc_aligned(sizeof(*worker));
        if (!worker)
            return -ENOMEM;
        worker->pool = pool;
        worker->slot = count;
        worker->rank = count < pool->options.workers ? PARKER_REGULAR : PARKER_SURPLUS;
        store_release(&pool->slots[count], worker);  /* Pairs with pool_worker(). */
        store_release(&pool->slot_count, count + 1); /* Pairs with the loads of the count. */
    }
    (void)add_acq_rel(&pool->alive_count, 1); /* Pairs with the decrement at a worker's end. */
    error = worker_start(worker);
    if (error)
        (void)sub_acq_rel(&pool->alive_count, 1);
    return error;
}

int pool_start(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        int error = worker_add(pool);
        if (error)
            return error;
    }
    return 0;
}

void pool_stop(struct pool *pool)
{
    parker_close(&pool->parker);
    /* Acquire pairs with worker_add(): the scheduler has stopped growing before. */
    for (uint32_t i = 0; i < load_acquire(&pool->slot_count); i++) {
        struct worker *worker = pool_worker(pool, i);
        if (load_acquire(&worker->life) == WORKER_ABSENT) /* Pairs with its end. */
            continue;
        (void)pthread_join(worker->thread, NULL);
        store_relaxed(&worker->life, WORKER_ABSENT); /* Relaxed: joined. */
    }
    RONDO_ASSERT(pool_ready_depth(pool) == 0);
}

void pool_watch(struct pool *pool)
{
    /* Relaxed look first, it is nearly always set under load. The exchange pairs with the one that
     * ends the watch in pool_watch_tick(). */
    if (!load_relaxed(&pool->watching) && !exchange_seq_cst(&pool->watching, true))
        pool->options.watch_start(pool->options.watch_ctx);
}

uint32_t pool_wake(struct pool *pool, uint32_t count)
{
    uint32_t woken = parker_wake(&pool->parker, count);

    if (woken > 0)
        (void)add_relaxed(&pool->wake_count, woken); /* Relaxed: a statistic. */
    return woken;
}

/* @count pieces of work were pushed: wake a worker for each, or have the rest watched. Workers on
 * their way save wake-ups, but one of them may get stuck in the first thing it takes. */
static void announce(struct pool *pool, uint32_t count)
{
    if (pool_wake(pool, count) < count)
        pool_watch(pool);
}

void pool_push(struct pool *pool, struct chain *chain)
{
    uint32_t count = chain->count;

    ready_queue_push(&pool->ready, chain);
    /* A queue that deepens needs more workers than its pushers counted. */
    announce(pool, count + ready_queue_depth(&pool->ready) / POOL_DEEP);
}

bool pool_post_outside(struct pool *pool, struct runnable *runnable)
{
    if (!ready_queue_push_outside(&pool->ready, &runnable->node))
        return false;
    announce(pool, 1 + ready_queue_depth(&pool->ready) / POOL_DEEP);
    return true;
}

void pool_yield(struct pool *pool, struct runnable *runnable)
{
    struct chain chain = {0};

    chain_append(&chain, &runnable->node);
    pool_push(pool, &chain);
}

void pool_post(struct pool *pool, struct runnable *runnable)
{
    struct worker *worker = worker_self();

    if (!worker || worker->pool != pool) {
        pool_yield(pool, runnable);
        return;
    }
    worker_push_local(worker, runnable);
    /* The worker will come to it itself; should it get stuck before, the watch sees it. */
    if (!load_relaxed(&pool->watching)) { /* Relaxed: the watch outlasts a late answer. */
        fence_seq_cst(); /* Pairs with parker_announce(): pushed before we look for sleepers. */
        announce(pool, 1);
    }
}

void pool_ring(struct pool *pool, struct bell *bell)
{
    struct worker *worker = worker_self();

    /* Relaxed: the watch outlasts a late answer, see pool_watch_tick(). */
    if (worker && worker->pool == pool && load_relaxed(&pool->watching) &&
        local_queue_depth(&worker->local) > 0) {
        bell_owe(bell);
        worker_owe(worker);
    } else {
        bell_ring(bell);
    }
}

uint64_t pool_ready_depth(struct pool *pool)
{
    uint64_t depth = ready_queue_depth(&pool->ready);

    /* Acquire pairs with worker_add(). */
    for (uint32_t i = 0; i < load_acquire(&pool->slot_count); i++)
        depth += local_queue_depth(&pool_worker(pool, i)->local);
    return depth;
}

/* In a whole tick the worker finished next to nothing: is that its callback's doing? */
static bool is_stuck(const struct worker *worker, uint64_t used_ns)
{
    if (used_ns >= worker->pool->options.watch_period_ns / WATCH_COMPUTES_PART)
        return true;
    int32_t id = load_relaxed(&worker->thread_id); /* Relaxed: written before its first run. */
    return id != 0 && sys.thread_is_blocked(id);
}

/* Compare each worker with the last tick: how many go on, and whether work that was ready then is
 * waiting still. */
static uint32_t watch_sample(struct pool *pool, bool *ret_waited)
{
    uint32_t slot_count = load_relaxed(&pool->slot_count); /* Relaxed: this thread writes it. */
    uint64_t pushed = ready_queue_pushed(&pool->ready);
    uint64_t depth = ready_queue_depth(&pool->ready);
    uint32_t going_count = 0;

    *ret_waited = depth > 0 && pushed - depth < pool->sample_pushed;
    pool->sample_pushed = pushed;
    for (uint32_t i = 0; i < slot_count; i++) {
        struct worker *worker = pool_worker(pool, i);
        struct watch_sample *last = &pool->samples[i];
        if (load_acquire(&worker->life) != WORKER_ALIVE) /* Pairs with the release at its end. */
            continue;
        /* All relaxed: samples of one-writer values. */
        struct watch_sample now = {
            .runs = load_relaxed(&worker->runs),
            .parks = load_relaxed(&worker->parks),
            .cpu_ns = sys.thread_cpu_ns(worker->thread),
            .local_head = load_relaxed(&worker->local.head),
            .local_waiting = local_queue_depth(&worker->local) > 0,
        };
        if (last->local_waiting && now.local_waiting && last->local_head == now.local_head)
            *ret_waited = true;
        if (now.runs - last->runs >= WATCH_SLOW_RUNS || now.parks != last->parks ||
            !is_stuck(worker, now.cpu_ns - last->cpu_ns))
            going_count++;
        *last = now;
    }
    return going_count;
}

static void grow(struct pool *pool, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (worker_add(pool) != 0)
            return; /* At the limit, or short of threads: the next tick tries again. */
        add_relaxed(&pool->grown_count, 1); /* Relaxed: a statistic. */
    }
}

bool pool_watch_tick(struct pool *pool)
{
    bool waited;
    uint32_t going_count = watch_sample(pool, &waited);
    uint64_t depth = pool_ready_depth(pool);
    uint32_t count = depth < UINT32_MAX - 1 ? (uint32_t)depth : UINT32_MAX - 1;

    /* A worker that owes a wake-up may be the one that is stuck. */
    for (uint32_t i = 0; i < pool->bell_count; i++)
        bell_pay(pool->bells[i]);

    if (depth > 0) {
        pool->quiet_ticks = 0;
        /* An exchange only where it changes something: the word is read by every pusher. */
        if (!load_relaxed(&pool->watching)) /* Relaxed: this thread alone clears it. */
            (void)exchange_seq_cst(&pool->watching, true);
        /* One more than there is work for: who counts as coming may be stuck. */
        if (waited && pool_wake(pool, count + 1) == 0 && going_count < pool->options.workers)
            grow(pool, pool->options.workers - going_count < count
                           ? pool->options.workers - going_count
                           : count);
        return true;
    }
    if (++pool->quiet_ticks < WATCH_QUIET_TICKS)
        return true;
    if (load_relaxed(&pool->watching)) { /* Relaxed: as above. */
        /* One more tick follows: whoever still believed in the watch is seen by then. */
        (void)exchange_seq_cst(&pool->watching, false); /* Pairs with pool_watch(). */
        return true;
    }
    pool->quiet_ticks = 0;
    return false;
}
