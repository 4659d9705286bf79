/* Reading of records; see source.h.
 *
 * init, fini, consumed: any thread. The rest: the lane's thread.
 */
#include "source.h"

#include <poll.h>

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void read_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind poll_kind = {"source-poll", poll_complete};
static const struct op_kind read_kind = {"source-read", read_complete};

static struct io_uring_sqe *submission(struct lane *lane, const struct op_kind *kind,
                                       struct source *source, enum source_state state)
{
    struct io_uring_sqe *sqe = lane_submit(lane, kind, source, &source->user_data);

    if (sqe) {
        source->state = state;
        source->cancelled = false;
    } else {
        source->failed(lane, source, -ENOMEM);
    }
    return sqe;
}

static bool is_passing(int32_t result)
{
    return result == -EAGAIN || result == -EINTR || result == -ECANCELED;
}

static void read_arm(struct lane *lane, struct source *source)
{
    struct io_uring_sqe *sqe = submission(lane, &read_kind, source, SOURCE_READING);

    if (sqe)
        io_uring_prep_read(sqe, source->fd, source->buffer, source->buffer_size, 0);
}

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct source *source = owner;

    (void)flags;
    source->state = SOURCE_IDLE;
    if (result >= 0 && !handle_has_flag(&source->handle, HANDLE_CLOSE))
        read_arm(lane, source);
    else if (result < 0 && !is_passing(result))
        source->failed(lane, source, result);
    handle_advance(lane, &source->handle);
}

static void read_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct source *source = owner;

    (void)flags;
    source->state = SOURCE_IDLE;
    if (result > 0) {
        source->filled = (uint32_t)result;
        source->arrived(lane, source);
    } else if (!is_passing(result)) {
        source->failed(lane, source, result ? result : -EIO);
    }
    handle_advance(lane, &source->handle);
}

void source_arm(struct lane *lane, struct source *source)
{
    struct io_uring_sqe *sqe;

    if (source->state != SOURCE_IDLE)
        return;
    sqe = submission(lane, &poll_kind, source, SOURCE_POLLING);
    if (sqe)
        io_uring_prep_poll_add(sqe, source->fd, POLLIN);
}

static void hand_over(struct lane *lane, struct source *source)
{
    source->held = true;
    handle_post(lane, &source->handle, &source->event);
}

static void fail(struct lane *lane, struct source *source, int error)
{
    (void)lane;
    handle_fail(&source->handle, error);
}

void source_advance(struct lane *lane, struct handle *handle)
{
    struct source *source = source_of(handle);

    /* Pairs with source_consumed(): the worker is done with the buffer. */
    if (and_acq_rel(&handle->flags, ~(uint32_t)SOURCE_CONSUMED) & SOURCE_CONSUMED)
        source->held = false;
    if (!source->held)
        source_arm(lane, source);
}

bool source_quiesce(struct lane *lane, struct handle *handle)
{
    struct source *source = source_of(handle);

    if (source->state != SOURCE_IDLE && !source->cancelled) {
        source->cancelled = true;
        lane_cancel(lane, source->user_data);
    }
    return source->state == SOURCE_IDLE;
}

bool source_init(struct source *source, const struct handle_kind *kind, struct lane *lane, int fd,
                 void *buffer, uint32_t buffer_size)
{
    source->fd = fd;
    source->buffer = buffer;
    source->buffer_size = buffer_size;
    source->arrived = hand_over;
    source->failed = fail;
    /* The handle has no descriptor: it would be closed before the closed event has run. */
    return handle_init(&source->handle, kind, lane, -1);
}

void source_fini(struct source *source)
{
    (void)sys.close(source->fd);
}

void source_consumed(struct source *source)
{
    (void)handle_ask(&source->handle, SOURCE_CONSUMED);
}
