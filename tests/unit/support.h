/* What the unit tests share: counts that scale, a way to wait that always ends, threads, a
 * generator with a known seed, and the real table of system calls to go back to.
 *
 * cmocka's assertions leave a test with a long jump, so they belong to the thread that runs the
 * test; THREAD_CHECK() is for all the others. Nothing here sleeps to wait for an event: a counter
 * is a futex, and WAIT_UNTIL() is for states that nobody announces.
 */
#ifndef RONDO_TESTS_UNIT_SUPPORT_H
#define RONDO_TESTS_UNIT_SUPPORT_H

#include "atomics.h"
#include "check.h"
#include "clock.h"
#include "sys.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A sanitizer that follows every access costs about this factor. */
#if defined(__SANITIZE_THREAD__)
#define TEST_SLOWDOWN 10
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_SLOWDOWN 10
#endif
#endif
#ifndef TEST_SLOWDOWN
#define TEST_SLOWDOWN 1
#endif

/* The longest wait for something that must come. */
#define TEST_PATIENCE_NS (20 * NS_PER_SECOND)

/* The table as the library made it; a test that replaced entries of `sys` has sys_restore() as its
 * teardown. Entries are replaced while the test is the only thread. */
static struct sys sys_real;

__attribute__((constructor)) static void sys_keep(void)
{
    sys_real = sys;
}

static inline int sys_restore(void **state)
{
    (void)state;
    sys = sys_real;
    return 0;
}

/* The seed of the running test, for whoever reports a failure. */
static uint64_t test_seed;

/* ---- failing on a thread that is not the test's ---- */

static inline _Noreturn void test_stop(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: failed: %s (seed %" PRIu64 ")\n", file, line, what, test_seed);
    abort();
}

#define THREAD_CHECK(condition)                        \
    do {                                               \
        if (unlikely(!(condition)))                    \
            test_stop(#condition, __FILE__, __LINE__); \
    } while (0)

/* ---- counts ---- */

/* @count, times RONDO_TEST_SCALE, less where a sanitizer slows everything down. */
static inline uint32_t test_count(uint32_t count)
{
    const char *text = getenv("RONDO_TEST_SCALE");
    unsigned long scale = text ? strtoul(text, NULL, 10) : 1;

    THREAD_CHECK(scale >= 1);
    THREAD_CHECK(scale <= 1000);
    return (uint32_t)(count * scale / TEST_SLOWDOWN);
}

static inline void *test_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    THREAD_CHECK(memory);
    return memory;
}

/* ---- waiting ---- */

/* A number that grows, and that threads can wait for. */
struct counter {
    _Atomic uint32_t value;
};

static inline uint32_t counter_read(struct counter *counter)
{
    return load_acquire(&counter->value); /* Pairs with counter_add(). */
}

static inline void counter_add(struct counter *counter, uint32_t number)
{
    (void)add_acq_rel(&counter->value, number); /* Pairs with counter_read(). */
    (void)sys_real.futex_wake(&counter->value, INT32_MAX, UINT32_MAX);
}

/* False: @timeout_ns passed first. */
static inline bool counter_wait_for(struct counter *counter, uint32_t least, uint64_t timeout_ns)
{
    uint64_t until_ns = clock_add_ns(sys_real.clock_now_ns(), timeout_ns);

    for (;;) {
        uint32_t value = counter_read(counter);
        uint64_t now_ns = sys_real.clock_now_ns();
        if (value >= least)
            return true;
        if (now_ns >= until_ns)
            return false;
        (void)sys_real.futex_wait(&counter->value, value, UINT32_MAX, until_ns - now_ns);
    }
}

static inline void counter_wait_at(struct counter *counter, uint32_t least, const char *file,
                                   int line)
{
    if (!counter_wait_for(counter, least, TEST_PATIENCE_NS)) {
        fprintf(stderr, "counted %u of %u\n", counter_read(counter), least);
        test_stop("the count was never reached", file, line);
    }
}

/* Wait until the counter is @least or more; the process ends if that never comes. */
#define counter_wait(counter, least) counter_wait_at((counter), (least), __FILE__, __LINE__)

/* Let @period_ns pass: between two looks, or where the test is that nothing happens. */
static inline void test_pause(uint64_t period_ns)
{
    static const uint32_t never_woken;

    (void)sys_real.futex_wait(&never_woken, 0, UINT32_MAX, sys_real.clock_now_ns() + period_ns);
}

/* For a state that nobody announces: look, again and again, but not for ever. */
#define WAIT_UNTIL(condition)                                                         \
    do {                                                                              \
        uint64_t until_ns_ = clock_add_ns(sys_real.clock_now_ns(), TEST_PATIENCE_NS); \
        while (!(condition)) {                                                        \
            if (sys_real.clock_now_ns() > until_ns_)                                  \
                test_stop("never came: " #condition, __FILE__, __LINE__);             \
            test_pause(100 * NS_PER_US);                                              \
        }                                                                             \
    } while (0)

/* ---- threads ---- */

static inline pthread_t thread_start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, body, arg);

    THREAD_CHECK(error == 0);
    return thread;
}

static inline void thread_join(pthread_t thread)
{
    int error = pthread_join(thread, NULL);

    THREAD_CHECK(error == 0);
}

/* Run @body in a thread of its own, to its end. */
static inline void thread_run(void *(*body)(void *), void *arg)
{
    thread_join(thread_start(body, arg));
}

/* All of @count threads leave together, as often as they come. */
struct barrier {
    uint32_t count;
    _Atomic uint32_t arrived;
    _Atomic uint32_t round;
};

static inline void barrier_meet(struct barrier *barrier)
{
    uint32_t round = load_acquire(&barrier->round); /* Pairs with the add below. */

    if (add_acq_rel(&barrier->arrived, 1) + 1 == barrier->count) {
        store_relaxed(&barrier->arrived, 0);   /* Relaxed: the round publishes it. */
        (void)add_acq_rel(&barrier->round, 1); /* Pairs with the loads of the round. */
        (void)sys_real.futex_wake(&barrier->round, INT32_MAX, UINT32_MAX);
        return;
    }
    for (int i = 0; i < 1000; i++) {
        if (load_acquire(&barrier->round) != round) /* Pairs with the add above. */
            return;
        cpu_relax();
    }
    while (load_acquire(&barrier->round) == round) /* Pairs with the add above. */
        (void)sys_real.futex_wait(&barrier->round, round, UINT32_MAX, DEADLINE_NEVER);
}

/* ---- numbers that look random and are the same each time ---- */

struct prng {
    uint64_t state;
};

/* The seed is @seed unless RONDO_TEST_SEED names another; it is in the log of a failed test. */
static inline struct prng prng_start(uint64_t seed)
{
    const char *text = getenv("RONDO_TEST_SEED");

    test_seed = text ? strtoull(text, NULL, 10) : seed;
    print_message("seed %" PRIu64 "\n", test_seed);
    return (struct prng){test_seed};
}

/* One stream of numbers for each thread of a test. */
static inline struct prng prng_of_thread(uint32_t index)
{
    return (struct prng){test_seed + UINT64_C(0x51ed2701) * (index + 1)};
}

static inline uint64_t prng_next(struct prng *prng)
{
    uint64_t z = prng->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint32_t prng_below(struct prng *prng, uint32_t bound)
{
    return (uint32_t)(prng_next(prng) >> 32) % bound;
}

#endif
