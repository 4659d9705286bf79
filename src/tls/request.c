/* Operations with a request: their queues, their end, their cancel; see connection.h.
 *
 * Public functions and on_cancelled(): any thread. Ending: the strand of the connection.
 */
#include "connection.h"

#include <errno.h>

/* ---- lists ---- */

void operations_append(struct operations *list, struct operation *operation)
{
    operation->next = NULL;
    if (list->first)
        list->last->next = operation;
    else
        list->first = operation;
    list->last = operation;
}

struct operation *operations_take(struct operations *list)
{
    struct operation *operation = list->first;

    if (operation)
        list->first = operation->next;
    return operation;
}

struct operation *operation_waiting(struct rondo_tls *tls, enum operation_kind kind)
{
    tls_lock(tls);
    struct operation *operation = tls->waiting[kind].first;
    tls_unlock(tls);
    return operation;
}

struct operation *operation_take_waiting(struct rondo_tls *tls, enum operation_kind kind)
{
    tls_lock(tls);
    struct operation *operation = operations_take(&tls->waiting[kind]);
    tls_unlock(tls);
    return operation;
}

/* ---- ending ---- */

/* Where the user wants it, after the future has ended. */
static void on_done(const struct rondo_result *result, void *ctx)
{
    struct operation *operation = ctx;

    operation->done(result, operation->ctx);
    rondo_tls_unref(operation->tls);
    OPENSSL_free(operation);
}

void operation_end(struct operation *operation, int64_t value)
{
    struct rondo_result result = {.value = value, .bytes = operation->moved};

    if (operation->future)
        rondo_future_set_result(operation->future, &result);
    else
        OPENSSL_free(operation);
}

/* Moves those that were cancelled to @ret_cancelled. Lock held. */
static void remove_cancelled(struct operations *list, struct operations *ret_cancelled)
{
    struct operations kept = {0};
    struct operation *operation;

    while ((operation = operations_take(list)))
        operations_append(operation->cancelled ? ret_cancelled : &kept, operation);
    *list = kept;
}

void operations_end_cancelled(struct rondo_tls *tls)
{
    struct operations cancelled = {0};
    struct operation *operation;

    tls_lock(tls);
    if (tls->has_cancelled) {
        tls->has_cancelled = false;
        for (int kind = 0; kind < OPERATION_KINDS; kind++)
            remove_cancelled(&tls->waiting[kind], &cancelled);
        remove_cancelled(&tls->unwritten, &cancelled);
    }
    /* What is not encrypted yet will not be written; what is, is counted when it is written. */
    for (operation = cancelled.first; operation; operation = operation->next) {
        if (operation->kind == OPERATION_WRITE)
            queue_shrink(tls, operation->size - operation->moved);
    }
    tls_unlock(tls);
    while ((operation = operations_take(&cancelled)))
        operation_end(operation, -ECANCELED);
}

/* On a worker, at any time between creation and end. If the loop takes no post, it is stopping, and
 * the stream's closed event ends the operation. */
static void on_cancelled(void *ctx)
{
    struct operation *operation = ctx;
    struct rondo_tls *tls = operation->tls;

    tls_lock(tls);
    operation->cancelled = true;
    tls->has_cancelled = true;
    (void)engine_kick(tls);
    tls_unlock(tls);
}

/* ---- beginning ---- */

/* Why @operation cannot be queued now. Lock held. */
static int check_queue(const struct rondo_tls *tls, const struct operation *operation)
{
    bool closes = tls->is_ended || (tls->wishes & (TLS_WISH_CLOSE | TLS_WISH_ABORT));

    if (operation->kind == OPERATION_HANDSHAKE)
        return tls->is_ended ? -EBADF : 0;
    if (closes)
        return -EBADF;
    if (operation->kind == OPERATION_READ)
        return 0;
    if (tls->wishes & TLS_WISH_SHUTDOWN)
        return -EPIPE;
    if (operation->size > tls->queued_max || tls->queued > tls->queued_max - operation->size)
        return -ENOBUFS;
    return 0;
}

static int queue(struct rondo_tls *tls, struct operation *operation,
                 const struct rondo_request *request)
{
    struct rondo_request inner = *request;

    inner.done = on_done;
    inner.ctx = operation;
    if (!inner.strand)
        inner.strand = tls->strand;
    tls_lock(tls);
    int error = check_queue(tls, operation);
    if (!error)
        error = engine_kick(tls);
    /* Cancelled at once, it waits for the lock in on_cancelled(). */
    if (!error)
        error = rondo_future_create(rondo_strand_loop(tls->strand), &inner, on_cancelled, NULL,
                                    operation, &operation->future);
    if (!error) {
        operations_append(&tls->waiting[operation->kind], operation);
        if (operation->kind == OPERATION_WRITE)
            queue_grow(tls, operation->size);
    }
    tls_unlock(tls);
    return error;
}

static int begin(struct rondo_tls *tls, enum operation_kind kind, const void *data, size_t size,
                 const struct rondo_request *request)
{
    if (!tls || !request || request->size != sizeof(*request) || !request->done)
        return -EINVAL;
    struct operation *operation = OPENSSL_zalloc(sizeof(*operation));
    if (!operation)
        return -ENOMEM;
    operation->kind = kind;
    operation->tls = rondo_tls_ref(tls);
    operation->done = request->done;
    operation->ctx = request->ctx;
    operation->data = (unsigned char *)(uintptr_t)data;
    operation->size = size;
    int error = queue(tls, operation, request);
    if (error) {
        rondo_tls_unref(tls);
        OPENSSL_free(operation);
    }
    return error;
}

TLS_PUBLIC int rondo_tls_handshake(rondo_tls *tls, const struct rondo_request *request)
{
    return begin(tls, OPERATION_HANDSHAKE, NULL, 0, request);
}

TLS_PUBLIC int rondo_tls_read(rondo_tls *tls, void *buffer, size_t size,
                              const struct rondo_request *request)
{
    if (!buffer || size == 0)
        return -EINVAL;
    if (tls && tls->handlers && tls->handlers->read)
        return -EALREADY;
    return begin(tls, OPERATION_READ, buffer, size, request);
}

TLS_PUBLIC int rondo_tls_write_all(rondo_tls *tls, const void *data, size_t size,
                                   const struct rondo_request *request)
{
    if (!data || size == 0)
        return -EINVAL;
    return begin(tls, OPERATION_WRITE, data, size, request);
}
