/* Goal: a peer that never reads, or a handler that is slow, stops the flow instead of growing
 * memory, and loses nothing.
 *
 * Method: clients that send as much as the connection takes without reading; the server's queue,
 * its numbers and the memory of this process are watched. Then the client reads and compares.
 */
#include "support.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HIGH = 256 * 1024,
    BUFFER_SIZE = 8192,
    /* The limit of 32, and what a multishot receive posts before its cancel takes effect. */
    BUFFERS_IN_HAND_MAX = 96,
    RSS_GROWTH_MAX = 16 << 20,
    STALL_MS = 300, /* not a byte taken for so long: the flow has stopped */
    CHUNK = 64 * 1024,
};

static struct {
    _Atomic uint64_t queued_max;
    _Atomic uint64_t received;
    atomic_bool blocked;
    atomic_int refused;
    _Atomic uint64_t accepted_bytes;
    atomic_uint drained;
} seen;

static char byte_at(uint64_t offset)
{
    return (char)(offset * UINT64_C(2654435761) >> 24);
}

static void fill(char *data, uint64_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = byte_at(offset + i);
}

/* Sends until the peer has not taken a byte for a while: how many it took. */
static uint64_t send_until_stall(int fd)
{
    static char data[CHUNK];
    uint64_t sent = 0;

    for (;;) {
        struct pollfd writable = {fd, POLLOUT, 0};
        int ready = poll(&writable, 1, STALL_MS * (TEST_SANITIZED ? 3 : 1));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return sent;
        fill(data, sent, sizeof(data));
        ssize_t count = send(fd, data, sizeof(data), MSG_NOSIGNAL | MSG_DONTWAIT);
        CHECK(count > 0 || errno == EAGAIN);
        sent += count > 0 ? (uint64_t)count : 0;
        CHECK(sent < UINT64_C(1) << 30);
    }
}

static void expect_bytes(int fd, uint64_t size)
{
    static char data[CHUNK];
    static char expected[CHUNK];

    for (uint64_t offset = 0; offset < size;) {
        size_t wanted = size - offset < CHUNK ? (size_t)(size - offset) : CHUNK;
        CHECK_EQUAL(tcp_receive(fd, data, wanted), wanted);
        fill(expected, offset, wanted);
        CHECK_EQUAL(memcmp(data, expected, wanted), 0);
        offset += wanted;
    }
}

static uint16_t serve(rondo_loop *loop, const struct rondo_stream_handlers *handlers);

/* ---- a peer that does not read ---- */

static void on_read_echo(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    CHECK_EQUAL(rondo_stream_write(stream, data, size), 0);
    uint64_t queued = rondo_stream_write_queued(stream);
    if (queued > atomic_load(&seen.queued_max)) /* One callback at a time: no race. */
        atomic_store(&seen.queued_max, queued);
    atomic_fetch_add(&seen.received, size);
}

static void on_drained(rondo_stream *stream, void *ctx)
{
    (void)stream;
    (void)ctx;
    atomic_fetch_add(&seen.drained, 1);
}

static void a_peer_that_never_reads_stops_the_flow(void **state)
{
    (void)state;
    (void)test_begin("slow_peer, unread");
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read_echo,
        .drained = on_drained,
    };
    memset(&seen, 0, sizeof(seen));
    rondo_loop *loop = loop_begin(NULL);
    uint64_t rss = process_rss();
    int fd = tcp_dial(serve(loop, &handlers));
    uint64_t sent = send_until_stall(fd);

    fprintf(stderr, "%llu bytes sent, %llu received, at most %llu queued, memory grew %lld\n",
            (unsigned long long)sent, (unsigned long long)atomic_load(&seen.received),
            (unsigned long long)atomic_load(&seen.queued_max), (long long)(process_rss() - rss));
    CHECK(loop_stats(loop).reads_paused > 0);
    CHECK(atomic_load(&seen.queued_max) > HIGH);
    CHECK(atomic_load(&seen.queued_max) <= HIGH + BUFFERS_IN_HAND_MAX * BUFFER_SIZE);
    if (!TEST_SANITIZED)
        CHECK(process_rss() < rss + RSS_GROWTH_MAX);
    expect_bytes(fd, sent);
    WAIT_UNTIL(atomic_load(&seen.drained) > 0, 5000);
    (void)close(fd);
    rondo_loop_free(loop);
}

/* ---- a handler that does not return ---- */

static void on_read_blocked(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    uint64_t offset = atomic_load(&seen.received);

    (void)stream;
    (void)ctx;
    WAIT_UNTIL(!atomic_load(&seen.blocked), 30000);
    for (size_t i = 0; i < size; i++)
        CHECK_EQUAL(((const char *)data)[i], byte_at(offset + i));
    atomic_fetch_add(&seen.received, size);
}

static void a_slow_handler_takes_few_buffers(void **state)
{
    (void)state;
    (void)test_begin("slow_peer, handler");
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read_blocked,
    };
    memset(&seen, 0, sizeof(seen));
    atomic_store(&seen.blocked, true);
    rondo_loop *loop = loop_begin(NULL);
    int fd = tcp_dial(serve(loop, &handlers));
    uint64_t sent = send_until_stall(fd);
    struct rondo_loop_stats stats = loop_stats(loop);

    fprintf(stderr, "%llu bytes sent, %llu in hand\n", (unsigned long long)sent,
            (unsigned long long)stats.bytes_received);
    CHECK(stats.reads_paused > 0);
    CHECK(stats.bytes_received <= BUFFERS_IN_HAND_MAX * BUFFER_SIZE);
    CHECK_EQUAL(atomic_load(&seen.received), 0);
    atomic_store(&seen.blocked, false);
    WAIT_UNTIL(atomic_load(&seen.received) == sent, 10000);
    (void)close(fd);
    rondo_loop_free(loop);
}

/* ---- a server that writes more than it may ---- */

static void on_read_flood(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    static char chunk[4096];
    uint64_t max = *(uint64_t *)ctx;

    (void)data;
    (void)size;
    for (uint64_t offset = 0;; offset += sizeof(chunk)) {
        fill(chunk, offset, sizeof(chunk));
        int error = rondo_stream_write(stream, chunk, sizeof(chunk));
        CHECK(rondo_stream_write_queued(stream) <= max);
        if (error) {
            atomic_store(&seen.accepted_bytes, offset);
            atomic_store(&seen.refused, error);
            return;
        }
        CHECK(offset < UINT64_C(1) << 30);
    }
}

static uint64_t write_queue_max = 64 * 1024;

static void the_write_queue_has_a_limit(void **state)
{
    (void)state;
    (void)test_begin("slow_peer, limit");
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read_flood,
    };
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    memset(&seen, 0, sizeof(seen));
    options.write_queue_max = write_queue_max;
    rondo_loop *loop = loop_begin(&options);
    int fd = tcp_dial(serve(loop, &handlers));
    tcp_send(fd, "x", 1);
    WAIT_UNTIL(atomic_load(&seen.refused) != 0, 10000);
    CHECK_EQUAL(atomic_load(&seen.refused), -ENOBUFS);
    expect_bytes(fd, atomic_load(&seen.accepted_bytes)); /* What was accepted arrives. */
    (void)close(fd);
    rondo_loop_free(loop);
}

static void never_written(rondo_stream *stream, int result, void *ctx)
{
    (void)stream;
    (void)result;
    (void)ctx;
    check_failed(__FILE__, __LINE__, "called");
}

static void on_read_wrap(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    static const char word[] = "word";

    on_read_flood(stream, data, size, ctx);
    size_t queued = rondo_stream_write_queued(stream);
    CHECK(queued > 0); /* The kernel may take some of it meanwhile, but not half. */
    CHECK_EQUAL(rondo_stream_write_lent(stream, word, SIZE_MAX - queued / 2, never_written, NULL),
                -ENOBUFS);
    CHECK_EQUAL(rondo_stream_write_lent(stream, word, SIZE_MAX, never_written, NULL), -ENOBUFS);
    (void)rondo_stream_abort(stream);
}

/* Cause: queued + size wraps to a small sum, and the kernel is given a size that is no memory. */
static void a_size_that_wraps_the_queue_is_refused(void **state)
{
    (void)state;
    (void)test_begin("slow_peer, wrap");
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read_wrap,
    };
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    char byte;

    memset(&seen, 0, sizeof(seen));
    options.write_queue_max = write_queue_max;
    rondo_loop *loop = loop_begin(&options);
    int fd = tcp_dial(serve(loop, &handlers));
    tcp_send(fd, "x", 1);
    while (tcp_receive(fd, &byte, 1) == 1)
        ;
    (void)close(fd);
    rondo_loop_free(loop);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    CHECK_EQUAL(rondo_stream_start(stream, ctx, &write_queue_max), 0);
}

static uint16_t serve(rondo_loop *loop, const struct rondo_stream_handlers *handlers)
{
    static const struct rondo_listener_handlers listener_handlers = {
        .size = sizeof(listener_handlers),
        .accepted = on_accepted,
    };

    return listener_port(listen_local(loop, &listener_handlers, (void *)(uintptr_t)handlers));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_never_reads_stops_the_flow),
        cmocka_unit_test(a_slow_handler_takes_few_buffers),
        cmocka_unit_test(the_write_queue_has_a_limit),
        cmocka_unit_test(a_size_that_wraps_the_queue_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
