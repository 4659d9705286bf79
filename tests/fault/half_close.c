/* Goal: a half close touches its own connection only, also when the stream is closed right behind
 * it and the next connection gets the same descriptor number.
 *
 * Method: the server echoes, and at the client's end shuts down and a moment later closes. Clients
 * close and come back on new connections, again and again: each time their byte must be answered,
 * which it is not when the new connection was shut down in place of the old one.
 */
#include "support.h"

#include <unistd.h>

enum { ROUNDS = 4000, CLIENTS = 4, PAUSES = 16, PAUSE_NS = 2000 };

static atomic_uint closed_count;
static atomic_uint end_count;

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    (void)rondo_stream_write(stream, data, size);
}

static void on_end(rondo_stream *stream, void *ctx)
{
    (void)ctx;
    (void)rondo_stream_shutdown(stream);
    /* For some, time enough for the lane to begin with it and too little to be done. */
    uint64_t until = rondo_now_ns() + atomic_fetch_add(&end_count, 1) % PAUSES * PAUSE_NS;
    while (rondo_now_ns() < until)
        ;
    (void)rondo_stream_close(stream);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)error;
    (void)ctx;
    atomic_fetch_add(&closed_count, 1);
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
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, ctx), 0);
}

static void shutdown_hits_its_own_connection(void **state)
{
    (void)state;
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
    };
    test_begin("half close");
    rondo_loop *loop = loop_begin(NULL);
    rondo_listener *listener = listen_local(loop, &handlers, NULL);
    uint16_t port = listener_port(listener);
    uint64_t rounds = test_scaled(ROUNDS);
    int fds[CLIENTS];

    for (int i = 0; i < CLIENTS; i++)
        fds[i] = tcp_dial(port);
    for (uint64_t round = 0; round < rounds; round++) {
        (void)close(fds[round % CLIENTS]);
        fds[round % CLIENTS] = tcp_dial(port);
        for (int i = 0; i < CLIENTS; i++) {
            char byte = 0;
            tcp_send(fds[i], "a", 1);
            CHECK_EQUAL(tcp_receive(fds[i], &byte, 1), 1);
            CHECK_EQUAL(byte, 'a');
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        (void)close(fds[i]);
    WAIT_UNTIL(atomic_load(&closed_count) == rounds + CLIENTS, 10000);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shutdown_hits_its_own_connection)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
