/* Goal: a connect ends once with the truth: connected, refused, out of time, cancelled; no
 * descriptor is left over, wherever the end meets it.
 * Method: listeners on loopback and Unix sockets. A listener whose backlog is full makes a connect
 * hang; a network name space of its own has no route; a child process has few descriptors. Names
 * with several addresses are in tests/unit/io/test_eyeballs.c. */
#include "support.h"

#include <arpa/inet.h>
#include <sched.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

static rondo_loop *loop;
static uint32_t descriptors_before;

static int begin(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)state;
    (void)test_begin("connect");
    descriptors_before = count_descriptors();
    options.lanes = 2;
    loop = loop_begin(&options);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    rondo_loop_free(loop);
    loop = NULL;
    WAIT_UNTIL(count_descriptors() == descriptors_before, 5000);
    return 0;
}

static int wait_done(struct outcome *dial)
{
    WAIT_UNTIL(atomic_load(&dial->count) > 0, 10000);
    CHECK_EQUAL(atomic_load(&dial->count), 1);
    CHECK((dial->result.value == 0) == (dial->result.stream != NULL));
    return (int)dial->result.value;
}

/* ---- plain listeners that nobody accepts from ---- */

struct plain {
    int fd;
    int filler; /* a connection that fills the backlog, or -1 */
    struct sockaddr_storage address;
    socklen_t size;
};

static int plain_connect(const struct plain *plain)
{
    int fd = socket(plain->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    CHECK_EQUAL(connect(fd, (const struct sockaddr *)&plain->address, plain->size), 0);
    return fd;
}

static struct plain plain_listen(const void *address, socklen_t size, int backlog)
{
    struct plain plain = {.filler = -1, .size = sizeof(plain.address)};

    plain.fd = socket(((const struct sockaddr *)address)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(plain.fd >= 0);
    CHECK_EQUAL(bind(plain.fd, address, size), 0);
    CHECK_EQUAL(getsockname(plain.fd, (struct sockaddr *)&plain.address, &plain.size), 0);
    if (backlog >= 0)
        CHECK_EQUAL(listen(plain.fd, backlog), 0);
    if (backlog == 0)
        plain.filler = plain_connect(&plain);
    return plain;
}

static struct plain plain_v4(int backlog)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};

    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return plain_listen(&v4, sizeof(v4), backlog);
}

/* Bound by the kernel to an abstract name of its choice. */
static struct plain plain_unix(int backlog)
{
    sa_family_t family = AF_UNIX;

    return plain_listen(&family, sizeof(family), backlog);
}

static uint16_t plain_port(const struct plain *plain)
{
    return ntohs(((const struct sockaddr_in *)&plain->address)->sin_port);
}

static void plain_close(struct plain *plain)
{
    (void)close(plain->fd);
    if (plain->filler >= 0)
        (void)close(plain->filler);
}

static void dial_plain(struct outcome *dial, const struct plain *plain, uint64_t deadline_ns)
{
    CHECK_EQUAL(rondo_stream_connect_address(loop, (const struct sockaddr *)&plain->address,
                                             plain->size, NULL,
                                             REQUEST(dial, .deadline_ns = deadline_ns)),
                0);
}

/* ---- success ---- */

struct talk {
    _Atomic int got;
    _Atomic int closed;
};

static void talk_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    struct talk *talk = ctx;

    (void)stream;
    CHECK(memcmp(data, "hello", size) == 0);
    atomic_fetch_add(&talk->got, (int)size);
}

static void talk_closed(rondo_stream *stream, int error, void *ctx)
{
    struct talk *talk = ctx;

    (void)stream;
    CHECK_EQUAL(error, 0);
    atomic_fetch_add(&talk->closed, 1);
}

static const struct rondo_stream_handlers talk_handlers = {
    .size = sizeof(talk_handlers),
    .read = talk_read,
    .closed = talk_closed,
};

/* The other side is an echo server. */
static void talk(struct outcome *dial)
{
    struct talk talk = {0};
    struct sockaddr_storage peer;

    CHECK_EQUAL(wait_done(dial), 0);
    CHECK_EQUAL(rondo_cancel(dial->handle), RONDO_CANCEL_FINISHED);
    rondo_stream *stream = dial->result.stream;
    CHECK_EQUAL(rondo_stream_peer_address(stream, &peer), 0);
    CHECK_EQUAL(rondo_stream_start(stream, &talk_handlers, &talk), 0);
    CHECK_EQUAL(rondo_stream_write(stream, "hello", 5), 0);
    WAIT_UNTIL(atomic_load(&talk.got) == 5, 5000);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    WAIT_UNTIL(atomic_load(&talk.closed) == 1, 5000);
}

static void every_kind_of_address(void **state)
{
    struct outcome dials[6] = {0};
    rondo_listener *v4 = listen_local(loop, &echo_listener, NULL);
    rondo_listener *v6 = NULL;
    struct sockaddr_storage address;
    char path[64];
    char name[64];

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/rondo-connect-%d.sock", (int)getpid());
    (void)snprintf(name, sizeof(name), "@rondo-connect-%d", (int)getpid());
    (void)unlink(path);
    uint16_t port = listener_port(v4);
    CHECK_EQUAL(rondo_stream_connect(loop, "127.0.0.1", port, NULL, REQUEST(&dials[0])), 0);
    talk(&dials[0]);
    CHECK_EQUAL(rondo_listener_address(v4, &address), 0);
    CHECK_EQUAL(rondo_stream_connect_address(loop, (struct sockaddr *)&address,
                                             sizeof(struct sockaddr_in), NULL, REQUEST(&dials[1])),
                0);
    talk(&dials[1]);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", port, NULL, REQUEST(&dials[2])), 0);
    talk(&dials[2]);
    if (rondo_listener_create(loop, "::1", 0, NULL, &echo_listener, NULL, &v6) == 0) {
        CHECK_EQUAL(rondo_stream_connect(loop, "::1", listener_port(v6), NULL, REQUEST(&dials[3])),
                    0);
        talk(&dials[3]);
    }
    CHECK_EQUAL(rondo_listener_create_unix(loop, path, NULL, &echo_listener, NULL, NULL), 0);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, path, NULL, REQUEST(&dials[4])), 0);
    talk(&dials[4]);
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &echo_listener, NULL, NULL), 0);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, name, NULL, REQUEST(&dials[5])), 0);
    talk(&dials[5]);
    (void)unlink(path);
}

static void the_peer_sees_the_source(void **state)
{
    struct plain plain = plain_v4(8);
    struct rondo_connect_options options = RONDO_CONNECT_OPTIONS_INIT;
    struct sockaddr_in peer;
    socklen_t size = sizeof(peer);
    struct outcome dials[3] = {0};

    (void)state;
    options.source_host = "127.0.0.5";
    CHECK_EQUAL(
        rondo_stream_connect(loop, "127.0.0.1", plain_port(&plain), &options, REQUEST(&dials[0])),
        0);
    CHECK_EQUAL(wait_done(&dials[0]), 0);
    int fd = accept(plain.fd, (struct sockaddr *)&peer, &size);
    CHECK(fd >= 0);
    CHECK_EQUAL(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK + 4);
    CHECK_EQUAL(rondo_stream_abort(dials[0].result.stream), 0);
    (void)close(fd);

    /* The port that was free a moment ago. */
    options.source_port = ntohs(peer.sin_port);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    CHECK_EQUAL(
        rondo_stream_connect(loop, "127.0.0.1", plain_port(&plain), &options, REQUEST(&dials[1])),
        0);
    CHECK_EQUAL(wait_done(&dials[1]), 0);
    fd = accept(plain.fd, (struct sockaddr *)&peer, &size);
    CHECK(fd >= 0);
    CHECK_EQUAL(ntohs(peer.sin_port), options.source_port);
    /* A second one from there to the same peer cannot be. */
    CHECK_EQUAL(
        rondo_stream_connect(loop, "127.0.0.1", plain_port(&plain), &options, REQUEST(&dials[2])),
        0);
    int error = wait_done(&dials[2]);
    CHECK(error == -EADDRNOTAVAIL || error == -EADDRINUSE);
    CHECK_EQUAL(rondo_stream_abort(dials[1].result.stream), 0);
    (void)close(fd);

    /* The same with IPv6, where there is one. */
    struct outcome v6 = {0};
    rondo_listener *listener = NULL;
    options.source_host = "::1";
    options.source_port = 0;
    if (rondo_listener_create(loop, "::1", 0, NULL, &echo_listener, NULL, &listener) == 0) {
        CHECK_EQUAL(
            rondo_stream_connect(loop, "::1", listener_port(listener), &options, REQUEST(&v6)), 0);
        talk(&v6);
    }

    /* Not an address of this machine. */
    struct outcome dial = {0};
    options.source_host = "192.0.2.1";
    CHECK_EQUAL(
        rondo_stream_connect(loop, "127.0.0.1", plain_port(&plain), &options, REQUEST(&dial)), 0);
    CHECK_EQUAL(wait_done(&dial), -EADDRNOTAVAIL);
    plain_close(&plain);
}

/* ---- failure ---- */

static void refused(void **state)
{
    struct plain plain = plain_v4(-1);
    struct outcome dials[5] = {0};

    (void)state;
    dial_plain(&dials[0], &plain, 0);
    CHECK_EQUAL(wait_done(&dials[0]), -ECONNREFUSED);
    CHECK_EQUAL(rondo_resolve_eai(&dials[0].result), 0);
    CHECK_EQUAL(
        rondo_stream_connect(loop, "localhost", plain_port(&plain), NULL, REQUEST(&dials[1])), 0);
    CHECK_EQUAL(wait_done(&dials[1]), -ECONNREFUSED);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "/no/such/socket", NULL, REQUEST(&dials[2])), 0);
    CHECK_EQUAL(wait_done(&dials[2]), -ENOENT);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "/etc/passwd", NULL, REQUEST(&dials[3])), 0);
    int error = wait_done(&dials[3]);
    CHECK(error == -ECONNREFUSED || error == -EACCES);
    CHECK_EQUAL(rondo_stream_connect(loop, "name.invalid", 80, NULL, REQUEST(&dials[4])), 0);
    error = wait_done(&dials[4]);
    CHECK(error == -ENOENT || error == -EAGAIN || error == -ENODATA);
    CHECK(rondo_resolve_eai(&dials[4].result) != 0);
    plain_close(&plain);
}

static void bad_input(void **state)
{
    struct rondo_connect_options options = RONDO_CONNECT_OPTIONS_INIT;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr strange = {.sa_family = AF_PACKET};
    char long_name[1100];
    struct outcome dial = {0};

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    CHECK_EQUAL(rondo_stream_connect(NULL, "::1", 80, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, NULL, 80, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, "", 80, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 0, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", 0, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, long_name, 80, NULL, REQUEST(&dial)), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", 80, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect_address(loop, NULL, 16, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect_address(loop, (struct sockaddr *)&v4, sizeof(v4), NULL,
                                             REQUEST(&dial)),
                -EINVAL);
    v4.sin_port = htons(80);
    CHECK_EQUAL(rondo_stream_connect_address(loop, (struct sockaddr *)&v4, 3, NULL, REQUEST(&dial)),
                -EINVAL);
    CHECK_EQUAL(rondo_stream_connect_address(loop, &strange, sizeof(strange), NULL, REQUEST(&dial)),
                -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, NULL, NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "", NULL, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, long_name, NULL, REQUEST(&dial)), -ENAMETOOLONG);
    options.family = AF_INET6;
    CHECK_EQUAL(rondo_stream_connect(loop, "127.0.0.1", 80, &options, REQUEST(&dial)),
                -EAFNOSUPPORT);
    options.source_host = "127.0.0.1";
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", 80, &options, REQUEST(&dial)),
                -EAFNOSUPPORT);
    options.family = AF_UNSPEC;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "/a/path", &options, REQUEST(&dial)),
                -EAFNOSUPPORT);
    options.source_host = "localhost";
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EINVAL);
    options.source_host = NULL;
    options.source_port = 1;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EINVAL);
    options.source_port = 0;
    options.family = AF_UNIX;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EAFNOSUPPORT);
    options.family = AF_UNSPEC;
    options.attempt_delay_ns = 10 * MS - 1;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EINVAL);
    options.attempt_delay_ns = 10000 * MS + 1;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EINVAL);
    options.size--;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, &options, REQUEST(&dial)), -EINVAL);
    CHECK_EQUAL(atomic_load(&dial.count), 0);
}

static void forked_child(void *ctx)
{
    struct outcome dial = {0};

    (void)ctx;
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, NULL, REQUEST(&dial)), -ECHILD);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", 80, NULL, REQUEST(&dial)), -ECHILD);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "/a/path", NULL, REQUEST(&dial)), -ECHILD);
    CHECK_EQUAL(rondo_resolve(loop, "localhost", NULL, NULL, REQUEST(&dial)), -ECHILD);
}

static void the_loop_is_the_parents(void **state)
{
    (void)state;
    run_in_child(forked_child, NULL);
}

static void no_route_in_child(void *ctx)
{
    struct outcome dial = {0};

    (void)ctx;
    if (unshare(CLONE_NEWNET) != 0) {
        printf("no name space of its own: %s\n", strerror(errno));
        return;
    }
    loop = loop_begin(NULL); /* Even the loopback is down here. */
    CHECK_EQUAL(rondo_stream_connect(loop, "192.0.2.1", 80, NULL, REQUEST(&dial)), 0);
    CHECK_EQUAL(wait_done(&dial), -ENETUNREACH);
    rondo_loop_free(loop);
}

static void no_route(void **state)
{
    (void)state;
    run_in_child(no_route_in_child, NULL);
}

static void no_descriptors_in_child(void *ctx)
{
    struct rlimit limit;
    struct outcome dials[3] = {0};
    rondo_listener *listener;

    (void)ctx;
    loop = loop_begin(NULL);
    listener = listen_local(loop, &echo_listener, NULL);
    uint16_t port = listener_port(listener);
    int last = dup(0);
    CHECK(last >= 0);
    (void)close(last);
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)last;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQUAL(rondo_stream_connect(loop, "127.0.0.1", port, NULL, REQUEST(&dials[0])), 0);
    CHECK_EQUAL(wait_done(&dials[0]), -EMFILE);
    CHECK_EQUAL(rondo_stream_connect_unix(loop, "@none", NULL, REQUEST(&dials[1])), 0);
    CHECK_EQUAL(wait_done(&dials[1]), -EMFILE);
    limit.rlim_cur += 8;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQUAL(rondo_stream_connect(loop, "127.0.0.1", port, NULL, REQUEST(&dials[2])), 0);
    talk(&dials[2]);
    rondo_loop_free(loop);
}

static void no_descriptors(void **state)
{
    (void)state;
    run_in_child(no_descriptors_in_child, NULL);
}

static void as_many_connections_as_allowed(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct plain plain = plain_v4(8);
    struct outcome dials[3] = {0};

    (void)state;
    options.connections = 1;
    loop = loop_begin(&options);
    dial_plain(&dials[0], &plain, 0);
    CHECK_EQUAL(wait_done(&dials[0]), 0);
    dial_plain(&dials[1], &plain, 0);
    CHECK_EQUAL(wait_done(&dials[1]), -ENOBUFS);
    CHECK_EQUAL(rondo_stream_abort(dials[0].result.stream), 0);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    dial_plain(&dials[2], &plain, 0);
    CHECK_EQUAL(wait_done(&dials[2]), 0);
    rondo_loop_free(loop);
    plain_close(&plain);
}

/* ---- connects that hang ---- */

static void hangs(struct plain *plain)
{
    struct outcome cancelled = {0};
    struct outcome late = {0};
    struct outcome past = {0};
    uint64_t begin_ns = rondo_now_ns();

    dial_plain(&late, plain, begin_ns + 30 * MS);
    dial_plain(&cancelled, plain, UINT64_MAX);
    dial_plain(&past, plain, 1);
    CHECK_EQUAL(wait_done(&past), -ETIMEDOUT);
    CHECK_EQUAL(wait_done(&late), -ETIMEDOUT);
    CHECK(rondo_now_ns() - begin_ns >= 30 * MS);
    CHECK_EQUAL(atomic_load(&cancelled.count), 0);
    CHECK_EQUAL(rondo_cancel(cancelled.handle), RONDO_CANCEL_IN_FLIGHT);
    CHECK_EQUAL(wait_done(&cancelled), -ECANCELED);
    CHECK_EQUAL(rondo_cancel(cancelled.handle), RONDO_CANCEL_FINISHED);
}

static void deadline_and_cancel_in_flight(void **state)
{
    struct plain v4 = plain_v4(0);
    struct plain local = plain_unix(0);
    uint32_t before = count_descriptors();

    (void)state;
    hangs(&v4);
    hangs(&local);
    CHECK_EQUAL(count_descriptors(), before); /* Closed when done was called. */
    plain_close(&v4);
    plain_close(&local);
}

static void room_in_the_backlog(void **state)
{
    struct plain local = plain_unix(0);
    struct outcome dial = {0};

    (void)state;
    dial_plain(&dial, &local, 0);
    test_pass_time(20);
    CHECK_EQUAL(atomic_load(&dial.count), 0);
    (void)close(accept(local.fd, NULL, NULL));
    CHECK_EQUAL(wait_done(&dial), 0);
    CHECK_EQUAL(rondo_stream_abort(dial.result.stream), 0);
    plain_close(&local);
}

static void the_loop_stops_under_it(void **state)
{
    struct plain v4 = plain_v4(0);
    struct plain local = plain_unix(0);
    struct outcome dials[3] = {0};

    (void)state;
    dial_plain(&dials[0], &v4, 0);
    dial_plain(&dials[1], &local, 0);
    test_pass_time(5);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(wait_done(&dials[0]), -ECANCELED);
    CHECK_EQUAL(wait_done(&dials[1]), -ECANCELED);
    CHECK_EQUAL(rondo_stream_connect(loop, "::1", 80, NULL, REQUEST(&dials[2])), -ESHUTDOWN);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", 80, NULL, REQUEST(&dials[2])), -ESHUTDOWN);
    plain_close(&v4);
    plain_close(&local);
}

static void start_and_write(const struct rondo_result *result, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = talk_read,
    };

    CHECK_EQUAL(result->value, 0);
    CHECK_EQUAL(rondo_stream_start(result->stream, &handlers, NULL), 0);
    CHECK_EQUAL(rondo_stream_write(result->stream, "hello", 5), 0);
    outcome_note(result, ctx);
}

static void the_loop_drains_under_it(void **state)
{
    struct plain v4 = plain_v4(0);
    struct plain local = plain_unix(0);
    struct outcome hanging = {0};
    struct outcome connected = {0};
    char hello[6];

    (void)state;
    dial_plain(&hanging, &v4, 0);
    CHECK_EQUAL(rondo_stream_connect_address(
                    loop, (const struct sockaddr *)&local.address, local.size, NULL,
                    &RONDO_REQUEST(.done = start_and_write, .ctx = &connected)),
                0);
    test_pass_time(5);
    CHECK_EQUAL(rondo_loop_drain(loop, 20000 * MS), 0);
    /* Work in hand goes on, with what it connects to. */
    (void)close(accept(local.fd, NULL, NULL));
    int fd = accept(local.fd, NULL, NULL);
    CHECK(fd >= 0);
    CHECK_EQUAL(tcp_receive(fd, hello, sizeof(hello)), 5);
    (void)close(fd);
    WAIT_UNTIL(atomic_load(&connected.count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&hanging.count), 0);
    CHECK_EQUAL(rondo_loop_drain(loop, 0), 0); /* It is enough. */
    CHECK_EQUAL(rondo_loop_wait(loop), -ETIMEDOUT);
    CHECK_EQUAL(wait_done(&hanging), -ECANCELED);
    plain_close(&v4);
    plain_close(&local);
}

static void a_loop_that_never_ran(void **state)
{
    struct plain v4 = plain_v4(8);
    struct outcome dials[3] = {0};

    (void)state;
    loop = NULL;
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    dial_plain(&dials[0], &v4, 0);
    dial_plain(&dials[1], &v4, 0);
    CHECK_EQUAL(rondo_stream_connect(loop, "localhost", plain_port(&v4), NULL, REQUEST(&dials[2])),
                0);
    CHECK_EQUAL(rondo_cancel(dials[0].handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(rondo_cancel(dials[2].handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(atomic_load(&dials[0].count), 0);
    rondo_loop_free(loop);
    CHECK_EQUAL(wait_done(&dials[0]), -ECANCELED);
    CHECK_EQUAL(atomic_load(&dials[1].count), 1);
    CHECK_EQUAL(wait_done(&dials[2]), -ECANCELED);
    plain_close(&v4);
}

/* ---- many ---- */

enum { MANY = 10000, MANY_AT_ONCE = 64 };

static struct outcome many[MANY];

static void drop_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    (void)rondo_stream_abort(stream);
}

static const struct rondo_listener_handlers dropping = {
    .size = sizeof(dropping),
    .accepted = drop_accepted,
};

static void many_note(const struct rondo_result *result, void *ctx)
{
    if (result->stream)
        (void)rondo_stream_abort(result->stream); /* A reset leaves no port waiting. */
    outcome_note(result, ctx);
}

static void many_cancels(void **state)
{
    uint64_t seed = test_begin("many");
    uint64_t count = test_scaled(MANY);
    uint64_t ended[3] = {0};
    char name[64];
    rondo_listener *v4 = listen_local(loop, &dropping, NULL);
    struct plain hanging = plain_v4(0);

    (void)state;
    count = count > MANY ? MANY : count;
    memset(many, 0, sizeof(many));
    (void)snprintf(name, sizeof(name), "@rondo-many-%d", (int)getpid());
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &dropping, NULL, NULL), 0);
    for (uint64_t i = 0; i < count; i++) {
        struct outcome *dial = &many[i];
        uint64_t deadline_ns = random_below(&seed, 3) ? 0 : rondo_now_ns() + 50000;
        struct rondo_request request =
            RONDO_REQUEST(.done = many_note, .ctx = dial, .deadline_ns = deadline_ns,
                          .ret_handle = &dial->handle);
        uint64_t kind = random_below(&seed, 8);
        int error =
            kind == 0
                ? rondo_stream_connect(loop, "127.0.0.1", plain_port(&hanging), NULL, &request)
            : kind < 4 ? rondo_stream_connect_unix(loop, name, NULL, &request)
                       : rondo_stream_connect(loop, "127.0.0.1", listener_port(v4), NULL, &request);
        CHECK_EQUAL(error, 0);
        if (kind == 0 || random_below(&seed, 2))
            (void)rondo_cancel(many[i - random_below(&seed, i < 8 ? i + 1 : 8)].handle);
        if (kind == 0)
            (void)rondo_cancel(dial->handle);
        if (i >= MANY_AT_ONCE)
            WAIT_UNTIL(atomic_load(&many[i - MANY_AT_ONCE].count) > 0, 10000);
    }
    for (uint64_t i = 0; i < count; i++) {
        WAIT_UNTIL(atomic_load(&many[i].count) > 0, 10000);
        CHECK_EQUAL(atomic_load(&many[i].count), 1);
        int64_t value = many[i].result.value;
        bool was_reset = value == -ECONNRESET; /* By the peer, before we saw it was connected. */
        CHECK(value == 0 || was_reset || value == -ECANCELED || value == -ETIMEDOUT);
        ended[value == 0 || was_reset ? 0 : value == -ECANCELED ? 1 : 2]++;
    }
    printf("connected %lu, cancelled %lu, timed out %lu\n", (unsigned long)ended[0],
           (unsigned long)ended[1], (unsigned long)ended[2]);
    CHECK(ended[0] > 0 && ended[1] > 0 && ended[2] > 0);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 10000);
    plain_close(&hanging);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_address, begin, finish),
        cmocka_unit_test_setup_teardown(the_peer_sees_the_source, begin, finish),
        cmocka_unit_test_setup_teardown(refused, begin, finish),
        cmocka_unit_test_setup_teardown(bad_input, begin, finish),
        cmocka_unit_test_setup_teardown(the_loop_is_the_parents, begin, finish),
        cmocka_unit_test(no_route),
        cmocka_unit_test(no_descriptors),
        cmocka_unit_test(as_many_connections_as_allowed),
        cmocka_unit_test_setup_teardown(deadline_and_cancel_in_flight, begin, finish),
        cmocka_unit_test_setup_teardown(room_in_the_backlog, begin, finish),
        cmocka_unit_test_setup_teardown(the_loop_stops_under_it, begin, finish),
        cmocka_unit_test_setup_teardown(the_loop_drains_under_it, begin, finish),
        cmocka_unit_test(a_loop_that_never_ran),
        cmocka_unit_test_setup_teardown(many_cancels, begin, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
