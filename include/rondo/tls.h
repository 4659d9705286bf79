/* TLS over a stream: client and server, on OpenSSL. In a library of its own, librondo-tls
 * (pkg-config rondo-tls); rondo.h does not include this header.
 *
 * Callbacks of a TLS stream run on the strand of the stream it goes over, in order, one at a time
 * and never after its closed callback; so do handshakes and encryption, on workers. Every function
 * here may be called from any thread, and from any callback, unless it says otherwise.
 *
 * Life: rondo_tls_start() takes over a stream that was accepted or connected and not started; the
 * handshake begins by itself; it ends with exactly one closed callback. What is written before the
 * handshake is done waits for it. The loop must not be freed before the last reference is dropped.
 *
 * Errors of a connection, in its closed callback and in its operations:
 *   -EKEYREJECTED  the peer's certificate was refused: unknown authority, wrong name, expired
 *   -EPROTO        any other failure of TLS; also an alert that the peer sent
 *   -ECONNABORTED  the peer ended the connection without close_notify: data may be missing
 *   -ETIMEDOUT     the handshake, or the close, took too long
 *   -ECONNRESET and others as of a plain stream; -ECANCELED (aborted, or the loop stopped)
 */
#ifndef RONDO_TLS_H
#define RONDO_TLS_H

#include "op.h"
#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ssl_st;     /* OpenSSL's SSL */
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

typedef struct rondo_tls_config rondo_tls_config;
typedef struct rondo_tls rondo_tls;

enum rondo_tls_version { RONDO_TLS_1_2 = 2, RONDO_TLS_1_3 = 3 };

/* What is asked of the peer's certificate. */
enum rondo_tls_verify {
    RONDO_TLS_VERIFY_AUTO = 0,     /* a client: required; a server: none */
    RONDO_TLS_VERIFY_NONE = 1,     /* nothing is asked. A client is then open to anyone between */
    RONDO_TLS_VERIFY_OPTIONAL = 2, /* server only: one that is sent must be good */
    RONDO_TLS_VERIFY_REQUIRED = 3, /* it must be there and good */
};

/* Options of a config; strings are copied, files are read when it is created. */
struct rondo_tls_config_options {
    size_t size;
    /* PEM files: the own certificate with what leads to its authority, and its key. A server needs
     * both; a client may have them. */
    const char *certificate_file;
    const char *key_file;
    /* Whom to trust: a PEM file, a directory of hashed names. Both NULL: what the system trusts. */
    const char *ca_file;
    const char *ca_directory;
    enum rondo_tls_verify verify;
    /* The lowest version to speak. */
    enum rondo_tls_version version_min;
    /* Application protocols, the best first, with commas: "h2,http/1.1". NULL: none. A server
     * refuses a client that offers only others. */
    const char *alpn;
    /* OpenSSL's lists of TLS 1.2 ciphers and of TLS 1.3 cipher suites; NULL: OpenSSL's own. */
    const char *ciphers;
    const char *cipher_suites;
    /* A server gives out session tickets; a client keeps them by host and comes back with them. */
    bool resumption;
    /* Sessions that a client keeps: 1 to 65536; the one used longest ago makes room. */
    uint32_t sessions_max;
    /* Let the kernel encrypt where it can: see rondo_tls_kernel(). */
    bool kernel;
};

#define RONDO_TLS_CONFIG_OPTIONS_INIT                                                           \
    {                                                                                           \
        sizeof(struct rondo_tls_config_options), NULL, NULL, NULL, NULL, RONDO_TLS_VERIFY_AUTO, \
            RONDO_TLS_1_2, NULL, NULL, NULL, true, 256, true                                    \
    }

/* A config for clients. Any thread; does not suspend, but reads files. @options may be NULL:
 * system trust, no certificate of its own. *ret_config is yours until rondo_tls_config_unref().
 * Returns 0, or with a rondo_tls_error_text(NULL): -EINVAL (an option is out of range, a file is
 * not what it should be), -ENOENT (a file cannot be read), -EKEYREJECTED (the key is not that of
 * the certificate), -ENOMEM. Since 0.1. */
int rondo_tls_config_create_client(const struct rondo_tls_config_options *options,
                                   rondo_tls_config **ret_config);

/* A config for servers; certificate_file and key_file are needed. As
 * rondo_tls_config_create_client(). Since 0.1. */
int rondo_tls_config_create_server(const struct rondo_tls_config_options *options,
                                   rondo_tls_config **ret_config);

/* Clients that ask for @host (SNI) get the certificate and the ALPN list of @host_config, a
 * server's config too; the rest stays that of @config. "*.example.org" stands for all names with
 * one label more. @host is copied, @host_config is kept alive. Any thread, before the first stream
 * uses @config; does not suspend.
 * Returns 0, -EINVAL (also: not servers' configs), -EEXIST, -ENOMEM. Since 0.1. */
int rondo_tls_config_add_host(rondo_tls_config *config, const char *host,
                              rondo_tls_config *host_config);

/* OpenSSL's object, to set what is not offered here before the first stream uses it. Any thread;
 * does not suspend. Belongs to the config. Since 0.1. */
struct ssl_ctx_st *rondo_tls_config_openssl(rondo_tls_config *config);

/* Keep the config for one more user; each TLS stream keeps its own. Any thread; does not suspend.
 * Returns @config. Since 0.1. */
rondo_tls_config *rondo_tls_config_ref(rondo_tls_config *config);

/* Drop one use; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_tls_config_unref(rondo_tls_config *config);

/* Whether the kernel encrypts (kTLS): 1, or 0. *ret_reason, if not NULL, becomes a constant
 * sentence that says why. This version always encrypts on the workers, and so returns 0; the
 * sentence tells whether the kernel would be able to. Any thread; does not suspend, but reads a
 * file of /proc. Since 0.1. */
int rondo_tls_kernel(const char **ret_reason);

/* What a TLS stream tells its user. Members may be NULL. */
struct rondo_tls_handlers {
    size_t size;
    /* The handshake is done: see rondo_tls_info(). */
    void (*established)(rondo_tls *tls, void *ctx);
    /* @size > 0 bytes arrived. @data is valid until the callback returns. NULL: they wait for
     * rondo_tls_read(). */
    void (*read)(rondo_tls *tls, const void *data, size_t size, void *ctx);
    /* The peer's close_notify arrived: it sent its last byte; writing still works. NULL: the stream
     * is closed, or with no read handler stays open. */
    void (*end)(rondo_tls *tls, void *ctx);
    /* The write queue fell to the low watermark after it had been above the high one. */
    void (*drained)(rondo_tls *tls, void *ctx);
    /* The loop drains: finish and close before the loop's deadline. NULL: it is closed. */
    void (*draining)(rondo_tls *tls, void *ctx);
    /* The last callback. @error: 0 (asked for), or as listed on top. Operations that it ended may
     * be done after it. */
    void (*closed)(rondo_tls *tls, int error, void *ctx);
};

struct rondo_tls_options {
    size_t size;
    /* Client only: the name of the server, which its certificate must have, which is sent (SNI),
     * and under which sessions are kept. May be a numeric address. Copied. Needed unless
     * RONDO_TLS_VERIFY_NONE. */
    const char *host;
    /* How long the handshake may take: 1 to UINT64_MAX, which is for ever. */
    uint64_t handshake_timeout_ns;
    /* How long a close may take until what was written is with the kernel; then the connection is
     * reset. 1 to UINT64_MAX. */
    uint64_t close_timeout_ns;
    /* Bytes that may be queued for writing before a write is refused: 1 to SIZE_MAX. */
    size_t write_queue_max;
    /* For protocols that begin without TLS: the stream is started already, with handlers of yours,
     * which hand on to those of rondo_tls_stream_handlers(). Call rondo_tls_start() in the stream's
     * strand then. */
    bool started;
};

#define RONDO_TLS_OPTIONS_INIT                                                                \
    {                                                                                         \
        sizeof(struct rondo_tls_options), NULL, UINT64_C(10000000000), UINT64_C(10000000000), \
            67108864, false                                                                   \
    }

/* Begin TLS over @stream as @config says. Any thread; does not suspend. From here on use @stream
 * no more, except for its addresses and socket options. @options may be NULL for a server.
 * @handlers may be NULL for a user of operations only; they and @ctx must stay valid until the
 * closed callback, which follows a success exactly once; after an error nothing follows and the
 * stream is as it was. *ret_tls is a reference of yours until rondo_tls_unref(); ret_tls may be
 * NULL: callbacks get the pointer, valid until the closed callback returns.
 * Returns 0, -ENOMEM, -EALREADY (the stream was started before), -EBADF (it is closing), -EAGAIN,
 * -ESHUTDOWN (the loop is stopping), -ECHILD, or with a rondo_tls_error_text(NULL): -EINVAL.
 * Since 0.1. */
int rondo_tls_start(rondo_stream *stream, rondo_tls_config *config,
                    const struct rondo_tls_options *options,
                    const struct rondo_tls_handlers *handlers, void *ctx, rondo_tls **ret_tls);

/* Handlers of a stream whose ctx is the TLS stream: with the option started, call each from your
 * own handler of that name, with the TLS stream as its ctx. Any thread; does not suspend. A
 * constant; the calls themselves belong in the stream's strand. Since 0.1. */
const struct rondo_stream_handlers *rondo_tls_stream_handlers(void);

/* What the handshake agreed on. The strings belong to the TLS stream. */
struct rondo_tls_info {
    size_t size;
    const char *version;     /* "TLSv1.3" */
    const char *cipher;      /* "TLS_AES_256_GCM_SHA384" */
    const char *alpn;        /* the application protocol, or NULL */
    const char *server_name; /* a client: the host; a server: what the client asked for, or NULL */
    bool resumed;            /* an earlier session went on: no certificates were exchanged */
};

#define RONDO_TLS_INFO_INIT                                          \
    {                                                                \
        sizeof(struct rondo_tls_info), NULL, NULL, NULL, NULL, false \
    }

/* Read them; the strings are valid as long as @tls. Any thread; does not suspend.
 * Returns 0, -EINVAL (NULL, or a size this library does not know), -ENOTCONN (the handshake is not
 * done). Since 0.1. */
int rondo_tls_info(rondo_tls *tls, struct rondo_tls_info *ret_info);

/* Why the connection failed, in a sentence; empty while it has not. With NULL: why the last
 * function of this header that failed on this thread did. Any thread; does not suspend. Valid as
 * long as @tls, or until the next failure on this thread. Since 0.1. */
const char *rondo_tls_error_text(rondo_tls *tls);

/* OpenSSL's object of the connection, for what is not offered here, such as the peer's certificate;
 * reading and writing with it breaks the stream. In callbacks of @tls only, closed included; does
 * not suspend. Since 0.1. */
struct ssl_st *rondo_tls_openssl(rondo_tls *tls);

/* The stream it goes over, for its addresses and options. Any thread; does not suspend. Valid as
 * long as @tls. Since 0.1. */
rondo_stream *rondo_tls_stream(rondo_tls *tls);

/* Write a copy of @size bytes after all that was written before. Any thread; does not suspend.
 * Above the high watermark the stream stops reading by itself until the queue has drained.
 * Returns 0, -EINVAL (NULL, or size 0), -EPIPE (shut down for writing), -EBADF (closed or closing),
 * -ENOBUFS (write_queue_max is reached), -ENOMEM, -EAGAIN, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_tls_write(rondo_tls *tls, const void *data, size_t size);

/* Bytes accepted for writing that the kernel has not taken yet, before encryption. Any thread; does
 * not suspend. Since 0.1. */
size_t rondo_tls_write_queued(rondo_tls *tls);

/* Set the watermarks of the write queue, in bytes; 65536 and 262144 unless set. Any thread; does
 * not suspend. Returns 0, -EINVAL (NULL, high is 0, or low > high). Since 0.1. */
int rondo_tls_set_watermarks(rondo_tls *tls, size_t low, size_t high);

/* Call the read handler no more until rondo_tls_read_start(). Called in a callback of @tls it holds
 * from its return. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closed or closing), -EAGAIN, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_tls_read_stop(rondo_tls *tls);

/* Read on. Any thread; does not suspend. Returns what rondo_tls_read_stop() returns. Since 0.1. */
int rondo_tls_read_start(rondo_tls *tls);

/* Half close: close_notify goes out after all that was written. Reading goes on. Any thread; does
 * not suspend. Returns 0, -EINVAL, -EALREADY, -EBADF (closed or closing), -EAGAIN, -ESHUTDOWN,
 * -ECHILD. Since 0.1. */
int rondo_tls_shutdown(rondo_tls *tls);

/* Close: close_notify goes out after all that was written, then the connection is ended; the closed
 * callback follows. What arrives meanwhile is dropped. The peer's close_notify is not waited for;
 * its end of the connection is, for a second at most, so that what was written is not lost to a
 * reset. Before the handshake is done it waits for that if something was written. Any thread; does
 * not suspend. Returns 0, -EINVAL, -EALREADY, -EAGAIN, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_tls_close(rondo_tls *tls);

/* Close now: what is queued is dropped, the peer sees a reset. Any thread, also after
 * rondo_tls_close(); does not suspend. Returns 0, -EINVAL, -EALREADY. Since 0.1. */
int rondo_tls_abort(rondo_tls *tls);

/* End when the handshake is done, with 0, or has failed. A cancel only ends the waiting. Any
 * thread; does not suspend. Without a strand in @request done runs in that of the stream; so for
 * the other operations. Several may wait.
 * Returns 0, -EINVAL, -EBADF (closed), -ENOMEM, -EAGAIN, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_tls_handshake(rondo_tls *tls, const struct rondo_request *request);

/* Read what is there, at least one byte, into @buffer, lent until done: the count, or 0 when the
 * peer's close_notify arrived. Several are served in order. A cancelled one has taken no bytes. Any
 * thread; does not suspend.
 * Returns 0, -EINVAL (also: size 0), -EALREADY (there is a read handler), -EBADF (closed or
 * closing), -ENOMEM, -EAGAIN, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_tls_read(rondo_tls *tls, void *buffer, size_t size, const struct rondo_request *request);

/* Write all of @data, lent until done, after all that was written before: @size, when the kernel
 * has it. Of a cancelled one, bytes tells how many go out nevertheless. Any thread; does not
 * suspend. Returns what rondo_tls_write() returns. Since 0.1. */
int rondo_tls_write_all(rondo_tls *tls, const void *data, size_t size,
                        const struct rondo_request *request);

/* Keep the pointer valid for one more user; calls on a closed one answer -EBADF. Any thread; does
 * not suspend. Returns @tls. Since 0.1. */
rondo_tls *rondo_tls_ref(rondo_tls *tls);

/* Drop one use; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_tls_unref(rondo_tls *tls);

#ifdef __cplusplus
}
#endif

#endif
