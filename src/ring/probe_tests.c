/* The tests of the probe: each uses one facility of the ring once and says what became of it. They
 * run one after another on the thread that owns the bench; see probe_bench.h.
 */
#include "probe_bench.h"

#include "check.h"
#include "sys.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int error_of(int result)
{
    return result < 0 ? result : 0;
}

static void close_pair(const int pair[2])
{
    (void)sys.close(pair[0]);
    (void)sys.close(pair[1]);
}

static int socket_pair(int type, int ret_pair[2])
{
    return (int)sys_call(SYS_socketpair, AF_UNIX, type | SOCK_CLOEXEC, 0, (long)ret_pair);
}

static void select_buffer(struct io_uring_sqe *sqe, uint16_t group)
{
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
}

/* ---- tests: 0 or the error of the row ---- */

static int test_ring_fd(struct bench *bench)
{
    return bench->ring.enter_flags & IORING_ENTER_REGISTERED_RING ? 0 : -EINVAL;
}

static int test_files(struct bench *bench)
{
    struct io_uring_rsrc_register table = {.nr = 1, .flags = IORING_RSRC_REGISTER_SPARSE};
    int fd = bench->ring.uring.ring_fd;
    int error = sys.ring_register(fd, IORING_REGISTER_FILES2, &table, sizeof(table));

    if (error)
        return error;
    (void)sys.ring_register(fd, IORING_UNREGISTER_FILES, NULL, 0);
    /* As ring_files_register() sees it: the kernel is new enough to let go of files at once. */
    return bench->ring.features & RING_NO_IOWAIT ? 0 : -ENOSYS;
}

static int test_buffers(struct bench *bench)
{
    struct iovec page = {bench->memory->buffers, sizeof(bench->memory->buffers)};
    int fd = bench->ring.uring.ring_fd;
    int error = sys.ring_register(fd, IORING_REGISTER_BUFFERS, &page, 1);

    if (!error)
        (void)sys.ring_register(fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
    return error;
}

static int test_iowq_cap(struct bench *bench)
{
    uint32_t unchanged[2] = {0, 0};

    return sys.ring_register(bench->ring.uring.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS, unchanged,
                             2);
}

static int test_abs_timer(struct bench *bench)
{
    struct __kernel_timespec past = {.tv_nsec = 1};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&past};
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_ABS_TIMER;
    int result = io_uring_enter2((unsigned)bench->ring.uring.ring_fd, 0, 1, flags,
                                 (sigset_t *)(void *)&arg, sizeof(arg));

    return result == -ETIME ? 0 : result < 0 ? result : -EINVAL;
}

static int test_msg_ring(struct bench *bench)
{
    struct io_uring_sqe *sqe = bench_submission(bench);
    uint64_t message = bench_user_data(bench, TAG_SECOND);

    io_uring_prep_msg_ring(sqe, bench->ring.uring.ring_fd, 1, message, 0);
    bench_tag(bench, sqe, TAG_FIRST);
    int result = bench_result(bench);
    return result < 0 ? result : bench_await(bench, TAG_SECOND, true);
}

static int test_timeout_update(struct bench *bench)
{
    struct io_uring_sqe *sqe = bench_submission(bench);

    io_uring_prep_timeout(sqe, &bench->memory->long_time, 0, 0);
    bench_tag(bench, sqe, TAG_FIRST);
    sqe = bench_submission(bench);
    io_uring_prep_timeout_update(sqe, &bench->memory->no_time, bench_user_data(bench, TAG_FIRST),
                                 0);
    bench_tag(bench, sqe, TAG_SECOND);
    int error = bench_await(bench, TAG_SECOND, true);
    if (!error)
        error = error_of(bench->seen[TAG_SECOND].result);
    if (!error)
        error = bench_result(bench);
    bench_finish(bench);
    return error == -ETIME && !bench->guard_fired ? 0 : error;
}

/* A poll for what never comes, to be ended by something else. */
static int quiet_poll(struct bench *bench, struct io_uring_sqe **ret_sqe)
{
    int fd = sys.event_create();

    if (fd < 0)
        return fd;
    *ret_sqe = bench_submission(bench);
    io_uring_prep_poll_add(*ret_sqe, fd, POLLIN);
    bench_tag(bench, *ret_sqe, TAG_FIRST);
    return fd;
}

static int test_link_timeout(struct bench *bench)
{
    struct io_uring_sqe *sqe = NULL;
    int fd = quiet_poll(bench, &sqe);

    if (fd < 0)
        return fd;
    sqe->flags |= IOSQE_IO_LINK;
    sqe = bench_submission(bench);
    io_uring_prep_link_timeout(sqe, &bench->memory->no_time, 0);
    bench_tag(bench, sqe, TAG_SECOND);
    int error = bench_await(bench, TAG_SECOND, true);
    if (!error)
        error = bench->seen[TAG_SECOND].result;
    bench_finish(bench);
    (void)sys.close(fd);
    return error == -ETIME && !bench->guard_fired ? 0 : error < 0 ? error : -EINVAL;
}

static int test_cancel_fd(struct bench *bench)
{
    struct io_uring_sqe *sqe = NULL;
    int fd = quiet_poll(bench, &sqe);

    if (fd < 0)
        return fd;
    sqe = bench_submission(bench);
    io_uring_prep_cancel_fd(sqe, fd, 0);
    bench_tag(bench, sqe, TAG_SECOND);
    int error = bench_await(bench, TAG_SECOND, true);
    if (!error)
        error = error_of(bench->seen[TAG_SECOND].result);
    bench_finish(bench);
    (void)sys.close(fd);
    return error;
}

static int test_multishot_poll(struct bench *bench)
{
    int fd = sys.event_create();

    if (fd < 0)
        return fd;
    struct io_uring_sqe *sqe = bench_submission(bench);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    bench_tag(bench, sqe, TAG_FIRST);
    (void)sys.event_ring(fd);
    int result = bench_multishot_result(bench);
    bench_finish(bench);
    (void)sys.close(fd);
    return error_of(result);
}

/* A socket that listens on a name the kernel chose, and one that has connected to it. */
static int connected_listener(int ret_pair[2])
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(name);
    int error = ret_pair[0] = sys.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (error < 0)
        return error;
    error = ret_pair[1] = sys.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (error < 0) {
        (void)sys.close(ret_pair[0]);
        return error;
    }
    error = sys.bind(ret_pair[0], (struct sockaddr *)&name, sizeof(name.sun_family));
    if (!error)
        error = sys.getsockname(ret_pair[0], (struct sockaddr *)&name, &size);
    if (!error)
        error = sys.listen(ret_pair[0], 1);
    if (!error)
        error = (int)sys_call(SYS_connect, ret_pair[1], (long)&name, (long)size);
    if (error)
        close_pair(ret_pair);
    return error;
}

static int test_multishot_accept(struct bench *bench)
{
    int pair[2];
    int error = connected_listener(pair);

    if (error)
        return error;
    struct io_uring_sqe *sqe = bench_submission(bench);
    io_uring_prep_multishot_accept(sqe, pair[0], NULL, NULL, SOCK_CLOEXEC);
    bench_tag(bench, sqe, TAG_FIRST);
    int result = bench_multishot_result(bench);
    if (bench->seen[TAG_FIRST].count > 0 && bench->seen[TAG_FIRST].result >= 0)
        (void)sys.close(bench->seen[TAG_FIRST].result);
    bench_finish(bench);
    close_pair(pair);
    return error_of(result);
}

/* Buffers of @group, in a ring shared with the kernel. */
static int register_buffers(struct bench *bench, uint16_t group, uint16_t flags)
{
    struct io_uring_buf *entries = bench->memory->entries[group];
    struct io_uring_buf_ring *shared = (void *)entries;
    struct ring_buffers_registration registration = {
        .address = (uint64_t)(uintptr_t)entries,
        .count = BENCH_BUFFER_COUNT,
        .group = group,
        .flags = flags,
    };
    int error =
        sys.ring_register(bench->ring.uring.ring_fd, IORING_REGISTER_PBUF_RING, &registration, 1);

    if (error)
        return error;
    io_uring_buf_ring_init(shared);
    for (uint16_t i = 0; i < BENCH_BUFFER_COUNT; i++)
        io_uring_buf_ring_add(shared, bench->memory->buffers[group][i], BENCH_BUFFER_SIZE, i,
                              io_uring_buf_ring_mask(BENCH_BUFFER_COUNT), i);
    io_uring_buf_ring_advance(shared, BENCH_BUFFER_COUNT);
    return 0;
}

static int test_buffer_ring(struct bench *bench)
{
    bench->buffers_error = register_buffers(bench, BENCH_GROUP, 0);
    return bench->buffers_error;
}

static int test_buffer_incremental(struct bench *bench)
{
    int pair[2];
    int error = register_buffers(bench, BENCH_GROUP_INCREMENTAL, RING_BUFFERS_INCREMENTAL);

    if (!error)
        error = socket_pair(SOCK_STREAM, pair);
    if (error)
        return error;
    struct io_uring_sqe *sqe = bench_submission(bench);
    io_uring_prep_recv(sqe, pair[0], NULL, 0, 0);
    select_buffer(sqe, BENCH_GROUP_INCREMENTAL);
    bench_tag(bench, sqe, TAG_FIRST);
    (void)sys.send(pair[1], "x", 1, MSG_NOSIGNAL);
    int result = bench_result(bench);
    if (result >= 0 && !(bench->seen[TAG_FIRST].flags & IORING_CQE_F_BUF_MORE))
        result = -EINVAL;
    bench_finish(bench);
    close_pair(pair);
    return error_of(result);
}

/* The same for three operations: send one byte, expect it in a buffer the kernel picked, with more
 * to come. */
static int receive_multishot(struct bench *bench, int type,
                             void (*prepare)(struct bench *bench, struct io_uring_sqe *sqe, int fd))
{
    int pair[2];
    int error = bench->buffers_error ? bench->buffers_error : socket_pair(type, pair);

    if (error)
        return error;
    struct io_uring_sqe *sqe = bench_submission(bench);
    prepare(bench, sqe, pair[0]);
    select_buffer(sqe, BENCH_GROUP);
    bench_tag(bench, sqe, TAG_FIRST);
    (void)sys.send(pair[1], "x", 1, MSG_NOSIGNAL);
    int result = bench_multishot_result(bench);
    if (result >= 0 && !(bench->seen[TAG_FIRST].flags & IORING_CQE_F_BUFFER))
        result = -EINVAL;
    bench_finish(bench);
    close_pair(pair);
    return error_of(result);
}

static void prepare_recv(struct bench *bench, struct io_uring_sqe *sqe, int fd)
{
    (void)bench;
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
}

static void prepare_recvmsg(struct bench *bench, struct io_uring_sqe *sqe, int fd)
{
    io_uring_prep_recvmsg_multishot(sqe, fd, &bench->memory->message, 0);
}

static void prepare_read(struct bench *bench, struct io_uring_sqe *sqe, int fd)
{
    (void)bench;
    io_uring_prep_rw(RING_OP_READ_MULTISHOT, sqe, fd, NULL, 0, 0);
}

static int test_multishot_recv(struct bench *bench)
{
    return receive_multishot(bench, SOCK_STREAM, prepare_recv);
}

static int test_multishot_recvmsg(struct bench *bench)
{
    return receive_multishot(bench, SOCK_DGRAM, prepare_recvmsg);
}

static int test_multishot_read(struct bench *bench)
{
    return receive_multishot(bench, SOCK_STREAM, prepare_read);
}

/* A socket that sends to itself. */
static int loopback_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = sys.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fd;
    int error = sys.bind(fd, (struct sockaddr *)&address, size);
    if (!error)
        error = sys.getsockname(fd, (struct sockaddr *)&address, &size);
    if (!error)
        error = (int)sys_call(SYS_connect, fd, (long)&address, (long)size);
    if (!error)
        return fd;
    (void)sys.close(fd);
    return error;
}

static int send_zero_copy(struct bench *bench, unsigned flags)
{
    int fd = loopback_socket();

    if (fd < 0)
        return fd;
    struct io_uring_sqe *sqe = bench_submission(bench);
    io_uring_prep_send_zc(sqe, fd, &bench->memory->byte, 1, 0, flags);
    bench_tag(bench, sqe, TAG_FIRST);
    int result = bench_result(bench);
    /* What was sent waits in the socket itself, and holds the byte until it is closed. */
    (void)sys.close(fd);
    if (result >= 0)
        result = bench_await(bench, TAG_FIRST, true);
    return error_of(result);
}

static int test_send_zc(struct bench *bench)
{
    return send_zero_copy(bench, 0);
}

static int test_send_zc_report(struct bench *bench)
{
    return send_zero_copy(bench, IORING_SEND_ZC_REPORT_USAGE);
}

static void prepare_futex(struct bench *bench, struct io_uring_sqe *sqe, enum ring_opcode opcode,
                          uint64_t value)
{
    io_uring_prep_rw((int)opcode, sqe, RING_FUTEX_U32_PRIVATE, &bench->memory->word, 0, value);
    sqe->addr3 = UINT32_MAX; /* the mask */
    bench_tag(bench, sqe, TAG_FIRST);
}

static int test_futex_wait(struct bench *bench)
{
    prepare_futex(bench, bench_submission(bench), RING_OP_FUTEX_WAIT, bench->memory->word);
    (void)ring_enter(&bench->ring, 0);
    int woken = sys.futex_wake(&bench->memory->word, 1, UINT32_MAX);
    if (woken == 1)
        return error_of(bench_result(bench));
    bench_finish(bench);
    return bench->seen[TAG_FIRST].result < 0 ? bench->seen[TAG_FIRST].result : -EINVAL;
}

static int test_futex_wake(struct bench *bench)
{
    prepare_futex(bench, bench_submission(bench), RING_OP_FUTEX_WAKE, 1);
    return error_of(bench_result(bench));
}

static int test_waitid(struct bench *bench)
{
    struct io_uring_sqe *sqe = bench_submission(bench);

    /* A process is not its own child, so there is an answer and no child loses its status. */
    io_uring_prep_rw(RING_OP_WAITID, sqe, (int)getpid(), NULL, P_PID,
                     (uint64_t)(uintptr_t)&bench->memory->info);
    sqe->file_index = WEXITED | WNOHANG | WNOWAIT;
    bench_tag(bench, sqe, TAG_FIRST);
    int result = bench_result(bench);
    return result == -ECHILD ? 0 : error_of(result);
}

const struct probe_test probe_tests[] = {
    {PROBE_RING_FD, test_ring_fd},
    {PROBE_FILES, test_files},
    {PROBE_BUFFERS, test_buffers},
    {PROBE_IOWQ_CAP, test_iowq_cap},
    {PROBE_ABS_TIMER, test_abs_timer},
    {PROBE_MSG_RING, test_msg_ring},
    {PROBE_TIMEOUT_UPDATE, test_timeout_update},
    {PROBE_LINK_TIMEOUT, test_link_timeout},
    {PROBE_CANCEL_FD, test_cancel_fd},
    {PROBE_MULTISHOT_POLL, test_multishot_poll},
    {PROBE_MULTISHOT_ACCEPT, test_multishot_accept},
    {PROBE_BUFFER_RING, test_buffer_ring}, /* before those that receive into it */
    {PROBE_BUFFER_INCREMENTAL, test_buffer_incremental},
    {PROBE_MULTISHOT_RECV, test_multishot_recv},
    {PROBE_MULTISHOT_READ, test_multishot_read},
    {PROBE_MULTISHOT_RECVMSG, test_multishot_recvmsg},
    {PROBE_SEND_ZC, test_send_zc},
    {PROBE_SEND_ZC_REPORT, test_send_zc_report},
    {PROBE_FUTEX_WAIT, test_futex_wait},
    {PROBE_FUTEX_WAKE, test_futex_wake},
    {PROBE_WAITID, test_waitid},
};

const uint32_t probe_test_count = ARRAY_SIZE(probe_tests);
