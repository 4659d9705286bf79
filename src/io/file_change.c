/* What an open file can do besides reading and writing; see rondo/file.h.
 *
 * Public functions: any thread. start: the lane's thread. The work of a truncation: a thread of the
 * blocking pool.
 */
#include "file.h"

#include "probe.h"
#include "work.h"

#include <fcntl.h>

static const struct op_kind sync_op = {"sync", file_call_complete};
static const struct op_kind stat_op = {"stat", file_call_complete};
static const struct op_kind truncate_op = {"truncate", file_call_complete};
static const struct op_kind allocate_op = {"allocate", file_call_complete};

static void sync_start(struct lane *lane, struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &sync_op, operation);

    if (sqe)
        io_uring_prep_fsync(sqe, call->file->fd, (unsigned)call->flags);
}

static void stat_start(struct lane *lane, struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &stat_op, operation);

    if (sqe)
        io_uring_prep_statx(sqe, call->file->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME,
                            call->stat);
}

static void truncate_start(struct lane *lane, struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &truncate_op, operation);

    if (sqe)
        io_uring_prep_rw(RING_OP_FTRUNCATE, sqe, call->file->fd, NULL, 0, call->size);
}

static void allocate_start(struct lane *lane, struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &allocate_op, operation);

    if (sqe)
        io_uring_prep_fallocate(sqe, call->file->fd, call->flags, (off_t)call->offset,
                                (off_t)call->size);
}

#define FILE_CALL_KIND(verb)                                                         \
    {                                                                                \
        .name = #verb, .start = verb##_start, .cancel = operation_cancel_submission, \
        .release = file_call_release,                                                \
    }

static const struct operation_kind sync_kind = FILE_CALL_KIND(sync);
static const struct operation_kind stat_kind = FILE_CALL_KIND(stat);
static const struct operation_kind allocate_kind = FILE_CALL_KIND(allocate);
static const struct operation_kind truncate_kind = FILE_CALL_KIND(truncate);

/* An operation on @file that submits with the arguments of @wanted. */
static int submit(struct rondo_file *file, const struct operation_kind *kind,
                  const struct file_call *wanted, const struct rondo_request *request)
{
    struct operation *operation;
    int error = file_use(file);

    if (error)
        return error;
    error = operation_create(kind, file->hub, hub_file_lane(file->hub), NULL, request, &operation);
    if (error) {
        file_drop(file);
        return error;
    }
    struct file_call *call = (struct file_call *)operation;
    call->file = file;
    call->stat = wanted->stat;
    call->offset = wanted->offset;
    call->size = wanted->size;
    call->flags = wanted->flags;
    operation_submit(operation);
    return 0;
}

RONDO_PUBLIC int rondo_file_sync(rondo_file *file, bool data_only,
                                 const struct rondo_request *request)
{
    struct file_call wanted = {.flags = data_only ? (int)IORING_FSYNC_DATASYNC : 0};

    return submit(file, &sync_kind, &wanted, request);
}

RONDO_PUBLIC int rondo_file_stat(rondo_file *file, struct statx *ret_stat,
                                 const struct rondo_request *request)
{
    struct file_call wanted = {.stat = ret_stat};

    return ret_stat ? submit(file, &stat_kind, &wanted, request) : -EINVAL;
}

RONDO_PUBLIC int rondo_file_allocate(rondo_file *file, int mode, uint64_t offset, uint64_t size,
                                     const struct rondo_request *request)
{
    struct file_call wanted = {.flags = mode, .offset = offset, .size = size};

    if (size < 1 || size > INT64_MAX || offset > INT64_MAX - size)
        return -EINVAL;
    return submit(file, &allocate_kind, &wanted, request);
}

/* ---- truncate: the ring has it since Linux 6.9, before that it is blocking work ---- */

struct truncation {
    struct work work;
    struct rondo_file *file; /* used */
    uint64_t size;
};

static void truncate_run(struct work *work)
{
    struct truncation *truncation = container_of(work, struct truncation, work);

    do {
        work->result.value = sys.truncate(truncation->file->fd, truncation->size);
    } while (work->result.value == -EINTR);
}

static void truncate_dispose(struct work *work, bool lost)
{
    struct truncation *truncation = container_of(work, struct truncation, work);

    (void)lost;
    file_drop(truncation->file);
    sys.release(truncation);
}

static int truncate_elsewhere(struct rondo_file *file, uint64_t size,
                              const struct rondo_request *request)
{
    struct truncation *truncation;
    int error = file_use(file);

    if (error)
        return error;
    truncation = sys.alloc(sizeof(*truncation));
    error = truncation ? 0 : -ENOMEM;
    if (!error) {
        truncation->file = file;
        truncation->size = size;
        truncation->work.job.class = BLOCKING_OTHER;
        truncation->work.run = truncate_run;
        truncation->work.dispose = truncate_dispose;
        error = work_submit(file->hub, &truncation->work, request);
    }
    if (error) {
        sys.release(truncation);
        file_drop(file);
    }
    return error;
}

RONDO_PUBLIC int rondo_file_truncate(rondo_file *file, uint64_t size,
                                     const struct rondo_request *request)
{
    struct file_call wanted = {.size = size};

    if (size > INT64_MAX)
        return -EINVAL;
    if (!probe_op_supported(RING_OP_FTRUNCATE))
        return truncate_elsewhere(file, size, request);
    return submit(file, &truncate_kind, &wanted, request);
}
