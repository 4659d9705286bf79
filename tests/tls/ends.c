/* Goal: a TLS stream ends as its user, its peer or the loop ended it, and says so; what was written
 * before a close arrives, and a close takes no longer than it may.
 *
 * Method: the side under test against OpenSSL on a blocking socket, which tells close_notify from a
 * connection that just ends.
 */
#include "tls_support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static struct side side;

static rondo_loop *begin(const char *name)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    test_begin(name);
    options.workers = 2;
    return loop_begin(&options);
}

/* ---- ends ---- */

static void truncation_is_told(void **state)
{
    (void)state;
    rondo_loop *loop = begin("truncation");
    SSL_CTX *ctx = peer_client_ctx();

    side_begin(&side, loop, true, NULL);
    SSL *peer = peer_connect(ctx, side_dial(&side));
    side_check_echo(&side, peer, "hello");
    (void)shutdown(SSL_get_fd(peer), SHUT_WR); /* The end of TCP, and none of TLS. */
    side_closed(&side);
    assert_int_equal(side.error, -ECONNABORTED);
    assert_non_null(strstr(side.error_text, "without close_notify"));
    assert_int_equal(atomic_load(&side.ended), 0);
    peer_drop(peer);

    peer = peer_connect(ctx, side_dial(&side));
    side_check_echo(&side, peer, "hello");
    int fd = SSL_get_fd(peer);
    SSL_free(peer);
    tcp_reset(fd);
    side_closed(&side);
    assert_int_equal(side.error, -ECONNRESET);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

static void on_end_keeps_writing(rondo_tls *tls, void *ctx)
{
    struct side *of = ctx;

    CHECK_EQUAL(rondo_tls_write(tls, "after", 5), 0);
    CHECK_EQUAL(rondo_tls_close(tls), 0);
    CHECK_EQUAL(rondo_tls_close(tls), -EALREADY);
    CHECK_EQUAL(rondo_tls_write(tls, "x", 1), -EBADF);
    CHECK_EQUAL(rondo_tls_shutdown(tls), -EBADF);
    atomic_fetch_add(&of->ended, 1);
}

/* Half close in both directions: the other direction goes on. */
static void half_close(void **state)
{
    (void)state;
    struct rondo_tls_handlers handlers = side_handlers;
    rondo_loop *loop = begin("half close");
    SSL_CTX *ctx = peer_client_ctx();
    char answer[16] = "";

    handlers.end = on_end_keeps_writing;
    side_begin(&side, loop, true, NULL);
    side.handlers = &handlers;
    SSL *peer = peer_connect(ctx, side_dial(&side));
    CHECK_EQUAL(SSL_write(peer, "before", 6), 6);
    CHECK(SSL_shutdown(peer) >= 0);
    peer_read(peer, answer, 5);
    assert_string_equal(answer, "after");
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    assert_int_equal(atomic_load(&side.received), 6);

    side.handlers = &side_handlers;
    peer = peer_connect(ctx, side_dial(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    assert_int_equal(rondo_tls_write(tls, "last", 4), 0);
    assert_int_equal(rondo_tls_shutdown(tls), 0);
    assert_int_equal(rondo_tls_shutdown(tls), -EALREADY);
    assert_int_equal(rondo_tls_write(tls, "x", 1), -EPIPE);
    peer_read(peer, answer, 4);
    assert_true(peer_read_end(peer));
    CHECK_EQUAL(SSL_write(peer, "still here", 10), 10);
    WAIT_UNTIL(atomic_load(&side.received) == 16, WAIT_MS);
    peer_close(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* All that was written before a close arrives, also when it was written before the handshake and
 * the peer goes on sending. */
static void close_delivers_what_was_written(void **state)
{
    (void)state;
    enum { SIZE = 200000 };
    rondo_loop *loop = begin("close");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[SIZE];
    static unsigned char sent[SIZE];

    fill_bytes(0, sent, SIZE);
    side_begin(&side, loop, true, NULL);
    for (int i = 0; i < 10; i++) {
        int fd = side_dial(&side);
        rondo_tls *tls = atomic_load(&side.tls);
        assert_int_equal(rondo_tls_write(tls, sent, SIZE), 0);
        assert_int_equal(rondo_tls_close(tls), 0);
        SSL *peer = peer_connect(ctx, fd);
        CHECK_EQUAL(SSL_write(peer, "what nobody will read", 21), 21);
        peer_read(peer, bytes, SIZE);
        assert_memory_equal(bytes, sent, SIZE);
        assert_true(peer_read_end(peer));
        peer_drop(peer);
        side_closed(&side);
        assert_int_equal(side.error, 0);
    }
    /* With nothing written, a close does not wait for a handshake. */
    int fd = side_dial(&side);
    assert_int_equal(rondo_tls_close(atomic_load(&side.tls)), 0);
    char byte;
    CHECK_EQUAL(recv(fd, &byte, 1, 0), 0);
    (void)close(fd);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* A peer that first sends all it has, and only then reads, does not hold a close up. */
static void close_drops_what_arrives(void **state)
{
    (void)state;
    enum { SIZE = 12 << 20, SENT = 12 << 20 };
    rondo_loop *loop = begin("close while the peer sends");
    SSL_CTX *ctx = peer_client_ctx();
    unsigned char *bytes = calloc(1, SENT);
    size_t count = 0;

    CHECK(bytes);
    side_begin(&side, loop, true, NULL);
    SSL *peer = peer_connect(ctx, side_dial_tiny(&side));
    rondo_tls *tls = atomic_load(&side.tls);
    assert_int_equal(rondo_tls_write(tls, bytes, SIZE), 0);
    assert_int_equal(rondo_tls_close(tls), 0);
    CHECK_EQUAL(SSL_write_ex(peer, bytes, SENT, &count), 1);
    peer_read(peer, bytes, SIZE);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    free(bytes);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

static void abort_drops_everything(void **state)
{
    (void)state;
    rondo_loop *loop = begin("abort");
    SSL_CTX *ctx = peer_client_ctx();

    side_begin(&side, loop, true, NULL);
    SSL *peer = peer_connect(ctx, side_dial(&side));
    assert_int_equal(rondo_tls_abort(atomic_load(&side.tls)), 0);
    assert_false(peer_read_end(peer));
    peer_drop(peer);
    side_closed(&side);
    assert_int_equal(side.error, -ECANCELED);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* A drain closes what is open; a stop cancels it. */
static void drain_and_stop(void **state)
{
    (void)state;
    for (int drain = 0; drain < 2; drain++) {
        rondo_loop *loop = begin(drain ? "drain" : "stop");
        SSL_CTX *ctx = peer_client_ctx();
        side_begin(&side, loop, true, NULL);
        SSL *peer = peer_connect(ctx, side_dial(&side));
        side_check_echo(&side, peer, "hello");
        assert_int_equal(drain ? rondo_loop_drain(loop, 10000 * MS) : rondo_loop_stop(loop), 0);
        bool notified = peer_read_end(peer);
        assert_true(notified || !drain); /* A stop may leave the time for it. */
        peer_drop(peer);
        WAIT_UNTIL(atomic_load(&side.closed) == 1, WAIT_MS);
        assert_int_equal(rondo_loop_wait(loop), 0);
        assert_int_equal(side.error, drain ? 0 : -ECANCELED);
        assert_true(atomic_load(&side.draining) == 1 || !drain);
        rondo_tls_unref(atomic_load(&side.tls));
        rondo_tls_config_unref(side.config);
        SSL_CTX_free(ctx);
        rondo_loop_free(loop);
    }
}

static void a_close_is_bounded(void **state)
{
    (void)state;
    rondo_loop *loop = begin("bounded close");
    SSL_CTX *ctx = peer_client_ctx();
    static unsigned char bytes[8 << 20];

    side_begin(&side, loop, true, NULL);
    side.options.close_timeout_ns = 100 * MS;
    SSL *peer = peer_connect(ctx, side_dial_tiny(&side));
    assert_int_equal(rondo_tls_write(atomic_load(&side.tls), bytes, sizeof(bytes)), 0);
    assert_int_equal(rondo_tls_close(atomic_load(&side.tls)), 0);
    side_closed(&side);
    assert_int_equal(side.error, -ETIMEDOUT);
    assert_non_null(strstr(side.error_text, "before the close"));
    peer_drop(peer);

    /* One that took all and never closes is left alone after a moment. */
    peer = peer_connect(ctx, side_dial(&side));
    side_check_echo(&side, peer, "hello");
    assert_int_equal(rondo_tls_close(atomic_load(&side.tls)), 0);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    assert_true(peer_read_end(peer));
    peer_drop(peer);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(truncation_is_told),
        cmocka_unit_test(half_close),
        cmocka_unit_test(close_delivers_what_was_written),
        cmocka_unit_test(close_drops_what_arrives),
        cmocka_unit_test(abort_drops_everything),
        cmocka_unit_test(drain_and_stop),
        cmocka_unit_test(a_close_is_bounded),
    };

    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
