/* Goal: listeners on Unix sockets and on inherited descriptors do what TCP ones do, refuse what
 * they must with a text, and leave nothing behind: no descriptor, no file, no connection that has
 * no end.
 * Method: each way to create one meets each wrong argument; then listeners are closed thousands of
 * times while a thread connects to them, so that a close meets an accept that is about to succeed.
 */
#include "support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    CLOSES = 10000,
    DIALS_AHEAD_MAX = 8, /* connections that nobody has ended yet */
    IDLE_MS = 300,
    IDLE_BUSY_PERCENT_MAX = 20,
};

static rondo_loop *loop;
static char folder[64];

static void begin_with(const struct rondo_loop_options *options)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/rondo-listeners-XXXXXX");
    CHECK(mkdtemp(folder));
    loop = loop_begin(options);
}

static void begin(void)
{
    begin_with(NULL);
}

static void end(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
    CHECK_EQUAL(rmdir(folder), 0); /* Nothing was left in it. */
}

static const char *in_folder(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static struct sockaddr_un unix_address(const char *path, socklen_t *ret_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    CHECK(length <= sizeof(address.sun_path));
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'));
    return address;
}

static int unix_socket(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    return fd;
}

static int unix_dial(const char *path)
{
    socklen_t size;
    struct sockaddr_un address = unix_address(path, &size);
    int fd = unix_socket(SOCK_STREAM);

    CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, size), 0);
    return fd;
}

/* A socket of the test's own that listens at an abstract name. */
static int unix_listen(const char *path, int type)
{
    socklen_t size;
    struct sockaddr_un address = unix_address(path, &size);
    int fd = unix_socket(type);

    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, size), 0);
    CHECK_EQUAL(listen(fd, 64), 0);
    return fd;
}

static void expect_echo(int fd)
{
    char data[5] = "";

    tcp_send(fd, "hello", 5);
    CHECK_EQUAL(tcp_receive(fd, data, 5), 5);
    CHECK_EQUAL(memcmp(data, "hello", 5), 0);
    (void)close(fd);
}

static const char *abstract_name(const char *name)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "@rondo-%d-%s", (int)getpid(), name);
    return path;
}

/* ---- success ---- */

static void unix_listeners_accept_by_path_and_by_name(void **state)
{
    struct sockaddr_storage address;
    rondo_listener *listener = NULL;
    struct stat status;
    char path[128];

    (void)state;
    test_begin("unix_listeners");
    begin();
    (void)snprintf(path, sizeof(path), "%s", in_folder("socket"));
    CHECK_EQUAL(rondo_listener_create_unix(loop, path, NULL, &echo_listener, NULL, &listener), 0);
    CHECK(stat(path, &status) == 0 && S_ISSOCK(status.st_mode));
    CHECK_EQUAL(rondo_listener_address(listener, &address), 0);
    CHECK_EQUAL(address.ss_family, AF_UNIX);
    CHECK_EQUAL(strcmp(((struct sockaddr_un *)&address)->sun_path, path), 0);
    expect_echo(unix_dial(path));
    CHECK_EQUAL(
        rondo_listener_create_unix(loop, abstract_name("echo"), NULL, &echo_listener, NULL, NULL),
        0);
    expect_echo(unix_dial(abstract_name("echo")));
    expect_echo(unix_dial(path));
    CHECK_EQUAL(rondo_listener_close(listener), 0);
    CHECK_EQUAL(unlink(path), 0); /* It is not removed by the close, as promised. */
    end();
}

/* The longest name fills the field of the address; a path needs its zero. */
static void the_longest_names_work(void **state)
{
    struct sockaddr_un address;
    char name[sizeof(address.sun_path) + 2];

    (void)state;
    test_begin("the_longest_names_work");
    begin();
    memset(name, 'x', sizeof(name));
    memcpy(name, abstract_name(""), strlen(abstract_name("")));
    name[sizeof(address.sun_path)] = '\0';
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &echo_listener, NULL, NULL), 0);
    expect_echo(unix_dial(name));
    name[sizeof(address.sun_path)] = 'x';
    name[sizeof(address.sun_path) + 1] = '\0';
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &echo_listener, NULL, NULL),
                -ENAMETOOLONG);

    memcpy(name, folder, strlen(folder));
    name[strlen(folder)] = '/';
    name[sizeof(address.sun_path)] = '\0';
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &echo_listener, NULL, NULL),
                -ENAMETOOLONG);
    name[sizeof(address.sun_path) - 1] = '\0';
    CHECK_EQUAL(rondo_listener_create_unix(loop, name, NULL, &echo_listener, NULL, NULL), 0);
    expect_echo(unix_dial(name));
    CHECK_EQUAL(unlink(name), 0);
    end();
}

static void inherited_sockets_are_listened_on(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    rondo_listener *listener = NULL;
    struct sockaddr_storage told;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    test_begin("inherited_sockets");
    begin();
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQUAL(listen(fd, 16), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    int early = tcp_dial(ntohs(address.sin_port)); /* It waits in the backlog. */
    CHECK_EQUAL(rondo_listener_create_fd(loop, fd, NULL, &echo_listener, NULL, &listener), 0);
    CHECK_EQUAL(rondo_listener_address(listener, &told), 0);
    CHECK_EQUAL(((struct sockaddr_in *)&told)->sin_port, address.sin_port);
    expect_echo(early);
    expect_echo(tcp_dial(ntohs(address.sin_port)));
    CHECK_EQUAL(rondo_listener_create_fd(loop, unix_listen(abstract_name("fd"), SOCK_STREAM), NULL,
                                         &echo_listener, NULL, NULL),
                0);
    expect_echo(unix_dial(abstract_name("fd")));
    end();
    CHECK_EQUAL(fcntl(fd, F_GETFD), -1); /* It belonged to the listener. */
}

/* Also where connections are accepted one by one, near the limit. */
static void sockets_that_do_not_block_cost_nothing_while_idle(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)state;
    test_begin("sockets_that_do_not_block");
    for (int round = 0; round < 2; round++) {
        options.connections = round == 0 ? RONDO_AUTO : 8;
        int fd = unix_listen(abstract_name("nonblock"), SOCK_STREAM | SOCK_NONBLOCK);
        begin_with(&options);
        CHECK_EQUAL(rondo_listener_create_fd(loop, fd, NULL, &echo_listener, NULL, NULL), 0);
        expect_echo(unix_dial(abstract_name("nonblock")));
        uint64_t before_ns = process_cpu_ns();
        test_pass_time(IDLE_MS);
        CHECK((process_cpu_ns() - before_ns) * 100 <= IDLE_MS * MS * IDLE_BUSY_PERCENT_MAX);
        expect_echo(unix_dial(abstract_name("nonblock")));
        end();
    }
}

/* ---- errors ---- */

static void expect_text(int error, int expected)
{
    CHECK_EQUAL(error, expected);
    CHECK(rondo_error_text()[0] != '\0');
}

#define UNIX_ERROR(path, expected)                                                             \
    expect_text(rondo_listener_create_unix(loop, path, NULL, &echo_listener, NULL, &listener), \
                expected)

static void wrong_paths_are_refused(void **state)
{
    rondo_listener *listener = NULL;
    char path[128];
    int file;

    (void)state;
    test_begin("wrong_paths");
    begin();
    UNIX_ERROR(NULL, -EINVAL);
    UNIX_ERROR("", -EINVAL);
    UNIX_ERROR(in_folder("none/socket"), -ENOENT);
    UNIX_ERROR(folder, -EADDRINUSE);
    UNIX_ERROR("/proc/rondo", -ENOENT); /* No file can be made there. */
    (void)snprintf(path, sizeof(path), "%s", in_folder("file"));
    file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    (void)close(file);
    UNIX_ERROR(path, -EADDRINUSE);
    UNIX_ERROR(in_folder("file/socket"), -ENOTDIR);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(symlink(path, path), 0);
    UNIX_ERROR(in_folder("file/socket"), -ELOOP);
    CHECK_EQUAL(unlink(path), 0);
    int taken = unix_listen(abstract_name("taken"), SOCK_STREAM);
    UNIX_ERROR(abstract_name("taken"), -EADDRINUSE);
    (void)close(taken);
    CHECK(!listener);
    end();
}

#define FD_ERROR(fd, expected) \
    expect_text(rondo_listener_create_fd(loop, fd, NULL, &echo_listener, NULL, &listener), expected)

static void wrong_descriptors_are_refused_and_stay_open(void **state)
{
    rondo_listener *listener = NULL;
    int pair[2];
    int ends[2];

    (void)state;
    test_begin("wrong_descriptors");
    begin();
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(pipe2(ends, O_CLOEXEC), 0);
    int datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int records = unix_listen(abstract_name("records"), SOCK_SEQPACKET);
    uint32_t before = count_descriptors();

    FD_ERROR(-1, -EBADF);
    FD_ERROR(1 << 20, -EBADF);
    FD_ERROR(ends[0], -ENOTSOCK);
    FD_ERROR(pair[0], -EINVAL);   /* connected */
    FD_ERROR(fresh, -EINVAL);     /* not bound */
    FD_ERROR(datagrams, -EINVAL); /* never listens */
    FD_ERROR(records, -EINVAL);   /* listens, but for records, which a stream would cut */
    CHECK(!listener);
    CHECK_EQUAL(count_descriptors(), before);
    int all[] = {pair[0], pair[1], ends[0], ends[1], datagrams, fresh, records};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        CHECK_EQUAL(close(all[i]), 0);
    end();
}

static void wrong_handlers_and_options_are_refused(void **state)
{
    struct rondo_listener_options options = RONDO_LISTENER_OPTIONS_INIT;
    struct rondo_listener_handlers handlers = echo_listener;
    int fd = unix_listen(abstract_name("options"), SOCK_STREAM);
    const char *path;

    (void)state;
    test_begin("wrong_handlers_and_options");
    begin();
    path = in_folder("socket");
    handlers.accepted = NULL;
    expect_text(rondo_listener_create_unix(loop, path, NULL, &handlers, NULL, NULL), -EINVAL);
    expect_text(rondo_listener_create_unix(loop, path, NULL, NULL, NULL, NULL), -EINVAL);
    expect_text(rondo_listener_create_unix(NULL, path, NULL, &echo_listener, NULL, NULL), -EINVAL);
    expect_text(rondo_listener_create_fd(loop, fd, NULL, &handlers, NULL, NULL), -EINVAL);
    expect_text(rondo_listener_create_fd(NULL, fd, NULL, &echo_listener, NULL, NULL), -EINVAL);
    options.backlog = 0;
    expect_text(rondo_listener_create_unix(loop, path, &options, &echo_listener, NULL, NULL),
                -EINVAL);
    expect_text(rondo_listener_create_fd(loop, fd, &options, &echo_listener, NULL, NULL), -EINVAL);
    options.backlog = 65536;
    expect_text(rondo_listener_create_unix(loop, path, &options, &echo_listener, NULL, NULL),
                -EINVAL);
    options.backlog = 1;
    options.size--;
    expect_text(rondo_listener_create_unix(loop, path, &options, &echo_listener, NULL, NULL),
                -EINVAL);
    CHECK_EQUAL(rondo_listener_address(NULL, &(struct sockaddr_storage){0}), -EINVAL);
    CHECK_EQUAL(rondo_listener_close(NULL), -EINVAL);
    CHECK_EQUAL(close(fd), 0);
    end();
}

/* What cannot listen any more must not leave the file that bind() made: the next one would find the
 * path taken. */
static void a_listener_that_fails_leaves_no_file(void **state)
{
    int fd = unix_listen(abstract_name("late"), SOCK_STREAM);

    (void)state;
    test_begin("a_listener_that_fails_leaves_no_file");
    begin();
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    uint32_t before = count_descriptors();
    expect_text(
        rondo_listener_create_unix(loop, in_folder("socket"), NULL, &echo_listener, NULL, NULL),
        -ESHUTDOWN);
    CHECK_EQUAL(access(in_folder("socket"), F_OK), -1);
    expect_text(rondo_listener_create_fd(loop, fd, NULL, &echo_listener, NULL, NULL), -ESHUTDOWN);
    CHECK_EQUAL(count_descriptors(), before);
    CHECK_EQUAL(close(fd), 0);
    rondo_loop_free(loop);
    CHECK_EQUAL(rmdir(folder), 0);
}

/* ---- closing while connections arrive ---- */

/* Who connects all the time, to one socket that outlives the listeners on it. */
struct dialer {
    pthread_t thread;
    struct sockaddr_un address;
    socklen_t address_size;
    _Atomic bool stops;
    uint64_t dialed;
    uint64_t ended;
    int open[DIALS_AHEAD_MAX];
    uint32_t open_count;
};

/* Those that the other side has closed; all, and waiting for them, when @waits. */
static void dialer_collect(struct dialer *dialer, bool waits)
{
    for (uint32_t i = 0; i < dialer->open_count;) {
        char byte;
        ssize_t got = recv(dialer->open[i], &byte, 1, waits ? 0 : MSG_DONTWAIT);
        CHECK(got <= 0);
        if (got < 0 && errno == EAGAIN) {
            i++;
            continue;
        }
        CHECK(got == 0 || errno == ECONNRESET);
        (void)close(dialer->open[i]);
        dialer->open[i] = dialer->open[--dialer->open_count];
        dialer->ended++;
    }
}

static void *dialer_main(void *arg)
{
    struct dialer *dialer = arg;

    while (!atomic_load(&dialer->stops)) {
        dialer_collect(dialer, false);
        if (dialer->open_count == DIALS_AHEAD_MAX) {
            struct pollfd first = {.fd = dialer->open[0], .events = POLLIN};
            (void)poll(&first, 1, 1);
            continue;
        }
        int fd = unix_socket(SOCK_STREAM);
        CHECK_EQUAL(connect(fd, (struct sockaddr *)&dialer->address, dialer->address_size), 0);
        dialer->open[dialer->open_count++] = fd;
        dialer->dialed++;
    }
    return NULL;
}

struct tally {
    _Atomic uint64_t accepted;
    _Atomic int closed;
    sem_t closed_once;    /* posted by each closed callback */
    uint64_t busy_closes; /* closes that came after an accept of that listener */
    uint64_t idle_closes; /* and before any */
};

static void tally_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    struct tally *tally = ctx;

    (void)listener;
    CHECK_EQUAL(atomic_load(&tally->closed), 0);
    atomic_fetch_add(&tally->accepted, 1);
    CHECK_EQUAL(rondo_stream_abort(stream), 0);
}

static void tally_closed(rondo_listener *listener, int error, void *ctx)
{
    struct tally *tally = ctx;

    (void)listener;
    CHECK_EQUAL(error, 0);
    CHECK_EQUAL(atomic_fetch_add(&tally->closed, 1), 0);
    CHECK_EQUAL(sem_post(&tally->closed_once), 0);
}

static const struct rondo_listener_handlers tally_listener = {
    .size = sizeof(tally_listener),
    .accepted = tally_accepted,
    .closed = tally_closed,
};

static void wait_closed(struct tally *tally)
{
    struct timespec until;

    CHECK_EQUAL(clock_gettime(CLOCK_REALTIME, &until), 0);
    until.tv_sec += 10;
    CHECK_EQUAL(sem_timedwait(&tally->closed_once, &until), 0);
}

/* One listener on a copy of @fd, closed after a short while or between accepts; waits for its last
 * callback. */
static void open_and_close(struct tally *tally, int fd, uint64_t *seed)
{
    uint64_t before = atomic_load(&tally->accepted);
    rondo_listener *listener = NULL;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    CHECK(copy >= 0);
    atomic_store(&tally->closed, 0);
    CHECK_EQUAL(rondo_listener_create_fd(loop, copy, NULL, &tally_listener, tally, &listener), 0);
    if (random_below(seed, 4) == 0)
        WAIT_UNTIL(atomic_load(&tally->accepted) > before, 5000);
    else
        for (uint64_t spins = random_below(seed, 5000); spins > 0; spins--)
            atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&tally->accepted) > before)
        tally->busy_closes++;
    else
        tally->idle_closes++;
    CHECK_EQUAL(rondo_listener_close(listener), 0);
    wait_closed(tally);
}

static void closing_meets_connections_that_arrive(void **state)
{
    uint64_t seed = test_begin("closing_meets_connections");
    uint64_t closes = test_scaled(CLOSES);
    struct dialer dialer = {0};
    struct tally tally = {0};

    (void)state;
    begin();
    CHECK_EQUAL(sem_init(&tally.closed_once, 0, 0), 0);
    int fd = unix_listen(abstract_name("storm"), SOCK_STREAM);
    uint32_t before = count_descriptors();
    dialer.address = unix_address(abstract_name("storm"), &dialer.address_size);
    CHECK_EQUAL(pthread_create(&dialer.thread, NULL, dialer_main, &dialer), 0);
    for (uint64_t i = 0; i < closes; i++)
        open_and_close(&tally, fd, &seed);
    atomic_store(&dialer.stops, true);
    CHECK_EQUAL(pthread_join(dialer.thread, NULL), 0);

    /* Whoever still waits is accepted by a last one, so that each connection has its end. */
    rondo_listener *last = NULL;
    atomic_store(&tally.closed, 0);
    CHECK_EQUAL(rondo_listener_create_fd(loop, fd, NULL, &tally_listener, &tally, &last), 0);
    dialer_collect(&dialer, true);
    CHECK_EQUAL(dialer.ended, dialer.dialed);
    CHECK_EQUAL(rondo_listener_close(last), 0);
    wait_closed(&tally);
    WAIT_UNTIL(loop_stats(loop).connections == 0, 5000);
    WAIT_UNTIL(count_descriptors() == before - 1, 5000);
    /* Both ends of the race were seen, or this tested nothing. */
    CHECK(tally.busy_closes * 100 >= closes && tally.idle_closes * 100 >= closes);
    CHECK(atomic_load(&tally.accepted) <= dialer.dialed);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unix_listeners_accept_by_path_and_by_name),
        cmocka_unit_test(the_longest_names_work),
        cmocka_unit_test(inherited_sockets_are_listened_on),
        cmocka_unit_test(sockets_that_do_not_block_cost_nothing_while_idle),
        cmocka_unit_test(wrong_paths_are_refused),
        cmocka_unit_test(wrong_descriptors_are_refused_and_stay_open),
        cmocka_unit_test(wrong_handlers_and_options_are_refused),
        cmocka_unit_test(a_listener_that_fails_leaves_no_file),
        cmocka_unit_test(closing_meets_connections_that_arrive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
