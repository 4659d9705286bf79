/* Goal: operations on a TLS stream keep the contract of op.h: done once, with what happened; a
 * deadline and a cancel end them and lose no byte; a close, a failure and a stop end them all.
 *
 * Method: a stream without handlers against OpenSSL on a blocking socket; every done is counted.
 * Last a storm: reads and writes with cancels at random moments, and the bytes they say they moved
 * are compared with those that the peer saw.
 */
#include "tls_support.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static struct side side;

struct end {
    atomic_uint count;
    int64_t value;
    uint64_t bytes;
    rondo_handle handle;
};

static void on_done(const struct rondo_result *result, void *ctx)
{
    struct end *end = ctx;

    CHECK_EQUAL(atomic_load(&end->count), 0);
    end->value = result->value;
    end->bytes = result->bytes;
    atomic_store(&end->count, 1);
}

static int64_t wait_end(struct end *end)
{
    WAIT_UNTIL(atomic_load(&end->count) == 1, WAIT_MS);
    return end->value;
}

static int64_t read_some(void *buffer, size_t size)
{
    struct end end = {0};

    CHECK_EQUAL(rondo_tls_read(atomic_load(&side.tls), buffer, size,
                               &RONDO_REQUEST(.done = on_done, .ctx = &end)),
                0);
    return wait_end(&end);
}

static void on_closed(rondo_tls *tls, int error, void *ctx)
{
    struct side *of = ctx;

    (void)tls;
    of->error = error;
    atomic_fetch_add(&of->closed, 1);
}

/* All but closed is left to operations. */
static const struct rondo_tls_handlers closed_only = {
    .size = sizeof(closed_only),
    .closed = on_closed,
};

static rondo_loop *begin(const char *name, bool is_server)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    test_begin(name);
    options.workers = 3;
    rondo_loop *loop = loop_begin(&options);
    side_begin(&side, loop, is_server, NULL);
    side.handlers = &closed_only;
    return loop;
}

static void finish(rondo_loop *loop, SSL_CTX *ctx)
{
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- handshake ---- */

static void handshake_is_waited_for(void **state)
{
    (void)state;
    rondo_loop *loop = begin("handshake operation", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end ends[4] = {0};

    int fd = side_dial(&side);
    rondo_tls *tls = atomic_load(&side.tls);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(rondo_tls_handshake(tls, &RONDO_REQUEST(.done = on_done, .ctx = &ends[i])), 0);
    CHECK_EQUAL(rondo_tls_handshake(tls, &RONDO_REQUEST(.done = on_done, .ctx = &ends[2],
                                                        .deadline_ns = rondo_now_ns() + 10 * MS)),
                0);
    assert_int_equal(wait_end(&ends[2]), -ETIMEDOUT); /* Of the waiting only. */
    SSL *peer = peer_connect(ctx, fd);
    assert_int_equal(wait_end(&ends[0]), 0);
    assert_int_equal(wait_end(&ends[1]), 0);
    CHECK_EQUAL(rondo_tls_handshake(tls, &RONDO_REQUEST(.done = on_done, .ctx = &ends[3])), 0);
    assert_int_equal(wait_end(&ends[3]), 0); /* It was done before. */
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    finish(loop, ctx);
}

static void failed_handshake_ends_all(void **state)
{
    (void)state;
    rondo_loop *loop = begin("failed handshake", true);
    struct end ends[3] = {0};
    char byte;

    int fd = side_dial(&side);
    rondo_tls *tls = atomic_load(&side.tls);
    CHECK_EQUAL(rondo_tls_handshake(tls, &RONDO_REQUEST(.done = on_done, .ctx = &ends[0])), 0);
    CHECK_EQUAL(rondo_tls_read(tls, &byte, 1, &RONDO_REQUEST(.done = on_done, .ctx = &ends[1])), 0);
    CHECK_EQUAL(rondo_tls_write_all(tls, "x", 1, &RONDO_REQUEST(.done = on_done, .ctx = &ends[2])),
                0);
    tcp_send(fd, "no TLS at all", 13);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wait_end(&ends[i]), -EPROTO);
        assert_int_equal(ends[i].bytes, 0);
    }
    assert_int_equal(rondo_tls_handshake(tls, &RONDO_REQUEST(.done = on_done, .ctx = &ends[0])),
                     -EBADF);
    (void)close(fd);
    side_closed(&side);
    assert_int_equal(side.error, -EPROTO);
    finish(loop, NULL);
}

/* ---- reading ---- */

static void reads_in_order_to_the_end(void **state)
{
    (void)state;
    rondo_loop *loop = begin("reads", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end ends[3] = {0};
    char parts[3][2];
    char rest[64];

    int fd = side_dial(&side);
    rondo_tls *tls = atomic_load(&side.tls);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(
            rondo_tls_read(tls, parts[i], 2, &RONDO_REQUEST(.done = on_done, .ctx = &ends[i])), 0);
    SSL *peer = peer_connect(ctx, fd);
    CHECK_EQUAL(SSL_write(peer, "abcdefghij", 10), 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_end(&ends[i]), 2);
    assert_memory_equal(parts, "abcdef", 6);
    assert_int_equal(read_some(rest, sizeof(rest)), 4);
    assert_memory_equal(rest, "ghij", 4);
    CHECK(SSL_shutdown(peer) >= 0);
    assert_int_equal(read_some(rest, sizeof(rest)), 0);
    assert_int_equal(read_some(rest, sizeof(rest)), 0);
    /* Without handlers the end does not close: writing goes on. */
    struct end end = {0};
    CHECK_EQUAL(rondo_tls_write_all(tls, "late", 4, &RONDO_REQUEST(.done = on_done, .ctx = &end)),
                0);
    assert_int_equal(wait_end(&end), 4);
    peer_read(peer, rest, 4);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    finish(loop, ctx);
}

static void cancelled_read_takes_nothing(void **state)
{
    (void)state;
    rondo_loop *loop = begin("cancelled reads", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end ends[3] = {0};
    char bytes[8];

    SSL *peer = peer_connect(ctx, side_dial(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    CHECK_EQUAL(rondo_tls_read(tls, bytes, 8,
                               &RONDO_REQUEST(.done = on_done, .ctx = &ends[0],
                                              .ret_handle = &ends[0].handle)),
                0);
    assert_int_equal(rondo_cancel(ends[0].handle), RONDO_CANCEL_IN_FLIGHT);
    assert_int_equal(wait_end(&ends[0]), -ECANCELED);
    WAIT_UNTIL(rondo_cancel(ends[0].handle) == RONDO_CANCEL_FINISHED, WAIT_MS);
    uint64_t deadlines[] = {1, rondo_now_ns() + 20 * MS}; /* past, soon */
    for (int i = 1; i < 3; i++) {
        CHECK_EQUAL(rondo_tls_read(tls, bytes, 8,
                                   &RONDO_REQUEST(.done = on_done, .ctx = &ends[i],
                                                  .deadline_ns = deadlines[i - 1])),
                    0);
        assert_int_equal(wait_end(&ends[i]), -ETIMEDOUT);
        assert_int_equal(ends[i].bytes, 0);
    }
    assert_true(rondo_now_ns() >= deadlines[1]);
    CHECK_EQUAL(SSL_write(peer, "all of it", 9), 9);
    assert_int_equal(read_some(bytes, 8), 8);
    assert_int_equal(read_some(bytes, 8), 1);
    CHECK(SSL_shutdown(peer) >= 0);
    assert_int_equal(read_some(bytes, 8), 0);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    finish(loop, ctx);
}

/* Reads that are smaller than the records, while more arrives. */
static void small_reads_of_many_records(void **state)
{
    (void)state;
    enum { RECORD = 300, RECORDS = 600, READ = 170 };
    rondo_loop *loop = begin("small reads", true);
    SSL_CTX *ctx = peer_client_ctx();
    unsigned char record[RECORD];
    unsigned char bytes[READ];
    unsigned char expected[READ];
    uint64_t got = 0;

    SSL *peer = peer_connect(ctx, side_dial(&side));
    for (uint64_t sent = 0; sent < RECORDS * RECORD; sent += RECORD) {
        fill_bytes(sent, record, RECORD);
        CHECK_EQUAL(SSL_write(peer, record, RECORD), RECORD);
        int64_t count = read_some(bytes, READ);
        CHECK(count > 0);
        fill_bytes(got, expected, (size_t)count);
        CHECK_EQUAL(memcmp(bytes, expected, (size_t)count), 0);
        got += (uint64_t)count;
    }
    CHECK(SSL_shutdown(peer) >= 0);
    for (int64_t count; (count = read_some(bytes, READ)) > 0; got += (uint64_t)count) {
        fill_bytes(got, expected, (size_t)count);
        CHECK_EQUAL(memcmp(bytes, expected, (size_t)count), 0);
    }
    assert_int_equal(got, RECORDS * RECORD);
    CHECK_EQUAL(rondo_tls_close(atomic_load(&side.tls)), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    finish(loop, ctx);
}

/* ---- writing ---- */

static void lent_write_ends_when_it_is_out(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    rondo_loop *loop = begin("lent writes", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end end = {0};
    unsigned char *sent = malloc(SIZE);
    unsigned char *got = malloc(SIZE);

    CHECK(sent && got);
    fill_bytes(0, sent, SIZE);
    SSL *peer = peer_connect(ctx, side_dial(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    CHECK_EQUAL(rondo_tls_write(tls, sent, 10), 0);
    CHECK_EQUAL(rondo_tls_write_all(tls, sent + 10, SIZE - 20,
                                    &RONDO_REQUEST(.done = on_done, .ctx = &end)),
                0);
    CHECK_EQUAL(rondo_tls_write(tls, sent + SIZE - 10, 10), 0);
    peer_read(peer, got, SIZE);
    assert_memory_equal(got, sent, SIZE);
    assert_int_equal(wait_end(&end), SIZE - 20);
    assert_int_equal(end.bytes, SIZE - 20);
    WAIT_UNTIL(rondo_tls_write_queued(tls) == 0, WAIT_MS);
    CHECK(SSL_shutdown(peer) >= 0);
    assert_int_equal(read_some(got, 1), 0);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    free(sent);
    free(got);
    finish(loop, ctx);
}

/* A cancel, too, brings the queue below its mark: reading goes on and drained is told. */
static void cancelled_write_lets_reading_go_on(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    struct rondo_tls_handlers handlers = closed_only;
    rondo_loop *loop = begin("cancelled write", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end end = {0};
    unsigned char *bytes = calloc(1, SIZE);
    char word[4];

    CHECK(bytes);
    handlers.drained = side_handlers.drained;
    side.handlers = &handlers;
    int fd = side_dial(&side);
    rondo_tls *tls = atomic_load(&side.tls);
    CHECK_EQUAL(rondo_tls_write_all(
                    tls, bytes, SIZE,
                    &RONDO_REQUEST(.done = on_done, .ctx = &end, .ret_handle = &end.handle)),
                0);
    assert_int_equal(rondo_tls_write_queued(tls), SIZE);
    assert_int_equal(rondo_cancel(end.handle), RONDO_CANCEL_IN_FLIGHT);
    assert_int_equal(wait_end(&end), -ECANCELED);
    assert_int_equal(end.bytes, 0);
    assert_int_equal(rondo_tls_write_queued(tls), 0);
    SSL *peer = peer_connect(ctx, fd);
    CHECK_EQUAL(SSL_write(peer, "word", 4), 4);
    assert_int_equal(read_some(word, 4), 4);
    assert_int_equal(atomic_load(&side.drained), 1);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    free(bytes);
    finish(loop, ctx);
}

static void write_to_a_deaf_peer_is_given_up(void **state)
{
    (void)state;
    enum { SIZE = 16 << 20 };
    rondo_loop *loop = begin("deaf peer", true);
    SSL_CTX *ctx = peer_client_ctx();
    struct end ends[2] = {0};
    unsigned char *sent = malloc(SIZE);
    unsigned char *got = malloc(SIZE);

    CHECK(sent && got);
    fill_bytes(0, sent, SIZE);
    SSL *peer = peer_connect(ctx, side_dial(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(rondo_tls_write_all(tls, sent, SIZE,
                                        &RONDO_REQUEST(.done = on_done, .ctx = &ends[i],
                                                       .deadline_ns = rondo_now_ns() + 200 * MS)),
                    0);
    assert_int_equal(wait_end(&ends[0]), -ETIMEDOUT);
    assert_int_equal(wait_end(&ends[1]), -ETIMEDOUT);
    assert_true(ends[0].bytes > 0 && ends[0].bytes < SIZE);
    assert_int_equal(ends[1].bytes, 0);
    /* What it says went out, goes out; nothing of the rest. */
    CHECK_EQUAL(rondo_tls_write(tls, "end", 3), 0);
    peer_read(peer, got, ends[0].bytes);
    assert_memory_equal(got, sent, ends[0].bytes);
    peer_read(peer, got, 3);
    assert_memory_equal(got, "end", 3);
    WAIT_UNTIL(rondo_tls_write_queued(tls) == 0, WAIT_MS);
    CHECK_EQUAL(rondo_tls_abort(tls), 0);
    peer_drop(peer);
    side_closed(&side);
    free(sent);
    free(got);
    finish(loop, ctx);
}

/* ---- ends of the connection ---- */

enum how { BY_CLOSE, BY_ABORT, BY_TRUNCATION, BY_RESET, BY_STOP, HOWS };

static void every_end_ends_them(void **state)
{
    (void)state;
    const int errors[HOWS] = {-ECANCELED, -ECANCELED, -ECONNABORTED, -ECONNRESET, -ECANCELED};

    for (int how = 0; how < HOWS; how++) {
        rondo_loop *loop = begin("ends", true);
        SSL_CTX *ctx = peer_client_ctx();
        struct end ends[2] = {0};
        char bytes[2];
        SSL *peer = peer_connect(ctx, side_dial(&side));
        rondo_tls *tls = atomic_load(&side.tls);
        for (int i = 0; i < 2; i++)
            CHECK_EQUAL(
                rondo_tls_read(tls, &bytes[i], 1, &RONDO_REQUEST(.done = on_done, .ctx = &ends[i])),
                0);
        int fd = SSL_get_fd(peer);
        if (how == BY_CLOSE)
            CHECK_EQUAL(rondo_tls_close(tls), 0);
        else if (how == BY_ABORT)
            CHECK_EQUAL(rondo_tls_abort(tls), 0);
        else if (how == BY_TRUNCATION)
            CHECK_EQUAL(shutdown(fd, SHUT_WR), 0);
        else if (how == BY_STOP)
            CHECK_EQUAL(rondo_loop_stop(loop), 0);
        if (how == BY_RESET) {
            SSL_free(peer);
            tcp_reset(fd);
        }
        for (int i = 0; i < 2; i++) {
            int64_t value = wait_end(&ends[i]);
            /* The kernel tells a reset once: a send that is under way may be the one that hears it,
             * and the receive then sees a mere end. */
            if (how != BY_RESET || value != -ECONNABORTED)
                assert_int_equal(value, errors[how]);
            assert_int_equal(ends[i].bytes, 0);
        }
        if (how != BY_RESET)
            peer_drop(peer);
        WAIT_UNTIL(atomic_load(&side.closed) == 1, WAIT_MS);
        if (how == BY_STOP)
            CHECK_EQUAL(rondo_loop_wait(loop), 0);
        assert_int_equal(
            rondo_tls_read(tls, bytes, 1, &RONDO_REQUEST(.done = on_done, .ctx = &ends[0])),
            -EBADF);
        rondo_tls_unref(tls);
        if (how != BY_STOP)
            CHECK_EQUAL(rondo_listener_close(side.listener), 0);
        rondo_tls_config_unref(side.config);
        SSL_CTX_free(ctx);
        rondo_loop_free(loop);
    }
}

/* ---- the storm ---- */

enum { STORM = 600, PIECE = 3000, READ_SIZE = 1000, DEADLINE_NS = 400000 };

/* The peer sends what it gets back. */
static void cancels_at_random(void **state)
{
    (void)state;
    uint64_t random = test_begin("storm");
    rondo_loop *loop = begin("storm", true);
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[PIECE];
    static unsigned char reads[STORM][READ_SIZE];
    static struct end ends[2][STORM];
    uint64_t rounds = test_scaled(STORM) < STORM ? test_scaled(STORM) : STORM;
    uint64_t cancelled = 0;
    uint64_t done = 0;
    uint64_t out = 0;
    uint64_t in = 0;

    memset(ends, 0, sizeof(ends));
    SSL *peer = peer_connect(ctx, side_dial(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    for (uint64_t i = 0; i < rounds; i++) {
        struct end *read = &ends[0][i];
        struct end *write = &ends[1][i];
        uint64_t now = rondo_now_ns();
        CHECK_EQUAL(SSL_write(peer, bytes, 700), 700);
        CHECK_EQUAL(
            rondo_tls_read(tls, reads[i], READ_SIZE,
                           &RONDO_REQUEST(.done = on_done, .ctx = read, .ret_handle = &read->handle,
                                          .deadline_ns = now + random_below(&random, DEADLINE_NS))),
            0);
        CHECK_EQUAL(rondo_tls_write_all(
                        tls, bytes, PIECE,
                        &RONDO_REQUEST(.done = on_done, .ctx = write, .ret_handle = &write->handle,
                                       .deadline_ns = now + random_below(&random, DEADLINE_NS))),
                    0);
        if (random_below(&random, 3) == 0)
            CHECK(rondo_cancel(read->handle) >= 0);
        if (random_below(&random, 3) == 0)
            CHECK(rondo_cancel(write->handle) >= 0);
        for (int k = 0; k < 2; k++) {
            int64_t value = wait_end(&ends[k][i]);
            CHECK(value > 0 || value == -ECANCELED || value == -ETIMEDOUT);
            CHECK(value < 0 || value == (int64_t)ends[k][i].bytes);
            cancelled += value < 0;
            done += value > 0;
        }
        in += read->bytes;
        out += write->bytes;
        for (uint64_t at = 0; at < write->bytes;) {
            uint64_t size = write->bytes - at < PIECE ? write->bytes - at : PIECE;
            peer_read(peer, bytes, size);
            at += size;
        }
    }
    /* Nothing more comes than was said; what was not read by a cancelled one is still there. */
    CHECK_EQUAL(SSL_shutdown(peer), 0);
    for (int64_t count = 1; count > 0; in += (uint64_t)count) {
        count = read_some(reads[0], READ_SIZE);
        CHECK(count >= 0);
    }
    assert_true(in == rounds * 700);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    fprintf(stderr, "%llu done, %llu given up, %llu bytes out\n", (unsigned long long)done,
            (unsigned long long)cancelled, (unsigned long long)out);
    assert_true(done > 0 && cancelled > 0);
    finish(loop, ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_is_waited_for),
        cmocka_unit_test(failed_handshake_ends_all),
        cmocka_unit_test(reads_in_order_to_the_end),
        cmocka_unit_test(cancelled_read_takes_nothing),
        cmocka_unit_test(small_reads_of_many_records),
        cmocka_unit_test(lent_write_ends_when_it_is_out),
        cmocka_unit_test(cancelled_write_lets_reading_go_on),
        cmocka_unit_test(write_to_a_deaf_peer_is_given_up),
        cmocka_unit_test(every_end_ends_them),
        cmocka_unit_test(cancels_at_random),
    };

    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
