/* Goal: write operations, relays, descriptors and sends without copying do what they promise: bytes
 * in order and whole, one end each, memory back only when the kernel is done with it.
 * Method: the other end is a plain descriptor of the test with tiny buffers, so sends are cut into
 * pieces and stand still when the test does not read; what arrives is compared byte by byte. */
#include "support.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGE = 2 << 20 };

static rondo_loop *loop;
static rondo_stream *stream;
static int peer;

static void open_pair(rondo_stream **ret_stream, int *ret_peer)
{
    int small = 4096;
    int pair[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    CHECK_EQUAL(rondo_stream_open(loop, pair[0], ret_stream), 0);
    *ret_peer = pair[1];
}

static void begin(void)
{
    loop = loop_begin(NULL);
    open_pair(&stream, &peer);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void end(void)
{
    struct outcome finished = {0};

    CHECK_EQUAL(rondo_stream_finish(stream, REQUEST(&finished)), 0);
    WAIT_UNTIL(atomic_load(&finished.count), 5000);
    close(peer);
    end_loop();
}

static char byte_at(size_t at)
{
    return (char)(at * 2654435761U >> 13);
}

static char *make_bytes(size_t size)
{
    char *bytes = malloc(size);

    CHECK(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(i);
    return bytes;
}

/* Reads from @fd and compares with the bytes from @from on. */
static void expect_stream(int fd, size_t from, size_t size)
{
    char data[8192];

    while (size > 0) {
        ssize_t count = read(fd, data, size < sizeof(data) ? size : sizeof(data));
        CHECK(count > 0);
        for (ssize_t i = 0; i < count; i++)
            CHECK_EQUAL(data[i], byte_at(from + (size_t)i));
        from += (size_t)count;
        size -= (size_t)count;
    }
}

static void pieces_arrive_in_order_and_whole(void **state)
{
    struct outcome ends[3] = {0};
    char *bytes = make_bytes(LARGE);
    struct iovec parts[100];

    (void)state;
    begin();
    for (size_t i = 0; i < 100; i++)
        parts[i] = (struct iovec){bytes + 1000 + i * 777, 777};
    CHECK_EQUAL(rondo_stream_write(stream, bytes, 1000), 0);
    CHECK_EQUAL(rondo_stream_writev(stream, parts, 100, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_write(stream, bytes + 78700, 300), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes + 79000, LARGE - 79000, REQUEST(&ends[1])), 0);
    expect_stream(peer, 0, LARGE);
    EXPECT_END(&ends[0], 77700);
    EXPECT_END(&ends[1], LARGE - 79000);
    CHECK_EQUAL(ends[1].result.bytes, LARGE - 79000);
    CHECK_EQUAL(rondo_stream_write_queued(stream), 0);
    end();
    free(bytes);
}

static void cancelled_and_late_writes_say_how_far_they_came(void **state)
{
    struct outcome ends[5] = {0};
    char *bytes = make_bytes(LARGE);

    (void)state;
    begin();
    /* The peer does not read: the first one stands half sent, the others wait behind it. */
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[1])), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE,
                                       REQUEST(&ends[2], .deadline_ns = rondo_now_ns() + 5 * MS)),
                0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[3], .deadline_ns = 1)),
                0);
    EXPECT_END(&ends[2], -ETIMEDOUT);
    EXPECT_END(&ends[3], -ETIMEDOUT);
    CHECK_EQUAL(ends[2].result.bytes, 0);
    CHECK_EQUAL(rondo_cancel(ends[1].handle), RONDO_CANCEL_IN_FLIGHT);
    EXPECT_END(&ends[1], -ECANCELED);
    CHECK_EQUAL(ends[1].result.bytes, 0);
    CHECK_EQUAL(rondo_cancel(ends[0].handle), RONDO_CANCEL_IN_FLIGHT);
    EXPECT_END(&ends[0], -ECANCELED);
    CHECK(ends[0].result.bytes > 0 && ends[0].result.bytes < LARGE);
    CHECK_EQUAL(rondo_stream_write_queued(stream), 0);
    /* The peer gets that part, and then what is written next. */
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes + 5000, 100000, REQUEST(&ends[4])), 0);
    expect_stream(peer, 0, ends[0].result.bytes);
    expect_stream(peer, 5000, 100000);
    EXPECT_END(&ends[4], 100000);
    end();
    free(bytes);
}

static void closed_under_writes(void **state)
{
    struct outcome ends[3] = {0};
    char *bytes = make_bytes(LARGE);

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[1])), 0);
    /* The peer never reads: the deadline of the finish aborts. */
    CHECK_EQUAL(
        rondo_stream_finish(stream, REQUEST(&ends[2], .deadline_ns = rondo_now_ns() + 10 * MS)), 0);
    EXPECT_END(&ends[2], -ETIMEDOUT);
    EXPECT_END(&ends[0], -ECANCELED);
    EXPECT_END(&ends[1], -ECANCELED);
    close(peer);
    end_loop();
    free(bytes);
}

static void a_dead_peer_ends_writes(void **state)
{
    struct outcome ends[2] = {0};
    char *bytes = make_bytes(LARGE);

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, LARGE, REQUEST(&ends[0])), 0);
    expect_stream(peer, 0, 10000);
    close(peer);
    WAIT_UNTIL(atomic_load(&ends[0].count) > 0, 5000);
    CHECK(ends[0].result.value == -EPIPE || ends[0].result.value == -ECONNRESET);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    CHECK_EQUAL(rondo_stream_write_all(stream, bytes, 1, REQUEST(&ends[1])), -EBADF);
    (void)rondo_stream_close(stream);
    end_loop();
    free(bytes);
}

static void bad_arguments(void **state)
{
    struct outcome ends[1] = {0};
    struct iovec empty = {(char[1]){0}, 0};
    int fd = 0;

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_write_all(NULL, "x", 1, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_all(stream, NULL, 1, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_all(stream, "x", 0, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_all(stream, "x", 1, NULL), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_all(stream, "x", SIZE_MAX, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_writev(stream, NULL, 1, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_writev(stream, &empty, 0, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_writev(stream, &empty, 1, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_writev(stream, &empty, 1025, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_descriptors(stream, "x", 1, NULL, 1, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_write_descriptors(stream, "x", 1, &fd, 17, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_relay(stream, stream, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_relay(stream, NULL, REQUEST(ends)), -EINVAL);
    CHECK_EQUAL(rondo_stream_shutdown(stream), 0);
    CHECK_EQUAL(rondo_stream_write_all(stream, "x", 1, REQUEST(ends)), -EPIPE);
    CHECK_EQUAL(atomic_load(&ends[0].count), 0);
    end();
}

/* ---- descriptors ---- */

static void descriptors_travel_with_their_bytes(void **state)
{
    struct outcome ends[4] = {0};
    rondo_stream *streams[2];
    struct stat before;
    struct stat after;
    char data[8];
    int sent[16];
    int got[16];
    uint32_t count = 16;
    int pair[2];

    (void)state;
    uint32_t open_before = count_descriptors();
    loop = loop_begin(NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(rondo_stream_open(loop, pair[i], &streams[i]), 0);
    for (int i = 0; i < 16; i++)
        sent[i] = open(i ? "/dev/null" : "/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(rondo_stream_write(streams[0], "ab", 2), 0);
    CHECK_EQUAL(rondo_stream_write_descriptors(streams[0], "cd", 2, sent, 16, REQUEST(&ends[0])),
                0);
    EXPECT_END(&ends[0], 2);
    CHECK_EQUAL(rondo_stream_read_exactly(streams[1], data, 2, REQUEST(&ends[1])), 0);
    EXPECT_END(&ends[1], 2);
    CHECK_EQUAL(rondo_stream_read_descriptors(streams[1], data, 8, got, &count, REQUEST(&ends[2])),
                0);
    EXPECT_END(&ends[2], 2);
    CHECK_EQUAL(count, 16);
    CHECK_EQUAL(fstat(sent[0], &before), 0);
    CHECK_EQUAL(fstat(got[0], &after), 0);
    CHECK_EQUAL(before.st_rdev, after.st_rdev);
    CHECK_EQUAL(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    for (int i = 0; i < 16; i++)
        close(got[i]);
    /* More than there is room for: all of them are closed, and it is told. */
    count = 1;
    CHECK_EQUAL(rondo_stream_write_descriptors(streams[0], "ef", 2, sent, 16, REQUEST(&ends[3])),
                0);
    EXPECT_END(&ends[3], 2);
    memset(&ends[2], 0, sizeof(ends[2]));
    CHECK_EQUAL(rondo_stream_read_descriptors(streams[1], data, 8, got, &count, REQUEST(&ends[2])),
                0);
    EXPECT_END(&ends[2], -EMSGSIZE);
    CHECK_EQUAL(count, 0);
    for (int i = 0; i < 16; i++)
        close(sent[i]);
    CHECK_EQUAL(rondo_stream_close(streams[0]), 0);
    CHECK_EQUAL(rondo_stream_close(streams[1]), 0);
    end_loop();
    CHECK_EQUAL(count_descriptors(), open_before);
}

/* ---- relays ---- */

static void a_relay_moves_all_and_waits_for_the_slow_side(void **state)
{
    struct outcome relayed = {0};
    struct outcome line = {0};
    char *bytes = make_bytes(LARGE);
    rondo_stream *out;
    char data[8];
    int out_peer;

    (void)state;
    begin();
    open_pair(&out, &out_peer);
    CHECK_EQUAL(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQUAL(write(peer, "hi\n", 3), 3);
    CHECK_EQUAL(rondo_stream_read_until(stream, "\n", 1, data, 8, REQUEST(&line)), 0);
    CHECK_EQUAL(rondo_stream_relay(stream, out, REQUEST(&relayed)), 0);
    EXPECT_END(&line, 3);
    /* Nobody reads: what goes in before it stands still is bounded. */
    size_t sent = 0;
    for (uint64_t until = rondo_now_ns() + 200 * MS; sent < LARGE && rondo_now_ns() < until;) {
        ssize_t count = write(peer, bytes + sent, LARGE - sent);
        if (count > 0)
            sent += (size_t)count;
        else
            test_nap();
    }
    CHECK(sent < LARGE);
    size_t received = 0;
    while (received < LARGE) {
        size_t step = LARGE - received < 4096 ? LARGE - received : 4096;
        ssize_t count = sent < LARGE ? write(peer, bytes + sent, LARGE - sent) : 0;
        sent += count > 0 ? (size_t)count : 0;
        expect_stream(out_peer, received, step);
        received += step;
    }
    CHECK_EQUAL(shutdown(peer, SHUT_WR), 0);
    EXPECT_END(&relayed, 0);
    CHECK_EQUAL(relayed.result.bytes, LARGE);
    CHECK_EQUAL(rondo_stream_close(out), 0);
    close(out_peer);
    end();
    free(bytes);
}

static void relays_end_by_cancel_and_by_a_dead_target(void **state)
{
    struct outcome ends[4] = {0};
    rondo_stream *out;
    char data[8];
    int out_peer;

    (void)state;
    begin();
    open_pair(&out, &out_peer);
    CHECK_EQUAL(rondo_stream_relay(stream, out, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(write(peer, "one", 3), 3);
    CHECK_EQUAL(read(out_peer, data, 8), 3);
    CHECK_EQUAL(rondo_cancel(ends[0].handle), RONDO_CANCEL_IN_FLIGHT);
    EXPECT_END(&ends[0], -ECANCELED);
    CHECK_EQUAL(ends[0].result.bytes, 3);
    /* What arrives afterwards belongs to the next read. */
    CHECK_EQUAL(write(peer, "two", 3), 3);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[1])), 0);
    EXPECT_END(&ends[1], 3);
    CHECK_EQUAL(
        rondo_stream_relay(stream, out, REQUEST(&ends[2], .deadline_ns = rondo_now_ns() + 5 * MS)),
        0);
    EXPECT_END(&ends[2], -ETIMEDOUT);
    rondo_stream_ref(out);
    CHECK_EQUAL(rondo_stream_close(out), 0);
    CHECK_EQUAL(rondo_stream_relay(stream, out, REQUEST(&ends[3])), 0);
    CHECK_EQUAL(write(peer, "three", 5), 5);
    EXPECT_END(&ends[3], -EBADF);
    rondo_stream_unref(out);
    close(out_peer);
    end();
}

/* ---- sending without copying ---- */

static void large_lent_writes_come_back_when_the_kernel_is_done(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct outcome ends[8] = {0};
    char *bytes = make_bytes(LARGE);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);

    (void)state;
    options.zero_copy_size = 4096;
    loop = loop_begin(&options);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, size), 0);
    CHECK_EQUAL(listen(listener, 1), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    peer = tcp_dial(ntohs(address.sin_port));
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK_EQUAL(rondo_stream_open(loop, fd, &stream), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(
            rondo_stream_write_all(stream, bytes + i * (LARGE / 8), LARGE / 8, REQUEST(&ends[i])),
            0);
    expect_stream(peer, 0, LARGE);
    for (int i = 0; i < 8; i++)
        EXPECT_END(&ends[i], LARGE / 8);
    struct rondo_loop_stats stats = loop_stats(loop);
    printf("sends without copying: %lu, copied after all: %lu\n",
           (unsigned long)stats.zero_copy_sends, (unsigned long)stats.zero_copy_copied);
    CHECK(stats.zero_copy_sends > 0);
    /* Loopback copies: a stream that was told so does not try again. */
    CHECK(stats.zero_copy_copied == 0 || stats.zero_copy_sends == 1);
    end();
    close(listener);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_arrive_in_order_and_whole),
        cmocka_unit_test(cancelled_and_late_writes_say_how_far_they_came),
        cmocka_unit_test(closed_under_writes),
        cmocka_unit_test(a_dead_peer_ends_writes),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(descriptors_travel_with_their_bytes),
        cmocka_unit_test(a_relay_moves_all_and_waits_for_the_slow_side),
        cmocka_unit_test(relays_end_by_cancel_and_by_a_dead_target),
        cmocka_unit_test(large_lent_writes_come_back_when_the_kernel_is_done),
    };

    (void)test_begin("stream_writes");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
