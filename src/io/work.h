/* An operation whose work blocks: it runs on the blocking pool and ends on a lane.
 *
 *   lane: pushed --> thread: run --> lane: ended --> worker: done, disposed
 *            \--cancel: taken back          \--cancel of one that can be lost: ended at once, the
 *                       and ended               thread disposes of what comes late
 */
#ifndef RONDO_IO_WORK_H
#define RONDO_IO_WORK_H

#include "operation.h"

struct work {
    struct blocking_job job; /* its class is set by the maker */
    struct operation *operation;
    struct rondo_result result; /* what run() found */
    _Atomic bool cancelled;     /* a hint for run() */
    bool can_be_lost;           /* nothing of the caller's is used by run() */
    void (*run)(struct work *work);
    /* Free it; @lost: and what its result holds, which nobody gets. */
    void (*dispose)(struct work *work, bool lost);
};

/* Any thread: begin. Takes @work over if it returns 0, or an error of operation_create(). */
int work_submit(struct hub *hub, struct work *work, const struct rondo_request *request);

#endif
