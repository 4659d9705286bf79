/* The lane thread: requests in, completions out, and a sleep that ends when it must. */
#include "needs_ring.h"
#include "pool_support.h"

#include "lane.h"

static struct test_pool test;
static struct lane lane;
static struct life life;
static struct counter quiet;

static void note_quiet(void *ctx)
{
    counter_add(ctx, 1);
}

/* A lane with small rings, so that they fill. */
static void lane_begin(uint32_t submissions, uint32_t completions)
{
    struct lane_options options = {
        .pool = &test.pool,
        .life = &life,
        .submissions = submissions,
        .completions = completions,
        .buffers = 64,
        .buffer_size = 128,
    };

    store_relaxed(&quiet.value, 0);
    memset(&life, 0, sizeof(life));
    life.count = 1; /* The lane's. */
    life.quiet = note_quiet;
    life.ctx = &quiet;
    test_pool_start(&test, 2, 2);
    int error = lane_init(&lane, &options);
    THREAD_CHECK(error == 0);
    error = lane_start(&lane);
    THREAD_CHECK(error == 0);
    lane_go(&lane);
}

static void lane_end(void)
{
    lane_drain(&lane);
    counter_wait(&quiet, 1);
    lane_stop(&lane);
    test_pool_stop(&test);
    lane_fini(&lane);
}

/* Runs a function of the test on the lane. */
struct on_lane {
    struct lane_request request;
    void (*body)(struct lane *lane);
    struct counter done;
};

static void on_lane_run(struct lane *of, struct lane_request *request)
{
    struct on_lane *ask = container_of(request, struct on_lane, request);

    THREAD_CHECK(of == &lane);
    ask->body(of);
    counter_add(&ask->done, 1);
}

static void run_on_lane(void (*body)(struct lane *lane))
{
    struct on_lane ask = {.request.run = on_lane_run, .body = body};

    lane_ask(&lane, &ask.request);
    counter_wait(&ask.done, 1);
}

/* ---- requests ---- */

enum { ASKERS = 3, ASKS = 10000 };

struct asked {
    struct lane_request request;
    uint32_t asker;
    uint32_t sequence;
};

static struct asked *asks[ASKERS];
static uint32_t asks_next[ASKERS]; /* lane thread only */
static struct counter asks_done;
static _Atomic uint32_t next_asker;

static void asked_run(struct lane *of, struct lane_request *request)
{
    struct asked *ask = container_of(request, struct asked, request);

    (void)of;
    THREAD_CHECK(ask->sequence == asks_next[ask->asker]);
    asks_next[ask->asker]++;
    counter_add(&asks_done, 1);
}

static void *ask_many(void *arg)
{
    uint32_t asker = add_relaxed(&next_asker, 1);
    struct prng prng = prng_of_thread(asker);

    (void)arg;
    for (uint32_t i = 0; i < test_count(ASKS); i++) {
        asks[asker][i] = (struct asked){{.run = asked_run}, asker, i};
        lane_ask(&lane, &asks[asker][i].request);
        for (uint32_t pause = prng_below(&prng, 300); pause > 0; pause--)
            cpu_relax();
    }
    return NULL;
}

static void requests_run_once_and_in_order(void **state)
{
    /* Goal: no request is slept over, and those of one thread keep their order. Method: three
     * threads with random pauses, so that the lane falls asleep between. */
    pthread_t threads[ASKERS];

    (void)state;
    (void)prng_start(321);
    store_relaxed(&asks_done.value, 0);
    lane_begin(16, 32);
    /* All memory first: which thread becomes which asker is not known. */
    for (uint32_t i = 0; i < ASKERS; i++)
        asks[i] = test_alloc(test_count(ASKS), sizeof(struct asked));
    for (uint32_t i = 0; i < ASKERS; i++)
        threads[i] = thread_start(ask_many, NULL);
    for (uint32_t i = 0; i < ASKERS; i++)
        thread_join(threads[i]);
    counter_wait(&asks_done, ASKERS * test_count(ASKS));
    lane_end();
    for (uint32_t i = 0; i < ASKERS; i++)
        free(asks[i]);
}

/* ---- operations ---- */

enum { NOPS = 1000 };

static uint8_t nop_ends[NOPS]; /* lane thread only */
static uint8_t nop_owners[NOPS];
static struct counter nops_done;

static void nop_complete(struct lane *of, void *owner, int32_t result, uint32_t flags)
{
    uint8_t *mark = owner;

    (void)of;
    THREAD_CHECK(result == 0);
    THREAD_CHECK(!(flags & IORING_CQE_F_MORE));
    nop_ends[mark - nop_owners]++;
    counter_add(&nops_done, 1);
}

static const struct op_kind nop_kind = {"nop", nop_complete};

static void submit_nops(struct lane *of)
{
    for (uint32_t i = 0; i < NOPS; i++) {
        struct io_uring_sqe *sqe = lane_submit(of, &nop_kind, &nop_owners[i], NULL);
        THREAD_CHECK(sqe);
        uint64_t user_data = sqe->user_data;
        io_uring_prep_nop(sqe);
        sqe->user_data = user_data;
    }
}

static void more_operations_than_the_rings_hold_end_once_each(void **state)
{
    /* Goal: full submission and completion rings lose nothing. Method: one request submits 1,000
     * operations through rings of 4 and 4. */
    (void)state;
    memset(nop_ends, 0, sizeof(nop_ends));
    store_relaxed(&nops_done.value, 0);
    lane_begin(4, 4);
    run_on_lane(submit_nops);
    counter_wait(&nops_done, NOPS);
    lane_end();
    for (uint32_t i = 0; i < NOPS; i++)
        assert_int_equal(nop_ends[i], 1);
    assert_int_equal(load_relaxed(&lane.stale_count), 0);
    assert_true(load_relaxed(&lane.submission_count) >= NOPS);
    assert_true(load_relaxed(&lane.completion_count) >= NOPS);
}

static struct __kernel_timespec hour = {.tv_sec = 3600};
static uint64_t hour_user_data;
static struct counter hour_ends;
static int32_t hour_result;

static void hour_complete(struct lane *of, void *owner, int32_t result, uint32_t flags)
{
    (void)of;
    (void)owner;
    (void)flags;
    hour_result = result;
    counter_add(&hour_ends, 1);
}

static const struct op_kind hour_kind = {"hour", hour_complete};

static void submit_hour(struct lane *of)
{
    struct io_uring_sqe *sqe = lane_submit(of, &hour_kind, NULL, &hour_user_data);

    THREAD_CHECK(sqe);
    io_uring_prep_timeout(sqe, &hour, 0, 0);
    sqe->user_data = hour_user_data;
}

static void cancel_hour(struct lane *of)
{
    lane_cancel(of, hour_user_data);
}

static void a_cancelled_operation_tells_its_own_end(void **state)
{
    /* Goal: one end, -ECANCELED, by its own completion; cancelling it again finds nothing and
     * harms nothing. Method: a timeout of an hour. */
    (void)state;
    store_relaxed(&hour_ends.value, 0);
    lane_begin(8, 16);
    run_on_lane(submit_hour);
    run_on_lane(cancel_hour);
    counter_wait(&hour_ends, 1);
    run_on_lane(cancel_hour);
    lane_end();
    assert_int_equal(counter_read(&hour_ends), 1);
    assert_int_equal(hour_result, -ECANCELED);
    assert_int_equal(load_relaxed(&lane.stale_count), 0);
}

static void submit_stale(struct lane *of)
{
    struct io_uring_sqe *sqe = ring_submission(&of->ring);

    THREAD_CHECK(sqe);
    io_uring_prep_nop(sqe);
    sqe->user_data = UINT64_C(99) << 32; /* Slot 0, a generation that is not. */
}

static void a_stale_completion_is_counted_and_dropped(void **state)
{
    /* Goal: what belongs to no operation reaches nobody. */
    (void)state;
    lane_begin(8, 16);
    run_on_lane(submit_stale);
    WAIT_UNTIL(load_relaxed(&lane.stale_count) == 1);
    lane_end();
}

/* ---- events ---- */

enum { EVENTS = 300 };

static struct strand strand;
static struct counter strand_gone;
static struct journal journal;
static struct noted events[EVENTS];
static struct counter events_total;

static void note_gone(struct strand *which)
{
    (void)which;
    counter_add(&strand_gone, 1);
}

static void post_events(struct lane *of)
{
    for (uint32_t i = 0; i < EVENTS; i++) {
        noted_init(&events[i], &journal, &events_total, i);
        lane_post(of, &strand, &events[i].runnable);
    }
}

static void events_reach_their_strand_in_order(void **state)
{
    /* Goal: one push for a batch, each event once, in order. */
    (void)state;
    journal.count = 0;
    store_relaxed(&events_total.value, 0);
    store_relaxed(&strand_gone.value, 0);
    lane_begin(8, 16);
    strand_init(&strand, &test.pool, note_gone);
    run_on_lane(post_events);
    counter_wait(&events_total, EVENTS);
    strand_unref(&strand);
    counter_wait(&strand_gone, 1);
    lane_end();
    for (uint32_t i = 0; i < EVENTS; i++)
        assert_int_equal(journal.entries[i], i);
}

/* ---- pauses ---- */

static struct counter resumed;

static void resumed_run(struct lane *of, struct lane_request *request)
{
    (void)of;
    (void)request;
    counter_add(&resumed, 1);
}

static struct lane_request paused[3];

static void pause_three(struct lane *of)
{
    for (uint32_t i = 0; i < 3; i++) {
        paused[i].run = resumed_run;
        lane_pause_accept(of, &paused[i]);
    }
    lane_forget_accept(of, &paused[1]);
}

static void a_paused_accept_is_retried_a_moment_later(void **state)
{
    /* Goal: accepting goes on by itself, once, except for what was forgotten. */
    (void)state;
    store_relaxed(&resumed.value, 0);
    lane_begin(8, 16);
    run_on_lane(pause_three);
    counter_wait(&resumed, 2);
    assert_int_equal(load_relaxed(&lane.accept_pause_count), 3);
    lane_end();
    assert_int_equal(counter_read(&resumed), 2);
}

static struct buffer *taken[64];

/* As if the kernel had filled every buffer. */
static void take_all_buffers(struct lane *of)
{
    for (uint32_t i = 0; i < ARRAY_SIZE(taken); i++)
        taken[i] = buffer_ring_picked(&of->buffers, i, 1);
    for (uint32_t i = 0; i < 3; i++) {
        paused[i].run = resumed_run;
        lane_wait_for_buffers(of, &of->buffers, &paused[i]);
    }
    lane_forget_buffers(&of->buffers, &paused[2]);
}

static void a_starved_receive_goes_on_when_buffers_return(void **state)
{
    /* Goal: the lane sleeps and is woken by returns from another thread. Method: all buffers out,
     * two handles wait; they must hear when enough are back, and not before the first. */
    (void)state;
    store_relaxed(&resumed.value, 0);
    lane_begin(8, 16);
    run_on_lane(take_all_buffers);
    WAIT_UNTIL(inbox_is_asleep(&lane.inbox));
    assert_int_equal(counter_read(&resumed), 0);
    for (uint32_t i = 0; i < ARRAY_SIZE(taken); i++)
        lane_return_buffer(&lane, &lane.buffers, taken[i]);
    counter_wait(&resumed, 2);
    assert_int_equal(load_relaxed(&lane.exhausted_count), 3);
    lane_end();
    assert_int_equal(counter_read(&resumed), 2);
}

/* ---- handles ---- */

struct recorded_handle {
    struct lane_handle handle;
    struct counter drained;
    struct counter aborted;
};

static struct recorded_handle handles[3];

static void record_drain(struct lane *of, struct lane_handle *handle)
{
    (void)of;
    counter_add(&container_of(handle, struct recorded_handle, handle)->drained, 1);
}

static void record_abort(struct lane *of, struct lane_handle *handle)
{
    counter_add(&container_of(handle, struct recorded_handle, handle)->aborted, 1);
    lane_handle_remove(of, handle);
}

static void add_handle(struct lane *of, struct recorded_handle *recorded)
{
    memset(recorded, 0, sizeof(*recorded));
    recorded->handle.drain = record_drain;
    recorded->handle.abort = record_abort;
    THREAD_CHECK(life_add(&life));
    lane_handle_add(of, &recorded->handle);
}

static void add_two_handles(struct lane *of)
{
    add_handle(of, &handles[0]);
    add_handle(of, &handles[1]);
}

static void add_late_handle(struct lane *of)
{
    add_handle(of, &handles[2]);
}

static void drain_and_abort_reach_every_handle(void **state)
{
    /* Goal: also the one that comes while the lane drains; quiet only when the last is gone. */
    (void)state;
    lane_begin(8, 16);
    run_on_lane(add_two_handles);
    lane_drain(&lane);
    counter_wait(&handles[0].drained, 1);
    counter_wait(&handles[1].drained, 1);
    run_on_lane(add_late_handle);
    counter_wait(&handles[2].drained, 1);
    assert_int_equal(counter_read(&quiet), 0);
    lane_abort(&lane);
    counter_wait(&quiet, 1);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(counter_read(&handles[i].drained), 1);
        assert_int_equal(counter_read(&handles[i].aborted), 1);
    }
    lane_stop(&lane);
    test_pool_stop(&test);
    lane_fini(&lane);
}

/* The end of the first takes the second with it. */
static void abort_both(struct lane *of, struct lane_handle *handle)
{
    record_abort(of, handle);
    record_abort(of, &handles[1].handle);
}

static void add_tied_handles(struct lane *of)
{
    for (uint32_t i = 0; i < 3; i++)
        add_handle(of, &handles[i]);
    handles[0].handle.abort = abort_both;
}

static void a_handle_may_take_the_next_one_with_it(void **state)
{
    /* Goal: the walk over the handles goes on with the one after. */
    (void)state;
    lane_begin(8, 16);
    run_on_lane(add_tied_handles);
    lane_drain(&lane);
    lane_abort(&lane);
    counter_wait(&quiet, 1);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(counter_read(&handles[i].aborted), 1);
    lane_stop(&lane);
    test_pool_stop(&test);
    lane_fini(&lane);
}

static void an_idle_lane_sleeps(void **state)
{
    /* Goal: no wake-up without a reason. Method: its sleeps counted over 200 ms; this test is
     * about nothing happening, so it lets time pass. */
    (void)state;
    lane_begin(8, 16);
    WAIT_UNTIL(inbox_is_asleep(&lane.inbox));
    test_pause(20 * NS_PER_MS);
    uint64_t before = load_relaxed(&lane.wake_count);
    test_pause(200 * NS_PER_MS);
    assert_int_equal(load_relaxed(&lane.wake_count), before);
    lane_end();
}

/* ---- failures ---- */

static int no_event(void)
{
    return -EMFILE;
}

static void an_init_without_a_descriptor_reports_it(void **state)
{
    /* Goal: the error and its name; nothing is left behind. */
    struct lane_options options = {.submissions = 8, .completions = 16};

    (void)state;
    sys.event_create = no_event;
    assert_int_equal(lane_init(&lane, &options), -EMFILE);
    assert_non_null(strstr(rondo_error_text(), "EMFILE"));
}

static void a_ring_that_cannot_be_enabled_fails_the_start(void **state)
{
    /* Goal: the error of the thread reaches the one who starts it. */
    struct lane_options options = {.submissions = 8, .completions = 16};

    (void)state;
    assert_int_equal(lane_init(&lane, &options), 0);
    sys.ring_register = ring_register_refused;
    assert_int_equal(lane_start(&lane), -EPERM);
    lane_give_up(&lane);
    assert_false(lane.started);
    lane_fini(&lane);
}

static struct io_uring_sqe *given_up_sqe;

static void submit_to_given_up(struct lane *of)
{
    given_up_sqe = lane_submit(of, &nop_kind, NULL, NULL);
}

static void a_lane_given_up_runs_its_requests_and_submits_nothing(void **state)
{
    /* Goal: what was asked before the start is answered, on the controller's thread, also where the
     * lane's thread was there already. Method: ask, give up, with and without a start. */
    struct lane_options options = {.pool = &test.pool,
                                   .life = &life,
                                   .submissions = 8,
                                   .completions = 16,
                                   .buffers = 64,
                                   .buffer_size = 128};

    (void)state;
    for (int started = 0; started < 2; started++) {
        struct on_lane ask = {.request.run = on_lane_run, .body = submit_to_given_up};
        static struct io_uring_sqe none;
        given_up_sqe = &none;
        test_pool_init(&test, 1, 1);
        assert_int_equal(lane_init(&lane, &options), 0);
        lane_ask(&lane, &ask.request);
        if (started)
            assert_int_equal(lane_start(&lane), 0);
        assert_int_equal(counter_read(&ask.done), 0);
        lane_give_up(&lane);
        assert_int_equal(counter_read(&ask.done), 1);
        assert_null(given_up_sqe);
        lane_fini(&lane);
        pool_fini(&test.pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_run_once_and_in_order),
        cmocka_unit_test(more_operations_than_the_rings_hold_end_once_each),
        cmocka_unit_test(a_cancelled_operation_tells_its_own_end),
        cmocka_unit_test(a_stale_completion_is_counted_and_dropped),
        cmocka_unit_test(events_reach_their_strand_in_order),
        cmocka_unit_test(a_paused_accept_is_retried_a_moment_later),
        cmocka_unit_test(a_starved_receive_goes_on_when_buffers_return),
        cmocka_unit_test(drain_and_abort_reach_every_handle),
        cmocka_unit_test(a_handle_may_take_the_next_one_with_it),
        cmocka_unit_test(an_idle_lane_sleeps),
        cmocka_unit_test_teardown(an_init_without_a_descriptor_reports_it, sys_restore),
        cmocka_unit_test_teardown(a_ring_that_cannot_be_enabled_fails_the_start, sys_restore),
        cmocka_unit_test(a_lane_given_up_runs_its_requests_and_submits_nothing),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
