/* For tests that run work on a real pool: the pool with a thread that plays the scheduler, and
 * callbacks that count, block, or note their order. */
#ifndef RONDO_TESTS_UNIT_POOL_SUPPORT_H
#define RONDO_TESTS_UNIT_POOL_SUPPORT_H

#include "support.h"

#include "pool.h"

/* ---- a pool and its watch ---- */

struct test_pool {
    struct pool pool;
    pthread_t ticker;
    uint64_t period_ns;
    struct counter asked; /* times the watch was asked for; the top bit ends the ticker */
    struct counter ticks;
    struct counter ended; /* times a tick said that ticking may end */
};

#define TICKER_STOP UINT32_C(0x80000000)

static inline void test_pool_watch(void *ctx)
{
    struct test_pool *test = ctx;

    counter_add(&test->asked, 1);
}

static inline void *ticker_main(void *arg)
{
    struct test_pool *test = arg;
    uint32_t seen = 0;
    bool watching = false;

    for (;;) { /* Runs until stop. */
        uint32_t asked = counter_read(&test->asked);
        if (asked & TICKER_STOP)
            return NULL;
        if (asked != seen)
            watching = true;
        seen = asked;
        if (sys_real.futex_wait(&test->asked.value, seen, UINT32_MAX,
                                watching ? test->period_ns : DEADLINE_NEVER) != -ETIMEDOUT)
            continue;
        watching = pool_watch_tick(&test->pool);
        counter_add(&test->ticks, 1);
        if (!watching)
            counter_add(&test->ended, 1);
    }
}

/* The pool without its threads, for a test that ticks the watch itself. */
static inline void test_pool_init(struct test_pool *test, uint32_t workers, uint32_t max_workers)
{
    struct pool_options options = {
        .workers = workers,
        .max_workers = max_workers,
        .retire_after_ns = 20 * NS_PER_MS,
        .watch_start = test_pool_watch,
        .watch_ctx = test,
    };
    memset(test, 0, sizeof(*test));
    test->period_ns = 2 * NS_PER_MS;
    int error = pool_init(&test->pool, &options);
    THREAD_CHECK(error == 0);
}

static inline void test_pool_start(struct test_pool *test, uint32_t workers, uint32_t max_workers)
{
    test_pool_init(test, workers, max_workers);
    int error = pool_start(&test->pool);
    THREAD_CHECK(error == 0);
    test->ticker = thread_start(ticker_main, test);
}

static inline void test_pool_stop(struct test_pool *test)
{
    (void)or_acq_rel(&test->asked.value, TICKER_STOP); /* Pairs with the read in the ticker. */
    (void)sys_real.futex_wake(&test->asked.value, 1, UINT32_MAX);
    thread_join(test->ticker);
    pool_stop(&test->pool);
    pool_fini(&test->pool);
}

/* @number more ticks happened from here on. */
static inline void test_pool_wait_ticks(struct test_pool *test, uint32_t number)
{
    counter_wait(&test->ticks, counter_read(&test->ticks) + number);
}

/* Every worker sleeps, and nothing is ready. */
static inline void test_pool_wait_idle(struct test_pool *test)
{
    WAIT_UNTIL(pool_ready_depth(&test->pool) == 0 &&
               parker_idle_count(&test->pool.parker) == load_acquire(&test->pool.alive_count));
}

/* ---- work ---- */

/* Counts its runs. */
struct counted {
    struct runnable runnable;
    _Atomic uint32_t runs;
    struct counter *total;
};

static inline void counted_run(struct runnable *runnable)
{
    struct counted *work = container_of(runnable, struct counted, runnable);

    (void)add_relaxed(&work->runs, 1); /* Relaxed: read after the total. */
    counter_add(work->total, 1);
}

static inline void counted_init(struct counted *work, struct counter *total)
{
    *work = (struct counted){.runnable.run = counted_run, .total = total};
}

/* Blocks its worker until it is opened. */
struct blocker {
    struct runnable runnable;
    struct counter *entered;
    struct counter *gate;
    struct counter *left;
};

static inline void blocker_run(struct runnable *runnable)
{
    struct blocker *work = container_of(runnable, struct blocker, runnable);

    counter_add(work->entered, 1);
    counter_wait(work->gate, 1);
    counter_add(work->left, 1);
}

static inline void blocker_init(struct blocker *work, struct counter *entered, struct counter *gate,
                                struct counter *left)
{
    *work = (struct blocker){{.run = blocker_run}, entered, gate, left};
}

/* Notes when it ran: for pools of one worker, or inside a strand. */
struct journal {
    uint32_t entries[4096];
    uint32_t count;
};

struct noted {
    struct runnable runnable;
    struct journal *journal;
    struct counter *total;
    uint32_t value;
};

static inline void noted_run(struct runnable *runnable)
{
    struct noted *work = container_of(runnable, struct noted, runnable);

    THREAD_CHECK(work->journal->count < ARRAY_SIZE(work->journal->entries));
    work->journal->entries[work->journal->count++] = work->value;
    counter_add(work->total, 1);
}

static inline void noted_init(struct noted *work, struct journal *journal, struct counter *total,
                              uint32_t value)
{
    *work = (struct noted){{.run = noted_run}, journal, total, value};
}

#endif
