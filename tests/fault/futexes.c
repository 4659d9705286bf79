/* Goal: a futex wait ends once, woken, at its deadline, by a cancel or with the loop, and leaves no
 * sleeper behind.
 * Method: words that other threads change and wake, one at a time and in a storm. Built twice: the
 * second program takes the way around for kernels that cannot wait in the ring. */
#include "support.h"

#ifdef WITHOUT_RING
#include "probe.h"
#endif

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static rondo_loop *loop;
static _Atomic uint32_t word;

static int wake_one(_Atomic uint32_t *address, bool shared)
{
    return (int)syscall(SYS_futex, address, FUTEX_WAKE | (shared ? 0 : FUTEX_PRIVATE_FLAG), 1, NULL,
                        NULL, 0);
}

static void wait_for(_Atomic uint32_t *address, uint32_t expected, uint32_t flags,
                     struct outcome *end, uint64_t deadline_ns)
{
    memset(end, 0, sizeof(*end));
    CHECK_EQUAL(
        rondo_futex_wait(loop, (const uint32_t *)address, expected, flags,
                         &RONDO_REQUEST(.done = outcome_note, .ctx = end,
                                        .deadline_ns = deadline_ns, .ret_handle = &end->handle)),
        0);
}

static void wait_done(struct outcome *end, int64_t value)
{
    WAIT_UNTIL(atomic_load(&end->count) > 0, 5000);
    CHECK_EQUAL(end->result.value, value);
    CHECK_EQUAL(atomic_load(&end->count), 1);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void bad_arguments(void **state)
{
    struct outcome end = {0};
    struct rondo_request request = RONDO_REQUEST(.done = outcome_note, .ctx = &end);
    const uint32_t *good = (const uint32_t *)&word;
    void *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    CHECK(hole != MAP_FAILED);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_futex_wait(NULL, good, 0, 0, &request), -EINVAL);
    CHECK_EQUAL(rondo_futex_wait(loop, NULL, 0, 0, &request), -EINVAL);
    CHECK_EQUAL(rondo_futex_wait(loop, (const void *)((const char *)good + 1), 0, 0, &request),
                -EINVAL);
    CHECK_EQUAL(rondo_futex_wait(loop, good, 0, 2, &request), -EINVAL);
    CHECK_EQUAL(rondo_futex_wait(loop, good, 0, 0, NULL), -EINVAL);
    CHECK_EQUAL(atomic_load(&end.count), 0);
    wait_for(hole, 0, 0, &end, 0);
    wait_done(&end, -EFAULT);
    end_loop();
    CHECK_EQUAL(munmap(hole, 4096), 0);
}

static void ends_of_a_wait(void **state)
{
    struct outcome end;
    struct outcome left;

    (void)state;
    atomic_store(&word, 5);
    loop = loop_begin(NULL);
    wait_for(&word, 4, 0, &end, 0);
    wait_done(&end, -EAGAIN);
    wait_for(&word, 5, 0, &end, 1);
    wait_done(&end, -ETIMEDOUT);
    wait_for(&word, 5, 0, &end, rondo_now_ns() + 5 * MS);
    wait_done(&end, -ETIMEDOUT);
    wait_for(&word, 5, 0, &end, UINT64_MAX);
    CHECK(rondo_cancel(end.handle) != RONDO_CANCEL_FINISHED);
    wait_done(&end, -ECANCELED);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_FINISHED);
    /* In flight for sure: the kernel counts it among the sleepers. */
    wait_for(&word, 5, 0, &end, 0);
    WAIT_UNTIL(wake_one(&word, false) == 1, 5000);
    wait_done(&end, 0);
    /* None of the ended waits is left asleep. */
    test_pass_time(2);
    CHECK_EQUAL(wake_one(&word, false), 0);
    wait_for(&word, 5, 0, &left, 0);
    CHECK_EQUAL(rondo_loop_drain(loop, 60000 * MS), 0);
    test_pass_time(2);
    CHECK_EQUAL(atomic_load(&left.count), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    wait_done(&left, -ECANCELED);
    CHECK_EQUAL(rondo_futex_wait(loop, (const uint32_t *)&word, 5, 0,
                                 &RONDO_REQUEST(.done = outcome_note, .ctx = &end)),
                -ESHUTDOWN);
    rondo_loop_free(loop);
    CHECK_EQUAL(wake_one(&word, false), 0);
}

static void cancel_before_start(void **state)
{
    struct outcome end;

    (void)state;
    atomic_store(&word, 5);
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    wait_for(&word, 5, 0, &end, 0);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    wait_done(&end, -ECANCELED);
    end_loop();
}

/* A child, which does not touch the loop, wakes the parent's wait. */
static void across_processes(void **state)
{
    _Atomic uint32_t *shared =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct outcome end;
    int status;
    pid_t child;

    (void)state;
    CHECK(shared != MAP_FAILED);
    loop = loop_begin(NULL);
    wait_for(shared, 0, RONDO_FUTEX_SHARED, &end, 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        atomic_store(shared, 1);
        (void)wake_one(shared, true);
        _exit(0);
    }
    /* Woken, or it began after the change. */
    WAIT_UNTIL(atomic_load(&end.count) == 1, 5000);
    CHECK(end.result.value == 0 || end.result.value == -EAGAIN);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    end_loop();
    CHECK_EQUAL(munmap(shared, 4096), 0);
}

/* ---- a storm ---- */

enum { WORD_COUNT = 16 };

static _Atomic uint32_t words[WORD_COUNT];
static _Atomic bool storming;

static void *change_words(void *arg)
{
    uint64_t seed = 7;

    (void)arg;
    while (atomic_load(&storming)) {
        _Atomic uint32_t *one = &words[random_below(&seed, WORD_COUNT)];
        atomic_fetch_add(one, 1);
        (void)wake_one(one, false);
    }
    return NULL;
}

static void storm(void **state)
{
    uint64_t seed = test_begin("futexes");
    uint64_t rounds = test_scaled(2000);
    uint64_t ended[4] = {0};
    pthread_t changer;

    (void)state;
    loop = loop_begin(NULL);
    atomic_store(&storming, true);
    CHECK_EQUAL(pthread_create(&changer, NULL, change_words, NULL), 0);
    for (uint64_t i = 0; i < rounds; i++) {
        struct outcome ends[WORD_COUNT];
        for (int j = 0; j < WORD_COUNT; j++)
            wait_for(&words[j], atomic_load(&words[j]), 0, &ends[j],
                     random_below(&seed, 4) ? 0 : rondo_now_ns() + 50000);
        for (int j = 0; j < WORD_COUNT; j++)
            if (random_below(&seed, 2))
                (void)rondo_cancel(ends[j].handle);
        for (int j = 0; j < WORD_COUNT; j++) {
            WAIT_UNTIL(atomic_load(&ends[j].count) == 1, 5000);
            int64_t value = ends[j].result.value;
            ended[value == 0 ? 0 : value == -EAGAIN ? 1 : value == -ECANCELED ? 2 : 3]++;
            CHECK(value == 0 || value == -EAGAIN || value == -ECANCELED || value == -ETIMEDOUT);
        }
    }
    atomic_store(&storming, false);
    CHECK_EQUAL(pthread_join(changer, NULL), 0);
    printf("woken %lu, too late %lu, cancelled %lu, timed out %lu\n", (unsigned long)ended[0],
           (unsigned long)ended[1], (unsigned long)ended[2], (unsigned long)ended[3]);
    CHECK(ended[2] > 0);
    end_loop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(ends_of_a_wait),
        cmocka_unit_test(cancel_before_start),
        cmocka_unit_test(across_processes),
        cmocka_unit_test(storm),
    };

    (void)test_begin("futexes");
#ifdef WITHOUT_RING
    probe_force_absent(PROBE_FUTEX_WAIT, true);
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
