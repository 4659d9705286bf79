/* The blocking pool: threads for work that blocks for long, apart from the workers.
 *
 * A thread is started when a job waits and none is idle, up to a limit, and ends after idling. Jobs
 * are of two classes with a queue each, and name look-ups may take no more than half of the
 * threads: a resolver that hangs delays other look-ups only.
 *
 * Any thread may push and remove. Invariants: (1) a job is in one queue, or on one thread, or
 * finished; (2) everything but a job's own run is under the lock.
 */
#ifndef RONDO_SCHED_BLOCKING_H
#define RONDO_SCHED_BLOCKING_H

#include <stdbool.h>
#include <stdint.h>

enum blocking_class { BLOCKING_OTHER, BLOCKING_LOOKUP, _BLOCKING_CLASS_COUNT };

struct blocking;
struct blocking_thread;

struct blocking_job {
    enum blocking_class class;
    /* On a thread of the pool, once: the work. */
    void (*run)(struct blocking_job *job);
    /* After it, on the same thread. @lost: nobody waits for the end. It may free the job. */
    void (*finished)(struct blocking_job *job, bool lost);

    /* The pool's, under its lock. */
    struct blocking_job *next;
    struct blocking_job *previous;
    struct blocking_thread *thread; /* that runs it */
};

/* NULL: no memory. */
struct blocking *blocking_create(uint32_t threads_max, uint64_t retire_after_ns);

/* Controller: end the threads and free the pool. Only lost jobs may still run; their threads end by
 * themselves. */
void blocking_free(struct blocking *blocking);

/* In the child of a fork: there are no threads. */
void blocking_forget(struct blocking *blocking);

/* 0, or -EAGAIN: there is no thread, and none could be started. */
int blocking_push(struct blocking *blocking, struct blocking_job *job);

/* True: the job had not started, and now never will. */
bool blocking_remove(struct blocking *blocking, struct blocking_job *job);

/* Nobody waits for the end of a job that runs. False: it has just ended. */
bool blocking_lose(struct blocking *blocking, struct blocking_job *job);

/* Threads alive now. */
uint32_t blocking_thread_count(struct blocking *blocking);

#endif
