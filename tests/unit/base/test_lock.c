/* The lock: one holder at a time, sleepers are woken, and no system call without contention. */
#include "support.h"

#include "lock.h"

enum { CONTENDERS = 4 };

static struct counter waits;
static _Atomic uint32_t wakes;

static int count_wait(const void *word, uint32_t expected, uint32_t mask, uint64_t timeout_ns)
{
    counter_add(&waits, 1);
    return sys_real.futex_wait(word, expected, mask, timeout_ns);
}

static int count_wake(const void *word, uint32_t count, uint32_t mask)
{
    (void)add_relaxed(&wakes, 1); /* Relaxed: read after a join. */
    return sys_real.futex_wake(word, count, mask);
}

static int calls_counted(void **state)
{
    (void)state;
    store_relaxed(&waits.value, 0);
    store_relaxed(&wakes, 0);
    sys.futex_wait = count_wait;
    sys.futex_wake = count_wake;
    return 0;
}

struct shared {
    struct lock lock;
    uint32_t rounds;
    uint64_t sum; /* under the lock, and not atomic */
};

static void *add_under_lock(void *arg)
{
    struct shared *shared = arg;

    for (uint32_t i = 0; i < shared->rounds; i++) {
        lock_acquire(&shared->lock);
        shared->sum++;
        lock_release(&shared->lock);
    }
    return NULL;
}

static void one_holder_at_a_time(void **state)
{
    /* Goal: mutual exclusion. Method: four threads add to a plain number. */
    struct shared shared = {.rounds = test_count(250000)};
    pthread_t threads[CONTENDERS];

    (void)state;
    for (uint32_t i = 0; i < CONTENDERS; i++)
        threads[i] = thread_start(add_under_lock, &shared);
    for (uint32_t i = 0; i < CONTENDERS; i++)
        thread_join(threads[i]);
    assert_int_equal(shared.sum, (uint64_t)CONTENDERS * shared.rounds);
    assert_int_equal(load_relaxed(&shared.lock.word), LOCK_FREE);
}

static void without_contention_no_system_call(void **state)
{
    /* Goal: the free path stays in user space. Method: count both calls of the table. */
    struct lock lock = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        lock_acquire(&lock);
        lock_release(&lock);
    }
    assert_int_equal(counter_read(&waits), 0);
    assert_int_equal(load_relaxed(&wakes), 0);
}

static void trying_a_held_lock_fails_and_changes_nothing(void **state)
{
    /* Goal: try never waits, and does not mark a waiter that is none. */
    struct lock lock = {0};

    (void)state;
    assert_true(lock_try_acquire(&lock));
    assert_false(lock_try_acquire(&lock));
    assert_int_equal(load_relaxed(&lock.word), LOCK_HELD);
    lock_release(&lock);
    assert_true(lock_try_acquire(&lock));
    lock_release(&lock);
}

static void a_sleeping_waiter_is_woken(void **state)
{
    /* Goal: no lost wake-up. Method: hold the lock until the other thread is about to sleep, then
     * let go; it must get through, by one wake for its sleep or by not falling asleep. */
    struct shared shared = {.rounds = 1};

    (void)state;
    lock_acquire(&shared.lock);
    pthread_t thread = thread_start(add_under_lock, &shared);
    counter_wait(&waits, 1);
    assert_int_equal(load_relaxed(&shared.lock.word), LOCK_CONTENDED);
    lock_release(&shared.lock);
    thread_join(thread);
    assert_int_equal(shared.sum, 1);
    assert_true(load_relaxed(&wakes) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holder_at_a_time),
        cmocka_unit_test_setup_teardown(without_contention_no_system_call, calls_counted,
                                        sys_restore),
        cmocka_unit_test(trying_a_held_lock_fails_and_changes_nothing),
        cmocka_unit_test_setup_teardown(a_sleeping_waiter_is_woken, calls_counted, sys_restore),
    };

    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
