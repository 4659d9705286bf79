/* A lane: one completion thread with one ring. It submits what handles ask for and turns each
 * completion into one event for the handle's strand. It never runs user code and never blocks but
 * in its one wait.
 *
 * Invariants: (1) everything here but the inboxes and the bell belongs to the lane thread; (2) the
 * thread sleeps only with its inbox marked asleep; (3) each handle is on the list from its first
 * request to its last event.
 */
#ifndef RONDO_RING_LANE_H
#define RONDO_RING_LANE_H

#include "bell.h"
#include "buffer_ring.h"
#include "inbox.h"
#include "latch.h"
#include "life.h"
#include "op_table.h"
#include "pool.h"
#include "regions.h"
#include "ring.h"
#include "strand.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct lane;

/* Something for the lane thread to do; in the lane's inbox at most once at a time. */
struct lane_request {
    struct node node;
    void (*run)(struct lane *lane, struct lane_request *request);
};

/* What lives on a lane; links of a ring of them with a head. */
struct lane_handle {
    struct lane_handle *next;
    struct lane_handle *previous;
    void (*drain)(struct lane *lane, struct lane_handle *handle);
    void (*abort)(struct lane *lane, struct lane_handle *handle);
    /* The loop became overloaded. NULL: it need not be told. */
    void (*overload)(struct lane *lane, struct lane_handle *handle);
};

static inline void list_append(struct lane_handle *list, struct lane_handle *handle)
{
    handle->next = list;
    handle->previous = list->previous;
    handle->previous->next = handle;
    list->previous = handle;
}

static inline void list_remove(struct lane_handle *handle)
{
    handle->previous->next = handle->next;
    handle->next->previous = handle->previous;
    handle->next = handle->previous = NULL;
}

enum {
    LANE_GATHER_COUNT = 256,    /* gathered sends in one submission batch */
    LANE_GATHER_PARTS = 16,     /* writes in one gathered send */
    LANE_REAP_COUNT = 256,      /* completions taken at a time */
    LANE_PUSH_COUNT = 64,       /* strands with events that are pushed without waiting for more */
    LANE_ROUNDS_MAX = 4,        /* enters for completions in one pass */
    LANE_REST_ARRIVALS = 8,     /* datagrams that came at once, from which on the lane rests */
    LANE_REST_EACH_NS = 3000,   /* for each of them */
    LANE_REST_MAX_NS = 100000,  /* in all */
    LANE_DATAGRAMS_MAX = 512,   /* buffers for datagrams */
    LANE_DATAGRAM_SIZE = 65535, /* what a datagram buffer holds at least */
    LANE_DATAGRAM_EXTRA = 1280, /* and the place for its address and control data */
};

struct lane_gather {
    struct msghdr header;
    struct iovec parts[LANE_GATHER_PARTS];
};

struct lane_options {
    struct pool *pool;
    struct life *life;
    uint32_t index;
    uint32_t submissions;
    uint32_t completions;
    uint32_t buffers; /* 0: a lane for files, where nothing is received */
    uint32_t buffer_size;
    uint64_t zero_copy_size; /* sends from this size on are tried without copying */
};

struct lane {
    struct inbox inbox;
    struct bell bell;
    struct lane_options options;
    pthread_t thread;
    bool started;

    struct ring ring;
    struct op_table ops;
    struct buffer_ring buffers;
    struct regions regions;
    struct buffer_ring datagrams; /* empty before the first datagram socket */
    uint32_t *free_files; /* places in the ring's table of descriptors; NULL: there is none */
    uint32_t free_file_count;
    struct chain requests; /* taken from the inbox, in order */
    struct chain ready;    /* strands with events, for the next push on the ready queue */
    struct chain paused;   /* listeners that wait for descriptors, or the end of overload */
    struct lane_handle handles;
    uint32_t arrivals;      /* datagrams since the lane slept last */
    uint64_t dropped_lives; /* handles closed since the last push */
    struct __kernel_timespec retry_delay;
    bool retry_armed;
    bool overloaded; /* accept nothing, receive less */
    bool draining;
    bool aborting;
    bool stopping;
    bool given_up;

    struct lane_gather gathers[LANE_GATHER_COUNT]; /* until the next enter */
    uint32_t gather_count;
    struct completion *reaped; /* taken from the ring, from reaped_begin on not handled yet */
    uint32_t reaped_begin;
    uint32_t reaped_count;
    uint32_t reaped_capacity;

    struct lane_request drain_request;
    struct lane_request abort_request;
    struct lane_request stop_request;
    struct lane_request overload_request;
    _Atomic uint32_t overload_flags; /* enum lane_overload_flag */
    int start_error;
    struct latch set_up; /* the thread has set up its ring, or failed to */
    struct latch go;     /* it may begin, or end if the lane is given up */

    /* Written by the lane thread only, read by any. */
    _Atomic uint64_t wake_count;
    _Atomic uint64_t submission_count;
    _Atomic uint64_t completion_count;
    _Atomic uint64_t stale_count;
    _Atomic uint64_t overflow_count;
    _Atomic uint64_t buffer_count;
    _Atomic uint64_t exhausted_count;
    _Atomic uint64_t accept_pause_count;
    _Atomic uint64_t read_pause_count;
    _Atomic uint64_t overload_accept_pause_count;
    _Atomic uint64_t overload_read_pause_count;
    _Atomic uint64_t shed_count;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t zero_copy_count;        /* sends without copying */
    _Atomic uint64_t zero_copy_copied_count; /* of them, those that the kernel copied after all */
    _Atomic uint64_t received_datagrams;
    _Atomic uint64_t sent_datagrams;
    _Atomic uint64_t segment_refusal_count;
};

/* Controller: 0, or an error with a text. */
int lane_init(struct lane *lane, const struct lane_options *options);
void lane_fini(struct lane *lane);

/* In the child of a fork: lane_fini() that leaves the parent's ring alone. */
void lane_abandon(struct lane *lane);

/* Controller: start the thread, which sets up its ring and waits for lane_go(). */
int lane_start(struct lane *lane);
void lane_go(struct lane *lane);

/* Controller, for a lane that will not go: end its thread if there is one, and close on this thread
 * what was to live on it. */
void lane_give_up(struct lane *lane);

/* Controller, once each and in this order: finish handles, cancel handles, end the thread. */
void lane_drain(struct lane *lane);
void lane_abort(struct lane *lane);
void lane_stop(struct lane *lane);

/* Any thread: have @request run on the lane. */
void lane_ask(struct lane *lane, struct lane_request *request);

/* Scheduler: from now on the loop is overloaded, or no more. */
void lane_overload(struct lane *lane, bool overloaded);

/* Any thread: give back a receive buffer of @buffers, one of the lane's. */
void lane_return_buffer(struct lane *lane, struct buffer_ring *buffers, struct buffer *buffer);

/* The rest: lane thread only. */

/* A submission for an operation of @kind; completions go to kind->complete with @owner. NULL: no
 * memory to follow one more operation. @ret_user_data may be NULL. Prepare it at once: nothing may
 * enter the kernel before. */
struct io_uring_sqe *lane_submit(struct lane *lane, const struct op_kind *kind, void *owner,
                                 uint64_t *ret_user_data);

/* A submission whose completion nobody needs. */
struct io_uring_sqe *lane_submit_untracked(struct lane *lane);

/* Ask the kernel to cancel the operation; its own completion tells how it ended. */
void lane_cancel(struct lane *lane, uint64_t user_data);

/* See that one submission and one gather can be had without entering the kernel between the two:
 * an enter would take a submission that is not prepared yet. */
void lane_gather_reserve(struct lane *lane);

/* A header and parts for a gathered send, valid until it is submitted. */
struct lane_gather *lane_gather(struct lane *lane);

/* A place in the ring's table for @fd, or -1: use the descriptor. */
int32_t lane_file_add(struct lane *lane, int fd);
void lane_file_remove(struct lane *lane, int32_t file);

/* Enter the kernel until it has taken all submissions; the first time also wait for completions. */
void lane_enter(struct lane *lane, uint32_t wait_count);

/* The same, letting @rest_ns pass before it looks for completions; see ring_rest(). */
void lane_rest(struct lane *lane, uint64_t rest_ns);

/* Copy completions aside; how many. */
uint32_t lane_reap(struct lane *lane);

/* Once, before all others. */
void lane_overload_init(struct lane *lane);

/* Run the requests of @chain, which is empty then. */
void lane_run_all(struct lane *lane, struct chain *chain);

/* Deliver @event to @strand with the next push. */
void lane_post(struct lane *lane, struct strand *strand, struct runnable *event);

/* False: the lane ends, so the handle was drained or aborted at once, and may be gone. */
bool lane_handle_add(struct lane *lane, struct lane_handle *handle);
void lane_handle_remove(struct lane *lane, struct lane_handle *handle);

/* See that there are buffers for datagrams: 0, or an error. */
int lane_datagrams_init(struct lane *lane);

/* Run @request when buffers of @buffers, one of the lane's, are free again. */
void lane_wait_for_buffers(struct lane *lane, struct buffer_ring *buffers,
                           struct lane_request *request);
void lane_forget_buffers(struct buffer_ring *buffers, struct lane_request *request);

/* Run @request when a connection closed or a moment later, but not before the end of overload. */
void lane_pause_accept(struct lane *lane, struct lane_request *request);
void lane_forget_accept(struct lane *lane, struct lane_request *request);
void lane_resume_accepts(struct lane *lane);

#endif
