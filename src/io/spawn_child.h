/* What the child of a spawn does between its birth and its program, and what it is told.
 *
 * The parent makes the plan beforehand, because the child may neither allocate nor take a lock: the
 * process has many threads, and their locks may be held. It uses sys_call() and its stack only.
 */
#ifndef RONDO_IO_SPAWN_CHILD_H
#define RONDO_IO_SPAWN_CHILD_H

#include "spawn.h"

#include <stddef.h>

enum spawn_step { SPAWN_GROUP, SPAWN_CHDIR, SPAWN_FDS, SPAWN_MARK, SPAWN_USER, SPAWN_EXEC };

/* What went wrong; an error of 0 is nothing. */
struct spawn_failure {
    int32_t error;
    int32_t step; /* enum spawn_step */
};

/* Descriptors from first to last, which the program must not get. */
struct spawn_gap {
    uint32_t first;
    uint32_t last;
};

struct spawn_plan {
    const struct spawn_options *options;
    const char *const *paths; /* to try in this order, then NULL */
    char *const *envp;
    int *copies; /* room for one number for each of options->fds */
    const struct spawn_gap *gaps;
    uint32_t gap_count;
    int first_free; /* above each child_fd */
    int report_fd;  /* closes when the program is executed; a struct spawn_failure before that */
    /* The child's words to a parent that waits for it, if it borrows the parent's memory. */
    bool is_borrowed;
    struct spawn_failure failure;
};

/* The child, with all signals blocked. @arg is a struct spawn_plan. Does not return. */
void spawn_child(void *arg);

/* A number of 64 bits is what the kernel calls a set of signals. */
enum { SPAWN_SIGNALS = 64, SPAWN_SIGNALS_SIZE = 8 };

#endif
