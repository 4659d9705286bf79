/* The child of a spawn; see spawn_child.h for what it may use. One thread: the child's only one.
 */
#include "spawn_child.h"

#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

enum { STDERR_NUMBER = 2, MARK_CLOEXEC = 4 /* CLOSE_RANGE_CLOEXEC */ };

/* A handler is code of the parent and an ignored signal would stay ignored in the program. */
static void reset_signals(void)
{
    /* A kernel's sigaction: the default handler, no flags, no mask. */
    static const uint64_t initial[8];

    for (long number = 1; number <= SPAWN_SIGNALS; number++)
        (void)sys_call(SYS_rt_sigaction, number, (long)initial, 0, SPAWN_SIGNALS_SIZE);
}

static void unblock_signals(void)
{
    static const uint64_t none;

    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, SPAWN_SIGNALS_SIZE);
}

static int64_t set_group(const struct spawn_options *options)
{
    int64_t result = 0;

    if (options->new_session)
        result = sys_call(SYS_setsid, 0);
    else if (options->new_group)
        result = sys_call(SYS_setpgid, 0, 0);
    return result < 0 ? result : 0;
}

/* First copies out of the way of every number that is a goal, then from there to the goals: so a
 * swap is nothing special, and a descriptor that stays where it is loses its close-on-exec flag. */
static int64_t move_fds(struct spawn_plan *plan)
{
    const struct spawn_fd *fds = plan->options->fds;
    int64_t result = sys_call(SYS_fcntl, plan->report_fd, F_DUPFD_CLOEXEC, plan->first_free);

    if (result < 0)
        return result;
    plan->report_fd = (int)result;
    for (uint32_t i = 0; i < plan->options->fd_count; i++) {
        result = sys_call(SYS_fcntl, fds[i].parent_fd, F_DUPFD_CLOEXEC, plan->first_free);
        if (result < 0)
            return result;
        plan->copies[i] = (int)result;
    }
    for (uint32_t i = 0; i < plan->options->fd_count; i++) {
        result = sys_call(SYS_dup3, plan->copies[i], fds[i].child_fd, 0);
        if (result < 0)
            return result;
    }
    return 0;
}

static bool is_in_gap(const struct spawn_plan *plan, uint32_t fd)
{
    for (uint32_t i = 0; i < plan->gap_count; i++)
        if (fd >= plan->gaps[i].first && fd <= plan->gaps[i].last)
            return true;
    return false;
}

/* "17" is a number, "." is none. */
static int64_t number_of(const char *name)
{
    int64_t number = 0;

    if (*name < '0' || *name > '9')
        return -1;
    for (; *name >= '0' && *name <= '9'; name++)
        number = number * 10 + (*name - '0');
    return number;
}

/* Where close_range is missing: what is open is listed in /proc. */
static int64_t mark_listed(const struct spawn_plan *plan)
{
    char entries[1024] __attribute__((aligned(8)));
    /* An entry: its number, the offset of the next one, its length, its type, its name. */
    enum { LENGTH_OFFSET = 16, NAME_OFFSET = 19 };
    int64_t size;
    int64_t directory =
        sys_call(SYS_openat, AT_FDCWD, (long)"/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        return directory;
    while ((size = sys_call(SYS_getdents64, (long)directory, (long)entries, sizeof(entries))) > 0) {
        uint16_t length;
        for (int64_t at = 0; at < size; at += length) {
            memcpy(&length, entries + at + LENGTH_OFFSET, sizeof(length));
            int64_t fd = number_of(entries + at + NAME_OFFSET);
            if (fd >= 0 && is_in_gap(plan, (uint32_t)fd))
                (void)sys_call(SYS_fcntl, (long)fd, F_SETFD, FD_CLOEXEC);
        }
    }
    (void)sys_call(SYS_close, (long)directory);
    return size;
}

static int64_t mark_others(const struct spawn_plan *plan)
{
    for (uint32_t i = 0; i < plan->gap_count; i++) {
        int64_t result =
            sys_call(SYS_close_range, plan->gaps[i].first, plan->gaps[i].last, MARK_CLOEXEC);
        if (result < 0) /* No such call, no such flag, or a filter. */
            return mark_listed(plan);
    }
    return 0;
}

static int64_t set_user(const struct spawn_options *options)
{
    int64_t result = 0;

    if (!options->uid && !options->gid)
        return 0;
    /* Without the right to it, there are no groups to drop that matter. */
    result = sys_call(SYS_setgroups, options->gid ? 1 : 0, (long)options->gid);
    if (result < 0 && result != -EPERM)
        return result;
    result = 0;
    if (options->gid)
        result = sys_call(SYS_setresgid, *options->gid, *options->gid, *options->gid);
    if (result == 0 && options->uid)
        result = sys_call(SYS_setresuid, *options->uid, *options->uid, *options->uid);
    return result;
}

/* Returns only if no path can be executed: with the error of the search, in which a program that
 * may not be executed says more than others that are not there. */
static int64_t execute(const struct spawn_plan *plan)
{
    int64_t error = -ENOENT;

    for (uint32_t i = 0; plan->paths[i]; i++) {
        int64_t result =
            sys_call(SYS_execve, (long)plan->paths[i], (long)plan->options->argv, (long)plan->envp);
        switch (result) {
        case -EACCES:
            error = result;
            break;
        case -ENOENT: /* Not in this directory, or no such one. */
        case -ENOTDIR:
        case -ESTALE:
        case -ENODEV:
        case -ETIMEDOUT:
            if (error != -EACCES)
                error = result;
            break;
        default:
            return result;
        }
    }
    return error;
}

static bool fails(struct spawn_plan *plan, enum spawn_step step, int64_t result)
{
    if (result == 0)
        return false;
    plan->failure = (struct spawn_failure){(int32_t)result, (int32_t)step};
    return true;
}

void spawn_child(void *arg)
{
    struct spawn_plan *plan = arg;
    const struct spawn_options *options = plan->options;
    int64_t written;

    plan->is_borrowed = true;
    reset_signals();
    if (!fails(plan, SPAWN_GROUP, set_group(options)) &&
        !fails(plan, SPAWN_CHDIR, options->cwd ? sys_call(SYS_chdir, (long)options->cwd) : 0) &&
        !fails(plan, SPAWN_FDS, move_fds(plan)) && !fails(plan, SPAWN_MARK, mark_others(plan)) &&
        !fails(plan, SPAWN_USER, set_user(options))) {
        unblock_signals();
        (void)fails(plan, SPAWN_EXEC, execute(plan));
    }
    do
        written = sys_call(SYS_write, plan->report_fd, (long)&plan->failure, sizeof(plan->failure));
    while (written == -EINTR);
    for (;;)
        (void)sys_call(SYS_exit_group, 127);
}
