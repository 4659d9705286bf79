/* Waiting for a futex: in the ring where the kernel can, else on the blocking pool.
 *
 * rondo_futex_wait(): any thread. slice_run: a thread of the blocking pool. The rest: the lane's
 * thread.
 */
#include "rondo/futex.h"

#include "probe.h"
#include "work.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

enum { SLICE_MS = 20 }; /* between two looks at a cancel */

/* ---- in the ring ---- */

struct futex_operation {
    struct operation base;
    const uint32_t *word;
    uint32_t expected;
    uint32_t flags;
};

RONDO_STATIC_ASSERT(sizeof(struct futex_operation) <= OPERATION_SIZE);

static void ring_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    (void)flags;
    operation_end(lane, owner, result);
}

static const struct op_kind futex_op = {"futex-wait", ring_complete};

static void ring_start(struct lane *lane, struct operation *operation)
{
    struct futex_operation *self = (struct futex_operation *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &futex_op, operation);

    if (!sqe)
        return;
    /* What liburing 2.5 calls io_uring_prep_futex_wait(). */
    io_uring_prep_rw(RING_OP_FUTEX_WAIT, sqe,
                     self->flags & RONDO_FUTEX_SHARED ? RING_FUTEX_U32 : RING_FUTEX_U32_PRIVATE,
                     self->word, 0, self->expected);
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
}

static const struct operation_kind ring_kind = {
    .name = "futex-wait",
    .start = ring_start,
    .cancel = operation_cancel_submission,
};

static int ring_wait(struct hub *hub, const uint32_t *word, uint32_t expected, uint32_t flags,
                     const struct rondo_request *request)
{
    struct operation *operation;
    int error = operation_create(&ring_kind, hub, hub_lane(hub), NULL, request, &operation);

    if (error)
        return error;
    struct futex_operation *self = (struct futex_operation *)operation;
    self->word = word;
    self->expected = expected;
    self->flags = flags;
    operation_submit(operation);
    return 0;
}

/* ---- on the blocking pool ---- */

struct futex_work {
    struct work work;
    const uint32_t *word;
    uint32_t expected;
    uint32_t flags;
};

static int64_t slice(const struct futex_work *self)
{
    uint64_t until_ns = clock_now_ns() + SLICE_MS * NS_PER_MS;
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / NS_PER_SECOND),
        .tv_nsec = (long)(until_ns % NS_PER_SECOND),
    };
    long operation = FUTEX_WAIT_BITSET;

    if (!(self->flags & RONDO_FUTEX_SHARED))
        operation |= FUTEX_PRIVATE_FLAG;
    return sys_call(SYS_futex, (long)self->word, operation, (long)self->expected, (long)&until, 0,
                    (long)FUTEX_BITSET_MATCH_ANY);
}

static void slice_run(struct work *work)
{
    struct futex_work *self = container_of(work, struct futex_work, work);
    int64_t result;

    do
        result = load_relaxed(&work->cancelled) ? -ECANCELED : slice(self); /* Relaxed: a hint. */
    while (result == -ETIMEDOUT || result == -EINTR);
    work->result.value = result;
}

static void slice_dispose(struct work *work, bool lost)
{
    RONDO_ASSERT(!lost); /* The word is the caller's. */
    sys.release(container_of(work, struct futex_work, work));
}

static int pool_wait(struct hub *hub, const uint32_t *word, uint32_t expected, uint32_t flags,
                     const struct rondo_request *request)
{
    struct futex_work *self = sys.alloc(sizeof(*self));
    int error;

    if (!self)
        return -ENOMEM;
    self->word = word;
    self->expected = expected;
    self->flags = flags;
    self->work.job.class = BLOCKING_OTHER;
    self->work.run = slice_run;
    self->work.dispose = slice_dispose;
    error = work_submit(hub, &self->work, request);
    if (error)
        sys.release(self);
    return error;
}

RONDO_PUBLIC int rondo_futex_wait(rondo_loop *loop, const uint32_t *word, uint32_t expected,
                                  uint32_t flags, const struct rondo_request *request)
{
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error)
        return error;
    if (!word || (uintptr_t)word % sizeof(*word) || flags & ~RONDO_FUTEX_SHARED)
        return -EINVAL;
    return (probe_has(PROBE_FUTEX_WAIT) ? ring_wait : pool_wait)(hub, word, expected, flags,
                                                                 request);
}
