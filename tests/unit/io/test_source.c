/* What is read from a descriptor, where the system fails: no descriptor, no memory, a read that
 * fails. The public functions are called, with entries of the table of system calls replaced before
 * the loop has threads. */
#include "needs_ring.h"

#include "rondo/rondo.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static rondo_loop *loop;

static struct seen {
    _Atomic int closed_count;
    _Atomic int error_sum;
    _Atomic int done_count;
    _Atomic int64_t value;
} seen;

static void begin(void)
{
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(rondo_loop_create(NULL, &loop), 0);
}

static void note_closed(int error)
{
    atomic_fetch_add(&seen.error_sum, error);
    atomic_fetch_add(&seen.closed_count, 1);
}

static void rung(rondo_wake *wake, void *ctx)
{
    (void)wake;
    (void)ctx;
}
static void wake_closed(rondo_wake *wake, int error, void *ctx)
{
    (void)wake;
    (void)ctx;
    note_closed(error);
}
static const struct rondo_wake_handlers wakes = {sizeof(wakes), rung, wake_closed};

static void changed(rondo_watch *watch, const struct rondo_change *change, void *ctx)
{
    (void)watch;
    (void)change;
    (void)ctx;
}
static void watch_closed(rondo_watch *watch, int error, void *ctx)
{
    (void)watch;
    (void)ctx;
    note_closed(error);
}
static const struct rondo_watch_handlers watches = {sizeof(watches), changed, watch_closed};

static void ready(rondo_poller *poller, uint32_t events, void *ctx)
{
    (void)poller;
    (void)events;
    (void)ctx;
}

static void received(rondo_signal *signal, const struct rondo_signal_info *info, void *ctx)
{
    (void)signal;
    (void)info;
    (void)ctx;
}
static void signal_closed(rondo_signal *signal, int error, void *ctx)
{
    (void)signal;
    (void)ctx;
    note_closed(error);
}
static const struct rondo_signal_handlers signals = {sizeof(signals), received, signal_closed};

static void done(const struct rondo_result *result, void *ctx)
{
    (void)ctx;
    atomic_store(&seen.value, result->value);
    atomic_fetch_add(&seen.done_count, 1);
}

/* ---- no descriptor, no memory ---- */

static int no_event(void)
{
    return -EMFILE;
}

static int no_signal(int fd, uint64_t mask)
{
    (void)fd;
    (void)mask;
    return -ENFILE;
}

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void nothing_to_begin_with(void **state)
{
    static const int numbers[] = {SIGUSR1};
    struct rondo_request request = RONDO_REQUEST(.done = done);
    struct rondo_poller_handlers polls = {.size = sizeof(polls)};
    struct rondo_process_handlers children = {.size = sizeof(children)};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    char *argv[] = {"/bin/true", NULL};
    rondo_process *process;
    rondo_poller *poller;
    rondo_signal *signal;
    rondo_watch *watch;
    rondo_wake *wake;

    (void)state;
    begin();
    sys.event_create = no_event;
    sys.watch_create = no_event;
    sys.signal_descriptor = no_signal;
    assert_int_equal(rondo_wake_create(loop, &wakes, NULL, &wake), -EMFILE);
    assert_int_equal(rondo_watch_create(loop, &watches, NULL, &watch), -EMFILE);
    assert_non_null(strstr(rondo_error_text(), "max_user_instances"));
    assert_int_equal(rondo_signal_create(loop, SIGUSR1, &signals, NULL, &signal), -ENFILE);
    assert_int_equal(rondo_signal_wait(loop, numbers, 1, NULL, &request), -ENFILE);
    sys.alloc = no_memory;
    polls.ready = ready;
    options.program = argv[0];
    options.argv = argv;
    assert_int_equal(rondo_wake_create(loop, &wakes, NULL, &wake), -ENOMEM);
    assert_int_equal(rondo_watch_create(loop, &watches, NULL, &watch), -ENOMEM);
    assert_int_equal(rondo_signal_create(loop, SIGUSR1, &signals, NULL, &signal), -ENOMEM);
    assert_int_equal(rondo_signal_wait(loop, numbers, 1, NULL, &request), -ENOMEM);
    assert_int_equal(rondo_poller_create(loop, 0, POLLIN, &polls, NULL, &poller), -ENOMEM);
    assert_int_equal(rondo_process_spawn(loop, &options, &children, NULL, &process), -ENOMEM);
    (void)sys_restore(NULL);
    rondo_loop_free(loop);
    assert_int_equal(atomic_load(&seen.closed_count), 0);
    assert_int_equal(atomic_load(&seen.done_count), 0);
}

/* ---- a descriptor that is always ready and can not be read ---- */

static int folder(void)
{
    return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
}

static int folder_for_signals(int fd, uint64_t mask)
{
    (void)mask;
    return fd < 0 ? folder() : fd;
}

static void reads_fail(void **state)
{
    static const int numbers[] = {SIGUSR1};
    struct rondo_request request = RONDO_REQUEST(.done = done);
    rondo_signal *signal[2];
    rondo_watch *watch;
    rondo_wake *wake;

    (void)state;
    begin();
    sys.event_create = folder;
    sys.watch_create = folder;
    sys.signal_descriptor = folder_for_signals;
    assert_int_equal(rondo_wake_create(loop, &wakes, NULL, &wake), 0);
    assert_int_equal(rondo_watch_create(loop, &watches, NULL, &watch), 0);
    assert_int_equal(rondo_signal_create(loop, SIGUSR1, &signals, NULL, &signal[0]), 0);
    assert_int_equal(rondo_signal_create(loop, SIGUSR2, &signals, NULL, &signal[1]), 0);
    assert_int_equal(rondo_signal_wait(loop, numbers, 1, NULL, &request), 0);
    assert_int_equal(rondo_loop_start(loop), 0);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 4 && atomic_load(&seen.done_count) == 1);
    assert_int_equal(atomic_load(&seen.error_sum), 4 * -EISDIR);
    assert_int_equal(atomic_load(&seen.value), -EISDIR);
    rondo_loop_free(loop);
}

/* ---- no thread for a child that is left ---- */

static _Atomic bool refused;

static int no_more_threads(pthread_t *ret_thread, void *(*body)(void *), void *arg)
{
    return atomic_load(&refused) ? -EAGAIN : sys_real.thread_create(ret_thread, body, arg);
}

static void child_closed(rondo_process *process, int error, void *ctx)
{
    (void)process;
    (void)ctx;
    note_closed(error);
}

/* Nobody could wait for it, so it must not go on. */
static void child_without_a_reaper(void **state)
{
    static const struct rondo_process_handlers children = {sizeof(children), NULL, child_closed};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    char *argv[] = {"sleep", "30", NULL};
    rondo_process *process;
    pid_t id;

    (void)state;
    begin();
    sys.thread_create = no_more_threads;
    assert_int_equal(rondo_loop_start(loop), 0);
    options.program = argv[0];
    options.argv = argv;
    assert_int_equal(rondo_process_spawn(loop, &options, &children, NULL, &process), 0);
    id = rondo_process_id(process);
    atomic_store(&refused, true);
    assert_int_equal(rondo_process_close(process), 0);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 1);
    WAIT_UNTIL(kill(id, 0) != 0);
    assert_int_equal(errno, ESRCH);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_to_begin_with, sys_restore),
        cmocka_unit_test_teardown(reads_fail, sys_restore),
        cmocka_unit_test_teardown(child_without_a_reaper, sys_restore),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
