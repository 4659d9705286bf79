/* The loop of a worker thread.
 *
 * Order of picking: own queue, then a share of the ready queue, then half of another worker's
 * queue; every WORKER_SHARED_EVERY picks the ready queue comes first, so that a chain of callbacks
 * that post each other cannot starve it. Whatever a worker holds in its own queue can be stolen, so
 * a callback that blocks holds up nothing but itself.
 */
#include "worker.h"

#include "callback.h"
#include "pool.h"

#include <stdio.h>

enum {
    WORKER_SHARED_EVERY = 61,  /* prime, so that it does not beat with a user's pattern */
    WORKER_SHARE_MAX = 64,     /* most taken from the ready queue at a time */
    WORKER_OWE_RUNS_MAX = 32,  /* runs after which an owed bell is paid in any case */
    WORKER_LINGER_PAUSES = 48, /* about a microsecond */
    WORKER_LINGER_SKIP = 32,   /* parks without lingering after it was in vain */
    WORKER_LINGER_CREDIT_MAX = 64,
};

static _Thread_local struct worker *self;

struct worker *worker_self(void)
{
    return self;
}

void worker_count_run(void)
{
    count_add(&self->runs, 1);
}

static void settle(struct worker *worker)
{
    if (likely(!worker->owes))
        return;
    worker->owes = false;
    worker->owed_runs = 0;
    for (uint32_t i = 0; i < worker->pool->bell_count; i++)
        bell_pay(worker->pool->bells[i]);
}

void worker_owe(struct worker *worker)
{
    worker->owes = true;
}

void worker_push_local(struct worker *worker, struct runnable *runnable)
{
    if (likely(!worker->spilling) && local_queue_push(&worker->local, &runnable->node))
        return;
    /* Until the shared queue is empty, what follows goes behind what spilled. */
    worker->spilling = true;
    pool_yield(worker->pool, runnable);
}

/* Keep the first of @nodes to run now, put the others where they can be stolen. */
static struct node *keep(struct worker *worker, struct node **nodes, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        bool fits = local_queue_push(&worker->local, nodes[i]);
        RONDO_ASSERT(fits); /* The local queue was empty. */
    }
    return nodes[0];
}

static struct node *take_share(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct node *nodes[WORKER_SHARE_MAX] UNINITIALIZED;
    uint32_t share = ready_queue_depth(&pool->ready) / pool->options.workers + 1;
    uint32_t count =
        ready_queue_take(&pool->ready, nodes, share < WORKER_SHARE_MAX ? share : WORKER_SHARE_MAX);

    if (ready_queue_depth(&pool->ready) == 0)
        worker->spilling = false;
    if (count == 0)
        return NULL;
    worker->share_left = count - 1;
    struct node *node = keep(worker, nodes, count);
    /* Both relaxed: only the owner writes the tail, and the share is a measurement. */
    if (count > 1)
        store_relaxed(&worker->share,
                      overload_share(&pool->overload, load_relaxed(&worker->local.tail)));
    return node;
}

static struct node *steal(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct node *nodes[LOCAL_QUEUE_SIZE / 2] UNINITIALIZED;
    uint32_t slot_count = load_acquire(&pool->slot_count); /* Pairs with the release in grow. */

    for (uint32_t i = 1; i < slot_count; i++) {
        struct worker *victim = pool_worker(pool, (worker->slot + i) % slot_count);
        if (!victim || local_queue_depth(&victim->local) == 0)
            continue;
        uint32_t count = local_queue_steal(&victim->local, nodes, ARRAY_SIZE(nodes));
        if (count)
            return keep(worker, nodes, count);
    }
    return NULL;
}

/* It comes no more for what is pushed from now on, and must look once at what was. */
static void search_end(struct worker *worker)
{
    parker_search_end(&worker->pool->parker);
    worker->searching = false;
    fence_seq_cst(); /* Pairs with the fence in pool_post(). */
}

/* The next thing to run, or NULL. */
static struct node *pick(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct node *node = NULL;

    /* Not within a share, nor while its own queue spilled: what is in that queue is older. */
    if (worker->share_left > 0)
        worker->share_left--;
    else if (!worker->spilling && ++worker->turn % WORKER_SHARED_EVERY == 0)
        (void)ready_queue_take(&pool->ready, &node, 1);
    if (!node)
        node = local_queue_take(&worker->local);
    if (!node) {
        settle(worker);
        node = take_share(worker);
    }
    if (!node)
        node = steal(worker);
    if (!node)
        return NULL;
    /* A strand's turn may be long; posted callbacks in a row rarely are. */
    if (unlikely(worker->searching) && !callback_is(runnable_of(node)))
        search_end(worker);
    /* Whoever pushed the rest may have counted on this worker to come for it. */
    if (parker_idle_count(&pool->parker) > 0 && pool_ready_depth(pool) > 0)
        (void)pool_wake(pool, 1);
    return node;
}

static bool work_is_ready(struct worker *worker)
{
    return pool_ready_depth(worker->pool) > 0;
}

static bool spin(struct worker *worker)
{
    uint64_t spin_ns = worker->pool->options.spin_ns;

    if (spin_ns == 0)
        return false;
    uint64_t until_ns = clock_now_ns() + spin_ns;
    do {
        for (uint32_t i = 0; i < 16; i++) {
            if (work_is_ready(worker))
                return true;
            cpu_relax();
        }
    } while (clock_now_ns() < until_ns);
    return false;
}

/* A producer that pushes one piece after the other would wake a sleeping worker for each: give it
 * a microsecond to gather some, as long as that proves right. The pause looks at no shared memory,
 * so it does not disturb the producer. */
static bool linger(struct worker *worker)
{
    for (uint32_t i = 0; i < WORKER_LINGER_PAUSES; i++)
        cpu_relax();
    if (work_is_ready(worker)) {
        if (worker->linger_credit < WORKER_LINGER_CREDIT_MAX)
            worker->linger_credit++;
        return true;
    }
    if (worker->linger_credit > 0)
        worker->linger_credit /= 2;
    else
        worker->linger_skip = WORKER_LINGER_SKIP;
    return false;
}

/* Look a little longer, as the one worker that does, then announce this one as idle. True: there is
 * work after all.
 *
 * A worker that lingered with success stays the searching one while it runs what it found: more of
 * the same is coming, and it will be back before another worker could have got up. Should a
 * callback hold it up after all, a queue that deepens wakes others, and the watch does. */
static bool search(struct worker *worker)
{
    struct parker *parker = &worker->pool->parker;
    bool may_linger = worker->linger_skip == 0;

    if (!may_linger)
        worker->linger_skip--;
    if (!worker->searching && (may_linger || worker->pool->options.spin_ns > 0))
        worker->searching = parker_search(parker);
    if (worker->searching && may_linger && linger(worker)) {
        pool_watch(worker->pool);
        return true;
    }
    if (worker->searching && spin(worker)) {
        search_end(worker);
        return true;
    }
    parker_announce(parker, worker->searching);
    worker->searching = false;
    if (ready_queue_is_empty(&worker->pool->ready) && !work_is_ready(worker))
        return false;
    (void)parker_leave(parker);
    return true;
}

/* Sleep until there may be work. False: this worker is to end. */
static bool park(struct worker *worker)
{
    struct pool *pool = worker->pool;
    uint64_t deadline_ns = DEADLINE_NEVER;

    settle(worker);
    if (search(worker))
        return true;
    count_add(&worker->parks, 1);
    if (worker->rank == PARKER_SURPLUS)
        deadline_ns = clock_add_ns(clock_now_ns(), pool->options.retire_after_ns);
    switch (parker_sleep(&pool->parker, worker->rank, deadline_ns)) {
    case PARK_WOKEN:
        return true;
    case PARK_CLOSED:
        return work_is_ready(worker);
    case PARK_TIMED_OUT:
        (void)add_relaxed(&pool->retired_count, 1); /* Relaxed: a statistic. */
        return false;
    }
    return true;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct pool *pool = worker->pool;
    char name[16];

    (void)snprintf(name, sizeof(name), "rondo-w%u", worker->slot % 1000000);
    (void)pthread_setname_np(pthread_self(), name);
    store_relaxed(&worker->thread_id, sys.thread_id()); /* Relaxed: a number for the watch. */
    self = worker;
    for (;;) { /* Runs until the pool is closed, or a surplus worker has idled long enough. */
        struct node *node = pick(worker);
        if (node) {
            struct runnable *runnable = runnable_of(node);
            runnable->run(runnable);
            worker_count_run();
            if (unlikely(worker->owes) && ++worker->owed_runs >= WORKER_OWE_RUNS_MAX)
                settle(worker);
        } else if (!park(worker)) {
            break;
        }
    }
    RONDO_ASSERT(local_queue_depth(&worker->local) == 0);
    self = NULL;
    (void)sub_acq_rel(&pool->alive_count, 1);   /* Pairs with the load in the watch. */
    store_release(&worker->life, WORKER_ENDED); /* Pairs with the acquire before a join. */
    return NULL;
}

void worker_run_rest(struct pool *pool)
{
    struct worker *worker = sys.alloc_aligned(sizeof(*worker));
    struct node *node;

    RONDO_ASSERT(worker && !self);
    worker->pool = pool;
    self = worker;
    while ((node = pick(worker)))
        runnable_of(node)->run(runnable_of(node));
    self = NULL;
    sys.release(worker);
}

int worker_start(struct worker *worker)
{
    /* Relaxed: only the starter writes it while no thread runs. */
    store_relaxed(&worker->life, WORKER_ALIVE);
    int error = sys.thread_create(&worker->thread, worker_main, worker);

    if (error)
        store_relaxed(&worker->life, WORKER_ABSENT); /* Relaxed: as above. */
    return error;
}
