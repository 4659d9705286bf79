/* Goal: read operations get the right bytes, in turn, and end once with the outcome they promise.
 * Method: the other end of a socket pair, a pipe or a terminal is a plain descriptor of the test,
 * so each byte and each end is sent at a known moment; cancels and deadlines meet reads that wait,
 * that are queued, and that are half done. */
#include "support.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/socket.h>
#include <unistd.h>

static rondo_loop *loop;
static rondo_stream *stream;
static int peer;

static void begin(void)
{
    int pair[2];

    loop = loop_begin(NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(rondo_stream_open(loop, pair[0], &stream), 0);
    peer = pair[1];
}

static void end(void)
{
    struct outcome finished = {0};

    if (stream) {
        CHECK_EQUAL(rondo_stream_finish(stream, REQUEST(&finished)), 0);
        WAIT_UNTIL(atomic_load(&finished.count), 5000);
    }
    if (peer >= 0)
        close(peer);
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void say(const char *text)
{
    CHECK_EQUAL(write(peer, text, strlen(text)), strlen(text));
}

static void expect_bytes(const struct outcome *outcome, const char *data, const char *text)
{
    CHECK_EQUAL(outcome->result.bytes, strlen(text));
    CHECK_EQUAL(memcmp(data, text, strlen(text)), 0);
}

static void reads_come_in_turn(void **state)
{
    struct outcome ends[4] = {0};
    char data[4][16];

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_read_exactly(stream, data[0], 5, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_read_until(stream, "\r\n", 2, data[1], 16, REQUEST(&ends[1])), 0);
    CHECK_EQUAL(rondo_stream_read(stream, data[2], 16, REQUEST(&ends[2])), 0);
    say("ab");
    say("cdeline");
    say("\r");
    say("\nrest");
    EXPECT_END(&ends[0], 5);
    EXPECT_END(&ends[1], 6);
    EXPECT_END(&ends[2], 4);
    expect_bytes(&ends[0], data[0], "abcde");
    expect_bytes(&ends[1], data[1], "line\r\n");
    expect_bytes(&ends[2], data[2], "rest");
    /* The end is told to each read from now on. */
    CHECK_EQUAL(shutdown(peer, SHUT_WR), 0);
    CHECK_EQUAL(rondo_stream_read(stream, data[3], 16, REQUEST(&ends[3])), 0);
    EXPECT_END(&ends[3], 0);
    end();
}

static void what_is_beyond_a_delimiter_is_kept(void **state)
{
    struct outcome ends[5] = {0};
    char data[5][8];

    (void)state;
    begin();
    say("a\nbb\nccc\nd");
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(rondo_stream_read_until(stream, "\n", 1, data[i], 8, REQUEST(&ends[i])), 0);
    EXPECT_END(&ends[0], 2);
    EXPECT_END(&ends[1], 3);
    EXPECT_END(&ends[2], 4);
    expect_bytes(&ends[2], data[2], "ccc\n");
    CHECK_EQUAL(rondo_stream_read_exactly(stream, data[3], 3, REQUEST(&ends[3])), 0);
    say("ef");
    EXPECT_END(&ends[3], 3);
    expect_bytes(&ends[3], data[3], "def");
    end();
}

static void limits_and_early_ends(void **state)
{
    struct outcome ends[3] = {0};
    char data[3][8];

    (void)state;
    begin();
    say("12345678");
    CHECK_EQUAL(rondo_stream_read_until(stream, "\n", 1, data[0], 8, REQUEST(&ends[0])), 0);
    EXPECT_END(&ends[0], -EMSGSIZE);
    expect_bytes(&ends[0], data[0], "12345678");
    say("xyz");
    CHECK_EQUAL(shutdown(peer, SHUT_WR), 0);
    CHECK_EQUAL(rondo_stream_read_exactly(stream, data[1], 8, REQUEST(&ends[1])), 0);
    EXPECT_END(&ends[1], -ENODATA);
    expect_bytes(&ends[1], data[1], "xyz");
    CHECK_EQUAL(rondo_stream_read_until(stream, "\n", 1, data[2], 8, REQUEST(&ends[2])), 0);
    EXPECT_END(&ends[2], -ENODATA);
    CHECK_EQUAL(ends[2].result.bytes, 0);
    end();
}

static void cancels_and_deadlines(void **state)
{
    struct outcome ends[6] = {0};
    char data[6][8];

    (void)state;
    begin();
    /* One that waits, with two bytes done, and one behind it. */
    CHECK_EQUAL(rondo_stream_read_exactly(stream, data[0], 8, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_read(stream, data[1], 8, REQUEST(&ends[1])), 0);
    say("12");
    WAIT_UNTIL(loop_stats(loop).bytes_received == 2, 5000);
    CHECK(rondo_cancel(ends[1].handle) != RONDO_CANCEL_FINISHED);
    EXPECT_END(&ends[1], -ECANCELED);
    CHECK_EQUAL(rondo_cancel(ends[0].handle), RONDO_CANCEL_IN_FLIGHT);
    EXPECT_END(&ends[0], -ECANCELED);
    expect_bytes(&ends[0], data[0], "12");
    CHECK_EQUAL(rondo_cancel(ends[0].handle), RONDO_CANCEL_FINISHED);
    /* The same by deadline: in flight, and in the past. */
    CHECK_EQUAL(rondo_stream_read(stream, data[2], 8,
                                  REQUEST(&ends[2], .deadline_ns = rondo_now_ns() + 5 * MS)),
                0);
    EXPECT_END(&ends[2], -ETIMEDOUT);
    CHECK_EQUAL(rondo_stream_read(stream, data[3], 8, REQUEST(&ends[3], .deadline_ns = 1)), 0);
    EXPECT_END(&ends[3], -ETIMEDOUT);
    /* Nothing was lost, and the deadline that is far away does not matter. */
    say("three");
    CHECK_EQUAL(
        rondo_stream_read(stream, data[4], 8, REQUEST(&ends[4], .deadline_ns = UINT64_MAX - 1)), 0);
    EXPECT_END(&ends[4], 5);
    expect_bytes(&ends[4], data[4], "three");
    end();
}

static void closed_under_reads(void **state)
{
    struct outcome ends[3] = {0};
    char data[8];

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[1])), 0);
    rondo_stream_ref(stream);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    EXPECT_END(&ends[0], -ECANCELED);
    EXPECT_END(&ends[1], -ECANCELED);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[2])), -EBADF);
    rondo_stream_unref(stream);
    stream = NULL;
    end();
}

static void a_reset_is_told_to_each_read_and_frees_nothing(void **state)
{
    struct outcome ends[3] = {0};
    char data[8];

    (void)state;
    begin();
    /* The peer closes with bytes unread: a reset. */
    CHECK_EQUAL(rondo_stream_write(stream, "unread", 6), 0);
    WAIT_UNTIL(loop_stats(loop).bytes_sent == 6, 5000);
    close(peer);
    peer = -1;
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[0])), 0);
    EXPECT_END(&ends[0], -ECONNRESET);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[1])), 0);
    EXPECT_END(&ends[1], -ECONNRESET);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    CHECK_EQUAL(rondo_stream_write(stream, "x", 1), -EBADF);
    CHECK_EQUAL(rondo_stream_close(stream), -EALREADY);
    stream = NULL;
    end();
}

/* What a user never closed goes with the loop; LeakSanitizer looks. */
static void the_loop_frees_what_was_never_closed(void **state)
{
    struct outcome ends[1] = {0};
    char data[8];

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(ends[0].result.value, -ECANCELED);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[0])), -ESHUTDOWN);
    close(peer);
    rondo_loop_free(loop);
}

static void a_drain_lets_a_read_finish(void **state)
{
    struct outcome ends[2] = {0};
    char data[8];

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_loop_drain(loop, 10000 * MS), 0);
    say("late");
    EXPECT_END(&ends[0], 4);
    CHECK_EQUAL(rondo_stream_close(stream), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    close(peer);
    rondo_loop_free(loop);
}

static void bad_arguments(void **state)
{
    struct outcome ends[1] = {0};
    struct rondo_stream_handlers handlers = {.size = sizeof(handlers)};
    rondo_stream *other;
    char data[8];
    int fds[1];
    uint32_t count = 17;

    (void)state;
    begin();
    CHECK_EQUAL(rondo_stream_read(NULL, data, 8, REQUEST(&ends[0])), -EINVAL);
    CHECK_EQUAL(rondo_stream_read(stream, NULL, 8, REQUEST(&ends[0])), -EINVAL);
    CHECK_EQUAL(rondo_stream_read(stream, data, 0, REQUEST(&ends[0])), -EINVAL);
    CHECK_EQUAL(rondo_stream_read(stream, data, 8, NULL), -EINVAL);
    CHECK_EQUAL(rondo_stream_read_until(stream, "", 0, data, 8, REQUEST(&ends[0])), -EINVAL);
    CHECK_EQUAL(rondo_stream_read_until(stream, "abc", 3, data, 2, REQUEST(&ends[0])), -EINVAL);
    CHECK_EQUAL(rondo_stream_read_descriptors(stream, data, 8, fds, &count, REQUEST(&ends[0])),
                -EINVAL);
    CHECK_EQUAL(rondo_stream_open(loop, 123456, &other), -EBADF);
    CHECK_EQUAL(rondo_stream_open(NULL, 0, &other), -EINVAL);
    int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQUAL(rondo_stream_open(loop, folder, &other), -EISDIR);
    close(folder);
    int records[2];
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, records), 0);
    CHECK_EQUAL(rondo_stream_open(loop, records[0], &other), -EINVAL);
    close(records[0]);
    close(records[1]);
    int datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_EQUAL(rondo_stream_open(loop, datagrams, &other), -EINVAL);
    close(datagrams);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQUAL(listen(listening, 1), 0);
    CHECK_EQUAL(rondo_stream_open(loop, listening, &other), -EINVAL);
    close(listening);
    CHECK_EQUAL(rondo_stream_start(stream, &handlers, NULL), -EINVAL);
    CHECK_EQUAL(atomic_load(&ends[0].count), 0);
    end();
}

/* ---- other descriptors ---- */

static void pipes_are_streams(void **state)
{
    struct outcome ends[3] = {0};
    rondo_stream *reader;
    rondo_stream *writer;
    char data[16];
    int fds[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(rondo_stream_open(loop, fds[0], &reader), 0);
    CHECK_EQUAL(rondo_stream_open(loop, fds[1], &writer), 0);
    CHECK_EQUAL(rondo_stream_write(reader, "x", 1), -EBADF);
    CHECK_EQUAL(rondo_stream_read_exactly(reader, data, 11, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(rondo_stream_write(writer, "through ", 8), 0);
    CHECK_EQUAL(rondo_stream_write(writer, "it", 2), 0);
    CHECK_EQUAL(rondo_stream_write(writer, "!", 1), 0);
    EXPECT_END(&ends[0], 11);
    expect_bytes(&ends[0], data, "through it!");
    CHECK_EQUAL(rondo_stream_read(writer, data, 1, REQUEST(&ends[1])), 0);
    EXPECT_END(&ends[1], -EBADF);
    CHECK_EQUAL(rondo_stream_close(writer), 0);
    CHECK_EQUAL(rondo_stream_read(reader, data, 1, REQUEST(&ends[2])), 0);
    EXPECT_END(&ends[2], 0);
    CHECK_EQUAL(rondo_stream_close(reader), 0);
    stream = NULL;
    peer = -1;
    end();
}

struct pushed {
    _Atomic int bytes;
    _Atomic bool ended;
    _Atomic bool closed;
};

static void push_read(rondo_stream *from, const void *data, size_t size, void *ctx)
{
    struct pushed *pushed = ctx;

    (void)from;
    (void)data;
    atomic_fetch_add(&pushed->bytes, (int)size);
}

static void push_end(rondo_stream *from, void *ctx)
{
    struct pushed *pushed = ctx;

    atomic_store(&pushed->ended, true);
    (void)rondo_stream_close(from);
}

static void push_closed(rondo_stream *from, int error, void *ctx)
{
    struct pushed *pushed = ctx;

    (void)from;
    CHECK_EQUAL(error, 0);
    atomic_store(&pushed->closed, true);
}

static const struct rondo_stream_handlers push = {
    .size = sizeof(push), .read = push_read, .end = push_end, .closed = push_closed};

/* More than a pipe holds, so that the reader falls behind and the writer waits. */
static void a_pipe_pushes_to_handlers(void **state)
{
    enum { TOTAL = 300000 };
    struct pushed pushed = {0};
    rondo_stream *reader;
    rondo_stream *writer;
    char *data = calloc(1, TOTAL);
    int fds[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(rondo_stream_open(loop, fds[0], &reader), 0);
    CHECK_EQUAL(rondo_stream_open(loop, fds[1], &writer), 0);
    CHECK_EQUAL(rondo_stream_start(reader, &push, &pushed), 0);
    CHECK_EQUAL(rondo_stream_write(writer, data, TOTAL), 0);
    CHECK_EQUAL(rondo_stream_close(writer), 0);
    WAIT_UNTIL(atomic_load(&pushed.closed), 5000);
    CHECK_EQUAL(atomic_load(&pushed.bytes), TOTAL);
    CHECK(atomic_load(&pushed.ended));
    free(data);
    stream = NULL;
    peer = -1;
    end();
}

static void a_terminal_is_a_stream(void **state)
{
    struct outcome ends[2] = {0};
    char data[16];
    int master;
    int slave;

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(openpty(&master, &slave, NULL, NULL, NULL), 0);
    CHECK_EQUAL(rondo_stream_open(loop, master, &stream), 0);
    CHECK_EQUAL(rondo_stream_read_until(stream, "\n", 1, data, 16, REQUEST(&ends[0])), 0);
    CHECK_EQUAL(write(slave, "hello\n", 6), 6);
    EXPECT_END(&ends[0], 7); /* The terminal makes it \r\n. */
    expect_bytes(&ends[0], data, "hello\r\n");
    CHECK_EQUAL(rondo_stream_read(stream, data, 16, REQUEST(&ends[1])), 0);
    close(slave);
    EXPECT_END(&ends[1], 0);
    peer = -1;
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_come_in_turn),
        cmocka_unit_test(what_is_beyond_a_delimiter_is_kept),
        cmocka_unit_test(limits_and_early_ends),
        cmocka_unit_test(cancels_and_deadlines),
        cmocka_unit_test(closed_under_reads),
        cmocka_unit_test(a_reset_is_told_to_each_read_and_frees_nothing),
        cmocka_unit_test(the_loop_frees_what_was_never_closed),
        cmocka_unit_test(a_drain_lets_a_read_finish),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(pipes_are_streams),
        cmocka_unit_test(a_pipe_pushes_to_handlers),
        cmocka_unit_test(a_terminal_is_a_stream),
    };

    (void)test_begin("stream_reads");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
