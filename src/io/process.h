/* A child process, seen from inside: a pidfd that is waited for on a lane.
 *
 *   RUNS --the kernel's wait or poll ends, status taken--> EXITED: waiting operations end, the
 *    |                                                      exited event is posted
 *    +--closed: the wait is cancelled--> left to a reaper thread, which takes the status
 *    +--closed, kill_on_close: SIGKILL, then as EXITED
 *
 * Invariants: (1) the status is taken once: by the lane, or after the handle's end by the reaper;
 * (2) the pidfd is open until nobody has a reference, so a signal never reaches another process.
 */
#ifndef RONDO_IO_PROCESS_H
#define RONDO_IO_PROCESS_H

#include "rondo/process.h"

#include "handle.h"
#include "operation.h"

#include <signal.h>

enum {
    PROCESS_DROPPED = HANDLE_OWN, /* the user closed it */
    PROCESS_PIPES = 3,
};

/* A rondo_process_wait(). Listed on the lane until the exit, its cancel or the close. */
struct process_waiter {
    struct operation base;
    struct process_waiter *next;
    struct process_waiter *previous;
    struct rondo_process *process; /* with a reference */
    struct rondo_exit_status *status;
    bool listed;
};

RONDO_STATIC_ASSERT(sizeof(struct process_waiter) <= OPERATION_SIZE);

struct rondo_process {
    struct handle handle;
    struct hub *hub;
    int pidfd;
    pid_t id;
    bool kill_on_close;
    bool waits_in_ring; /* by an operation of its own, else by polling the pidfd */
    const struct rondo_process_handlers *handlers;
    void *ctx;
    _Atomic int pipes[PROCESS_PIPES]; /* our ends; -1: none, or taken */

    /* Lane thread only. */
    uint64_t user_data;
    bool waiting; /* in the kernel */
    bool cancelled;
    bool killed;
    bool wait_failed;
    bool exited;
    siginfo_t info; /* the kernel's while waiting */
    struct process_waiter *waiters;

    struct runnable exit_event;
    struct rondo_exit_status status;
};

static inline struct rondo_process *process_of(struct handle *handle)
{
    return container_of(handle, struct rondo_process, handle);
}

extern const struct handle_kind process_kind;
extern const struct operation_kind process_wait_kind;

/* In the strand. */
void process_exit_run(struct runnable *runnable);

/* Any thread: have somebody take the status of the child when it ends, and close @pidfd. */
void process_leave(int pidfd);

#endif
