/* Operations that are one system call with one end; see file.h.
 *
 * create: any thread. complete: the lane's thread. release: a worker.
 */
#include "file.h"

#include <limits.h>
#include <string.h>

static int path_copy(const char *path, char **ret_path)
{
    size_t size = strnlen(path, PATH_MAX) + 1;
    char *copy;

    if (size > PATH_MAX)
        return -ENAMETOOLONG;
    copy = sys.alloc_raw(size);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, path, size);
    *ret_path = copy;
    return 0;
}

int file_call_create(const struct operation_kind *kind, rondo_loop *loop, const char *path,
                     const char *second, const struct rondo_request *request,
                     struct file_call **ret_call)
{
    struct operation *operation;
    struct file_call *call;
    struct hub *hub;
    char *paths[2] = {NULL, NULL};
    int error = hub_of(loop, &hub);

    if (!error && (!path || !path[0] || (second && !second[0])))
        error = -EINVAL;
    if (!error)
        error = path_copy(path, &paths[0]);
    if (!error && second)
        error = path_copy(second, &paths[1]);
    if (!error)
        error = operation_create(kind, hub, hub_file_lane(hub), NULL, request, &operation);
    if (error) {
        sys.release(paths[0]);
        sys.release(paths[1]);
        return error;
    }
    call = (struct file_call *)operation;
    call->paths[0] = paths[0];
    call->paths[1] = paths[1];
    *ret_call = call;
    return 0;
}

void file_call_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct operation *operation = owner;
    bool is_cancelled = operation_is_cancelled(operation);

    (void)flags;
    if (result == -EINTR && !is_cancelled)
        operation->kind->start(lane, operation);
    else
        operation_end(lane, operation, result == -EINTR ? -ECANCELED : result);
}

void file_call_release(struct operation *operation)
{
    struct file_call *call = (struct file_call *)operation;

    sys.release(call->paths[0]);
    sys.release(call->paths[1]);
    file_drop(call->file);
}
