/* The ring over the kernel's: submit, reap, overflow, and what is said when it cannot be had. */
#include "needs_ring.h"

static struct ring ring;

static void start(uint32_t submissions, uint32_t completions)
{
    struct ring_options options = {.submissions = submissions, .completions = completions};

    assert_int_equal(ring_init(&ring, &options), 0);
    assert_int_equal(ring_enable(&ring), 0);
}

/* Fill @count submissions that complete at once, named from @first. */
static void fill(uint64_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = ring_submission(&ring);
        assert_non_null(sqe);
        io_uring_prep_nop(sqe);
        sqe->user_data = first + i;
    }
}

static void what_is_submitted_is_reaped(void **state)
{
    /* Goal: each submission comes back once with its name. Method: several full rounds. */
    struct completion done[8];

    (void)state;
    start(8, 16);
    for (uint64_t round = 0; round < 100; round++) {
        fill(round * 8, 8);
        assert_int_equal(ring_enter(&ring, 8), 0);
        assert_int_equal(ring_reap(&ring, done, 8), 8);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(done[i].user_data, round * 8 + i);
            assert_int_equal(done[i].result, 0);
            assert_int_equal(done[i].flags, 0);
        }
        assert_int_equal(ring_reap(&ring, done, 8), 0);
    }
    ring_fini(&ring);
}

static void room_and_unsubmitted_add_up(void **state)
{
    /* Goal: both counts at each step; NULL when all are filled. */
    struct completion done[4];

    (void)state;
    start(4, 8);
    for (uint32_t i = 0; i <= 4; i++) {
        assert_int_equal(ring_unsubmitted(&ring), i);
        assert_int_equal(ring_room(&ring), 4 - i);
        if (i < 4)
            fill(i, 1);
    }
    assert_null(ring_submission(&ring));
    assert_int_equal(ring_enter(&ring, 0), 0);
    assert_int_equal(ring_unsubmitted(&ring), 0);
    assert_int_equal(ring_room(&ring), 4);
    assert_int_equal(ring_enter(&ring, 4), 0);
    assert_int_equal(ring_reap(&ring, done, 4), 4);
    ring_fini(&ring);
}

static void a_gathering_wait_ends_with_one(void **state)
{
    /* Goal: a wait for many ends with one once the shortest wait is over, and one that comes after
     * it ends at once. Method: timeouts before and after that time, and far too many wanted. */
    struct __kernel_timespec delays[] = {{.tv_nsec = 1000000}, {.tv_nsec = 40000000}};
    struct completion done[2];

    (void)state;
    start(8, 16);
    ring.min_wait_us = 10000;
    for (uint32_t i = 0; i < 2; i++) {
        struct io_uring_sqe *sqe = ring_submission(&ring);
        io_uring_prep_timeout(sqe, &delays[i], 0, 0);
        sqe->user_data = i;
    }
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t count = 0;
        while (count == 0) { /* An enter may end without a completion. */
            assert_int_equal(ring_enter(&ring, 8), 0);
            count = ring_reap(&ring, done, 2);
        }
        assert_int_equal(count, 1);
        assert_int_equal(done[0].user_data, i);
    }
    ring_fini(&ring);
}

static void reaping_takes_no_more_than_asked(void **state)
{
    /* Goal: the rest stays for the next reap, in order. */
    struct completion done[8];

    (void)state;
    start(8, 8);
    fill(0, 7);
    assert_int_equal(ring_enter(&ring, 7), 0);
    assert_int_equal(ring_reap(&ring, done, 3), 3);
    assert_int_equal(ring_reap(&ring, done + 3, 3), 3);
    assert_int_equal(ring_reap(&ring, done + 6, 3), 1);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(done[i].user_data, i);
    ring_fini(&ring);
}

static void an_overflow_is_flagged_and_nothing_is_lost(void **state)
{
    /* Goal: a small completion ring costs time, not completions. Method: room for four, 40 sent
     * before the first reap; the flag is up, and all 40 come, each once. */
    enum { COUNT = 40 };
    struct completion done[4];
    uint32_t seen[COUNT] = {0};
    uint32_t total = 0;

    (void)state;
    start(4, 4);
    assert_false(ring_has_overflow(&ring));
    for (uint64_t sent = 0; sent < COUNT; sent += 4) {
        fill(sent, 4);
        int result = ring_enter(&ring, 0);
        assert_true(result == 0 || result == -EBUSY);
        assert_int_equal(ring_unsubmitted(&ring), 0);
    }
    assert_true(ring_has_overflow(&ring));
    for (uint32_t tries = 0; total < COUNT && tries < 1000; tries++) {
        uint32_t count = ring_reap(&ring, done, 4);
        for (uint32_t i = 0; i < count; i++)
            seen[done[i].user_data]++;
        total += count;
        int result = ring_enter(&ring, 0);
        assert_true(result == 0 || result == -EBUSY);
    }
    assert_int_equal(total, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_false(ring_has_overflow(&ring));
    ring_fini(&ring);
}

static void waiting_ends_with_the_completion(void **state)
{
    /* Goal: an enter that waits sleeps until then. Method: a timeout of 5 ms as the only thing. */
    struct __kernel_timespec delay = {.tv_nsec = 5000000};
    struct completion done;
    uint64_t begin_ns = clock_now_ns();

    (void)state;
    start(4, 8);
    struct io_uring_sqe *sqe = ring_submission(&ring);
    assert_non_null(sqe);
    io_uring_prep_timeout(sqe, &delay, 0, 0);
    sqe->user_data = 9;
    assert_int_equal(ring_enter(&ring, 1), 0);
    assert_int_equal(ring_reap(&ring, &done, 1), 1);
    assert_true(clock_now_ns() - begin_ns >= 5 * NS_PER_MS);
    assert_int_equal(done.user_data, 9);
    assert_int_equal(done.result, -ETIME);
    ring_fini(&ring);
}

static void a_rest_lasts_or_ends_with_a_crowd(void **state)
{
    /* Goal: single completions do not end a rest, and are there after it; many end it. */
    struct completion done[RING_REST_COUNT];
    uint64_t begin_ns = clock_now_ns();

    (void)state;
    start(RING_REST_COUNT, 2 * RING_REST_COUNT);
    fill(0, 3);
    while (clock_now_ns() - begin_ns < 20 * NS_PER_MS) {
        uint64_t from_ns = clock_now_ns();
        int result = ring_rest(&ring, 20 * NS_PER_MS);
        assert_true(result == -EINTR || clock_now_ns() - from_ns >= 20 * NS_PER_MS);
    }
    assert_int_equal(ring_reap(&ring, done, RING_REST_COUNT), 3);
    fill(3, RING_REST_COUNT);
    begin_ns = clock_now_ns();
    while (ring_rest(&ring, 900 * NS_PER_MS) == -EINTR)
        ;
    assert_true(clock_now_ns() - begin_ns < 900 * NS_PER_MS);
    assert_int_equal(ring_reap(&ring, done, RING_REST_COUNT), RING_REST_COUNT);
    ring_fini(&ring);
}

static int no_register(int fd, unsigned opcode, const void *arg, unsigned count)
{
    (void)fd;
    (void)arg;
    (void)count;
    THREAD_CHECK(opcode == IORING_REGISTER_ENABLE_RINGS);
    return -EACCES;
}

static void an_enable_that_fails_says_why(void **state)
{
    /* Goal: the error, and a text with the remedy; the ring stays disabled. */
    struct ring_options options = {.submissions = 4, .completions = 8};

    (void)state;
    assert_int_equal(ring_init(&ring, &options), 0);
    sys.ring_register = no_register;
    assert_int_equal(ring_enable(&ring), -EPERM);
    assert_non_null(strstr(rondo_error_text(), "io_uring_disabled"));
    assert_true(ring.disabled);
    sys.ring_register = sys_real.ring_register;
    assert_int_equal(ring_enable(&ring), 0);
    assert_false(ring.disabled);
    ring_fini(&ring);
}

static void the_ladder_ends_with_a_remedy(void **state)
{
    /* Goal: a kernel that refuses every set-up is named as too old. Method: what no kernel accepts,
     * a ring of no submissions; each feature was dropped on the way. */
    struct ring_options options = {.submissions = 0, .completions = 8};
    uint32_t all = RING_DEFER_TASKRUN | RING_SINGLE_ISSUER | RING_COOP_TASKRUN | RING_SUBMIT_ALL;

    (void)state;
    assert_int_equal(ring_init(&ring, &options), -ENOSYS);
    assert_int_equal(ring.features_dropped & all, all);
    assert_non_null(strstr(rondo_error_text(), "Linux 6.1"));
}

static void a_feature_is_in_use_or_dropped(void **state)
{
    /* Goal: the statistics tell the truth: never both, never neither. */
    uint32_t all = RING_DEFER_TASKRUN | RING_SINGLE_ISSUER | RING_COOP_TASKRUN | RING_SUBMIT_ALL |
                   RING_NO_IOWAIT;

    (void)state;
    start(4, 8);
    assert_int_equal(ring.features & ring.features_dropped, 0);
    assert_int_equal(ring.features | ring.features_dropped, all);
    ring_fini(&ring);
}

static void *end_ring(void *arg)
{
    ring_fini(arg);
    return NULL;
}

static void *enable_and_leave(void *arg)
{
    THREAD_CHECK(ring_enable(arg) == 0);
    return NULL;
}

static void a_ring_ended_by_another_thread_leaves_its_rings_alone(void **state)
{
    /* Goal: the controller ends a lane's ring while it owns one itself. Method: a ring enabled in
     * a thread that ended, another enabled here; after the first one's end the second works. */
    static struct ring other;
    struct ring_options options = {.submissions = 4, .completions = 8};
    struct completion done;

    (void)state;
    assert_int_equal(ring_init(&other, &options), 0);
    thread_run(enable_and_leave, &other);
    start(4, 8);
    ring_fini(&other);
    fill(1, 1);
    assert_int_equal(ring_enter(&ring, 1), 0);
    assert_int_equal(ring_reap(&ring, &done, 1), 1);
    thread_run(end_ring, &ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_submitted_is_reaped),
        cmocka_unit_test(room_and_unsubmitted_add_up),
        cmocka_unit_test(a_gathering_wait_ends_with_one),
        cmocka_unit_test(reaping_takes_no_more_than_asked),
        cmocka_unit_test(an_overflow_is_flagged_and_nothing_is_lost),
        cmocka_unit_test(waiting_ends_with_the_completion),
        cmocka_unit_test(a_rest_lasts_or_ends_with_a_crowd),
        cmocka_unit_test_teardown(an_enable_that_fails_says_why, sys_restore),
        cmocka_unit_test(the_ladder_ends_with_a_remedy),
        cmocka_unit_test(a_feature_is_in_use_or_dropped),
        cmocka_unit_test(a_ring_ended_by_another_thread_leaves_its_rings_alone),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
