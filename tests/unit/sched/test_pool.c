/* The pool: it grows past stuck workers, shrinks again, and its watch rests when nothing waits. */
#include "pool_support.h"

#include <unistd.h>

static struct test_pool test;

/* Callbacks that hold their workers. */
struct jam {
    struct counter entered;
    struct counter gate;
    struct counter left;
    struct blocker blockers[16];
    uint32_t count;
};

static void jam_start(struct jam *jam, uint32_t count)
{
    memset(jam, 0, sizeof(*jam));
    jam->count = count;
    for (uint32_t i = 0; i < count; i++) {
        blocker_init(&jam->blockers[i], &jam->entered, &jam->gate, &jam->left);
        pool_post(&test.pool, &jam->blockers[i].runnable);
    }
}

static void jam_end(struct jam *jam)
{
    counter_add(&jam->gate, 1);
    counter_wait(&jam->left, jam->count);
}

static uint32_t alive(void)
{
    return load_acquire(&test.pool.alive_count); /* Pairs with starts and ends of workers. */
}

static uint64_t grown(void)
{
    return load_relaxed(&test.pool.grown_count);
}

static void a_callback_behind_stuck_workers_runs_soon(void **state)
{
    /* Goal: growth. Method: both workers block, a third callback must run within a second. */
    struct jam jam;
    struct counter total = {0};
    struct counted third;

    (void)state;
    test_pool_start(&test, 2, 8);
    jam_start(&jam, 2);
    counter_wait(&jam.entered, 2);
    counted_init(&third, &total);
    pool_post(&test.pool, &third.runnable);
    bool ran = counter_wait_for(&total, 1, NS_PER_SECOND);
    jam_end(&jam);
    test_pool_stop(&test);
    assert_true(ran);
    assert_true(grown() >= 1);
}

/* Stick both workers until surplus ones came, then let all go. */
static void grow_once(void)
{
    struct jam jam;
    struct counter total = {0};
    struct counted third;

    jam_start(&jam, 2);
    counter_wait(&jam.entered, 2);
    counted_init(&third, &total);
    pool_post(&test.pool, &third.runnable);
    counter_wait(&total, 1);
    jam_end(&jam);
}

static void surplus_workers_retire_when_idle(void **state)
{
    /* Goal: the pool shrinks to its regular size, and no further. Method: grow, then wait well
     * beyond the time to retire. */
    (void)state;
    test_pool_start(&test, 2, 8);
    grow_once();
    assert_true(grown() >= 1);
    WAIT_UNTIL(alive() == 2);
    test_pause(3 * test.pool.options.retire_after_ns);
    assert_int_equal(alive(), 2);
    test_pool_stop(&test);
}

static void retired_workers_are_counted(void **state)
{
    /* Goal: the statistic of retired workers. Method: grow, shrink; as many retired as grew. */
    (void)state;
    test_pool_start(&test, 2, 8);
    grow_once();
    WAIT_UNTIL(alive() == 2);
    test_pool_stop(&test);
    assert_int_equal(load_relaxed(&test.pool.retired_count), grown());
}

static void a_retired_workers_slot_is_used_again(void **state)
{
    /* Goal: growing and shrinking for ever needs no more memory. Method: ten times with room for
     * two surplus workers. */
    (void)state;
    test_pool_start(&test, 2, 4);
    for (int i = 0; i < 10; i++) {
        grow_once();
        WAIT_UNTIL(alive() == 2);
    }
    test_pool_stop(&test);
    assert_true(grown() >= 10);
    assert_in_range(load_relaxed(&test.pool.slot_count), 3, 4);
}

static void growth_ends_at_the_limit(void **state)
{
    /* Goal: never more than max_workers. Method: ten callbacks that block, a limit of four; after
     * twenty more ticks still four workers, and when released all ten have run. */
    struct jam jam;

    (void)state;
    test_pool_start(&test, 2, 4);
    jam_start(&jam, 10);
    counter_wait(&jam.entered, 4);
    test_pool_wait_ticks(&test, 20);
    THREAD_CHECK(alive() == 4);
    THREAD_CHECK(counter_read(&jam.entered) == 4);
    jam_end(&jam);
    assert_int_equal(counter_read(&jam.entered), 10);
    test_pool_stop(&test);
}

static void a_fixed_pool_does_not_grow(void **state)
{
    /* Goal: max_workers == workers is honoured. */
    struct jam jam;

    (void)state;
    test_pool_start(&test, 2, 2);
    jam_start(&jam, 3);
    counter_wait(&jam.entered, 2);
    test_pool_wait_ticks(&test, 20);
    THREAD_CHECK(alive() == 2);
    THREAD_CHECK(grown() == 0);
    THREAD_CHECK(counter_read(&jam.entered) == 2);
    jam_end(&jam);
    test_pool_stop(&test);
}

static _Atomic bool wakes_are_held;

static int hold_wake(const void *word, uint32_t count, uint32_t mask)
{
    /* As if the sleepers took their time to get up. */
    return load_relaxed(&wakes_are_held) ? (int)count : sys_real.futex_wake(word, count, mask);
}

static void work_pushed_while_a_worker_gets_up_is_watched(void **state)
{
    /* Goal: a worker that is on its way for one piece of work does not stand for the next piece as
     * well: should the first one block, somebody must notice. Method: one worker, asleep; its wake
     * is held back until a callback that blocks and another were posted. The other must run. */
    struct counter entered = {0};
    struct counter gate = {0};
    struct counter left = {0};
    struct counter total = {0};
    struct blocker blocker;
    struct counted second;

    (void)state;
    store_relaxed(&wakes_are_held, false);
    sys.futex_wake = hold_wake;
    test_pool_start(&test, 1, 2);
    WAIT_UNTIL(parker_idle_count(&test.pool.parker) == 1);
    blocker_init(&blocker, &entered, &gate, &left);
    counted_init(&second, &total);
    store_relaxed(&wakes_are_held, true);
    pool_post(&test.pool, &blocker.runnable);
    pool_post(&test.pool, &second.runnable);
    store_relaxed(&wakes_are_held, false);
    (void)sys_real.futex_wake(&test.pool.parker.word, 1, PARKER_REGULAR);
    counter_wait(&entered, 1);
    bool ran = counter_wait_for(&total, 1, NS_PER_SECOND);
    counter_add(&gate, 1);
    counter_wait(&left, 1);
    counter_wait(&total, 1);
    test_pool_stop(&test);
    assert_true(ran);
}

/* Posts another runnable from its worker, then blocks. */
struct poster {
    struct runnable runnable;
    struct runnable *posted;
    struct counter *entered;
    struct counter *gate;
    struct counter *left;
};

static void poster_run(struct runnable *runnable)
{
    struct poster *poster = container_of(runnable, struct poster, runnable);

    pool_post(&test.pool, poster->posted);
    counter_add(poster->entered, 1);
    counter_wait(poster->gate, 1);
    counter_add(poster->left, 1);
}

static void work_behind_a_blocked_callback_is_stolen(void **state)
{
    /* Goal: what a worker holds in its own queue waits for nobody. Method: a callback posts one
     * from its worker and blocks; the idle worker of the pool must run it. */
    struct counter entered = {0};
    struct counter gate = {0};
    struct counter left = {0};
    struct counter total = {0};
    struct counted work;
    struct poster poster = {{.run = poster_run}, &work.runnable, &entered, &gate, &left};

    (void)state;
    test_pool_start(&test, 2, 2);
    counted_init(&work, &total);
    pool_post(&test.pool, &poster.runnable);
    counter_wait(&total, 1);
    THREAD_CHECK(counter_read(&left) == 0);
    counter_add(&gate, 1);
    counter_wait(&left, 1);
    test_pool_stop(&test);
}

static void a_grown_worker_steals_from_blocked_ones(void **state)
{
    /* Goal: the watch sees work in a stuck worker's own queue. Method: both workers post one and
     * block; only a new worker can run the two. */
    struct counter entered = {0};
    struct counter gate = {0};
    struct counter left = {0};
    struct counter total = {0};
    struct counted work[2];
    struct poster posters[2];
    struct jam jam;

    (void)state;
    test_pool_start(&test, 2, 4);
    jam_start(&jam, 2); /* So that each of the two posters finds a worker of its own. */
    counter_wait(&jam.entered, 2);
    for (uint32_t i = 0; i < 2; i++) {
        counted_init(&work[i], &total);
        posters[i] =
            (struct poster){{.run = poster_run}, &work[i].runnable, &entered, &gate, &left};
        pool_post(&test.pool, &posters[i].runnable);
    }
    jam_end(&jam);
    counter_wait(&total, 2);
    THREAD_CHECK(counter_read(&left) == 0);
    counter_add(&gate, 1);
    counter_wait(&left, 2);
    test_pool_stop(&test);
}

static _Atomic bool threads_are_short;
static struct counter thread_failures;

static int create_or_fail(pthread_t *ret_thread, void *(*body)(void *), void *arg)
{
    if (!load_relaxed(&threads_are_short))
        return sys_real.thread_create(ret_thread, body, arg);
    counter_add(&thread_failures, 1);
    return -EAGAIN;
}

static void growth_without_a_thread_is_tried_again(void **state)
{
    /* Goal: a thread that cannot be created now harms nothing. Method: creation fails for three
     * ticks, then works; the waiting callback runs, and the counts are right. */
    struct jam jam;
    struct counter total = {0};
    struct counted third;

    (void)state;
    store_relaxed(&threads_are_short, false);
    store_relaxed(&thread_failures.value, 0);
    sys.thread_create = create_or_fail;
    test_pool_start(&test, 2, 8);
    store_relaxed(&threads_are_short, true);
    jam_start(&jam, 2);
    counter_wait(&jam.entered, 2);
    counted_init(&third, &total);
    pool_post(&test.pool, &third.runnable);
    counter_wait(&thread_failures, 3);
    THREAD_CHECK(counter_read(&total) == 0);
    THREAD_CHECK(grown() == 0);
    store_relaxed(&threads_are_short, false);
    counter_wait(&total, 1);
    jam_end(&jam);
    WAIT_UNTIL(alive() == 2); /* No failed start is counted as a worker. */
    test_pool_stop(&test);
    assert_true(grown() >= 1);
    assert_in_range(load_relaxed(&test.pool.slot_count), 3, 2 + grown());
}

static void a_start_without_threads_reports_it(void **state)
{
    /* Goal: the error of the first worker, and an end that joins nobody. */
    (void)state;
    sys.thread_create = create_or_fail;
    store_relaxed(&threads_are_short, true);
    test_pool_init(&test, 2, 4);
    assert_int_equal(pool_start(&test.pool), -EAGAIN);
    assert_int_equal(alive(), 0);
    pool_stop(&test.pool);
    pool_fini(&test.pool);
}

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void an_init_without_memory_reports_it(void **state)
{
    /* Goal: -ENOMEM and nothing kept. */
    struct pool_options options = {.workers = 1, .max_workers = 2};

    (void)state;
    sys.alloc = no_memory;
    assert_int_equal(pool_init(&test.pool, &options), -ENOMEM);
}

static void the_watch_ends_by_itself(void **state)
{
    /* Goal: an idle pool costs nothing. Method: work makes the watch start; when it is done the
     * test ticks until a tick says that this was the last, and nobody believes in it any more. */
    struct counter total = {0};
    struct counted work;
    uint32_t ticks = 0;

    (void)state;
    test_pool_init(&test, 1, 2);
    counted_init(&work, &total);
    pool_post(&test.pool, &work.runnable); /* Nobody is there to take it. */
    assert_int_equal(counter_read(&test.asked), 1);
    assert_true(load_relaxed(&test.pool.watching));
    assert_int_equal(pool_start(&test.pool), 0);
    counter_wait(&total, 1);
    while (pool_watch_tick(&test.pool))
        assert_true(++ticks < 1000);
    assert_true(ticks > 0);
    assert_false(load_relaxed(&test.pool.watching));
    assert_int_equal(counter_read(&test.asked), 1);
    pool_stop(&test.pool);
    pool_fini(&test.pool);
}

static void the_watch_is_asked_for_once_and_again(void **state)
{
    /* Goal: one request while it ticks, a new one after it ended. Method: a burst with no worker,
     * an end, another burst. */
    struct counter total = {0};
    struct counted work[20];

    (void)state;
    test_pool_init(&test, 1, 1);
    for (uint32_t i = 0; i < 10; i++) {
        counted_init(&work[i], &total);
        pool_post(&test.pool, &work[i].runnable);
    }
    assert_int_equal(counter_read(&test.asked), 1);
    assert_int_equal(pool_start(&test.pool), 0);
    counter_wait(&total, 10);
    while (pool_watch_tick(&test.pool))
        continue;
    pool_stop(&test.pool);
    pool_fini(&test.pool);

    test_pool_start(&test, 1, 1);
    for (uint32_t round = 1; round <= 2; round++) {
        struct jam jam;
        jam_start(&jam, 2);
        counter_wait(&jam.entered, 1);
        counter_wait(&test.asked, round);
        jam_end(&jam);
        counter_wait(&test.ended, round);
    }
    uint32_t asked = counter_read(&test.asked);
    test_pool_stop(&test);
    assert_int_equal(asked, 2);
}

static void a_tick_pays_what_a_stuck_worker_owes(void **state)
{
    /* Goal: a reply behind a stuck callback leaves with the next tick. */
    struct bell bell;

    (void)state;
    test_pool_init(&test, 1, 1);
    assert_int_equal(bell_init(&bell), 0);
    test.pool.bells[0] = &bell;
    test.pool.bell_count = 1;
    bell_owe(&bell);
    (void)pool_watch_tick(&test.pool);
    assert_false(load_relaxed(&bell.owed));
    uint64_t rung = 0;
    assert_int_equal(read(bell.fd, &rung, sizeof(rung)), sizeof(rung));
    assert_int_equal(rung, 1);
    bell_fini(&bell);
    pool_fini(&test.pool);
}

enum { POSTERS = 4, POSTS = 25000, BATCH = 16 };

struct flood {
    struct counted *works;
    uint32_t per_poster;
    struct counter total;
    _Atomic uint32_t next_poster;
};

static void *post_flood(void *arg)
{
    struct flood *flood = arg;
    uint32_t poster = add_relaxed(&flood->next_poster, 1);
    struct counted *works = flood->works + (size_t)poster * flood->per_poster;

    for (uint32_t i = 0; i < flood->per_poster;) {
        struct chain chain = {0};
        if (poster % 2) {
            pool_post(&test.pool, &works[i++].runnable);
            continue;
        }
        while (chain.count < BATCH && i < flood->per_poster)
            chain_append(&chain, &works[i++].runnable.node);
        pool_push(&test.pool, &chain);
    }
    return NULL;
}

static void each_runnable_runs_once(void **state)
{
    /* Goal: exactly once from many threads, single and in batches, to many workers. */
    struct flood flood = {.per_poster = test_count(POSTS)};
    uint32_t count = POSTERS * flood.per_poster;
    pthread_t threads[POSTERS];

    (void)state;
    flood.works = test_alloc(count, sizeof(*flood.works));
    for (uint32_t i = 0; i < count; i++)
        counted_init(&flood.works[i], &flood.total);
    test_pool_start(&test, 3, 6);
    for (uint32_t i = 0; i < POSTERS; i++)
        threads[i] = thread_start(post_flood, &flood);
    for (uint32_t i = 0; i < POSTERS; i++)
        thread_join(threads[i]);
    counter_wait(&flood.total, count);
    test_pool_wait_idle(&test);
    test_pool_stop(&test);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(load_relaxed(&flood.works[i].runs), 1);
    free(flood.works);
}

static void stop_runs_what_is_ready(void **state)
{
    /* Goal: nothing that was pushed before the stop is dropped. Method: push much and stop. */
    enum { COUNT = 5000 };
    static struct counted works[COUNT];
    struct counter total = {0};

    (void)state;
    test_pool_start(&test, 2, 4);
    for (uint32_t i = 0; i < COUNT; i++) {
        counted_init(&works[i], &total);
        pool_post(&test.pool, &works[i].runnable);
    }
    test_pool_stop(&test);
    assert_int_equal(counter_read(&total), COUNT);
}

static void one_worker_starts_callbacks_in_the_order_of_the_posts(void **state)
{
    /* Goal: "callbacks posted by one thread start in the order of the calls", and equal deadlines
     * in arming order, which needs it. Method: one worker, held until all are posted. */
    enum { COUNT = 500 };
    static struct journal journal;
    static struct noted works[COUNT];
    struct counter total = {0};
    struct jam jam;

    (void)state;
    journal.count = 0;
    test_pool_start(&test, 1, 1);
    jam_start(&jam, 1);
    counter_wait(&jam.entered, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        noted_init(&works[i], &journal, &total, i);
        pool_post(&test.pool, &works[i].runnable);
    }
    jam_end(&jam);
    counter_wait(&total, COUNT);
    test_pool_stop(&test);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(journal.entries[i], i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_callback_behind_stuck_workers_runs_soon),
        cmocka_unit_test(surplus_workers_retire_when_idle),
        cmocka_unit_test(retired_workers_are_counted),
        cmocka_unit_test(a_retired_workers_slot_is_used_again),
        cmocka_unit_test(growth_ends_at_the_limit),
        cmocka_unit_test(a_fixed_pool_does_not_grow),
        cmocka_unit_test_teardown(work_pushed_while_a_worker_gets_up_is_watched, sys_restore),
        cmocka_unit_test(work_behind_a_blocked_callback_is_stolen),
        cmocka_unit_test(a_grown_worker_steals_from_blocked_ones),
        cmocka_unit_test_teardown(growth_without_a_thread_is_tried_again, sys_restore),
        cmocka_unit_test_teardown(a_start_without_threads_reports_it, sys_restore),
        cmocka_unit_test_teardown(an_init_without_memory_reports_it, sys_restore),
        cmocka_unit_test(the_watch_ends_by_itself),
        cmocka_unit_test(the_watch_is_asked_for_once_and_again),
        cmocka_unit_test(a_tick_pays_what_a_stuck_worker_owes),
        cmocka_unit_test(each_runnable_runs_once),
        cmocka_unit_test(stop_runs_what_is_ready),
        cmocka_unit_test(one_worker_starts_callbacks_in_the_order_of_the_posts),
    };

    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
