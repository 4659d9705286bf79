/* The public side of a child process: starting it, its pipes, signals to it. Any thread. See
 * process.h. */
#include "process.h"

#include "error.h"
#include "probe.h"
#include "spawn.h"

#include <fcntl.h>
#include <sys/syscall.h>

enum { FDS_MAX = 4096 };

/* The descriptors of a child while it is started. */
struct stdio_plan {
    struct spawn_fd *fds; /* of the child, ours for 0, 1 and 2 first */
    uint32_t fd_count;
    int childs[PROCESS_PIPES]; /* opened for the child, to be closed here; or -1 */
    int ours[PROCESS_PIPES];   /* our ends of pipes, or -1 */
};

/* ---- starting ---- */

static int check(rondo_loop *loop, const struct rondo_process_options *options,
                 const struct rondo_process_handlers *handlers, rondo_process **ret_process,
                 struct hub **ret_hub)
{
    int error = hub_explained(loop, ret_hub);

    if (error)
        return error;
    if (!ret_process)
        return error_set(-EINVAL, "ret_process is NULL");
    if (!handlers || handlers->size != sizeof(*handlers))
        return error_set(-EINVAL, "handlers is NULL, or its size is not "
                                  "sizeof(struct rondo_process_handlers)");
    if (!options || options->size != sizeof(*options))
        return error_set(-EINVAL, "options is NULL, or its size is wrong: start from "
                                  "RONDO_PROCESS_OPTIONS_INIT");
    if (options->fd_count > FDS_MAX || (options->fd_count > 0 && !options->fds))
        return error_set(-EINVAL, "fds: none, or more than %d", FDS_MAX);
    return 0;
}

/* The child's descriptor @number, or an error. */
static int open_stdio(struct stdio_plan *plan, int number, struct rondo_stdio stdio)
{
    int ends[2];
    int64_t result;

    switch (stdio.kind) {
    case RONDO_STDIO_NULL:
        result = sys_call(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR | O_CLOEXEC);
        plan->childs[number] = result < 0 ? -1 : (int)result;
        return (int)result;
    case RONDO_STDIO_PIPE:
        result = sys_call(SYS_pipe2, (long)ends, O_CLOEXEC);
        if (result < 0)
            return (int)result;
        plan->childs[number] = ends[number == 0 ? 0 : 1];
        plan->ours[number] = ends[number == 0 ? 1 : 0];
        return plan->childs[number];
    case RONDO_STDIO_FD:
        return stdio.fd < 0 ? -EBADF : stdio.fd;
    case RONDO_STDIO_INHERIT:
        break;
    }
    return -EINVAL;
}

static int plan_make(struct stdio_plan *plan, const struct rondo_process_options *options)
{
    plan->fds = sys.alloc((PROCESS_PIPES + options->fd_count) * sizeof(*plan->fds));
    if (!plan->fds)
        return error_set(-ENOMEM, "no memory to start a process");
    for (int i = 0; i < PROCESS_PIPES; i++) {
        if (options->stdio[i].kind == RONDO_STDIO_INHERIT)
            continue;
        int fd = open_stdio(plan, i, options->stdio[i]);
        if (fd < 0)
            return error_set(fd, "stdio[%d]: %s", i, rondo_error_name(fd));
        plan->fds[plan->fd_count++] = (struct spawn_fd){.child_fd = i, .parent_fd = fd};
    }
    for (uint32_t i = 0; i < options->fd_count; i++)
        plan->fds[plan->fd_count++] = (struct spawn_fd){
            .child_fd = options->fds[i].child_fd,
            .parent_fd = options->fds[i].parent_fd,
        };
    return 0;
}

static void close_all(const int *fds)
{
    for (int i = 0; i < PROCESS_PIPES; i++)
        if (fds[i] >= 0)
            (void)sys.close(fds[i]);
}

static int start(struct rondo_process *process, const struct stdio_plan *plan,
                 const struct rondo_process_options *options)
{
    struct spawn_options spawn = {
        .program = options->program,
        .search_path = options->search_path,
        .argv = options->argv,
        .envp = options->envp,
        .cwd = options->cwd,
        .fds = plan->fds,
        .fd_count = plan->fd_count,
        .new_session = options->new_session,
        .new_group = options->new_group,
        .uid = options->uid,
        .gid = options->gid,
    };

    return spawn_start(&spawn, &process->id, &process->pidfd);
}

RONDO_PUBLIC int rondo_process_spawn(rondo_loop *loop, const struct rondo_process_options *options,
                                     const struct rondo_process_handlers *handlers, void *ctx,
                                     rondo_process **ret_process)
{
    struct stdio_plan plan = {.childs = {-1, -1, -1}, .ours = {-1, -1, -1}};
    struct hub *hub;
    int error = check(loop, options, handlers, ret_process, &hub);

    if (error)
        return error;
    struct rondo_process *process = sys.alloc(sizeof(*process));
    if (!process)
        return error_set(-ENOMEM, "no memory for a process");
    /* All that can fail comes before the child, so that there is always somebody to wait for it. */
    if (!handle_init(&process->handle, &process_kind, hub_lane(hub), -1)) {
        sys.release(process);
        return error_set(-ESHUTDOWN, "the loop is stopping");
    }
    error = plan_make(&plan, options);
    if (!error)
        error = start(process, &plan, options);
    close_all(plan.childs);
    sys.release(plan.fds);
    if (error) {
        close_all(plan.ours);
        handle_discard(&process->handle);
        sys.release(process);
        return error;
    }
    for (int i = 0; i < PROCESS_PIPES; i++)
        store_relaxed(&process->pipes[i], plan.ours[i]); /* Relaxed: not shared yet. */
    process->hub = hub;
    process->kill_on_close = options->kill_on_close;
    process->waits_in_ring = probe_has(PROBE_WAITID);
    process->handlers = handlers;
    process->ctx = ctx;
    process->exit_event.run = process_exit_run;
    *ret_process = process;
    handle_submit(&process->handle);
    return 0;
}

/* ---- the rest ---- */

RONDO_PUBLIC int rondo_process_take_pipe(rondo_process *process, int number)
{
    int fd;

    if (!process || number < 0 || number >= PROCESS_PIPES)
        return -EINVAL;
    /* Pairs with itself, one taker gets it, and with process_destroy(). */
    fd = exchange_acq_rel(&process->pipes[number], -1);
    return fd < 0 ? -ENOENT : fd;
}

RONDO_PUBLIC int rondo_process_take_stream(rondo_process *process, int number,
                                           rondo_stream **ret_stream)
{
    int fd = rondo_process_take_pipe(process, number);
    int error;

    if (fd < 0)
        return fd;
    error = rondo_stream_open((rondo_loop *)process->hub, fd, ret_stream);
    if (error)
        (void)exchange_acq_rel(&process->pipes[number], fd); /* As rondo_process_take_pipe(). */
    return error;
}

RONDO_PUBLIC pid_t rondo_process_id(const rondo_process *process)
{
    return process ? process->id : -EINVAL;
}

RONDO_PUBLIC int rondo_process_kill(rondo_process *process, int signal)
{
    int pidfd;

    if (!process)
        return -EINVAL;
    if (hub_is_forked(process->hub))
        return -ECHILD;
    pidfd = process->pidfd;
    /* Pairs with the end: the signal may bring it, and nothing here is touched after that. */
    (void)or_acq_rel(&process->handle.flags, 0);
    return (int)sys_call(SYS_pidfd_send_signal, pidfd, signal);
}

RONDO_PUBLIC int rondo_process_wait(rondo_process *process, struct rondo_exit_status *ret_status,
                                    const struct rondo_request *request)
{
    struct operation *operation;
    int error;

    if (!process)
        return -EINVAL;
    if (hub_is_forked(process->hub))
        return -ECHILD;
    if (handle_has_flag(&process->handle, HANDLE_CLOSE))
        return -EBADF;
    error = operation_create(&process_wait_kind, process->hub, process->handle.lane,
                             &process->handle.strand, request, &operation);
    if (error)
        return error;
    struct process_waiter *waiter = (struct process_waiter *)operation;
    /* A reference of its own: its done may run on another strand. */
    strand_ref(&process->handle.strand);
    waiter->process = process;
    waiter->status = ret_status;
    operation_submit(operation);
    return 0;
}

RONDO_PUBLIC int rondo_process_close(rondo_process *process)
{
    uint32_t old;

    if (!process)
        return -EINVAL;
    old = handle_ask(&process->handle, HANDLE_CLOSE | PROCESS_DROPPED);
    return old & (HANDLE_CLOSE | HANDLE_CLOSED) ? -EALREADY : 0;
}

RONDO_PUBLIC rondo_strand *rondo_process_strand(rondo_process *process)
{
    return process ? (rondo_strand *)&process->handle.strand : NULL;
}
