/* What handles ask of their lane; see lane.h.
 *
 * lane_ask() and lane_return_buffer(): any thread. Everything else: lane thread only.
 */
#include "lane.h"

enum { LANE_RETRY_MS = 100 }; /* how long accepting pauses when nothing closes */

int32_t lane_file_add(struct lane *lane, int fd)
{
    if (lane->free_file_count == 0)
        return -1;
    uint32_t file = lane->free_files[lane->free_file_count - 1];
    if (ring_file_set(&lane->ring, file, fd))
        return -1;
    lane->free_file_count--;
    return (int32_t)file;
}

void lane_file_remove(struct lane *lane, int32_t file)
{
    int error = ring_file_set(&lane->ring, (uint32_t)file, -1);

    RONDO_ASSERT(error == 0); /* The descriptor would stay open. */
    lane->free_files[lane->free_file_count++] = (uint32_t)file;
}

void lane_post(struct lane *lane, struct strand *strand, struct runnable *event)
{
    if (strand_push(strand, event))
        chain_append(&lane->ready, &strand->runnable.node);
}

bool lane_handle_add(struct lane *lane, struct lane_handle *handle)
{
    list_append(&lane->handles, handle);
    if (lane->aborting)
        handle->abort(lane, handle);
    else if (lane->draining)
        handle->drain(lane, handle);
    return !lane->aborting && !lane->draining;
}

void lane_handle_remove(struct lane *lane, struct lane_handle *handle)
{
    list_remove(handle);
    lane->dropped_lives++;
}

int lane_datagrams_init(struct lane *lane)
{
    uint32_t count = lane->options.buffers;
    uint32_t size = lane->options.buffer_size;

    if (lane->datagrams.entries)
        return 0;
    if (count > LANE_DATAGRAMS_MAX)
        count = LANE_DATAGRAMS_MAX;
    if (size < LANE_DATAGRAM_SIZE)
        size = LANE_DATAGRAM_SIZE;
    return buffer_ring_init(&lane->datagrams, &lane->ring, DATAGRAM_GROUP, count,
                            size + LANE_DATAGRAM_EXTRA);
}

void lane_wait_for_buffers(struct lane *lane, struct buffer_ring *buffers,
                           struct lane_request *request)
{
    count_add(&lane->exhausted_count, 1);
    chain_append(&buffers->starved, &request->node);
}

void lane_forget_buffers(struct buffer_ring *buffers, struct lane_request *request)
{
    chain_remove(&buffers->starved, &request->node);
}

static void retry_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    (void)owner;
    (void)result;
    (void)flags;
    lane->retry_armed = false;
    lane_resume_accepts(lane);
}

static const struct op_kind retry_kind = {"accept-retry", retry_complete};

void lane_pause_accept(struct lane *lane, struct lane_request *request)
{
    chain_append(&lane->paused, &request->node);
    if (lane->overloaded) {
        count_add(&lane->overload_accept_pause_count, 1);
        return;
    }
    count_add(&lane->accept_pause_count, 1);
    if (lane->retry_armed)
        return;
    struct io_uring_sqe *sqe = lane_submit(lane, &retry_kind, NULL, NULL);
    if (!sqe)
        return; /* A closing connection resumes it. */
    lane->retry_delay.tv_nsec = (int64_t)(LANE_RETRY_MS * NS_PER_MS);
    io_uring_prep_timeout(sqe, &lane->retry_delay, 0, 0);
    lane->retry_armed = true;
}

void lane_forget_accept(struct lane *lane, struct lane_request *request)
{
    chain_remove(&lane->paused, &request->node);
}

void lane_run_all(struct lane *lane, struct chain *chain)
{
    struct chain all = *chain;
    struct node *node;

    *chain = (struct chain){0};
    while ((node = chain_take(&all))) {
        struct lane_request *request = container_of(node, struct lane_request, node);
        request->run(lane, request);
    }
}

void lane_resume_accepts(struct lane *lane)
{
    if (!lane->overloaded)
        lane_run_all(lane, &lane->paused);
}

/* ---- overload ---- */

/* What the scheduler wants, and whether the request is in the inbox already. */
enum lane_overload_flag { LANE_OVERLOAD_ON = 1 << 0, LANE_OVERLOAD_QUEUED = 1 << 1 };

static void overload_run(struct lane *lane, struct lane_request *request)
{
    struct lane_handle *next;
    /* Pairs with the exchange in lane_overload(): what was wanted before is seen now. */
    uint32_t flags = and_acq_rel(&lane->overload_flags, ~(uint32_t)LANE_OVERLOAD_QUEUED);
    bool was_overloaded = lane->overloaded;

    (void)request;
    lane->overloaded = flags & LANE_OVERLOAD_ON;
    if (!lane->overloaded) {
        lane_resume_accepts(lane);
        return;
    }
    if (was_overloaded)
        return;
    for (struct lane_handle *handle = lane->handles.next; handle != &lane->handles; handle = next) {
        next = handle->next;
        if (handle->overload)
            handle->overload(lane, handle);
    }
}

void lane_overload_init(struct lane *lane)
{
    lane->overload_request.run = overload_run;
}

void lane_overload(struct lane *lane, bool overloaded)
{
    uint32_t flags = LANE_OVERLOAD_QUEUED | (overloaded ? LANE_OVERLOAD_ON : 0);

    /* Pairs with the one in overload_run(). One thread calls this: no other wish can be lost. */
    if (!(exchange_acq_rel(&lane->overload_flags, flags) & LANE_OVERLOAD_QUEUED))
        lane_ask(lane, &lane->overload_request);
}

void lane_ask(struct lane *lane, struct lane_request *request)
{
    if (inbox_push(&lane->inbox, &request->node))
        pool_ring(lane->options.pool, &lane->bell);
}

void lane_return_buffer(struct lane *lane, struct buffer_ring *buffers, struct buffer *buffer)
{
    if (buffer_return(buffers, buffer))
        pool_ring(lane->options.pool, &lane->bell);
}
