/* What a worker runs: a callback, a strand's turn, or one event inside a strand.
 *
 * @run is called on one worker, once for each time the runnable was pushed; it may free it.
 */
#ifndef RONDO_SCHED_RUNNABLE_H
#define RONDO_SCHED_RUNNABLE_H

#include "check.h"
#include "node.h"

struct runnable {
    struct node node;
    void (*run)(struct runnable *runnable);
};

static inline struct runnable *runnable_of(struct node *node)
{
    return container_of(node, struct runnable, node);
}

#endif
