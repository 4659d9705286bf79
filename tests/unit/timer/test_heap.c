/* The heap of timers: soonest first, equal deadlines in order, and whole when memory is short. */
#include "support.h"

#include "heap.h"

static int64_t marked; /* callbacks whose ctx points here are to be swept */

static bool drop_marked(struct callback *callback)
{
    return callback->ctx == &marked;
}

/* ---- against a model ---- */

enum { MODEL_OPERATIONS = 100000, MODEL_SIZE = 2048 };

/* The same entries in a sorted array. */
struct model {
    struct callback *entries[MODEL_SIZE];
    uint32_t count;
};

static void model_push(struct model *model, struct callback *callback)
{
    uint32_t at = 0;
    uint32_t end = model->count;

    while (at < end) { /* Behind all that are not later. */
        uint32_t middle = (at + end) / 2;
        if (model->entries[middle]->deadline_ns <= callback->deadline_ns)
            at = middle + 1;
        else
            end = middle;
    }
    memmove(&model->entries[at + 1], &model->entries[at],
            (model->count - at) * sizeof(model->entries[0]));
    model->entries[at] = callback;
    model->count++;
}

static struct callback *model_pop(struct model *model)
{
    struct callback *callback = model->entries[0];

    model->count--;
    memmove(&model->entries[0], &model->entries[1], model->count * sizeof(model->entries[0]));
    return callback;
}

static void model_sweep(struct model *model)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < model->count; i++)
        if (!drop_marked(model->entries[i]))
            model->entries[kept++] = model->entries[i];
    model->count = kept;
}

/* Few different deadlines, so that many are equal; now and then one of the two ends. */
static uint64_t random_deadline(struct prng *prng)
{
    switch (prng_below(prng, 20)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return prng_next(prng);
    default:
        return prng_below(prng, 100);
    }
}

static void it_agrees_with_a_sorted_list(void **state)
{
    /* Goal: the order by deadline and arming, through any mix. Method: 100,000 random pushes and
     * pops, and a few sweeps, against a sorted array. */
    struct prng prng = prng_start(1001);
    uint32_t operations = test_count(MODEL_OPERATIONS);
    struct callback *callbacks = test_alloc(operations, sizeof(*callbacks));
    struct model *model = test_alloc(1, sizeof(*model));
    struct heap heap = {0};

    (void)state;
    for (uint32_t i = 0; i < operations; i++) {
        uint32_t push_weight = i / 1000 % 2 ? 3 : 7; /* The heap grows and shrinks in turn. */
        if (i % 5000 == 4999) {
            heap_sweep(&heap, drop_marked);
            model_sweep(model);
        } else if (model->count < MODEL_SIZE && prng_below(&prng, 10) < push_weight) {
            callbacks[i].deadline_ns = random_deadline(&prng);
            callbacks[i].ctx = prng_below(&prng, 4) ? NULL : &marked;
            assert_true(heap_push(&heap, &callbacks[i]));
            model_push(model, &callbacks[i]);
        } else if (model->count > 0) {
            assert_ptr_equal(heap_top(&heap)->callback, model->entries[0]);
            assert_ptr_equal(heap_pop(&heap), model_pop(model));
        }
        assert_int_equal(heap.count, model->count);
    }
    while (model->count > 0)
        assert_ptr_equal(heap_pop(&heap), model_pop(model));
    assert_null(heap_top(&heap));
    heap_fini(&heap);
    free(model);
    free(callbacks);
}

static void equal_deadlines_come_out_in_order(void **state)
{
    /* Goal: arming order. Method: 10,000 of the same deadline between an earlier and a later. */
    enum { COUNT = 10000 };
    struct callback *callbacks = test_alloc(COUNT, sizeof(*callbacks));
    struct callback early = {.deadline_ns = 1};
    struct callback late = {.deadline_ns = 3};
    struct heap heap = {0};

    (void)state;
    assert_true(heap_push(&heap, &late));
    for (uint32_t i = 0; i < COUNT; i++) {
        callbacks[i].deadline_ns = 2;
        assert_true(heap_push(&heap, &callbacks[i]));
    }
    assert_true(heap_push(&heap, &early));
    assert_ptr_equal(heap_pop(&heap), &early);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_ptr_equal(heap_pop(&heap), &callbacks[i]);
    assert_ptr_equal(heap_pop(&heap), &late);
    heap_fini(&heap);
    free(callbacks);
}

static void the_ends_of_time_are_ordinary_deadlines(void **state)
{
    /* Goal: 0 is first and UINT64_MAX last, also among equals. */
    static const uint64_t deadlines[] = {UINT64_MAX, 0, UINT64_MAX - 1, 1, UINT64_MAX, 0};
    static const uint32_t order[] = {1, 5, 3, 2, 0, 4};
    struct callback callbacks[ARRAY_SIZE(deadlines)] = {0};
    struct heap heap = {0};

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
        callbacks[i].deadline_ns = deadlines[i];
        assert_true(heap_push(&heap, &callbacks[i]));
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(order); i++)
        assert_ptr_equal(heap_pop(&heap), &callbacks[order[i]]);
    heap_fini(&heap);
}

static void a_sweep_drops_the_marked_and_keeps_the_order(void **state)
{
    /* Goal: all, none, and every share between. Method: sizes around each level of the heap. */
    enum { COUNT = 400 };
    struct callback callbacks[COUNT] = {0};

    (void)state;
    for (uint32_t count = 0; count <= COUNT; count += count < 90 ? 1 : 31) {
        for (uint32_t each = 1; each <= 4; each++) {
            struct heap heap = {0};
            for (uint32_t i = 0; i < count; i++) {
                callbacks[i].deadline_ns = i * 7919 % COUNT; /* A permutation. */
                callbacks[i].ctx = callbacks[i].deadline_ns % each == 0 ? &marked : NULL;
                assert_true(heap_push(&heap, &callbacks[i]));
            }
            heap_sweep(&heap, drop_marked);
            uint64_t last = 0;
            while (heap.count > 0) {
                struct callback *callback = heap_pop(&heap);
                assert_true(callback->deadline_ns >= last);
                assert_true(callback->deadline_ns % each != 0);
                last = callback->deadline_ns;
            }
            heap_fini(&heap);
        }
    }
}

static _Atomic bool memory_is_short;

static void *alloc_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc_raw(size);
}

static void without_memory_it_stays_as_it_was(void **state)
{
    /* Goal: a push that fails loses nothing. Method: no memory at the first push, and at the first
     * growth; then memory, and everything comes out. */
    struct callback callbacks[1000] = {0};
    struct heap heap = {0};
    uint32_t pushed = 0;

    (void)state;
    sys.alloc_raw = alloc_or_null;
    store_relaxed(&memory_is_short, true);
    assert_false(heap_push(&heap, &callbacks[0]));
    assert_int_equal(heap.count, 0);
    assert_null(heap_top(&heap));
    store_relaxed(&memory_is_short, false);
    for (uint32_t i = 0; i < ARRAY_SIZE(callbacks); i++)
        callbacks[i].deadline_ns = 1000 - i;
    assert_true(heap_push(&heap, &callbacks[pushed++]));
    store_relaxed(&memory_is_short, true);
    while (heap_push(&heap, &callbacks[pushed]))
        pushed++;
    assert_int_equal(heap.count, pushed);
    assert_ptr_equal(heap_top(&heap)->callback, &callbacks[pushed - 1]);
    store_relaxed(&memory_is_short, false);
    while (pushed < ARRAY_SIZE(callbacks))
        assert_true(heap_push(&heap, &callbacks[pushed++]));
    while (pushed > 0)
        assert_ptr_equal(heap_pop(&heap), &callbacks[--pushed]);
    heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_a_sorted_list),
        cmocka_unit_test(equal_deadlines_come_out_in_order),
        cmocka_unit_test(the_ends_of_time_are_ordinary_deadlines),
        cmocka_unit_test(a_sweep_drops_the_marked_and_keeps_the_order),
        cmocka_unit_test_teardown(without_memory_it_stays_as_it_was, sys_restore),
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
