/* The completion thread; see lane.h.
 *
 * One pass: run requests, give buffers back, push what became ready, enter the kernel once for all
 * submissions, take all completions. It waits in that enter only if nothing is left to do.
 */
#include "lane.h"

#include "error.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    LANE_FILES_MAX = 65536,
    LANE_AWAIT_SHARE = 3,
    LANE_AWAIT_MAX = 12,
    LANE_AWAIT_US = 50,
    LANE_KERNEL_THREADS_PER_CPU = 2,
    LANE_KERNEL_THREADS_MAX = 64,
};

/* The lane works without a table as well: a failure is not an error. */
static void files_init(struct lane *lane)
{
    uint64_t wanted = lane->options.life->connections_max;
    uint32_t count = wanted < LANE_FILES_MAX ? (uint32_t)wanted : LANE_FILES_MAX;

    if (!ring_files_register(&lane->ring, count))
        return;
    lane->free_files = sys.alloc(count * sizeof(*lane->free_files));
    for (uint32_t i = 0; lane->free_files && i < count; i++)
        lane->free_files[lane->free_file_count++] = count - 1 - i;
}

/* The bell's poll stays armed; ringing it ends the wait, and that is all it is for. */
static void bell_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind bell_kind = {"bell", bell_complete};

static void bell_arm(struct lane *lane)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &bell_kind, NULL, NULL);

    RONDO_ASSERT(sqe); /* It finds the slot free that it had before. */
    io_uring_prep_poll_multishot(sqe, lane->bell.fd, POLLIN);
}

static void bell_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    (void)owner;
    RONDO_ASSERT(result >= 0 || result == -ECANCELED || result == -ENOMEM);
    if (!(flags & IORING_CQE_F_MORE))
        bell_arm(lane);
}

static void handle_completions(struct lane *lane)
{
    while (lane->reaped_begin < lane->reaped_count) {
        struct completion done = lane->reaped[lane->reaped_begin++];
        if (done.user_data == OP_UNTRACKED)
            continue;
        struct op *op = op_find(&lane->ops, done.user_data);
        if (unlikely(!op)) {
            count_add(&lane->stale_count, 1);
            continue;
        }
        const struct op_kind *kind = op->kind;
        void *owner = op->owner;
        if (!(done.flags & IORING_CQE_F_MORE))
            op_free(&lane->ops, op);
        kind->complete(lane, owner, done.result, done.flags);
    }
}

/* Push what became ready, then let go of the handles whose last event was among it. */
static void push_ready(struct lane *lane)
{
    uint64_t dropped = lane->dropped_lives;

    if (lane->ready.count > 0)
        pool_push(lane->options.pool, &lane->ready);
    if (unlikely(dropped > 0)) {
        lane->dropped_lives = 0;
        life_drop(lane->options.life, dropped);
    }
}

/* Give buffers back to the kernel, and let as many starved handles go on as there are some for:
 * more would only find none again. */
static void refill(struct lane *lane, struct buffer_ring *buffers)
{
    struct chain fed = {0};

    buffer_ring_refill(buffers, buffers->starved.count);
    while (buffers->starved.count > 0 && fed.count < buffers->free_count)
        chain_append(&fed, chain_take(&buffers->starved));
    lane_run_all(lane, &fed);
}

static void refill_buffers(struct lane *lane)
{
    refill(lane, &lane->buffers);
    if (lane->datagrams.entries)
        refill(lane, &lane->datagrams);
    store_relaxed(&lane->buffer_count, /* Relaxed: a statistic. */
                  lane->buffers.allocated_count + lane->datagrams.allocated_count);
}

/* False: buffers that somebody waits for have come back. */
static bool buffers_sleep(struct buffer_ring *buffers)
{
    return buffers->starved.count == 0 || inbox_sleep(&buffers->returns);
}

static void buffers_awake(struct buffer_ring *buffers)
{
    if (buffers->starved.count > 0)
        inbox_awake(&buffers->returns);
}

/* True: nothing is left to do before the next completion, request or awaited buffer. */
static bool fall_asleep(struct lane *lane)
{
    if (!inbox_sleep(&lane->inbox))
        return false;
    if (buffers_sleep(&lane->buffers)) {
        if (buffers_sleep(&lane->datagrams))
            return true;
        buffers_awake(&lane->buffers);
    }
    inbox_awake(&lane->inbox);
    return false;
}

/* Take all there are: the kernel hands them out in portions, and workers that are woken for each
 * portion would spend more on waking than on working. */
static void take_completions(struct lane *lane)
{
    for (uint32_t round = 0; round < LANE_ROUNDS_MAX; round++) {
        uint32_t count = lane_reap(lane);
        handle_completions(lane);
        if (lane->ready.count >= LANE_PUSH_COUNT)
            push_ready(lane);
        if (count == LANE_REAP_COUNT)
            continue;
        if (count == 0 || !ring_has_task_work(&lane->ring))
            break;
        refill_buffers(lane); /* What workers returned meanwhile, or the kernel runs out. */
        lane_enter(lane, 0);
    }
    push_ready(lane);
}

/* Completions worth waking for. File work that the kernel does on threads of its own ends piece by
 * piece: with many under way, a few are gathered, for LANE_AWAIT_US at most, rather than paying
 * a wake-up of this thread, and one of a worker, for each. */
static uint32_t wait_count(const struct lane *lane)
{
    uint32_t share = lane->ops.live_count / LANE_AWAIT_SHARE;

    if (lane->options.buffers > 0 || share < 1)
        return 1;
    return share < LANE_AWAIT_MAX ? share : LANE_AWAIT_MAX;
}

/* How long to sleep in any case. Datagrams come as fast as their senders can, and a lane that is
 * quicker than they are would be woken for each: that costs both more than the datagram. So after a
 * crowd it sleeps until about as many can have come. */
static uint64_t rest_due(struct lane *lane)
{
    uint64_t rest_ns = (uint64_t)lane->arrivals * LANE_REST_EACH_NS;

    if (lane->arrivals < LANE_REST_ARRIVALS)
        rest_ns = 0;
    lane->arrivals = 0;
    return rest_ns < LANE_REST_MAX_NS ? rest_ns : LANE_REST_MAX_NS;
}

static void sleep_until_needed(struct lane *lane)
{
    uint64_t rest_ns = rest_due(lane);

    if (rest_ns > 0)
        lane_rest(lane, rest_ns);
    else
        lane_enter(lane, wait_count(lane));
    inbox_awake(&lane->inbox);
    buffers_awake(&lane->buffers);
    buffers_awake(&lane->datagrams);
    count_add(&lane->wake_count, 1);
}

static void pass(struct lane *lane)
{
    if (inbox_take(&lane->inbox, &lane->requests) > 0)
        lane_run_all(lane, &lane->requests);
    if (lane->stopping)
        return;
    refill_buffers(lane);
    push_ready(lane);
    if (fall_asleep(lane))
        sleep_until_needed(lane);
    else
        lane_enter(lane, 0);
    take_completions(lane);
}

/* Without limits the kernel starts threads for blocking file work by the hundred. */
static void limit_workers(struct lane *lane)
{
    uint32_t count = sys.processor_count() * LANE_KERNEL_THREADS_PER_CPU;

    ring_limit_workers(&lane->ring,
                       count < LANE_KERNEL_THREADS_MAX ? count : LANE_KERNEL_THREADS_MAX,
                       LANE_KERNEL_THREADS_MAX);
}

static void *lane_main(void *arg)
{
    struct lane *lane = arg;
    char name[16];

    if (lane->options.buffers > 0)
        (void)snprintf(name, sizeof(name), "rondo-lane%u", lane->options.index % 10000);
    else
        (void)snprintf(name, sizeof(name), "rondo-files");
    (void)pthread_setname_np(pthread_self(), name);
    lane->start_error = ring_enable(&lane->ring);
    if (!lane->start_error && lane->options.buffers > 0)
        lane->start_error = buffer_ring_init(&lane->buffers, &lane->ring, BUFFER_GROUP,
                                             lane->options.buffers, lane->options.buffer_size);
    if (!lane->start_error && lane->options.buffers > 0)
        files_init(lane);
    if (!lane->start_error && lane->options.buffers == 0)
        limit_workers(lane);
    latch_set(&lane->set_up);
    latch_wait(&lane->go);
    if (lane->start_error || lane->given_up)
        return NULL;
    bell_arm(lane);
    while (!lane->stopping) /* Runs until stop. */
        pass(lane);
    return NULL;
}

/* Tell every handle that the lane ends; it may leave the list meanwhile, and take others with it,
 * so a mark keeps the place. */
static void end_handles(struct lane *lane, bool now)
{
    struct lane_handle mark;

    for (struct lane_handle *handle = lane->handles.next; handle != &lane->handles;) {
        mark.next = handle->next;
        mark.previous = handle;
        mark.next->previous = handle->next = &mark;
        (now ? handle->abort : handle->drain)(lane, handle);
        handle = mark.next;
        mark.previous->next = mark.next;
        mark.next->previous = mark.previous;
    }
}

static void drain_run(struct lane *lane, struct lane_request *request)
{
    (void)request;
    lane->draining = true;
    if (!lane->aborting) /* Else they are ending already. */
        end_handles(lane, false);
    lane->dropped_lives++; /* The lane's own. */
}

static void abort_run(struct lane *lane, struct lane_request *request)
{
    (void)request;
    lane->aborting = true;
    end_handles(lane, true);
}

static void stop_run(struct lane *lane, struct lane_request *request)
{
    (void)request;
    RONDO_ASSERT(lane->handles.next == &lane->handles);
    lane->stopping = true;
}

int lane_init(struct lane *lane, const struct lane_options *options)
{
    struct ring_options ring_options = {options->submissions, options->completions};
    int error;

    memset(lane, 0, sizeof(*lane));
    lane->options = *options;
    lane->handles.next = lane->handles.previous = &lane->handles;
    lane->drain_request.run = drain_run;
    lane->abort_request.run = abort_run;
    lane->stop_request.run = stop_run;
    lane_overload_init(lane);
    inbox_init(&lane->inbox, false);
    lane->bell.fd = -1;
    error = ring_init(&lane->ring, &ring_options);
    if (error)
        return error;
    lane->ring.min_wait_us = options->buffers > 0 ? 0 : LANE_AWAIT_US;
    lane->reaped_capacity = 2 * LANE_REAP_COUNT;
    lane->reaped = sys.alloc(lane->reaped_capacity * sizeof(*lane->reaped));
    error = lane->reaped ? op_table_init(&lane->ops) : -ENOMEM;
    if (!error)
        error = bell_init(&lane->bell);
    if (error) {
        lane_fini(lane);
        return error_set(error, "no lane: %s", rondo_error_name(error));
    }
    return 0;
}

/* Everything but the ring. */
static void release(struct lane *lane)
{
    bell_fini(&lane->bell);
    buffer_ring_fini(&lane->buffers);
    buffer_ring_fini(&lane->datagrams);
    op_table_fini(&lane->ops);
    sys.release(lane->reaped);
    sys.release(lane->free_files);
    lane->reaped = NULL;
    lane->free_files = NULL;
}

void lane_fini(struct lane *lane)
{
    ring_fini(&lane->ring);
    release(lane);
}

void lane_abandon(struct lane *lane)
{
    ring_abandon(&lane->ring);
    release(lane);
}

int lane_start(struct lane *lane)
{
    int error = sys.thread_create(&lane->thread, lane_main, lane);

    if (error)
        return error_set(error, "no thread for a lane: %s", rondo_error_name(error));
    lane->started = true;
    latch_wait(&lane->set_up);
    /* The thread's own text stayed with the thread. */
    return lane->start_error ? ring_explain(lane->start_error) : 0;
}

void lane_go(struct lane *lane)
{
    latch_set(&lane->go);
}

void lane_give_up(struct lane *lane)
{
    lane->given_up = lane->aborting = true;
    if (lane->started) {
        latch_set(&lane->go);
        (void)pthread_join(lane->thread, NULL);
        lane->started = false;
    }
    while (inbox_take(&lane->inbox, &lane->requests) > 0)
        lane_run_all(lane, &lane->requests);
    push_ready(lane);
}

void lane_drain(struct lane *lane)
{
    lane_ask(lane, &lane->drain_request);
}

void lane_abort(struct lane *lane)
{
    lane_ask(lane, &lane->abort_request);
}

void lane_stop(struct lane *lane)
{
    lane_ask(lane, &lane->stop_request);
    (void)pthread_join(lane->thread, NULL);
    lane->started = false;
}
