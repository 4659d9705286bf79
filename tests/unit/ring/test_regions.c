/* Registered memory: what lies in a region, what does not, and the table's places. */
#include "needs_ring.h"

#include "regions.h"

#include <stdlib.h>

enum { PAGE = 4096 };

static struct ring ring;
static struct regions regions;
static char *memory;

static int begin(void **state)
{
    struct ring_options options = {.submissions = 8, .completions = 16};

    (void)state;
    memset(&regions, 0, sizeof(regions));
    memory = aligned_alloc(PAGE, 4 * PAGE);
    return !memory || ring_init(&ring, &options) || ring_enable(&ring);
}

static int end(void **state)
{
    (void)state;
    ring_fini(&ring);
    free(memory);
    return 0;
}

static void only_what_lies_inside_is_found(void **state)
{
    /* Goal: each edge of a region, from both sides. */
    (void)state;
    assert_int_equal(region_find(&regions, memory, 1), -1);
    assert_int_equal(region_add(&regions, &ring, memory + PAGE, 2 * PAGE), 0);
    assert_int_equal(region_find(&regions, memory + PAGE, 2 * PAGE), 0);
    assert_int_equal(region_find(&regions, memory + PAGE, 1), 0);
    assert_int_equal(region_find(&regions, memory + 3 * PAGE - 1, 1), 0);
    assert_int_equal(region_find(&regions, memory + PAGE - 1, 1), -1);
    assert_int_equal(region_find(&regions, memory + PAGE - 1, PAGE), -1);
    assert_int_equal(region_find(&regions, memory + 3 * PAGE, 1), -1);
    assert_int_equal(region_find(&regions, memory + 3 * PAGE - 1, 2), -1);
    assert_int_equal(region_find(&regions, memory + PAGE, 2 * PAGE + 1), -1);
    assert_int_equal(region_find(&regions, memory + PAGE, SIZE_MAX), -1);
    region_remove(&regions, &ring, 0);
    assert_int_equal(region_find(&regions, memory + PAGE, 1), -1);
    assert_int_equal(regions.used_end, 0);
}

static void places_are_used_again(void **state)
{
    /* Goal: a full table says so; a place that was given back is the next one. */
    (void)state;
    for (int32_t i = 0; i < REGION_COUNT_MAX; i++)
        assert_int_equal(region_add(&regions, &ring, memory, PAGE), i);
    assert_int_equal(region_add(&regions, &ring, memory, PAGE), -ENOSPC);
    region_remove(&regions, &ring, 7);
    assert_int_equal(regions.used_end, REGION_COUNT_MAX);
    assert_int_equal(region_add(&regions, &ring, memory + PAGE, PAGE), 7);
    assert_int_equal(region_find(&regions, memory + PAGE, PAGE), 7);
    for (int32_t i = 0; i < REGION_COUNT_MAX; i++)
        region_remove(&regions, &ring, i);
    assert_int_equal(regions.used_end, 0);
}

static void memory_that_is_not_there_is_refused(void **state)
{
    (void)state;
    assert_int_equal(region_add(&regions, &ring, (void *)PAGE, PAGE), -EFAULT);
    assert_int_equal(regions.used_end, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_lies_inside_is_found, begin, end),
        cmocka_unit_test_setup_teardown(places_are_used_again, begin, end),
        cmocka_unit_test_setup_teardown(memory_that_is_not_there_is_refused, begin, end),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("regions", tests, NULL, NULL);
}
