/* Goal: a loop ends the way it promises: a drain lets work in hand finish, its deadline is kept, a
 * stop cancels at once; what was ready runs, what was not due never does, every stream is closed.
 *
 * Method: one test for each promise, over real connections.
 */
#include "support.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BIG_SIZE = 4 << 20, LOAD_THREADS = 6, READY_COUNT = 10000, DRAIN_MS = 200 };

static struct {
    rondo_loop *loop;
    _Atomic(rondo_stream *) stream;
    atomic_uint accepted;
    atomic_uint draining;
    atomic_uint closed;
    atomic_int error; /* of the last closed */
    _Atomic uint64_t closed_ns;
    atomic_uint runs;
} seen;

static char big[BIG_SIZE];

static void begin(const char *name)
{
    (void)test_begin(name);
    memset(&seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < BIG_SIZE; i++)
        big[i] = (char)(i % 251);
    seen.loop = loop_begin(NULL);
}

static void count_run(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.runs, 1);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)ctx;
    atomic_store(&seen.error, error);
    atomic_store(&seen.closed_ns, rondo_now_ns());
    atomic_fetch_add(&seen.closed, 1);
}

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    (void)rondo_stream_write(stream, data, size);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    atomic_store(&seen.stream, stream);
    CHECK_EQUAL(rondo_stream_start(stream, ctx, NULL), 0);
    atomic_fetch_add(&seen.accepted, 1);
}

static uint16_t serve(const struct rondo_stream_handlers *handlers)
{
    static const struct rondo_listener_handlers listener_handlers = {
        .size = sizeof(listener_handlers),
        .accepted = on_accepted,
    };

    return listener_port(listen_local(seen.loop, &listener_handlers, (void *)(uintptr_t)handlers));
}

static const struct rondo_stream_handlers plain = {
    .size = sizeof(plain),
    .read = on_read,
    .closed = on_closed,
};

/* ---- draining ---- */

static void read_big(int fd, size_t expected)
{
    char *bytes = malloc(expected + 1);

    CHECK(bytes);
    CHECK_EQUAL(tcp_receive(fd, bytes, expected + 1), expected);
    CHECK_EQUAL(memcmp(bytes, big, expected), 0);
    free(bytes);
}

static void without_a_draining_callback_all_that_was_written_arrives(void **state)
{
    (void)state;
    begin("drain, default");
    int fd = tcp_dial(serve(&plain));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    CHECK_EQUAL(rondo_stream_write(atomic_load(&seen.stream), big, BIG_SIZE), 0);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 20000 * MS), 0);
    read_big(fd, BIG_SIZE);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(atomic_load(&seen.closed), 1);
    CHECK_EQUAL(atomic_load(&seen.error), 0);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void say_goodbye(void *ctx)
{
    rondo_stream *stream = ctx;

    CHECK_EQUAL(rondo_stream_write(stream, big, 1000), 0);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
}

static void on_draining_later(rondo_stream *stream, void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&seen.draining, 1);
    CHECK_EQUAL(rondo_call_later(seen.loop, 50 * MS, say_goodbye, stream, NULL), 0);
}

static void a_draining_callback_may_finish_later(void **state)
{
    (void)state;
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
        .draining = on_draining_later,
        .closed = on_closed,
    };
    begin("drain, later");
    int fd = tcp_dial(serve(&handlers));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 20000 * MS), 0);
    read_big(fd, 1000);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(atomic_load(&seen.draining), 1);
    CHECK_EQUAL(atomic_load(&seen.error), 0);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void on_draining_never(rondo_stream *stream, void *ctx)
{
    (void)stream;
    (void)ctx;
    atomic_fetch_add(&seen.draining, 1);
}

static const struct rondo_stream_handlers endless = {
    .size = sizeof(endless),
    .read = on_read,
    .draining = on_draining_never,
    .closed = on_closed,
};

static void expect_deadline(uint64_t start_ns)
{
    CHECK_EQUAL(rondo_loop_wait(seen.loop), -ETIMEDOUT);
    CHECK_EQUAL(atomic_load(&seen.closed), 1);
    CHECK_EQUAL(atomic_load(&seen.error), -ECANCELED);
    CHECK(atomic_load(&seen.closed_ns) >= start_ns + DRAIN_MS * MS);
    CHECK(atomic_load(&seen.closed_ns) <= start_ns + (DRAIN_MS + 1000) * MS);
}

static void a_stream_that_never_ends_is_cancelled_at_the_deadline(void **state)
{
    (void)state;
    begin("drain, deadline");
    int fd = tcp_dial(serve(&endless));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    uint64_t start_ns = rondo_now_ns();
    CHECK_EQUAL(rondo_loop_drain(seen.loop, DRAIN_MS * MS), 0);
    expect_deadline(start_ns);
    CHECK_EQUAL(atomic_load(&seen.draining), 1);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void a_stream_whose_peer_never_reads_is_cancelled_at_the_deadline(void **state)
{
    (void)state;
    begin("drain, unread");
    int fd = tcp_dial(serve(&plain));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQUAL(rondo_stream_write(atomic_load(&seen.stream), big, BIG_SIZE), 0);
    uint64_t start_ns = rondo_now_ns();
    CHECK_EQUAL(rondo_loop_drain(seen.loop, DRAIN_MS * MS), 0);
    expect_deadline(start_ns);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void a_second_drain_only_brings_the_deadline_nearer(void **state)
{
    (void)state;
    begin("drain, twice");
    int fd = tcp_dial(serve(&endless));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    uint64_t start_ns = rondo_now_ns();
    CHECK_EQUAL(rondo_loop_drain(seen.loop, UINT64_MAX), 0);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, DRAIN_MS * MS), 0);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 60000 * MS), 0);
    expect_deadline(start_ns);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void stop_ends_a_drain_at_once(void **state)
{
    (void)state;
    begin("drain, then stop");
    int fd = tcp_dial(serve(&endless));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 60000 * MS), 0);
    WAIT_UNTIL(atomic_load(&seen.draining) == 1, 5000);
    uint64_t start_ns = rondo_now_ns();
    CHECK_EQUAL(rondo_loop_stop(seen.loop), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK(rondo_now_ns() < start_ns + 1000 * MS);
    CHECK_EQUAL(atomic_load(&seen.error), -ECANCELED);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

static void drain_inside(void *ctx)
{
    (void)ctx;
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 20000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), -EDEADLK);
    atomic_fetch_add(&seen.runs, 1);
}

static void drain_may_be_asked_for_in_a_callback(void **state)
{
    (void)state;
    begin("drain, inside");
    int fd = tcp_dial(serve(&plain));
    char byte;

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    CHECK_EQUAL(rondo_call_soon(seen.loop, drain_inside, NULL, NULL), 0);
    CHECK_EQUAL(tcp_receive(fd, &byte, 1), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(atomic_load(&seen.runs), 1);
    CHECK_EQUAL(rondo_call_soon(seen.loop, count_run, NULL, NULL), -ESHUTDOWN);
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

/* ---- stopping ---- */

static atomic_bool load_stopping;

static void *load_main(void *arg)
{
    uint16_t port = *(uint16_t *)arg;
    int fd = tcp_dial(port);
    char bytes[4096] = "";

    while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0 &&
           tcp_receive(fd, bytes, sizeof(bytes)) == sizeof(bytes))
        ;
    CHECK(atomic_load(&load_stopping));
    (void)close(fd);
    return NULL;
}

static void stop_under_load_closes_every_stream(void **state)
{
    (void)state;
    begin("stop, load");
    pthread_t threads[LOAD_THREADS];
    uint16_t port = serve(&plain);

    atomic_store(&load_stopping, false);
    for (uint32_t i = 0; i < LOAD_THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, load_main, &port), 0);
    WAIT_UNTIL(loop_stats(seen.loop).bytes_received > LOAD_THREADS * 100 * 4096, 20000);
    WAIT_UNTIL(atomic_load(&seen.accepted) == LOAD_THREADS, 5000);
    atomic_store(&load_stopping, true);
    CHECK_EQUAL(rondo_loop_stop(seen.loop), 0);
    CHECK_EQUAL(rondo_loop_stop(seen.loop), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(atomic_load(&seen.closed), LOAD_THREADS);
    for (uint32_t i = 0; i < LOAD_THREADS; i++)
        (void)pthread_join(threads[i], NULL);
    CHECK_EQUAL(loop_stats(seen.loop).connections, 0);
    rondo_loop_free(seen.loop);
}

static void post_more(void *ctx)
{
    int error = rondo_call_soon(seen.loop, count_run, NULL, NULL);

    (void)ctx;
    CHECK(error == 0 || error == -ESHUTDOWN);
    if (error)
        atomic_fetch_add(&seen.runs, 1);
    atomic_fetch_add(&seen.runs, 1);
}

static void ready_callbacks_run_and_timers_not_due_never_fire(void **state)
{
    (void)state;
    begin("stop, ready");
    rondo_handle timers[3] = {{0}};
    rondo_strand *strand = NULL;

    CHECK_EQUAL(rondo_strand_create(seen.loop, &strand), 0);
    CHECK_EQUAL(rondo_call_later(seen.loop, UINT64_MAX, count_run, NULL, &timers[0]), 0);
    CHECK_EQUAL(rondo_call_later(seen.loop, 30000 * MS, count_run, NULL, &timers[1]), 0);
    CHECK_EQUAL(rondo_strand_call_later(strand, 30000 * MS, count_run, NULL, &timers[2]), 0);
    for (uint32_t i = 0; i < READY_COUNT; i++)
        CHECK_EQUAL(rondo_call_soon(seen.loop, post_more, NULL, NULL), 0);
    for (uint32_t i = 0; i < READY_COUNT; i++)
        CHECK_EQUAL(rondo_strand_post(strand, count_run, NULL, NULL), 0);
    rondo_strand_unref(strand);
    CHECK_EQUAL(rondo_loop_stop(seen.loop), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(atomic_load(&seen.runs), 3 * READY_COUNT);
    rondo_loop_free(seen.loop);
    CHECK_EQUAL(atomic_load(&seen.runs), 3 * READY_COUNT);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQUAL(rondo_cancel(timers[i]), RONDO_CANCEL_FINISHED);
}

static void on_accepted_idle(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    atomic_store(&seen.stream, rondo_stream_ref(stream));
    atomic_fetch_add(&seen.accepted, 1);
}

static void an_accepted_stream_that_was_not_started_does_not_hold_up_a_drain(void **state)
{
    (void)state;
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted_idle,
    };
    begin("drain, not started");
    int fd = tcp_dial(listener_port(listen_local(seen.loop, &handlers, NULL)));

    WAIT_UNTIL(atomic_load(&seen.accepted) == 1, 5000);
    CHECK_EQUAL(rondo_loop_drain(seen.loop, 20000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(seen.loop), 0);
    CHECK_EQUAL(rondo_stream_start(atomic_load(&seen.stream), &plain, NULL), -EBADF);
    CHECK_EQUAL(rondo_stream_write(atomic_load(&seen.stream), "x", 1), -EBADF);
    rondo_stream_unref(atomic_load(&seen.stream));
    (void)close(fd);
    rondo_loop_free(seen.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_draining_callback_all_that_was_written_arrives),
        cmocka_unit_test(a_draining_callback_may_finish_later),
        cmocka_unit_test(a_stream_that_never_ends_is_cancelled_at_the_deadline),
        cmocka_unit_test(a_stream_whose_peer_never_reads_is_cancelled_at_the_deadline),
        cmocka_unit_test(a_second_drain_only_brings_the_deadline_nearer),
        cmocka_unit_test(stop_ends_a_drain_at_once),
        cmocka_unit_test(drain_may_be_asked_for_in_a_callback),
        cmocka_unit_test(an_accepted_stream_that_was_not_started_does_not_hold_up_a_drain),
        cmocka_unit_test(stop_under_load_closes_every_stream),
        cmocka_unit_test(ready_callbacks_run_and_timers_not_due_never_fire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
