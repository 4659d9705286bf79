/* Goal: whatever cancels and deadlines meet, each operation ends exactly once, its cancel told the
 * truth, and nothing is left: no operation, no descriptor.
 * Method: a million operations of every one-shot kind, a few thousand under way at a time, with
 * deadlines that are past, near or none, and cancels at random moments. Each end is checked against
 * what its cancel answered. For each kind both ends of each race must have been seen, or the test
 * did not test. */
#include "support.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TOTAL = 1000000,
    UNDER_WAY = 2048, /* operations that can be under way; their memory is used again in turn */
    PAIRS = 16,       /* streams that are read from and written to */
    PIECE = 64,
};

enum kind { READ, WRITE, READ_EXACTLY, FILE_READ, FUTURE, BLOCKING, POLL, FUTEX, CONNECT, KINDS };

static const char *const names[KINDS] = {"read",     "write", "read exactly", "file read", "future",
                                         "blocking", "poll",  "futex",        "connect"};

/* One operation under way. */
struct one {
    _Atomic uint32_t ends;
    enum kind kind;
    bool has_deadline;
    int outcome; /* of its cancel, -1: none */
    rondo_handle handle;
    struct rondo_result result;
    rondo_future *future;
    char bytes[PIECE];
};

/* What was seen of a kind. */
struct seen {
    uint64_t finished;
    uint64_t cancelled;
    uint64_t timed_out;
    uint64_t outcomes[3];
};

static rondo_loop *loop;
static rondo_stream *pairs[PAIRS][2];
static rondo_file *file;
static int ready_fd;
static int silent_fd;
static const uint32_t futex_word = 7;
static char path[64];
static struct one under_way[UNDER_WAY];
static struct seen seen[KINDS];

/* ---- beginning one ---- */

static void on_done(const struct rondo_result *result, void *ctx)
{
    struct one *one = ctx;

    one->result = *result;
    if (one->kind == CONNECT && result->stream)
        CHECK_EQUAL(rondo_stream_abort(result->stream), 0);
    CHECK_EQUAL(atomic_fetch_add(&one->ends, 1), 0);
}

static void set_future(void *ctx)
{
    rondo_future_set_result(ctx, &(struct rondo_result){.value = 1});
}

static int64_t work(void *ctx)
{
    (void)ctx;
    return 1;
}

static int start(struct one *one, uint64_t random, const struct rondo_request *request)
{
    rondo_stream **pair = pairs[random % PAIRS];
    size_t size = 1 + random / 16 % PIECE;
    int error;

    switch (one->kind) {
    case READ:
        return rondo_stream_read(pair[0], one->bytes, size, request);
    case READ_EXACTLY:
        return rondo_stream_read_exactly(pair[0], one->bytes, size, request);
    case WRITE:
        return rondo_stream_write_all(pair[1], one->bytes, PIECE, request);
    case FILE_READ:
        return rondo_file_read(file, one->bytes, size, random % 4000, request);
    case FUTURE:
        error = rondo_future_create(loop, request, NULL, NULL, NULL, &one->future);
        CHECK_EQUAL(rondo_call_later(loop, random % 100000, set_future, one->future, NULL), 0);
        return error;
    case BLOCKING:
        return rondo_run_blocking(loop, work, NULL, request);
    case POLL:
        return rondo_poll(loop, random % 2 ? ready_fd : silent_fd, 1, request);
    case FUTEX:
        return rondo_futex_wait(loop, &futex_word, random % 4 ? 7 : 8, 0, request);
    case CONNECT:
        return rondo_stream_connect_unix(loop, path, NULL, request);
    case KINDS:
        break;
    }
    return -EINVAL;
}

static void begin_one(struct one *one, uint64_t *seed)
{
    struct rondo_request request = RONDO_REQUEST(.done = on_done, .ctx = one);
    uint64_t random = random_next(seed);

    /* A connect costs as much as a hundred others. */
    one->kind = (enum kind)(random % KINDS);
    if (one->kind == CONNECT && random / KINDS % 32)
        one->kind = READ;
    one->outcome = -1;
    atomic_store(&one->ends, 0);
    switch (random / 1000 % 8) {
    case 0:
        request.deadline_ns = 1;
        break;
    case 1:
    case 2:
        request.deadline_ns = rondo_now_ns() + random / 8000 % 300000;
        break;
    default:
        break;
    }
    one->has_deadline = request.deadline_ns != 0;
    request.ret_handle = &one->handle;
    CHECK_EQUAL(start(one, random / 100000, &request), 0);
}

/* ---- ending one ---- */

static void cancel_one(struct one *one)
{
    if (one->outcome < 0)
        one->outcome = rondo_cancel(one->handle);
    CHECK(one->outcome >= 0);
}

/* It must end, if need be by a cancel, and be true. */
static void end_one(struct one *one)
{
    int64_t value;

    if (atomic_load(&one->ends) == 0)
        cancel_one(one);
    WAIT_UNTIL(atomic_load(&one->ends) > 0, 20000);
    value = one->result.value;
    if (one->outcome == RONDO_CANCEL_NOT_STARTED) {
        CHECK(value == -ECANCELED || (value == -ETIMEDOUT && one->has_deadline));
        CHECK_EQUAL(one->result.bytes, 0);
    }
    if (value == -ECANCELED)
        CHECK(one->outcome == RONDO_CANCEL_NOT_STARTED || one->outcome == RONDO_CANCEL_IN_FLIGHT);
    if (value == -ETIMEDOUT)
        CHECK(one->has_deadline);
    struct seen *of = &seen[one->kind];
    if (value == -ECANCELED)
        of->cancelled++;
    else if (value == -ETIMEDOUT)
        of->timed_out++;
    else
        of->finished++;
    if (one->outcome >= 0)
        of->outcomes[one->outcome]++;
}

/* ---- the storm ---- */

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    CHECK_EQUAL(rondo_stream_abort(stream), 0);
}

static const struct rondo_listener_handlers on_listener = {.size = sizeof(on_listener),
                                                           .accepted = on_accepted};

static void open_all(void)
{
    static char zeros[4096];
    int fds[2];

    loop = loop_begin(NULL);
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        for (int side = 0; side < 2; side++)
            CHECK_EQUAL(rondo_stream_open(loop, fds[side], &pairs[i][side]), 0);
    }
    int fd = memfd_create("cancel_storm", MFD_CLOEXEC);
    CHECK_EQUAL(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
    CHECK_EQUAL(rondo_file_adopt(loop, fd, &file), 0);
    ready_fd = eventfd(1, EFD_CLOEXEC);
    silent_fd = eventfd(0, EFD_CLOEXEC);
    (void)snprintf(path, sizeof(path), "@cancel_storm-%d", (int)getpid());
    CHECK_EQUAL(rondo_listener_create_unix(loop, path, NULL, &on_listener, NULL, NULL), 0);
}

static void close_all(void)
{
    for (int i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++)
            CHECK_EQUAL(rondo_stream_abort(pairs[i][side]), 0);
    CHECK_EQUAL(rondo_file_close(file, NULL), 0);
    CHECK_EQUAL(rondo_loop_drain(loop, 20000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
    close(ready_fd);
    close(silent_fd);
}

static void report(uint64_t total)
{
    uint64_t sum = 0;

    printf("%-14s %9s %9s %9s   cancels: %9s %9s %9s\n", "", "finished", "cancelled", "timed out",
           "unstarted", "in flight", "too late");
    for (int kind = 0; kind < KINDS; kind++) {
        const struct seen *of = &seen[kind];
        printf("%-14s %9lu %9lu %9lu            %9lu %9lu %9lu\n", names[kind],
               (unsigned long)of->finished, (unsigned long)of->cancelled,
               (unsigned long)of->timed_out, (unsigned long)of->outcomes[0],
               (unsigned long)of->outcomes[1], (unsigned long)of->outcomes[2]);
        sum += of->finished + of->cancelled + of->timed_out;
        CHECK(of->finished > 0 && of->cancelled > 0 && of->timed_out > 0);
        CHECK(of->outcomes[0] + of->outcomes[1] > 0 && of->outcomes[2] > 0);
    }
    CHECK_EQUAL(sum, total);
}

static void a_storm_of_cancels_and_deadlines(void **state)
{
    uint64_t seed = test_begin("cancel_storm");
    uint64_t total = test_scaled(TOTAL);
    uint32_t descriptors = count_descriptors();

    (void)state;
    memset(seen, 0, sizeof(seen));
    open_all();
    for (uint64_t i = 0; i < total; i++) {
        struct one *one = &under_way[i % UNDER_WAY];
        if (i >= UNDER_WAY)
            end_one(one);
        begin_one(one, &seed);
        /* One of the last ones: most have just begun, some have ended. */
        uint64_t back = random_below(&seed, random_below(&seed, 2) ? 4 : UNDER_WAY / 2);
        if (random_below(&seed, 3) == 0 && back <= i)
            cancel_one(&under_way[(i - back) % UNDER_WAY]);
    }
    for (uint64_t i = 0; i < UNDER_WAY && i < total; i++)
        end_one(&under_way[i]);
    close_all();
    for (uint64_t i = 0; i < UNDER_WAY; i++)
        CHECK(atomic_load(&under_way[i].ends) <= 1);
    CHECK_EQUAL(count_descriptors(), descriptors);
    report(total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_storm_of_cancels_and_deadlines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
