/* Goal: what goes through a stream arrives whole and in order, and every operation ends once,
 * however the other side behaves: buffers so small that every send and receive is cut short, single
 * bytes, half closes, resets, peers that never read.
 * Method: the peers are plain descriptors, moved by threads of the test; every byte is a function
 * of its place, so the first one that is lost, doubled or exchanged is found. The storm draws what
 * each of its peers does from a seed. */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SIZE = 192 << 10,
    CHUNK_MAX = 701,
    SINGLE_BYTES = 1500,
    STORM_STREAMS = 300,
    STORM_SIZE = 1 << 20,
    STORM_READ = 5000,
    STORM_FINISH_MS = 200,
};

static rondo_loop *loop;
static uint32_t descriptors_before;

static void begin(const struct rondo_loop_options *options)
{
    loop = loop_begin(options);
    descriptors_before = count_descriptors();
}

static void end(void)
{
    WAIT_UNTIL(loop_stats(loop).connections == 0, 10000);
    WAIT_UNTIL(count_descriptors() == descriptors_before, 5000);
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

/* ---- bytes ---- */

static unsigned char byte_at(uint64_t at)
{
    return (unsigned char)((at * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static unsigned char *make_bytes(size_t size)
{
    unsigned char *bytes = malloc(size);

    CHECK(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(i);
    return bytes;
}

static void expect_bytes(const unsigned char *bytes, uint64_t from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        CHECK_EQUAL(bytes[i], byte_at(from + i));
}

/* ---- pairs of sockets ---- */

static void set_buffers(int fd, int size)
{
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

/* With small segments, or one would fill the buffer and wait for the next for long. */
static void tcp_pair(int pair[2], int buffer_size)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int segment = 600;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    if (buffer_size) {
        set_buffers(listener, buffer_size);
        CHECK_EQUAL(setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)), 0);
    }
    CHECK_EQUAL(listen(listener, 1), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    pair[0] = tcp_dial(ntohs(address.sin_port));
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(pair[1] >= 0);
    if (buffer_size)
        set_buffers(pair[0], buffer_size);
    (void)close(listener);
}

static void unix_pair(int pair[2], int buffer_size)
{
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    if (buffer_size) {
        set_buffers(pair[0], buffer_size);
        set_buffers(pair[1], buffer_size);
    }
}

typedef void pair_fn(int pair[2], int buffer_size);

static rondo_stream *open_stream(pair_fn *make_pair, int buffer_size, int *ret_peer)
{
    rondo_stream *stream;
    int pair[2];

    make_pair(pair, buffer_size);
    CHECK_EQUAL(rondo_stream_open(loop, pair[0], &stream), 0);
    *ret_peer = pair[1];
    return stream;
}

/* ---- threads that move a peer ---- */

struct mover {
    pthread_t thread;
    int fd;
    uint64_t seed;
    size_t size;
};

/* Sends its bytes in pieces of any size, then the end. */
static void *send_main(void *arg)
{
    struct mover *mover = arg;
    unsigned char *bytes = make_bytes(mover->size);

    for (size_t sent = 0; sent < mover->size;) {
        size_t chunk = 1 + (size_t)random_below(&mover->seed, CHUNK_MAX);
        chunk = chunk < mover->size - sent ? chunk : mover->size - sent;
        tcp_send(mover->fd, bytes + sent, chunk);
        sent += chunk;
    }
    CHECK_EQUAL(shutdown(mover->fd, SHUT_WR), 0);
    free(bytes);
    return NULL;
}

/* Receives them in pieces of any size, and the end. */
static void *receive_main(void *arg)
{
    struct mover *mover = arg;
    unsigned char chunk[CHUNK_MAX + 1];
    size_t received = 0;
    ssize_t count;

    while ((count = recv(mover->fd, chunk, 1 + random_below(&mover->seed, CHUNK_MAX), 0)) > 0) {
        expect_bytes(chunk, received, (size_t)count);
        received += (size_t)count;
    }
    CHECK_EQUAL(count, 0);
    CHECK_EQUAL(received, mover->size);
    return NULL;
}

static void mover_start(struct mover *mover, void *(*main_)(void *), int fd, uint64_t seed,
                        size_t size)
{
    *mover = (struct mover){.fd = fd, .seed = seed, .size = size};
    CHECK_EQUAL(pthread_create(&mover->thread, NULL, main_, mover), 0);
}

static void mover_join(struct mover *mover)
{
    CHECK_EQUAL(pthread_join(mover->thread, NULL), 0);
}

/* ---- tiny buffers ---- */

/* The bytes go out by every kind of write. */
static void write_in_all_ways(rondo_stream *stream, const unsigned char *bytes,
                              struct outcome ends[2])
{
    static struct iovec parts[64];
    size_t third = SIZE / 3;
    size_t at = 0;

    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, third, REQUEST(&ends[0])), 0);
    for (at = third; at < 2 * third; at += 999)
        CHECK_EQUAL(
            rondo_stream_write(stream, bytes + at, 2 * third - at < 999 ? 2 * third - at : 999), 0);
    at = 2 * third;
    for (size_t i = 0; i < 64; i++) {
        size_t size = i == 63 ? SIZE - at : 1 + i * 30;
        parts[i] = (struct iovec){(void *)(uintptr_t)(bytes + at), size};
        at += size;
    }
    CHECK_EQUAL(rondo_stream_writev(stream, parts, 64, REQUEST(&ends[1])), 0);
    CHECK_EQUAL(rondo_stream_shutdown(stream), 0);
}

static void exchange_with_tiny_buffers(pair_fn *make_pair, int buffer_size, uint64_t seed)
{
    unsigned char *bytes = make_bytes(SIZE);
    unsigned char *received = calloc(1, SIZE);
    struct outcome ends[4] = {0};
    struct mover sender;
    struct mover receiver;
    int peer;

    CHECK(received);
    rondo_stream *stream = open_stream(make_pair, buffer_size, &peer);
    CHECK_EQUAL(rondo_stream_read_exactly(stream, received, SIZE, REQUEST(&ends[2])), 0);
    write_in_all_ways(stream, bytes, ends);
    mover_start(&sender, send_main, peer, seed, SIZE);
    mover_start(&receiver, receive_main, peer, seed + 1, SIZE);
    EXPECT_END(&ends[0], SIZE / 3);
    EXPECT_END(&ends[1], SIZE - 2 * (SIZE / 3));
    EXPECT_END(&ends[2], SIZE);
    expect_bytes(received, 0, SIZE);
    mover_join(&sender);
    mover_join(&receiver);
    CHECK_EQUAL(rondo_stream_read(stream, received, 1, REQUEST(&ends[3])), 0);
    EXPECT_END(&ends[3], 0);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    (void)close(peer);
    free(received);
    free(bytes);
}

static void tiny_buffers_lose_nothing(void **state)
{
    uint64_t seed = test_begin("tiny_buffers_lose_nothing");

    (void)state;
    begin(NULL);
    exchange_with_tiny_buffers(unix_pair, 1, seed);
    exchange_with_tiny_buffers(tcp_pair, 6000, seed + 2);
    end();
}

/* Both ways at the same time, also from one lane to another, and through queues that hold less
 * than one receive buffer: then the source has to wait. */
static void relay_with_tiny_buffers(pair_fn *make_pair, int buffer_size, uint64_t seed)
{
    struct outcome ends[2] = {0};
    rondo_stream *streams[2];
    struct mover senders[2];
    struct mover receivers[2];
    int peers[2];

    for (int i = 0; i < 2; i++)
        streams[i] = open_stream(make_pair, buffer_size, &peers[i]);
    for (int i = 0; i < 2; i++) {
        mover_start(&senders[i], send_main, peers[i], seed + (uint64_t)i, SIZE);
        mover_start(&receivers[i], receive_main, peers[i], ~seed + (uint64_t)i, SIZE);
        CHECK_EQUAL(rondo_stream_relay(streams[i], streams[1 - i], REQUEST(&ends[i])), 0);
    }
    for (int i = 0; i < 2; i++) {
        EXPECT_END(&ends[i], 0);
        CHECK_EQUAL(ends[i].result.bytes, SIZE);
        CHECK_EQUAL(rondo_stream_shutdown(streams[1 - i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        mover_join(&senders[i]);
        mover_join(&receivers[i]);
        CHECK_EQUAL(rondo_stream_close(streams[i]), 0);
        (void)close(peers[i]);
    }
}

static void relays_through_tiny_buffers_lose_nothing(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    uint64_t seed = test_begin("relays_through_tiny_buffers");

    (void)state;
    for (options.lanes = 1; options.lanes <= 2; options.lanes++) {
        begin(&options);
        relay_with_tiny_buffers(unix_pair, 1, seed);
        relay_with_tiny_buffers(tcp_pair, 6000, seed + 1);
        end();
    }
}

/* What a relay holds is bounded by its receive buffers; write_queue_max is for writers that can be
 * told to come back later, and a relay cannot. */
static void a_relay_is_not_ended_by_the_limit_of_the_write_queue(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    uint64_t seed = test_begin("a_relay_and_write_queue_max");

    (void)state;
    options.write_queue_max = 4096;
    for (options.lanes = 1; options.lanes <= 2; options.lanes++) {
        begin(&options);
        relay_with_tiny_buffers(unix_pair, 1, seed);
        end();
    }
}

/* ---- single bytes ---- */

static void send_single_bytes(int fd, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char byte = byte_at(i);
        tcp_send(fd, &byte, 1);
    }
}

struct collector {
    _Atomic size_t size;
    _Atomic int closed;
};

static void collect(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    struct collector *collector = ctx;

    (void)stream;
    expect_bytes(data, atomic_load(&collector->size), size);
    atomic_fetch_add(&collector->size, size);
}

static void collector_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    CHECK_EQUAL(error, 0);
    atomic_fetch_add(&((struct collector *)ctx)->closed, 1);
}

static const struct rondo_stream_handlers collecting = {
    .size = sizeof(collecting),
    .read = collect,
    .closed = collector_closed,
};

static void single_bytes_arrive_in_order(void **state)
{
    unsigned char received[SINGLE_BYTES];
    struct collector collector = {0};
    struct outcome ends[2] = {0};
    rondo_stream *streams[3];
    int peers[3];

    (void)state;
    test_begin("single_bytes_arrive_in_order");
    begin(NULL);
    for (int i = 0; i < 3; i++)
        streams[i] = open_stream(tcp_pair, 0, &peers[i]);
    CHECK_EQUAL(rondo_stream_start(streams[0], &collecting, &collector), 0);
    CHECK_EQUAL(rondo_stream_relay(streams[1], streams[2], REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_read_exactly(streams[2], received, SINGLE_BYTES, REQUEST(&ends[1])),
                0);
    for (int i = 0; i < 3; i++)
        send_single_bytes(peers[i], SINGLE_BYTES);
    EXPECT_END(&ends[1], SINGLE_BYTES);
    expect_bytes(received, 0, SINGLE_BYTES);
    CHECK_EQUAL(tcp_receive(peers[2], received, SINGLE_BYTES), SINGLE_BYTES);
    expect_bytes(received, 0, SINGLE_BYTES);
    CHECK_EQUAL(shutdown(peers[1], SHUT_WR), 0);
    EXPECT_END(&ends[0], 0);
    CHECK_EQUAL(shutdown(peers[0], SHUT_WR), 0);
    WAIT_UNTIL(atomic_load(&collector.closed) == 1, 5000);
    CHECK_EQUAL(atomic_load(&collector.size), SINGLE_BYTES);
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            CHECK_EQUAL(rondo_stream_close(streams[i]), 0);
        (void)close(peers[i]);
    }
    end();
}

/* ---- the storm ---- */

enum { STORM_READS = 3, STORM_ENDS = STORM_READS + 3 };

struct visitor {
    struct outcome ends[STORM_ENDS];
    unsigned char read[STORM_READS][STORM_READ];
    rondo_stream *stream;
    int peer;
};

/* What the peer does: 0 to 5. */
static void misbehave(int peer, uint64_t kind)
{
    unsigned char some[STORM_READ + 100];

    for (size_t i = 0; i < sizeof(some); i++)
        some[i] = byte_at(i);
    switch (kind) {
    case 0: /* resets at once, with bytes of the other side unread */
        tcp_reset(peer);
        return;
    case 1: /* sends a part of what is awaited, then resets */
        tcp_send(peer, some, STORM_READ / 2);
        tcp_reset(peer);
        return;
    case 2: /* sends the end and never reads */
        (void)shutdown(peer, SHUT_WR);
        return;
    case 3: /* sends some, and never reads or closes */
        tcp_send(peer, some, sizeof(some));
        return;
    case 4: /* reads a part */
        tcp_send(peer, some, 10);
        CHECK_EQUAL(tcp_receive(peer, some, 3000), 3000);
        expect_bytes(some, 0, 3000);
        (void)shutdown(peer, SHUT_RDWR);
        return;
    default: /* single bytes, then a close */
        send_single_bytes(peer, 20);
        (void)close(peer);
    }
}

static bool closes(uint64_t kind)
{
    return kind < 2 || kind == 5;
}

static void visit(struct visitor *visitor, const unsigned char *bytes)
{
    rondo_stream *stream = visitor->stream;
    struct outcome *ends = visitor->ends;

    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, STORM_SIZE, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, STORM_SIZE, REQUEST(&ends[1])), 0);
    CHECK_EQUAL(rondo_stream_read_exactly(stream, visitor->read[0], STORM_READ, REQUEST(&ends[2])),
                0);
    CHECK_EQUAL(rondo_stream_read(stream, visitor->read[1], STORM_READ, REQUEST(&ends[3])), 0);
    CHECK_EQUAL(rondo_stream_read_until(stream, "\r\n\r\n", 4, visitor->read[2], STORM_READ,
                                        REQUEST(&ends[4])),
                0);
}

/* The bytes that a read reports are right, and its error is one that the peers can cause. */
static void check_visitor(const struct visitor *visitor)
{
    for (int i = 0; i < STORM_ENDS; i++) {
        const struct rondo_result *result = &visitor->ends[i].result;
        CHECK_EQUAL(atomic_load(&visitor->ends[i].count), 1);
        CHECK(result->value >= 0 || result->value == -ENODATA || result->value == -ECONNRESET ||
              result->value == -EPIPE || result->value == -ECANCELED ||
              result->value == -ETIMEDOUT || result->value == -EMSGSIZE);
        if (i < 2)
            CHECK(result->bytes <= STORM_SIZE &&
                  (result->value < 0 || result->value == STORM_SIZE));
        else if (i < 2 + STORM_READS)
            CHECK(result->bytes <= STORM_READ);
    }
    expect_bytes(visitor->read[0], 0, visitor->ends[2].result.bytes);
}

static void operations_end_whatever_the_peer_does(void **state)
{
    uint64_t seed = test_begin("operations_end_whatever_the_peer_does");
    uint32_t count = (uint32_t)test_scaled(STORM_STREAMS);
    struct visitor *visitors = calloc(count, sizeof(*visitors));
    unsigned char *bytes = make_bytes(STORM_SIZE);

    (void)state;
    CHECK(visitors);
    begin(NULL);
    for (uint32_t i = 0; i < count; i++) {
        struct visitor *visitor = &visitors[i];
        visitor->stream = open_stream(i % 2 ? tcp_pair : unix_pair, 0, &visitor->peer);
        visit(visitor, bytes);
        uint64_t kind = random_below(&seed, 6);
        misbehave(visitor->peer, kind);
        if (closes(kind))
            visitor->peer = -1;
    }
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQUAL(
            rondo_stream_finish(visitors[i].stream,
                                REQUEST(&visitors[i].ends[STORM_ENDS - 1],
                                        .deadline_ns = rondo_now_ns() + STORM_FINISH_MS * MS)),
            0);
    for (uint32_t i = 0; i < count; i++) {
        for (int j = 0; j < STORM_ENDS; j++)
            WAIT_UNTIL(atomic_load(&visitors[i].ends[j].count) > 0, 10000);
        check_visitor(&visitors[i]);
        if (visitors[i].peer >= 0)
            (void)close(visitors[i].peer);
    }
    end();
    free(visitors);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_buffers_lose_nothing),
        cmocka_unit_test(relays_through_tiny_buffers_lose_nothing),
        cmocka_unit_test(a_relay_is_not_ended_by_the_limit_of_the_write_queue),
        cmocka_unit_test(single_bytes_arrive_in_order),
        cmocka_unit_test(operations_end_whatever_the_peer_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
