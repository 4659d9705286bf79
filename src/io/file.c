/* The life of files: open, adopt, close; see file.h.
 *
 * Public functions, use and drop: any thread. start, complete, returned, cancel: the lane's thread.
 * release: a worker.
 */
#include "file.h"

#include <fcntl.h>

static struct rondo_file *file_create(struct hub *hub)
{
    struct rondo_file *file = sys.alloc(sizeof(*file));

    if (!file)
        return NULL;
    file->hub = hub;
    file->fd = -1;
    store_relaxed(&file->users, FILE_USER); /* Relaxed twice: not shared yet. */
    store_relaxed(&file->refs, 1);
    return file;
}

static void file_unref(struct rondo_file *file)
{
    /* Pairs with itself: the last one sees all that was done under the other reference. */
    if (sub_acq_rel(&file->refs, 1) == 1)
        sys.release(file);
}

int file_use(struct rondo_file *file)
{
    uint32_t users;

    if (!file)
        return -EINVAL;
    if (hub_is_forked(file->hub))
        return -ECHILD;
    users = load_relaxed(&file->users); /* Relaxed: the exchange validates it. */
    do {
        if (users & FILE_CLOSING)
            return -EBADF;
        /* Pairs with rondo_file_close(), and with the decrement in file_drop(). */
    } while (!cas_weak_acq_rel(&file->users, &users, users + FILE_USER));
    return 0;
}

void file_drop(struct rondo_file *file)
{
    uint32_t old;

    if (!file)
        return;
    /* Pairs with itself: the last one closes after all that was done with the descriptor. */
    old = sub_acq_rel(&file->users, FILE_USER);
    RONDO_ASSERT(old >= FILE_USER);
    if (old >= 2 * FILE_USER)
        return;
    if (old & FILE_WAITED) {
        operation_return(file->closer);
        return;
    }
    (void)sys.close(file->fd);
    file_unref(file);
}

/* ---- open ---- */

static void open_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static const struct op_kind open_op = {"open", open_complete};

static void open_undone(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct file_open *open = owner;

    (void)result; /* The descriptor is gone, whatever close(2) says. */
    (void)flags;
    operation_end(lane, &open->call.base, open->error);
}

static const struct op_kind open_undo_op = {"close", open_undone};

void file_open_fail(struct lane *lane, struct file_open *open, int fd, int error)
{
    /* The operation ends after the close, or the lane might end before it. */
    struct io_uring_sqe *sqe = lane_submit(lane, &open_undo_op, open, NULL);

    open->error = error;
    if (sqe)
        io_uring_prep_close(sqe, fd);
    else
        open_undone(lane, open, sys.close(fd), 0);
}

void file_open_succeed(struct lane *lane, struct file_open *open, int fd)
{
    struct operation *operation = &open->call.base;

    if (operation_is_cancelled(operation)) {
        file_open_fail(lane, open, fd, -ECANCELED);
        return;
    }
    open->made->fd = fd;
    operation->result.file = open->made;
    open->made = NULL;
    operation_end(lane, operation, 0);
}

static void open_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    if (result < 0)
        file_call_complete(lane, owner, result, flags);
    else
        file_open_succeed(lane, owner, result);
}

static void open_start(struct lane *lane, struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;
    struct io_uring_sqe *sqe = operation_submission(lane, &open_op, operation);

    if (sqe)
        io_uring_prep_openat(sqe, AT_FDCWD, call->paths[0], call->flags, call->mode);
}

void file_open_release(struct operation *operation)
{
    struct file_open *open = (struct file_open *)operation;

    sys.release(open->made);
    file_call_release(operation);
}

static const struct operation_kind open_kind = {
    .name = "open",
    .start = open_start,
    .cancel = operation_cancel_submission,
    .release = file_open_release,
};

int file_open_create(const struct operation_kind *kind, rondo_loop *loop, const char *path,
                     const struct rondo_request *request, struct file_open **ret_open)
{
    struct rondo_file *made = file_create((struct hub *)loop);
    struct file_call *call;
    int error;

    if (!made)
        return -ENOMEM;
    error = file_call_create(kind, loop, path, NULL, request, &call);
    if (error) {
        sys.release(made);
        return error;
    }
    *ret_open = (struct file_open *)call;
    (*ret_open)->made = made;
    return 0;
}

RONDO_PUBLIC int rondo_file_open(rondo_loop *loop, const char *path, int flags, mode_t mode,
                                 const struct rondo_request *request)
{
    struct file_open *open;
    int error = file_open_create(&open_kind, loop, path, request, &open);

    if (error)
        return error;
    open->call.flags = flags | O_CLOEXEC;
    open->call.mode = mode;
    operation_submit(&open->call.base);
    return 0;
}

RONDO_PUBLIC int rondo_file_adopt(rondo_loop *loop, int fd, rondo_file **ret_file)
{
    struct rondo_file *file;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error || !ret_file)
        return error ? error : -EINVAL;
    error = sys.descriptor_traits(fd);
    if (error < 0)
        return error;
    file = file_create(hub);
    if (!file)
        return -ENOMEM;
    file->fd = fd;
    *ret_file = file;
    return 0;
}

RONDO_PUBLIC int rondo_file_descriptor(const rondo_file *file)
{
    return file ? file->fd : -EINVAL;
}

/* ---- close ---- */

struct file_close {
    struct operation base;
    struct rondo_file *file;
    bool submitted;
};

RONDO_STATIC_ASSERT(sizeof(struct file_close) <= OPERATION_SIZE);

static void close_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct file_close *self = owner;

    (void)flags;
    file_unref(self->file); /* The descriptor's. */
    operation_end(lane, &self->base, result);
}

static const struct op_kind close_op = {"close", close_complete};

/* The last user is gone. */
static void close_returned(struct lane *lane, struct operation *operation)
{
    struct file_close *self = (struct file_close *)operation;
    struct io_uring_sqe *sqe;

    if (self->submitted)
        return;
    self->submitted = true;
    sqe = lane_submit(lane, &close_op, self, NULL);
    if (sqe)
        io_uring_prep_close(sqe, self->file->fd);
    else
        close_complete(lane, self, sys.close(self->file->fd), 0);
}

/* It waits no more; the last user closes. */
static void close_cancel(struct lane *lane, struct operation *operation)
{
    struct rondo_file *file = ((struct file_close *)operation)->file;
    uint32_t users = load_relaxed(&file->users); /* Relaxed: the exchange validates it. */

    do {
        if (users < FILE_USER)
            return; /* Too late: it closes. */
        /* Pairs with file_drop(). */
    } while (!cas_weak_acq_rel(&file->users, &users, users & ~(uint32_t)FILE_WAITED));
    operation_end(lane, operation, -ECANCELED);
}

static void close_release(struct operation *operation)
{
    file_unref(((struct file_close *)operation)->file);
}

static const struct operation_kind close_kind = {
    .name = "close",
    .cancel = close_cancel,
    .returned = close_returned,
    .release = close_release,
};

static void nobody_waits(const struct rondo_result *result, void *ctx)
{
    (void)result;
    (void)ctx;
}

/* Begin to wait, as the one who closes. */
static void close_wait(struct rondo_file *file, struct operation *operation)
{
    struct file_close *self = (struct file_close *)operation;

    self->file = file;
    file->closer = operation;
    (void)add_relaxed(&file->refs, 1); /* Relaxed: the descriptor's is there. */
    /* Pairs with file_drop(), which uses the operation then. */
    (void)or_acq_rel(&file->users, FILE_WAITED);
    operation_mark_started(operation);
    operation_submit(operation);
}

RONDO_PUBLIC int rondo_file_close(rondo_file *file, const struct rondo_request *request)
{
    struct rondo_request nobody = RONDO_REQUEST(.done = nobody_waits);
    struct operation *operation = NULL;
    int error;

    if (!file)
        return -EINVAL;
    if (hub_is_forked(file->hub))
        return -ECHILD;
    error = operation_create(&close_kind, file->hub, hub_file_lane(file->hub), NULL,
                             request ? request : &nobody, &operation);
    if (error && request)
        return error;
    /* Pairs with file_use(): from here on there are no new users. */
    if (or_acq_rel(&file->users, FILE_CLOSING) & FILE_CLOSING) {
        if (operation)
            operation_discard(operation);
        return -EALREADY;
    }
    if (!error)
        close_wait(file, operation);
    file_drop(file); /* The owner's use. */
    return 0;
}
