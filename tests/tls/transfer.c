/* Goal: over TLS every byte arrives once and in order, in tiny pieces and in large amounts; a peer
 * or a user that does not read stops the flow instead of growing memory, and loses nothing.
 *
 * Method: the side under test against OpenSSL on a blocking socket; a relay between two streams
 * under test that passes on what it likes. Checksums of a known sequence on both sides.
 */
#include "tls_support.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000, CHUNK = 50000, TOTAL = 4 << 20 };

static struct side side;
static struct side other;

static rondo_loop *begin(const char *name)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    test_begin(name);
    options.workers = 2;
    return loop_begin(&options);
}

static uint64_t expected_sum(uint64_t total)
{
    static unsigned char bytes[CHUNK];
    uint64_t sum = 0;

    for (uint64_t at = 0; at < total;) {
        size_t size = total - at < CHUNK ? (size_t)(total - at) : CHUNK;
        fill_bytes(at, bytes, size);
        sum = sum_bytes(sum, bytes, size);
        at += size;
    }
    return sum;
}

/* ---- two streams under test, with a relay between ---- */

struct relay {
    pthread_t thread;
    int from[2]; /* the sockets */
    size_t piece_size;
    uint64_t passed[2];
};

/* Passes on until both have ended. */
static void *relay_main(void *arg)
{
    struct relay *relay = arg;
    bool open[2] = {true, true};
    static char bytes[65536];

    while (open[0] || open[1]) {
        struct pollfd wanted[2] = {{open[0] ? relay->from[0] : -1, POLLIN, 0},
                                   {open[1] ? relay->from[1] : -1, POLLIN, 0}};
        if (poll(wanted, 2, WAIT_MS) <= 0)
            continue;
        for (int i = 0; i < 2; i++) {
            if (!wanted[i].revents)
                continue;
            ssize_t count = recv(relay->from[i], bytes, relay->piece_size, MSG_DONTWAIT);
            if (count > 0) {
                tcp_send(relay->from[1 - i], bytes, (size_t)count);
                relay->passed[i] += (uint64_t)count;
            } else if (count == 0) {
                open[i] = false;
                (void)shutdown(relay->from[1 - i], SHUT_WR);
            }
        }
    }
    (void)close(relay->from[0]);
    (void)close(relay->from[1]);
    return NULL;
}

static void relay_begin(struct relay *relay, size_t piece_size)
{
    *relay = (struct relay){.piece_size = piece_size};
    relay->from[0] = side_dial(&side);
    relay->from[1] = side_dial(&other);
    CHECK_EQUAL(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
}

/* Both are rondo's; the relay cuts the ciphertext into pieces. */
static void exchange(size_t piece_size, uint64_t total)
{
    struct relay relay;
    static unsigned char bytes[CHUNK];
    rondo_loop *loop = begin("relay");

    side_begin(&side, loop, true, NULL);
    side_begin(&other, loop, false, NULL);
    atomic_store(&side.echo, true);
    relay_begin(&relay, piece_size);
    rondo_tls *tls = atomic_load(&other.tls);
    for (uint64_t at = 0; at < total;) {
        size_t size = total - at < CHUNK ? (size_t)(total - at) : CHUNK;
        fill_bytes(at, bytes, size);
        CHECK_EQUAL(rondo_tls_write(tls, bytes, size), 0);
        at += size;
        WAIT_UNTIL(rondo_tls_write_queued(tls) < CHUNK * 4, WAIT_MS);
    }
    WAIT_UNTIL(atomic_load(&other.received) == total, WAIT_MS);
    assert_true(atomic_load(&other.sum) == expected_sum(total));
    assert_true(atomic_load(&side.sum) == expected_sum(total));
    assert_int_equal(rondo_tls_write_queued(tls), 0);
    /* Each sees the other's close_notify: one closes, the other by its end handler. */
    assert_int_equal(rondo_tls_close(tls), 0);
    WAIT_UNTIL(atomic_load(&side.ended) == 1, WAIT_MS);
    side_closed(&side);
    side_closed(&other);
    assert_int_equal(side.error, 0);
    assert_int_equal(other.error, 0);
    CHECK_EQUAL(pthread_join(relay.thread, NULL), 0);
    assert_true(relay.passed[0] > total && relay.passed[1] > total);
    side_end(&side);
    side_end(&other);
    rondo_loop_free(loop);
}

static void large_pieces(void **state)
{
    (void)state;
    exchange(65536, TEST_SANITIZED ? TOTAL / 4 : TOTAL);
}

static void pieces_of_one_byte(void **state)
{
    (void)state;
    exchange(1, TEST_SANITIZED ? 500 : 2000);
}

static void odd_pieces(void **state)
{
    (void)state;
    exchange(37, TEST_SANITIZED ? 5000 : 40000);
}

/* ---- large amounts both ways through tiny socket buffers ---- */

struct sender {
    pthread_t thread;
    rondo_tls *tls;
    uint64_t total;
};

/* Writes from a thread outside the loop. */
static void *sender_main(void *arg)
{
    struct sender *sender = arg;
    static unsigned char bytes[CHUNK];

    for (uint64_t at = 0; at < sender->total;) {
        size_t size = sender->total - at < CHUNK ? (size_t)(sender->total - at) : CHUNK;
        fill_bytes(at, bytes, size);
        CHECK_EQUAL(rondo_tls_write(sender->tls, bytes, size), 0);
        at += size;
    }
    return NULL;
}

static void both_ways_through_tiny_buffers(void **state)
{
    (void)state;
    const uint64_t total = TEST_SANITIZED ? 300000 : 2000000;
    rondo_loop *loop = begin("tiny buffers");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[CHUNK];

    side_begin(&side, loop, true, NULL);
    SSL *peer = peer_connect(ctx, side_dial_tiny(&side));
    struct sender sender = {.tls = atomic_load(&side.tls), .total = total};
    /* No pause, so that neither waits for the other to read. */
    assert_int_equal(rondo_tls_set_watermarks(sender.tls, 1, SIZE_MAX), 0);
    CHECK_EQUAL(pthread_create(&sender.thread, NULL, sender_main, &sender), 0);
    uint64_t got = 0;
    uint64_t sum = 0;
    for (uint64_t sent = 0; sent < total || got < total;) {
        size_t size = total - sent < 3000 ? (size_t)(total - sent) : 3000;
        if (size > 0) {
            fill_bytes(sent, bytes, size);
            CHECK_EQUAL(SSL_write(peer, bytes, (int)size), size);
            sent += size;
        }
        size_t count = total - got < 3000 ? (size_t)(total - got) : 3000;
        if (count > 0) {
            peer_read(peer, bytes, count);
            sum = sum_bytes(sum, bytes, count);
            got += count;
        }
    }
    assert_true(sum == expected_sum(total));
    WAIT_UNTIL(atomic_load(&side.received) == total, WAIT_MS);
    assert_true(atomic_load(&side.sum) == expected_sum(total));
    CHECK_EQUAL(pthread_join(sender.thread, NULL), 0);
    assert_int_equal(rondo_tls_close(atomic_load(&side.tls)), 0);
    assert_true(peer_read_end(peer));
    peer_close(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- order ---- */

enum { WRITERS = 4, LINES = 300 };

static void *writer_main(void *arg)
{
    struct sender *writer = arg;

    for (uint32_t i = 0; i < LINES; i++) {
        uint32_t line[2] = {(uint32_t)writer->total, i};
        CHECK_EQUAL(rondo_tls_write(writer->tls, line, sizeof(line)), 0);
    }
    return NULL;
}

/* Writes of several threads are whole, and in order for each. */
static void writes_of_several_threads(void **state)
{
    (void)state;
    rondo_loop *loop = begin("writers");
    SSL_CTX *ctx = peer_client_ctx();
    struct sender writers[WRITERS];
    uint32_t next[WRITERS] = {0};

    side_begin(&side, loop, true, NULL);
    int fd = side_dial(&side);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct sender){.tls = atomic_load(&side.tls), .total = i};
        CHECK_EQUAL(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
    SSL *peer = peer_connect(ctx, fd); /* They may well begin before the handshake. */
    for (uint32_t i = 0; i < WRITERS * LINES; i++) {
        uint32_t line[2];
        peer_read(peer, line, sizeof(line));
        CHECK(line[0] < WRITERS);
        CHECK_EQUAL(line[1], next[line[0]]++);
    }
    for (uint32_t i = 0; i < WRITERS; i++)
        CHECK_EQUAL(pthread_join(writers[i].thread, NULL), 0);
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* Writes of one callback, of which some have to wait and some need not. */
static void on_read_writes(rondo_tls *tls, const void *data, size_t size, void *ctx)
{
    const size_t sizes[] = {10, CHUNK, 1, 16384, 16385, 7, CHUNK, 3};
    static unsigned char bytes[CHUNK];
    uint64_t at = 0;

    (void)data;
    (void)ctx;
    CHECK_EQUAL(size, 2);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill_bytes(at, bytes, sizes[i]);
        CHECK_EQUAL(rondo_tls_write(tls, bytes, sizes[i]), 0);
        at += sizes[i];
    }
    CHECK_EQUAL(rondo_tls_close(tls), 0);
}

static void writes_of_one_callback(void **state)
{
    (void)state;
    static const struct rondo_tls_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read_writes,
    };
    enum { SIZE = 10 + CHUNK + 1 + 16384 + 16385 + 7 + CHUNK + 3 };
    rondo_loop *loop = begin("writes of one callback");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[SIZE];

    side_begin(&side, loop, true, NULL);
    side.handlers = &handlers;
    SSL *peer = peer_connect(ctx, side_dial(&side));
    CHECK_EQUAL(SSL_write(peer, "go", 2), 2);
    peer_read(peer, bytes, SIZE);
    assert_true(sum_bytes(0, bytes, SIZE) == expected_sum(SIZE));
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    rondo_tls_unref(atomic_load(&side.tls));
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- peers that do not read ---- */

static void a_peer_that_never_reads(void **state)
{
    (void)state;
    enum { QUEUE_MAX = 3 << 20, HIGH = 500000, LOW = 100000 };
    rondo_loop *loop = begin("never reads");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[CHUNK];
    uint64_t accepted = 0;
    uint64_t sum = 0;

    side_begin(&side, loop, true, NULL);
    side.options.write_queue_max = QUEUE_MAX;
    SSL *peer = peer_connect(ctx, side_dial_tiny(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    assert_int_equal(rondo_tls_set_watermarks(tls, LOW, HIGH), 0);
    int error = 0;
    while (!error) { /* The sending of the kernel takes some megabytes at most. */
        CHECK(accepted < UINT64_C(1) << 28);
        fill_bytes(accepted, bytes, CHUNK);
        error = rondo_tls_write(tls, bytes, CHUNK);
        accepted += error ? 0 : CHUNK;
    }
    assert_int_equal(error, -ENOBUFS);
    assert_true(rondo_tls_write_queued(tls) <= QUEUE_MAX);
    /* What waits, waits as plaintext: the stream holds little. */
    assert_true(rondo_stream_write_queued(rondo_tls_stream(tls)) < 256 * 1024);
    unsigned drained = atomic_load(&side.drained);
    for (uint64_t got = 0; got < accepted; got += CHUNK) {
        peer_read(peer, bytes, CHUNK);
        sum = sum_bytes(sum, bytes, CHUNK);
    }
    assert_true(sum == expected_sum(accepted));
    WAIT_UNTIL(atomic_load(&side.drained) == drained + 1, WAIT_MS);
    WAIT_UNTIL(rondo_tls_write_queued(tls) == 0, WAIT_MS);
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* A user that does not read stops the peer; nothing is lost. */
static void reading_pauses(void **state)
{
    (void)state;
    enum { SIZE = 64 * 1024, STALL_MS = 300 };
    rondo_loop *loop = begin("pause");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[SIZE];
    uint64_t sent = 0;
    uint64_t sum = 0;

    side_begin(&side, loop, true, NULL);
    int fd = side_dial(&side);
    SSL *peer = peer_connect(ctx, fd);
    side_check_echo(&side, peer, "x");
    rondo_tls *tls = atomic_load(&side.tls);
    atomic_store(&side.echo, false);
    atomic_store(&side.received, 0);
    atomic_store(&side.sum, 0);
    assert_int_equal(rondo_tls_read_stop(tls), 0);
    struct pollfd writable = {fd, POLLOUT, 0};
    while (poll(&writable, 1, STALL_MS * (TEST_SANITIZED ? 3 : 1)) == 1) {
        size_t count = 0;
        fill_bytes(sent, bytes, 1024);
        CHECK_EQUAL(SSL_write_ex(peer, bytes, 1024, &count), 1);
        sum = sum_bytes(sum, bytes, count);
        sent += count;
        CHECK(sent < UINT64_C(1) << 28);
    }
    assert_int_equal(atomic_load(&side.received), 0);
    assert_int_equal(rondo_tls_read_start(tls), 0);
    WAIT_UNTIL(atomic_load(&side.received) == sent, WAIT_MS);
    assert_true(atomic_load(&side.sum) == sum);
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- TLS that begins later ---- */

static rondo_tls *upgraded; /* written and read in the stream's strand */

static void plain_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    if (upgraded) {
        rondo_tls_stream_handlers()->read(stream, data, size, upgraded);
        return;
    }
    side.options.started = true;
    CHECK_EQUAL(size, 8);
    CHECK_EQUAL(memcmp(data, "STARTTLS", 8), 0);
    CHECK_EQUAL(rondo_stream_write(stream, "GO", 2), 0);
    CHECK_EQUAL(
        rondo_tls_start(stream, side.config, &side.options, &side_handlers, &side, &upgraded), 0);
    atomic_store(&side.tls, upgraded);
}

static void plain_end(rondo_stream *stream, void *ctx)
{
    (void)ctx;
    rondo_tls_stream_handlers()->end(stream, upgraded);
}

static void plain_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)ctx;
    rondo_tls_stream_handlers()->closed(stream, error, upgraded);
}

static void plain_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = plain_read,
        .end = plain_end,
        .closed = plain_closed,
    };

    (void)listener;
    CHECK(atomic_load(&side.dialled) > 0);
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, ctx), 0);
    atomic_fetch_add(&side.started, 1);
}

static void tls_after_plain_words(void **state)
{
    (void)state;
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = plain_accepted,
    };
    rondo_loop *loop = begin("STARTTLS");
    SSL_CTX *ctx = peer_client_ctx();
    char answer[2];

    side_begin(&side, loop, true, NULL);
    CHECK_EQUAL(rondo_listener_close(side.listener), 0);
    side.listener = listen_local(loop, &handlers, NULL);
    int fd = side_dial(&side);
    tcp_send(fd, "STARTTLS", 8);
    CHECK_EQUAL(tcp_receive(fd, answer, 2), 2);
    SSL *peer = peer_connect(ctx, fd);
    side_check_echo(&side, peer, "hello");
    peer_close(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_pieces),
        cmocka_unit_test(pieces_of_one_byte),
        cmocka_unit_test(odd_pieces),
        cmocka_unit_test(both_ways_through_tiny_buffers),
        cmocka_unit_test(writes_of_several_threads),
        cmocka_unit_test(writes_of_one_callback),
        cmocka_unit_test(a_peer_that_never_reads),
        cmocka_unit_test(reading_pauses),
        cmocka_unit_test(tls_after_plain_words),
    };

    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
