/* What connections have in common: certificates, trust, protocols, sessions.
 *
 * Made on any thread; read by all connections after that and not changed, but for the sessions,
 * which have a lock. Kept alive by each connection.
 */
#ifndef RONDO_TLS_CONFIG_H
#define RONDO_TLS_CONFIG_H

#include "rondo/tls.h"

#include "session.h"

#include <stdatomic.h>

struct host;

struct rondo_tls_config {
    atomic_uint refs;
    SSL_CTX *ctx;
    BIO_METHOD *bio_method;
    bool is_server;
    bool verifies;       /* the peer must have a good certificate */
    bool resumes;        /* a client that keeps sessions */
    unsigned char *alpn; /* as on the wire, each with its length in front */
    unsigned alpn_size;
    struct host *hosts;
    struct sessions sessions;
};

#endif
