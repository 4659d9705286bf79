/* Signals as events: any number of watchers of a signal, each of which gets every delivery. */
#ifndef RONDO_SIGNAL_H
#define RONDO_SIGNAL_H

#include "loop.h"
#include "op.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_signal rondo_signal;

/* One delivery, as in siginfo_t. Members that the sender's code does not fill are 0. */
struct rondo_signal_info {
    int number;
    int code;      /* SI_USER, SI_QUEUE, SI_TIMER, CLD_EXITED, ... */
    int32_t pid;   /* of the sender, or of the child */
    uint32_t uid;  /* of the sender */
    int status;    /* of the child, for SIGCHLD */
    int value;     /* of sigqueue(3), as a number */
    void *pointer; /* of sigqueue(3), as a pointer */
};

/* What a watcher tells its user. received must not be NULL. */
struct rondo_signal_handlers {
    size_t size;
    /* The signal came. @info is valid until the callback returns. */
    void (*received)(rondo_signal *signal, const struct rondo_signal_info *info, void *ctx);
    /* The last callback. @error: 0 (asked for, or the loop drained), -ECANCELED (it
     * stopped), or why signals cannot be read any more. May be NULL. */
    void (*closed)(rondo_signal *signal, int error, void *ctx);
};

/* Watch the signal @number (1 to 64; not SIGKILL, SIGSTOP, nor 32 and 33, which the C library keeps
 * for itself). Any thread; does not suspend. @handlers and @ctx must stay valid until the closed
 * callback; *ret_signal is valid until it returns. The loop's drain closes it.
 *
 * A signal reaches watchers only while every thread of the process blocks it: this call blocks it
 * in the calling thread for good, rondo's own threads block all, and threads that you start later
 * inherit it. So watch before you start threads, or block it there yourself. It must be sent to the
 * process, as kill(2), sigqueue(3) and terminals do; raise(3) and pthread_kill(3) reach one thread.
 *
 * Real-time signals are queued by the kernel and none is lost; of other signals one is kept that
 * came again before it was read. Deliveries come in the kernel's order. A watcher for which 256
 * wait holds up all the signals of the loop, which wait in the kernel. A signal that is watched by
 * two loops goes to one of them.
 * Returns 0, -EINVAL, -ENOMEM, -EMFILE, -ENFILE, -ESHUTDOWN (the loop is stopping), -ECHILD.
 * Since 0.1. */
int rondo_signal_create(rondo_loop *loop, int number, const struct rondo_signal_handlers *handlers,
                        void *ctx, rondo_signal **ret_signal);

/* Stop watching; the closed callback follows, and what has not been received by then is not. Any
 * thread; does not suspend. The signal stays blocked. Returns 0, -EINVAL, -EALREADY (closing
 * already). Since 0.1. */
int rondo_signal_close(rondo_signal *signal);

/* The strand its callbacks run on. Any thread; does not suspend. Valid as long as the watcher.
 * Since 0.1. */
rondo_strand *rondo_signal_strand(rondo_signal *signal);

/* Wait once for one of the @count signals in @numbers, with the rules of rondo_signal_create(). Any
 * thread; does not suspend. The result's value is its number; *ret_info, which may be NULL and must
 * stay valid until the end, tells the rest. A signal that came before this call is received if it
 * was blocked and nobody watched it, so that calls one after the other miss nothing. One that a
 * cancel was too late for is received, not lost.
 * Returns 0, -EINVAL (also: no numbers, or one that cannot be watched), -ENOMEM, -EMFILE, -ENFILE,
 * -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_signal_wait(rondo_loop *loop, const int *numbers, uint32_t count,
                      struct rondo_signal_info *ret_info, const struct rondo_request *request);

#ifdef __cplusplus
}
#endif

#endif
