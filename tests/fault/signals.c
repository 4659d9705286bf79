/* Goal: every watcher of a signal gets every delivery, in the kernel's order, and a wait for
 * one loses none, whatever is cancelled, closed or stopped meanwhile.
 * Method: signals that this process sends itself; real-time signals carry numbers, so that a
 * loss, a repeat or a wrong order shows. All are blocked before the first thread is started. */
#include "support.h"

#include <signal.h>
#include <unistd.h>

static rondo_loop *loop;

static void send_number(int number, int value)
{
    union sigval sent = {.sival_int = value};

    CHECK_EQUAL(sigqueue(getpid(), number, sent), 0);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static struct watcher {
    rondo_signal *signal;
    _Atomic int count;
    int next_value;
    _Atomic int closed_count;
    int closed_error;
    _Atomic bool stuck;
} watchers[10];

static void note_received(rondo_signal *signal, const struct rondo_signal_info *info, void *ctx)
{
    struct watcher *self = ctx;

    CHECK(signal == self->signal);
    CHECK_EQUAL(atomic_load(&self->closed_count), 0);
    if (info->code == SI_QUEUE)
        CHECK_EQUAL(info->value, self->next_value++);
    CHECK_EQUAL(info->pid, getpid());
    CHECK_EQUAL(info->uid, getuid());
    atomic_fetch_add(&self->count, 1);
    if (atomic_load(&self->stuck))
        WAIT_UNTIL(!atomic_load(&self->stuck), 10000);
}

static void note_closed(rondo_signal *signal, int error, void *ctx)
{
    struct watcher *self = ctx;

    CHECK(signal == self->signal);
    self->closed_error = error;
    atomic_fetch_add(&self->closed_count, 1);
}

static const struct rondo_signal_handlers handlers = {sizeof(handlers), note_received, note_closed};

static void watch(struct watcher *watcher, int number)
{
    memset(watcher, 0, sizeof(*watcher));
    CHECK_EQUAL(rondo_signal_create(loop, number, &handlers, watcher, &watcher->signal), 0);
}

static void unwatch(struct watcher *watcher)
{
    CHECK_EQUAL(rondo_signal_close(watcher->signal), 0);
    WAIT_UNTIL(atomic_load(&watcher->closed_count) == 1, 5000);
    CHECK_EQUAL(watcher->closed_error, 0);
}

/* ---- arguments ---- */

static void note_done(const struct rondo_result *result, void *ctx);

static void bad_arguments(void **state)
{
    static const int refused[] = {-1, 0, 32, 33, SIGKILL, SIGSTOP, 65, INT32_MAX};
    struct rondo_signal_handlers broken = handlers;
    struct rondo_request request = RONDO_REQUEST(.done = note_done);
    rondo_signal *signal;
    int numbers[2] = {SIGUSR1, SIGKILL};

    (void)state;
    loop = loop_begin(NULL);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        CHECK_EQUAL(rondo_signal_create(loop, refused[i], &handlers, NULL, &signal), -EINVAL);
    CHECK_EQUAL(rondo_signal_create(NULL, SIGUSR1, &handlers, NULL, &signal), -EINVAL);
    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, NULL, NULL, &signal), -EINVAL);
    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, &handlers, NULL, NULL), -EINVAL);
    broken.received = NULL;
    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, &broken, NULL, &signal), -EINVAL);
    CHECK_EQUAL(rondo_signal_close(NULL), -EINVAL);
    CHECK(!rondo_signal_strand(NULL));
    CHECK_EQUAL(rondo_signal_wait(loop, NULL, 1, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_signal_wait(loop, numbers, 0, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_signal_wait(loop, numbers, 1, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rondo_signal_wait(NULL, numbers, 1, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_signal_wait(loop, numbers, 2, NULL, &request), -EINVAL);
    end_loop();
}

/* ---- watchers ---- */

static void all_get_all(void **state)
{
    int count = (int)test_scaled(1000);
    uint32_t descriptors;

    (void)state;
    loop = loop_begin(NULL);
    descriptors = count_descriptors();
    for (int i = 0; i < 10; i++)
        watch(&watchers[i], SIGRTMIN + 1);
    for (int i = 0; i < count; i++)
        send_number(SIGRTMIN + 1, i);
    for (int i = 0; i < 10; i++)
        WAIT_UNTIL(atomic_load(&watchers[i].count) == count, 10000);
    /* One descriptor for all of them, and none when all are gone. */
    CHECK_EQUAL(count_descriptors(), descriptors + 1);
    for (int i = 0; i < 10; i++)
        unwatch(&watchers[i]);
    WAIT_UNTIL(count_descriptors() == descriptors, 5000);
    end_loop();
}

static void standard_signals_coalesce(void **state)
{
    int first;

    (void)state;
    loop = loop_begin(NULL);
    /* Blocked and unwatched: ten become one. */
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    watch(&watchers[0], SIGUSR1);
    watch(&watchers[1], SIGUSR2);
    WAIT_UNTIL(atomic_load(&watchers[0].count) == 1, 5000);
    test_pass_time(5);
    CHECK_EQUAL(atomic_load(&watchers[0].count), 1);
    CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    WAIT_UNTIL(atomic_load(&watchers[0].count) == 2, 5000);
    CHECK_EQUAL(atomic_load(&watchers[1].count), 0);
    CHECK_EQUAL(kill(getpid(), SIGUSR2), 0);
    WAIT_UNTIL(atomic_load(&watchers[1].count) == 1, 5000);
    first = atomic_load(&watchers[0].count);
    CHECK_EQUAL(first, 2);
    unwatch(&watchers[0]);
    unwatch(&watchers[1]);
    end_loop();
}

/* A watcher that is stuck holds 256 at most, and nothing is lost for anybody. */
static void one_is_stuck(void **state)
{
    (void)state;
    loop = loop_begin(NULL);
    watch(&watchers[0], SIGRTMIN + 1);
    watch(&watchers[1], SIGRTMIN + 1);
    atomic_store(&watchers[0].stuck, true);
    for (int i = 0; i < 600; i++)
        send_number(SIGRTMIN + 1, i);
    WAIT_UNTIL(atomic_load(&watchers[1].count) >= 256, 5000);
    test_pass_time(5);
    CHECK_EQUAL(atomic_load(&watchers[0].count), 1);
    CHECK_EQUAL(atomic_load(&watchers[1].count), 256);
    atomic_store(&watchers[0].stuck, false);
    WAIT_UNTIL(atomic_load(&watchers[0].count) == 600, 5000);
    WAIT_UNTIL(atomic_load(&watchers[1].count) == 600, 5000);
    /* A close frees the others as well. */
    atomic_store(&watchers[0].stuck, true);
    for (int i = 600; i < 1000; i++)
        send_number(SIGRTMIN + 1, i);
    WAIT_UNTIL(atomic_load(&watchers[1].count) == 856, 5000);
    CHECK_EQUAL(rondo_signal_close(watchers[0].signal), 0);
    CHECK_EQUAL(rondo_signal_close(watchers[0].signal), -EALREADY);
    WAIT_UNTIL(atomic_load(&watchers[1].count) == 1000, 5000);
    atomic_store(&watchers[0].stuck, false);
    WAIT_UNTIL(atomic_load(&watchers[0].closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&watchers[0].count), 601);
    unwatch(&watchers[1]);
    end_loop();
}

static void come_and_go(void **state)
{
    uint64_t seed = test_begin("signals");
    int sent = 0;

    (void)state;
    memset(watchers, 0, sizeof(watchers));
    loop = loop_begin(NULL);
    watch(&watchers[0], SIGRTMIN + 2);
    for (uint64_t i = 0; i < test_scaled(200); i++) {
        struct watcher *other = &watchers[1 + random_below(&seed, 9)];
        if (other->signal) {
            unwatch(other);
            other->signal = NULL;
        } else {
            watch(other, SIGRTMIN + 3);
        }
        send_number(SIGRTMIN + 2, sent++);
    }
    WAIT_UNTIL(atomic_load(&watchers[0].count) == sent, 5000);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(atomic_load(&watchers[0].closed_count), 1);
    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, &handlers, NULL, &watchers[1].signal),
                -ESHUTDOWN);
    rondo_loop_free(loop);
}

/* ---- waiting once ---- */

struct operation_end {
    _Atomic int count;
    int64_t value;
    rondo_handle handle;
    struct rondo_signal_info info;
};

static void note_done(const struct rondo_result *result, void *ctx)
{
    struct operation_end *end = ctx;

    end->value = result->value;
    atomic_fetch_add(&end->count, 1);
}

static void begin_wait(struct operation_end *end, int number, uint64_t deadline_ns)
{
    int numbers[] = {number, SIGRTMAX};

    memset(end, 0, sizeof(*end));
    CHECK_EQUAL(
        rondo_signal_wait(loop, numbers, 2, &end->info,
                          &RONDO_REQUEST(.done = note_done, .ctx = end, .deadline_ns = deadline_ns,
                                         .ret_handle = &end->handle)),
        0);
}

static void wait_done(struct operation_end *end, int64_t value)
{
    WAIT_UNTIL(atomic_load(&end->count) > 0, 5000);
    CHECK_EQUAL(end->value, value);
    CHECK_EQUAL(atomic_load(&end->count), 1);
}

static void waits_miss_nothing(void **state)
{
    struct operation_end end;
    int count = (int)test_scaled(300);

    (void)state;
    loop = loop_begin(NULL);
    for (int i = 0; i < count; i++)
        send_number(SIGRTMIN + 4, i);
    for (int i = 0; i < count; i++) {
        begin_wait(&end, SIGRTMIN + 4, 0);
        wait_done(&end, SIGRTMIN + 4);
        CHECK_EQUAL(end.info.number, SIGRTMIN + 4);
        CHECK_EQUAL(end.info.value, i);
    }
    begin_wait(&end, SIGUSR1, rondo_now_ns() + 5 * MS);
    wait_done(&end, -ETIMEDOUT);
    begin_wait(&end, SIGUSR1, 1);
    wait_done(&end, -ETIMEDOUT);
    begin_wait(&end, SIGUSR1, UINT64_MAX);
    CHECK(rondo_cancel(end.handle) != RONDO_CANCEL_FINISHED);
    wait_done(&end, -ECANCELED);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_FINISHED);
    /* One that comes between two waits stays with the kernel, though others are read meanwhile. */
    watch(&watchers[0], SIGUSR2);
    begin_wait(&end, SIGUSR1, rondo_now_ns() + 5 * MS);
    wait_done(&end, -ETIMEDOUT);
    CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    CHECK_EQUAL(kill(getpid(), SIGUSR2), 0);
    WAIT_UNTIL(atomic_load(&watchers[0].count) == 1, 5000);
    test_pass_time(2);
    begin_wait(&end, SIGUSR1, 0);
    wait_done(&end, SIGUSR1);
    end_loop();
}

/* Each signal ends one wait or stays with the kernel for the next one, however the cancels fall. */
static void cancels_lose_none(void **state)
{
    struct operation_end end;
    uint64_t seed = test_begin("signals");
    int cancelled = 0;
    int got = 0;

    (void)state;
    loop = loop_begin(NULL);
    for (int sent = 0; sent < (int)test_scaled(1000); sent++) {
        begin_wait(&end, SIGRTMIN + 5, 0);
        send_number(SIGRTMIN + 5, sent);
        for (uint64_t spins = random_below(&seed, 20000); spins > 0; spins--)
            atomic_signal_fence(memory_order_seq_cst);
        (void)rondo_cancel(end.handle);
        WAIT_UNTIL(atomic_load(&end.count) == 1, 5000);
        if (end.value == SIGRTMIN + 5)
            CHECK_EQUAL(end.info.value, got++);
        else
            cancelled++;
    }
    for (int left = cancelled; left > 0; left--) {
        begin_wait(&end, SIGRTMIN + 5, 0);
        wait_done(&end, SIGRTMIN + 5);
        CHECK_EQUAL(end.info.value, got++);
    }
    printf("%d received, %d cancels in time\n", got, cancelled);
    begin_wait(&end, SIGRTMIN + 5, rondo_now_ns() + 2 * MS);
    wait_done(&end, -ETIMEDOUT);
    end_loop();
}

static void loop_ends_under_waits(void **state)
{
    struct operation_end ends[3];

    (void)state;
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    begin_wait(&ends[0], SIGUSR1, 0);
    CHECK_EQUAL(rondo_cancel(ends[0].handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    wait_done(&ends[0], -ECANCELED);
    begin_wait(&ends[1], SIGUSR1, 0);
    begin_wait(&ends[2], SIGUSR2, 0);
    watch(&watchers[0], SIGUSR1);
    CHECK_EQUAL(rondo_loop_drain(loop, 60000 * MS), 0);
    WAIT_UNTIL(atomic_load(&watchers[0].closed_count) == 1, 5000);
    CHECK_EQUAL(kill(getpid(), SIGUSR1), 0);
    wait_done(&ends[1], SIGUSR1);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    wait_done(&ends[2], -ECANCELED);
    rondo_loop_free(loop);
    /* Nobody took this one: it waits for the next loop. */
    CHECK_EQUAL(kill(getpid(), SIGUSR2), 0);
    loop = loop_begin(NULL);
    begin_wait(&ends[2], SIGUSR2, 0);
    wait_done(&ends[2], SIGUSR2);
    end_loop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(all_get_all),
        cmocka_unit_test(standard_signals_coalesce),
        cmocka_unit_test(one_is_stuck),
        cmocka_unit_test(come_and_go),
        cmocka_unit_test(waits_miss_nothing),
        cmocka_unit_test(cancels_lose_none),
        cmocka_unit_test(loop_ends_under_waits),
    };
    sigset_t all;

    (void)test_begin("signals");
    /* Here and in the threads that a sanitizer starts later. */
    sigfillset(&all);
    sigdelset(&all, SIGABRT);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGTERM);
    sigdelset(&all, SIGINT);
    CHECK_EQUAL(sigprocmask(SIG_BLOCK, &all, NULL), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
