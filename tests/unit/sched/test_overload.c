/* Overload: the age of ready work is measured within its bounds, and the state changes when it has
 * been too high, or low again, for long enough. */
#include "pool_support.h"

#include "overload.h"

static struct test_pool test;

/* ---- the age of a queue ---- */

enum { WAITING_MAX = 4096 };

/* A queue of the times at which its nodes came. */
struct model {
    uint64_t came_ns[WAITING_MAX];
    uint64_t taken;
    uint64_t pushed;
};

static void model_push(struct model *model, uint64_t count, uint64_t now_ns)
{
    for (uint64_t i = 0; i < count && model->pushed - model->taken < WAITING_MAX; i++)
        model->came_ns[model->pushed++ % WAITING_MAX] = now_ns;
}

static void model_take(struct model *model, uint64_t count)
{
    uint64_t waiting = model->pushed - model->taken;

    model->taken += count < waiting ? count : waiting;
}

static uint64_t model_age(const struct model *model, uint64_t now_ns)
{
    return model->pushed > model->taken ? now_ns - model->came_ns[model->taken % WAITING_MAX] : 0;
}

static void an_age_is_never_too_high_and_little_too_low(void **state)
{
    /* Goal: the bounds that age.h promises. Method: a queue in a model that knows the truth, with
     * rates that change at random, so that it fills, stands still, is worked off. */
    enum { LOOKS = 100000, RATES_EVERY = 500, TICK_NS = 2000000 };
    static struct model model;
    struct age age = {0};
    struct prng prng = prng_start(7);
    uint32_t push_rate = 0;
    uint32_t take_rate = 0;
    uint64_t most_ns = 0; /* since it was empty */
    uint32_t old = 0;

    (void)state;
    for (uint32_t i = 1; i <= test_count(LOOKS); i++) {
        uint64_t now_ns = (uint64_t)i * TICK_NS;
        if (i % RATES_EVERY == 1) {
            push_rate = prng_below(&prng, 20);
            take_rate = prng_below(&prng, 20);
        }
        model_push(&model, prng_below(&prng, push_rate + 1), now_ns - TICK_NS / 2);
        model_take(&model, prng_below(&prng, take_rate + 1));
        uint64_t truth_ns = model_age(&model, now_ns);
        uint64_t age_ns = age_look(&age, model.taken, model.pushed - model.taken, now_ns);
        most_ns = truth_ns == 0 ? 0 : most_ns > truth_ns ? most_ns : truth_ns;
        assert_true(age_ns <= truth_ns);
        assert_true(age_ns + most_ns / 4 + 2 * TICK_NS >= truth_ns);
        old += truth_ns > 100 * NS_PER_MS;
    }
    assert_true(old > 0);
}

static void an_empty_queue_has_no_age(void **state)
{
    /* Goal: what waited before is forgotten, and what is always passed within a look is young. */
    struct age age = {0};

    (void)state;
    assert_int_equal(age_look(&age, 0, 5, 1 * NS_PER_SECOND), 0);
    assert_int_equal(age_look(&age, 0, 5, 2 * NS_PER_SECOND), NS_PER_SECOND);
    assert_int_equal(age_look(&age, 5, 0, 3 * NS_PER_SECOND), 0);
    assert_int_equal(age_look(&age, 5, 1, 4 * NS_PER_SECOND), 0);
    for (uint64_t i = 5; i < 100; i++)
        assert_int_equal(age_look(&age, 10 * i, 5, i * NS_PER_SECOND), 0);
}

/* ---- the pool ---- */

static void push(struct counted *works, uint32_t count, struct counter *total)
{
    struct chain chain = {0};

    for (uint32_t i = 0; i < count; i++) {
        counted_init(&works[i], total);
        chain_append(&chain, &works[i].runnable.node);
    }
    pool_push(&test.pool, &chain);
}

static uint64_t look(uint64_t now_ms)
{
    overload_look(&test.pool, now_ms * NS_PER_MS);
    return load_relaxed(&test.pool.overload.age_ns) / NS_PER_MS;
}

static void a_share_keeps_its_age(void **state)
{
    /* Goal: work that a worker moves to its own queue is as old there as it was. Method: a worker
     * that is blocked while a blocker and ten more wait for 40 ms; then it takes them all, and is
     * blocked by the first. The clock is the test's. */
    struct counter entered = {0};
    struct counter gates[2] = {0};
    struct counter left = {0};
    struct counter total = {0};
    struct blocker blockers[2];
    struct counted works[10];
    struct chain chain = {0};

    (void)state;
    test_pool_start(&test, 1, 1);
    for (uint32_t i = 0; i < 2; i++)
        blocker_init(&blockers[i], &entered, &gates[i], &left);
    pool_post(&test.pool, &blockers[0].runnable);
    counter_wait(&entered, 1);
    chain_append(&chain, &blockers[1].runnable.node);
    pool_push(&test.pool, &chain);
    push(works, ARRAY_SIZE(works), &total);
    assert_int_equal(look(1000), 0);
    assert_int_equal(look(1040), 40);
    counter_add(&gates[0], 1);
    counter_wait(&entered, 2);
    assert_int_equal(ready_queue_depth(&test.pool.ready), 0);
    assert_int_equal(look(1041), 40);
    assert_int_equal(look(1060), 59);
    counter_add(&gates[1], 1);
    counter_wait(&total, ARRAY_SIZE(works));
    assert_int_equal(look(1061), 0);
    assert_int_equal(load_relaxed(&test.pool.overload.age_max_ns), 59 * NS_PER_MS);
    test_pool_stop(&test);
}

/* ---- the state ---- */

enum { TARGET_MS = 50, AFTER_MS = 100 };

static struct {
    uint32_t calls;
    bool overloaded;
} told;

static void note_changed(void *ctx, bool overloaded)
{
    (void)ctx;
    told.calls++;
    told.overloaded = overloaded;
}

/* Work that waits since 1000 ms of the test's clock, and no worker. */
static void stuck_pool_init(struct counted *work, struct counter *total, uint64_t target_ms)
{
    struct pool_options options = {
        .workers = 1,
        .max_workers = 1,
        .watch_start = test_pool_watch,
        .watch_ctx = &test,
        .overload = {target_ms * NS_PER_MS, AFTER_MS * NS_PER_MS, note_changed, NULL},
    };

    memset(&test, 0, sizeof(test));
    memset(&told, 0, sizeof(told));
    assert_int_equal(pool_init(&test.pool, &options), 0);
    push(work, 1, total);
    assert_int_equal(look(1000), 0);
}

/* The pool's work is taken, as if a worker had run it. */
static void take(void)
{
    struct node *node = NULL;

    assert_int_equal(ready_queue_take(&test.pool.ready, &node, 1), 1);
}

static void overload_comes_when_the_age_stays_above_the_target(void **state)
{
    /* Goal: not before both times have passed, told once. */
    struct counter total = {0};
    struct counted work;

    (void)state;
    stuck_pool_init(&work, &total, TARGET_MS);
    (void)look(1050);
    (void)look(1051); /* Above the target from here on. */
    (void)look(1150);
    assert_int_equal(told.calls, 0);
    assert_false(overload_is_on(&test.pool.overload));
    (void)look(1151);
    assert_int_equal(told.calls, 1);
    assert_true(told.overloaded);
    assert_true(overload_is_on(&test.pool.overload));
    (void)look(5000);
    assert_int_equal(told.calls, 1);
    assert_int_equal(load_relaxed(&test.pool.overload.count), 1);
    pool_fini(&test.pool);
}

static void a_short_jam_is_no_overload(void **state)
{
    /* Goal: an age that sinks below the target before the time has passed begins anew. */
    struct counter total = {0};
    struct counted work;

    (void)state;
    stuck_pool_init(&work, &total, TARGET_MS);
    (void)look(1060);
    (void)look(1150);
    take();
    (void)look(1155);
    push(&work, 1, &total);
    (void)look(1160);
    (void)look(1220);
    (void)look(1310);
    assert_int_equal(told.calls, 0);
    (void)look(1320);
    assert_int_equal(told.calls, 1);
    pool_fini(&test.pool);
}

static void it_ends_when_the_age_stays_below_half_of_the_target(void **state)
{
    /* Goal: hysteresis, and a second time is counted. */
    struct counter total = {0};
    struct counted work;

    (void)state;
    stuck_pool_init(&work, &total, TARGET_MS);
    (void)look(1060);
    (void)look(1160);
    assert_true(told.overloaded);
    take();
    (void)look(1161);
    push(&work, 1, &total);
    (void)look(1170);
    (void)look(1210); /* 40 ms are less than the target, and not little. */
    take();
    (void)look(1220);
    (void)look(1319);
    assert_int_equal(told.calls, 1);
    (void)look(1320);
    assert_int_equal(told.calls, 2);
    assert_false(told.overloaded);
    push(&work, 1, &total);
    (void)look(1400);
    (void)look(1451);
    (void)look(1551);
    assert_int_equal(told.calls, 3);
    assert_int_equal(load_relaxed(&test.pool.overload.count), 2);
    pool_fini(&test.pool);
}

static void without_a_target_the_age_is_measured_only(void **state)
{
    struct counter total = {0};
    struct counted work;

    (void)state;
    stuck_pool_init(&work, &total, 0);
    assert_int_equal(look(9000), 8000);
    assert_int_equal(look(10000), 9000);
    assert_int_equal(told.calls, 0);
    assert_int_equal(overload_period_ns(&test.pool.overload, 77), 77);
    pool_fini(&test.pool);
}

static void looks_are_frequent_enough_for_the_target(void **state)
{
    /* Goal: a watch that ticks every ten seconds does not make overload unseen. */
    struct counter total = {0};
    struct counted work;

    (void)state;
    stuck_pool_init(&work, &total, TARGET_MS);
    struct overload *overload = &test.pool.overload;
    assert_int_equal(overload_period_ns(overload, 2 * NS_PER_MS), 2 * NS_PER_MS);
    assert_in_range(overload_period_ns(overload, 10 * NS_PER_SECOND), NS_PER_MS,
                    TARGET_MS * NS_PER_MS / 2);
    pool_fini(&test.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_age_is_never_too_high_and_little_too_low),
        cmocka_unit_test(an_empty_queue_has_no_age),
        cmocka_unit_test(a_share_keeps_its_age),
        cmocka_unit_test(overload_comes_when_the_age_stays_above_the_target),
        cmocka_unit_test(a_short_jam_is_no_overload),
        cmocka_unit_test(it_ends_when_the_age_stays_below_half_of_the_target),
        cmocka_unit_test(without_a_target_the_age_is_measured_only),
        cmocka_unit_test(looks_are_frequent_enough_for_the_target),
    };

    return cmocka_run_group_tests_name("overload", tests, NULL, NULL);
}
