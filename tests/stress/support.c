/* See support.h. */
#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SANITIZER_SLOWDOWN = 5, RECEIVE_TIMEOUT_S = 30 };

static uint64_t seed_in_use;
static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
static struct sigaction crash_actions[sizeof(crash_signals) / sizeof(crash_signals[0])];

/* ---- seeds and scale ---- */

__attribute__((constructor)) static void before_main(void)
{
    /* A pattern such as *burst*: only these tests of the program. */
    cmocka_set_test_filter(getenv("RONDO_TEST_ONLY"));
    for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++)
        (void)sigaction(crash_signals[i], NULL, &crash_actions[i]);
}

uint64_t test_begin(const char *name)
{
    const char *text = getenv("RONDO_TEST_SEED");

    for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++)
        (void)sigaction(crash_signals[i], &crash_actions[i], NULL);
    seed_in_use = text ? strtoull(text, NULL, 0) : UINT64_C(0x726f6e646f);
    fprintf(stderr, "%s: RONDO_TEST_SEED=%#llx\n", name, (unsigned long long)seed_in_use);
    return seed_in_use;
}

uint64_t test_scaled(uint64_t count)
{
    const char *text = getenv("RONDO_TEST_SCALE");
    uint64_t scale = text ? strtoull(text, NULL, 10) : 1;

    count *= scale > 0 ? scale : 1;
    if (TEST_SANITIZED)
        count /= 10;
    return count > 0 ? count : 1;
}

uint64_t random_of(uint64_t seed, uint64_t number)
{
    uint64_t value = seed + number * UINT64_C(0x9e3779b97f4a7c15);

    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

uint64_t random_next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    return random_of(*state, 0);
}

uint64_t random_below(uint64_t *state, uint64_t bound)
{
    return random_next(state) % bound;
}

/* ---- checks ---- */

void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: FAILED, seed %#llx: %s\n", file, line, (unsigned long long)seed_in_use,
            what);
    abort();
}

void check_equal(const char *file, int line, const char *what, intmax_t a, intmax_t b)
{
    if (a == b)
        return;
    fprintf(stderr, "%s:%d: %jd is not %jd\n", file, line, a, b);
    check_failed(file, line, what);
}

uint64_t test_deadline(uint64_t timeout_ms)
{
    return rondo_now_ns() + timeout_ms * MS * (TEST_SANITIZED ? SANITIZER_SLOWDOWN : 1);
}

static void sleep_ns(uint64_t duration_ns)
{
    struct timespec left = {(time_t)(duration_ns / (1000 * MS)), (long)(duration_ns % (1000 * MS))};

    while (nanosleep(&left, &left) != 0)
        CHECK_EQUAL(errno, EINTR);
}

void test_nap(void)
{
    sleep_ns(MS / 5);
}

void test_pass_time(uint64_t duration_ms)
{
    sleep_ns(duration_ms * MS);
}

/* ---- this process ---- */

static uint32_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    uint32_t count = 0;

    CHECK(folder);
    while (readdir(folder))
        count++;
    (void)closedir(folder);
    return count;
}

uint32_t count_descriptors(void)
{
    return count_entries("/proc/self/fd");
}

uint32_t count_threads(void)
{
    return count_entries("/proc/self/task");
}

uint64_t process_rss(void)
{
    unsigned long long size = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file);
    CHECK_EQUAL(fscanf(file, "%llu %llu", &size, &resident), 2);
    (void)fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t process_cpu_ns(void)
{
    struct timespec used;

    CHECK_EQUAL(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (uint64_t)used.tv_sec * 1000 * MS + (uint64_t)used.tv_nsec;
}

void run_in_child(void (*body)(void *ctx), void *ctx)
{
    int status = 0;

    (void)fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(ctx);
        _exit(0);
    }
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

/* ---- plain sockets ---- */

int tcp_dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval timeout = {.tv_sec = RECEIVE_TIMEOUT_S};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQUAL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    /* Before the timeouts: with them an interrupted connect is not restarted. */
    CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
    return fd;
}

void tcp_send(int fd, const void *data, size_t size)
{
    const char *bytes = data;

    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        CHECK(sent > 0);
        bytes += sent;
        size -= (size_t)sent;
    }
}

size_t tcp_receive(int fd, void *data, size_t size)
{
    char *bytes = data;
    size_t received = 0;

    while (received < size) {
        ssize_t count = recv(fd, bytes + received, size - received, 0);
        /* The kernel interrupts the thread that made a ring when the ring goes away, and with a
         * timeout on the socket the call is not restarted. */
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            CHECK_EQUAL(errno, ECONNRESET);
        if (count <= 0)
            break;
        received += (size_t)count;
    }
    return received;
}

void tcp_reset(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    (void)close(fd);
}

/* ---- operations ---- */

void outcome_note(const struct rondo_result *result, void *ctx)
{
    struct outcome *outcome = ctx;

    CHECK_EQUAL(atomic_load(&outcome->count), 0);
    outcome->result = *result;
    atomic_fetch_add(&outcome->count, 1);
}

/* ---- loops ---- */

rondo_loop *loop_begin(const struct rondo_loop_options *options)
{
    rondo_loop *loop = NULL;

    CHECK_EQUAL(rondo_loop_create(options, &loop), 0);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    return loop;
}

struct rondo_loop_stats loop_stats(rondo_loop *loop)
{
    struct rondo_loop_stats stats = RONDO_LOOP_STATS_INIT;

    CHECK_EQUAL(rondo_loop_stats(loop, &stats), 0);
    return stats;
}

rondo_listener *listen_local(rondo_loop *loop, const struct rondo_listener_handlers *handlers,
                             void *ctx)
{
    rondo_listener *listener = NULL;

    CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", 0, NULL, handlers, ctx, &listener), 0);
    return listener;
}

uint16_t listener_port(const rondo_listener *listener)
{
    struct sockaddr_storage address;
    struct sockaddr_in v4;

    CHECK_EQUAL(rondo_listener_address(listener, &address), 0);
    memcpy(&v4, &address, sizeof(v4));
    return ntohs(v4.sin_port);
}

static void echo_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    int error = rondo_stream_write(stream, data, size);
    CHECK(error == 0 || error == -EBADF);
}

static void echo_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    static const struct rondo_stream_handlers handlers = {
        .size = sizeof(handlers),
        .read = echo_read,
    };

    (void)listener;
    (void)ctx;
    (void)rondo_stream_start(stream, &handlers, NULL);
}

const struct rondo_listener_handlers echo_listener = {
    .size = sizeof(echo_listener),
    .accepted = echo_accepted,
};
