/* Child processes: start one, talk to it through pipes, learn how it ended. */
#ifndef RONDO_PROCESS_H
#define RONDO_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "loop.h"
#include "op.h"
#include "strand.h"
#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_process rondo_process;

/* Where one of the child's descriptors 0, 1 and 2 leads. */
enum rondo_stdio_kind {
    RONDO_STDIO_INHERIT = 0, /* where this process's does */
    RONDO_STDIO_NULL = 1,    /* /dev/null */
    RONDO_STDIO_PIPE = 2,    /* a pipe, whose other end rondo_process_take_pipe() gives */
    RONDO_STDIO_FD = 3,      /* a descriptor of this process, which stays open here */
};

struct rondo_stdio {
    enum rondo_stdio_kind kind;
    int fd; /* for RONDO_STDIO_FD */
};

/* Descriptor @parent_fd of this process becomes @child_fd of the child. */
struct rondo_process_fd {
    int child_fd;
    int parent_fd;
};

/* Start from RONDO_PROCESS_OPTIONS_INIT. Nothing is kept after the call. The struct may grow at its
 * end. */
struct rondo_process_options {
    size_t size;
    /* The file to execute; without a slash it is looked for in the PATH the child will have, unless
     * search_path is false; relative to the child's directory. */
    const char *program;
    bool search_path;
    char *const *argv;                  /* at least argv[0], then NULL */
    char *const *envp;                  /* NULL: this process's */
    const char *cwd;                    /* NULL: this process's */
    struct rondo_stdio stdio[3];        /* input, output, errors */
    const struct rondo_process_fd *fds; /* more descriptors, 4096 at most; others are closed */
    uint32_t fd_count;
    bool new_session; /* of which it is the leader, without a terminal */
    bool new_group;   /* a process group of its own */
    const uid_t *uid; /* NULL: as this process */
    const gid_t *gid;
    /* A close and the end of the loop kill it, by SIGKILL, and wait until it is gone. */
    bool kill_on_close;
};

#define RONDO_PROCESS_OPTIONS_INIT                                                                \
    {                                                                                             \
        sizeof(struct rondo_process_options), NULL, true, NULL, NULL, NULL,                       \
            {{RONDO_STDIO_INHERIT, 0}, {RONDO_STDIO_INHERIT, 0}, {RONDO_STDIO_INHERIT, 0}}, NULL, \
            0, false, false, NULL, NULL, false                                                    \
    }

/* How a process ended. */
struct rondo_exit_status {
    int code;   /* 0 to 255; -1: a signal ended it, or somebody else took its status */
    int signal; /* that ended it, or 0 */
    bool core_dumped;
};

/* What a process tells its user. Members may be NULL. */
struct rondo_process_handlers {
    size_t size;
    /* The process has ended and is collected. Its pipes may still hold what it wrote. */
    void (*exited)(rondo_process *process, const struct rondo_exit_status *status, void *ctx);
    /* The last callback. @error: 0 (asked for, or the drain found it ended), -ECANCELED (the loop
     * stopped), or why nobody could wait for it. */
    void (*closed)(rondo_process *process, int error, void *ctx);
};

/* Start a program. Any thread; does not suspend, and blocks until the program runs or cannot, about
 * 0.1 ms. The child begins with no signal blocked or ignored. @handlers and @ctx must stay valid
 * until the closed callback; *ret_process is valid until it returns.
 *
 * The process stays open after its exit until you close it. Closed before its exit it goes on by
 * itself, unless kill_on_close says otherwise, and is collected all the same: for that it takes a
 * thread until it ends. No child is ever left as a zombie. A drain waits for children until its
 * deadline; a stop closes them.
 *
 * Nobody else may take its status (wait(2) for any child, SIGCHLD ignored) or it is lost.
 * Returns 0, or with a rondo_error_text(): -EINVAL, -ENOENT, -EACCES, -ENOEXEC, -ENOTDIR, -E2BIG
 * (the program cannot be executed, or cwd entered), -EBADF (a descriptor is not open), -EPERM (uid,
 * gid), -EMFILE, -ENFILE, -EAGAIN, -ENOMEM, -ESHUTDOWN (the loop is stopping), -ECHILD (in the
 * child of a fork; or something takes the status of all children). Since 0.1. */
int rondo_process_spawn(rondo_loop *loop, const struct rondo_process_options *options,
                        const struct rondo_process_handlers *handlers, void *ctx,
                        rondo_process **ret_process);

/* This process's end of the pipe to descriptor @number (0, 1 or 2) of the child: to write to for 0,
 * to read from for 1 and 2. It is yours from here on; one that is never taken is closed with the
 * process. Any thread; does not suspend.
 * Returns the descriptor, -EINVAL (NULL, or another number), -ENOENT (there is no pipe, or it was
 * taken). Since 0.1. */
int rondo_process_take_pipe(rondo_process *process, int number);

/* The same as a stream, see rondo_stream_open(): start it to read, write to it, close it to end the
 * child's input. Any thread; does not suspend. On an error the pipe can still be taken.
 * Returns 0, -EINVAL, -ENOENT (there is no pipe, or it was taken), and what rondo_stream_open()
 * returns. Since 0.1. */
int rondo_process_take_stream(rondo_process *process, int number, rondo_stream **ret_stream);

/* The kernel's number of the process. It may be another's once it has exited; signal it by
 * rondo_process_kill(). Any thread; does not suspend. -EINVAL for NULL. Since 0.1. */
pid_t rondo_process_id(const rondo_process *process);

/* Send @signal to it; 0 only asks whether it is there. Never reaches another process. Any thread;
 * does not suspend. Returns 0, -EINVAL, -ESRCH (it has exited), -EPERM, -ECHILD. Since 0.1. */
int rondo_process_kill(rondo_process *process, int signal);

/* Wait until it has ended. Any thread; does not suspend. The result's value is its exit code, or
 * 128 + the signal that ended it, or -ECHILD when somebody else took its status. *ret_status, which
 * may be NULL and must stay valid until the end, tells it apart. Ends at once if it has exited, and
 * with -ECANCELED when the process is closed.
 * Returns 0, -EINVAL, -EBADF (closed or closing), -ENOMEM, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_process_wait(rondo_process *process, struct rondo_exit_status *ret_status,
                       const struct rondo_request *request);

/* Close it, see rondo_process_spawn(); the closed callback follows, the exited one does not any
 * more. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EALREADY (closing already). Since 0.1. */
int rondo_process_close(rondo_process *process);

/* The strand its callbacks run on. Any thread; does not suspend. Valid as long as the process.
 * Since 0.1. */
rondo_strand *rondo_process_strand(rondo_process *process);

#ifdef __cplusplus
}
#endif

#endif
