/* Goal: "Drain" (G8) holds for every kind of handle and operation: each ends as its header says,
 * when the loop drains in time, when the drain's deadline comes first and when the loop stops; and
 * then no descriptor and no thread is left.
 *
 * Method: a table of kinds. Several of a kind are made alive (begin) on a loop of their own, which
 * is then ended in each way. For the drain that succeeds, finish does what a user would do. What
 * was begun is noted in slots: each done and each closed callback must come once, with the value
 * that this way of ending promises. LeakSanitizer looks for memory that is left.
 */
#include "drain_kinds.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

rondo_loop *loop;
enum ending ending;
static atomic_int fired;
static atomic_int blocking_runs;
static atomic_bool blocking_ends;
static char folder[] = "/tmp/rondo-drain-kinds-XXXXXX";

/* ---- what the kinds share ---- */

const struct rondo_request *operation(struct slot *slot, int64_t finished)
{
    static struct rondo_request request;
    struct outcome *outcome = &slot->outcomes[slot->outcome_count];

    CHECK(slot->outcome_count < OPERATIONS);
    slot->finished[slot->outcome_count++] = finished;
    request = RONDO_REQUEST(.done = outcome_note, .ctx = outcome);
    return &request;
}

struct closing *expect_closed(struct slot *slot)
{
    CHECK(slot->closing_count < CLOSINGS);
    return &slot->closings[slot->closing_count++];
}

void note_closed(struct closing *closing, int error)
{
    CHECK_EQUAL(atomic_load(&closing->count), 0);
    closing->error = error;
    atomic_fetch_add(&closing->count, 1);
}

void open_pair(struct slot *slot, int type)
{
    CHECK_EQUAL(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, slot->fds), 0);
}

void open_pipe(struct slot *slot)
{
    CHECK_EQUAL(pipe2(slot->fds, O_CLOEXEC), 0);
}

void send_byte(struct slot *slot)
{
    CHECK_EQUAL(write(slot->fds[1], "x", 1), 1);
}

void close_both_ends(struct slot *slot)
{
    (void)close(slot->fds[0]);
    (void)close(slot->fds[1]);
}

void close_other_end(struct slot *slot)
{
    (void)close(slot->fds[1]);
}

/* ---- events ---- */

static void poller_ready(rondo_poller *poller, uint32_t events, void *ctx)
{
    (void)poller;
    (void)events;
    (void)ctx;
}

static void poller_closed(rondo_poller *poller, int error, void *ctx)
{
    (void)poller;
    note_closed(ctx, error);
}

static void poller_begin(struct slot *slot)
{
    static const struct rondo_poller_handlers handlers = {
        .size = sizeof(handlers),
        .ready = poller_ready,
        .closed = poller_closed,
    };
    rondo_poller *poller = NULL;

    /* One is told all the time that it is ready, the others never. */
    open_pipe(slot);
    if (slot->number == 0)
        send_byte(slot);
    CHECK_EQUAL(
        rondo_poller_create(loop, slot->fds[0], POLLIN, &handlers, expect_closed(slot), &poller),
        0);
}

static void poll_begin(struct slot *slot)
{
    open_pipe(slot);
    CHECK_EQUAL(rondo_poll(loop, slot->fds[0], POLLIN, operation(slot, POLLIN)), 0);
}

static void signal_received(rondo_signal *signal, const struct rondo_signal_info *info, void *ctx)
{
    (void)signal;
    (void)info;
    (void)ctx;
}

static void signal_closed(rondo_signal *signal, int error, void *ctx)
{
    (void)signal;
    note_closed(ctx, error);
}

static void watcher_begin(struct slot *slot)
{
    static const struct rondo_signal_handlers handlers = {
        .size = sizeof(handlers),
        .received = signal_received,
        .closed = signal_closed,
    };
    rondo_signal *signal = NULL;

    CHECK_EQUAL(rondo_signal_create(loop, SIGUSR1, &handlers, expect_closed(slot), &signal), 0);
}

static void signal_begin(struct slot *slot)
{
    int number = SIGRTMIN + (int)slot->number;

    CHECK_EQUAL(rondo_signal_wait(loop, &number, 1, NULL, operation(slot, number)), 0);
}

static void signal_finish(struct slot *slot)
{
    CHECK_EQUAL(kill(getpid(), SIGRTMIN + (int)slot->number), 0);
}

static void watch_changed(rondo_watch *watch, const struct rondo_change *change, void *ctx)
{
    (void)watch;
    (void)change;
    (void)ctx;
}

static void watch_closed(rondo_watch *watch, int error, void *ctx)
{
    (void)watch;
    note_closed(ctx, error);
}

static void watch_begin(struct slot *slot)
{
    static const struct rondo_watch_handlers handlers = {
        .size = sizeof(handlers),
        .changed = watch_changed,
        .closed = watch_closed,
    };
    rondo_watch *watch = NULL;
    int32_t id;

    CHECK_EQUAL(rondo_watch_create(loop, &handlers, expect_closed(slot), &watch), 0);
    CHECK_EQUAL(rondo_watch_add(watch, folder, IN_CREATE, &id), 0);
}

static void wake_rung(rondo_wake *wake, void *ctx)
{
    (void)wake;
    (void)ctx;
}

static void wake_closed(rondo_wake *wake, int error, void *ctx)
{
    (void)wake;
    note_closed(ctx, error);
}

static void wake_begin(struct slot *slot)
{
    static const struct rondo_wake_handlers handlers = {
        .size = sizeof(handlers),
        .rung = wake_rung,
        .closed = wake_closed,
    };
    rondo_wake *wake = NULL;

    CHECK_EQUAL(rondo_wake_create(loop, &handlers, expect_closed(slot), &wake), 0);
    CHECK_EQUAL(rondo_wake_ring(wake), 0);
}

static void futex_begin(struct slot *slot)
{
    CHECK_EQUAL(rondo_futex_wait(loop, (const uint32_t *)&slot->word, 0, 0, operation(slot, 0)), 0);
}

/* A wait that has not begun yet ends with -EAGAIN. */
static void futex_finish(struct slot *slot)
{
    atomic_store(&slot->word, 1);
    (void)syscall(SYS_futex, &slot->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    WAIT_UNTIL(atomic_load(&slot->outcomes[0].count) == 1, 5000);
    if (slot->outcomes[0].result.value == -EAGAIN)
        slot->finished[0] = -EAGAIN;
}

/* ---- processes ---- */

static void process_closed(rondo_process *process, int error, void *ctx)
{
    (void)process;
    note_closed(ctx, error);
}

/* A child that ends when its input does. */
static void process_spawn(struct slot *slot, bool kill_on_close)
{
    static const struct rondo_process_handlers handlers = {
        .size = sizeof(handlers),
        .closed = process_closed,
    };
    static char *const argv[] = {"cat", NULL};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;

    options.program = argv[0];
    options.argv = argv;
    options.stdio[0].kind = RONDO_STDIO_PIPE;
    options.kill_on_close = kill_on_close;
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &handlers, expect_closed(slot), &slot->process),
                0);
    slot->fds[1] = rondo_process_take_pipe(slot->process, 0);
    CHECK(slot->fds[1] >= 0);
    CHECK_EQUAL(rondo_process_wait(slot->process, NULL, operation(slot, 0)), 0);
}

static void process_begin(struct slot *slot)
{
    process_spawn(slot, false);
}

static void killed_begin(struct slot *slot)
{
    process_spawn(slot, true);
}

static void process_finish(struct slot *slot)
{
    (void)close(slot->fds[1]);
    slot->fds[1] = -1;
}

static void process_clean(struct slot *slot)
{
    if (slot->fds[1] >= 0)
        (void)close(slot->fds[1]);
}

/* ---- files ---- */

static void file_begin(struct slot *slot)
{
    open_pipe(slot);
    CHECK_EQUAL(rondo_file_adopt(loop, slot->fds[0], &slot->file), 0);
    CHECK_EQUAL(
        rondo_file_read(slot->file, &slot->byte, 1, RONDO_FILE_POSITION, operation(slot, 1)), 0);
}

/* It is not the loop's: its user closes it. */
static void file_clean(struct slot *slot)
{
    CHECK_EQUAL(rondo_file_close(slot->file, NULL), 0);
    (void)close(slot->fds[1]);
}

static void closing_file_begin(struct slot *slot)
{
    file_begin(slot);
    CHECK_EQUAL(rondo_file_close(slot->file, operation(slot, 0)), 0);
}

/* ---- the blocking pool ---- */

static int64_t block(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&blocking_runs, 1);
    while (!atomic_load(&blocking_ends) && !rondo_blocking_cancelled())
        test_nap();
    return rondo_blocking_cancelled() ? -ECANCELED : 7;
}

static void blocking_begin(struct slot *slot)
{
    CHECK_EQUAL(rondo_run_blocking(loop, block, NULL, operation(slot, 7)), 0);
}

static void blocking_finish(struct slot *slot)
{
    (void)slot;
    atomic_store(&blocking_ends, true);
}

/* The pool has one thread, so what comes after this one waits. */
static void occupy_pool(struct slot *slot)
{
    blocking_begin(slot);
    WAIT_UNTIL(atomic_load(&blocking_runs) > 0, 5000);
}

static void directory_begin(struct slot *slot)
{
    occupy_pool(slot);
    CHECK_EQUAL(rondo_directory_list(loop, folder, operation(slot, 0)), 0);
}

static void directory_clean(struct slot *slot)
{
    rondo_directory_free(slot->outcomes[1].result.directory);
}

static void resolve_begin(struct slot *slot)
{
    occupy_pool(slot);
    CHECK_EQUAL(rondo_resolve(loop, "localhost", "80", NULL, operation(slot, 0)), 0);
}

static void resolve_clean(struct slot *slot)
{
    rondo_addresses_free(slot->outcomes[1].result.addresses);
}

/* ---- futures, timers ---- */

static void future_cancelled(void *ctx)
{
    struct slot *slot = ctx;
    struct rondo_result cancelled = {.value = -ECANCELED};

    CHECK_EQUAL(atomic_fetch_add(&slot->asked, 1), 0);
    rondo_future_set_result(slot->future, &cancelled);
}

static void future_begin(struct slot *slot)
{
    CHECK_EQUAL(
        rondo_future_create(loop, operation(slot, 7), future_cancelled, NULL, slot, &slot->future),
        0);
}

static void future_finish(struct slot *slot)
{
    struct rondo_result seven = {.value = 7};

    rondo_future_set_result(slot->future, &seven);
    slot->future = NULL;
}

static void future_clean(struct slot *slot)
{
    CHECK_EQUAL(atomic_load(&slot->asked), slot->future ? 1 : 0);
}

static void deaf_future_begin(struct slot *slot)
{
    CHECK_EQUAL(rondo_future_create(loop, operation(slot, 7), NULL, NULL, NULL, &slot->future), 0);
}

/* A result that comes too late is dropped. */
static void deaf_future_clean(struct slot *slot)
{
    if (slot->future)
        future_finish(slot);
}

static void timer_fired(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&fired, 1);
}

static void timer_begin(struct slot *slot)
{
    CHECK_EQUAL(rondo_call_later(loop, slot->number ? 60000 * MS : UINT64_MAX, timer_fired, NULL,
                                 &slot->timer),
                0);
}

static void timer_clean(struct slot *slot)
{
    CHECK_EQUAL(atomic_load(&fired), 0);
    CHECK_EQUAL(rondo_cancel(slot->timer), RONDO_CANCEL_NOT_STARTED);
}

/* ---- the table ---- */

static const struct kind kinds[] = {
    KIND("poller", poller_begin, .clean = close_both_ends),
    KIND("poll", poll_begin, FINISH(send_byte, close_both_ends)),
    KIND("signal watcher", watcher_begin),
    KIND("signal wait", signal_begin, FINISH(signal_finish, NULL)),
    KIND("file watch", watch_begin),
    KIND("wake", wake_begin),
    KIND("futex wait", futex_begin, FINISH(futex_finish, NULL)),
    KIND("child process", process_begin, FINISH(process_finish, process_clean)),
    KIND("child process to be killed", killed_begin, FINISH(process_finish, process_clean)),
    KIND("file operation", file_begin, FINISH(send_byte, file_clean)),
    KIND("file that closes", closing_file_begin, FINISH(send_byte, close_other_end)),
    KIND("directory listing", directory_begin, FINISH(blocking_finish, directory_clean),
         .may_finish = true),
    KIND("look-up", resolve_begin, FINISH(blocking_finish, resolve_clean), .may_finish = true),
    KIND("blocking call", blocking_begin, FINISH(blocking_finish, NULL)),
    KIND("future", future_begin, FINISH(future_finish, future_clean)),
    KIND("future that is not told", deaf_future_begin, FINISH(future_finish, deaf_future_clean)),
    KIND("timers", timer_begin, .clean = timer_clean),
    {.name = NULL},
};

/* ---- each kind, each ending ---- */

static void check_slot(const struct slot *slot)
{
    bool in_time = ending == DRAIN_IN_TIME;

    for (uint32_t i = 0; i < slot->outcome_count; i++) {
        int64_t value = slot->outcomes[i].result.value;

        CHECK_EQUAL(atomic_load(&slot->outcomes[i].count), 1);
        if (in_time || (slot->kind->may_finish && value >= 0))
            CHECK_EQUAL(value, slot->finished[i]);
        else
            CHECK_EQUAL(value, -ECANCELED);
    }
    for (uint32_t i = 0; i < slot->closing_count; i++) {
        CHECK_EQUAL(atomic_load(&slot->closings[i].count), 1);
        CHECK_EQUAL(slot->closings[i].error, in_time ? 0 : -ECANCELED);
    }
}

static void end_loop(const struct kind *kind, struct slot *slots)
{
    uint64_t start_ns = rondo_now_ns();
    int expected = 0;

    if (ending == STOP_LATER)
        test_pass_time(5);
    if (ending == DRAIN_IN_TIME) {
        CHECK_EQUAL(rondo_loop_drain(loop, 60000 * MS), 0);
        for (uint32_t i = 0; kind->finish && i < SLOTS; i++)
            kind->finish(&slots[i]);
    } else if (ending == DRAIN_TOO_SHORT) {
        CHECK_EQUAL(rondo_loop_drain(loop, SHORT_DRAIN_MS * MS), 0);
        expected = -ETIMEDOUT;
    } else {
        CHECK_EQUAL(rondo_loop_stop(loop), 0);
    }
    CHECK_EQUAL(rondo_loop_wait(loop), expected);
    CHECK(ending != DRAIN_TOO_SHORT || rondo_now_ns() >= start_ns + SHORT_DRAIN_MS * MS);
    /* Far from any timeout: whatever ends late was not ended by the loop. */
    CHECK(rondo_now_ns() < start_ns + 10000 * MS);
}

static void run(const struct kind *kind)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct slot slots[SLOTS];
    uint32_t descriptors = count_descriptors();
    uint32_t threads = count_threads();

    memset(slots, 0, sizeof(slots));
    atomic_store(&blocking_runs, 0);
    atomic_store(&blocking_ends, false);
    options.lanes = 2;
    options.blocking_threads = kind->may_finish ? 1 : SLOTS;
    loop = loop_begin(&options);
    for (uint32_t i = 0; i < SLOTS; i++) {
        slots[i].kind = kind;
        slots[i].number = i;
        kind->begin(&slots[i]);
    }
    end_loop(kind, slots);
    for (uint32_t i = 0; i < SLOTS; i++)
        check_slot(&slots[i]);
    for (uint32_t i = 0; kind->clean && i < SLOTS; i++)
        kind->clean(&slots[i]);
    rondo_loop_free(loop);
    /* A thread that was joined, a child that runs on, a folder that is read: they take a moment. */
    WAIT_UNTIL(count_descriptors() == descriptors, 5000);
    WAIT_UNTIL(count_threads() == threads, 5000);
}

static bool applies(const struct kind *kind)
{
    if (ending == DRAIN_IN_TIME)
        return !kind->endless;
    return ending != DRAIN_TOO_SHORT || kind->finish || kind->endless;
}

static void run_all(const struct kind *kind)
{
    for (; kind->name; kind++) {
        if (!applies(kind))
            continue;
        uint64_t start_ns = rondo_now_ns();
        fprintf(stderr, "  %s", kind->name);
        run(kind);
        fprintf(stderr, ", %.1f ms\n", (double)(rondo_now_ns() - start_ns) / (double)MS);
    }
}

static void every_kind(const char *name, enum ending how)
{
    (void)test_begin(name);
    ending = how;
    run_all(network_kinds);
    run_all(kinds);
}

static void a_drain_in_time_ends_with_0(void **state)
{
    (void)state;
    every_kind("drain kinds, in time", DRAIN_IN_TIME);
}

static void a_drain_that_is_too_short_cancels_what_is_left(void **state)
{
    (void)state;
    every_kind("drain kinds, too short", DRAIN_TOO_SHORT);
}

static void a_stop_cancels_what_has_just_begun(void **state)
{
    (void)state;
    every_kind("drain kinds, stop at once", STOP_AT_ONCE);
}

static void a_stop_cancels_what_is_in_flight(void **state)
{
    (void)state;
    every_kind("drain kinds, stop later", STOP_LATER);
}

/* A sanitizer starts a thread of its own beside the first one: that one is not to be counted. */
static int prepare(void **state)
{
    (void)state;
    rondo_loop_free(loop_begin(NULL));
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_in_time_ends_with_0),
        cmocka_unit_test(a_drain_that_is_too_short_cancels_what_is_left),
        cmocka_unit_test(a_stop_cancels_what_has_just_begun),
        cmocka_unit_test(a_stop_cancels_what_is_in_flight),
    };

    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
