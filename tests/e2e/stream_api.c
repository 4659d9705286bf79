/* Goal: each call of the stream and listener API does what its header says, on real sockets.
 *
 * Method: one loop, one plain client; the server's side is driven from the test thread through the
 * same public calls that callbacks use, which also shows that any thread may make them.
 */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000 };

/* One accepted stream, and what its callbacks saw. */
struct peer {
    rondo_loop *loop;
    rondo_listener *listener;
    _Atomic(rondo_stream *) stream; /* with a reference */
    int client;
    _Atomic uint64_t bytes;
    _Atomic uint32_t ends;
    _Atomic uint32_t drained;
    _Atomic uint32_t closed;
    _Atomic int error;
    _Atomic uint32_t posted;
};

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    (void)data;
    atomic_fetch_add(&peer->bytes, size);
}

static void on_end(rondo_stream *stream, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    atomic_fetch_add(&peer->ends, 1);
}

static void on_drained(rondo_stream *stream, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    atomic_fetch_add(&peer->drained, 1);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    atomic_store(&peer->error, error);
    atomic_fetch_add(&peer->closed, 1);
}

static const struct rondo_stream_handlers handlers = {
    .size = sizeof(handlers),
    .read = on_read,
    .end = on_end,
    .drained = on_drained,
    .closed = on_closed,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    struct peer *peer = ctx;

    (void)listener;
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, peer), 0);
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, peer), -EALREADY);
    atomic_store(&peer->stream, rondo_stream_ref(stream));
}

static const struct rondo_listener_handlers listener_handlers = {
    .size = sizeof(listener_handlers),
    .accepted = on_accepted,
};

static rondo_stream *peer_begin(struct peer *peer)
{
    *peer = (struct peer){.loop = loop_begin(NULL)};
    peer->listener = listen_local(peer->loop, &listener_handlers, peer);
    peer->client = tcp_dial(listener_port(peer->listener));
    WAIT_UNTIL(atomic_load(&peer->stream), TIMEOUT_MS);
    return atomic_load(&peer->stream);
}

/* The stream is closed exactly once, and is dead to every call after that. */
static void peer_end(struct peer *peer, int expected_error)
{
    rondo_stream *stream = atomic_load(&peer->stream);

    WAIT_UNTIL(atomic_load(&peer->closed) == 1, TIMEOUT_MS);
    CHECK_EQUAL(atomic_load(&peer->error), expected_error);
    CHECK_EQUAL(rondo_stream_write(stream, "x", 1), -EBADF);
    CHECK_EQUAL(rondo_stream_read_start(stream), -EBADF);
    CHECK_EQUAL(rondo_stream_shutdown(stream), -EBADF);
    CHECK_EQUAL(rondo_stream_set_nodelay(stream, true), -EBADF);
    CHECK_EQUAL(rondo_stream_close(stream), -EALREADY);
    rondo_loop_free(peer->loop);
    CHECK_EQUAL(atomic_load(&peer->closed), 1);
    rondo_stream_unref(stream);
    (void)close(peer->client);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    CHECK_EQUAL(address->ss_family, AF_INET);
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static void both_addresses_are_told(void **state)
{
    struct peer peer;
    struct sockaddr_storage address;
    struct sockaddr_storage client;
    socklen_t size = sizeof(client);

    (void)state;
    (void)test_begin("stream_api, addresses");
    rondo_stream *stream = peer_begin(&peer);
    CHECK_EQUAL(getsockname(peer.client, (struct sockaddr *)&client, &size), 0);
    CHECK_EQUAL(rondo_stream_local_address(stream, &address), 0);
    CHECK_EQUAL(port_of(&address), listener_port(peer.listener));
    CHECK_EQUAL(rondo_stream_peer_address(stream, &address), 0);
    CHECK_EQUAL(port_of(&address), port_of(&client));
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    peer_end(&peer, 0);
}

static void socket_options_reach_the_socket(void **state)
{
    /* Method: the library has no way to read them back, so look for the one descriptor of this
     * process whose peer is the client. */
    struct peer peer;
    struct sockaddr_storage client;
    socklen_t size = sizeof(client);
    int fd = -1;

    (void)state;
    (void)test_begin("stream_api, options");
    rondo_stream *stream = peer_begin(&peer);
    CHECK_EQUAL(getsockname(peer.client, (struct sockaddr *)&client, &size), 0);
    for (int i = 0; i < 256 && fd < 0; i++) {
        struct sockaddr_storage other = {0};
        size = sizeof(other);
        if (getpeername(i, (struct sockaddr *)&other, &size) == 0 && other.ss_family == AF_INET &&
            port_of(&other) == port_of(&client))
            fd = i;
    }
    CHECK(fd >= 0);

    int value = -1;
    size = sizeof(value);
    CHECK_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    CHECK(value != 0); /* The listener's default. */
    CHECK_EQUAL(rondo_stream_set_nodelay(stream, false), 0);
    CHECK_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    CHECK_EQUAL(value, 0);
    CHECK_EQUAL(rondo_stream_set_keepalive(stream, 40, 7, 3), 0);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    CHECK(value != 0);
    CHECK_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), 0);
    CHECK_EQUAL(value, 40);
    CHECK_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &value, &size), 0);
    CHECK_EQUAL(value, 7);
    CHECK_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &value, &size), 0);
    CHECK_EQUAL(value, 3);
    CHECK_EQUAL(rondo_stream_set_keepalive(stream, 0, 0, 0), 0);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    CHECK_EQUAL(value, 0);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    peer_end(&peer, 0);
}

static void reading_stops_and_goes_on(void **state)
{
    enum { CHUNK = 1000 };
    char chunk[CHUNK] = {0};
    struct peer peer;

    (void)state;
    (void)test_begin("stream_api, read_stop");
    rondo_stream *stream = peer_begin(&peer);
    tcp_send(peer.client, chunk, CHUNK);
    WAIT_UNTIL(atomic_load(&peer.bytes) == CHUNK, TIMEOUT_MS);
    CHECK_EQUAL(rondo_stream_read_stop(stream), 0);
    test_pass_time(50); /* The receive in the kernel is being cancelled. */
    tcp_send(peer.client, chunk, CHUNK);
    test_pass_time(100);
    CHECK_EQUAL(atomic_load(&peer.bytes), CHUNK);
    CHECK_EQUAL(rondo_stream_read_start(stream), 0);
    WAIT_UNTIL(atomic_load(&peer.bytes) == 2 * CHUNK, TIMEOUT_MS);
    CHECK_EQUAL(rondo_stream_abort(stream), 0);
    CHECK_EQUAL(rondo_stream_abort(stream), -EALREADY);
    peer_end(&peer, -ECANCELED);
}

static void a_half_close_ends_one_direction(void **state)
{
    char answer[8] = "";
    struct peer peer;

    (void)state;
    (void)test_begin("stream_api, shutdown");
    rondo_stream *stream = peer_begin(&peer);
    CHECK_EQUAL(rondo_stream_write(stream, "last", 4), 0);
    CHECK_EQUAL(rondo_stream_shutdown(stream), 0);
    CHECK_EQUAL(rondo_stream_shutdown(stream), -EALREADY);
    CHECK_EQUAL(rondo_stream_write(stream, "more", 4), -EPIPE);
    CHECK_EQUAL(tcp_receive(peer.client, answer, sizeof(answer)), 4);
    CHECK(memcmp(answer, "last", 4) == 0);
    tcp_send(peer.client, "still read", 10);
    WAIT_UNTIL(atomic_load(&peer.bytes) == 10, TIMEOUT_MS);
    CHECK_EQUAL(shutdown(peer.client, SHUT_WR), 0);
    WAIT_UNTIL(atomic_load(&peer.ends) == 1, TIMEOUT_MS);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    peer_end(&peer, 0);
}

static void a_reset_is_told_as_one(void **state)
{
    struct peer peer;

    (void)state;
    (void)test_begin("stream_api, reset");
    (void)peer_begin(&peer);
    tcp_reset(peer.client);
    peer.client = -1;
    peer_end(&peer, -ECONNRESET);
}

static void drained_follows_the_watermarks(void **state)
{
    /* Method: more than the socket takes while the client does not read, then it reads all. */
    enum { SIZE = 16 << 20 };
    char *data = calloc(1, SIZE);
    struct peer peer;

    (void)state;
    (void)test_begin("stream_api, watermarks");
    CHECK(data);
    rondo_stream *stream = peer_begin(&peer);
    CHECK_EQUAL(rondo_stream_set_watermarks(stream, 1000, 2000), 0);
    CHECK_EQUAL(rondo_stream_write(stream, data, SIZE), 0);
    CHECK(rondo_stream_write_queued(stream) > 2000);
    CHECK_EQUAL(atomic_load(&peer.drained), 0);
    CHECK_EQUAL(tcp_receive(peer.client, data, SIZE), SIZE);
    WAIT_UNTIL(atomic_load(&peer.drained) == 1, TIMEOUT_MS);
    CHECK(rondo_stream_write_queued(stream) <= 1000);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    peer_end(&peer, 0);
    free(data);
}

static void on_posted(void *ctx)
{
    struct peer *peer = ctx;

    CHECK(rondo_current_loop() == peer->loop);
    atomic_fetch_add(&peer->posted, 1);
}

static void a_stream_is_a_strand(void **state)
{
    struct peer peer;

    (void)state;
    (void)test_begin("stream_api, strand");
    rondo_stream *stream = peer_begin(&peer);
    rondo_strand *strand = rondo_stream_strand(stream);
    CHECK(rondo_strand_loop(strand) == peer.loop);
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(rondo_strand_post(strand, on_posted, &peer, NULL), 0);
    CHECK_EQUAL(rondo_strand_call_later(strand, MS, on_posted, &peer, NULL), 0);
    WAIT_UNTIL(atomic_load(&peer.posted) == 101, TIMEOUT_MS);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    peer_end(&peer, 0);
}

static void on_ignored(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    CHECK_EQUAL(rondo_stream_close(stream), 0);
}

static const struct rondo_listener_handlers ignoring = {
    .size = sizeof(ignoring),
    .accepted = on_ignored,
};

static void listener_options_reach_the_socket(void **state)
{
    /* Method: two listeners share a port only if both asked for it; an IPv6 listener on "::"
     * leaves the IPv4 port free only if it asked for that. */
    struct rondo_listener_options options = RONDO_LISTENER_OPTIONS_INIT;
    rondo_loop *loop;
    rondo_listener *first;
    struct sockaddr_storage address;

    (void)state;
    (void)test_begin("stream_api, listener options");
    loop = loop_begin(NULL);
    options.reuse_port = true;
    CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", 0, &options, &ignoring, NULL, &first), 0);
    uint16_t port = listener_port(first);
    CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", port, &options, &ignoring, NULL, NULL), 0);
    options.reuse_port = false;
    CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", port, &options, &ignoring, NULL, NULL),
                -EADDRINUSE);

    options.ipv6_only = true;
    CHECK_EQUAL(rondo_listener_create(loop, "::", 0, &options, &ignoring, NULL, &first), 0);
    CHECK_EQUAL(rondo_listener_address(first, &address), 0);
    CHECK_EQUAL(address.ss_family, AF_INET6);
    port = ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    CHECK_EQUAL(rondo_listener_create(loop, "0.0.0.0", port, &options, &ignoring, NULL, NULL), 0);
    CHECK_EQUAL(rondo_listener_close(first), 0);
    rondo_loop_free(loop);
}

static void the_version_is_the_headers(void **state)
{
    (void)state;
    assert_string_equal(rondo_version(), RONDO_VERSION_STRING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_addresses_are_told),
        cmocka_unit_test(socket_options_reach_the_socket),
        cmocka_unit_test(reading_stops_and_goes_on),
        cmocka_unit_test(a_half_close_ends_one_direction),
        cmocka_unit_test(a_reset_is_told_as_one),
        cmocka_unit_test(drained_follows_the_watermarks),
        cmocka_unit_test(a_stream_is_a_strand),
        cmocka_unit_test(listener_options_reach_the_socket),
        cmocka_unit_test(the_version_is_the_headers),
    };

    return cmocka_run_group_tests_name("stream_api", tests, NULL, NULL);
}
