/* The op table: slots with generations, so that a late or second completion finds nothing. */
#include "support.h"

#include "op_table.h"

static const struct op_kind kind = {.name = "test"};

static void a_slot_is_found_by_its_user_data(void **state)
{
    /* Goal: kind and owner come back, through several growths. Method: 5,000 operations alive. */
    enum { COUNT = 5000 };
    static uint64_t user_data[COUNT];
    static char owners[COUNT];
    struct op_table table;

    (void)state;
    assert_int_equal(op_table_init(&table), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(op_take(&table, &kind, &owners[i], &user_data[i]));
    assert_int_equal(table.live_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct op *op = op_find(&table, user_data[i]);
        assert_non_null(op);
        assert_ptr_equal(op->kind, &kind);
        assert_ptr_equal(op->owner, &owners[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        op_free(&table, op_find(&table, user_data[i]));
    assert_int_equal(table.live_count, 0);
    op_table_fini(&table);
}

static void a_second_completion_is_stale(void **state)
{
    /* Goal: freed means not found, also when the slot is in use again. */
    struct op_table table;
    uint64_t first;
    uint64_t second;

    (void)state;
    assert_int_equal(op_table_init(&table), 0);
    assert_true(op_take(&table, &kind, NULL, &first));
    op_free(&table, op_find(&table, first));
    assert_null(op_find(&table, first));
    assert_true(op_take(&table, &kind, NULL, &second));
    assert_int_equal((uint32_t)second, (uint32_t)first); /* The same slot, */
    assert_true(second >> 32 != first >> 32);            /* another generation. */
    assert_null(op_find(&table, first));
    assert_non_null(op_find(&table, second));
    op_table_fini(&table);
}

static void what_was_never_submitted_is_stale(void **state)
{
    /* Goal: any word is answered. Method: zero, small numbers, slots beyond the end, a generation
     * that is to come, and random words. */
    struct prng prng = prng_start(64);
    struct op_table table;
    uint64_t user_data;

    (void)state;
    assert_int_equal(op_table_init(&table), 0);
    for (uint64_t word = 0; word < 1000; word++)
        assert_null(op_find(&table, word));
    assert_true(op_take(&table, &kind, NULL, &user_data));
    assert_null(op_find(&table, user_data + (UINT64_C(1) << 32)));
    assert_null(op_find(&table, user_data & UINT32_MAX));
    assert_null(op_find(&table, user_data | UINT32_MAX));
    assert_null(op_find(&table, UINT64_MAX));
    for (uint32_t i = 0; i < 100000; i++) {
        uint64_t word = prng_next(&prng);
        assert_true(word == user_data || !op_find(&table, word));
    }
    op_table_fini(&table);
}

static void every_use_of_a_slot_has_its_own_name(void **state)
{
    /* Goal: no name twice. Method: one slot used 10,000 times. */
    struct op_table table;
    uint64_t last = 0;
    uint64_t user_data;

    (void)state;
    assert_int_equal(op_table_init(&table), 0);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_true(op_take(&table, &kind, NULL, &user_data));
        assert_true(user_data > last);
        assert_null(op_find(&table, last));
        op_free(&table, op_find(&table, user_data));
        last = user_data;
    }
    op_table_fini(&table);
}

static void freed_slots_are_used_before_the_table_grows(void **state)
{
    /* Goal: bounded by what is alive. Method: random takes and frees with at most 200 alive; the
     * capacity stays the first one, and the count is right at each step. */
    struct prng prng = prng_start(17);
    struct op_table table;
    uint64_t alive[200];
    uint32_t count = 0;

    (void)state;
    assert_int_equal(op_table_init(&table), 0);
    uint32_t capacity = table.capacity;
    assert_true(capacity >= ARRAY_SIZE(alive));
    for (uint32_t i = 0; i < test_count(100000); i++) {
        if (count < ARRAY_SIZE(alive) && prng_below(&prng, 2)) {
            assert_true(op_take(&table, &kind, NULL, &alive[count++]));
        } else if (count > 0) {
            uint32_t at = prng_below(&prng, count);
            struct op *op = op_find(&table, alive[at]);
            assert_non_null(op);
            op_free(&table, op);
            alive[at] = alive[--count];
        }
        assert_int_equal(table.live_count, count);
    }
    assert_int_equal(table.capacity, capacity);
    op_table_fini(&table);
}

static _Atomic bool memory_is_short;

static void *alloc_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc(size);
}

static void without_memory_the_living_stay(void **state)
{
    /* Goal: false, and all that is alive is found. Method: fill the table, no memory to grow, then
     * one is freed and taken, then memory. */
    struct op_table table;
    uint64_t user_data[2000];
    uint32_t count = 0;

    (void)state;
    sys.alloc = alloc_or_null;
    store_relaxed(&memory_is_short, true);
    assert_int_equal(op_table_init(&table), -ENOMEM);
    store_relaxed(&memory_is_short, false);
    assert_int_equal(op_table_init(&table), 0);
    store_relaxed(&memory_is_short, true);
    while (op_take(&table, &kind, NULL, &user_data[count]))
        count++;
    assert_int_equal(count, table.capacity);
    assert_int_equal(table.live_count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_non_null(op_find(&table, user_data[i]));
    op_free(&table, op_find(&table, user_data[7]));
    assert_true(op_take(&table, &kind, NULL, &user_data[7]));
    assert_false(op_take(&table, &kind, NULL, &user_data[count]));
    store_relaxed(&memory_is_short, false);
    assert_true(op_take(&table, &kind, NULL, &user_data[count++]));
    for (uint32_t i = 0; i < count; i++)
        assert_non_null(op_find(&table, user_data[i]));
    op_table_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_found_by_its_user_data),
        cmocka_unit_test(a_second_completion_is_stale),
        cmocka_unit_test(what_was_never_submitted_is_stale),
        cmocka_unit_test(every_use_of_a_slot_has_its_own_name),
        cmocka_unit_test(freed_slots_are_used_before_the_table_grows),
        cmocka_unit_test_teardown(without_memory_the_living_stay, sys_restore),
    };

    return cmocka_run_group_tests_name("op_table", tests, NULL, NULL);
}
