/* Sessions that a client may go on with, by the name of the server.
 *
 * Any thread, under a lock of its own. A ticket of TLS 1.3 is handed out once, so that nobody who
 * listens can tell that two connections are of the same client; an older session stays.
 */
#ifndef RONDO_TLS_SESSION_H
#define RONDO_TLS_SESSION_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct session;

struct sessions {
    pthread_mutex_t lock;
    struct session *first; /* the one used last */
    uint32_t count;
    uint32_t count_max;
};

void sessions_init(struct sessions *sessions, uint32_t count_max);

void sessions_clear(struct sessions *sessions);

/* Keeps @session, whose reference it takes over: true, or false and the caller keeps it. */
bool sessions_put(struct sessions *sessions, const char *host, SSL_SESSION *session);

/* A session for @host with a reference for the caller, or NULL. */
SSL_SESSION *sessions_take(struct sessions *sessions, const char *host);

#endif
