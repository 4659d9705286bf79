/* The probe of what is not the ring: the process's surroundings, and each other facility used once
 * on a descriptor of its own. Any thread; everything that is opened is closed again.
 */
#include "probe_facts.h"

#include "check.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* From newer or from conflicting headers. */
enum {
    CLOSE_RANGE_MARK = 4, /* CLOSE_RANGE_CLOEXEC */
    WAIT_BY_PIDFD = 3,    /* P_PIDFD */
    UDP_OPTION_SEGMENT = 103,
    UDP_OPTION_GRO = 104,
    CAPABILITY_ADMIN = 21,
    KERNEL_SIGNALS_SIZE = 8,
    FASTOPEN_SERVER = 2, /* bit of net.ipv4.tcp_fastopen */
    FASTOPEN_CLIENT = 1,
};

/* ---- surroundings ---- */

int probe_read_text(const char *path, char *ret_text, size_t size)
{
    int64_t fd = sys_call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC);
    int64_t length = 0;
    int64_t count;

    if (fd < 0)
        return (int)fd;
    do {
        count = sys_call(SYS_read, (long)fd, (long)(ret_text + length), (long)(size - 1) - length);
        length += count > 0 ? count : 0;
    } while (count > 0);
    (void)sys.close((int)fd);
    ret_text[length] = '\0';
    return count < 0 ? (int)count : (int)length;
}

/* The number in a file of /proc/sys, or -1. */
static int read_number(const char *path)
{
    char text[32];

    return probe_read_text(path, text, sizeof(text)) > 0 ? (int)strtol(text, NULL, 10) : -1;
}

/* What stands behind @name in a file of /proc/.../status, or NULL. */
static const char *field_of(const char *status, const char *name)
{
    const char *found = strstr(status, name);

    return found ? found + strlen(name) : NULL;
}

void probe_surroundings(struct probe_surroundings *ret_here)
{
    char status[4096];
    struct utsname names = {0};
    struct rlimit limit = {0};

    *ret_here = (struct probe_surroundings){.seccomp = -1, .memlock = UINT64_MAX};
    (void)sys_call(SYS_uname, (long)&names);
    (void)snprintf(ret_here->release, sizeof(ret_here->release), "%s", names.release);
    (void)sscanf(names.release, "%u.%u", &ret_here->major, &ret_here->minor);
    ret_here->ring_sysctl = read_number("/proc/sys/kernel/io_uring_disabled");
    ret_here->fastopen = read_number("/proc/sys/net/ipv4/tcp_fastopen");
    if (sys_call(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, (long)&limit) == 0)
        ret_here->memlock = limit.rlim_cur;
    if (probe_read_text("/proc/thread-self/status", status, sizeof(status)) > 0) {
        const char *seccomp = field_of(status, "\nSeccomp:");
        const char *capabilities = field_of(status, "\nCapEff:");
        if (seccomp)
            ret_here->seccomp = (int)strtol(seccomp, NULL, 10);
        if (capabilities)
            ret_here->is_admin = strtoull(capabilities, NULL, 16) >> CAPABILITY_ADMIN & 1;
    }
}

/* ---- tests: 0 or the error of the row ---- */

static int closed(int64_t fd)
{
    if (fd < 0)
        return (int)fd;
    (void)sys.close((int)fd);
    return 0;
}

static int test_eventfd(void)
{
    return closed(sys.event_create());
}

static int64_t open_self(void)
{
    return sys_call(SYS_pidfd_open, (long)getpid(), 0);
}

static int test_pidfd(void)
{
    return closed(open_self());
}

static int test_pidfd_wait(void)
{
    int64_t fd = open_self();

    if (fd < 0)
        return (int)fd;
    /* A process is not its own child: where the kernel knows the way it says so. */
    int64_t result = sys_call(SYS_waitid, WAIT_BY_PIDFD, (long)fd, 0, WEXITED | WNOHANG | WNOWAIT);
    (void)sys.close((int)fd);
    return result == -ECHILD ? 0 : (int)result;
}

static int test_pidfd_signal(void)
{
    int64_t fd = open_self();

    if (fd < 0)
        return (int)fd;
    int64_t result = sys_call(SYS_pidfd_send_signal, (long)fd, 0);
    (void)sys.close((int)fd);
    return (int)result;
}

static int test_close_range(void)
{
    /* The one number that is never open. */
    return (int)sys_call(SYS_close_range, UINT_MAX, UINT_MAX, CLOSE_RANGE_MARK);
}

static int test_openat2_beneath(void)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    int64_t result = sys_call(SYS_openat2, AT_FDCWD, (long)"..", (long)&how, sizeof(how));

    /* A kernel that follows the path does not know the rule. */
    if (closed(result) == 0)
        return -EINVAL;
    return result == -EXDEV ? 0 : (int)result;
}

static int test_memfd_seal(void)
{
    int64_t fd = sys_call(SYS_memfd_create, (long)"rondo", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return (int)fd;
    int64_t result = sys_call(SYS_fcntl, (long)fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    (void)sys.close((int)fd);
    return (int)result;
}

static int test_inotify(void)
{
    return closed(sys_call(SYS_inotify_init1, IN_CLOEXEC));
}

static int test_signalfd(void)
{
    uint64_t none = 0;

    return closed(sys_call(SYS_signalfd4, -1, (long)&none, KERNEL_SIGNALS_SIZE, SFD_CLOEXEC));
}

/* Whether a new socket takes an option. */
static int test_option(int type, int level, int name, int value)
{
    int fd = sys.socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fd;
    int error = sys.setsockopt(fd, level, name, &value, sizeof(value));
    (void)sys.close(fd);
    return error;
}

static int test_reuseport(void)
{
    return test_option(SOCK_STREAM, SOL_SOCKET, SO_REUSEPORT, 1);
}

static int test_udp_segment(void)
{
    return test_option(SOCK_DGRAM, IPPROTO_UDP, UDP_OPTION_SEGMENT, 1200);
}

static int test_udp_gro(void)
{
    return test_option(SOCK_DGRAM, IPPROTO_UDP, UDP_OPTION_GRO, 1);
}

static int test_ktls(void)
{
    char names[256] = " ";
    /* Asking a socket for it would make the kernel load the module. */
    int length =
        probe_read_text("/proc/sys/net/ipv4/tcp_available_ulp", names + 1, sizeof(names) - 1);
    char *name;

    if (length < 0)
        return length;
    name = strstr(names, " tls");
    return name && (name[4] == ' ' || name[4] == '\n' || name[4] == '\0') ? 0 : -ENOENT;
}

static int test_fastopen(void)
{
    return test_option(SOCK_STREAM, IPPROTO_TCP, TCP_FASTOPEN, 16);
}

static int test_fastopen_connect(void)
{
    return test_option(SOCK_STREAM, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
}

static int (*const tests[PROBE_COUNT])(void) = {
    [PROBE_EVENTFD] = test_eventfd,
    [PROBE_PIDFD] = test_pidfd,
    [PROBE_PIDFD_WAIT] = test_pidfd_wait,
    [PROBE_PIDFD_SIGNAL] = test_pidfd_signal,
    [PROBE_CLOSE_RANGE] = test_close_range,
    [PROBE_OPENAT2_BENEATH] = test_openat2_beneath,
    [PROBE_MEMFD_SEAL] = test_memfd_seal,
    [PROBE_INOTIFY] = test_inotify,
    [PROBE_SIGNALFD] = test_signalfd,
    [PROBE_REUSEPORT] = test_reuseport,
    [PROBE_UDP_SEGMENT] = test_udp_segment,
    [PROBE_UDP_GRO] = test_udp_gro,
    [PROBE_KTLS] = test_ktls,
    [PROBE_FASTOPEN] = test_fastopen,
    [PROBE_FASTOPEN_CONNECT] = test_fastopen_connect,
};

void probe_kernel(struct probe_facts *facts)
{
    const struct probe_surroundings *here = &facts->here;

    for (uint32_t i = PROBE_RING_COUNT; i < PROBE_COUNT; i++)
        facts->errors[i] = tests[i]();
    /* A socket takes these options whether or not the sysctl lets them do anything. */
    if (!facts->errors[PROBE_FASTOPEN] && here->fastopen >= 0 &&
        !(here->fastopen & FASTOPEN_SERVER))
        facts->errors[PROBE_FASTOPEN] = -EPERM;
    if (!facts->errors[PROBE_FASTOPEN_CONNECT] && here->fastopen >= 0 &&
        !(here->fastopen & FASTOPEN_CLIENT))
        facts->errors[PROBE_FASTOPEN_CONNECT] = -EPERM;
}
