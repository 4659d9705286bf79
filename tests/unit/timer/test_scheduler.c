/* The scheduler thread: timers never early, in order, once; cancelled ones go; no idle wake-up. */
#include "needs_ring.h"
#include "pool_support.h"

#include "scheduler.h"
#include "strand.h"

static struct test_pool test;
static struct scheduler scheduler;

static void timers_start(uint32_t workers)
{
    test_pool_start(&test, workers, workers);
    int error = scheduler_init(&scheduler, &test.pool, 2 * NS_PER_MS);
    THREAD_CHECK(error == 0);
    error = scheduler_start(&scheduler);
    THREAD_CHECK(error == 0);
}

static void timers_stop(void)
{
    scheduler_stop(&scheduler);
    test_pool_stop(&test);
    scheduler_fini(&scheduler);
}

static rondo_handle arm(uint64_t deadline_ns, rondo_callback_fn *fn, void *ctx)
{
    struct callback *callback = callback_alloc(fn, ctx, CALLBACK_ARMED);

    THREAD_CHECK(callback);
    rondo_handle handle = callback_handle(callback);
    callback->deadline_ns = deadline_ns;
    scheduler_arm(&scheduler, callback);
    return handle;
}

/* A timer that notes when it fired, and in which place. */
struct timer {
    uint64_t deadline_ns;
    uint64_t fired_ns;
    uint32_t place;
    uint32_t runs;
};

static struct counter fired;
static uint32_t places; /* one worker only */

static void note_fired(void *ctx)
{
    struct timer *timer = ctx;

    timer->fired_ns = clock_now_ns();
    timer->runs++;
    counter_add(&fired, 1);
}

static void note_place(void *ctx)
{
    struct timer *timer = ctx;

    timer->place = places++;
    note_fired(timer);
}

static int counts_reset(void **state)
{
    (void)state;
    store_relaxed(&fired.value, 0);
    places = 0;
    return 0;
}

static void no_timer_is_early_and_each_fires_once(void **state)
{
    /* Goal: G5. Method: 1,000 timers within 20 ms; each looks at the clock. */
    enum { COUNT = 1000 };
    static struct timer timers[COUNT];
    struct prng prng = prng_start(5);

    (void)state;
    memset(timers, 0, sizeof(timers));
    timers_start(2);
    for (uint32_t i = 0; i < COUNT; i++) {
        timers[i].deadline_ns = clock_now_ns() + prng_below(&prng, 20 * (uint32_t)NS_PER_MS);
        (void)arm(timers[i].deadline_ns, note_fired, &timers[i]);
    }
    counter_wait(&fired, COUNT);
    timers_stop();
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(timers[i].runs, 1);
        assert_true(timers[i].fired_ns >= timers[i].deadline_ns);
    }
    assert_int_equal(load_relaxed(&scheduler.fired_count), COUNT);
}

/* One worker, @count timers of the same deadline: they fire in the order of their arming. */
static void check_equal_deadlines(uint32_t count)
{
    struct timer *timers = test_alloc(count, sizeof(*timers));

    timers_start(1);
    uint64_t deadline_ns = clock_now_ns() + 20 * NS_PER_MS;
    for (uint32_t i = 0; i < count; i++)
        (void)arm(deadline_ns, note_place, &timers[i]);
    counter_wait(&fired, count);
    timers_stop();
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(timers[i].place, i);
    free(timers);
}

static void equal_deadlines_fire_in_arming_order(void **state)
{
    /* Goal: G5. */
    (void)state;
    check_equal_deadlines(500);
}

static void a_few_equal_deadlines_fire_in_arming_order(void **state)
{
    /* Goal: the order that the heap gives is kept to the worker, which takes these at once. */
    (void)state;
    check_equal_deadlines(20);
}

static void a_nearer_deadline_moves_the_timeout(void **state)
{
    /* Goal: a timer is not held up by a farther one that was armed first. Method: one in an hour;
     * when it sleeps in the ring, nearer ones, each nearer than the last. */
    struct timer near[3] = {0};
    uint64_t begin_ns = clock_now_ns();

    (void)state;
    timers_start(1);
    rondo_handle far = arm(begin_ns + 3600 * NS_PER_SECOND, note_fired, NULL);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == 1);
    for (uint32_t i = 0; i < 3; i++)
        (void)arm(begin_ns + (30 - 10 * i) * NS_PER_MS, note_place, &near[i]);
    counter_wait(&fired, 3);
    assert_true(clock_now_ns() - begin_ns < 10 * NS_PER_SECOND);
    assert_int_equal(rondo_cancel(far), RONDO_CANCEL_NOT_STARTED);
    timers_stop();
    assert_true(near[2].fired_ns >= begin_ns + 10 * NS_PER_MS);
}

static void deadlines_of_the_past_are_due_at_once(void **state)
{
    /* Goal: no wait for what is over. Method: 0, 1, a minute ago and now. */
    struct timer timers[4] = {0};

    (void)state;
    timers_start(1);
    uint64_t now_ns = clock_now_ns();
    (void)arm(0, note_fired, &timers[0]);
    (void)arm(1, note_fired, &timers[1]);
    (void)arm(now_ns > 60 * NS_PER_SECOND ? now_ns - 60 * NS_PER_SECOND : 2, note_fired,
              &timers[2]);
    (void)arm(now_ns, note_fired, &timers[3]);
    assert_true(counter_wait_for(&fired, 4, NS_PER_SECOND));
    timers_stop();
}

static void never_does_not_come_and_can_be_cancelled(void **state)
{
    /* Goal: UINT64_MAX and the latest real deadline wait, and hold up nobody. */
    struct timer timers[3] = {0};

    (void)state;
    timers_start(1);
    rondo_handle never = arm(DEADLINE_NEVER, note_fired, &timers[0]);
    rondo_handle latest = arm(DEADLINE_NEVER - 1, note_fired, &timers[1]);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == 2);
    (void)arm(clock_now_ns() + NS_PER_MS, note_fired, &timers[2]);
    counter_wait(&fired, 1);
    assert_int_equal(timers[2].runs, 1);
    assert_int_equal(rondo_cancel(never), RONDO_CANCEL_NOT_STARTED);
    assert_int_equal(rondo_cancel(latest), RONDO_CANCEL_NOT_STARTED);
    timers_stop();
    assert_int_equal(timers[0].runs + timers[1].runs, 0);
}

static void a_cancelled_timer_never_fires(void **state)
{
    /* Goal: NOT_STARTED is final. Method: cancel every second of 200 timers, wait for the others
     * and for one that is later than all. */
    enum { COUNT = 200 };
    static struct timer timers[COUNT + 1];
    rondo_handle handles[COUNT];
    uint32_t cancelled = 0;

    (void)state;
    memset(timers, 0, sizeof(timers));
    timers_start(2);
    uint64_t begin_ns = clock_now_ns() + 50 * NS_PER_MS;
    for (uint32_t i = 0; i < COUNT; i++)
        handles[i] = arm(begin_ns + i * 10 * NS_PER_US, note_fired, &timers[i]);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        timers[i].place = rondo_cancel(handles[i]) == RONDO_CANCEL_NOT_STARTED;
        cancelled += timers[i].place;
    }
    assert_true(cancelled > 0);
    (void)arm(begin_ns + 20 * NS_PER_MS, note_fired, &timers[COUNT]);
    counter_wait(&fired, COUNT + 1 - cancelled);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == 0);
    timers_stop();
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(timers[i].runs, timers[i].place ? 0 : 1);
    assert_int_equal(timers[COUNT].runs, 1);
    assert_int_equal(load_relaxed(&scheduler.cancelled_count), 0);
}

static void cancel_after_firing_finds_it_finished(void **state)
{
    /* Goal: too late is told, also when the node is in use again. */
    struct timer timers[2] = {0};

    (void)state;
    timers_start(1);
    rondo_handle handle = arm(clock_now_ns() + NS_PER_MS, note_fired, &timers[0]);
    counter_wait(&fired, 1);
    test_pool_wait_idle(&test);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
    (void)arm(clock_now_ns(), note_fired, &timers[1]);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
    counter_wait(&fired, 2);
    timers_stop();
}

enum { SWEEP_COUNT = 100000, SWEEP_LEFT_MAX = 2048 };

/* Far timers, all in the heap. */
static rondo_handle *arm_far(uint32_t count)
{
    rondo_handle *handles = test_alloc(count, sizeof(*handles));
    uint64_t far_ns = clock_now_ns() + 3600 * NS_PER_SECOND;

    for (uint32_t i = 0; i < count; i++)
        handles[i] = arm(far_ns + i, note_fired, NULL);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == count);
    return handles;
}

static void cancelled_timers_are_swept_out(void **state)
{
    /* Goal: a timeout that is always cancelled does not fill the heap. Method: 100,000 timers of
     * an hour, all cancelled; when one more passes by, almost none may be left. */
    uint32_t count = test_count(SWEEP_COUNT);
    struct timer timer = {0};

    (void)state;
    timers_start(1);
    rondo_handle *handles = arm_far(count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(rondo_cancel(handles[i]), RONDO_CANCEL_NOT_STARTED);
    (void)arm(clock_now_ns(), note_fired, &timer);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) <= SWEEP_LEFT_MAX);
    counter_wait(&fired, 1);
    timers_stop();
    free(handles);
}

/* Holds the scheduler thread where it reads the clock, once. */
static _Atomic uint32_t hold_state; /* 0: no, 1: the next reading, 2: held, 3: go on */

static uint64_t clock_that_holds(void)
{
    uint32_t expected = 1;
    char name[16] = "";

    if (load_relaxed(&hold_state) == 1 &&
        pthread_getname_np(pthread_self(), name, sizeof(name)) == 0 &&
        strcmp(name, "rondo-sched") == 0 && cas_acq_rel(&hold_state, &expected, 2)) {
        while (load_acquire(&hold_state) == 2) /* Pairs with the store by the test. */
            (void)sys_real.futex_wait(&hold_state, 2, UINT32_MAX, NS_PER_MS);
    }
    return sys_real.clock_now_ns();
}

static void cancels_during_a_pass_are_swept_without_another_event(void **state)
{
    /* Goal: the sweep is not forgotten when all cancels come while the scheduler is awake. Method:
     * hold it in its pass, behind the look at the count, cancel all, let it go on; nothing else
     * will ever wake it. */
    uint32_t count = SWEEP_LEFT_MAX * 4;

    (void)state;
    store_relaxed(&hold_state, 0);
    sys.clock_now_ns = clock_that_holds;
    timers_start(1);
    rondo_handle *handles = arm_far(count);
    store_release(&hold_state, 1); /* Pairs with the exchange by the scheduler. */
    (void)arm(sys_real.clock_now_ns() + 3600 * NS_PER_SECOND, note_fired, NULL);
    WAIT_UNTIL(load_acquire(&hold_state) == 2); /* Pairs with the exchange by the scheduler. */
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(rondo_cancel(handles[i]), RONDO_CANCEL_NOT_STARTED);
    store_release(&hold_state, 3); /* Pairs with the load by the scheduler. */
    uint64_t until_ns = sys_real.clock_now_ns() + NS_PER_SECOND;
    while (load_relaxed(&scheduler.armed_count) > SWEEP_LEFT_MAX &&
           sys_real.clock_now_ns() < until_ns)
        test_pause(NS_PER_MS);
    uint32_t left = load_relaxed(&scheduler.armed_count);
    timers_stop();
    free(handles);
    assert_in_range(left, 0, SWEEP_LEFT_MAX);
}

static _Atomic bool memory_is_short;
static struct counter memory_failures;

static void *alloc_or_null(size_t size)
{
    if (!load_relaxed(&memory_is_short))
        return sys_real.alloc_raw(size);
    counter_add(&memory_failures, 1);
    return NULL;
}

static void without_memory_timers_are_late_and_not_lost(void **state)
{
    /* Goal: a heap that cannot grow delays. Method: 200 timers in 5 ms while there is no memory;
     * after several tries memory comes back, and all fire, in order. */
    enum { COUNT = 200 };
    static struct timer timers[COUNT];

    (void)state;
    memset(timers, 0, sizeof(timers));
    store_relaxed(&memory_failures.value, 0);
    store_relaxed(&memory_is_short, true);
    sys.alloc_raw = alloc_or_null;
    timers_start(1);
    uint64_t deadline_ns = clock_now_ns() + 5 * NS_PER_MS;
    for (uint32_t i = 0; i < COUNT; i++) {
        timers[i].deadline_ns = deadline_ns;
        (void)arm(deadline_ns, note_fired, &timers[i]);
    }
    uint32_t failures = counter_read(&memory_failures);
    counter_wait(&memory_failures, failures + 5); /* Tried again by itself. */
    assert_int_equal(counter_read(&fired), 0);
    store_relaxed(&memory_is_short, false);
    counter_wait(&fired, COUNT);
    timers_stop();
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(timers[i].runs, 1);
        assert_true(timers[i].fired_ns >= deadline_ns);
    }
}

static void an_idle_scheduler_sleeps(void **state)
{
    /* Goal: no wake-up without a reason. Method: one far timer, and its sleep counted over 200 ms;
     * this test is about nothing happening, so it lets time pass. */
    (void)state;
    timers_start(1);
    (void)arm(clock_now_ns() + 3600 * NS_PER_SECOND, note_fired, NULL);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == 1 && inbox_is_asleep(&scheduler.inbox));
    test_pause(20 * NS_PER_MS);
    uint64_t before = load_relaxed(&scheduler.wake_count);
    test_pause(200 * NS_PER_MS);
    assert_int_equal(load_relaxed(&scheduler.wake_count), before);
    timers_stop();
}

static void ignore_strand(struct strand *strand)
{
    (void)strand;
}

static void timers_of_a_strand_run_on_it_in_order(void **state)
{
    /* Goal: equal deadlines of one strand stay in order on several workers, and each lets go of
     * the strand. */
    enum { COUNT = 500 };
    static struct timer timers[COUNT];
    struct strand strand;

    (void)state;
    memset(timers, 0, sizeof(timers));
    timers_start(3);
    strand_init(&strand, &test.pool, ignore_strand);
    uint64_t deadline_ns = clock_now_ns() + 5 * NS_PER_MS;
    for (uint32_t i = 0; i < COUNT; i++) {
        struct callback *callback = callback_alloc(note_place, &timers[i], CALLBACK_ARMED);
        assert_non_null(callback);
        strand_ref(&strand);
        callback->strand = &strand;
        callback->deadline_ns = deadline_ns;
        scheduler_arm(&scheduler, callback);
    }
    counter_wait(&fired, COUNT);
    timers_stop();
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(timers[i].place, i);
    assert_int_equal(load_relaxed(&strand.refs), 1);
}

/* ---- the watch over the pool ---- */

static void ask_watch(void *ctx)
{
    scheduler_watch(ctx);
}

static void the_watch_grows_the_pool_and_ends(void **state)
{
    /* Goal: growth without any timer, and silence after it. Method: the scheduler watches a pool
     * of one worker that blocks; a second callback must run, and the wakes must end. */
    static struct pool pool;
    struct pool_options options = {
        .workers = 1,
        .max_workers = 3,
        .retire_after_ns = 5 * NS_PER_MS,
        .watch_start = ask_watch,
        .watch_ctx = &scheduler,
    };
    struct counter entered = {0};
    struct counter gate = {0};
    struct counter left = {0};
    struct counter total = {0};
    struct blocker blocker;
    struct counted work;
    uint64_t wakes;

    (void)state;
    assert_int_equal(pool_init(&pool, &options), 0);
    assert_int_equal(scheduler_init(&scheduler, &pool, NS_PER_MS), 0);
    assert_int_equal(scheduler_start(&scheduler), 0);
    assert_int_equal(pool_start(&pool), 0);
    blocker_init(&blocker, &entered, &gate, &left);
    counted_init(&work, &total);
    pool_post(&pool, &blocker.runnable);
    counter_wait(&entered, 1);
    pool_post(&pool, &work.runnable);
    counter_wait(&total, 1);
    counter_add(&gate, 1);
    counter_wait(&left, 1);
    WAIT_UNTIL(!load_relaxed(&pool.watching));
    do { /* One more tick follows the end. */
        wakes = load_relaxed(&scheduler.wake_count);
        test_pause(50 * NS_PER_MS);
    } while (load_relaxed(&pool.watching));
    wakes = load_relaxed(&scheduler.wake_count);
    test_pause(50 * NS_PER_MS);
    assert_int_equal(load_relaxed(&scheduler.wake_count), wakes);
    scheduler_stop(&scheduler);
    pool_stop(&pool);
    scheduler_fini(&scheduler);
    pool_fini(&pool);
}

static void timers_that_are_not_due_end_with_the_scheduler(void **state)
{
    /* Goal: all are given back, in the heap and in the inbox, and none fires. Method: some armed
     * while it runs, some after it stopped. */
    struct timer timer = {0};

    (void)state;
    timers_start(1);
    uint64_t far_ns = clock_now_ns() + 3600 * NS_PER_SECOND;
    rondo_handle in_heap = arm(far_ns, note_fired, &timer);
    WAIT_UNTIL(load_relaxed(&scheduler.armed_count) == 1);
    scheduler_stop(&scheduler);
    rondo_handle in_inbox = arm(far_ns, note_fired, &timer);
    timers_stop();
    assert_int_equal(rondo_cancel(in_heap), RONDO_CANCEL_FINISHED);
    assert_int_equal(rondo_cancel(in_inbox), RONDO_CANCEL_FINISHED);
    assert_int_equal(timer.runs, 0);
}

static void a_ring_that_cannot_be_enabled_fails_the_start(void **state)
{
    /* Goal: the error of the thread reaches the one who starts it, and nothing is left to stop. */
    (void)state;
    test_pool_init(&test, 1, 1);
    assert_int_equal(scheduler_init(&scheduler, &test.pool, NS_PER_MS), 0);
    sys.ring_register = ring_register_refused;
    assert_int_equal(scheduler_start(&scheduler), -EPERM);
    assert_false(scheduler.started);
    scheduler_stop(&scheduler);
    scheduler_fini(&scheduler);
    pool_fini(&test.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(no_timer_is_early_and_each_fires_once, counts_reset),
        cmocka_unit_test_setup(a_few_equal_deadlines_fire_in_arming_order, counts_reset),
        cmocka_unit_test_setup(equal_deadlines_fire_in_arming_order, counts_reset),
        cmocka_unit_test_setup(a_nearer_deadline_moves_the_timeout, counts_reset),
        cmocka_unit_test_setup(deadlines_of_the_past_are_due_at_once, counts_reset),
        cmocka_unit_test_setup(never_does_not_come_and_can_be_cancelled, counts_reset),
        cmocka_unit_test_setup(a_cancelled_timer_never_fires, counts_reset),
        cmocka_unit_test_setup(cancel_after_firing_finds_it_finished, counts_reset),
        cmocka_unit_test_setup(cancelled_timers_are_swept_out, counts_reset),
        cmocka_unit_test_setup_teardown(cancels_during_a_pass_are_swept_without_another_event,
                                        counts_reset, sys_restore),
        cmocka_unit_test_setup_teardown(without_memory_timers_are_late_and_not_lost, counts_reset,
                                        sys_restore),
        cmocka_unit_test_setup(an_idle_scheduler_sleeps, counts_reset),
        cmocka_unit_test_setup(timers_of_a_strand_run_on_it_in_order, counts_reset),
        cmocka_unit_test_setup(the_watch_grows_the_pool_and_ends, counts_reset),
        cmocka_unit_test_setup(timers_that_are_not_due_end_with_the_scheduler, counts_reset),
        cmocka_unit_test_teardown(a_ring_that_cannot_be_enabled_fails_the_start, sys_restore),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
