/* Files without a name; see rondo/file.h.
 *
 * Public function: any thread. start, complete, cancel: the lane's thread.
 *
 *   UNNAMED --the filesystem has none--> NAMED --opened--> UNLINK --> the file
 *      \--opened--> the file               \--taken: another name
 */
#include "file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

enum step { STEP_UNNAMED, STEP_NAMED, STEP_UNLINK };

struct temporary {
    struct file_open open;
    enum step step;
    int fd; /* from STEP_UNLINK on */
};

RONDO_STATIC_ASSERT(sizeof(struct temporary) <= OPERATION_SIZE);

/* "/.rondo-" and the digits of a random number. */
enum { NAME_SIZE = 8 + 16 + 1 };

static void temporary_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static const struct op_kind temporary_op = {"temporary", temporary_complete};

static void step_begin(struct lane *lane, struct operation *operation)
{
    struct temporary *self = (struct temporary *)operation;
    struct file_call *call = &self->open.call;
    int flags = O_RDWR | O_EXCL | O_CLOEXEC;
    struct io_uring_sqe *sqe = operation_submission(lane, &temporary_op, operation);

    if (!sqe) {
        RONDO_ASSERT(self->step ==
                     STEP_UNNAMED); /* A later one finds the slot of the one before. */
        return;
    }
    switch (self->step) {
    case STEP_UNNAMED:
        io_uring_prep_openat(sqe, AT_FDCWD, call->paths[0], flags | O_TMPFILE, call->mode);
        break;
    case STEP_NAMED:
        (void)snprintf(call->paths[1], PATH_MAX + NAME_SIZE, "%s/.rondo-%016llx", call->paths[0],
                       (unsigned long long)sys.random());
        io_uring_prep_openat(sqe, AT_FDCWD, call->paths[1], flags | O_CREAT, call->mode);
        break;
    case STEP_UNLINK:
        io_uring_prep_unlinkat(sqe, AT_FDCWD, call->paths[1], 0);
        break;
    }
}

static void unnamed_complete(struct lane *lane, struct temporary *self, int32_t result)
{
    struct operation *operation = &self->open.call.base;

    if (result >= 0) {
        file_open_succeed(lane, &self->open, result);
    } else if (result != -EOPNOTSUPP) {
        file_call_complete(lane, operation, result, 0);
    } else if (operation_is_cancelled(operation)) {
        operation_end(lane, operation, -ECANCELED);
    } else {
        self->open.call.paths[1] = sys.alloc_raw(PATH_MAX + NAME_SIZE);
        self->step = STEP_NAMED;
        if (self->open.call.paths[1])
            step_begin(lane, operation);
        else
            operation_end(lane, operation, -ENOMEM);
    }
}

static void named_complete(struct lane *lane, struct temporary *self, int32_t result)
{
    struct operation *operation = &self->open.call.base;

    if (result >= 0) {
        self->fd = result;
        self->step = STEP_UNLINK;
        step_begin(lane, operation);
    } else if (result == -EEXIST && !operation_is_cancelled(operation)) {
        step_begin(lane, operation);
    } else {
        file_call_complete(lane, operation, result == -EEXIST ? -ECANCELED : result, 0);
    }
}

static void temporary_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct temporary *self = owner;

    (void)flags;
    if (self->step == STEP_UNNAMED)
        unnamed_complete(lane, self, result);
    else if (self->step == STEP_NAMED)
        named_complete(lane, self, result);
    else if (result == -EINTR)
        step_begin(lane, &self->open.call.base);
    else if (result == 0)
        file_open_succeed(lane, &self->open, self->fd);
    else
        file_open_fail(lane, &self->open, self->fd, result);
}

static void temporary_cancel(struct lane *lane, struct operation *operation)
{
    /* A name that is there goes in any case. */
    if (((struct temporary *)operation)->step != STEP_UNLINK)
        operation_cancel_submission(lane, operation);
}

static const struct operation_kind temporary_kind = {
    .name = "temporary",
    .start = step_begin,
    .cancel = temporary_cancel,
    .release = file_open_release,
};

RONDO_PUBLIC int rondo_file_open_temporary(rondo_loop *loop, const char *directory, mode_t mode,
                                           const struct rondo_request *request)
{
    struct file_open *open;
    int error = file_open_create(&temporary_kind, loop, directory, request, &open);

    if (error)
        return error;
    open->call.mode = mode;
    operation_submit(&open->call.base);
    return 0;
}
