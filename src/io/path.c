/* Operations on paths; see rondo/file.h. They copy their paths and run on the lane for files.
 *
 * Public functions: any thread. start: the lane's thread.
 */
#include "file.h"

#include <fcntl.h>

static const struct op_kind path_op = {"path", file_call_complete};

/* Each verb prepares its submission; the rest is the same for all. */
#define PATH_KIND(verb)                                                             \
    static void verb##_start(struct lane *lane, struct operation *operation)        \
    {                                                                               \
        struct io_uring_sqe *sqe = operation_submission(lane, &path_op, operation); \
        if (sqe)                                                                    \
            verb##_prepare(sqe, (struct file_call *)operation);                     \
    }                                                                               \
    static const struct operation_kind verb##_kind = {                              \
        .name = #verb,                                                              \
        .start = verb##_start,                                                      \
        .cancel = operation_cancel_submission,                                      \
        .release = file_call_release,                                               \
    }

static void stat_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_statx(sqe, AT_FDCWD, call->paths[0], call->flags, STATX_BASIC_STATS | STATX_BTIME,
                        call->stat);
}
PATH_KIND(stat);

static void rename_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_renameat(sqe, AT_FDCWD, call->paths[0], AT_FDCWD, call->paths[1], 0);
}
PATH_KIND(rename);

static void unlink_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_unlinkat(sqe, AT_FDCWD, call->paths[0], call->flags);
}
PATH_KIND(unlink);

static void mkdir_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_mkdirat(sqe, AT_FDCWD, call->paths[0], call->mode);
}
PATH_KIND(mkdir);

static void symlink_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_symlinkat(sqe, call->paths[0], AT_FDCWD, call->paths[1]);
}
PATH_KIND(symlink);

static void link_prepare(struct io_uring_sqe *sqe, struct file_call *call)
{
    io_uring_prep_linkat(sqe, AT_FDCWD, call->paths[0], AT_FDCWD, call->paths[1], 0);
}
PATH_KIND(link);

RONDO_PUBLIC int rondo_path_stat(rondo_loop *loop, const char *path, int flags,
                                 struct statx *ret_stat, const struct rondo_request *request)
{
    struct file_call *call;
    int error = !ret_stat || (flags & ~AT_SYMLINK_NOFOLLOW) ? -EINVAL : 0;

    if (!error)
        error = file_call_create(&stat_kind, loop, path, NULL, request, &call);
    if (error)
        return error;
    call->flags = flags;
    call->stat = ret_stat;
    operation_submit(&call->base);
    return 0;
}

/* With two paths and no more arguments. */
static int submit_two(const struct operation_kind *kind, rondo_loop *loop, const char *first,
                      const char *second, const struct rondo_request *request)
{
    struct file_call *call;
    int error = second ? file_call_create(kind, loop, first, second, request, &call) : -EINVAL;

    if (!error)
        operation_submit(&call->base);
    return error;
}

RONDO_PUBLIC int rondo_path_rename(rondo_loop *loop, const char *from, const char *to,
                                   const struct rondo_request *request)
{
    return submit_two(&rename_kind, loop, from, to, request);
}

RONDO_PUBLIC int rondo_path_symlink(rondo_loop *loop, const char *target, const char *path,
                                    const struct rondo_request *request)
{
    return submit_two(&symlink_kind, loop, target, path, request);
}

RONDO_PUBLIC int rondo_path_link(rondo_loop *loop, const char *from, const char *to,
                                 const struct rondo_request *request)
{
    return submit_two(&link_kind, loop, from, to, request);
}

/* With one path, and flags or a mode. */
static int submit_one(const struct operation_kind *kind, rondo_loop *loop, const char *path,
                      int flags, mode_t mode, const struct rondo_request *request)
{
    struct file_call *call;
    int error = file_call_create(kind, loop, path, NULL, request, &call);

    if (error)
        return error;
    call->flags = flags;
    call->mode = mode;
    operation_submit(&call->base);
    return 0;
}

RONDO_PUBLIC int rondo_path_unlink(rondo_loop *loop, const char *path,
                                   const struct rondo_request *request)
{
    return submit_one(&unlink_kind, loop, path, 0, 0, request);
}

RONDO_PUBLIC int rondo_path_rmdir(rondo_loop *loop, const char *path,
                                  const struct rondo_request *request)
{
    return submit_one(&unlink_kind, loop, path, AT_REMOVEDIR, 0, request);
}

RONDO_PUBLIC int rondo_path_mkdir(rondo_loop *loop, const char *path, mode_t mode,
                                  const struct rondo_request *request)
{
    return submit_one(&mkdir_kind, loop, path, 0, mode, request);
}
