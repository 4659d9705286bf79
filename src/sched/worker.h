/* One worker thread: takes ready work, its own first, runs it, sleeps when there is none.
 *
 * Invariants: (1) only the worker itself pushes on its local queue; (2) counters have one writer,
 * the worker.
 */
#ifndef RONDO_SCHED_WORKER_H
#define RONDO_SCHED_WORKER_H

#include "local_queue.h"
#include "parker.h"

#include <pthread.h>

struct pool;
struct runnable;

enum worker_life { WORKER_ABSENT, WORKER_ALIVE, WORKER_ENDED };

struct worker {
    struct local_queue local;
    CACHE_ALIGNED _Atomic uint64_t runs; /* callbacks and strand events run */
    _Atomic uint64_t parks;              /* times it went to sleep */
    _Atomic uint64_t share;              /* the last one it took, see overload_share() */
    struct pool *pool;
    uint32_t slot;
    enum parker_rank rank;
    uint32_t turn;          /* counts picks, for a regular look at the shared queue */
    uint32_t share_left;    /* picks until what it took from the shared queue is run */
    bool spilling;          /* its own queue was full; see worker_push_local() */
    uint32_t owed_runs;     /* runs since a bell is owed */
    uint32_t linger_credit; /* how often it was right to linger, lately */
    uint32_t linger_skip;   /* parks to go without lingering */
    bool searching;         /* it is the one worker that searches, see parker.h */
    bool owes;
    pthread_t thread;
    _Atomic int32_t thread_id; /* the kernel's number, 0 before it runs */
    _Atomic uint32_t life;     /* enum worker_life */
};

/* The worker that this thread is, or NULL. */
struct worker *worker_self(void);

/* Progress, for the watch: the calling worker has finished one callback or event. */
void worker_count_run(void);

/* Start the thread of a worker whose slot is absent or ended: 0 or -EAGAIN. */
int worker_start(struct worker *worker);

/* Controller, when no worker is left or could be started: run what is ready on this thread. */
void worker_run_rest(struct pool *pool);

/* Owner only: put it in the local queue, or when that is full in the shared one. */
void worker_push_local(struct worker *worker, struct runnable *runnable);

/* Owner only: remember to pay the pool's bells at the end of this batch. */
void worker_owe(struct worker *worker);

#endif
