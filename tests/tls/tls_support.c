/* See tls_support.h. */
#include "tls_support.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DAY_S = 24 * 60 * 60, WAIT_MS = 10000, TINY = 2048, SMALL = 20000 };

struct pki pki;

/* ---- certificates ---- */

static EVP_PKEY *key_create(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    FILE *file = fopen(path, "w");

    CHECK(key && file);
    CHECK(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    CHECK_EQUAL(fclose(file), 0);
    return key;
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(extension);
    CHECK(X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

struct wanted {
    const char *path;
    const char *name;
    const char *alternatives;
    long from_s;
    long until_s;
};

static X509 *certify(const struct wanted *wanted, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial;
    X509 *certificate = X509_new();
    X509_NAME *name = X509_NAME_new();
    FILE *file = fopen(wanted->path, "w");

    CHECK(certificate && name && file);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)wanted->name,
                                     -1, -1, 0));
    CHECK(X509_set_version(certificate, X509_VERSION_3));
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial));
    CHECK(X509_set_subject_name(certificate, name));
    CHECK(X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : name));
    CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), wanted->from_s));
    CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), wanted->until_s));
    CHECK(X509_set_pubkey(certificate, key));
    if (!issuer)
        issuer = certificate;
    if (wanted->alternatives)
        add_extension(certificate, issuer, NID_subject_alt_name, wanted->alternatives);
    else
        add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
    CHECK(X509_sign(certificate, issuer_key, EVP_sha256()));
    CHECK(PEM_write_X509(file, certificate));
    CHECK_EQUAL(fclose(file), 0);
    X509_NAME_free(name);
    return certificate;
}

static void name_files(void)
{
    const struct {
        char *path;
        const char *name;
    } files[] = {
        {pki.ca, "ca"},           {pki.ca_other, "ca_other"}, {pki.key, "key"},
        {pki.key_other, "key_2"}, {pki.server, "server"},     {pki.second, "second"},
        {pki.expired, "expired"}, {pki.client, "client"},
    };

    (void)snprintf(pki.folder, sizeof(pki.folder), "/tmp/rondo-tls-XXXXXX");
    CHECK(mkdtemp(pki.folder));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        (void)snprintf(files[i].path, PATH_SIZE, "%.100s/%s.pem", pki.folder, files[i].name);
}

int pki_create(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL writes to peers that have left. */
    name_files();
    EVP_PKEY *key = key_create(pki.key);
    EVP_PKEY *other = key_create(pki.key_other);
    X509 *ca = certify(&(struct wanted){pki.ca, "test ca", NULL, -DAY_S, DAY_S}, key, NULL, key);
    X509 *made[] = {
        certify(&(struct wanted){pki.ca_other, "other ca", NULL, -DAY_S, DAY_S}, other, NULL,
                other),
        certify(&(struct wanted){pki.server, "server", "DNS:localhost,IP:127.0.0.1", -DAY_S, DAY_S},
                key, ca, key),
        certify(&(struct wanted){pki.second, "second", "DNS:second.example", -DAY_S, DAY_S}, key,
                ca, key),
        certify(&(struct wanted){pki.expired, "old", "DNS:localhost", -2 * DAY_S, -DAY_S}, key, ca,
                key),
        certify(&(struct wanted){pki.client, "client", "DNS:client", -DAY_S, DAY_S}, key, ca, key),
    };
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        X509_free(made[i]);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    return 0;
}

int pki_remove(void **state)
{
    const char *paths[] = {pki.ca,     pki.ca_other, pki.key,     pki.key_other,
                           pki.server, pki.second,   pki.expired, pki.client};

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        (void)unlink(paths[i]);
    return rmdir(pki.folder);
}

/* ---- data ---- */

void fill_bytes(uint64_t offset, void *data, size_t size)
{
    unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((offset + i) * UINT64_C(2654435761) >> 24);
}

uint64_t sum_bytes(uint64_t sum, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

/* ---- the side under test ---- */

static void enter(struct side *side)
{
    CHECK_EQUAL(atomic_load(&side->closed), 0);
    CHECK_EQUAL(atomic_exchange(&side->busy, true), false);
}

static void leave(struct side *side)
{
    CHECK_EQUAL(atomic_exchange(&side->busy, false), true);
}

static void on_established(rondo_tls *tls, void *ctx)
{
    struct side *side = ctx;
    struct rondo_tls_info info = RONDO_TLS_INFO_INIT;

    enter(side);
    CHECK_EQUAL(rondo_tls_info(tls, &info), 0);
    atomic_fetch_add(&side->established, 1);
    leave(side);
}

static void on_read(rondo_tls *tls, const void *data, size_t size, void *ctx)
{
    struct side *side = ctx;

    enter(side);
    CHECK(size > 0);
    atomic_store(&side->sum, sum_bytes(atomic_load(&side->sum), data, size));
    atomic_fetch_add(&side->received, size);
    if (atomic_load(&side->echo)) {
        int error = rondo_tls_write(tls, data, size);
        CHECK(error == 0 || error == -EBADF);
    }
    leave(side);
}

static void on_end(rondo_tls *tls, void *ctx)
{
    struct side *side = ctx;

    enter(side);
    atomic_fetch_add(&side->ended, 1);
    (void)rondo_tls_close(tls);
    leave(side);
}

static void on_drained(rondo_tls *tls, void *ctx)
{
    struct side *side = ctx;

    (void)tls;
    enter(side);
    atomic_fetch_add(&side->drained, 1);
    leave(side);
}

static void on_draining(rondo_tls *tls, void *ctx)
{
    struct side *side = ctx;

    enter(side);
    atomic_fetch_add(&side->draining, 1);
    (void)rondo_tls_close(tls);
    leave(side);
}

static void on_closed(rondo_tls *tls, int error, void *ctx)
{
    struct side *side = ctx;

    enter(side);
    side->error = error;
    (void)snprintf(side->error_text, sizeof(side->error_text), "%s", rondo_tls_error_text(tls));
    CHECK_EQUAL(error == 0, side->error_text[0] == '\0');
    leave(side);
    atomic_fetch_add(&side->closed, 1);
}

const struct rondo_tls_handlers side_handlers = {
    .size = sizeof(side_handlers),
    .established = on_established,
    .read = on_read,
    .end = on_end,
    .drained = on_drained,
    .draining = on_draining,
    .closed = on_closed,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    struct side *side = ctx;
    rondo_tls *tls = NULL;

    (void)listener;
    CHECK(atomic_load(&side->dialled) > 0);
    CHECK_EQUAL(rondo_tls_start(stream, side->config, &side->options, side->handlers, side, &tls),
                0);
    CHECK(rondo_tls_stream(tls) == stream);
    atomic_store(&side->tls, tls);
    atomic_fetch_add(&side->started, 1);
}

struct rondo_tls_config_options server_options(void)
{
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;

    options.certificate_file = pki.server;
    options.key_file = pki.key;
    return options;
}

struct rondo_tls_config_options client_options(void)
{
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;

    options.ca_file = pki.ca;
    return options;
}

void side_begin(struct side *side, rondo_loop *loop, bool is_server,
                const struct rondo_tls_config_options *options)
{
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
    };
    const struct rondo_tls_config_options made = is_server ? server_options() : client_options();

    memset(side, 0, sizeof(*side));
    side->loop = loop;
    side->options = (struct rondo_tls_options)RONDO_TLS_OPTIONS_INIT;
    side->options.host = is_server ? NULL : "localhost";
    side->handlers = &side_handlers;
    int error = is_server
                    ? rondo_tls_config_create_server(options ? options : &made, &side->config)
                    : rondo_tls_config_create_client(options ? options : &made, &side->config);
    if (error)
        fprintf(stderr, "config: %s\n", rondo_tls_error_text(NULL));
    CHECK_EQUAL(error, 0);
    side->listener = listen_local(loop, &handlers, side);
}

static int dial(struct side *side, int send_size, int receive_size)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(listener_port(side->listener))};
    unsigned started = atomic_load(&side->started);
    /* Without the timeouts of tcp_dial(): with one the system does not repeat a read that was
     * interrupted, and OpenSSL reports it. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    CHECK(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    /* Before connect, so that no larger window is promised. */
    if (send_size > 0)
        CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_size, sizeof(send_size)), 0);
    if (receive_size > 0)
        CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_size, sizeof(receive_size)), 0);
    atomic_fetch_add(&side->dialled, 1); /* What was set before is seen in on_accepted(). */
    CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    WAIT_UNTIL(atomic_load(&side->started) > started, WAIT_MS);
    return fd;
}

int side_dial(struct side *side)
{
    return dial(side, 0, 0);
}

int side_dial_tiny(struct side *side)
{
    return dial(side, TINY, SMALL);
}

void side_closed(struct side *side)
{
    WAIT_UNTIL(atomic_load(&side->closed) == 1, WAIT_MS);
    rondo_tls *tls = atomic_exchange(&side->tls, NULL);
    CHECK_EQUAL(rondo_tls_write(tls, "x", 1), -EBADF);
    CHECK_EQUAL(rondo_tls_close(tls), -EALREADY);
    rondo_tls_unref(tls);
    atomic_store(&side->closed, 0);
    atomic_store(&side->established, 0);
    atomic_store(&side->ended, 0);
}

void side_end(struct side *side)
{
    CHECK_EQUAL(rondo_listener_close(side->listener), 0);
    rondo_tls_config_unref(side->config);
}

void side_check_echo(struct side *side, SSL *peer, const char *words)
{
    char answer[256];
    size_t size = strlen(words);

    CHECK(size <= sizeof(answer));
    atomic_store(&side->echo, true);
    CHECK_EQUAL(SSL_write(peer, words, (int)size), size);
    peer_read(peer, answer, size);
    CHECK_EQUAL(memcmp(answer, words, size), 0);
}

/* ---- the peer ---- */

SSL_CTX *peer_client_ctx(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    CHECK(ctx);
    CHECK_EQUAL(SSL_CTX_load_verify_file(ctx, pki.ca), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

SSL_CTX *peer_server_ctx(const char *certificate)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    CHECK(ctx);
    CHECK_EQUAL(SSL_CTX_use_certificate_chain_file(ctx, certificate), 1);
    CHECK_EQUAL(SSL_CTX_use_PrivateKey_file(ctx, pki.key, SSL_FILETYPE_PEM), 1);
    (void)SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"peer", 4);
    return ctx;
}

SSL *peer_new(SSL_CTX *ctx, int fd, bool is_server)
{
    SSL *peer = SSL_new(ctx);

    CHECK(peer);
    CHECK_EQUAL(SSL_set_fd(peer, fd), 1);
    if (is_server)
        SSL_set_accept_state(peer);
    else
        SSL_set_connect_state(peer);
    return peer;
}

SSL *peer_shake_hands(SSL *peer)
{
    ERR_clear_error();
    int result = SSL_do_handshake(peer);
    if (result != 1) {
        fprintf(stderr, "the peer's handshake: error %d errno %d\n", SSL_get_error(peer, result),
                errno);
        ERR_print_errors_fp(stderr);
        CHECK_EQUAL(result, 1);
    }
    return peer;
}

SSL *peer_connect(SSL_CTX *ctx, int fd)
{
    return peer_shake_hands(peer_new(ctx, fd, false));
}

SSL *peer_accept(SSL_CTX *ctx, int fd)
{
    return peer_shake_hands(peer_new(ctx, fd, true));
}

void peer_read(SSL *peer, void *data, size_t size)
{
    for (size_t done = 0, count = 0; done < size; done += count) {
        if (SSL_read_ex(peer, (char *)data + done, size - done, &count) != 1) {
            ERR_print_errors_fp(stderr);
            check_failed(__FILE__, __LINE__, "the peer's read");
        }
    }
}

bool peer_read_end(SSL *peer)
{
    char bytes[4096];
    size_t count;

    ERR_clear_error();
    while (SSL_read_ex(peer, bytes, sizeof(bytes), &count) == 1)
        ;
    return SSL_get_error(peer, 0) == SSL_ERROR_ZERO_RETURN;
}

void peer_close(SSL *peer)
{
    (void)SSL_shutdown(peer);
    peer_drop(peer);
}

void peer_drop(SSL *peer)
{
    int fd = SSL_get_fd(peer);

    SSL_free(peer);
    (void)close(fd);
}
