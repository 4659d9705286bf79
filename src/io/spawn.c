/* Starting a child process, the parent's side; see spawn.h.
 *
 * Any thread. All signals are blocked from before the child is made until its program runs, so that
 * no handler of this process runs in the child's borrowed memory. Between two threads that spawn
 * nothing is shared: every descriptor here is closed on exec.
 */
#include "spawn_child.h"

#include "check.h"
#include "error.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_OTHER_FD = 3, FDS_MAX = 4096 };

/* What a program is looked for in when there is no PATH. */
static const char path_default[] = "/bin:/usr/bin";

/* ---- the plan ---- */

static int check_fds(const struct spawn_options *options)
{
    const struct spawn_fd *fds = options->fds;
    uint64_t limit = sys.descriptor_limit();

    if (options->fd_count > FDS_MAX || (options->fd_count > 0 && !fds))
        return error_set(-EINVAL, "fds: none, or more than %d", FDS_MAX);
    for (uint32_t i = 0; i < options->fd_count; i++) {
        if (fds[i].child_fd < 0 || fds[i].parent_fd < 0)
            return error_set(-EINVAL, "fds: a descriptor is negative");
        for (uint32_t j = 0; j < i; j++)
            if (fds[j].child_fd == fds[i].child_fd)
                return error_set(-EINVAL, "fds: descriptor %d of the child is named twice",
                                 fds[i].child_fd);
        /* Each is copied above all goals once, and so is the report. */
        if ((uint64_t)fds[i].child_fd + options->fd_count + 2 >= limit)
            return error_set(-EMFILE,
                             "fds: descriptor %d of the child is too near the limit of %llu; "
                             "raise `ulimit -n`",
                             fds[i].child_fd, (unsigned long long)limit);
    }
    return 0;
}

static int check_options(const struct spawn_options *options)
{
    if (!options->program)
        return error_set(-EINVAL, "program: there is none");
    if (!options->argv || !options->argv[0])
        return error_set(-EINVAL, "argv: it is empty; its first string is the program's name");
    if (options->program[0] == '\0')
        return error_set(-ENOENT, "program: it is an empty string");
    return check_fds(options);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* All from 3 upwards that is no goal. @sorted has room for the goals, @gaps for one more. */
static void plan_gaps(struct spawn_plan *plan, uint32_t *sorted, struct spawn_gap *gaps)
{
    uint32_t count = plan->options->fd_count;
    uint32_t next = FIRST_OTHER_FD;

    for (uint32_t i = 0; i < count; i++)
        sorted[i] = (uint32_t)plan->options->fds[i].child_fd;
    if (count > 0)
        qsort(sorted, count, sizeof(*sorted), compare_numbers);
    for (uint32_t i = 0; i < count; i++) {
        if (sorted[i] > next)
            gaps[plan->gap_count++] = (struct spawn_gap){next, sorted[i] - 1};
        if (sorted[i] >= next)
            next = sorted[i] + 1;
    }
    gaps[plan->gap_count++] = (struct spawn_gap){next, UINT32_MAX};
    plan->first_free = (int)next;
    plan->gaps = gaps;
}

static const char *path_of(char *const *envp)
{
    for (uint32_t i = 0; envp && envp[i]; i++)
        if (strncmp(envp[i], "PATH=", 5) == 0)
            return envp[i] + 5;
    return path_default;
}

/* The directories of @path, an empty one being the current, each with the program behind it. */
static void list_paths(const char *path, const char *program, const char **ret_paths, char *text)
{
    size_t program_size = strlen(program) + 1;

    for (;;) {
        size_t size = strcspn(path, ":");
        *ret_paths++ = text;
        memcpy(text, path, size);
        text += size;
        if (size > 0)
            *text++ = '/';
        memcpy(text, program, program_size);
        text += program_size;
        if (path[size] == '\0')
            break;
        path += size + 1;
    }
    *ret_paths = NULL;
}

static uint32_t count_colons(const char *path)
{
    uint32_t count = 0;

    for (; *path; path++)
        count += *path == ':';
    return count;
}

/* Where it looks for the program, and the memory of it: NULL if there is none. */
static const char **make_paths(const struct spawn_options *options, char *const *envp)
{
    bool search = options->search_path && !strchr(options->program, '/');
    const char *path = search ? path_of(envp) : "";
    size_t count = search ? count_colons(path) + 1 : 1;
    size_t text_size = strlen(path) + count * (strlen(options->program) + 2);
    const char **paths = sys.alloc((count + 1) * sizeof(*paths) + text_size);

    if (paths && search)
        list_paths(path, options->program, paths, (char *)(paths + count + 1));
    else if (paths)
        paths[0] = options->program;
    return paths;
}

/* ---- the child ---- */

/* What the child has to say: in its borrowed memory, else through the pipe, which the program's
 * execution closes. In memory of its own it may be a while until it says anything. */
static struct spawn_failure hear(const struct spawn_plan *plan, int fd)
{
    struct spawn_failure failure = {0};
    int64_t size;

    if (plan->is_borrowed)
        return plan->failure;
    do
        size = sys_call(SYS_read, fd, (long)&failure, sizeof(failure));
    while (size == -EINTR);
    return size == sizeof(failure) ? failure : (struct spawn_failure){0};
}

static void reap(pid_t pid)
{
    int64_t result;

    do
        result = sys_call(SYS_waitid, P_PID, pid, 0, WEXITED);
    while (result == -EINTR);
}

static int explain(const struct spawn_options *options, struct spawn_failure failure)
{
    static const char *const steps[] = {
        [SPAWN_GROUP] = "new_session or new_group",
        [SPAWN_CHDIR] = "cwd",
        [SPAWN_FDS] = "fds",
        [SPAWN_MARK] = "closing other descriptors",
        [SPAWN_USER] = "uid or gid",
        [SPAWN_EXEC] = "program",
    };
    const char *what = failure.step == SPAWN_CHDIR  ? options->cwd
                       : failure.step == SPAWN_EXEC ? options->program
                                                    : "it";

    return error_set(failure.error, "%s: %s failed: %s", steps[failure.step], what,
                     rondo_error_name(failure.error));
}

/* Make the child and hear from it: 0 or an error, and no child then. */
static int run(struct spawn_plan *plan, const int report[2], pid_t *ret_pid)
{
    static const uint64_t all = UINT64_MAX;
    bool apart = plan->options->uid || plan->options->gid;
    uint64_t old = 0;
    int pid;

    plan->report_fd = report[1];
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, SPAWN_SIGNALS_SIZE);
    pid = sys.process_create(apart, spawn_child, plan);
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, SPAWN_SIGNALS_SIZE);
    (void)sys.close(report[1]);
    if (pid < 0)
        return error_set(pid, "no process could be made: %s", rondo_error_name(pid));
    struct spawn_failure failure = hear(plan, report[0]);
    if (failure.error) {
        reap(pid);
        return explain(plan->options, failure);
    }
    *ret_pid = pid;
    return 0;
}

/* The pidfd of a child that runs. Without one nobody could wait for it, so it must end. */
static int watch(pid_t pid)
{
    int64_t fd = sys_call(SYS_pidfd_open, pid, 0);

    if (fd >= 0)
        return (int)fd;
    if (fd == -ESRCH)
        return error_set(-ECHILD, "the status of the child is gone: this process ignores SIGCHLD, "
                                  "or another thread waits for any child");
    (void)sys_call(SYS_kill, pid, SIGKILL);
    reap(pid);
    return error_set((int)fd, "no pidfd for the child: %s", rondo_error_name((int)fd));
}

static int start(struct spawn_plan *plan, pid_t *ret_pid, int *ret_pidfd)
{
    int report[2];
    pid_t pid = 0;
    /* Where pidfds are forbidden or no descriptor is left, nothing is started. This one keeps the
     * place for the child's. */
    int64_t own = sys_call(SYS_pidfd_open, (long)getpid(), 0);
    int error;

    if (own < 0)
        return error_set((int)own, "no pidfd can be had: %s", rondo_error_name((int)own));
    error = (int)sys_call(SYS_pipe2, (long)report, O_CLOEXEC);
    if (!error) {
        error = run(plan, report, &pid);
        (void)sys.close(report[0]);
    } else {
        (void)error_set(error, "no pipe can be had: %s", rondo_error_name(error));
    }
    (void)sys.close((int)own);
    if (error)
        return error;
    int fd = watch(pid);
    if (fd < 0)
        return fd;
    *ret_pid = pid;
    *ret_pidfd = fd;
    return 0;
}

int spawn_start(const struct spawn_options *options, pid_t *ret_pid, int *ret_pidfd)
{
    struct spawn_plan plan = {.options = options};
    uint32_t count = options->fd_count;
    int error = check_options(options);
    char *const *envp = options->envp ? options->envp : environ;

    if (error)
        return error;
    const char **paths = make_paths(options, envp);
    uint32_t *numbers = sys.alloc(2 * (count + 1) * sizeof(*numbers));
    struct spawn_gap *gaps = sys.alloc((count + 1) * sizeof(*gaps));
    if (paths && numbers && gaps) {
        plan.paths = paths;
        plan.envp = envp;
        plan.copies = (int *)(numbers + count);
        plan_gaps(&plan, numbers, gaps);
        error = start(&plan, ret_pid, ret_pidfd);
    } else {
        error = error_set(-ENOMEM, "no memory to start a process");
    }
    sys.release(gaps);
    sys.release(numbers);
    sys.release(paths);
    return error;
}
