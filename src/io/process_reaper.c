/* Children that nobody waits for any more: a thread each, which ends with the child. It belongs to
 * no loop, because the child may outlive all of them.
 *
 * process_leave(): any thread. reap_main(): that thread.
 */
#include "process.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void reap(int pidfd)
{
    int64_t result;

    do
        result = sys_call(SYS_waitid, P_PIDFD, pidfd, 0, WEXITED);
    while (result == -EINTR);
    (void)sys.close(pidfd);
}

static void *reap_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "rondo-reaper");
    reap((int)(intptr_t)arg);
    return NULL;
}

void process_leave(int pidfd)
{
    pthread_t thread;

    if (sys.thread_create(&thread, reap_main, (void *)(intptr_t)pidfd) == 0) {
        (void)pthread_detach(thread);
        return;
    }
    /* Nobody can wait until it ends by itself, and a zombie would stay for ever. */
    (void)sys_call(SYS_pidfd_send_signal, pidfd, SIGKILL);
    reap(pidfd);
}
