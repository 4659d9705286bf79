/* Goal: a handshake agrees on what both want, or fails with the error and the words that the header
 * promises; a session goes on when it may.
 *
 * Method: the side under test is a server or a client over an accepted connection (which side
 * speaks first is TLS's affair, not TCP's); the peer is OpenSSL on a blocking socket.
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

static struct rondo_tls_info info_of(struct side *of)
{
    struct rondo_tls_info info = RONDO_TLS_INFO_INIT;

    WAIT_UNTIL(atomic_load(&of->established) == 1, WAIT_MS);
    CHECK_EQUAL(rondo_tls_info(atomic_load(&of->tls), &info), 0);
    return info;
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

/* ---- success ---- */

static void server_tells_what_was_agreed(void **state)
{
    (void)state;
    rondo_loop *loop = begin("server");
    struct rondo_tls_config_options options = server_options();
    SSL_CTX *ctx = peer_client_ctx();

    options.alpn = "h2,http/1.1";
    side_begin(&side, loop, true, &options);
    CHECK_EQUAL(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1\x02h2", 12), 0);
    SSL *peer = peer_new(ctx, side_dial(&side), false);
    CHECK_EQUAL(SSL_set_tlsext_host_name(peer, "localhost"), 1);
    CHECK_EQUAL(SSL_set1_host(peer, "localhost"), 1);
    (void)peer_shake_hands(peer);
    struct rondo_tls_info info = info_of(&side);
    assert_string_equal(info.version, "TLSv1.3");
    assert_string_equal(info.alpn, "h2");
    assert_string_equal(info.server_name, "localhost");
    assert_string_equal(info.cipher, SSL_get_cipher_name(peer));
    assert_false(info.resumed);
    side_check_echo(&side, peer, "hello");
    peer_close(peer);
    side_closed(&side);
    assert_int_equal(side.error, 0);
    SSL_CTX_free(ctx);
    side_end(&side);
    rondo_loop_free(loop);
}

static void client_verifies_and_tells(void **state)
{
    (void)state;
    rondo_loop *loop = begin("client");
    struct rondo_tls_config_options options = client_options();
    SSL_CTX *ctx = peer_server_ctx(pki.server);

    options.alpn = "h2,http/1.1";
    for (int by_address = 0; by_address < 2; by_address++) {
        side_begin(&side, loop, false, &options);
        side.options.host = by_address ? "127.0.0.1" : "localhost";
        CHECK_EQUAL(SSL_CTX_set_max_proto_version(ctx, by_address ? TLS1_2_VERSION : 0), 1);
        SSL *peer = peer_accept(ctx, side_dial(&side));
        struct rondo_tls_info info = info_of(&side);
        assert_string_equal(info.version, by_address ? "TLSv1.2" : "TLSv1.3");
        assert_null(info.alpn);
        assert_string_equal(info.server_name, side.options.host);
        const char *sent = SSL_get_servername(peer, TLSEXT_NAMETYPE_host_name);
        if (by_address)
            assert_null(sent); /* An address is no name. */
        else
            assert_string_equal(sent, "localhost");
        side_check_echo(&side, peer, "hello");
        assert_int_equal(rondo_tls_close(atomic_load(&side.tls)), 0);
        assert_true(peer_read_end(peer));
        peer_close(peer);
        side_closed(&side);
        assert_int_equal(side.error, 0);
        side_end(&side);
    }
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- verification ---- */

/* A peer whose handshake may fail. */
static void try_peer(SSL_CTX *ctx, bool is_server)
{
    SSL *peer = peer_new(ctx, side_dial(&side), is_server);
    char byte;

    if (SSL_do_handshake(peer) == 1)
        (void)SSL_read(peer, &byte, 1); /* TLS 1.3: what the other side thinks comes later. */
    ERR_clear_error();
    peer_drop(peer);
}

static void client_refuses_bad_certificates(void **state)
{
    (void)state;
    const struct {
        const char *certificate;
        const char *ca;
        const char *host;
        const char *words;
    } cases[] = {
        {pki.server, pki.ca_other, "localhost", "certificate verify failed: unable to get local"},
        {pki.server, NULL, "localhost", "certificate verify failed: unable to get local"},
        {pki.server, pki.ca, "elsewhere", "certificate verify failed: hostname mismatch"},
        {pki.server, pki.ca, "127.0.0.2", "certificate verify failed: IP address mismatch"},
        {pki.expired, pki.ca, "localhost", "certificate verify failed: certificate has expired"},
        {pki.ca_other, pki.ca, "localhost", "certificate verify failed: self-signed certificate"},
    };
    rondo_loop *loop = begin("bad certificates");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        const char *key = cases[i].certificate == pki.ca_other ? pki.key_other : pki.key;
        CHECK_EQUAL(SSL_CTX_use_certificate_chain_file(ctx, cases[i].certificate), 1);
        CHECK_EQUAL(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
        options.ca_file = cases[i].ca;
        side_begin(&side, loop, false, &options);
        side.options.host = cases[i].host;
        try_peer(ctx, true);
        assert_int_equal(atomic_load(&side.established), 0);
        expect_error(-EKEYREJECTED, cases[i].words);
        side_end(&side);
        SSL_CTX_free(ctx);
    }
    rondo_loop_free(loop);
}

static void client_may_turn_verification_off(void **state)
{
    (void)state;
    rondo_loop *loop = begin("no verification");
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
    SSL_CTX *ctx = peer_server_ctx(pki.expired);

    options.verify = RONDO_TLS_VERIFY_NONE;
    side_begin(&side, loop, false, &options);
    side.options.host = NULL;
    SSL *peer = peer_accept(ctx, side_dial(&side));
    side_check_echo(&side, peer, "hello");
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* With, without and with a bad certificate of the client. */
static void server_asks_for_client_certificates(void **state)
{
    (void)state;
    const struct {
        enum rondo_tls_verify verify;
        const char *certificate;
        const char *key;
        int error;
    } cases[] = {
        {RONDO_TLS_VERIFY_REQUIRED, pki.client, pki.key, 0},
        {RONDO_TLS_VERIFY_REQUIRED, NULL, NULL, -EPROTO},
        {RONDO_TLS_VERIFY_REQUIRED, pki.ca_other, pki.key_other, -EKEYREJECTED},
        {RONDO_TLS_VERIFY_OPTIONAL, NULL, NULL, 0},
        {RONDO_TLS_VERIFY_OPTIONAL, pki.ca_other, pki.key_other, -EKEYREJECTED},
    };
    rondo_loop *loop = begin("client certificates");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rondo_tls_config_options options = server_options();
        SSL_CTX *ctx = peer_client_ctx();
        options.verify = cases[i].verify;
        options.ca_file = pki.ca;
        side_begin(&side, loop, true, &options);
        if (cases[i].certificate) {
            CHECK_EQUAL(SSL_CTX_use_certificate_chain_file(ctx, cases[i].certificate), 1);
            CHECK_EQUAL(SSL_CTX_use_PrivateKey_file(ctx, cases[i].key, SSL_FILETYPE_PEM), 1);
        }
        if (cases[i].error) {
            try_peer(ctx, false);
            assert_int_equal(atomic_load(&side.established), 0);
        } else {
            SSL *peer = peer_connect(ctx, side_dial(&side));
            side_check_echo(&side, peer, "hello");
            peer_close(peer);
        }
        side_closed(&side);
        assert_int_equal(side.error, cases[i].error);
        side_end(&side);
        SSL_CTX_free(ctx);
    }
    rondo_loop_free(loop);
}

/* ---- ALPN and SNI ---- */

static void server_refuses_other_protocols(void **state)
{
    (void)state;
    rondo_loop *loop = begin("ALPN mismatch");
    struct rondo_tls_config_options options = server_options();
    SSL_CTX *ctx = peer_client_ctx();

    options.alpn = "h2";
    side_begin(&side, loop, true, &options);
    CHECK_EQUAL(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x03imp", 4), 0);
    SSL *peer = peer_new(ctx, side_dial(&side), false);
    assert_int_not_equal(SSL_do_handshake(peer), 1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
    ERR_clear_error();
    peer_drop(peer);
    expect_error(-EPROTO, "no application protocol");

    /* Without ALPN a client is welcome. */
    CHECK_EQUAL(SSL_CTX_set_alpn_protos(ctx, NULL, 0), 0);
    peer = peer_connect(ctx, side_dial(&side));
    assert_null(info_of(&side).alpn);
    peer_close(peer);
    side_closed(&side);
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

static void server_has_a_certificate_for_each_host(void **state)
{
    (void)state;
    const struct {
        const char *asked;
        const char *common_name;
    } cases[] = {{"second.example", "second"}, {"SECOND.example", "second"},
                 {"a.sub.example", "second"},  {"a.b.sub.example", "server"},
                 {"localhost", "server"},      {NULL, "server"}};
    rondo_loop *loop = begin("SNI");
    struct rondo_tls_config_options options = server_options();
    rondo_tls_config *second = NULL;
    SSL_CTX *ctx = peer_client_ctx();

    side_begin(&side, loop, true, NULL);
    options.certificate_file = pki.second;
    options.alpn = "imp";
    assert_int_equal(rondo_tls_config_create_server(&options, &second), 0);
    assert_int_equal(rondo_tls_config_add_host(side.config, "second.example", second), 0);
    assert_int_equal(rondo_tls_config_add_host(side.config, "*.sub.example", second), 0);
    assert_int_equal(rondo_tls_config_add_host(side.config, "Second.Example", second), -EEXIST);
    assert_int_equal(rondo_tls_config_add_host(side.config, "x", side.config), -EINVAL);
    assert_int_equal(rondo_tls_config_add_host(side.config, "", second), -EINVAL);
    rondo_tls_config_unref(second);
    CHECK_EQUAL(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x03imp", 4), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SSL *peer = peer_new(ctx, side_dial(&side), false);
        char name[64] = "";
        if (cases[i].asked)
            CHECK_EQUAL(SSL_set_tlsext_host_name(peer, cases[i].asked), 1);
        (void)peer_shake_hands(peer);
        X509 *certificate = SSL_get1_peer_certificate(peer);
        (void)X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                        sizeof(name));
        X509_free(certificate);
        assert_string_equal(name, cases[i].common_name);
        struct rondo_tls_info info = info_of(&side);
        /* The host's protocols, too. */
        assert_int_equal(info.alpn != NULL, strcmp(name, "second") == 0);
        if (cases[i].asked)
            assert_string_equal(info.server_name, cases[i].asked);
        else
            assert_null(info.server_name);
        peer_close(peer);
        side_closed(&side);
    }
    side_end(&side);
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

/* ---- resumption ---- */

static void client_goes_on_with_a_session(void **state)
{
    (void)state;
    rondo_loop *loop = begin("client resumes");

    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX *ctx = peer_server_ctx(pki.server);
        CHECK_EQUAL(SSL_CTX_set_max_proto_version(ctx, version), 1);
        for (int resumption = 0; resumption < 2; resumption++) {
            struct rondo_tls_config_options options = client_options();
            options.resumption = resumption;
            side_begin(&side, loop, false, &options);
            for (int i = 0; i < 4; i++) {
                side.options.host = i < 3 ? "localhost" : "127.0.0.1";
                SSL *peer = peer_accept(ctx, side_dial(&side));
                side_check_echo(&side, peer, "hello"); /* The ticket comes before the echo. */
                bool resumed = resumption && i > 0 && i < 3;
                assert_int_equal(info_of(&side).resumed, resumed);
                assert_int_equal(SSL_session_reused(peer), resumed);
                peer_drop(peer); /* Also without close_notify the session is good. */
                side_closed(&side);
            }
            side_end(&side);
        }
        SSL_CTX_free(ctx);
    }
    rondo_loop_free(loop);
}

static SSL_SESSION *kept_session;

static int keep(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept_session);
    kept_session = session;
    return 1;
}

static void server_gives_tickets(void **state)
{
    (void)state;
    rondo_loop *loop = begin("server resumes");
    SSL_CTX *ctx = peer_client_ctx();

    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(ctx, keep);
    for (int resumption = 0; resumption < 2; resumption++) {
        struct rondo_tls_config_options options = server_options();
        options.resumption = resumption;
        options.verify = RONDO_TLS_VERIFY_OPTIONAL; /* This must not stand in the way. */
        options.ca_file = pki.ca;
        side_begin(&side, loop, true, &options);
        for (int i = 0; i < 3; i++) {
            SSL *peer = peer_new(ctx, side_dial(&side), false);
            if (kept_session)
                CHECK_EQUAL(SSL_set_session(peer, kept_session), 1);
            (void)peer_shake_hands(peer);
            side_check_echo(&side, peer, "hello");
            assert_int_equal(info_of(&side).resumed, resumption && i > 0);
            peer_close(peer);
            side_closed(&side);
        }
        side_end(&side);
        SSL_SESSION_free(kept_session);
        kept_session = NULL;
    }
    SSL_CTX_free(ctx);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_tells_what_was_agreed),
        cmocka_unit_test(client_verifies_and_tells),
        cmocka_unit_test(client_refuses_bad_certificates),
        cmocka_unit_test(client_may_turn_verification_off),
        cmocka_unit_test(server_asks_for_client_certificates),
        cmocka_unit_test(server_refuses_other_protocols),
        cmocka_unit_test(server_has_a_certificate_for_each_host),
        cmocka_unit_test(client_goes_on_with_a_session),
        cmocka_unit_test(server_gives_tickets),
    };

    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
