/* Making configs; see config.h.
 *
 * Any thread; the callbacks of OpenSSL run in a connection's strand.
 */
#include "config.h"

#include "bio.h"
#include "connection.h"
#include "text.h"

#include <openssl/err.h>
#include <openssl/x509err.h>

#include <errno.h>
#include <string.h>
#include <strings.h>

enum { ALPN_NAME_MAX = 255, ALPN_SIZE_MAX = 4096, SESSIONS_MAX = 65536 };

struct host {
    struct host *next;
    rondo_tls_config *config;
    char name[];
};

static const unsigned char session_context[] = "rondo";

/* ---- callbacks of OpenSSL ---- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                       const unsigned char *in, unsigned in_size, void *ctx)
{
    const rondo_tls_config *config = ctx;
    unsigned char *chosen = NULL;

    (void)ssl;
    if (SSL_select_next_proto(&chosen, out_size, config->alpn, config->alpn_size, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* "*.example.org" stands for one label more. */
static bool host_matches(const struct host *host, const char *name)
{
    if (strcasecmp(host->name, name) == 0)
        return true;
    const char *rest = strchr(name, '.');
    return host->name[0] == '*' && rest && rest != name && strcasecmp(host->name + 1, rest) == 0;
}

static int choose_host(SSL *ssl, int *ret_alert, void *ctx)
{
    const rondo_tls_config *config = ctx;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)ret_alert;
    for (const struct host *host = config->hosts; name && host; host = host->next) {
        if (host_matches(host, name))
            return SSL_set_SSL_CTX(ssl, host->config->ctx) ? SSL_TLSEXT_ERR_OK
                                                           : SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return name && !config->hosts ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct rondo_tls *tls = SSL_get_app_data(ssl);

    return tls->host[0] && sessions_put(&tls->config->sessions, tls->host, session);
}

/* A key with a pass phrase would have OpenSSL ask on the terminal. */
static int no_pass_phrase(char *buffer, int size, int writing, void *ctx)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

/* ---- options ---- */

/* What went wrong with @file, as OpenSSL tells it. */
static int file_error(const char *option, const char *file)
{
    unsigned long code = ERR_peek_error();
    int error = -EINVAL;

    if (ERR_SYSTEM_ERROR(code))
        error = -ERR_GET_REASON(code);
    else if (ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH)
        error = -EKEYREJECTED;
    return text_set(error, "%s: %s: %s", option, file, text_openssl());
}

static int load_certificate(SSL_CTX *ctx, const struct rondo_tls_config_options *options)
{
    if (!options->certificate_file && !options->key_file)
        return 0;
    if (!options->certificate_file || !options->key_file)
        return text_set(-EINVAL, "certificate_file and key_file: one is useless without the other");
    if (SSL_CTX_use_certificate_chain_file(ctx, options->certificate_file) != 1)
        return file_error("certificate_file", options->certificate_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, options->key_file, SSL_FILETYPE_PEM) != 1)
        return file_error("key_file", options->key_file);
    return 0;
}

static int load_trust(rondo_tls_config *config, const struct rondo_tls_config_options *options)
{
    SSL_CTX *ctx = config->ctx;

    if (!options->ca_file && !options->ca_directory) {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return text_set(-ENOMEM, "the system's trusted certificates: %s", text_openssl());
        return 0;
    }
    if (options->ca_directory && SSL_CTX_load_verify_dir(ctx, options->ca_directory) != 1)
        return file_error("ca_directory", options->ca_directory);
    if (options->ca_file && SSL_CTX_load_verify_file(ctx, options->ca_file) != 1)
        return file_error("ca_file", options->ca_file);
    if (options->ca_file && config->is_server)
        SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(options->ca_file));
    return 0;
}

static int set_verify(rondo_tls_config *config, enum rondo_tls_verify verify)
{
    int mode = SSL_VERIFY_NONE;

    switch (verify) {
    case RONDO_TLS_VERIFY_AUTO:
        mode = config->is_server ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
        break;
    case RONDO_TLS_VERIFY_NONE:
        break;
    case RONDO_TLS_VERIFY_OPTIONAL:
        if (!config->is_server)
            return text_set(-EINVAL, "verify: a client has no use for optional: a server always "
                                     "has a certificate");
        mode = SSL_VERIFY_PEER;
        break;
    case RONDO_TLS_VERIFY_REQUIRED:
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        break;
    default:
        return text_set(-EINVAL, "verify: %d is not one of enum rondo_tls_verify", (int)verify);
    }
    config->verifies = mode != SSL_VERIFY_NONE;
    SSL_CTX_set_verify(config->ctx, mode, NULL);
    return 0;
}

static int set_version(SSL_CTX *ctx, const struct rondo_tls_config_options *options)
{
    int version = options->version_min == RONDO_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;

    if (options->version_min != RONDO_TLS_1_2 && options->version_min != RONDO_TLS_1_3)
        return text_set(-EINVAL, "version_min: %d is not one of enum rondo_tls_version",
                        (int)options->version_min);
    (void)SSL_CTX_set_min_proto_version(ctx, version);
    if (options->ciphers && SSL_CTX_set_cipher_list(ctx, options->ciphers) != 1)
        return text_set(-EINVAL, "ciphers: %s: %s", options->ciphers, text_openssl());
    if (options->cipher_suites && SSL_CTX_set_ciphersuites(ctx, options->cipher_suites) != 1)
        return text_set(-EINVAL, "cipher_suites: %s: %s", options->cipher_suites, text_openssl());
    return 0;
}

/* From "a,b" to the wire's form, which is one byte longer. */
static int set_alpn(rondo_tls_config *config, const char *names)
{
    if (!names)
        return 0;
    size_t size = strlen(names);
    if (size >= ALPN_SIZE_MAX)
        return text_set(-EINVAL, "alpn: %zu bytes, at most %d", size, ALPN_SIZE_MAX - 1);
    config->alpn = OPENSSL_malloc(size + 1);
    if (!config->alpn)
        return text_set(-ENOMEM, "no memory for a config");
    config->alpn_size = (unsigned)size + 1;
    for (size_t start = 0; start <= size;) {
        size_t count = strcspn(names + start, ",");
        if (count < 1 || count > ALPN_NAME_MAX)
            return text_set(-EINVAL, "alpn: \"%s\" has a name that is empty or too long", names);
        config->alpn[start] = (unsigned char)count;
        memcpy(config->alpn + start + 1, names + start, count);
        start += count + 1;
    }
    if (config->is_server)
        SSL_CTX_set_alpn_select_cb(config->ctx, choose_alpn, config);
    else if (SSL_CTX_set_alpn_protos(config->ctx, config->alpn, config->alpn_size) != 0)
        return text_set(-ENOMEM, "no memory for a config");
    return 0;
}

static int set_sessions(rondo_tls_config *config, const struct rondo_tls_config_options *options)
{
    SSL_CTX *ctx = config->ctx;

    if (options->sessions_max < 1 || options->sessions_max > SESSIONS_MAX)
        return text_set(-EINVAL, "sessions_max: %u is not between 1 and %d", options->sessions_max,
                        SESSIONS_MAX);
    config->sessions.count_max = options->sessions_max;
    /* A server's tickets hold the sessions themselves, encrypted: nothing is kept here. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1);
    if (!options->resumption) {
        (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        (void)SSL_CTX_set_num_tickets(ctx, 0);
    } else if (!config->is_server) {
        config->resumes = true;
        (void)SSL_CTX_set_session_cache_mode(ctx,
                                             SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, keep_session);
    }
    return 0;
}

static int configure(rondo_tls_config *config, const struct rondo_tls_config_options *options)
{
    int error = set_version(config->ctx, options);

    (void)SSL_CTX_set_options(config->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    (void)SSL_CTX_set_mode(config->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                            SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(config->ctx, no_pass_phrase);
    if (!error)
        error = load_certificate(config->ctx, options);
    if (!error)
        error = set_verify(config, options->verify);
    if (!error && config->verifies)
        error = load_trust(config, options);
    if (!error)
        error = set_alpn(config, options->alpn);
    if (!error)
        error = set_sessions(config, options);
    if (config->is_server) {
        (void)SSL_CTX_set_tlsext_servername_callback(config->ctx, choose_host);
        (void)SSL_CTX_set_tlsext_servername_arg(config->ctx, config);
    }
    return error;
}

/* ---- life ---- */

static void config_free(rondo_tls_config *config)
{
    while (config->hosts) {
        struct host *next = config->hosts->next;
        rondo_tls_config_unref(config->hosts->config);
        OPENSSL_free(config->hosts);
        config->hosts = next;
    }
    sessions_clear(&config->sessions);
    SSL_CTX_free(config->ctx);
    BIO_meth_free(config->bio_method);
    OPENSSL_free(config->alpn);
    OPENSSL_free(config);
}

static int config_create(bool is_server, const struct rondo_tls_config_options *options,
                         rondo_tls_config **ret_config)
{
    static const struct rondo_tls_config_options defaults = RONDO_TLS_CONFIG_OPTIONS_INIT;

    if (!options)
        options = &defaults;
    if (!ret_config || options->size != sizeof(*options))
        return text_set(-EINVAL, "options: start from RONDO_TLS_CONFIG_OPTIONS_INIT");
    if (is_server && !options->certificate_file)
        return text_set(-EINVAL, "certificate_file and key_file: a server needs them");
    rondo_tls_config *config = OPENSSL_zalloc(sizeof(*config));
    if (!config)
        return text_set(-ENOMEM, "no memory for a config");
    ERR_clear_error();
    config->is_server = is_server;
    atomic_init(&config->refs, 1);
    sessions_init(&config->sessions, 1);
    config->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    config->bio_method = bio_method_create();
    int error = -ENOMEM;
    if (config->ctx && config->bio_method)
        error = configure(config, options);
    else
        (void)text_set(error, "no memory for a config");
    ERR_clear_error();
    if (error)
        config_free(config);
    else
        *ret_config = config;
    return error;
}

TLS_PUBLIC int rondo_tls_config_create_client(const struct rondo_tls_config_options *options,
                                              rondo_tls_config **ret_config)
{
    return config_create(false, options, ret_config);
}

TLS_PUBLIC int rondo_tls_config_create_server(const struct rondo_tls_config_options *options,
                                              rondo_tls_config **ret_config)
{
    return config_create(true, options, ret_config);
}

TLS_PUBLIC int rondo_tls_config_add_host(rondo_tls_config *config, const char *host,
                                         rondo_tls_config *host_config)
{
    if (!config || !host || !host[0] || !host_config || config == host_config)
        return text_set(-EINVAL, "host: a name and two different configs are needed");
    if (!config->is_server || !host_config->is_server)
        return text_set(-EINVAL, "host: %s: both configs must be for servers", host);
    struct host **at = &config->hosts;
    for (; *at; at = &(*at)->next) {
        if (strcasecmp((*at)->name, host) == 0)
            return text_set(-EEXIST, "host: %s was added before", host);
    }
    struct host *added = OPENSSL_zalloc(sizeof(*added) + strlen(host) + 1);
    if (!added)
        return text_set(-ENOMEM, "no memory for a host");
    memcpy(added->name, host, strlen(host) + 1);
    added->config = rondo_tls_config_ref(host_config);
    *at = added;
    return 0;
}

TLS_PUBLIC SSL_CTX *rondo_tls_config_openssl(rondo_tls_config *config)
{
    return config ? config->ctx : NULL;
}

TLS_PUBLIC rondo_tls_config *rondo_tls_config_ref(rondo_tls_config *config)
{
    if (config) /* Relaxed: the caller has a reference. */
        (void)atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
    return config;
}

TLS_PUBLIC void rondo_tls_config_unref(rondo_tls_config *config)
{
    /* Pairs with itself: the last one sees all that was done under the other references. */
    if (config && atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) == 1)
        config_free(config);
}
