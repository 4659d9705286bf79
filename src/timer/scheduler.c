/* The loop of the scheduler thread; see scheduler.h. */
#include "scheduler.h"

#include "error.h"
#include "strand.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum {
    SCHEDULER_SUBMISSIONS = 8,
    SCHEDULER_COMPLETIONS = 64,
    SCHEDULER_BATCH = 256,      /* timers fired with one push */
    SCHEDULER_SWEEP_MIN = 1024, /* cancelled timers below which no sweep is worth it */
    SCHEDULER_RETRY_MS = 10,    /* when there is no memory for the heap */
};

/* The only things in the ring. */
enum { DATA_BELL = 1, DATA_TIMEOUT = 2, DATA_UPDATE = 3 };

static bool is_time_to_sweep(struct scheduler *scheduler)
{
    /* Relaxed: estimates, a sweep may come a little early or late. */
    int32_t cancelled = (int32_t)load_relaxed(&scheduler->cancelled_count);

    return cancelled >= SCHEDULER_SWEEP_MIN &&
           (uint32_t)cancelled > load_relaxed(&scheduler->armed_count) / 2;
}

/* Whoever cancels the timer that makes a sweep due wakes the scheduler for it. */
static void timer_cancelled(struct callback_holder *holder)
{
    struct scheduler *scheduler = container_of(holder, struct scheduler, holder);

    (void)add_relaxed(&scheduler->cancelled_count, 1); /* Relaxed: the fence orders it. */
    fence_seq_cst(); /* Pairs with the fence in pass(): counted before we look for a sleeper. */
    if (is_time_to_sweep(scheduler) && inbox_is_asleep(&scheduler->inbox))
        bell_ring(&scheduler->bell);
}

static bool drop_cancelled(struct callback *callback)
{
    if (!callback_is_cancelled(callback))
        return false;
    callback_free(callback);
    return true;
}

static void sweep(struct scheduler *scheduler)
{
    uint32_t before = scheduler->heap.count;

    heap_sweep(&scheduler->heap, drop_cancelled);
    /* Relaxed: an estimate. */
    (void)sub_relaxed(&scheduler->cancelled_count, before - scheduler->heap.count);
}

/* New timers go into the heap; false when there is no memory for all of them now. */
static bool absorb(struct scheduler *scheduler)
{
    (void)inbox_take(&scheduler->inbox, &scheduler->arriving);
    while (scheduler->arriving.first) {
        struct callback *callback =
            container_of(runnable_of(scheduler->arriving.first), struct callback, runnable);
        struct node *next = callback->runnable.node.next;
        if (!heap_push(&scheduler->heap, callback))
            return false;
        scheduler->arriving.first = next;
        scheduler->arriving.count--;
    }
    scheduler->arriving = (struct chain){0};
    return true;
}

/* Move what is due from the heap to the workers. */
static void fire(struct scheduler *scheduler)
{
    uint64_t now_ns = clock_now_ns();
    struct chain ready = {0};
    const struct heap_entry *top;

    while ((top = heap_top(&scheduler->heap)) && top->deadline_ns <= now_ns) {
        struct callback *callback = heap_pop(&scheduler->heap);
        struct strand *strand = callback->strand;
        if (!callback_make_ready(callback)) {
            (void)sub_relaxed(&scheduler->cancelled_count, 1); /* Relaxed: an estimate. */
            callback_free(callback);
            continue;
        }
        count_add(&scheduler->fired_count, 1);
        if (!strand)
            chain_append(&ready, &callback->runnable.node);
        else if (strand_push(strand, &callback->runnable))
            chain_append(&ready, &strand->runnable.node);
        if (ready.count == SCHEDULER_BATCH)
            pool_push(scheduler->pool, &ready);
    }
    if (ready.count > 0)
        pool_push(scheduler->pool, &ready);
}

static void watch(struct scheduler *scheduler)
{
    uint64_t now_ns = clock_now_ns();

    /* Pairs with the exchange in scheduler_watch(). */
    if (exchange_acq_rel(&scheduler->watch_asked, false) && !scheduler->watching) {
        scheduler->watching = true;
        scheduler->tick_ns = now_ns + scheduler->watch_period_ns;
        scheduler->look_ns = now_ns; /* The first look begins to measure. */
    }
    if (scheduler->watching && now_ns >= scheduler->look_ns) {
        overload_look(scheduler->pool, now_ns);
        scheduler->look_ns = now_ns + scheduler->look_period_ns;
    }
    if (scheduler->watching && now_ns >= scheduler->tick_ns) {
        /* What overload paused goes on only if somebody sees that it is over. */
        scheduler->watching =
            pool_watch_tick(scheduler->pool) || overload_is_on(&scheduler->pool->overload);
        scheduler->tick_ns = now_ns + scheduler->watch_period_ns;
    }
}

static struct io_uring_sqe *submission(struct scheduler *scheduler, uint64_t data)
{
    struct io_uring_sqe *sqe = ring_submission(&scheduler->ring);

    RONDO_ASSERT(sqe); /* At most two are filled in a pass. */
    sqe->user_data = data;
    return sqe;
}

/* Bring the one timeout in the ring to @deadline_ns, unless it comes before it already. */
static void arm(struct scheduler *scheduler, uint64_t deadline_ns)
{
    if (deadline_ns >= scheduler->armed_ns)
        return;
    scheduler->timeout.tv_sec = (int64_t)(deadline_ns / NS_PER_SECOND);
    scheduler->timeout.tv_nsec = (int64_t)(deadline_ns % NS_PER_SECOND);
    if (scheduler->armed_ns == DEADLINE_NEVER)
        io_uring_prep_timeout(submission(scheduler, DATA_TIMEOUT), &scheduler->timeout, 0,
                              IORING_TIMEOUT_ABS);
    else
        io_uring_prep_timeout_update(submission(scheduler, DATA_UPDATE), &scheduler->timeout,
                                     DATA_TIMEOUT, IORING_TIMEOUT_ABS);
    scheduler->armed_ns = deadline_ns;
}

static void bell_arm(struct scheduler *scheduler)
{
    if (scheduler->bell_armed)
        return;
    io_uring_prep_poll_multishot(submission(scheduler, DATA_BELL), scheduler->bell.fd, POLLIN);
    scheduler->bell_armed = true;
}

static void reap(struct scheduler *scheduler)
{
    struct completion done[16];
    uint32_t count;

    while ((count = ring_reap(&scheduler->ring, done, ARRAY_SIZE(done))) > 0)
        for (uint32_t i = 0; i < count; i++) {
            bool more = done[i].flags & IORING_CQE_F_MORE;
            if (done[i].user_data == DATA_TIMEOUT)
                scheduler->armed_ns = DEADLINE_NEVER; /* It fired, as -ETIME. */
            else if (done[i].user_data == DATA_BELL)
                scheduler->bell_armed = more;
            /* An update that found nothing (-ENOENT) met its timeout firing, told above. */
        }
}

static uint64_t next_deadline(struct scheduler *scheduler)
{
    const struct heap_entry *top = heap_top(&scheduler->heap);
    uint64_t deadline_ns = top ? top->deadline_ns : DEADLINE_NEVER;

    if (!scheduler->watching)
        return deadline_ns;
    if (scheduler->look_ns < deadline_ns)
        deadline_ns = scheduler->look_ns;
    return scheduler->tick_ns < deadline_ns ? scheduler->tick_ns : deadline_ns;
}

static void pass(struct scheduler *scheduler)
{
    bool absorbed = absorb(scheduler);

    if (is_time_to_sweep(scheduler))
        sweep(scheduler);
    fire(scheduler);
    watch(scheduler);
    store_relaxed(&scheduler->armed_count, scheduler->heap.count); /* Relaxed: an estimate. */
    bell_arm(scheduler);
    uint64_t deadline_ns = next_deadline(scheduler);
    if (!absorbed && deadline_ns > clock_now_ns() + SCHEDULER_RETRY_MS * NS_PER_MS)
        deadline_ns = clock_now_ns() + SCHEDULER_RETRY_MS * NS_PER_MS;
    arm(scheduler, deadline_ns);
    if (!inbox_sleep(&scheduler->inbox))
        return;
    fence_seq_cst(); /* Pairs with the fence in timer_cancelled(): asleep before we look. */
    if (is_time_to_sweep(scheduler)) {
        inbox_awake(&scheduler->inbox);
        return;
    }
    /* Retried by the next pass when interrupted or short of memory. */
    (void)ring_enter(&scheduler->ring, 1);
    inbox_awake(&scheduler->inbox);
    count_add(&scheduler->wake_count, 1);
    reap(scheduler);
}

static void *scheduler_main(void *arg)
{
    struct scheduler *scheduler = arg;

    (void)pthread_setname_np(pthread_self(), "rondo-sched");
    scheduler->start_error = ring_enable(&scheduler->ring);
    latch_set(&scheduler->ready);
    if (scheduler->start_error)
        return NULL;
    /* Runs until stop. Acquire pairs with the release in scheduler_stop(). */
    while (!load_acquire(&scheduler->stopping))
        pass(scheduler);
    return NULL;
}

int scheduler_init(struct scheduler *scheduler, struct pool *pool, uint64_t watch_period_ns)
{
    struct ring_options ring_options = {SCHEDULER_SUBMISSIONS, SCHEDULER_COMPLETIONS};
    int error;

    memset(scheduler, 0, sizeof(*scheduler));
    scheduler->pool = pool;
    scheduler->watch_period_ns = watch_period_ns;
    scheduler->look_period_ns = overload_period_ns(&pool->overload, watch_period_ns);
    scheduler->armed_ns = DEADLINE_NEVER;
    scheduler->holder.cancelled = timer_cancelled;
    inbox_init(&scheduler->inbox, false);
    error = ring_init(&scheduler->ring, &ring_options);
    if (error)
        return error;
    error = bell_init(&scheduler->bell);
    if (error) {
        ring_fini(&scheduler->ring);
        return error_set(error, "no descriptor for the scheduler: raise `ulimit -n`");
    }
    return 0;
}

/* Timers that were not due never fire. */
static bool drop_all(struct callback *callback)
{
    callback_free(callback);
    return true;
}

void scheduler_fini(struct scheduler *scheduler)
{
    struct node *node;

    (void)inbox_take(&scheduler->inbox, &scheduler->arriving);
    while ((node = chain_take(&scheduler->arriving)))
        callback_free(container_of(runnable_of(node), struct callback, runnable));
    heap_sweep(&scheduler->heap, drop_all);
    heap_fini(&scheduler->heap);
    bell_fini(&scheduler->bell);
    ring_fini(&scheduler->ring);
}

void scheduler_abandon(struct scheduler *scheduler)
{
    heap_fini(&scheduler->heap);
    bell_fini(&scheduler->bell);
    ring_abandon(&scheduler->ring);
}

int scheduler_start(struct scheduler *scheduler)
{
    int error = sys.thread_create(&scheduler->thread, scheduler_main, scheduler);

    if (error)
        return error_set(error, "no thread for the scheduler: %s", rondo_error_name(error));
    latch_wait(&scheduler->ready);
    if (scheduler->start_error)
        (void)pthread_join(scheduler->thread, NULL);
    else
        scheduler->started = true;
    /* The thread's own text stayed with the thread. */
    return scheduler->start_error ? ring_explain(scheduler->start_error) : 0;
}

void scheduler_stop(struct scheduler *scheduler)
{
    if (!scheduler->started)
        return;
    store_release(&scheduler->stopping, true); /* Pairs with the acquire in scheduler_main(). */
    bell_ring(&scheduler->bell);
    (void)pthread_join(scheduler->thread, NULL);
    scheduler->started = false;
}

void scheduler_finish(struct scheduler *scheduler)
{
    (void)absorb(scheduler);
    fire(scheduler);
}

void scheduler_arm(struct scheduler *scheduler, struct callback *callback)
{
    store_relaxed(&callback->holder, &scheduler->holder); /* Relaxed: the inbox publishes it. */
    if (inbox_push(&scheduler->inbox, &callback->runnable.node))
        bell_ring(&scheduler->bell);
}

void scheduler_watch(struct scheduler *scheduler)
{
    /* Pairs with the exchange in watch(). */
    if (!exchange_acq_rel(&scheduler->watch_asked, true))
        bell_ring(&scheduler->bell);
}
