/* Goal: over real sockets each byte comes back once, in order, on its own connection; callbacks of
 * one stream never overlap; each lent write ends once; each stream is closed once, after all else.
 *
 * Method: client threads open connections one after the other and send messages that carry
 * connection, sequence and checksum, split at random places, while they read and compare the echo.
 * The connections end in every way: half close, the client's close or reset, the server's close or
 * abort. The server checks each callback against a flag of its stream and counts lent writes.
 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLIENT_THREADS = 8,
    CONNECTIONS = 4000, /* of all threads, for one shape of loop */
    MESSAGES_MAX = 24,
    BODY_MAX = 20000,
    SPLIT_MAX = 9000,
    LENT_EVERY = 3,
    EXIT_BY_SERVER_BYTES = 100000,
};

/* How a connection ends. */
enum ending { HALF_CLOSE, CLIENT_CLOSE, CLIENT_RESET, SERVER_CLOSE, SERVER_ABORT, ENDINGS };

struct header {
    uint32_t magic;
    uint32_t connection;
    uint32_t sequence;
    uint32_t size;
    uint32_t ending;
    uint32_t checksum;
};

enum { MESSAGE_MAX = sizeof(struct header) + BODY_MAX, MAGIC = 0x72646f };

/* ---- the server's side ---- */

struct peer {
    atomic_int busy;
    atomic_int closed;
    uint64_t received;
    uint64_t events;
    _Atomic uint64_t lent;
    _Atomic uint64_t written;
    int ending;
};

static struct {
    struct peer peers[CONNECTIONS * 20];
    _Atomic uint32_t count;
    _Atomic uint32_t closed;
    _Atomic uint64_t lent;
    _Atomic uint64_t lent_failed;
} server;

static void enter(struct peer *peer)
{
    CHECK_EQUAL(atomic_load(&peer->closed), 0);
    CHECK_EQUAL(atomic_exchange(&peer->busy, 1), 0);
}

static void leave(struct peer *peer)
{
    CHECK_EQUAL(atomic_exchange(&peer->busy, 0), 1);
}

struct loan {
    struct peer *peer;
    atomic_int ended;
    char bytes[];
};

static void on_written(rondo_stream *stream, int result, void *ctx)
{
    struct loan *loan = ctx;

    (void)stream;
    enter(loan->peer);
    CHECK_EQUAL(atomic_exchange(&loan->ended, 1), 0);
    if (result)
        atomic_fetch_add(&server.lent_failed, 1);
    atomic_fetch_add(&loan->peer->written, 1);
    leave(loan->peer);
    free(loan);
}

static void lend(rondo_stream *stream, struct peer *peer, const void *data, size_t size)
{
    struct loan *loan = calloc(1, sizeof(*loan) + size);

    CHECK(loan);
    loan->peer = peer;
    memcpy(loan->bytes, data, size);
    atomic_fetch_add(&peer->lent, 1);
    int error = rondo_stream_write_lent(stream, loan->bytes, size, on_written, loan);
    if (error) {
        CHECK_EQUAL(error, -EBADF);
        atomic_fetch_sub(&peer->lent, 1);
        free(loan);
    } else {
        atomic_fetch_add(&server.lent, 1);
    }
}

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    struct peer *peer = ctx;

    enter(peer);
    CHECK(size > 0);
    if (peer->received == 0 && size >= sizeof(struct header)) {
        struct header header;
        memcpy(&header, data, sizeof(header));
        CHECK_EQUAL(header.magic, MAGIC);
        peer->ending = (int)header.ending;
    }
    peer->received += size;
    if (peer->events++ % LENT_EVERY == 0) {
        lend(stream, peer, data, size);
    } else {
        int error = rondo_stream_write(stream, data, size);
        CHECK(error == 0 || error == -EBADF);
    }
    if (peer->received > EXIT_BY_SERVER_BYTES && peer->ending == SERVER_CLOSE)
        (void)rondo_stream_close(stream);
    if (peer->received > EXIT_BY_SERVER_BYTES && peer->ending == SERVER_ABORT)
        (void)rondo_stream_abort(stream);
    leave(peer);
}

static void on_end(rondo_stream *stream, void *ctx)
{
    struct peer *peer = ctx;

    enter(peer);
    (void)rondo_stream_close(stream);
    leave(peer);
}

static void on_drained(rondo_stream *stream, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    enter(peer);
    leave(peer);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    struct peer *peer = ctx;

    (void)stream;
    (void)error;
    enter(peer);
    CHECK_EQUAL(atomic_load(&peer->lent), atomic_load(&peer->written));
    CHECK_EQUAL(atomic_exchange(&peer->closed, 1), 0);
    atomic_fetch_add(&server.closed, 1);
    leave(peer);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = on_read,
        .end = on_end,
        .drained = on_drained,
        .closed = on_closed,
    };
    uint32_t index = atomic_fetch_add(&server.count, 1);

    (void)listener;
    (void)ctx;
    CHECK(index < sizeof(server.peers) / sizeof(server.peers[0]));
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, &server.peers[index]), 0);
}

/* ---- the client's side ---- */

struct stream_end {
    uint32_t sequence; /* of the message in the buffer */
    size_t size;
    size_t done; /* bytes of it sent, or compared */
    char bytes[MESSAGE_MAX];
};

struct client {
    uint64_t seed;
    uint32_t connection;
    uint32_t messages;
    uint32_t ending;
    uint64_t stop_after; /* bytes sent, where the client's end is a close or reset */
    uint64_t sent;
    int fd;
    struct stream_end out;
    struct stream_end in;
};

static void make_message(const struct client *client, struct stream_end *end)
{
    uint64_t random = random_of(client->seed, client->connection * UINT64_C(1000) + end->sequence);
    uint32_t size = 1 + (uint32_t)random_below(&random, BODY_MAX);
    struct header header = {MAGIC, client->connection, end->sequence, size, client->ending, 0};

    for (uint32_t i = 0; i < size; i++) {
        end->bytes[sizeof(header) + i] = (char)(random >> 16 ^ i * 31);
        header.checksum = header.checksum * 33 + (uint8_t)end->bytes[sizeof(header) + i];
    }
    memcpy(end->bytes, &header, sizeof(header));
    end->size = sizeof(header) + size;
    end->done = 0;
}

/* Sends a random part; true when the client has nothing more to send. */
static bool client_send(struct client *client, uint64_t *random)
{
    struct stream_end *out = &client->out;
    size_t size = 1 + random_below(random, SPLIT_MAX);

    if (size > out->size - out->done)
        size = out->size - out->done;
    ssize_t sent = send(client->fd, out->bytes + out->done, size, MSG_NOSIGNAL);
    if (sent < 0) {
        CHECK(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
        return errno != EAGAIN;
    }
    out->done += (size_t)sent;
    client->sent += (size_t)sent;
    if (out->done == out->size) {
        out->sequence++;
        if (out->sequence == client->messages)
            return true;
        make_message(client, out);
    }
    return false;
}

/* Compares what came back; false at the end of the stream. */
static bool client_receive(struct client *client)
{
    char bytes[16384];
    ssize_t count = recv(client->fd, bytes, sizeof(bytes), 0);

    if (count < 0 && errno == EAGAIN)
        return true;
    if (count < 0)
        CHECK(errno == ECONNRESET || errno == EPIPE);
    if (count <= 0)
        return false;
    for (size_t at = 0; at < (size_t)count;) {
        struct stream_end *in = &client->in;
        size_t size = in->size - in->done;
        if (size > (size_t)count - at)
            size = (size_t)count - at;
        CHECK_EQUAL(memcmp(bytes + at, in->bytes + in->done, size), 0);
        in->done += size;
        at += size;
        if (in->done == in->size) {
            in->sequence++;
            make_message(client, in);
        }
    }
    return true;
}

static void client_talk(struct client *client, uint64_t *random)
{
    bool sending = true;
    bool receiving = true;

    while (receiving) {
        struct pollfd wanted = {client->fd, (short)(POLLIN | (sending ? POLLOUT : 0)), 0};
        int count = poll(&wanted, 1, 30000);
        if (count < 0 && errno == EINTR)
            continue;
        CHECK_EQUAL(count, 1);
        if (wanted.revents & (POLLIN | POLLHUP | POLLERR))
            receiving = client_receive(client);
        if (sending && wanted.revents & POLLOUT && client_send(client, random)) {
            sending = false;
            (void)shutdown(client->fd, SHUT_WR);
        }
        if (client->stop_after && client->sent >= client->stop_after)
            return;
    }
}

static void client_run(struct client *client, uint16_t port, uint64_t *random)
{
    client->fd = tcp_dial(port);
    client->ending = (uint32_t)random_below(random, ENDINGS);
    client->messages = 1 + (uint32_t)random_below(random, MESSAGES_MAX);
    client->stop_after = 0;
    if (client->ending == CLIENT_CLOSE || client->ending == CLIENT_RESET)
        client->stop_after = 1 + random_below(random, 200000);
    client->sent = 0;
    client->out.sequence = client->in.sequence = 0;
    make_message(client, &client->out);
    make_message(client, &client->in);
    CHECK(fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0);
    client_talk(client, random);
    if (client->ending == HALF_CLOSE) {
        CHECK_EQUAL(client->in.sequence, client->messages);
        CHECK_EQUAL(client->in.done, 0);
    }
    if (client->ending == CLIENT_RESET)
        tcp_reset(client->fd);
    else
        (void)close(client->fd);
}

struct client_thread {
    pthread_t thread;
    uint64_t seed;
    uint32_t first;
    uint32_t count;
    uint16_t port;
};

static void *client_main(void *arg)
{
    struct client_thread *work = arg;
    struct client *client = calloc(1, sizeof(*client));
    uint64_t random = random_of(work->seed, work->first);

    CHECK(client);
    client->seed = work->seed;
    for (uint32_t i = 0; i < work->count; i++) {
        client->connection = work->first + i;
        client_run(client, work->port, &random);
    }
    free(client);
    return NULL;
}

static void traffic(struct rondo_loop_options *options, uint64_t seed)
{
    struct client_thread threads[CLIENT_THREADS];
    uint32_t each = (uint32_t)test_scaled(CONNECTIONS) / CLIENT_THREADS;
    rondo_loop *loop = loop_begin(options);
    rondo_listener *listener;

    memset(&server, 0, sizeof(server));
    listener = listen_local(loop,
                            &(const struct rondo_listener_handlers){
                                .size = sizeof(struct rondo_listener_handlers),
                                .accepted = on_accepted,
                            },
                            NULL);
    for (uint32_t i = 0; i < CLIENT_THREADS; i++) {
        threads[i] = (struct client_thread){0, seed, 1 + i * each, each, listener_port(listener)};
        CHECK_EQUAL(pthread_create(&threads[i].thread, NULL, client_main, &threads[i]), 0);
    }
    for (uint32_t i = 0; i < CLIENT_THREADS; i++)
        (void)pthread_join(threads[i].thread, NULL);
    WAIT_UNTIL(atomic_load(&server.closed) == each * CLIENT_THREADS, 10000);
    CHECK_EQUAL(atomic_load(&server.count), each * CLIENT_THREADS);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 1000);
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(loop_stats(loop).completions_stale, 0);
    rondo_loop_free(loop);
    CHECK_EQUAL(atomic_load(&server.closed), each * CLIENT_THREADS);
    CHECK(atomic_load(&server.lent) > 0);
    fprintf(stderr, "%u connections, %llu lent writes of which %llu failed\n",
            each * CLIENT_THREADS, (unsigned long long)atomic_load(&server.lent),
            (unsigned long long)atomic_load(&server.lent_failed));
}

static void one_lane(void **state)
{
    (void)state;
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.workers = 4;
    traffic(&options, test_begin("streams, one lane"));
}

static void three_lanes(void **state)
{
    (void)state;
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.workers = 3;
    options.lanes = 3;
    traffic(&options, test_begin("streams, three lanes"));
}

/* Everything is exhausted all the time. */
static void three_lanes_with_tiny_rings(void **state)
{
    (void)state;
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.workers = 2;
    options.lanes = 3;
    options.submissions = 4;
    options.completions = 4;
    options.buffers = 4;
    options.buffer_size = 1500;
    traffic(&options, test_begin("streams, tiny rings"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_lane),
        cmocka_unit_test(three_lanes),
        cmocka_unit_test(three_lanes_with_tiny_rings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
