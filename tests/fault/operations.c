/* Goal: the contract of every operation: one done each, none after a call that failed, and the
 * outcome that its cancel or deadline announced.
 * Method: operations of two simple kinds, rondo_run_blocking() and rondo_future_create(), go
 * through every order of start, end, cancel and deadline; then through a storm of random ones. */
#include "support.h"

static rondo_loop *loop;

/* An operation whose cancelled callback may be called. */
struct asked {
    struct outcome outcome; /* first: it is what its done gets */
    _Atomic bool is_asked;
};

static void begin(uint32_t blocking_threads)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.blocking_threads = blocking_threads;
    loop = loop_begin(&options);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void wait_done(struct asked *end, int64_t value)
{
    WAIT_UNTIL(atomic_load(&end->outcome.count) > 0, 5000);
    CHECK_EQUAL(end->outcome.result.value, value);
    CHECK_EQUAL(atomic_load(&end->outcome.count), 1);
}

/* ---- rondo_run_blocking() ---- */

static _Atomic int running;

static int64_t answer(void *ctx)
{
    (void)ctx;
    CHECK(!rondo_current_loop());
    return 42;
}

static int64_t wait_for_cancel(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&running, 1);
    WAIT_UNTIL(rondo_blocking_cancelled(), 5000);
    return -EINTR;
}

static void bad_requests(void **state)
{
    struct asked end = {0};
    struct rondo_request request = RONDO_REQUEST(.done = outcome_note, .ctx = &end);

    (void)state;
    begin(4);
    CHECK_EQUAL(rondo_run_blocking(NULL, answer, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_run_blocking(loop, NULL, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL, NULL), -EINVAL);
    request.done = NULL;
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL, &request), -EINVAL);
    request.done = outcome_note;
    request.size--;
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_cancel((rondo_handle){0x77}), -EINVAL);
    end_loop();
    CHECK_EQUAL(atomic_load(&end.outcome.count), 0);
}

static void blocking_result_and_deadlines(void **state)
{
    struct asked ends[3] = {0};

    (void)state;
    begin(4);
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL,
                                   &RONDO_REQUEST(.done = outcome_note, .ctx = &ends[0],
                                                  .ret_handle = &ends[0].outcome.handle)),
                0);
    wait_done(&ends[0], 42);
    CHECK_EQUAL(rondo_cancel(ends[0].outcome.handle), RONDO_CANCEL_FINISHED);
    CHECK_EQUAL(
        rondo_run_blocking(loop, answer, NULL,
                           &RONDO_REQUEST(.done = outcome_note, .ctx = &ends[1], .deadline_ns = 1)),
        0);
    wait_done(&ends[1], -ETIMEDOUT);
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL,
                                   &RONDO_REQUEST(.done = outcome_note, .ctx = &ends[2],
                                                  .deadline_ns = UINT64_MAX)),
                0);
    wait_done(&ends[2], 42);
    end_loop();
}

static void blocking_cancels(void **state)
{
    struct asked first = {0};
    struct asked second = {0};
    struct asked third = {0};

    (void)state;
    begin(1);
    CHECK_EQUAL(rondo_run_blocking(loop, wait_for_cancel, NULL,
                                   &RONDO_REQUEST(.done = outcome_note, .ctx = &first,
                                                  .ret_handle = &first.outcome.handle)),
                0);
    WAIT_UNTIL(atomic_load(&running) == 1, 5000);
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL,
                                   &RONDO_REQUEST(.done = outcome_note, .ctx = &second,
                                                  .ret_handle = &second.outcome.handle)),
                0);
    CHECK_EQUAL(rondo_run_blocking(loop, answer, NULL,
                                   &RONDO_REQUEST(.done = outcome_note, .ctx = &third,
                                                  .deadline_ns = rondo_now_ns() + 20 * MS)),
                0);
    /* The only thread is taken: the second is in the queue, and is taken back. */
    CHECK(rondo_cancel(second.outcome.handle) != RONDO_CANCEL_FINISHED);
    wait_done(&second, -ECANCELED);
    wait_done(&third, -ETIMEDOUT);
    /* The first one runs, and is only told. */
    CHECK_EQUAL(atomic_load(&first.outcome.count), 0);
    CHECK_EQUAL(rondo_cancel(first.outcome.handle), RONDO_CANCEL_IN_FLIGHT);
    wait_done(&first, -EINTR);
    end_loop();
}

/* ---- futures ---- */

static void note_asked(void *ctx)
{
    struct asked *end = ctx;

    CHECK_EQUAL(atomic_load(&end->outcome.count), 0);
    atomic_store(&end->is_asked, true);
}

static void future_results(void **state)
{
    struct asked set = {0};
    struct asked late = {0};
    struct asked dropped = {0};
    struct asked stopped = {0};
    struct rondo_result seven = {.value = 7};
    struct rondo_result cancelled = {.value = -ECANCELED};
    rondo_future *futures[4];

    (void)state;
    begin(1);
    CHECK_EQUAL(rondo_future_create(loop, &RONDO_REQUEST(.done = outcome_note, .ctx = &set), NULL,
                                    NULL, NULL, &futures[0]),
                0);
    rondo_future_set_result(futures[0], &seven);
    wait_done(&set, 7);

    CHECK_EQUAL(rondo_future_create(loop,
                                    &RONDO_REQUEST(.done = outcome_note, .ctx = &late,
                                                   .deadline_ns = rondo_now_ns() + 5 * MS),
                                    note_asked, NULL, &late, &futures[1]),
                0);
    WAIT_UNTIL(atomic_load(&late.is_asked), 5000);
    CHECK_EQUAL(atomic_load(&late.outcome.count), 0);
    rondo_future_set_result(futures[1], &cancelled);
    wait_done(&late, -ETIMEDOUT);

    CHECK_EQUAL(rondo_future_create(loop,
                                    &RONDO_REQUEST(.done = outcome_note, .ctx = &dropped,
                                                   .ret_handle = &dropped.outcome.handle),
                                    NULL, NULL, NULL, &futures[2]),
                0);
    CHECK_EQUAL(rondo_cancel(dropped.outcome.handle), RONDO_CANCEL_IN_FLIGHT);
    wait_done(&dropped, -ECANCELED);
    rondo_future_set_result(futures[2], &seven);
    CHECK_EQUAL(atomic_load(&dropped.outcome.count), 1);

    /* The loop's end cancels what is left. */
    CHECK_EQUAL(rondo_future_create(loop, &RONDO_REQUEST(.done = outcome_note, .ctx = &stopped),
                                    note_asked, NULL, &stopped, &futures[3]),
                0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    WAIT_UNTIL(atomic_load(&stopped.is_asked), 5000);
    rondo_future_set_result(futures[3], &cancelled);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(stopped.outcome.result.value, -ECANCELED);
    CHECK_EQUAL(rondo_future_create(loop, &RONDO_REQUEST(.done = outcome_note, .ctx = &stopped),
                                    NULL, NULL, NULL, &futures[3]),
                -ESHUTDOWN);
    rondo_loop_free(loop);
}

/* ---- a storm ---- */

enum { STORM_COUNT = 20000 };

static struct storm {
    struct asked end;
    rondo_future *future;
    int outcome;
} storm[STORM_COUNT];

static void set_seven(void *ctx)
{
    struct storm *one = ctx;

    rondo_future_set_result(one->future, &(struct rondo_result){.value = 7});
}

static void storm_of_cancels(void **state)
{
    uint64_t seed = test_begin("operations");
    uint64_t count = test_scaled(STORM_COUNT);
    uint64_t values[3] = {0};
    uint64_t outcomes[3] = {0};

    (void)state;
    count = count > STORM_COUNT ? STORM_COUNT : count;
    memset(storm, 0, sizeof(storm));
    begin(2);
    for (uint64_t i = 0; i < count; i++) {
        struct storm *one = &storm[i];
        one->outcome = -1;
        uint64_t deadline_ns = random_below(&seed, 3) ? 0 : rondo_now_ns() + 20000;
        CHECK_EQUAL(rondo_future_create(loop,
                                        &RONDO_REQUEST(.done = outcome_note, .ctx = &one->end,
                                                       .deadline_ns = deadline_ns,
                                                       .ret_handle = &one->end.outcome.handle),
                                        NULL, NULL, NULL, &one->future),
                    0);
        CHECK_EQUAL(rondo_call_later(loop, random_below(&seed, 40000), set_seven, one, NULL), 0);
        if (i % 64 == 63)
            WAIT_UNTIL(atomic_load(&storm[i - 60].end.outcome.count) > 0, 5000);
        /* Some of them just begun, some long ended. */
        struct storm *other = &storm[i - random_below(&seed, i < 1000 ? i + 1 : 1000)];
        if (random_below(&seed, 2) && other->outcome < 0)
            other->outcome = rondo_cancel(other->end.outcome.handle);
    }
    for (uint64_t i = 0; i < count; i++) {
        struct storm *one = &storm[i];
        WAIT_UNTIL(atomic_load(&one->end.outcome.count) > 0, 5000);
        CHECK_EQUAL(atomic_load(&one->end.outcome.count), 1);
        values[one->end.outcome.result.value == 7            ? 0
               : one->end.outcome.result.value == -ECANCELED ? 1
                                                             : 2]++;
        CHECK(one->end.outcome.result.value == 7 || one->end.outcome.result.value == -ECANCELED ||
              one->end.outcome.result.value == -ETIMEDOUT);
        if (one->outcome >= 0)
            outcomes[one->outcome]++;
    }
    end_loop();
    for (uint64_t i = 0; i < count; i++)
        CHECK_EQUAL(atomic_load(&storm[i].end.outcome.count), 1);
    printf("finished %lu, cancelled %lu, timed out %lu; in flight %lu, too late %lu\n",
           (unsigned long)values[0], (unsigned long)values[1], (unsigned long)values[2],
           (unsigned long)outcomes[1], (unsigned long)outcomes[2]);
    CHECK(values[0] > 0 && values[1] > 0 && values[2] > 0);
    CHECK(outcomes[1] > 0 && outcomes[2] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests),     cmocka_unit_test(blocking_result_and_deadlines),
        cmocka_unit_test(blocking_cancels), cmocka_unit_test(future_results),
        cmocka_unit_test(storm_of_cancels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
