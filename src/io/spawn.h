/* Starting a child process: the synchronous core, which the handle of a process is built on.
 *
 * Any thread, several at a time; blocks until the program runs or cannot, well under a millisecond
 * where it is in memory. The child begins with no signal blocked or ignored and none of this
 * process's descriptors but 0, 1, 2 and those that are asked for.
 *
 * The child is made with vfork, by which it borrows this process's memory: 0.1 ms whatever the
 * memory, where a fork of a process of 64 MB took 1.2 ms and of 1 GB 18 ms, during which all its
 * threads that touch memory stand still. posix_spawn is as fast, but changes no user and does not
 * say which step failed. A change of user takes a copy of the memory after all (_Fork): in borrowed
 * memory it would make this process undumpable. Neither runs the handlers of pthread_atfork(),
 * which would take locks for a child that only executes.
 */
#ifndef RONDO_IO_SPAWN_H
#define RONDO_IO_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Descriptor @parent_fd of this process becomes @child_fd of the child. */
struct spawn_fd {
    int child_fd;
    int parent_fd;
};

struct spawn_options {
    /* The file to execute; relative to the child's directory. */
    const char *program;
    /* Look for a program without a slash in the PATH that the child will have. */
    bool search_path;
    char *const *argv; /* at least argv[0], then NULL */
    char *const *envp; /* NULL: this process's */
    const char *cwd;   /* NULL: this process's */
    /* In any order and permutation; each child_fd once. Of 0, 1 and 2 those that are not named
     * are inherited. */
    const struct spawn_fd *fds;
    uint32_t fd_count;
    bool new_session; /* of which it is the leader, without a terminal */
    bool new_group;   /* a process group of its own; a session has one anyway */
    /* NULL: those of this process. With a user or a group go the supplementary groups. */
    const uid_t *uid;
    const gid_t *gid;
};

/* Start the program. The child's status must be taken by its number or the pidfd; *ret_pidfd is
 * yours. When it fails there is no child, nor a zombie.
 * Returns 0, or with a text: -EINVAL (no program, no arguments, a wrong descriptor), -EMFILE,
 * -ENFILE, -EAGAIN, -ENOMEM, -EBADF (a parent_fd is not open), -EPERM (uid, gid), -ECHILD
 * (something in this process takes the status of all children: no pidfd could be had), what chdir
 * gives (-ENOENT, -ENOTDIR, -EACCES) and what execve gives (-ENOENT, -EACCES, -ENOEXEC, -E2BIG). */
int spawn_start(const struct spawn_options *options, pid_t *ret_pid, int *ret_pidfd);

#endif
