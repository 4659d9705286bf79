/*
 * peer_epoll: the raw single-threaded, level-triggered epoll echo server.
 * It receives until a short read and replies with a plain send(). When the peer's window is full
 * the rest of the reply is kept and the connection waits for EPOLLOUT instead of EPOLLIN, so one
 * connection never holds more than one buffer.
 */
#define _GNU_SOURCE 1

#include <sys/epoll.h>

#include "peer.h"

enum { EVENTS_MAX = 512, BUF_SIZE = 65536 };

struct connection {
    int fd;
    uint32_t rest_size; /* bytes of a reply that are still to be sent */
    uint8_t *rest;
};

static struct peer_options options;
static int epoll_fd;
static uint8_t buf[BUF_SIZE];

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) != 0)
        peer_die("epoll_ctl", errno);
}

static void finish(struct connection *c)
{
    close(c->fd);
    free(c->rest);
    free(c);
}

static void accept_all(const struct connection *listener)
{
    for (uint32_t i = 0; i < EVENTS_MAX; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection *c = calloc(1, sizeof(*c));
        if (c == NULL)
            peer_die("connection", ENOMEM);
        c->fd = fd;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Sends what it can and keeps the rest. Returns false when the connection is broken. */
static bool reply(struct connection *c, const uint8_t *bytes, uint32_t size)
{
    ssize_t sent = send(c->fd, bytes, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return true;
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return false;

    uint32_t done = sent > 0 ? (uint32_t)sent : 0;
    uint8_t *rest = malloc(size - done);
    if (rest == NULL)
        return false;
    memcpy(rest, bytes + done, size - done);
    c->rest = rest;
    c->rest_size = size - done;
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    return true;
}

static bool on_readable(struct connection *c)
{
    ssize_t received = 0;
    do {
        received = recv(c->fd, buf, sizeof(buf), 0);
        if (received < 0)
            return errno == EAGAIN || errno == EINTR;
        if (received == 0)
            return false;
        peer_serve(&options, buf);
        if (!reply(c, buf, (uint32_t)received))
            return false;
    } while (received == (ssize_t)sizeof(buf) && c->rest == NULL);
    return true;
}

static bool on_writable(struct connection *c)
{
    uint8_t *bytes = c->rest;
    uint32_t size = c->rest_size;
    c->rest = NULL;
    c->rest_size = 0;
    bool alive = reply(c, bytes, size);
    free(bytes);
    if (alive && c->rest == NULL)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return alive;
}

int main(int argc, char **argv)
{
    options = peer_options_parse(argc, argv, 0);
    peer_prepare_process();
    struct connection listener = {.fd = peer_listen(&options, SOCK_NONBLOCK)};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        peer_die("epoll_create1", errno);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);

    static struct epoll_event events[EVENTS_MAX];
    for (;;) { /* Runs until SIGTERM. */
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            peer_die("epoll_wait", errno);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &listener)
                accept_all(&listener);
            else if (!(c->rest != NULL ? on_writable(c) : on_readable(c)))
                finish(c);
        }
    }
}
