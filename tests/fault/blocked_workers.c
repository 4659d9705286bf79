/* Goal: callbacks that block hold up nothing but themselves: the pool grows past them, whichever
 * way the work came in, and shrinks again; never beyond its limit.
 *
 * Method: callbacks that block until all of them have started. Where one is left waiting behind a
 * blocked worker, and nobody watches, the test does not come to its end.
 */
#include "support.h"

enum { WORKERS = 2, BLOCKERS = 8, ROUNDS = 100, MAX_WORKERS = 4, START_MS_MAX = 3000 };

static rondo_loop *loop;
static atomic_uint blocked;
static atomic_uint ended;
static atomic_bool released;

static void on_block(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&blocked, 1);
    WAIT_UNTIL(atomic_load(&released), 30000);
    atomic_fetch_add(&ended, 1);
}

static void post_blockers(void *ctx)
{
    for (uint32_t i = 0; i < BLOCKERS; i++)
        CHECK_EQUAL(rondo_call_soon(loop, on_block, NULL, NULL), 0);
    if (ctx)
        on_block(ctx);
}

static void begin(const char *name, uint32_t max_workers)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)test_begin(name);
    options.workers = WORKERS;
    options.max_workers = max_workers;
    options.retire_after_ns = 5 * MS;
    loop = loop_begin(&options);
}

static void expect_all(uint32_t count)
{
    WAIT_UNTIL(atomic_load(&blocked) == count, START_MS_MAX);
    atomic_store(&released, true);
    WAIT_UNTIL(atomic_load(&ended) == count, START_MS_MAX);
    WAIT_UNTIL(loop_stats(loop).workers == WORKERS, START_MS_MAX); /* It shrinks again. */
}

static void reset(void)
{
    atomic_store(&blocked, 0);
    atomic_store(&ended, 0);
    atomic_store(&released, false);
}

/* Cause: a worker on its way counts as coming for each single push, so no push starts the watch. */
static void posts_one_by_one_from_outside_are_all_started(void **state)
{
    (void)state;
    begin("blocked_workers, outside", 32);
    for (uint64_t i = 0; i < test_scaled(ROUNDS); i++) {
        reset();
        if (i % 2)
            WAIT_UNTIL(loop_stats(loop).workers_parked == WORKERS, START_MS_MAX);
        post_blockers(NULL);
        expect_all(BLOCKERS);
    }
    rondo_loop_free(loop);
}

static void posts_from_a_callback_that_blocks_are_all_started(void **state)
{
    (void)state;
    begin("blocked_workers, inside", 32);
    for (uint64_t i = 0; i < test_scaled(ROUNDS); i++) {
        reset();
        CHECK_EQUAL(rondo_call_soon(loop, post_blockers, loop, NULL), 0);
        expect_all(BLOCKERS + 1);
    }
    rondo_loop_free(loop);
}

static void timers_behind_blocked_workers_are_all_started(void **state)
{
    (void)state;
    begin("blocked_workers, timers", 32);
    for (uint64_t i = 0; i < test_scaled(ROUNDS); i++) {
        reset();
        for (uint64_t j = 0; j < BLOCKERS; j++)
            CHECK_EQUAL(rondo_call_later(loop, j % 3 * MS / 10, on_block, NULL, NULL), 0);
        expect_all(BLOCKERS);
    }
    rondo_loop_free(loop);
}

static void the_pool_keeps_its_limit(void **state)
{
    (void)state;
    begin("blocked_workers, limit", MAX_WORKERS);
    reset();
    post_blockers(NULL);
    WAIT_UNTIL(atomic_load(&blocked) == MAX_WORKERS, START_MS_MAX);
    test_pass_time(50);
    CHECK_EQUAL(atomic_load(&blocked), MAX_WORKERS);
    CHECK_EQUAL(loop_stats(loop).workers, MAX_WORKERS);
    atomic_store(&released, true);
    WAIT_UNTIL(atomic_load(&ended) == BLOCKERS, START_MS_MAX);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_one_by_one_from_outside_are_all_started),
        cmocka_unit_test(posts_from_a_callback_that_blocks_are_all_started),
        cmocka_unit_test(timers_behind_blocked_workers_are_all_started),
        cmocka_unit_test(the_pool_keeps_its_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
