/* The kinds of drain_kinds.c that talk to a peer: listeners, streams, datagram sockets, connects.
 *
 * Callbacks run on workers; begin, finish and clean on the test's thread.
 */
#include "drain_kinds.h"

#include <netinet/in.h>
#include <unistd.h>

enum { BIG_SIZE = 8 << 20 };

static char big[BIG_SIZE];

/* ---- listeners ---- */

static void listener_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    (void)rondo_stream_abort(stream);
}

static void listener_closed(rondo_listener *listener, int error, void *ctx)
{
    (void)listener;
    note_closed(ctx, error);
}

static void listener_begin(struct slot *slot)
{
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = listener_accepted,
        .closed = listener_closed,
    };
    void *ctx = expect_closed(slot);
    char name[64];

    (void)snprintf(name, sizeof(name), "@rondo-drain-%d-%u", (int)getpid(), slot->number);
    if (slot->kind->family == AF_UNIX)
        CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &handlers, ctx, NULL), 0);
    else
        CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", 0, NULL, &handlers, ctx, NULL), 0);
}

/* ---- started streams ---- */

static void stream_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)stream;
    (void)data;
    (void)size;
    (void)ctx;
}

/* The end of the peer is no end of the stream. */
static void stream_end(rondo_stream *stream, void *ctx)
{
    (void)stream;
    (void)ctx;
}

static void stream_draining(rondo_stream *stream, void *ctx)
{
    (void)ctx;
    if (ending == DRAIN_IN_TIME)
        CHECK_EQUAL(rondo_stream_close(stream), 0);
}

static void stream_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    note_closed(ctx, error);
}

static void stream_start(struct slot *slot, int fd, bool draining)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = stream_read,
        .end = stream_end,
        .draining = stream_draining,
        .closed = stream_closed,
    };
    static const struct rondo_stream_handlers plain = {
        .size = sizeof(plain),
        .read = stream_read,
        .closed = stream_closed,
    };

    CHECK_EQUAL(rondo_stream_open(loop, fd, &slot->streams[0]), 0);
    CHECK_EQUAL(
        rondo_stream_start(slot->streams[0], draining ? &handlers : &plain, expect_closed(slot)),
        0);
}

static void started_begin(struct slot *slot)
{
    open_pair(slot, SOCK_STREAM);
    stream_start(slot, slot->fds[0], true);
}

static void plain_begin(struct slot *slot)
{
    open_pair(slot, SOCK_STREAM);
    stream_start(slot, slot->fds[0], false);
}

static void piped_begin(struct slot *slot)
{
    open_pipe(slot);
    stream_start(slot, slot->fds[0], true);
}

/* Its draining callback does it. */
static void finish_by_callback(struct slot *slot)
{
    (void)slot;
}

static void unread_begin(struct slot *slot)
{
    plain_begin(slot);
    CHECK_EQUAL(rondo_stream_write_all(slot->streams[0], big, BIG_SIZE, operation(slot, BIG_SIZE)),
                0);
}

/* Not started and not read: all that was written arrives nevertheless. */
static void written_begin(struct slot *slot)
{
    open_pair(slot, SOCK_STREAM);
    CHECK_EQUAL(rondo_stream_open(loop, slot->fds[0], &slot->streams[0]), 0);
    CHECK_EQUAL(rondo_stream_write_all(slot->streams[0], big, BIG_SIZE, operation(slot, BIG_SIZE)),
                0);
}

static void unread_finish(struct slot *slot)
{
    static char bytes[65536];
    size_t received = 0;

    for (;;) {
        ssize_t count = recv(slot->fds[1], bytes, sizeof(bytes), 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            break;
        received += (size_t)count;
    }
    CHECK_EQUAL(received, BIG_SIZE);
}

/* ---- pulled streams ---- */

static void pulled_begin(struct slot *slot)
{
    open_pair(slot, SOCK_STREAM);
    CHECK_EQUAL(rondo_stream_open(loop, slot->fds[0], &slot->streams[0]), 0);
    CHECK_EQUAL(rondo_stream_read(slot->streams[0], &slot->byte, 1, operation(slot, 1)), 0);
}

static void pulled_finish(struct slot *slot)
{
    send_byte(slot);
    EXPECT_END(&slot->outcomes[0], 1);
    CHECK_EQUAL(rondo_stream_finish(slot->streams[0], operation(slot, 0)), 0);
}

static void relay_begin(struct slot *slot)
{
    int fds[2];

    open_pair(slot, SOCK_STREAM);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    slot->fds[2] = fds[1];
    CHECK_EQUAL(rondo_stream_open(loop, slot->fds[0], &slot->streams[0]), 0);
    CHECK_EQUAL(rondo_stream_open(loop, fds[0], &slot->streams[1]), 0);
    CHECK_EQUAL(rondo_stream_relay(slot->streams[0], slot->streams[1], operation(slot, 0)), 0);
}

static void relay_finish(struct slot *slot)
{
    send_byte(slot);
    CHECK_EQUAL(shutdown(slot->fds[1], SHUT_WR), 0);
    EXPECT_END(&slot->outcomes[0], 0);
    CHECK_EQUAL(rondo_stream_finish(slot->streams[1], operation(slot, 0)), 0);
    CHECK_EQUAL(rondo_stream_close(slot->streams[0]), 0);
    CHECK_EQUAL(tcp_receive(slot->fds[2], &slot->byte, 1), 1);
}

static void relay_clean(struct slot *slot)
{
    (void)close(slot->fds[1]);
    (void)close(slot->fds[2]);
}

/* ---- datagrams ---- */

static void datagram_received(rondo_datagram *datagram, const struct rondo_message *message,
                              void *ctx)
{
    (void)datagram;
    (void)message;
    (void)ctx;
}

static void datagram_closed(rondo_datagram *datagram, int error, void *ctx)
{
    (void)datagram;
    note_closed(ctx, error);
}

static const struct rondo_datagram_handlers datagram_handlers = {
    .size = sizeof(datagram_handlers),
    .received = datagram_received,
    .closed = datagram_closed,
};

static void datagram_begin(struct slot *slot)
{
    rondo_datagram *datagram = NULL;
    void *ctx = expect_closed(slot);

    if (slot->kind->family == AF_UNIX)
        CHECK_EQUAL(
            rondo_datagram_create_unix(loop, NULL, NULL, &datagram_handlers, ctx, &datagram), 0);
    else
        CHECK_EQUAL(
            rondo_datagram_create(loop, "127.0.0.1", 0, NULL, &datagram_handlers, ctx, &datagram),
            0);
}

/* The peer's queue is full before the first datagram of ours. */
static void undelivered_begin(struct slot *slot)
{
    struct rondo_datagram_message message = {.data = "x", .size = 1};
    rondo_datagram *datagram = NULL;

    open_pair(slot, SOCK_DGRAM);
    while (send(slot->fds[0], "x", 1, MSG_DONTWAIT) == 1)
        ;
    CHECK(errno == EAGAIN);
    CHECK_EQUAL(rondo_datagram_create_fd(loop, slot->fds[0], NULL, &datagram_handlers,
                                         expect_closed(slot), &datagram),
                0);
    CHECK_EQUAL(rondo_datagram_send_lent(datagram, &message, operation(slot, 1)), 0);
}

static void undelivered_finish(struct slot *slot)
{
    while (recv(slot->fds[1], &slot->byte, 1, MSG_DONTWAIT) == 1)
        ;
}

/* ---- connects ---- */

static int open_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    return fd;
}

/* A listener whose backlog one connection fills. */
static void connect_begin(struct slot *slot)
{
    struct sockaddr_storage address = {.ss_family = (sa_family_t)slot->kind->family};
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t size = sizeof(address);

    if (slot->kind->family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    slot->fds[0] = open_socket(slot->kind->family);
    slot->fds[1] = open_socket(slot->kind->family);
    CHECK_EQUAL(
        bind(slot->fds[0], name,
             slot->kind->family == AF_UNIX ? sizeof(sa_family_t) : sizeof(struct sockaddr_in)),
        0);
    CHECK_EQUAL(getsockname(slot->fds[0], name, &size), 0);
    CHECK_EQUAL(listen(slot->fds[0], 0), 0);
    CHECK_EQUAL(connect(slot->fds[1], name, size), 0);
    CHECK_EQUAL(rondo_stream_connect_address(loop, name, size, NULL, operation(slot, 0)), 0);
}

static void connect_finish(struct slot *slot)
{
    int fd = accept(slot->fds[0], NULL, NULL);

    CHECK(fd >= 0);
    (void)close(fd);
    EXPECT_END(&slot->outcomes[0], 0);
    /* The drain closes what nobody started; it is the user's to give back all the same. */
    int error = rondo_stream_close(slot->outcomes[0].result.stream);
    CHECK(error == 0 || error == -EALREADY);
}

/* ---- the table ---- */

const struct kind network_kinds[] = {
    KIND("TCP listener", listener_begin, .family = AF_INET),
    KIND("Unix listener", listener_begin, .family = AF_UNIX),
    KIND("started stream", started_begin, FINISH(finish_by_callback, close_other_end)),
    KIND("started stream without a draining callback", plain_begin, .clean = close_other_end),
    KIND("stream whose peer does not read", unread_begin, FINISH(unread_finish, close_other_end)),
    KIND("stream that is only written", written_begin, FINISH(unread_finish, close_other_end)),
    KIND("stream over a pipe", piped_begin, FINISH(finish_by_callback, close_other_end)),
    KIND("pulled stream", pulled_begin, FINISH(pulled_finish, close_other_end)),
    KIND("relay", relay_begin, FINISH(relay_finish, relay_clean)),
    KIND("UDP socket", datagram_begin, .family = AF_INET),
    KIND("Unix datagram socket", datagram_begin, .family = AF_UNIX),
    KIND("datagram not received", undelivered_begin, FINISH(undelivered_finish, close_other_end)),
    KIND("Unix connect", connect_begin, FINISH(connect_finish, close_both_ends), .family = AF_UNIX),
    KIND("TCP connect", connect_begin, FINISH(NULL, close_both_ends), .family = AF_INET,
         .endless = true),
    {.name = NULL},
};
