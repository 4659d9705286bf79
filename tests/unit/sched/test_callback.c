/* Callbacks: every change of their state, and a cancel that tells the truth about each. */
#include "support.h"

#include "callback.h"
#include "slab.h"
#include "strand.h"

static void count_up(void *ctx)
{
    uint32_t *count = ctx;

    (*count)++;
}

/* As a worker does it. */
static void run(struct callback *callback)
{
    callback->runnable.run(&callback->runnable);
}

struct recorded_holder {
    struct callback_holder holder;
    uint32_t cancelled;
};

static void record_cancelled(struct callback_holder *holder)
{
    container_of(holder, struct recorded_holder, holder)->cancelled++;
}

static struct callback *armed(struct recorded_holder *holder, uint32_t *count)
{
    struct callback *callback = callback_alloc(count_up, count, CALLBACK_ARMED);

    assert_non_null(callback);
    holder->holder.cancelled = record_cancelled;
    callback->holder = &holder->holder;
    return callback;
}

static void a_callback_runs_once_and_is_finished(void **state)
{
    /* Goal: READY, RUNNING, FREE. Method: run it, then ask its handle. */
    uint32_t count = 0;
    struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);

    (void)state;
    assert_non_null(callback);
    rondo_handle handle = callback_handle(callback);
    run(callback);
    assert_int_equal(count, 1);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
}

static void a_cancelled_callback_never_runs(void **state)
{
    /* Goal: READY, CANCELLED, FREE. Method: cancel, then let the worker find it; a second cancel
     * before and after that is told "finished". */
    uint32_t count = 0;
    struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);

    (void)state;
    assert_non_null(callback);
    rondo_handle handle = callback_handle(callback);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_NOT_STARTED);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
    assert_true(callback_is_cancelled(callback));
    run(callback);
    assert_int_equal(count, 0);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
}

static void an_armed_callback_becomes_ready_and_runs(void **state)
{
    /* Goal: ARMED, READY, RUNNING, FREE, and the holder hears nothing. */
    struct recorded_holder holder = {0};
    uint32_t count = 0;
    struct callback *callback = armed(&holder, &count);

    (void)state;
    assert_false(callback_is_cancelled(callback));
    assert_true(callback_make_ready(callback));
    run(callback);
    assert_int_equal(count, 1);
    assert_int_equal(holder.cancelled, 0);
}

static void cancelling_an_armed_callback_tells_its_holder(void **state)
{
    /* Goal: ARMED, CANCELLED, reaped by the holder. Method: cancel twice, the holder hears once,
     * and making it ready is refused. */
    struct recorded_holder holder = {0};
    uint32_t count = 0;
    struct callback *callback = armed(&holder, &count);
    rondo_handle handle = callback_handle(callback);

    (void)state;
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_NOT_STARTED);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
    assert_int_equal(holder.cancelled, 1);
    assert_true(callback_is_cancelled(callback));
    assert_false(callback_make_ready(callback));
    callback_free(callback);
    assert_int_equal(count, 0);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
}

static void cancelling_after_it_was_due_leaves_the_holder_alone(void **state)
{
    /* Goal: a timer that left the heap is not counted there. */
    struct recorded_holder holder = {0};
    uint32_t count = 0;
    struct callback *callback = armed(&holder, &count);
    rondo_handle handle = callback_handle(callback);

    (void)state;
    assert_true(callback_make_ready(callback));
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_NOT_STARTED);
    assert_int_equal(holder.cancelled, 0);
    run(callback);
    assert_int_equal(count, 0);
}

static rondo_handle own_handle;
static int own_outcome;

static void cancel_itself(void *ctx)
{
    (void)ctx;
    own_outcome = rondo_cancel(own_handle);
}

static void cancel_from_within_finds_it_in_flight(void **state)
{
    /* Goal: IN_FLIGHT for a callback that cancels itself, and it ends as any other. */
    struct callback *callback = callback_alloc(cancel_itself, NULL, CALLBACK_READY);

    (void)state;
    assert_non_null(callback);
    own_handle = callback_handle(callback);
    own_outcome = -1;
    run(callback);
    assert_int_equal(own_outcome, RONDO_CANCEL_IN_FLIGHT);
    assert_int_equal(rondo_cancel(own_handle), RONDO_CANCEL_FINISHED);
}

struct stay {
    struct counter entered;
    struct counter gate;
    struct callback *callback;
};

static void stay_inside(void *ctx)
{
    struct stay *stay = ctx;

    counter_add(&stay->entered, 1);
    counter_wait(&stay->gate, 1);
}

static void *run_stay(void *arg)
{
    struct stay *stay = arg;

    run(stay->callback);
    return NULL;
}

static void cancel_from_another_thread_finds_it_in_flight(void **state)
{
    /* Goal: IN_FLIGHT while it runs elsewhere. Method: it blocks until it was cancelled. */
    struct stay stay = {0};

    (void)state;
    stay.callback = callback_alloc(stay_inside, &stay, CALLBACK_READY);
    assert_non_null(stay.callback);
    rondo_handle handle = callback_handle(stay.callback);
    pthread_t thread = thread_start(run_stay, &stay);
    counter_wait(&stay.entered, 1);
    int outcome = rondo_cancel(handle);
    int again = rondo_cancel(handle);
    counter_add(&stay.gate, 1);
    thread_join(thread);
    assert_int_equal(outcome, RONDO_CANCEL_IN_FLIGHT);
    assert_int_equal(again, RONDO_CANCEL_IN_FLIGHT);
    assert_int_equal(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
}

static void a_stale_handle_does_not_cancel_the_next_user(void **state)
{
    /* Goal: another generation for each user of a node. Method: the node freed last is allocated
     * next; the old handle must be finished and the new callback run. */
    uint32_t count = 0;
    struct callback *first = callback_alloc(count_up, &count, CALLBACK_READY);

    (void)state;
    assert_non_null(first);
    rondo_handle old_handle = callback_handle(first);
    run(first);
    struct callback *second = callback_alloc(count_up, &count, CALLBACK_READY);
    assert_ptr_equal(second, first);
    rondo_handle new_handle = callback_handle(second);
    assert_true(old_handle.id != new_handle.id);
    assert_int_equal(rondo_cancel(old_handle), RONDO_CANCEL_FINISHED);
    run(second);
    assert_int_equal(count, 2);
}

static void the_generation_wraps_past_zero(void **state)
{
    /* Goal: no handle is ever zero. Method: put the last generation into the word of a callback
     * and let it run. */
    uint32_t count = 0;
    struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);

    (void)state;
    assert_non_null(callback);
    uint64_t before = load_relaxed(&callback->state);
    store_relaxed(&callback->state, before | UINT64_C(0xffffffff) << 32);
    run(callback);
    struct callback *next = callback_alloc(count_up, &count, CALLBACK_READY);
    assert_ptr_equal(next, callback);
    assert_true(callback_handle(next).id >> 32 == 1);
    run(next);
}

static void what_is_no_handle_is_refused(void **state)
{
    /* Goal: -EINVAL for zero, for what has a phase, and for an index that does not exist. */
    uint32_t count = 0;
    struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);
    rondo_handle handle = callback_handle(callback);

    (void)state;
    assert_int_equal(rondo_cancel((rondo_handle){0}), -EINVAL);
    for (uint64_t phase = 1; phase < 256; phase++)
        assert_int_equal(rondo_cancel((rondo_handle){handle.id | phase}), -EINVAL);
    assert_int_equal(rondo_cancel((rondo_handle){UINT64_MAX}), -EINVAL);
    assert_int_equal(rondo_cancel((rondo_handle){UINT64_C(1) << 32 | UINT64_C(0xffffff) << 8}),
                     -EINVAL);
    run(callback);
    assert_int_equal(count, 1);
}

static void garbage_that_looks_like_a_handle_is_finished(void **state)
{
    /* Goal: any number is answered, and harms no living callback. Method: random words. */
    struct prng prng = prng_start(31337);
    uint32_t count = 0;
    struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);
    rondo_handle handle = callback_handle(callback);

    (void)state;
    for (uint32_t i = 0; i < test_count(100000); i++) {
        rondo_handle garbage = {prng_next(&prng)};
        if (i % 2)
            garbage.id = (garbage.id & ~UINT64_C(0xffffffff)) | (handle.id & UINT32_MAX);
        if (garbage.id == handle.id)
            continue;
        int outcome = rondo_cancel(garbage);
        assert_true(outcome == -EINVAL || outcome == RONDO_CANCEL_FINISHED);
    }
    run(callback);
    assert_int_equal(count, 1);
}

static void ignore_strand(struct strand *strand)
{
    (void)strand;
}

static void the_strand_is_let_go_when_the_callback_is_over(void **state)
{
    /* Goal: a reference for each callback, dropped after its run and after its cancel. */
    struct strand strand;
    uint32_t count = 0;

    (void)state;
    strand_init(&strand, NULL, ignore_strand);
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct callback *callback = callback_alloc(count_up, &count, CALLBACK_READY);
        assert_non_null(callback);
        strand_ref(&strand);
        callback->strand = &strand;
        if (cancelled)
            assert_int_equal(rondo_cancel(callback_handle(callback)), RONDO_CANCEL_NOT_STARTED);
        run(callback);
        assert_int_equal(load_relaxed(&strand.refs), 1);
    }
    assert_int_equal(count, 1);
}

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void no_memory_is_null_and_recovers(void **state)
{
    /* Goal: the limit is an answer, not a crash. Method: allocate all there is, then free it. */
    struct callback **all = test_alloc(SLAB_CHUNK_NODE_COUNT * 8, sizeof(struct callback *));
    uint32_t count = 0;
    uint32_t runs = 0;

    (void)state;
    sys.alloc_aligned = no_memory;
    while ((all[count] = callback_alloc(count_up, &runs, CALLBACK_READY)))
        count++;
    sys.alloc_aligned = sys_real.alloc_aligned;
    all[count] = callback_alloc(count_up, &runs, CALLBACK_READY);
    assert_non_null(all[count++]);
    for (uint32_t i = 0; i < count; i++)
        callback_free(all[i]);
    assert_int_equal(runs, 0);
    free(all);
}

/* ---- cancel against run ---- */

enum { RACE_ROUND = 1000, RACE_TOTAL = 200000 };

struct race {
    struct barrier barrier;
    uint32_t rounds;
    struct callback *callbacks[RACE_ROUND];
    rondo_handle handles[RACE_ROUND];
    uint32_t runs[RACE_ROUND];
};

static void *run_rounds(void *arg)
{
    struct race *race = arg;

    for (uint32_t round = 0; round < race->rounds; round++) {
        barrier_meet(&race->barrier);
        for (uint32_t i = 0; i < RACE_ROUND; i++)
            run(race->callbacks[i]);
        barrier_meet(&race->barrier);
    }
    return NULL;
}

static void cancel_and_run_meet_in_one_order(void **state)
{
    /* Goal: each callback either runs or is told NOT_STARTED, never both and never neither. Method:
     * one thread runs 1,000 at a time while another cancels them, in the same order or in the
     * opposite one; both ends must have occurred. */
    struct race *race = test_alloc(1, sizeof(*race));
    uint32_t outcomes[RACE_ROUND];
    uint32_t not_started = 0;
    uint32_t ran = 0;

    (void)state;
    race->barrier.count = 2;
    race->rounds = test_count(RACE_TOTAL) / RACE_ROUND;
    pthread_t thread = thread_start(run_rounds, race);
    for (uint32_t round = 0; round < race->rounds; round++) {
        for (uint32_t i = 0; i < RACE_ROUND; i++) {
            race->runs[i] = 0;
            race->callbacks[i] = callback_alloc(count_up, &race->runs[i], CALLBACK_READY);
            assert_non_null(race->callbacks[i]);
            race->handles[i] = callback_handle(race->callbacks[i]);
        }
        barrier_meet(&race->barrier);
        for (uint32_t i = 0; i < RACE_ROUND; i++) {
            uint32_t at = round % 2 ? RACE_ROUND - 1 - i : i;
            outcomes[at] = (uint32_t)rondo_cancel(race->handles[at]);
        }
        barrier_meet(&race->barrier);
        for (uint32_t i = 0; i < RACE_ROUND; i++) {
            bool cancelled = outcomes[i] == RONDO_CANCEL_NOT_STARTED;
            assert_in_range(outcomes[i], RONDO_CANCEL_NOT_STARTED, RONDO_CANCEL_FINISHED);
            assert_int_equal(race->runs[i], cancelled ? 0 : 1);
            not_started += cancelled;
            ran += !cancelled;
        }
    }
    thread_join(thread);
    assert_true(not_started > 0);
    assert_true(ran > 0);
    free(race);
}

struct reuse {
    struct barrier barrier;
    uint32_t count;
    uint32_t runs;
    _Atomic uint64_t newest;
    _Atomic bool finished;
};

static void *run_and_reuse(void *arg)
{
    struct reuse *reuse = arg;

    barrier_meet(&reuse->barrier);
    for (uint32_t i = 0; i < reuse->count; i++) {
        struct callback *callback = callback_alloc(count_up, &reuse->runs, CALLBACK_READY);
        THREAD_CHECK(callback);
        /* Release pairs with the acquire by the canceller. */
        store_release(&reuse->newest, callback_handle(callback).id);
        run(callback);
    }
    store_release(&reuse->finished, true); /* Pairs with the acquire by the canceller. */
    return NULL;
}

static void cancel_reads_the_holder_while_the_node_is_reused(void **state)
{
    /* Goal: a cancel that comes while the node is freed and allocated again touches nothing but
     * its word. Method: one thread allocates and runs, always the same node; another cancels the
     * newest handle all the time. A run or a NOT_STARTED for each, and no data race. */
    struct reuse reuse = {.barrier.count = 2, .count = test_count(200000)};
    uint32_t not_started = 0;

    (void)state;
    pthread_t thread = thread_start(run_and_reuse, &reuse);
    barrier_meet(&reuse.barrier);
    while (!load_acquire(&reuse.finished)) { /* Pairs with the release by the owner. */
        rondo_handle handle = {load_acquire(&reuse.newest)}; /* Pairs with the owner's. */
        if (handle.id && rondo_cancel(handle) == RONDO_CANCEL_NOT_STARTED)
            not_started++;
    }
    thread_join(thread);
    assert_int_equal(reuse.runs + not_started, reuse.count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_callback_runs_once_and_is_finished),
        cmocka_unit_test(a_cancelled_callback_never_runs),
        cmocka_unit_test(an_armed_callback_becomes_ready_and_runs),
        cmocka_unit_test(cancelling_an_armed_callback_tells_its_holder),
        cmocka_unit_test(cancelling_after_it_was_due_leaves_the_holder_alone),
        cmocka_unit_test(cancel_from_within_finds_it_in_flight),
        cmocka_unit_test(cancel_from_another_thread_finds_it_in_flight),
        cmocka_unit_test(a_stale_handle_does_not_cancel_the_next_user),
        cmocka_unit_test(the_generation_wraps_past_zero),
        cmocka_unit_test(what_is_no_handle_is_refused),
        cmocka_unit_test(garbage_that_looks_like_a_handle_is_finished),
        cmocka_unit_test(the_strand_is_let_go_when_the_callback_is_over),
        cmocka_unit_test_teardown(no_memory_is_null_and_recovers, sys_restore),
        cmocka_unit_test(cancel_and_run_meet_in_one_order),
        cmocka_unit_test(cancel_reads_the_holder_while_the_node_is_reused),
    };

    return cmocka_run_group_tests_name("callback", tests, NULL, NULL);
}
