/* The loop: create it, run it, post callbacks to it, stop or drain it. */
#ifndef RONDO_LOOP_H
#define RONDO_LOOP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_loop rondo_loop;

/* User code, run on a worker of the loop. */
typedef void rondo_callback_fn(void *ctx);

/* Names one scheduled callback or one operation. A plain value: copy it, compare it, keep it as
 * long as you like; a handle whose callback or operation is over is answered RONDO_CANCEL_FINISHED,
 * for ever. Zero names nothing. */
typedef struct rondo_handle {
    uint64_t id;
} rondo_handle;

/* What a cancel found. Exactly one of the three, and it is final. */
enum rondo_cancel_outcome {
    /* It had not started, and now never will. A callback is not called; an operation's done is,
     * with -ECANCELED (-ETIMEDOUT if its deadline came first) and no bytes. */
    RONDO_CANCEL_NOT_STARTED = 0,
    /* It was under way. A callback runs right now and will finish. An operation was asked to end:
     * its done tells whether it was cancelled, and after how many bytes, or finished after all. */
    RONDO_CANCEL_IN_FLIGHT = 1,
    /* It ran to its end, or was cancelled before. An operation's done was called or will be. */
    RONDO_CANCEL_FINISHED = 2,
};

/* "Choose for me" in a 32-bit option. */
#define RONDO_AUTO UINT32_MAX

/* Options of a loop. Start from RONDO_LOOP_OPTIONS_INIT and change what you need; a value outside
 * its range is refused with -EINVAL and a text that names it. The struct may grow at its end: the
 * size tells the library which members you know. */
struct rondo_loop_options {
    size_t size;
    /* Shown by tools; 1 to 31 bytes, no '/'. Copied. */
    const char *name;
    /* Workers that are always there: 1 to 1024; automatic: the processors of this process. */
    uint32_t workers;
    /* The most workers the pool grows to: workers to 4096; automatic: 4 x processors + 16, at
     * most 256, and never below workers. When that many are blocked, the rest waits. */
    uint32_t max_workers;
    /* Completion threads, each with a ring of its own: 1 to 64. A handle stays on its lane. */
    uint32_t lanes;
    /* Ready work that waited this long while no worker was free makes the pool grow: 100 us to
     * 10 s, in nanoseconds. */
    uint64_t grow_after_ns;
    /* A worker beyond `workers` that had nothing to do for this long ends: 1 ms to 1 hour. */
    uint64_t retire_after_ns;
    /* How long a worker looks for more work before it sleeps: 0 to 1 ms. Saves a wake-up where
     * processors are spare, costs processor time where they are not. */
    uint64_t spin_ns;
    /* Submissions one lane can queue: a power of two, 2 to 32768. */
    uint32_t submissions;
    /* Completions one lane's ring can hold: a power of two, submissions to 65536. When it is full
     * the kernel keeps the rest aside; nothing is lost, but it is slower. */
    uint32_t completions;
    /* Bytes of one receive buffer: 64 to 1 MiB. */
    uint32_t buffer_size;
    /* Receive buffers of one lane, allocated as needed: a power of two, 2 to 32768. */
    uint32_t buffers;
    /* Connections open at a time: 1 to 16777216; automatic: the limit of open descriptors less
     * 64. At the limit accepting pauses, and goes on when one closes; connects are refused. */
    uint32_t connections;
    /* Bytes a stream may have queued for writing before a write is refused: 4 KiB to 1 TiB. */
    uint64_t write_queue_max;
    /* Threads of the pool for rondo_run_blocking(), name look-ups and the like, started as needed:
     * 1 to 1024. Look-ups take at most half of them. */
    uint32_t blocking_threads;
    /* Lent writes of so many bytes or more are sent without copying where the kernel can do that: 4
     * KiB to UINT64_MAX, which is never. A connection where the kernel copies all the same, as on
     * loopback, is not tried again. */
    uint64_t zero_copy_size;
    /* Overload: ready work that waits longer than this, with all max_workers at work, is too late:
     * 1 ms to 10 s; 0: never. */
    uint64_t overload_target_ns;
    /* How long that goes on until the loop is overloaded, and how long the wait stays at half of
     * the target or less until it is so no more: 1 ms to 10 s. While overloaded, accepting pauses,
     * and receiving for the streams with the most undelivered buffers. */
    uint64_t overload_after_ns;
    /* When descriptors run out, who connects waits in the backlog. When nobody could be accepted
     * for this long, those who wait are told so by a close: up to 1 hour; 0: never. */
    uint64_t shed_after_ns;
};

#define RONDO_LOOP_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(struct rondo_loop_options), "loop", RONDO_AUTO, RONDO_AUTO, 1, 2000000, 2000000000, \
            0, 4096, 16384, 8192, 4096, RONDO_AUTO, 67108864, 64, 65536, 50000000, 100000000,      \
            5000000000                                                                             \
    }

/* Create a loop that is not running yet. Any thread; does not suspend.
 * @options may be NULL for the defaults. On success *ret_loop is yours until rondo_loop_free().
 * Returns 0, or with a rondo_error_text(): -EINVAL (an option is out of range; the text names it),
 * -ENOSYS (this kernel has no io_uring), -EPERM (io_uring is forbidden here, by the sysctl
 * kernel.io_uring_disabled or by a seccomp profile), -ENOMEM, -EMFILE, -ENFILE. Since 0.1. */
int rondo_loop_create(const struct rondo_loop_options *options, rondo_loop **ret_loop);

/* Start the threads of the loop and return. Any thread; does not suspend. A loop starts once.
 * Returns 0, -EBUSY (started before), -ECHILD (created before a fork), or with a rondo_error_text()
 * and a loop that can only be freed: -EAGAIN (no thread could be created), -EPERM, -ENOSYS, -ENOMEM
 * (the ring could not be set up). Since 0.1. */
int rondo_loop_start(rondo_loop *loop);

/* Start the loop if it is not started, and block until it has stopped. Any thread that is not a
 * worker of a loop. Returns what rondo_loop_wait() and rondo_loop_start() return. Since 0.1. */
int rondo_loop_run(rondo_loop *loop);

/* Ask the loop to stop now: a drain whose deadline has passed. Any thread, also a worker's
 * callback; returns at once. What is open is closed with -ECANCELED and gets its closed callback,
 * operations are cancelled and get their done, callbacks that are ready run, timers that are not
 * due never fire.
 * Returns 0 (also when it is stopping already), -EINVAL (not started), -ECHILD. Since 0.1. */
int rondo_loop_stop(rondo_loop *loop);

/* Ask the loop to end gracefully. Any thread, also a worker's callback; returns at once.
 * Listeners close at once. Each stream gets its draining callback, or where it has none is closed
 * after what it has queued is written; one that is read by operations, or relayed to, is left to
 * them: close it when they have ended. Operations go on. When all is closed and every operation is
 * over the loop stops; when timeout_ns (0 to UINT64_MAX) passes first, the rest is cancelled as by
 * rondo_loop_stop(). A second call can only bring the deadline nearer.
 * Returns 0, -EINVAL (not started), -ECHILD. Since 0.1. */
int rondo_loop_drain(rondo_loop *loop, uint64_t timeout_ns);

/* Block until a started loop has stopped and all its threads have ended. Any thread that is not a
 * worker of a loop; one thread at a time waits, the others follow.
 * Returns 0, -ETIMEDOUT (a drain met its deadline and cancelled what was left), -EINVAL (not
 * started), -EDEADLK (called on a worker), -ECHILD. Since 0.1. */
int rondo_loop_wait(rondo_loop *loop);

/* Free the loop; NULL is nothing. Stops it and waits first if it runs; one that never ran is
 * started for that. Any thread that is not a worker of a loop, when no other thread is inside a
 * call with the loop or anything that belongs to it any more. In the child of a fork, memory is
 * given back and the parent's ring is left alone. Since 0.1. */
void rondo_loop_free(rondo_loop *loop);

/* The loop whose worker runs this callback: the same shared one on every worker. Any thread; does
 * not suspend. NULL on a thread that is not a worker. Since 0.1. */
rondo_loop *rondo_current_loop(void);

/* Run @fn(ctx) on a worker, soon. Any thread; does not suspend, never blocks on other callbacks.
 * With one worker, callbacks start in the order in which they were posted; with several they run in
 * parallel and overtake each other: use a strand where order matters. A loop that is not started
 * keeps it until then.
 * @ret_handle may be NULL; otherwise it names the callback for rondo_cancel().
 * Returns 0, -EINVAL (loop or fn is NULL), -EAGAIN (16,777,216 callbacks are alive), -ESHUTDOWN
 * (the loop is stopping), -ECHILD. Since 0.1. */
int rondo_call_soon(rondo_loop *loop, rondo_callback_fn *fn, void *ctx, rondo_handle *ret_handle);

/* Cancel a callback of rondo_call_soon(), rondo_call_later(), rondo_call_at() or a strand, or an
 * operation. Any thread, also from inside the callback itself; does not suspend.
 * Returns an enum rondo_cancel_outcome, or -EINVAL (the handle never named anything). Since 0.1. */
int rondo_cancel(rondo_handle handle);

/* Numbers of a loop, each since its start. The struct may grow at its end. */
struct rondo_loop_stats {
    size_t size;
    uint32_t workers;         /* alive now */
    uint32_t workers_parked;  /* of them, waiting for work */
    uint64_t workers_grown;   /* times the pool grew past a stuck worker */
    uint64_t workers_retired; /* times a surplus worker ended */
    uint64_t runs;            /* callbacks and strand turns run */
    uint64_t ready_depth;     /* ready and waiting for a worker now */
    uint64_t parks;           /* times a worker went to sleep */
    uint64_t wakes;           /* sleeping workers woken by new work */
    uint64_t timers_armed;    /* waiting for their time now, cancelled ones included */
    uint64_t timers_fired;
    uint64_t scheduler_wakes;   /* times the scheduler thread woke */
    uint64_t lane_wakes;        /* times a lane slept and woke */
    uint64_t submissions;       /* operations given to the kernel */
    uint64_t completions;       /* completions taken from the kernel */
    uint64_t completions_stale; /* completions whose operation was over: always 0 */
    uint64_t ring_overflows;    /* times the completion ring was full and the kernel kept more */
    uint64_t buffers;           /* receive buffers allocated */
    uint64_t buffers_exhausted; /* times the kernel found no free buffer */
    uint64_t accepts_paused;    /* times accepting paused: descriptors or connections exhausted */
    uint64_t reads_paused;      /* times a stream stopped reading until its queues shrank */
    uint64_t connections;       /* streams alive now */
    uint64_t connections_total; /* streams ever accepted or connected */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t setup_flags_dropped;     /* ring features wanted that this kernel refused: bits in the
                                     order of docs/tuning.md */
    uint64_t zero_copy_sends;         /* sends without copying */
    uint64_t zero_copy_copied;        /* of them, those that the kernel copied after all */
    uint64_t blocking_threads;        /* threads of the blocking pool alive now */
    uint64_t overloads;               /* times ready work waited too long */
    uint64_t overloaded;              /* it does so now: 0 or 1 */
    uint64_t ready_age_ns;            /* the oldest ready work waits so long, when last measured */
    uint64_t ready_age_max_ns;        /* the most that was ever measured */
    uint64_t accepts_paused_overload; /* times accepting paused for overload */
    uint64_t reads_paused_overload;   /* times a stream stopped reading for overload */
    uint64_t connections_shed;   /* closed unseen: no descriptor for them, shed_after_ns long */
    uint64_t datagrams_received; /* as the kernel handed them over: several may come in one */
    uint64_t datagrams_sent;
    uint64_t segmentations_refused; /* times datagrams given together had to go one by one */
};

#define RONDO_LOOP_STATS_INIT                                                                     \
    {                                                                                             \
        sizeof(struct rondo_loop_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                               \
    }

/* Read the numbers of a loop. Any thread; does not suspend. @stats starts as
 * RONDO_LOOP_STATS_INIT. The numbers are read one by one while the loop runs.
 * Returns 0, -EINVAL (NULL, or a size this library does not know). Since 0.1. */
int rondo_loop_stats(rondo_loop *loop, struct rondo_loop_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
