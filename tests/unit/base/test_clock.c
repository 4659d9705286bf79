/* The clock: never backwards, sums that do not wrap, and time a test can own. */
#include "support.h"

#include "rondo/timer.h"

static void time_never_goes_back(void **state)
{
    /* Goal: monotonic. Method: many readings in a row. */
    uint64_t last_ns = clock_now_ns();

    (void)state;
    for (uint32_t i = 0; i < test_count(100000); i++) {
        uint64_t now_ns = clock_now_ns();
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
}

static void a_sum_that_does_not_fit_is_the_latest_time(void **state)
{
    /* Goal: a far delay is no early deadline, and never "never". Method: sums around the limit. */
    (void)state;
    assert_true(clock_add_ns(5, 7) == 12);
    assert_true(clock_add_ns(0, 0) == 0);
    assert_true(clock_add_ns(1, DEADLINE_NEVER) == DEADLINE_NEVER - 1);
    assert_true(clock_add_ns(DEADLINE_NEVER - 1, 0) == DEADLINE_NEVER - 1);
    assert_true(clock_add_ns(DEADLINE_NEVER - 1, 1) == DEADLINE_NEVER - 1);
    assert_true(clock_add_ns(DEADLINE_NEVER - 3, 1) == DEADLINE_NEVER - 2);
    assert_true(clock_add_ns(DEADLINE_NEVER - 3, 2) == DEADLINE_NEVER - 1);
    assert_true(clock_add_ns(DEADLINE_NEVER - 3, 3) == DEADLINE_NEVER - 1);
}

static uint64_t fixed_now(void)
{
    return 4711;
}

static void a_test_can_own_time(void **state)
{
    /* Goal: all readings go through the table. Method: replace the entry. */
    (void)state;
    sys.clock_now_ns = fixed_now;
    assert_true(clock_now_ns() == 4711);
    assert_true(rondo_now_ns() == 4711);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_never_goes_back),
        cmocka_unit_test(a_sum_that_does_not_fit_is_the_latest_time),
        cmocka_unit_test_teardown(a_test_can_own_time, sys_restore),
    };

    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
