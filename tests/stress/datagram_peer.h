/* What the tests of datagram sockets share: a recorder behind a rondo datagram socket, and plain
 * sockets that play the peer. */
#ifndef TEST_DATAGRAM_PEER_H
#define TEST_DATAGRAM_PEER_H

#include "support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* What a rondo datagram socket told. */
struct recorder {
    rondo_datagram *datagram;
    _Atomic uint64_t count; /* datagrams */
    _Atomic uint64_t bytes;
    _Atomic int drained;
    _Atomic int errors;
    _Atomic int error; /* the last one */
    _Atomic int closed;
    _Atomic int closed_error;
    void (*received)(struct recorder *recorder, const struct rondo_message *message);
    void *ctx;
};

static inline void recorder_received(rondo_datagram *datagram, const struct rondo_message *message,
                                     void *ctx)
{
    struct recorder *recorder = ctx;

    CHECK(recorder->datagram == NULL || recorder->datagram == datagram);
    CHECK(message->data);
    CHECK_EQUAL(atomic_load(&recorder->closed), 0);
    if (recorder->received)
        recorder->received(recorder, message);
    atomic_fetch_add(&recorder->bytes, message->size);
    atomic_fetch_add(&recorder->count, 1);
}

static inline void recorder_drained(rondo_datagram *datagram, void *ctx)
{
    struct recorder *recorder = ctx;

    (void)datagram;
    atomic_fetch_add(&recorder->drained, 1);
}

static inline void recorder_error(rondo_datagram *datagram, int error, void *ctx)
{
    struct recorder *recorder = ctx;

    (void)datagram;
    CHECK_EQUAL(atomic_load(&recorder->closed), 0);
    atomic_store(&recorder->error, error);
    atomic_fetch_add(&recorder->errors, 1);
}

static inline void recorder_closed(rondo_datagram *datagram, int error, void *ctx)
{
    struct recorder *recorder = ctx;

    (void)datagram;
    atomic_store(&recorder->closed_error, error);
    CHECK_EQUAL(atomic_fetch_add(&recorder->closed, 1), 0);
}

static const struct rondo_datagram_handlers recorder_handlers = {
    sizeof(recorder_handlers), recorder_received, recorder_drained, recorder_error, recorder_closed,
};

/* Sends each datagram back to where it came from. */
static inline void echo_received(struct recorder *recorder, const struct rondo_message *message)
{
    CHECK_EQUAL(rondo_datagram_send(recorder->datagram, message->data, message->size, message->from,
                                    message->from_size),
                0);
}

/* ---- begin and end ---- */

static inline void udp_open(struct recorder *recorder, rondo_loop *loop, const char *host,
                            const struct rondo_datagram_options *options)
{
    CHECK_EQUAL(rondo_datagram_create(loop, host, 0, options, &recorder_handlers, recorder,
                                      &recorder->datagram),
                0);
}

static inline void unix_open(struct recorder *recorder, rondo_loop *loop, const char *path)
{
    CHECK_EQUAL(rondo_datagram_create_unix(loop, path, NULL, &recorder_handlers, recorder,
                                           &recorder->datagram),
                0);
}

static inline void recorder_close(struct recorder *recorder)
{
    CHECK_EQUAL(rondo_datagram_close(recorder->datagram), 0);
    WAIT_UNTIL(atomic_load(&recorder->closed) == 1, 5000);
    CHECK_EQUAL(atomic_load(&recorder->closed_error), 0);
}

static inline void loop_end(rondo_loop *loop)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 10000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static inline struct sockaddr_in udp_address(rondo_datagram *datagram)
{
    struct sockaddr_storage address;

    CHECK_EQUAL(rondo_datagram_local_address(datagram, &address), 0);
    CHECK_EQUAL(address.ss_family, AF_INET);
    return *(struct sockaddr_in *)&address;
}

#define TO(address) (const struct sockaddr *)&(address), sizeof(address)

/* ---- plain sockets ---- */

/* Gives up after this long, so that a lost datagram fails a test instead of hanging it. */
static inline void set_patience(int fd)
{
    struct timeval patience = {.tv_sec = TEST_SANITIZED ? 20 : 5};
    int room = 4 << 20;

    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
}

/* Bound to 127.0.0.1 and a port of its own. */
static inline int plain_udp(struct sockaddr_in *ret_address)
{
    socklen_t size = sizeof(*ret_address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    set_patience(fd);
    *ret_address = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    CHECK_EQUAL(bind(fd, TO(*ret_address)), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)ret_address, &size), 0);
    return fd;
}

/* The same on an abstract Unix name of this process. */
static inline struct sockaddr_un unix_name(const char *name, socklen_t *ret_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "rondo-%d-%s",
                          (int)getpid(), name);

    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    return address;
}

static inline int plain_unix(const char *name)
{
    socklen_t size;
    struct sockaddr_un address = unix_name(name, &size);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    set_patience(fd);
    CHECK_EQUAL(bind(fd, (const struct sockaddr *)&address, size), 0);
    return fd;
}

/* "@rondo-PID-name", for rondo_datagram_create_unix(). */
static inline const char *unix_path(const char *name, char *buffer, size_t size)
{
    (void)snprintf(buffer, size, "@rondo-%d-%s", (int)getpid(), name);
    return buffer;
}

/* Fails when nothing comes in time. */
static inline size_t plain_receive(int fd, void *data, size_t size)
{
    ssize_t received;

    do
        received = recv(fd, data, size, 0);
    while (received < 0 && errno == EINTR);
    if (received < 0)
        check_failed(__FILE__, __LINE__, strerror(errno));
    return (size_t)received;
}

static inline void plain_send(int fd, const void *data, size_t size, const struct sockaddr *to,
                              socklen_t to_size)
{
    CHECK_EQUAL(sendto(fd, data, size, 0, to, to_size), size);
}

/* ---- bytes that tell their number ---- */

static inline void fill_bytes(uint8_t *data, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(number * 131 + i * 7);
}

static inline bool bytes_are(const void *data, size_t size, uint64_t number)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (uint8_t)(number * 131 + i * 7))
            return false;
    return true;
}

/* ---- lent sends ---- */

struct lent {
    _Atomic int count;
    int64_t value;
    uint64_t bytes;
    rondo_handle handle;
};

static inline void lent_done(const struct rondo_result *result, void *ctx)
{
    struct lent *lent = ctx;

    lent->value = result->value;
    lent->bytes = result->bytes;
    CHECK_EQUAL(atomic_fetch_add(&lent->count, 1), 0);
}

static inline void lent_wait(struct lent *lent, int64_t value)
{
    WAIT_UNTIL(atomic_load(&lent->count) == 1, 5000);
    CHECK_EQUAL(lent->value, value);
    CHECK_EQUAL(lent->bytes, value > 0 ? value : 0);
}

#define LENT(lent, ...) \
    (&RONDO_REQUEST(.done = lent_done, .ctx = (lent), .ret_handle = &(lent)->handle, __VA_ARGS__))

#endif
