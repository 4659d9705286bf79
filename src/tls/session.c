/* The cache of a client's sessions; see session.h. Any thread. */
#include "session.h"

#include <string.h>

struct session {
    struct session *next;
    SSL_SESSION *session;
    char host[];
};

void sessions_init(struct sessions *sessions, uint32_t count_max)
{
    (void)pthread_mutex_init(&sessions->lock, NULL);
    sessions->count_max = count_max;
}

static void session_free(struct session *session)
{
    SSL_SESSION_free(session->session);
    OPENSSL_free(session);
}

void sessions_clear(struct sessions *sessions)
{
    while (sessions->first) {
        struct session *next = sessions->first->next;
        session_free(sessions->first);
        sessions->first = next;
    }
    (void)pthread_mutex_destroy(&sessions->lock);
}

/* Takes the last one out. */
static struct session *drop_oldest(struct sessions *sessions)
{
    struct session **at = &sessions->first;
    struct session *oldest;

    while ((*at)->next)
        at = &(*at)->next;
    oldest = *at;
    *at = NULL;
    sessions->count--;
    return oldest;
}

bool sessions_put(struct sessions *sessions, const char *host, SSL_SESSION *session)
{
    size_t size = strlen(host) + 1;
    struct session *kept = OPENSSL_zalloc(sizeof(*kept) + size);
    struct session *dropped = NULL;

    if (!kept)
        return false;
    kept->session = session;
    memcpy(kept->host, host, size);
    (void)pthread_mutex_lock(&sessions->lock);
    if (sessions->count == sessions->count_max)
        dropped = drop_oldest(sessions);
    kept->next = sessions->first;
    sessions->first = kept;
    sessions->count++;
    (void)pthread_mutex_unlock(&sessions->lock);
    if (dropped)
        session_free(dropped);
    return true;
}

/* Takes the newest one of @host out of the list, or NULL. */
static struct session *remove_newest(struct sessions *sessions, const char *host)
{
    for (struct session **at = &sessions->first; *at; at = &(*at)->next) {
        struct session *found = *at;
        if (strcmp(found->host, host) != 0)
            continue;
        *at = found->next;
        sessions->count--;
        return found;
    }
    return NULL;
}

SSL_SESSION *sessions_take(struct sessions *sessions, const char *host)
{
    SSL_SESSION *result = NULL;

    (void)pthread_mutex_lock(&sessions->lock);
    struct session *found = remove_newest(sessions, host);
    if (found) {
        result = found->session;
        if (SSL_SESSION_get_protocol_version(result) < TLS1_3_VERSION) {
            (void)SSL_SESSION_up_ref(result);
            found->next = sessions->first;
            sessions->first = found;
            sessions->count++;
            found = NULL;
        }
    }
    (void)pthread_mutex_unlock(&sessions->lock);
    OPENSSL_free(found);
    return result;
}
