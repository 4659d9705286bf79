/* The ring: fill submissions, enter the kernel, take completions. The kernel's io_uring stands
 * behind it, and nothing outside this folder knows liburing; a test may link another one.
 *
 * Init and fini: the loop's controller. Everything else: the owner thread, which is the only
 * submitter and the only reaper (SINGLE_ISSUER, DEFER_TASKRUN).
 */
#ifndef RONDO_RING_RING_H
#define RONDO_RING_RING_H

#include "compat.h"

#include <stdbool.h>
#include <stdint.h>

/* Features wanted of the kernel, dropped from the top when it refuses the set-up. */
enum ring_feature {
    RING_DEFER_TASKRUN = 1 << 0,
    RING_SINGLE_ISSUER = 1 << 1,
    RING_COOP_TASKRUN = 1 << 2,
    RING_SUBMIT_ALL = 1 << 3,
    RING_NO_IOWAIT = 1 << 4,
};

/* Completions that end a rest at once. */
enum { RING_REST_COUNT = 256 };

struct ring_options {
    uint32_t submissions;
    uint32_t completions;
};

struct ring {
    struct io_uring uring;
    uint32_t features;         /* enum ring_feature bits in use */
    uint32_t features_dropped; /* wanted, and refused by this kernel */
    uint32_t enter_flags;
    bool disabled;        /* until ring_enable() */
    bool has_min_wait;    /* a wait can be cut short to one completion; Linux 6.12 */
    uint32_t min_wait_us; /* where it is */
};

/* One completion, copied out of the ring. */
struct completion {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

/* Keeps the sentence a user needs when there is no ring, and returns the error to answer. */
int ring_explain(int error);

/* 0, or an error with a text that names the remedy. */
int ring_init(struct ring *ring, const struct ring_options *options);
void ring_fini(struct ring *ring);

/* In the child of a fork: give back memory, leave the parent's ring alone. */
void ring_abandon(struct ring *ring);

/* The calling thread becomes the owner: 0 or an error. */
int ring_enable(struct ring *ring);

/* An empty submission, or NULL when all are filled: enter first. */
struct io_uring_sqe *ring_submission(struct ring *ring);

/* Submissions filled and not yet taken by the kernel. */
uint32_t ring_unsubmitted(struct ring *ring);

/* Submissions that can still be filled. */
uint32_t ring_room(struct ring *ring);

/* Give the kernel what is filled, and wait until @wait_count completions are there; of more than
 * one, one is enough once min_wait_us have passed. 0, -EINTR, -EAGAIN or -ENOMEM (short of memory:
 * try again), -EBUSY (take completions first). */
int ring_enter(struct ring *ring, uint32_t wait_count);

/* ring_enter() that lets @rest_ns, below a second, pass before it looks for completions: single
 * ones do not end it, and cost the thread that causes them no wake-up. */
int ring_rest(struct ring *ring, uint64_t rest_ns);

/* A table of @count descriptors that operations name by their place, which saves the look-up of the
 * descriptor in each. False: not here. Kernels before 6.13 let go of a descriptor only when every
 * operation that began before its removal is over, which for multishots is never. */
bool ring_files_register(struct ring *ring, uint32_t count);

/* Put a descriptor into the table, or -1 to take it out. 0 or an error. */
int ring_file_set(struct ring *ring, uint32_t slot, int fd);

/* A table of @count pieces of memory that operations name by their place. False: not here. */
bool ring_buffers_register(struct ring *ring, uint32_t count);

/* Put memory into the table, or none (@size 0). 0 or an error. */
int ring_buffer_set(struct ring *ring, uint32_t slot, void *memory, size_t size);

/* The most threads the kernel runs for this ring's work that blocks: on files, and on all else. */
void ring_limit_workers(struct ring *ring, uint32_t files, uint32_t others);

/* Copy out up to @count completions; how many. */
uint32_t ring_reap(struct ring *ring, struct completion *ret_completions, uint32_t count);

/* More completions are ready to be made: enter again. The kernel makes about twenty at a time. */
bool ring_has_task_work(struct ring *ring);

/* The kernel holds completions that the ring had no room for; the next enter brings them. */
bool ring_has_overflow(struct ring *ring);

#endif
