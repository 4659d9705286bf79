/* What the tests of TLS share: certificates made for the run, a TLS stream under test with all that
 * it told, and peers: OpenSSL over a blocking socket on the test's own thread.
 */
#ifndef TLS_SUPPORT_H
#define TLS_SUPPORT_H

#include "support.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <rondo/tls.h>

enum { PATH_SIZE = 128 };

/* Files in a folder of their own: an authority, another one that nobody trusts, a key that all
 * certificates share, and one that has nothing to do with them. */
struct pki {
    char folder[PATH_SIZE];
    char ca[PATH_SIZE];
    char ca_other[PATH_SIZE];
    char key[PATH_SIZE];
    char key_other[PATH_SIZE];
    char server[PATH_SIZE];  /* localhost, 127.0.0.1 */
    char second[PATH_SIZE];  /* second.example */
    char expired[PATH_SIZE]; /* localhost, yesterday */
    char client[PATH_SIZE];
};

extern struct pki pki;

/* Group set-up and tear-down of cmocka. */
int pki_create(void **state);
int pki_remove(void **state);

/* ---- the side under test ---- */

/* A TLS stream over the connection that its listener accepts, and what it told. Whatever has
 * happened is counted after the rest is set. */
struct side {
    rondo_loop *loop;
    rondo_listener *listener;
    rondo_tls_config *config;
    struct rondo_tls_options options;
    const struct rondo_tls_handlers *handlers;
    void *ctx; /* of the test */

    _Atomic(rondo_tls *) tls; /* a reference, until side_end() */
    atomic_uint dialled;
    atomic_uint started;
    atomic_uint established;
    atomic_uint ended;
    atomic_uint drained;
    atomic_uint draining;
    atomic_uint closed;
    int error;
    char error_text[256];
    _Atomic uint64_t received;
    _Atomic uint64_t sum; /* checksum of what was received */
    atomic_bool echo;     /* write back what was read */
    atomic_bool busy;     /* in a callback: there is one at a time */
};

extern const struct rondo_tls_handlers side_handlers;

/* Make the config from these options, or the default of a client or server; listen. */
void side_begin(struct side *side, rondo_loop *loop, bool is_server,
                const struct rondo_tls_config_options *options);

/* Dials the side's listener: the peer's socket. The TLS stream is started when this returns. */
int side_dial(struct side *side);
/* With buffers so small that both have to wait again and again. */
int side_dial_tiny(struct side *side);

/* Waits for the closed callback and drops the reference; the side can be dialled again. */
void side_closed(struct side *side);

/* Closes the listener, drops the config. */
void side_end(struct side *side);

void side_check_echo(struct side *side, SSL *peer, const char *words);

struct rondo_tls_config_options server_options(void);
struct rondo_tls_config_options client_options(void);

/* ---- the peer ---- */

SSL_CTX *peer_client_ctx(void);
SSL_CTX *peer_server_ctx(const char *certificate);

/* A blocking connection on @fd, which it closes at its end; the handshake is not done. */
SSL *peer_new(SSL_CTX *ctx, int fd, bool is_server);

/* Does the handshake, which must succeed. */
SSL *peer_shake_hands(SSL *peer);
SSL *peer_connect(SSL_CTX *ctx, int fd);
SSL *peer_accept(SSL_CTX *ctx, int fd);

/* Reads exactly @size bytes. */
void peer_read(SSL *peer, void *data, size_t size);

/* Reads to the end: true if close_notify came, false if the connection just ended. */
bool peer_read_end(SSL *peer);

/* With close_notify, and without. */
void peer_close(SSL *peer);
void peer_drop(SSL *peer);

/* ---- data ---- */

void fill_bytes(uint64_t offset, void *data, size_t size);
uint64_t sum_bytes(uint64_t sum, const void *data, size_t size);

#endif
