/* The public side of a TLS stream; see connection.h.
 *
 * Any thread. Nothing here touches SSL after rondo_tls_start(), except from inside a callback.
 */
#include "connection.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* ---- beginning ---- */

static void tls_free(struct rondo_tls *tls)
{
    SSL_free(tls->ssl);
    rondo_tls_config_unref(tls->config);
    rondo_stream_unref(tls->stream);
    (void)pthread_mutex_destroy(&tls->lock);
    OPENSSL_free(tls);
}

static bool is_address(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* The name that is sent and that the certificate must have. */
static bool set_host(struct rondo_tls *tls)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

    if (is_address(tls->host))
        return X509_VERIFY_PARAM_set1_ip_asc(param, tls->host) == 1;
    SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(tls->ssl, tls->host) == 1 &&
           SSL_set_tlsext_host_name(tls->ssl, tls->host) == 1;
}

static bool set_client(struct rondo_tls *tls)
{
    SSL_set_connect_state(tls->ssl);
    if (!tls->host[0])
        return true;
    if (!set_host(tls))
        return false;
    SSL_SESSION *session =
        tls->config->resumes ? sessions_take(&tls->config->sessions, tls->host) : NULL;
    if (session) {
        (void)SSL_set_session(tls->ssl, session); /* If not: a full handshake. */
        SSL_SESSION_free(session);
    }
    return true;
}

static bool set_ssl(struct rondo_tls *tls)
{
    BIO *bio = NULL;

    tls->ssl = SSL_new(tls->config->ctx);
    if (tls->ssl)
        bio = BIO_new(tls->config->bio_method);
    if (!bio)
        return false;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    (void)SSL_set_app_data(tls->ssl, tls);
    if (!tls->config->is_server)
        return set_client(tls);
    SSL_set_accept_state(tls->ssl);
    return true;
}

static int check(const rondo_tls_config *config, const struct rondo_tls_options *options,
                 const struct rondo_tls_handlers *handlers)
{
    if (options->size != sizeof(*options))
        return text_set(-EINVAL, "options: start from RONDO_TLS_OPTIONS_INIT");
    if (handlers && handlers->size != sizeof(*handlers))
        return text_set(-EINVAL, "handlers: size is not that of struct rondo_tls_handlers");
    if (options->handshake_timeout_ns == 0)
        return text_set(-EINVAL, "handshake_timeout_ns: 0 is no time; UINT64_MAX is for ever");
    if (options->close_timeout_ns == 0)
        return text_set(-EINVAL, "close_timeout_ns: 0 is no time; UINT64_MAX is for ever");
    if (options->write_queue_max == 0)
        return text_set(-EINVAL, "write_queue_max: nothing could be written with 0");
    if (config->is_server)
        return 0;
    if (options->host && strlen(options->host) >= TLS_HOST_SIZE)
        return text_set(-EINVAL, "host: longer than %d bytes", TLS_HOST_SIZE - 1);
    if (config->verifies && (!options->host || !options->host[0]))
        return text_set(-EINVAL, "host: needed to verify the server's certificate");
    return 0;
}

static struct rondo_tls *tls_create(rondo_stream *stream, rondo_tls_config *config,
                                    const struct rondo_tls_options *options,
                                    const struct rondo_tls_handlers *handlers, void *ctx)
{
    struct rondo_tls *tls = OPENSSL_zalloc(sizeof(*tls));

    if (!tls)
        return NULL;
    atomic_init(&tls->refs, 1);
    (void)pthread_mutex_init(&tls->lock, NULL);
    tls->stream = rondo_stream_ref(stream);
    tls->strand = rondo_stream_strand(stream);
    tls->config = rondo_tls_config_ref(config);
    tls->handlers = handlers;
    tls->ctx = ctx;
    tls->handshake_timeout_ns = options->handshake_timeout_ns;
    tls->close_timeout_ns = options->close_timeout_ns;
    tls->queued_max = options->write_queue_max;
    tls->low = TLS_LOW;
    tls->high = TLS_HIGH;
    if (!config->is_server && options->host)
        memcpy(tls->host, options->host, strlen(options->host) + 1);
    ERR_clear_error();
    if (set_ssl(tls))
        return tls;
    ERR_clear_error();
    tls_free(tls);
    return NULL;
}

TLS_PUBLIC int rondo_tls_start(rondo_stream *stream, rondo_tls_config *config,
                               const struct rondo_tls_options *options,
                               const struct rondo_tls_handlers *handlers, void *ctx,
                               rondo_tls **ret_tls)
{
    static const struct rondo_tls_options defaults = RONDO_TLS_OPTIONS_INIT;

    if (!options)
        options = &defaults;
    if (!stream || !config)
        return text_set(-EINVAL, "a stream and a config are needed");
    int error = check(config, options, handlers);
    if (error)
        return error;
    struct rondo_tls *tls = tls_create(stream, config, options, handlers, ctx);
    if (!tls)
        return text_set(-ENOMEM, "no memory for a TLS stream");

    /* The post and the start are one step: the engine begins after both, or not at all. */
    tls_lock(tls);
    error = rondo_strand_post(tls->strand, engine_begin, rondo_tls_ref(tls), NULL);
    if (error)
        (void)atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_relaxed); /* Not the last. */
    else if (!options->started)
        error = rondo_stream_start(stream, &engine_handlers, tls);
    tls->dead = error != 0;
    if (!error && ret_tls)
        *ret_tls = rondo_tls_ref(tls); /* Before the first callback. */
    tls_unlock(tls);
    if (!error)
        return 0;
    rondo_tls_unref(tls);
    return text_set(error, "the stream cannot be started: %s", rondo_error_name(error));
}

TLS_PUBLIC const struct rondo_stream_handlers *rondo_tls_stream_handlers(void)
{
    return &engine_handlers;
}

/* ---- asking ---- */

TLS_PUBLIC int rondo_tls_info(rondo_tls *tls, struct rondo_tls_info *ret_info)
{
    if (!tls || !ret_info || ret_info->size != sizeof(*ret_info))
        return -EINVAL;
    tls_lock(tls);
    bool is_open = tls->is_open;
    tls_unlock(tls);
    if (!is_open)
        return -ENOTCONN;
    /* All of it was written before is_open and stays. */
    ret_info->version = tls->version;
    ret_info->cipher = tls->cipher;
    ret_info->alpn = tls->alpn[0] ? tls->alpn : NULL;
    ret_info->server_name = tls->host[0] ? tls->host : NULL;
    ret_info->resumed = tls->resumed;
    return 0;
}

TLS_PUBLIC const char *rondo_tls_error_text(rondo_tls *tls)
{
    if (!tls)
        return text_get();
    tls_lock(tls);
    bool failed = tls->error != 0;
    tls_unlock(tls);
    return failed ? tls->error_text : "";
}

TLS_PUBLIC SSL *rondo_tls_openssl(rondo_tls *tls)
{
    return tls ? tls->ssl : NULL;
}

TLS_PUBLIC rondo_stream *rondo_tls_stream(rondo_tls *tls)
{
    return tls ? tls->stream : NULL;
}

TLS_PUBLIC size_t rondo_tls_write_queued(rondo_tls *tls)
{
    if (!tls)
        return 0;
    tls_lock(tls);
    size_t queued = tls->queued;
    tls_unlock(tls);
    return queued;
}

TLS_PUBLIC int rondo_tls_set_watermarks(rondo_tls *tls, size_t low, size_t high)
{
    if (!tls || high == 0 || low > high)
        return -EINVAL;
    tls_lock(tls);
    tls->low = low;
    tls->high = high;
    tls_unlock(tls);
    return 0;
}

/* ---- writing ---- */

/* 0, or why nothing more may be asked. Lock held. */
static int open_error(const struct rondo_tls *tls)
{
    bool closes = tls->is_ended || (tls->wishes & (TLS_WISH_CLOSE | TLS_WISH_ABORT));

    return closes ? -EBADF : 0;
}

static int write_check(const struct rondo_tls *tls, size_t size)
{
    if (open_error(tls))
        return open_error(tls);
    if (tls->wishes & TLS_WISH_SHUTDOWN)
        return -EPIPE;
    return size > tls->queued_max || tls->queued > tls->queued_max - size ? -ENOBUFS : 0;
}

static struct operation *copy_create(const void *data, size_t size)
{
    struct operation *copy = NULL;

    if (size <= SIZE_MAX - sizeof(*copy))
        copy = OPENSSL_malloc(sizeof(*copy) + size);
    if (!copy)
        return NULL;
    *copy = (struct operation){.kind = OPERATION_WRITE, .size = size};
    memcpy(copy->bytes, data, size);
    copy->data = copy->bytes;
    return copy;
}

/* In a callback, with nothing queued before it, it need not be copied. False: it has to wait. */
static bool write_now(struct rondo_tls *tls, const void *data, size_t size, int *ret_error)
{
    tls_lock(tls);
    bool waits = tls->waiting[OPERATION_WRITE].first != NULL;
    *ret_error = write_check(tls, size);
    bool fits = !waits && !*ret_error && engine_can_write(tls, size);
    if (fits) {
        queue_grow(tls, size);
        (void)engine_kick(tls); /* From inside a callback it cannot fail. */
    }
    tls_unlock(tls);
    if (fits)
        engine_write(tls, data, size);
    return fits || *ret_error;
}

TLS_PUBLIC int rondo_tls_write(rondo_tls *tls, const void *data, size_t size)
{
    int error = 0;

    if (!tls || !data || size == 0)
        return -EINVAL;
    if (engine_is_running(tls) && write_now(tls, data, size, &error))
        return error;
    struct operation *copy = copy_create(data, size);
    if (!copy)
        return -ENOMEM;
    tls_lock(tls);
    error = write_check(tls, size);
    if (!error)
        error = engine_kick(tls);
    if (!error) {
        operations_append(&tls->waiting[OPERATION_WRITE], copy);
        queue_grow(tls, size);
    }
    tls_unlock(tls);
    if (error)
        OPENSSL_free(copy);
    return error;
}

/* ---- reading on, closing ---- */

/* Sets a wish: 0, -EALREADY, or what @blocks it. */
static int wish(struct rondo_tls *tls, uint32_t flag, bool blocked_by_close)
{
    if (!tls)
        return -EINVAL;
    tls_lock(tls);
    int error = blocked_by_close ? open_error(tls) : 0;
    if (!error && ((tls->wishes & (flag | TLS_WISH_ABORT)) || tls->is_ended))
        error = -EALREADY;
    if (!error)
        error = engine_kick(tls);
    if (!error)
        tls->wishes |= flag;
    tls_unlock(tls);
    return error;
}

TLS_PUBLIC int rondo_tls_read_stop(rondo_tls *tls)
{
    if (!tls)
        return -EINVAL;
    tls_lock(tls);
    int error = open_error(tls);
    if (!error)
        tls->wishes |= TLS_WISH_PAUSE; /* The engine looks before each callback. */
    tls_unlock(tls);
    return error;
}

TLS_PUBLIC int rondo_tls_read_start(rondo_tls *tls)
{
    if (!tls)
        return -EINVAL;
    tls_lock(tls);
    int error = open_error(tls);
    if (!error)
        error = engine_kick(tls);
    if (!error)
        tls->wishes &= ~(uint32_t)TLS_WISH_PAUSE;
    tls_unlock(tls);
    return error;
}

TLS_PUBLIC int rondo_tls_shutdown(rondo_tls *tls)
{
    return wish(tls, TLS_WISH_SHUTDOWN, true);
}

TLS_PUBLIC int rondo_tls_close(rondo_tls *tls)
{
    return wish(tls, TLS_WISH_CLOSE, false);
}

TLS_PUBLIC int rondo_tls_abort(rondo_tls *tls)
{
    if (!tls)
        return -EINVAL;
    tls_lock(tls);
    tls->wishes |= TLS_WISH_ABORT;
    tls_unlock(tls);
    return rondo_stream_abort(tls->stream);
}

/* ---- references ---- */

TLS_PUBLIC rondo_tls *rondo_tls_ref(rondo_tls *tls)
{
    if (tls) /* Relaxed: the caller has a reference. */
        (void)atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
    return tls;
}

TLS_PUBLIC void rondo_tls_unref(rondo_tls *tls)
{
    /* Pairs with itself: the last one sees all that was done under the other references. */
    if (tls && atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) == 1)
        tls_free(tls);
}
