/* Goal: a wake that was rung is called, whoever rings it and whenever, and never after its end.
 * Method: rings from a real signal handler at 1 kHz, from four threads at once, and against closes;
 * each ringer writes a number first, which the callback must come to see. */
#include "support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static rondo_loop *loop;
static rondo_wake *wake;
static _Atomic uint64_t rung_count;
static _Atomic int closed_count;
static _Atomic int closed_error;

static void note_rung(rondo_wake *self, void *ctx)
{
    (void)ctx;
    CHECK(self);
    CHECK_EQUAL(atomic_load(&closed_count), 0);
    atomic_fetch_add(&rung_count, 1);
}

static void note_closed(rondo_wake *self, int error, void *ctx)
{
    (void)self;
    (void)ctx;
    atomic_store(&closed_error, error);
    atomic_fetch_add(&closed_count, 1);
}

static const struct rondo_wake_handlers handlers = {sizeof(handlers), note_rung, note_closed};

static void begin(void)
{
    atomic_store(&rung_count, 0);
    atomic_store(&closed_count, 0);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_wake_create(loop, &handlers, NULL, &wake), 0);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(atomic_load(&closed_count), 1);
    rondo_loop_free(loop);
}

static void bad_arguments(void **state)
{
    struct rondo_wake_handlers broken = handlers;

    (void)state;
    begin();
    CHECK_EQUAL(rondo_wake_create(NULL, &handlers, NULL, &wake), -EINVAL);
    CHECK_EQUAL(rondo_wake_create(loop, NULL, NULL, &wake), -EINVAL);
    CHECK_EQUAL(rondo_wake_create(loop, &handlers, NULL, NULL), -EINVAL);
    broken.rung = NULL;
    CHECK_EQUAL(rondo_wake_create(loop, &broken, NULL, &wake), -EINVAL);
    broken = handlers;
    broken.size--;
    CHECK_EQUAL(rondo_wake_create(loop, &broken, NULL, &wake), -EINVAL);
    CHECK_EQUAL(rondo_wake_ring(NULL), -EINVAL);
    CHECK_EQUAL(rondo_wake_close(NULL), -EINVAL);
    CHECK(!rondo_wake_strand(NULL));
    CHECK(rondo_wake_strand(wake));
    end_loop();
}

/* ---- from a signal handler ---- */

static void ring_in_handler(int number)
{
    int before = errno;

    (void)number;
    if (rondo_wake_ring(wake) != 0 || errno != before)
        abort();
}

static void from_a_signal_handler(void **state)
{
    struct sigaction action = {.sa_handler = ring_in_handler, .sa_flags = SA_RESTART};
    struct sigaction old;
    struct itimerval period = {{0, 1000}, {0, 1000}};
    struct itimerval off = {{0, 0}, {0, 0}};
    uint64_t target = TEST_SANITIZED ? 50 : 300;

    (void)state;
    begin();
    CHECK_EQUAL(sigaction(SIGALRM, &action, &old), 0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &period, NULL), 0);
    WAIT_UNTIL(atomic_load(&rung_count) >= target, 5000);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &off, NULL), 0);
    CHECK_EQUAL(sigaction(SIGALRM, &old, NULL), 0);
    end_loop();
}

/* ---- from threads ---- */

enum { RINGER_COUNT = 4 };

static struct ringer {
    pthread_t thread;
    uint64_t written; /* plain: the ring publishes it */
    _Atomic uint64_t seen;
} ringers[RINGER_COUNT];

static uint64_t rings_each;

static void see_all(rondo_wake *self, void *ctx)
{
    (void)self;
    (void)ctx;
    for (int i = 0; i < RINGER_COUNT; i++)
        atomic_store(&ringers[i].seen, __atomic_load_n(&ringers[i].written, __ATOMIC_RELAXED));
    atomic_fetch_add(&rung_count, 1);
}

static void *ring_often(void *arg)
{
    struct ringer *self = arg;

    for (uint64_t i = 1; i <= rings_each; i++) {
        __atomic_store_n(&self->written, i, __ATOMIC_RELAXED);
        CHECK_EQUAL(rondo_wake_ring(wake), 0);
        /* Every so often it must have been called for this one. */
        if (i % 256 == 0)
            WAIT_UNTIL(atomic_load(&self->seen) >= i, 5000);
    }
    WAIT_UNTIL(atomic_load(&self->seen) >= rings_each, 5000);
    return NULL;
}

static void from_four_threads(void **state)
{
    static const struct rondo_wake_handlers seeing = {sizeof(seeing), see_all, note_closed};

    (void)state;
    atomic_store(&rung_count, 0);
    atomic_store(&closed_count, 0);
    rings_each = test_scaled(50000);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_wake_create(loop, &seeing, NULL, &wake), 0);
    for (int i = 0; i < RINGER_COUNT; i++)
        CHECK_EQUAL(pthread_create(&ringers[i].thread, NULL, ring_often, &ringers[i]), 0);
    for (int i = 0; i < RINGER_COUNT; i++)
        CHECK_EQUAL(pthread_join(ringers[i].thread, NULL), 0);
    printf("%lu rings, %lu calls\n", (unsigned long)(RINGER_COUNT * rings_each),
           (unsigned long)atomic_load(&rung_count));
    CHECK(atomic_load(&rung_count) <= RINGER_COUNT * rings_each);
    end_loop();
}

static uint64_t plain; /* written before the ring, read in the callback, without any atomics */

static void read_plain(rondo_wake *self, void *ctx)
{
    (void)self;
    (void)ctx;
    atomic_store(&rung_count, plain);
}

static void publishes_what_was_written(void **state)
{
    static const struct rondo_wake_handlers reading = {sizeof(reading), read_plain, note_closed};

    (void)state;
    atomic_store(&rung_count, 0);
    atomic_store(&closed_count, 0);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_wake_create(loop, &reading, NULL, &wake), 0);
    for (uint64_t i = 1; i <= 500; i++) {
        plain = i;
        CHECK_EQUAL(rondo_wake_ring(wake), 0);
        WAIT_UNTIL(atomic_load(&rung_count) == i, 5000);
    }
    end_loop();
}

/* ---- ends ---- */

static void close_inside(rondo_wake *self, void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&rung_count, 1);
    CHECK_EQUAL(rondo_wake_close(self), 0);
    CHECK_EQUAL(rondo_wake_close(self), -EALREADY);
    CHECK_EQUAL(rondo_wake_ring(self), 0);
}

static void closed_in_its_callback(void **state)
{
    static const struct rondo_wake_handlers closing = {sizeof(closing), close_inside, note_closed};

    (void)state;
    atomic_store(&rung_count, 0);
    atomic_store(&closed_count, 0);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_wake_create(loop, &closing, NULL, &wake), 0);
    CHECK_EQUAL(rondo_wake_ring(wake), 0);
    WAIT_UNTIL(atomic_load(&closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&rung_count), 1);
    CHECK_EQUAL(atomic_load(&closed_error), 0);
    end_loop();
}

static _Atomic bool racing;

static void *ring_until_closed(void *arg)
{
    (void)arg;
    while (atomic_load(&racing))
        CHECK_EQUAL(rondo_wake_ring(wake), 0);
    return NULL;
}

/* The closed callback ends the ringer's right to ring, so it waits for it. */
static void stop_ringer(rondo_wake *self, int error, void *ctx)
{
    pthread_t *ringer = ctx;

    (void)self;
    CHECK_EQUAL(error, 0);
    atomic_store(&racing, false);
    CHECK_EQUAL(pthread_join(*ringer, NULL), 0);
    atomic_fetch_add(&closed_count, 1);
}

static void rung_against_close(void **state)
{
    static const struct rondo_wake_handlers racers = {sizeof(racers), note_rung, stop_ringer};
    uint64_t rounds = test_scaled(300);
    uint32_t descriptors;

    (void)state;
    loop = loop_begin(NULL);
    descriptors = count_descriptors();
    for (uint64_t i = 0; i < rounds; i++) {
        pthread_t ringer;
        atomic_store(&closed_count, 0);
        CHECK_EQUAL(rondo_wake_create(loop, &racers, &ringer, &wake), 0);
        atomic_store(&racing, true);
        CHECK_EQUAL(pthread_create(&ringer, NULL, ring_until_closed, NULL), 0);
        CHECK_EQUAL(rondo_wake_close(wake), 0);
        WAIT_UNTIL(atomic_load(&closed_count) == 1, 5000);
    }
    WAIT_UNTIL(count_descriptors() == descriptors, 5000);
    end_loop();
}

static void loop_stopped_under_it(void **state)
{
    (void)state;
    begin();
    CHECK_EQUAL(rondo_wake_ring(wake), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(atomic_load(&closed_count), 1);
    CHECK_EQUAL(rondo_wake_create(loop, &handlers, NULL, &wake), -ESHUTDOWN);
    rondo_loop_free(loop);
}

/* All kinds of events answer the same in the child of a fork. */
static void in_the_child(void *ctx)
{
    static const int numbers[] = {SIGUSR1};
    struct rondo_signal_handlers signals = {.size = sizeof(signals)};
    struct rondo_watch_handlers watches = {.size = sizeof(watches)};
    struct rondo_poller_handlers pollers = {.size = sizeof(pollers)};
    struct rondo_process_handlers processes = {.size = sizeof(processes)};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    const uint32_t *word = ctx;
    rondo_process *process;
    rondo_poller *poller;
    rondo_signal *signal;
    rondo_watch *watch;

    CHECK_EQUAL(rondo_wake_ring(wake), -ECHILD);
    CHECK_EQUAL(rondo_wake_create(loop, &handlers, NULL, &wake), -ECHILD);
    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, &signals, NULL, &signal), -ECHILD);
    CHECK_EQUAL(rondo_signal_wait(loop, numbers, 1, NULL, NULL), -ECHILD);
    CHECK_EQUAL(rondo_watch_create(loop, &watches, NULL, &watch), -ECHILD);
    CHECK_EQUAL(rondo_poll(loop, 0, POLLIN, NULL), -ECHILD);
    CHECK_EQUAL(rondo_poller_create(loop, 0, POLLIN, &pollers, NULL, &poller), -ECHILD);
    CHECK_EQUAL(rondo_futex_wait(loop, word, 0, 0, NULL), -ECHILD);
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &processes, NULL, &process), -ECHILD);
}

static void fork_child(void **state)
{
    uint32_t word = 0;

    (void)state;
    begin();
    run_in_child(in_the_child, &word);
    CHECK_EQUAL(rondo_wake_ring(wake), 0);
    WAIT_UNTIL(atomic_load(&rung_count) == 1, 5000);
    end_loop();
}

static void before_the_loop_runs(void **state)
{
    (void)state;
    atomic_store(&rung_count, 0);
    atomic_store(&closed_count, 0);
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    CHECK_EQUAL(rondo_wake_create(loop, &handlers, NULL, &wake), 0);
    CHECK_EQUAL(rondo_wake_ring(wake), 0);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    WAIT_UNTIL(atomic_load(&rung_count) == 1, 5000);
    end_loop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(from_a_signal_handler),
        cmocka_unit_test(from_four_threads),
        cmocka_unit_test(publishes_what_was_written),
        cmocka_unit_test(closed_in_its_callback),
        cmocka_unit_test(rung_against_close),
        cmocka_unit_test(loop_stopped_under_it),
        cmocka_unit_test(before_the_loop_runs),
        cmocka_unit_test(fork_child),
    };

    (void)test_begin("wakes");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
