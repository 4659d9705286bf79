/* The loop: its threads, and the order in which they start and end.
 *
 *   CREATED --start--> RUNNING --drain--> DRAINING --quiet, or deadline--> STOPPING --> STOPPED
 *                         \-------------------stop---------------------------^
 *
 * Start: scheduler, workers, lanes. End, by whoever waits for it (the controller): every handle
 * closes, every operation ends and the lanes are quiet; the gate closes, nothing new comes in; the
 * scheduler ends, the workers run what is ready and end, the lanes and the blocking pool end.
 * Model: tests/model/stop.pml.
 *
 * Invariants: (1) state only moves forward; (2) lanes are ended after the workers, which may still
 * give them buffers and requests.
 */
#ifndef RONDO_LOOP_LOOP_H
#define RONDO_LOOP_LOOP_H

#include "rondo/loop.h"

#include "gate.h"
#include "hub.h"
#include "latch.h"
#include "lock.h"

enum loop_state { LOOP_CREATED, LOOP_RUNNING, LOOP_DRAINING, LOOP_STOPPING, LOOP_STOPPED };

enum { LOOP_NAME_SIZE = 32 };

struct rondo_loop {
    struct hub hub; /* first: the io layer finds it there */
    struct gate gate;
    struct pool pool;
    struct scheduler scheduler;
    struct life life;
    struct lane *lanes;
    uint32_t lanes_ready; /* initialised */

    struct rondo_loop_options options;
    char name[LOOP_NAME_SIZE];

    struct lock control_lock; /* start, drain and stop, one at a time */
    _Atomic uint32_t state;   /* enum loop_state */
    uint64_t drain_deadline_ns;
    rondo_handle drain_timer;
    _Atomic bool timed_out;
    struct latch quiet; /* no handle is alive */
    struct latch ended; /* the threads have ended */
    bool ending;        /* a controller does it already; under the lock */
    int start_error;
};

/* 0, -EINVAL for NULL, or -ECHILD in the child of a fork. */
int loop_check(const struct rondo_loop *loop);

/* The calling thread is a worker of this loop. */
bool loop_is_own_worker(const struct rondo_loop *loop);

/* 0 and inside the loop until loop_leave(), or why no callback may come in. */
int loop_enter(struct rondo_loop *loop);
void loop_leave(struct rondo_loop *loop);

#endif
