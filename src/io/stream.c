/* The public side of a stream, and its events as they run on workers.
 *
 * Any thread calls in; nothing here touches what belongs to the lane. See stream.h.
 */
#include "stream.h"

#include "operation.h"

enum { STREAM_LOW = 64 * 1024, STREAM_HIGH = 256 * 1024 };

/* ---- events, in the stream's strand ---- */

static void end_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, end_event);

    if (load_acquire(&stream->flags) & (STREAM_CLOSE | STREAM_ABORT))
        return; /* Acquire pairs with stream_ask(). */
    if (stream->handlers->end)
        stream->handlers->end(stream, stream->ctx);
    else
        (void)rondo_stream_close(stream);
}

static void drained_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, drained_event);

    /* Before the call: it may fill the queue again. Pairs with watermarks_check(). */
    (void)and_acq_rel(&stream->flags, ~(uint32_t)STREAM_DRAINED);
    if (stream->handlers->drained)
        stream->handlers->drained(stream, stream->ctx);
}

static void draining_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, draining_event);

    if (stream->handlers->draining)
        stream->handlers->draining(stream, stream->ctx);
    else
        (void)rondo_stream_close(stream); /* What arrived before was delivered before. */
}

static void closed_run(struct runnable *runnable)
{
    struct rondo_stream *stream = container_of(runnable, struct rondo_stream, closed_event);

    hub_orphan_add(stream_hub(stream), &stream->handle);
    /* Pairs with the exchanges in rondo_stream_start(), which is refused or has set the handlers,
     * and in user_closes(), of which one side drops the orphan. */
    uint32_t old = or_acq_rel(&stream->flags, STREAM_TOLD);
    if (!(old & (STREAM_STARTED | STREAM_CLOSE | STREAM_ABORT)))
        return; /* The user still has it. */
    hub_orphan_remove(stream_hub(stream), &stream->handle);
    if ((old & STREAM_STARTED) && stream->handlers->closed)
        stream->handlers->closed(stream, stream->error, stream->ctx);
    strand_unref(&stream->strand);
}

void stream_free_orphan(struct lane_handle *handle)
{
    strand_unref(&container_of(handle, struct rondo_stream, handle)->strand);
}

static void destroy(struct strand *strand)
{
    struct rondo_stream *stream = container_of(strand, struct rondo_stream, strand);

    RONDO_ASSERT(stream->fd == -1 && !stream->reads.first);
    sys.release(stream->surplus.bytes);
    sys.release(stream);
}

struct rondo_stream *stream_create(struct lane *lane, int fd, uint64_t queued_max)
{
    struct life *life = lane->options.life;
    struct rondo_stream *stream = sys.alloc_aligned(sizeof(*stream));

    if (!stream || !life_add(life)) {
        sys.release(stream);
        return NULL;
    }
    /* All relaxed: counters that order nothing. */
    (void)add_relaxed(&life->connections, 1);
    (void)add_relaxed(&life->connections_total, 1);
    strand_init(&stream->strand, lane->options.pool, destroy);
    stream->lane = lane;
    stream->fd = fd;
    stream->file = -1;
    stream->is_socket = stream->can_read = stream->can_write = true;
    stream->queued_max = queued_max;
    stream->end_event.run = end_run;
    stream->drained_event.run = drained_run;
    stream->draining_event.run = draining_run;
    stream->closed_event.run = closed_run;
    inbox_init(&stream->writes, false);
    /* Relaxed: not shared yet. It is queued for its lane by its creator. */
    store_relaxed(&stream->flags, STREAM_QUEUED);
    store_relaxed(&stream->low, STREAM_LOW);
    store_relaxed(&stream->high, STREAM_HIGH);
    stream_lane_init(stream);
    return stream;
}

/* ---- asking the lane ---- */

uint32_t stream_ask(struct rondo_stream *stream, uint32_t flags)
{
    /* Pairs with request_run() and finish() on the lane. */
    uint32_t old = or_acq_rel(&stream->flags, flags | STREAM_QUEUED);

    if (!(old & (STREAM_QUEUED | STREAM_CLOSED)))
        lane_ask(stream->lane, &stream->request);
    return old;
}

/* 0, or why nothing more may be asked of a stream with these flags. */
static int open_error(uint32_t flags)
{
    return flags & (STREAM_CLOSE | STREAM_ABORT | STREAM_CLOSED) ? -EBADF : 0;
}

RONDO_PUBLIC int rondo_stream_start(rondo_stream *stream,
                                    const struct rondo_stream_handlers *handlers, void *ctx)
{
    if (!stream || !handlers || handlers->size != sizeof(*handlers) || !handlers->read)
        return -EINVAL;
    uint32_t flags = load_acquire(&stream->flags); /* Pairs with an earlier start. */
    if (flags & (STREAM_STARTED | STREAM_PULLED))
        return -EALREADY;
    if (flags & (STREAM_CLOSE | STREAM_ABORT | STREAM_TOLD))
        return -EBADF;
    stream->handlers = handlers;
    stream->ctx = ctx;
    return stream_ask(stream, STREAM_STARTED | STREAM_READ) & STREAM_TOLD ? -EBADF : 0;
}

RONDO_PUBLIC int rondo_stream_read_stop(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    /* Pairs with the lane, which is asked to look again. */
    uint32_t old = and_acq_rel(&stream->flags, ~(uint32_t)STREAM_READ);
    if (!open_error(old) && (old & STREAM_READ))
        (void)stream_ask(stream, 0);
    return open_error(old);
}

RONDO_PUBLIC int rondo_stream_read_start(rondo_stream *stream)
{
    /* Acquire pairs with rondo_stream_start(). */
    if (!stream || !(load_acquire(&stream->flags) & STREAM_STARTED))
        return -EINVAL;
    return open_error(stream_ask(stream, STREAM_READ));
}

/* ---- closing ---- */

RONDO_PUBLIC int rondo_stream_shutdown(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    uint32_t old = stream_ask(stream, STREAM_SHUTDOWN);
    if (open_error(old))
        return open_error(old);
    return old & STREAM_SHUTDOWN ? -EALREADY : 0;
}

/* The user is done with it: @flags is CLOSE or ABORT. The flags as they were. */
static uint32_t user_closes(struct rondo_stream *stream, uint32_t flags)
{
    uint32_t old = stream_ask(stream, flags);

    /* It was closed before, as an orphan. */
    if ((old & STREAM_TOLD) && !(old & (STREAM_STARTED | STREAM_CLOSE | STREAM_ABORT))) {
        hub_orphan_remove(stream_hub(stream), &stream->handle);
        strand_unref(&stream->strand);
    }
    return old;
}

RONDO_PUBLIC int rondo_stream_close(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    return open_error(user_closes(stream, STREAM_CLOSE)) ? -EALREADY : 0;
}

RONDO_PUBLIC int rondo_stream_abort(rondo_stream *stream)
{
    if (!stream)
        return -EINVAL;
    return user_closes(stream, STREAM_ABORT) & (STREAM_ABORT | STREAM_CLOSED) ? -EALREADY : 0;
}

/* ---- closing as an operation ---- */

struct finish_operation {
    struct operation base;
    struct rondo_stream *stream; /* with a reference */
};

static void finish_start(struct lane *lane, struct operation *operation)
{
    struct rondo_stream *stream = ((struct finish_operation *)operation)->stream;

    /* Acquire pairs with the exchange at the stream's end. */
    if (load_acquire(&stream->flags) & STREAM_CLOSED)
        operation_end(lane, operation, stream->error);
    else if (stream->finisher)
        operation_end(lane, operation, -EALREADY);
    else
        stream->finisher = operation;
}

static void finish_cancel(struct lane *lane, struct operation *operation)
{
    (void)lane;
    (void)stream_ask(((struct finish_operation *)operation)->stream, STREAM_ABORT);
}

static void finish_release(struct operation *operation)
{
    strand_unref(&((struct finish_operation *)operation)->stream->strand);
}

static const struct operation_kind finish_kind = {
    .name = "finish",
    .start = finish_start,
    .cancel = finish_cancel,
    .release = finish_release,
};

RONDO_PUBLIC int rondo_stream_finish(rondo_stream *stream, const struct rondo_request *request)
{
    struct operation *operation;
    int error;

    if (!stream)
        return -EINVAL;
    /* Acquire pairs with stream_ask(). */
    if (load_acquire(&stream->flags) & (STREAM_CLOSE | STREAM_ABORT))
        return -EALREADY;
    error = operation_create(&finish_kind, stream_hub(stream), stream->lane, &stream->strand,
                             request, &operation);
    if (error)
        return error;
    strand_ref(&stream->strand);
    ((struct finish_operation *)operation)->stream = stream;
    operation_submit(operation);
    (void)user_closes(stream, STREAM_CLOSE);
    return 0;
}

RONDO_PUBLIC rondo_stream *rondo_stream_ref(rondo_stream *stream)
{
    if (stream)
        strand_ref(&stream->strand);
    return stream;
}

RONDO_PUBLIC void rondo_stream_unref(rondo_stream *stream)
{
    if (stream)
        strand_unref(&stream->strand);
}
