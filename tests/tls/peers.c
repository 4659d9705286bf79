/* Goal: a peer that does not play along ends its own connection only, with an error that says how;
 * what a user gets wrong is refused with words, and leaves everything as it was.
 *
 * Method: sockets that send garbage, reset, end midway, say nothing, or a byte at a time; calls
 * with wrong arguments, each with the error and the words it must give.
 */
#include "tls_support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 10000 };

static struct side side;

static rondo_loop *begin(const char *name)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    test_begin(name);
    options.workers = 2;
    return loop_begin(&options);
}

static void expect_error(int error, const char *words)
{
    side_closed(&side);
    CHECK_EQUAL(side.error, error);
    if (!strstr(side.error_text, words)) {
        fprintf(stderr, "error text: %s\n", side.error_text);
        check_failed(__FILE__, __LINE__, words);
    }
}

/* ---- peers that do not play along ---- */

static void garbage_is_refused(void **state)
{
    (void)state;
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char noise[] = "\x16\x03\x01\x00\x20"
                                "01234567890123456789012345678901";
    const struct {
        bool is_server;
        const char *bytes;
        const char *words;
        size_t answer_size; /* the client's hello, an alert */
    } cases[] = {
        {true, http, "http request", 0},
        {true, noise, "unexpected message", 7},
        {false, http, "http request", 200},
        {false, noise, "unexpected message", 200},
    };
    rondo_loop *loop = begin("garbage");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char answer[4096];
        side_begin(&side, loop, cases[i].is_server, NULL);
        int fd = side_dial(&side);
        tcp_send(fd, cases[i].bytes, cases[i].bytes == http ? sizeof(http) - 1 : sizeof(noise) - 1);
        /* To the end of an orderly close, not a reset, which could swallow the alert. */
        size_t count = tcp_receive(fd, answer, sizeof(answer));
        CHECK(count >= cases[i].answer_size && count < sizeof(answer));
        CHECK(recv(fd, answer, 1, 0) == 0);
        (void)close(fd);
        expect_error(-EPROTO, cases[i].words);
        side_end(&side);
    }
    rondo_loop_free(loop);
}

/* Goes as far as @bytes of a client's hello, then @reset or ends. */
static void break_off(size_t bytes, bool reset)
{
    SSL_CTX *ctx = peer_client_ctx();
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    SSL *peer = SSL_new(ctx);
    unsigned char hello[2048];
    int fd = side_dial(&side);

    SSL_set_bio(peer, in, out);
    SSL_set_connect_state(peer);
    CHECK(SSL_do_handshake(peer) < 0);
    CHECK(BIO_read(out, hello, sizeof(hello)) > (int)bytes);
    if (bytes > 0)
        tcp_send(fd, hello, bytes);
    if (reset) {
        tcp_reset(fd);
    } else {
        (void)shutdown(fd, SHUT_WR);
        WAIT_UNTIL(atomic_load(&side.closed) == 1, WAIT_MS);
        (void)close(fd);
    }
    SSL_free(peer);
    SSL_CTX_free(ctx);
    ERR_clear_error();
}

static void peers_that_leave_midway(void **state)
{
    (void)state;
    rondo_loop *loop = begin("midway");

    side_begin(&side, loop, true, NULL);
    break_off(0, false);
    expect_error(-ECONNABORTED, "during the handshake");
    break_off(100, false);
    expect_error(-ECONNABORTED, "during the handshake");
    break_off(100, true);
    expect_error(-ECONNRESET, "ECONNRESET");
    side_end(&side);
    rondo_loop_free(loop);
}

static void silent_peers_are_given_up(void **state)
{
    (void)state;
    rondo_loop *loop = begin("timeout");

    for (int is_server = 0; is_server < 2; is_server++) {
        side_begin(&side, loop, is_server, NULL);
        side.options.handshake_timeout_ns = 50 * MS;
        uint64_t before = rondo_now_ns();
        int fd = side_dial(&side);
        expect_error(-ETIMEDOUT, "handshake took too long");
        assert_true(rondo_now_ns() - before >= 50 * MS);
        (void)close(fd);
        side_end(&side);
    }
    rondo_loop_free(loop);
}

static void one_byte_at_a_time(void **state)
{
    (void)state;
    rondo_loop *loop = begin("one byte at a time");
    SSL_CTX *ctx = peer_client_ctx();

    side_begin(&side, loop, true, NULL);
    int fd = side_dial(&side);
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    SSL *peer = SSL_new(ctx);
    SSL_set_bio(peer, in, out);
    SSL_set_connect_state(peer);
    while (SSL_do_handshake(peer) != 1) {
        char byte;
        while (BIO_read(out, &byte, 1) == 1)
            tcp_send(fd, &byte, 1);
        if (!SSL_is_init_finished(peer) && recv(fd, &byte, 1, 0) == 1)
            CHECK_EQUAL(BIO_write(in, &byte, 1), 1);
    }
    CHECK_EQUAL(SSL_write(peer, "slow", 4), 4);
    CHECK(SSL_shutdown(peer) >= 0);
    char byte;
    while (BIO_read(out, &byte, 1) == 1)
        tcp_send(fd, &byte, 1);
    WAIT_UNTIL(atomic_load(&side.ended) == 1, WAIT_MS);
    assert_int_equal(atomic_load(&side.received), 4);
    (void)close(fd);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    SSL_free(peer);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- wrong use ---- */

static void wrong_configs_are_refused(void **state)
{
    (void)state;
    const struct {
        const char *certificate;
        const char *key;
        const char *ca;
        const char *alpn;
        const char *ciphers;
        int version;
        int verify;
        unsigned sessions;
        int error;
        const char *words;
    } cases[] = {
        {NULL, NULL, NULL, NULL, NULL, 2, 0, 1, -EINVAL, "a server needs them"},
        {"/nowhere", pki.key, NULL, NULL, NULL, 2, 0, 1, -ENOENT, "certificate_file: /nowhere"},
        {pki.server, "/nowhere", NULL, NULL, NULL, 2, 0, 1, -ENOENT, "key_file: /nowhere"},
        {pki.server, NULL, NULL, NULL, NULL, 2, 0, 1, -EINVAL, "without the other"},
        {pki.key, pki.key, NULL, NULL, NULL, 2, 0, 1, -EINVAL, "certificate_file"},
        {pki.server, pki.key_other, NULL, NULL, NULL, 2, 0, 1, -EKEYREJECTED, "key_file"},
        {pki.server, pki.key, "/nowhere", NULL, NULL, 2, 3, 1, -ENOENT, "ca_file"},
        {pki.server, pki.key, NULL, "", NULL, 2, 0, 1, -EINVAL, "alpn"},
        {pki.server, pki.key, NULL, "a,,b", NULL, 2, 0, 1, -EINVAL, "alpn"},
        {pki.server, pki.key, NULL, "a,", NULL, 2, 0, 1, -EINVAL, "alpn"},
        {pki.server, pki.key, NULL, NULL, "none such", 2, 0, 1, -EINVAL, "ciphers"},
        {pki.server, pki.key, NULL, NULL, NULL, 1, 0, 1, -EINVAL, "version_min"},
        {pki.server, pki.key, NULL, NULL, NULL, 2, 7, 1, -EINVAL, "verify"},
        {pki.server, pki.key, NULL, NULL, NULL, 2, 0, 0, -EINVAL, "sessions_max"},
    };

    test_begin("configs");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
        rondo_tls_config *config = NULL;
        options.certificate_file = cases[i].certificate;
        options.key_file = cases[i].key;
        options.ca_file = cases[i].ca;
        options.alpn = cases[i].alpn;
        options.ciphers = cases[i].ciphers;
        options.version_min = (enum rondo_tls_version)cases[i].version;
        options.verify = (enum rondo_tls_verify)cases[i].verify;
        options.sessions_max = cases[i].sessions;
        assert_int_equal(rondo_tls_config_create_server(&options, &config), cases[i].error);
        assert_null(config);
        if (!strstr(rondo_tls_error_text(NULL), cases[i].words))
            fail_msg("case %zu: %s", i, rondo_tls_error_text(NULL));
    }
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
    rondo_tls_config *config = NULL;
    options.verify = RONDO_TLS_VERIFY_OPTIONAL;
    assert_int_equal(rondo_tls_config_create_client(&options, &config), -EINVAL);
    options.size = 1;
    assert_int_equal(rondo_tls_config_create_client(&options, &config), -EINVAL);
    assert_int_equal(rondo_tls_config_create_client(NULL, NULL), -EINVAL);
    assert_int_equal(rondo_tls_config_create_client(NULL, &config), 0);
    assert_non_null(rondo_tls_config_openssl(config));
    rondo_tls_config_unref(config);
    rondo_tls_config_unref(NULL);
    const char *reason = NULL;
    assert_int_equal(rondo_tls_kernel(&reason), 0);
    assert_non_null(strstr(reason, "workers encrypt"));
    fprintf(stderr, "kTLS: %s\n", reason);
}

/* What rondo_tls_start() refuses leaves the stream as it was. */
static void refuse_and_start(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_tls_handlers wrong = {.size = 1};
    struct rondo_tls_options options = side.options;
    rondo_tls *tls = NULL;

    (void)listener;
    CHECK(atomic_load(&side.dialled) > 0);
    (void)ctx;
    CHECK_EQUAL(rondo_tls_start(NULL, side.config, &options, NULL, NULL, &tls), -EINVAL);
    CHECK_EQUAL(rondo_tls_start(stream, NULL, &options, NULL, NULL, &tls), -EINVAL);
    CHECK_EQUAL(rondo_tls_start(stream, side.config, &options, &wrong, NULL, &tls), -EINVAL);
    CHECK_EQUAL(rondo_tls_start(stream, side.config, NULL, NULL, NULL, &tls), -EINVAL);
    CHECK(strstr(rondo_tls_error_text(NULL), "host: needed"));
    options.handshake_timeout_ns = 0;
    CHECK_EQUAL(rondo_tls_start(stream, side.config, &options, NULL, NULL, &tls), -EINVAL);
    CHECK(!tls);
    CHECK_EQUAL(rondo_tls_start(stream, side.config, &side.options, &side_handlers, &side, &tls),
                0);
    rondo_tls *second = NULL;
    CHECK_EQUAL(rondo_tls_start(stream, side.config, &side.options, NULL, NULL, &second),
                -EALREADY);
    CHECK(!second);
    CHECK_EQUAL(rondo_tls_read(tls, &options, 1, &RONDO_REQUEST(.done = NULL)), -EALREADY);
    CHECK_EQUAL(rondo_tls_handshake(tls, NULL), -EINVAL);
    CHECK_EQUAL(rondo_tls_write(tls, NULL, 1), -EINVAL);
    CHECK_EQUAL(rondo_tls_write(tls, "x", 0), -EINVAL);
    CHECK_EQUAL(rondo_tls_set_watermarks(tls, 2, 1), -EINVAL);
    atomic_store(&side.tls, tls);
    atomic_fetch_add(&side.started, 1);
}

static void wrong_starts_are_refused(void **state)
{
    (void)state;
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = refuse_and_start,
    };
    rondo_loop *loop = begin("starts");
    SSL_CTX *ctx = peer_server_ctx(pki.server);

    side_begin(&side, loop, false, NULL);
    CHECK_EQUAL(rondo_listener_close(side.listener), 0);
    side.listener = listen_local(loop, &handlers, NULL);
    SSL *peer = peer_accept(ctx, side_dial(&side));
    side_check_echo(&side, peer, "hello");
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_is_refused),        cmocka_unit_test(peers_that_leave_midway),
        cmocka_unit_test(silent_peers_are_given_up), cmocka_unit_test(one_byte_at_a_time),
        cmocka_unit_test(wrong_configs_are_refused), cmocka_unit_test(wrong_starts_are_refused),
    };

    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
