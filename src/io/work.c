/* Operations on the blocking pool; see work.h. Also rondo_run_blocking().
 *
 * run: a thread of the blocking pool. start, cancel, returned: the lane's thread.
 */
#include "work.h"

struct work_operation {
    struct operation base;
    struct work *work; /* NULL: it is lost */
    struct blocking *pool;
};

RONDO_STATIC_ASSERT(sizeof(struct work_operation) <= OPERATION_SIZE);

static void job_run(struct blocking_job *job)
{
    struct work *work = container_of(job, struct work, job);

    work->run(work);
}

static void job_finished(struct blocking_job *job, bool lost)
{
    struct work *work = container_of(job, struct work, job);

    if (lost)
        work->dispose(work, true);
    else
        operation_return(work->operation);
}

static void work_start(struct lane *lane, struct operation *operation)
{
    struct work_operation *self = (struct work_operation *)operation;
    int error = blocking_push(self->pool, &self->work->job);

    if (error)
        operation_end(lane, operation, error);
}

static void work_cancel(struct lane *lane, struct operation *operation)
{
    struct work_operation *self = (struct work_operation *)operation;
    struct work *work = self->work;

    store_relaxed(&work->cancelled, true); /* Relaxed: a hint. */
    if (blocking_remove(self->pool, &work->job)) {
        operation_end(lane, operation, -ECANCELED);
    } else if (work->can_be_lost && blocking_lose(self->pool, &work->job)) {
        self->work = NULL;
        operation_end(lane, operation, -ECANCELED);
    }
}

static void work_returned(struct lane *lane, struct operation *operation)
{
    struct work_operation *self = (struct work_operation *)operation;

    operation->result = self->work->result;
    operation_end(lane, operation, operation->result.value);
}

static void work_release(struct operation *operation)
{
    struct work_operation *self = (struct work_operation *)operation;

    if (self->work)
        self->work->dispose(self->work, false);
}

static const struct operation_kind work_kind = {
    .name = "blocking",
    .start = work_start,
    .cancel = work_cancel,
    .returned = work_returned,
    .release = work_release,
};

int work_submit(struct hub *hub, struct work *work, const struct rondo_request *request)
{
    struct operation *operation;
    int error = operation_create(&work_kind, hub, hub_file_lane(hub), NULL, request, &operation);

    if (error)
        return error;
    struct work_operation *self = (struct work_operation *)operation;
    self->work = work;
    self->pool = hub->blocking;
    work->operation = operation;
    work->job.run = job_run;
    work->job.finished = job_finished;
    operation_submit(operation);
    return 0;
}

/* ---- rondo_run_blocking() ---- */

struct call {
    struct work work;
    int64_t (*fn)(void *ctx);
    void *ctx;
};

static _Thread_local struct work *current;

static void call_run(struct work *work)
{
    struct call *call = container_of(work, struct call, work);

    current = work;
    work->result.value = call->fn(call->ctx);
    current = NULL;
}

static void call_dispose(struct work *work, bool lost)
{
    RONDO_ASSERT(!lost);
    sys.release(container_of(work, struct call, work));
}

RONDO_PUBLIC int rondo_run_blocking(rondo_loop *loop, int64_t (*fn)(void *ctx), void *ctx,
                                    const struct rondo_request *request)
{
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error || !fn)
        return error ? error : -EINVAL;
    struct call *call = sys.alloc(sizeof(*call));
    if (!call)
        return -ENOMEM;
    call->fn = fn;
    call->ctx = ctx;
    call->work.job.class = BLOCKING_OTHER;
    call->work.run = call_run;
    call->work.dispose = call_dispose;
    error = work_submit(hub, &call->work, request);
    if (error)
        sys.release(call);
    return error;
}

RONDO_PUBLIC int rondo_blocking_cancelled(void)
{
    return current && load_relaxed(&current->cancelled); /* Relaxed: a hint. */
}
