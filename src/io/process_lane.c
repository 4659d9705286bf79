/* The lane's side of a child process: waiting for it, and its end; see process.h.
 *
 * process_exit_run, process_closed, process_destroy, waiter_release: a worker. The rest: the lane's
 * thread.
 */
#include "process.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void wait_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind wait_op = {"waitid", wait_complete};
static const struct op_kind poll_op = {"pidfd-poll", poll_complete};

/* ---- in the strand ---- */

void process_exit_run(struct runnable *runnable)
{
    struct rondo_process *process = container_of(runnable, struct rondo_process, exit_event);

    if (process->handlers->exited && !handle_has_flag(&process->handle, PROCESS_DROPPED))
        process->handlers->exited(process, &process->status, process->ctx);
}

static void process_closed(struct handle *handle)
{
    struct rondo_process *process = process_of(handle);

    if (process->handlers->closed)
        process->handlers->closed(process, handle->error, process->ctx);
}

static void process_destroy(struct handle *handle)
{
    struct rondo_process *process = process_of(handle);

    for (int i = 0; i < PROCESS_PIPES; i++) {
        /* Pairs with rondo_process_take_pipe(): whoever closes what it took may end the child. */
        int fd = exchange_acq_rel(&process->pipes[i], -1);
        if (fd >= 0)
            (void)sys.close(fd);
    }
    if (process->exited)
        (void)sys.close(process->pidfd);
    else
        process_leave(process->pidfd);
    sys.release(process);
}

/* ---- operations that wait ---- */

static int64_t value_of(const struct rondo_exit_status *status)
{
    if (status->signal)
        return 128 + status->signal;
    return status->code >= 0 ? status->code : -ECHILD;
}

static void waiter_end(struct lane *lane, struct process_waiter *waiter, int64_t value)
{
    if (waiter->listed) {
        struct process_waiter **first = &waiter->process->waiters;
        *(waiter->previous ? &waiter->previous->next : first) = waiter->next;
        if (waiter->next)
            waiter->next->previous = waiter->previous;
        waiter->listed = false;
    }
    operation_end(lane, &waiter->base, value);
}

static void waiter_exited(struct lane *lane, struct process_waiter *waiter)
{
    const struct rondo_exit_status *status = &waiter->process->status;

    if (waiter->status)
        *waiter->status = *status;
    waiter_end(lane, waiter, value_of(status));
}

static void waiter_start(struct lane *lane, struct operation *operation)
{
    struct process_waiter *waiter = (struct process_waiter *)operation;
    struct rondo_process *process = waiter->process;

    if (process->exited) {
        waiter_exited(lane, waiter);
    } else if (handle_has_flag(&process->handle, HANDLE_CLOSE)) {
        waiter_end(lane, waiter, -ECANCELED);
    } else {
        waiter->next = process->waiters;
        if (waiter->next)
            waiter->next->previous = waiter;
        process->waiters = waiter;
        waiter->listed = true;
    }
}

static void waiter_cancel(struct lane *lane, struct operation *operation)
{
    waiter_end(lane, (struct process_waiter *)operation, -ECANCELED);
}

static void waiter_release(struct operation *operation)
{
    strand_unref(&((struct process_waiter *)operation)->process->handle.strand);
}

const struct operation_kind process_wait_kind = {
    .name = "process-wait",
    .start = waiter_start,
    .cancel = waiter_cancel,
    .release = waiter_release,
};

/* ---- waiting for the child ---- */

static struct rondo_exit_status status_of(const siginfo_t *info)
{
    struct rondo_exit_status status = {.code = -1};

    if (info->si_code == CLD_EXITED)
        status.code = info->si_status;
    else if (info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED)
        status.signal = info->si_status;
    status.core_dumped = info->si_code == CLD_DUMPED;
    return status;
}

/* Its status is in @info, or in nobody's hands if somebody else took it. */
static void exited(struct lane *lane, struct rondo_process *process)
{
    struct process_waiter *next;

    process->exited = true;
    process->status = status_of(&process->info);
    for (struct process_waiter *waiter = process->waiters; waiter; waiter = next) {
        next = waiter->next;
        waiter_exited(lane, waiter);
    }
    if (handle_has_flag(&process->handle, HANDLE_CLOSE))
        return;
    handle_post(lane, &process->handle, &process->exit_event);
    if (lane->draining)
        (void)or_acq_rel(&process->handle.flags, HANDLE_CLOSE); /* Pairs with other closers. */
}

static void wait_ended(struct lane *lane, struct rondo_process *process, int64_t error)
{
    if (!error || error == -ECHILD) {
        exited(lane, process);
    } else if (error != -ECANCELED && error != -EINTR && error != -EAGAIN) {
        process->wait_failed = true;
        handle_fail(&process->handle, (int)error);
    }
    handle_advance(lane, &process->handle);
}

static void wait_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_process *process = owner;

    (void)flags;
    process->waiting = false;
    wait_ended(lane, process, result);
}

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct rondo_process *process = owner;
    int64_t error = result;

    (void)flags;
    process->waiting = false;
    if (result > 0) {
        error =
            sys_call(SYS_waitid, P_PIDFD, process->pidfd, (long)&process->info, WEXITED | WNOHANG);
        if (!error && process->info.si_pid == 0)
            error = -EAGAIN;
    }
    wait_ended(lane, process, error);
}

/* False: no memory to follow one more operation. */
static bool wait_arm(struct lane *lane, struct rondo_process *process)
{
    const struct op_kind *op = process->waits_in_ring ? &wait_op : &poll_op;
    struct io_uring_sqe *sqe = lane_submit(lane, op, process, &process->user_data);

    if (!sqe)
        return false;
    process->waiting = true;
    process->cancelled = false;
    if (process->waits_in_ring) {
        /* What liburing 2.5 calls io_uring_prep_waitid(). */
        io_uring_prep_rw(RING_OP_WAITID, sqe, process->pidfd, NULL, P_PIDFD, 0);
        sqe->file_index = WEXITED;
        sqe->addr2 = (uint64_t)(uintptr_t)&process->info;
    } else {
        io_uring_prep_poll_add(sqe, process->pidfd, POLLIN);
    }
    return true;
}

static void process_advance(struct lane *lane, struct handle *handle)
{
    struct rondo_process *process = process_of(handle);

    if (process->exited || process->waiting || wait_arm(lane, process))
        return;
    process->wait_failed = true;
    handle_fail(handle, -ENOMEM);
}

/* Those of an aborted lane are told to end by the lane. */
static void end_waiters(struct lane *lane, struct rondo_process *process)
{
    struct process_waiter *next;

    if (lane->aborting)
        return;
    for (struct process_waiter *waiter = process->waiters; waiter; waiter = next) {
        next = waiter->next;
        waiter_end(lane, waiter, -ECANCELED);
    }
}

/* True: it was killed and is gone, or there is no way to see it go. */
static bool kill_and_wait(struct lane *lane, struct rondo_process *process)
{
    if (!process->killed) {
        process->killed = true;
        (void)sys_call(SYS_pidfd_send_signal, process->pidfd, SIGKILL);
    }
    return !process->waiting && (process->wait_failed || !wait_arm(lane, process));
}

static bool process_quiesce(struct lane *lane, struct handle *handle)
{
    struct rondo_process *process = process_of(handle);

    end_waiters(lane, process);
    if (process->exited)
        return true;
    if (process->kill_on_close)
        return kill_and_wait(lane, process);
    if (process->waiting && !process->cancelled) {
        process->cancelled = true;
        lane_cancel(lane, process->user_data);
    }
    return !process->waiting;
}

/* Children are waited for. */
static void process_drain(struct lane *lane, struct handle *handle)
{
    (void)lane;
    if (process_of(handle)->exited)
        (void)or_acq_rel(&handle->flags, HANDLE_CLOSE); /* Pairs with other closers. */
}

const struct handle_kind process_kind = {
    .name = "process",
    .advance = process_advance,
    .quiesce = process_quiesce,
    .drain = process_drain,
    .closed = process_closed,
    .destroy = process_destroy,
};
