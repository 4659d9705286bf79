/* What a fork must not break. Any thread.
 *
 * fork_generation is a number that changes in the child: which process this is, without a system
 * call. A loop remembers the number it was created under; another one means -ECHILD.
 *
 * A lock that outlives loops is registered, so that fork() happens while nobody holds it and the
 * child can go on using what it protects.
 */
#ifndef RONDO_BASE_FORK_H
#define RONDO_BASE_FORK_H

#include "atomics.h"
#include "lock.h"

extern _Atomic uint32_t fork_generation;

/* Arms the counter; called when a loop is created. */
void fork_watch(void);

/* Holds @lock across every fork from now on; for locks of static storage, once each. */
void fork_hold(struct lock *lock);

#endif
