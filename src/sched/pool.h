/* The worker pool: the ready queue, the workers that consume it, and their growth.
 *
 * `workers` workers are always there. When ready work waits and some of them are stuck, because
 * callbacks compute or block, the scheduler's watch adds workers up to `max_workers`, so that
 * `workers` of them go on; surplus ones end after idling. A worker that merely waits for a
 * processor is not stuck: another one would wait as well. The watch ticks only while work
 * waits with no worker free to take it; an idle pool costs nothing.
 *
 * Pushing: any thread. Watch ticks: the scheduler thread. Start and stop: the loop's controller.
 */
#ifndef RONDO_SCHED_POOL_H
#define RONDO_SCHED_POOL_H

#include "bell.h"
#include "overload.h"
#include "parker.h"
#include "ready_queue.h"
#include "runnable.h"
#include "worker.h"

enum { POOL_WORKERS_MAX = 4096, POOL_BELLS_MAX = 65 };

struct pool_options {
    uint32_t workers;
    uint32_t max_workers;
    uint64_t spin_ns;
    uint64_t retire_after_ns;
    uint64_t watch_period_ns;
    void *loop;                     /* what rondo_current_loop() answers on these workers */
    void (*watch_start)(void *ctx); /* work waits and nobody is free: begin to tick */
    void *watch_ctx;
    struct overload_options overload;
};

/* What the watch remembers of a worker from one tick to the next. Scheduler thread only. */
struct watch_sample {
    uint64_t runs;
    uint64_t parks;
    uint64_t cpu_ns;
    uint32_t local_head;
    bool local_waiting;
};

struct pool {
    struct ready_queue ready;
    struct parker parker;
    CACHE_ALIGNED _Atomic bool watching;
    struct pool_options options;

    /* Slots are filled in order and reused; a slot's worker is never freed before the pool. */
    _Atomic(struct worker *) *slots;
    _Atomic uint32_t slot_count;
    _Atomic uint32_t alive_count;

    struct bell *bells[POOL_BELLS_MAX]; /* the lanes' doorbells, which a worker may owe */
    uint32_t bell_count;

    struct overload overload;

    /* Scheduler thread only. */
    struct watch_sample *samples;
    uint64_t sample_pushed;
    uint32_t quiet_ticks;

    _Atomic uint64_t grown_count;
    _Atomic uint64_t retired_count;
    _Atomic uint64_t wake_count;
};

/* 0 or -ENOMEM. */
int pool_init(struct pool *pool, const struct pool_options *options);
void pool_fini(struct pool *pool);

/* Start the regular workers: 0, or the error of the first that could not be started. */
int pool_start(struct pool *pool);

/* Let workers end when nothing is ready any more, and join them. Nothing is pushed from outside
 * from here on. */
void pool_stop(struct pool *pool);

/* Any thread: make the runnables of @chain ready, as one batch with one wake-up. */
void pool_push(struct pool *pool, struct chain *chain);

/* Any thread: make one runnable ready; on a worker of this pool it goes to its own queue. */
void pool_post(struct pool *pool, struct runnable *runnable);

/* Any other thread: the same, unless the ready queue is closed; false then. */
bool pool_post_outside(struct pool *pool, struct runnable *runnable);

/* A worker: make it ready behind everything else. */
void pool_yield(struct pool *pool, struct runnable *runnable);

/* Any thread: see that up to @count workers come for ready work; how many were woken for it. */
uint32_t pool_wake(struct pool *pool, uint32_t count);

/* Any thread: from now on until nothing waits any more, the watch looks after ready work. */
void pool_watch(struct pool *pool);

/* Any thread: wake the owner of @bell; a worker with more to run may do it a moment later. */
void pool_ring(struct pool *pool, struct bell *bell);

/* Scheduler thread, every grow_after_ns while watching. False: nothing waits, ticking may end. */
bool pool_watch_tick(struct pool *pool);

/* Ready work that no worker runs yet. A hint. */
uint64_t pool_ready_depth(struct pool *pool);

/* Workers of this pool by slot, NULL where the index is not used. Any thread. */
struct worker *pool_worker(struct pool *pool, uint32_t slot);

#endif
