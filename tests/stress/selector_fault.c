/* Goal: show the fault that a selector has when several threads share it, and that completions do
 * not have it: an event handed out to a thread while another one handles it, or when nothing is
 * left to read.
 *
 * Method: the same traffic, messages on many TCP connections that are echoed, goes to four threads
 * that wait on one level-triggered epoll, and to rondo with four workers. Both count, in the same
 * way, deliveries for a connection that is being handled (overlaps) and deliveries without a byte.
 */
#include "support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    WORKERS = 4,
    CLIENT_THREADS = 2,
    CONNECTIONS = 16, /* of each client thread */
    ROUNDS = 1500,
    MESSAGE_SIZE = 64,
    FD_MAX = 4096,
};

static _Atomic uint64_t overlaps;
static _Atomic uint64_t empties;
static _Atomic uint64_t deliveries;

/* What a server does with a message. */
static void handle(const char *data)
{
    volatile uint32_t sum = 0;

    for (uint32_t i = 0; i < 2000; i++)
        sum = sum + (uint8_t)data[i % MESSAGE_SIZE];
}

/* ---- the traffic, the same for both ---- */

static void *client_main(void *arg)
{
    uint16_t port = *(uint16_t *)arg;
    uint64_t rounds = test_scaled(ROUNDS);
    char message[MESSAGE_SIZE];
    char answer[MESSAGE_SIZE];
    int fds[CONNECTIONS];

    for (uint32_t i = 0; i < CONNECTIONS; i++)
        fds[i] = tcp_dial(port);
    for (uint64_t round = 0; round < rounds; round++) {
        memset(message, (int)(round & 127), sizeof(message));
        for (uint32_t i = 0; i < CONNECTIONS; i++)
            tcp_send(fds[i], message, sizeof(message));
        for (uint32_t i = 0; i < CONNECTIONS; i++) {
            CHECK_EQUAL(tcp_receive(fds[i], answer, sizeof(answer)), sizeof(answer));
            CHECK_EQUAL(memcmp(message, answer, sizeof(answer)), 0);
        }
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        (void)close(fds[i]);
    return NULL;
}

static void run_clients(uint16_t port)
{
    pthread_t threads[CLIENT_THREADS];

    for (uint32_t i = 0; i < CLIENT_THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, client_main, &port), 0);
    for (uint32_t i = 0; i < CLIENT_THREADS; i++)
        (void)pthread_join(threads[i], NULL);
}

static void report(const char *name)
{
    fprintf(stderr, "%s: %llu deliveries, %llu overlapping, %llu empty\n", name,
            (unsigned long long)atomic_load(&deliveries),
            (unsigned long long)atomic_load(&overlaps), (unsigned long long)atomic_load(&empties));
}

static void reset_counts(void)
{
    atomic_store(&overlaps, 0);
    atomic_store(&empties, 0);
    atomic_store(&deliveries, 0);
}

/* ---- a selector shared by threads ---- */

static struct {
    int epoll;
    int listener;
    atomic_bool stopping;
    atomic_int in_hand[FD_MAX];
} selector;

static void selector_watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    CHECK(fd < FD_MAX);
    CHECK_EQUAL(epoll_ctl(selector.epoll, EPOLL_CTL_ADD, fd, &event), 0);
}

static void selector_accept(void)
{
    int fd = accept4(selector.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0)
        selector_watch(fd); /* Several threads come for one connection too, but that is not told. */
}

static void selector_read(int fd)
{
    char data[MESSAGE_SIZE];

    atomic_fetch_add(&deliveries, 1);
    if (atomic_fetch_add(&selector.in_hand[fd], 1) > 0)
        atomic_fetch_add(&overlaps, 1);
    ssize_t count = recv(fd, data, sizeof(data), 0);
    if (count > 0) {
        handle(data);
        CHECK_EQUAL(send(fd, data, (size_t)count, MSG_NOSIGNAL), count);
    } else if (count < 0) {
        CHECK(errno == EAGAIN || errno == ECONNRESET);
        atomic_fetch_add(&empties, 1);
    } else {
        /* Closed with the process's others at the end: a close here could hit a new one. */
        (void)epoll_ctl(selector.epoll, EPOLL_CTL_DEL, fd, NULL);
    }
    atomic_fetch_sub(&selector.in_hand[fd], 1);
}

static void *selector_worker(void *arg)
{
    (void)arg;
    while (!atomic_load(&selector.stopping)) {
        struct epoll_event event;
        int count = epoll_wait(selector.epoll, &event, 1, 20);
        if (count == 1 && event.data.fd == selector.listener)
            selector_accept();
        else if (count == 1)
            selector_read(event.data.fd);
    }
    return NULL;
}

static uint16_t selector_listen(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    selector.epoll = epoll_create1(EPOLL_CLOEXEC);
    selector.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(selector.epoll >= 0 && selector.listener >= 0);
    CHECK_EQUAL(bind(selector.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQUAL(listen(selector.listener, 128), 0);
    CHECK_EQUAL(getsockname(selector.listener, (struct sockaddr *)&address, &size), 0);
    selector_watch(selector.listener);
    return ntohs(address.sin_port);
}

static void a_selector_shared_by_threads_delivers_twice(void **state)
{
    (void)state;
    (void)test_begin("selector_fault, epoll");
    pthread_t threads[WORKERS];
    uint16_t port = selector_listen();

    reset_counts();
    for (uint32_t i = 0; i < WORKERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, selector_worker, NULL), 0);
    run_clients(port);
    atomic_store(&selector.stopping, true);
    for (uint32_t i = 0; i < WORKERS; i++)
        (void)pthread_join(threads[i], NULL);
    report("epoll");
    CHECK(atomic_load(&overlaps) + atomic_load(&empties) > 0);
}

/* ---- rondo ---- */

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    atomic_int *in_hand = ctx;

    atomic_fetch_add(&deliveries, 1);
    if (atomic_fetch_add(in_hand, 1) > 0)
        atomic_fetch_add(&overlaps, 1);
    if (size == 0) {
        atomic_fetch_add(&empties, 1);
    } else {
        handle(data);
        CHECK_EQUAL(rondo_stream_write(stream, data, size), 0);
    }
    atomic_fetch_sub(in_hand, 1);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
    };
    static atomic_int in_hand[CLIENT_THREADS * CONNECTIONS];
    static atomic_uint next;

    (void)listener;
    (void)ctx;
    uint32_t index = atomic_fetch_add(&next, 1);
    CHECK(index < CLIENT_THREADS * CONNECTIONS);
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, &in_hand[index]), 0);
}

static void rondo_delivers_once(void **state)
{
    (void)state;
    (void)test_begin("selector_fault, rondo");
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = on_accepted,
    };
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.workers = WORKERS;
    reset_counts();
    rondo_loop *loop = loop_begin(&options);
    run_clients(listener_port(listen_local(loop, &handlers, NULL)));
    rondo_loop_free(loop);
    report("rondo");
    CHECK(atomic_load(&deliveries) >= test_scaled(ROUNDS));
    CHECK_EQUAL(atomic_load(&overlaps), 0);
    CHECK_EQUAL(atomic_load(&empties), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_selector_shared_by_threads_delivers_twice),
        cmocka_unit_test(rondo_delivers_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
