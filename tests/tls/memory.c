/* Goal: a failing allocation, whichever it is, makes a call or a connection fail; nothing crashes,
 * hangs or leaks, and the next connection works.
 *
 * Method: the allocator of OpenSSL, which librondo-tls uses too, fails at its n-th call on the
 * loop's threads, for n = 1, 2, ... until a connection from its start to its close met no failure.
 * Then the same, in larger steps, for making a config. The peer's thread is spared.
 */
#include "tls_support.h"

#include <unistd.h>

enum { WAIT_MS = 20000, STEPS_MAX = 2000 };

static atomic_long countdown; /* the failing call; 0: none fails */
static _Thread_local bool spared;
static struct side side;

static bool fails(void)
{
    return !spared && atomic_load(&countdown) > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

static void *failing_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : malloc(size);
}

static void *failing_realloc(void *data, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : realloc(data, size);
}

static void plain_free(void *data, const char *file, int line)
{
    (void)file;
    (void)line;
    free(data);
}

static atomic_uint ended; /* connections that are over, or never began */

static void on_closed(rondo_tls *tls, int error, void *ctx)
{
    (void)tls;
    (void)ctx;
    if (error && error != -ENOMEM && error != -EPROTO && error != -ECANCELED &&
        error != -EKEYREJECTED && error != -ECONNRESET && error != -EPIPE && error != -ECONNABORTED)
        CHECK_EQUAL(error, 0);
    atomic_fetch_add(&ended, 1);
}

static void on_read(rondo_tls *tls, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    int error = rondo_tls_write(tls, data, size);
    CHECK(error == 0 || error == -ENOMEM || error == -EBADF);
    (void)rondo_tls_close(tls);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_tls_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
        .closed = on_closed,
    };

    (void)listener;
    int error = rondo_tls_start(stream, side.config, NULL, &handlers, ctx, NULL);
    if (error) {
        CHECK_EQUAL(error, -ENOMEM);
        CHECK_EQUAL(rondo_stream_abort(stream), 0);
        atomic_fetch_add(&ended, 1);
    }
}

/* Whether the peer got its answer. */
static bool talk(SSL_CTX *ctx, uint16_t port)
{
    SSL *peer = peer_new(ctx, tcp_dial(port), false);
    char byte = 0;

    ERR_clear_error();
    bool good = SSL_do_handshake(peer) == 1 && SSL_write(peer, "x", 1) == 1 &&
                SSL_read(peer, &byte, 1) == 1 && byte == 'x' && peer_read_end(peer);
    peer_drop(peer);
    return good;
}

static void connections_fail_cleanly(void **state)
{
    (void)state;
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
    };
    test_begin("memory");
    rondo_loop *loop = loop_begin(NULL);
    SSL_CTX *ctx = peer_client_ctx();
    unsigned failures = 0;
    long step = 0;

    side_begin(&side, loop, true, NULL);
    rondo_listener *listener = listen_local(loop, &handlers, &side);
    for (bool met = true; met && step < STEPS_MAX;) {
        unsigned before = atomic_load(&ended);
        step += TEST_SANITIZED ? 7 : 1;
        atomic_store(&countdown, step);
        failures += !talk(ctx, listener_port(listener));
        WAIT_UNTIL(atomic_load(&ended) == before + 1, WAIT_MS);
        met = atomic_exchange(&countdown, 0) == 0;
        before = atomic_load(&ended);
        CHECK(talk(ctx, listener_port(listener)));
        WAIT_UNTIL(atomic_load(&ended) == before + 1, WAIT_MS);
    }
    fprintf(stderr, "%ld allocations, %u connections failed\n", step, failures);
    assert_true(step < STEPS_MAX && failures > 10 / (TEST_SANITIZED ? 7 : 1));
    SSL_CTX_free(ctx);
    side_end(&side);
    rondo_loop_free(loop);
}

static void configs_fail_cleanly(void **state)
{
    (void)state;
    struct rondo_tls_config_options options = server_options();
    long step = 0;
    int error;

    options.alpn = "h2,http/1.1";
    options.ca_file = pki.ca;
    options.verify = RONDO_TLS_VERIFY_REQUIRED;
    spared = false;
    do {
        rondo_tls_config *config = NULL;
        step += TEST_SANITIZED ? 97 : 13;
        atomic_store(&countdown, step);
        error = rondo_tls_config_create_server(&options, &config);
        bool met = atomic_exchange(&countdown, 0) == 0;
        CHECK(met || !error);
        CHECK(!error == (config != NULL));
        rondo_tls_config_unref(config);
        error = met;
    } while (error && step < 100 * STEPS_MAX);
    spared = true;
    fprintf(stderr, "%ld allocations\n", step);
    assert_true(step > 1000 && step < 100 * STEPS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_fail_cleanly),
        cmocka_unit_test(configs_fail_cleanly),
    };

    spared = true;
    if (CRYPTO_set_mem_functions(failing_malloc, failing_realloc, plain_free) != 1)
        return 1;
    return cmocka_run_group_tests(tests, pki_create, pki_remove);
}
