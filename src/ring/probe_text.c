/* From the error of a row to the words: its state, why it is not live, and what would help.
 *
 * Any thread. A sentence says only what is certain; where two causes give the same error and the
 * surroundings do not tell them apart, it names both.
 */
#include "probe_facts.h"

#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define ALLOW_RING \
    "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"

enum { SECCOMP_NONE = 0, SECCOMP_FILTER = 2, RING_SYSCTL_ADMINS = 1, RING_SYSCTL_NOBODY = 2 };

/* One row on its way to words. */
struct telling {
    const struct probe_facts *facts;
    const struct probe_row *row;
    enum probe_facility facility;
    int error;
    char *reason;
    char *remedy;
};

static void reason(struct telling *telling, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void remedy(struct telling *telling, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void reason(struct telling *telling, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(telling->reason, PROBE_TEXT_SIZE, format, args);
    va_end(args);
}

static void remedy(struct telling *telling, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(telling->remedy, PROBE_TEXT_SIZE, format, args);
    va_end(args);
}

static const char *error_name(const struct telling *telling)
{
    return rondo_error_name(telling->error);
}

/* Whether this kernel is one that should have the facility. */
static bool is_recent(const struct telling *telling)
{
    const struct probe_surroundings *here = &telling->facts->here;

    return here->major > telling->row->since_major ||
           (here->major == telling->row->since_major && here->minor >= telling->row->since_minor);
}

static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS ||
           error == -EAGAIN || error == -ETIME;
}

/* ---- shortages: the kernel has it, and cannot now ---- */

static uint32_t tell_shortage(struct telling *telling)
{
    uint64_t memlock = telling->facts->here.memlock;

    switch (telling->error) {
    case -EMFILE:
    case -ENFILE:
        reason(telling, "no descriptor was left to try it with (%s)", error_name(telling));
        remedy(telling, telling->facility == PROBE_INOTIFY
                            ? "raise `ulimit -n` or the sysctl fs.inotify.max_user_instances"
                            : "raise `ulimit -n`");
        break;
    case -ETIME:
        reason(telling, "the kernel did not answer within the time the probe has");
        remedy(telling, "try again when the machine is less busy");
        break;
    default:
        if (memlock == UINT64_MAX)
            reason(telling, "no memory to try it with (%s)", error_name(telling));
        else
            reason(telling,
                   "no memory to try it with (%s): locked memory, RLIMIT_MEMLOCK, is limited to "
                   "%" PRIu64 " bytes",
                   error_name(telling), memlock);
        remedy(telling, "raise `ulimit -l` (LimitMEMLOCK= of a systemd unit) or the memory limit "
                        "of the container");
        break;
    }
    return RONDO_FACILITY_REFUSED;
}

/* ---- the ring as a whole ---- */

static uint32_t tell_ring_forbidden(struct telling *telling)
{
    const struct probe_surroundings *here = &telling->facts->here;
    const char *call = telling->facts->ring_call;
    bool is_setup = call[9] == 's'; /* the sysctl is looked at when a ring is set up, only */
    bool admins_only = here->ring_sysctl == RING_SYSCTL_ADMINS && !here->is_admin;

    if (is_setup && (here->ring_sysctl == RING_SYSCTL_NOBODY || admins_only)) {
        reason(telling, "the sysctl kernel.io_uring_disabled is %d: %s may create a ring (%s)%s",
               here->ring_sysctl,
               admins_only ? "only root and the group of kernel.io_uring_group" : "nobody",
               error_name(telling),
               here->seccomp == SECCOMP_FILTER ? "; a seccomp filter is active as well" : "");
        remedy(telling, "sysctl -w kernel.io_uring_disabled=0%s",
               admins_only ? ", or put the user into the group of kernel.io_uring_group" : "");
    } else if (here->seccomp == SECCOMP_FILTER) {
        reason(telling, "the seccomp filter of this process refuses %s (%s)", call,
               error_name(telling));
        remedy(telling, ALLOW_RING);
    } else if (here->seccomp == SECCOMP_NONE) {
        reason(telling, "a security module, such as SELinux, refuses %s (%s)", call,
               error_name(telling));
        remedy(telling, "allow io_uring in the policy of the security module");
    } else {
        reason(telling, "a seccomp filter, a sysctl or a security module refuses %s (%s)", call,
               error_name(telling));
        remedy(telling, ALLOW_RING "; see `sysctl kernel.io_uring_disabled`");
    }
    return RONDO_FACILITY_FORBIDDEN;
}

/* No such system call: an old kernel, one built without it, or a filter that hides it. */
static uint32_t tell_ring_missing(struct telling *telling)
{
    const struct probe_surroundings *here = &telling->facts->here;
    bool is_built = here->ring_sysctl >= 0; /* the sysctl comes with the code */

    if (is_built) {
        reason(telling, "%s answers %s although Linux %s was built with io_uring: %s",
               telling->facts->ring_call, error_name(telling), here->release,
               here->seccomp == SECCOMP_FILTER ? "the seccomp filter of this process hides it"
                                               : "something between hides it");
        remedy(telling, ALLOW_RING);
        return RONDO_FACILITY_FORBIDDEN;
    }
    if (here->seccomp == SECCOMP_FILTER && is_recent(telling)) {
        reason(telling,
               "%s answers %s: the seccomp filter of this process hides it, or Linux %s was built "
               "without CONFIG_IO_URING",
               telling->facts->ring_call, error_name(telling), here->release);
        remedy(telling, ALLOW_RING ", or use a kernel built with CONFIG_IO_URING");
        return RONDO_FACILITY_FORBIDDEN;
    }
    reason(telling,
           "io_uring is not in this kernel, Linux %s (%s): it came with 5.1 and "
           "CONFIG_IO_URING",
           here->release, error_name(telling));
    remedy(telling, "use Linux 6.1 or later, built with CONFIG_IO_URING");
    return RONDO_FACILITY_ABSENT;
}

static uint32_t tell_ring(struct telling *telling)
{
    telling->error = telling->facts->ring_error;
    if (is_shortage(telling->error))
        return tell_shortage(telling);
    switch (telling->error) {
    case -EPERM:
    case -EACCES:
        return tell_ring_forbidden(telling);
    case -ENOSYS:
        telling->row = &probe_rows[PROBE_RING];
        return tell_ring_missing(telling);
    default:
        reason(telling, "%s failed (%s)", telling->facts->ring_call, error_name(telling));
        remedy(telling, "use Linux 6.1 or later");
        return RONDO_FACILITY_REFUSED;
    }
}

/* ---- one facility ---- */

static uint32_t tell_forbidden(struct telling *telling)
{
    const struct probe_surroundings *here = &telling->facts->here;
    bool is_fastopen =
        telling->facility == PROBE_FASTOPEN || telling->facility == PROBE_FASTOPEN_CONNECT;

    if (is_fastopen && here->fastopen >= 0) {
        reason(telling, "the sysctl net.ipv4.tcp_fastopen is %d: %s do not use it", here->fastopen,
               telling->facility == PROBE_FASTOPEN ? "servers" : "clients");
        remedy(telling, "sysctl -w net.ipv4.tcp_fastopen=3");
    } else if (here->seccomp == SECCOMP_FILTER) {
        reason(telling, "the seccomp filter of this process refuses it (%s)", error_name(telling));
        remedy(telling, "allow it in the seccomp profile");
    } else {
        reason(telling, "a security module, a filter or missing rights refuse it (%s)",
               error_name(telling));
        remedy(telling, "allow it in the policy of the system");
    }
    return RONDO_FACILITY_FORBIDDEN;
}

static uint32_t tell_absent(struct telling *telling)
{
    const struct probe_surroundings *here = &telling->facts->here;
    uint32_t major = telling->row->since_major;
    uint32_t minor = telling->row->since_minor;
    bool is_call = telling->facility >= PROBE_RING_COUNT && telling->error == -ENOSYS;

    if (!is_recent(telling)) {
        reason(telling, "it came with Linux %u.%u, this is %s (%s)", major, minor, here->release,
               error_name(telling));
        remedy(telling, "use Linux %u.%u or later", major, minor);
        return RONDO_FACILITY_ABSENT;
    }
    if (is_call && here->seccomp == SECCOMP_FILTER) {
        reason(telling,
               "it answers %s although Linux has had it since %u.%u: the seccomp filter of this "
               "process hides it",
               error_name(telling), major, minor);
        remedy(telling, "allow it in the seccomp profile");
        return RONDO_FACILITY_FORBIDDEN;
    }
    if (telling->facility == PROBE_KTLS) {
        reason(telling, "the module tls is not loaded, or this kernel was built without it (%s)",
               error_name(telling));
        remedy(telling, "modprobe tls");
        return RONDO_FACILITY_ABSENT;
    }
    reason(telling, "Linux has had it since %u.%u, and this kernel, %s, was built without it (%s)",
           major, minor, here->release, error_name(telling));
    remedy(telling, "use a kernel built with it");
    return RONDO_FACILITY_ABSENT;
}

static uint32_t tell_refused(struct telling *telling)
{
    const struct probe_row *row = telling->row;

    if (row->how == PROBE_BY_SETUP && telling->error == -EINVAL) {
        reason(telling, "this kernel, %s, refuses the flag (%s), which came with Linux %u.%u",
               telling->facts->here.release, error_name(telling), row->since_major,
               row->since_minor);
        remedy(telling, "use Linux %u.%u or later", row->since_major, row->since_minor);
    } else {
        reason(telling, "trying it failed (%s)", error_name(telling));
        remedy(telling, "look up the error in the manual page of the call");
    }
    return RONDO_FACILITY_REFUSED;
}

static uint32_t tell_row(struct telling *telling)
{
    if (telling->error == 0)
        return RONDO_FACILITY_LIVE;
    if (telling->facility < PROBE_RING_COUNT && telling->facts->ring_error)
        return tell_ring(telling);
    if (is_shortage(telling->error))
        return tell_shortage(telling);
    switch (telling->error) {
    case -EPERM:
    case -EACCES:
        return tell_forbidden(telling);
    case -ENOSYS:
    case -EOPNOTSUPP:
    case -ENOPROTOOPT:
    case -EPROTONOSUPPORT:
    case -EAFNOSUPPORT:
    case -ENOENT:
        return tell_absent(telling);
    case -EINVAL:
        if (telling->row->how != PROBE_BY_SETUP)
            return tell_absent(telling);
        return tell_refused(telling);
    default:
        return tell_refused(telling);
    }
}

void probe_tell(const struct probe_facts *facts, enum probe_facility facility,
                struct rondo_facility *ret_row, char ret_reason[PROBE_TEXT_SIZE],
                char ret_remedy[PROBE_TEXT_SIZE])
{
    const struct probe_row *row = &probe_rows[facility];
    struct telling telling = {
        .facts = facts,
        .row = row,
        .facility = facility,
        .error = facts->errors[facility],
        .reason = ret_reason,
        .remedy = ret_remedy,
    };

    ret_reason[0] = ret_remedy[0] = '\0';
    *ret_row = (struct rondo_facility){
        .name = row->name,
        .used_for = row->used_for,
        .reason = ret_reason,
        .remedy = ret_remedy,
        .instead = row->instead,
        .state = tell_row(&telling),
        .need = row->need,
        .error = facts->errors[facility],
        .since_major = row->since_major,
        .since_minor = row->since_minor,
    };
}
