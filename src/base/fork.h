/* Which process this is, without a system call: a number that changes in the child of a fork.
 * Any thread. A loop remembers the number it was created under; another one means -ECHILD.
 */
#ifndef RONDO_BASE_FORK_H
#define RONDO_BASE_FORK_H

#include "atomics.h"

extern _Atomic uint32_t fork_generation;

/* Arms the counter; called when a loop is created. */
void fork_watch(void);

#endif
