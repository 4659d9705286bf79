/* The production table of system calls: thin wrappers that turn errno into -errno.
 *
 * Any thread. No wrapper keeps state; the table is written by tests only, before threads start.
 */
#include "sys.h"

#include "check.h"
#include "clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int result(long value)
{
    return value < 0 ? -errno : (int)value;
}

static uint64_t do_clock_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void *do_alloc(size_t size)
{
    return calloc(1, size);
}

static void *do_alloc_raw(size_t size)
{
    return malloc(size);
}

static void *do_alloc_aligned(size_t size)
{
    size_t rounded = (size + 63) & ~(size_t)63;
    void *memory = NULL;

    if (rounded < size || posix_memalign(&memory, 64, rounded))
        return NULL;
    memset(memory, 0, rounded);
    return memory;
}

static void do_release(void *memory)
{
    free(memory);
}

static void *do_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static void do_unmap(void *memory, size_t size)
{
    (void)munmap(memory, size);
}

static int do_thread_create(pthread_t *ret_thread, void *(*body)(void *), void *arg)
{
    sigset_t all;
    sigset_t old;
    int error;

    /* Signals are the program's: none is handled on a thread of the library. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(ret_thread, NULL, body, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

static int32_t do_thread_id(void)
{
    return (int32_t)syscall(SYS_gettid);
}

static uint64_t do_thread_cpu_ns(pthread_t thread)
{
    struct timespec used = {0};
    clockid_t clock;

    if (pthread_getcpuclockid(thread, &clock) == 0)
        (void)clock_gettime(clock, &used);
    return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

static int do_thread_is_blocked(int32_t id)
{
    char path[48];
    char text[256];

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 1; /* Nothing is known: a worker too many is better than one too few. */
    long size = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    text[size > 0 ? size : 0] = '\0';
    /* "ID (name) STATE ...", and the name may contain anything. */
    const char *end = strrchr(text, ')');
    return !end || end[1] != ' ' || end[2] != 'R';
}

static int do_futex_wait(const void *word, uint32_t expected, uint32_t mask, uint64_t deadline_ns)
{
    struct timespec until;
    struct timespec *deadline = NULL;

    /* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time. */
    if (deadline_ns != DEADLINE_NEVER) {
        until.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND);
        until.tv_nsec = (long)(deadline_ns % NS_PER_SECOND);
        deadline = &until;
    }
    return result(
        syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline, NULL, mask));
}

static int do_futex_wake(const void *word, uint32_t count, uint32_t mask)
{
    return result(syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, count, NULL, NULL, mask));
}

static int do_event_create(void)
{
    return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static int do_event_ring(int fd)
{
    uint64_t one = 1;
    int saved = errno;
    long written = write(fd, &one, sizeof(one));
    /* A full counter is rung already. */
    int error = written < 0 && errno != EAGAIN ? -errno : 0;

    errno = saved;
    return error;
}

static int do_close(int fd)
{
    return result(close(fd));
}

static int do_descriptor_traits(int fd)
{
    struct stat status;
    int mode = fcntl(fd, F_GETFL);
    int traits = 0;

    if (mode < 0 || fstat(fd, &status) < 0)
        return -errno;
    if ((mode & O_ACCMODE) != O_WRONLY)
        traits |= SYS_READABLE;
    if ((mode & O_ACCMODE) != O_RDONLY)
        traits |= SYS_WRITABLE;
    if (S_ISSOCK(status.st_mode))
        traits |= SYS_SOCKET;
    else if (S_ISDIR(status.st_mode))
        traits |= SYS_DIRECTORY;
    else if (S_ISREG(status.st_mode))
        traits |= SYS_REGULAR;
    else if (S_ISCHR(status.st_mode) && isatty(fd))
        traits |= SYS_TERMINAL;
    return traits;
}

static int do_open(const char *path, int flags)
{
    return result(open(path, flags));
}

static int64_t do_directory_read(int fd, void *ret_entries, size_t size)
{
    int64_t got = getdents64(fd, ret_entries, size);

    return got < 0 ? -errno : got;
}

static int do_truncate(int fd, uint64_t size)
{
    return result(ftruncate(fd, (off_t)size));
}

static uint64_t do_random(void)
{
    uint64_t number = 0;

    /* So few bytes are never given in part; without them the numbers only repeat. */
    return getrandom(&number, sizeof(number), 0) == sizeof(number) ? number : 0;
}

static sigset_t signal_set(uint64_t mask)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (int number = 1; number <= 64; number++)
        if (mask & (UINT64_C(1) << (number - 1)))
            (void)sigaddset(&set, number);
    return set;
}

static int do_signal_block(uint64_t mask)
{
    sigset_t set = signal_set(mask);

    return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int do_signal_descriptor(int fd, uint64_t mask)
{
    sigset_t set = signal_set(mask);

    return result(signalfd(fd, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

static int do_watch_create(void)
{
    return result(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
}

static int do_watch_add(int fd, const char *path, uint32_t mask)
{
    return result(inotify_add_watch(fd, path, mask));
}

static int do_watch_remove(int fd, int32_t id)
{
    return result(inotify_rm_watch(fd, id));
}

static int do_duplicate(int fd)
{
    return result(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

static int do_socket(int family, int type, int protocol)
{
    return result(socket(family, type, protocol));
}

static int do_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return result(bind(fd, address, size));
}

static int do_listen(int fd, int backlog)
{
    return result(listen(fd, backlog));
}

static int do_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    return result(connect(fd, address, size));
}

static int do_set_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -errno : result(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
}

static int do_accept_now(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    /* The operations of a ring need a listener that blocks. */
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    int accepted = result(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
    (void)fcntl(fd, F_SETFL, flags);
    return accepted;
}

static int do_setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
    return result(setsockopt(fd, level, name, value, size));
}

static int do_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *size)
{
    return result(getsockopt(fd, level, name, ret_value, size));
}

static int do_getsockname(int fd, struct sockaddr *ret_address, socklen_t *size)
{
    return result(getsockname(fd, ret_address, size));
}

static int do_shutdown(int fd, int how)
{
    return result(shutdown(fd, how));
}

static int do_getpeername(int fd, struct sockaddr *ret_address, socklen_t *size)
{
    return result(getpeername(fd, ret_address, size));
}

static int64_t do_send(int fd, const void *data, size_t size, int flags)
{
    int64_t sent = send(fd, data, size, flags);

    return sent < 0 ? -errno : sent;
}

/* Whoever uses the descriptor meanwhile may get -EAGAIN, and has to be ready for it. */
static int64_t do_send_file(int fd, int file, uint64_t offset, size_t size)
{
    off_t at = (off_t)offset;
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    int64_t sent = sendfile(fd, file, &at, size);
    int64_t value = sent < 0 ? -errno : sent;
    if (flags >= 0 && !(flags & O_NONBLOCK))
        (void)fcntl(fd, F_SETFL, flags);
    return value;
}

static int do_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                          struct addrinfo **ret_list, int *ret_error)
{
    int eai = getaddrinfo(host, service, hints, ret_list);

    *ret_error = eai == EAI_SYSTEM ? -errno : 0;
    return eai;
}

static void do_freeaddrinfo(struct addrinfo *list)
{
    if (list)
        freeaddrinfo(list);
}

static int do_getnameinfo(const struct sockaddr *address, socklen_t size, char *ret_host,
                          size_t host_size, char *ret_service, size_t service_size, int flags,
                          int *ret_error)
{
    int eai = getnameinfo(address, size, ret_host, (socklen_t)host_size, ret_service,
                          (socklen_t)service_size, flags);

    *ret_error = eai == EAI_SYSTEM ? -errno : 0;
    return eai;
}

static int do_ring_register(int fd, unsigned opcode, const void *arg, unsigned count)
{
    return result(syscall(SYS_io_uring_register, fd, opcode, arg, count));
}

static int do_ring_setup(unsigned count, struct io_uring_params *params)
{
    return result(syscall(SYS_io_uring_setup, count, params));
}

static int64_t do_call(long number, const long arguments[6])
{
    long value = syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                         arguments[4], arguments[5]);

    return value == -1 ? -errno : value;
}

static int do_process_create(bool apart, void (*body)(void *arg), void *arg)
{
    /* ThreadSanitizer makes a fork of a vfork: then the child has a copy all the same. */
    pid_t child = apart ? _Fork() : vfork();

    if (child == 0) {
        body(arg);
        _exit(127);
    }
    return result(child);
}

static uint32_t do_processor_count(void)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0)
        return (uint32_t)CPU_COUNT(&allowed);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

static uint64_t do_descriptor_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

struct sys sys = {
    .clock_now_ns = do_clock_now_ns,
    .alloc = do_alloc,
    .alloc_raw = do_alloc_raw,
    .alloc_aligned = do_alloc_aligned,
    .release = do_release,
    .map = do_map,
    .unmap = do_unmap,
    .thread_create = do_thread_create,
    .thread_id = do_thread_id,
    .thread_cpu_ns = do_thread_cpu_ns,
    .thread_is_blocked = do_thread_is_blocked,
    .futex_wait = do_futex_wait,
    .futex_wake = do_futex_wake,
    .event_create = do_event_create,
    .event_ring = do_event_ring,
    .close = do_close,
    .descriptor_traits = do_descriptor_traits,
    .open = do_open,
    .directory_read = do_directory_read,
    .truncate = do_truncate,
    .random = do_random,
    .signal_block = do_signal_block,
    .signal_descriptor = do_signal_descriptor,
    .watch_create = do_watch_create,
    .watch_add = do_watch_add,
    .watch_remove = do_watch_remove,
    .duplicate = do_duplicate,
    .socket = do_socket,
    .bind = do_bind,
    .listen = do_listen,
    .connect = do_connect,
    .set_blocking = do_set_blocking,
    .accept_now = do_accept_now,
    .setsockopt = do_setsockopt,
    .getsockopt = do_getsockopt,
    .getsockname = do_getsockname,
    .shutdown = do_shutdown,
    .getpeername = do_getpeername,
    .send = do_send,
    .send_file = do_send_file,
    .getaddrinfo = do_getaddrinfo,
    .freeaddrinfo = do_freeaddrinfo,
    .getnameinfo = do_getnameinfo,
    .ring_register = do_ring_register,
    .ring_setup = do_ring_setup,
    .call = do_call,
    .process_create = do_process_create,
    .processor_count = do_processor_count,
    .descriptor_limit = do_descriptor_limit,
};
