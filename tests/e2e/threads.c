/* Goal: user code runs on workers only, and every worker is of the one shared loop.
 *
 * Method: callbacks of every kind, many at a time, look at the name of their thread and at the
 * current loop; enough of them block so that the pool grows and its new workers are seen too.
 */
#include "support.h"

#include <pthread.h>
#include <unistd.h>

enum { BLOCKERS = 6, WORKERS = 2, TIMERS = 500, POSTS = 5000 };

static rondo_loop *loop;
static rondo_loop *other_loop;
static atomic_uint runs;
static atomic_uint blocked;
static atomic_bool released;
static atomic_uint stream_events;

static void check_thread(rondo_loop *expected)
{
    char name[16] = "";

    CHECK_EQUAL(pthread_getname_np(pthread_self(), name, sizeof(name)), 0);
    if (strncmp(name, "rondo-w", 7) != 0) {
        fprintf(stderr, "thread \"%s\"\n", name);
        check_failed(__FILE__, __LINE__, "on a worker");
    }
    CHECK(name[7] >= '0' && name[7] <= '9');
    CHECK(rondo_current_loop() == expected);
}

static void on_run(void *ctx)
{
    check_thread(ctx);
    atomic_fetch_add(&runs, 1);
}

static void on_block(void *ctx)
{
    check_thread(ctx);
    atomic_fetch_add(&blocked, 1);
    WAIT_UNTIL(atomic_load(&released), 20000);
    check_thread(ctx);
}

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    check_thread(loop);
    CHECK_EQUAL(rondo_stream_write(stream, data, size), 0);
    atomic_fetch_add(&stream_events, 1);
}

static void on_end(rondo_stream *stream, void *ctx)
{
    (void)ctx;
    check_thread(loop);
    (void)rondo_stream_close(stream);
    atomic_fetch_add(&stream_events, 1);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)ctx;
    check_thread(loop);
    CHECK_EQUAL(error, 0);
    atomic_fetch_add(&stream_events, 1);
}

static void on_listener_closed(rondo_listener *listener, int error, void *ctx)
{
    (void)listener;
    (void)ctx;
    (void)error;
    check_thread(loop);
    atomic_fetch_add(&stream_events, 1);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
        .end = on_end,
        .closed = on_closed,
    };

    (void)listener;
    (void)ctx;
    check_thread(loop);
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, NULL), 0);
    atomic_fetch_add(&stream_events, 1);
}

static void exchange_once(void)
{
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
        .closed = on_listener_closed,
    };
    char byte = 'x';
    rondo_listener *listener = listen_local(loop, &handlers, NULL);
    int fd = tcp_dial(listener_port(listener));

    tcp_send(fd, &byte, 1);
    CHECK_EQUAL(tcp_receive(fd, &byte, 1), 1);
    (void)close(fd);
    WAIT_UNTIL(atomic_load(&stream_events) == 4, 5000);
    CHECK_EQUAL(rondo_listener_close(listener), 0);
    WAIT_UNTIL(atomic_load(&stream_events) == 5, 5000);
}

static void callbacks_run_on_workers_of_the_one_loop(void **state)
{
    (void)state;
    (void)test_begin("threads");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    rondo_strand *strand = NULL;

    options.workers = WORKERS;
    loop = loop_begin(&options);
    other_loop = loop_begin(&options);
    CHECK(!rondo_current_loop());
    for (uint32_t i = 0; i < BLOCKERS; i++)
        CHECK_EQUAL(rondo_call_soon(loop, on_block, loop, NULL), 0);
    WAIT_UNTIL(atomic_load(&blocked) == BLOCKERS, 10000); /* The pool has grown. */
    CHECK(loop_stats(loop).workers >= BLOCKERS);
    CHECK_EQUAL(rondo_strand_create(loop, &strand), 0);
    for (uint32_t i = 0; i < POSTS; i++) {
        CHECK_EQUAL(rondo_call_soon(loop, on_run, loop, NULL), 0);
        CHECK_EQUAL(rondo_call_soon(other_loop, on_run, other_loop, NULL), 0);
        CHECK_EQUAL(rondo_strand_post(strand, on_run, loop, NULL), 0);
    }
    for (uint32_t i = 0; i < TIMERS; i++) {
        CHECK_EQUAL(rondo_call_later(loop, i * 10000, on_run, loop, NULL), 0);
        CHECK_EQUAL(rondo_strand_call_later(strand, i * 10000, on_run, loop, NULL), 0);
    }
    WAIT_UNTIL(atomic_load(&runs) == 3 * POSTS + 2 * TIMERS, 10000);
    exchange_once();
    atomic_store(&released, true);
    rondo_strand_unref(strand);
    rondo_loop_free(other_loop);
    rondo_loop_free(loop);
    CHECK(!rondo_current_loop());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_run_on_workers_of_the_one_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
