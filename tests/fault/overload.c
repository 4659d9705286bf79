/* Goal: when ready work waits too long, accepting pauses and so does receiving for the streams that
 * have most undelivered, nothing is lost, both go on by themselves, and the loop can end meanwhile.
 *
 * Method: loops of one worker whose callbacks burn processor time, so that the time to work off
 * what is there is known. The clients are plain sockets; the loop's numbers tell what it decided.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 64, CHAINS = 20, HOGS = 8, HOG_BUFFERS = 120, BUFFER_SIZE = 64, SETTLED = 4 };

static const uint64_t target_ns = 50 * MS;
static _Atomic uint64_t burn_ns;
static _Atomic uint64_t handled_bytes;
static atomic_bool chains_end;

static void burn(void)
{
    uint64_t until_ns = rondo_now_ns() + atomic_load(&burn_ns);

    while (rondo_now_ns() < until_ns)
        ;
}

/* ---- a server that is slow ---- */

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    burn();
    atomic_fetch_add(&handled_bytes, size); /* Before the client can know. */
    int error = rondo_stream_write(stream, data, size);
    CHECK(error == 0 || error == -EBADF);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
    };

    (void)listener;
    (void)ctx;
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, NULL), 0);
}

static rondo_loop *serve(const char *name, uint64_t burn_each_ns, uint16_t *ret_port)
{
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
    };
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)test_begin(name);
    atomic_store(&burn_ns, burn_each_ns);
    atomic_store(&handled_bytes, 0);
    options.workers = options.max_workers = 1;
    options.grow_after_ns = MS / 10; /* The watch of the pool ends before overload can. */
    options.buffer_size = BUFFER_SIZE;
    rondo_loop *loop = loop_begin(&options);
    *ret_port = listener_port(listen_local(loop, &handlers, NULL));
    return loop;
}

/* Connections that are accepted and have one message each, which the loop works off for long. */
static void clients_begin(rondo_loop *loop, uint16_t port, int *fds)
{
    for (uint32_t i = 0; i < CLIENTS; i++)
        fds[i] = tcp_dial(port);
    WAIT_UNTIL(loop_stats(loop).connections_total == CLIENTS, 5000);
    for (uint32_t i = 0; i < CLIENTS; i++)
        tcp_send(fds[i], &(char){(char)i}, 1);
}

static void clients_end(const int *fds)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        char byte = 0;
        CHECK_EQUAL(tcp_receive(fds[i], &byte, 1), 1);
        CHECK_EQUAL(byte, (char)i);
        (void)close(fds[i]);
    }
}

/* ---- accepting ---- */

/* The watch has ended: the scheduler sleeps. */
static bool is_quiet(rondo_loop *loop)
{
    uint64_t wakes = loop_stats(loop).scheduler_wakes;

    test_pass_time(20);
    return loop_stats(loop).scheduler_wakes == wakes;
}

static void accepting_pauses_and_goes_on(void **state)
{
    uint16_t port;
    int fds[CLIENTS];
    char byte;

    (void)state;
    rondo_loop *loop = serve("overload, accept", 8 * MS, &port);
    CHECK_EQUAL(loop_stats(loop).overloads, 0);
    clients_begin(loop, port, fds);
    WAIT_UNTIL(loop_stats(loop).accepts_paused_overload > 0, 5000);

    /* The system takes the connection, the loop does not until overload is over. */
    int late = tcp_dial(port);
    tcp_send(late, "x", 1);
    for (;;) {
        struct rondo_loop_stats before = loop_stats(loop);
        struct rondo_loop_stats after = loop_stats(loop);
        if (!after.overloaded)
            break;
        CHECK_EQUAL(before.connections_total, CLIENTS);
        test_nap();
    }
    CHECK_EQUAL(tcp_receive(late, &byte, 1), 1);
    CHECK_EQUAL(loop_stats(loop).connections_total, CLIENTS + 1);
    clients_end(fds);
    (void)close(late);

    WAIT_UNTIL(loop_stats(loop).ready_age_ns == 0, 5000);
    struct rondo_loop_stats stats = loop_stats(loop);
    fprintf(stderr, "overloaded %llu times, the oldest waited %llu ms\n",
            (unsigned long long)stats.overloads, (unsigned long long)(stats.ready_age_max_ns / MS));
    CHECK(stats.overloads >= 1);
    CHECK_EQUAL(stats.overloaded, 0);
    CHECK(stats.ready_age_max_ns > target_ns);
    CHECK_EQUAL(stats.accepts_paused, 0);
    CHECK_EQUAL(stats.reads_paused_overload, 0); /* One message each: nobody is a hog. */
    WAIT_UNTIL(is_quiet(loop), 5000);
    rondo_loop_free(loop);
}

/* ---- receiving ---- */

struct hog {
    int fd;
    uint32_t received;
};

static void hog_take(struct hog *hog)
{
    char data[BUFFER_SIZE];
    ssize_t size;

    while ((size = recv(hog->fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
        for (ssize_t i = 0; i < size; i++)
            CHECK_EQUAL(data[i], (char)(hog->received++ / BUFFER_SIZE));
}

/* Received by the loop, and not yet by a callback. */
static uint64_t undelivered(rondo_loop *loop)
{
    uint64_t handled = atomic_load(&handled_bytes);

    return loop_stats(loop).bytes_received - handled;
}

static bool is_settled(rondo_loop *loop)
{
    /* A stream that is not paused at four buffers has between 16 and 32. */
    return loop_stats(loop).overloaded && undelivered(loop) <= (HOGS + 1) * SETTLED * BUFFER_SIZE;
}

static void hogs_are_paused_and_quiet_ones_are_not(void **state)
{
    struct hog hogs[HOGS];
    uint16_t port;
    uint32_t answers = 0;
    bool settled = false;
    bool left = true;

    (void)state;
    rondo_loop *loop = serve("overload, receive", MS, &port);
    int quiet = tcp_dial(port);
    for (uint32_t i = 0; i < HOGS; i++) {
        hogs[i] = (struct hog){.fd = tcp_dial(port)};
        for (uint32_t j = 0; j < HOG_BUFFERS; j++) {
            char data[BUFFER_SIZE];
            memset(data, (int)j, sizeof(data));
            tcp_send(hogs[i].fd, data, sizeof(data));
        }
    }
    WAIT_UNTIL(loop_stats(loop).reads_paused_overload >= HOGS, 5000);
    while (left) {
        char byte = 'q';
        bool was_overloaded = loop_stats(loop).overloaded;
        tcp_send(quiet, &byte, 1);
        CHECK_EQUAL(tcp_receive(quiet, &byte, 1), 1);
        answers += was_overloaded && loop_stats(loop).overloaded;
        settled = settled || is_settled(loop);
        left = false;
        for (uint32_t i = 0; i < HOGS; i++) {
            hog_take(&hogs[i]);
            left = left || hogs[i].received < HOG_BUFFERS * BUFFER_SIZE;
        }
    }
    struct rondo_loop_stats stats = loop_stats(loop);
    fprintf(stderr, "%u answers for the quiet one while hogs were paused %llu times\n", answers,
            (unsigned long long)stats.reads_paused_overload);
    CHECK(answers > 0);
    CHECK(settled);
    CHECK_EQUAL(undelivered(loop), 0);
    WAIT_UNTIL(loop_stats(loop).overloaded == 0, 5000);
    for (uint32_t i = 0; i < HOGS; i++)
        (void)close(hogs[i].fd);
    (void)close(quiet);
    rondo_loop_free(loop);
}

/* ---- the end ---- */

static void a_drain_during_overload_loses_nothing(void **state)
{
    uint16_t port;
    int fds[CLIENTS];

    (void)state;
    rondo_loop *loop = serve("overload, drain", 5 * MS, &port);
    clients_begin(loop, port, fds);
    WAIT_UNTIL(loop_stats(loop).overloaded, 5000);
    CHECK_EQUAL(rondo_loop_drain(loop, 20000 * MS), 0);
    clients_end(fds);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void on_chain(void *ctx)
{
    burn();
    if (atomic_load(&chains_end))
        return;
    int error = rondo_call_soon(ctx, on_chain, ctx, NULL);
    CHECK(error == 0 || error == -ESHUTDOWN);
}

static void begin_chains(rondo_loop *loop)
{
    atomic_store(&chains_end, false);
    for (uint32_t i = 0; i < CHAINS; i++)
        CHECK_EQUAL(rondo_call_soon(loop, on_chain, loop, NULL), 0);
    WAIT_UNTIL(loop_stats(loop).accepts_paused_overload > 0, 5000);
}

/* A loop that never leaves overload; what waits is in the worker's own queue. */
static void a_stop_does_not_wait_for_the_end_of_overload(void **state)
{
    uint16_t port;
    char byte;

    (void)state;
    rondo_loop *loop = serve("overload, stop", 10 * MS, &port);
    int early = tcp_dial(port);
    WAIT_UNTIL(loop_stats(loop).connections == 1, 5000);
    begin_chains(loop);
    int late = tcp_dial(port);
    /* Neither of the two that end other pauses ends this one: a connection that closes, and a
     * moment that passes. */
    tcp_reset(early);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    test_pass_time(150);
    CHECK_EQUAL(loop_stats(loop).connections_total, 1);
    CHECK_EQUAL(loop_stats(loop).overloaded, 1);
    CHECK_EQUAL(loop_stats(loop).accepts_paused_overload, 1);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(tcp_receive(late, &byte, 1), 0); /* The listener is closed. */
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    (void)close(late);
    rondo_loop_free(loop);
}

static void listeners_that_come_and_go_during_overload_work(void **state)
{
    uint16_t port;
    char byte;

    (void)state;
    rondo_loop *loop = serve("overload, listeners", 10 * MS, &port);
    begin_chains(loop);
    rondo_listener *closed = listen_local(loop, &echo_listener, NULL);
    rondo_listener *kept = listen_local(loop, &echo_listener, NULL);
    int late = tcp_dial(listener_port(kept));
    CHECK_EQUAL(rondo_listener_close(closed), 0);
    tcp_send(late, "x", 1);
    test_pass_time(50);
    CHECK_EQUAL(loop_stats(loop).connections_total, 0);
    atomic_store(&chains_end, true);
    CHECK_EQUAL(tcp_receive(late, &byte, 1), 1);
    CHECK_EQUAL(loop_stats(loop).connections_total, 1);
    (void)close(late);
    rondo_loop_free(loop);
}

/* ---- without ---- */

static void a_target_of_zero_measures_and_decides_nothing(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)state;
    (void)test_begin("overload, off");
    atomic_store(&burn_ns, 10 * MS);
    atomic_store(&chains_end, false);
    options.workers = options.max_workers = 1;
    options.overload_target_ns = 0;
    rondo_loop *loop = loop_begin(&options);
    for (uint32_t i = 0; i < CHAINS; i++)
        CHECK_EQUAL(rondo_call_soon(loop, on_chain, loop, NULL), 0);
    WAIT_UNTIL(loop_stats(loop).ready_age_max_ns > 2 * target_ns, 5000);
    test_pass_time(200);
    CHECK_EQUAL(loop_stats(loop).overloads, 0);
    CHECK_EQUAL(loop_stats(loop).overloaded, 0);
    atomic_store(&chains_end, true);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepting_pauses_and_goes_on),
        cmocka_unit_test(hogs_are_paused_and_quiet_ones_are_not),
        cmocka_unit_test(a_drain_during_overload_loses_nothing),
        cmocka_unit_test(a_stop_does_not_wait_for_the_end_of_overload),
        cmocka_unit_test(listeners_that_come_and_go_during_overload_work),
        cmocka_unit_test(a_target_of_zero_measures_and_decides_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
