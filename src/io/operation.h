/* One operation of a user, with a deadline, a cancel and one end; see rondo/op.h.
 *
 * State word:   63        32 31          8 7      0
 *             +------------+-------------+--------+
 *             | generation | slab index  | flags  |
 *             +------------+-------------+--------+
 *
 *   any thread: create, submit --inbox--> lane: STARTED --ended--> OVER --> worker: done, freed
 *                                 \---CANCEL or TIMEOUT came before---^
 *
 * Who sets QUEUED first puts the operation into its lane's inbox; the lane takes QUEUED off, then
 * looks at the other flags. The end is one exchange from "not QUEUED" to OVER, after which nothing
 * reaches the lane any more. CANCEL and TIMEOUT exclude each other: the first one is the reason.
 *
 * Invariants: (1) kind->start is called once or never, kind->cancel once at most, after it; (2) the
 * lane's list holds the operation from its first request to its end; (3) it is alive while done has
 * not run, or its deadline's timer may.
 */
#ifndef RONDO_IO_OPERATION_H
#define RONDO_IO_OPERATION_H

#include "rondo/op.h"

#include "hub.h"

enum operation_flag {
    OPERATION_QUEUED = 1 << 0,
    OPERATION_CANCEL = 1 << 1,   /* the user, or the loop's end, wants it to end */
    OPERATION_TIMEOUT = 1 << 2,  /* its deadline does */
    OPERATION_STARTED = 1 << 3,  /* kind->start was called */
    OPERATION_RETURNED = 1 << 4, /* work that went on elsewhere is done */
    OPERATION_OVER = 1 << 5,
};

struct operation;

/* One row per kind of operation, beside its implementation. All but release: the lane's thread. */
struct operation_kind {
    const char *name;
    /* Begin. It ends by operation_end(), now or later. */
    void (*start)(struct lane *lane, struct operation *operation);
    /* End early if possible. NULL: a cancel comes too late once it has started. */
    void (*cancel)(struct lane *lane, struct operation *operation);
    /* After operation_return(): its work elsewhere is done. */
    void (*returned)(struct lane *lane, struct operation *operation);
    /* Worker, after done: give back what it owns. */
    void (*release)(struct operation *operation);
};

struct operation {
    struct runnable event; /* its end */
    struct lane_request request;
    struct lane_handle handle;
    _Atomic uint64_t state;
    _Atomic uint32_t refs;
    bool listed;
    bool ended;
    bool cancel_sent;
    const struct operation_kind *kind;
    struct lane *lane;
    struct strand *strand; /* with a reference, or NULL */
    rondo_done_fn *done;
    void *ctx;
    struct rondo_result result;
    rondo_handle *ret_handle; /* the caller's, until it is submitted */
    struct callback *timer;   /* until it is armed */
    rondo_handle timer_handle;
    uint64_t user_data; /* of what it has in the kernel */
};

/* Operations of all kinds share one slab: a kind's own struct begins with struct operation. */
enum { OPERATION_SIZE = 512 };

/* Any thread: a new operation on @lane, not begun, whose rest is zero. @strand: of the handle it
 * works on, or NULL. 0, -EINVAL (the request), -ENOMEM, -ESHUTDOWN. */
int operation_create(const struct operation_kind *kind, struct hub *hub, struct lane *lane,
                     struct strand *strand, const struct rondo_request *request,
                     struct operation **ret_operation);

/* Any thread: begin what was created. It may be over when this returns. */
void operation_submit(struct operation *operation);

/* Any thread, before submitting: it has begun elsewhere, so kind->start is not called, and a cancel
 * always goes to kind->cancel. */
void operation_mark_started(struct operation *operation);

/* Any thread, instead of submitting. */
void operation_discard(struct operation *operation);

/* Any thread, once, while it has started and not ended: calls kind->returned on the lane. */
void operation_return(struct operation *operation);

/* Lane thread: a submission for it, whose completions go to op->complete with the operation as
 * owner. NULL: no memory, and the operation has ended with that. */
struct io_uring_sqe *operation_submission(struct lane *lane, const struct op_kind *op,
                                          struct operation *operation);

/* Lane thread: ask the kernel to end what operation_submission() was asked for last. As
 * kind->cancel where that is all there is to do. */
void operation_cancel_submission(struct lane *lane, struct operation *operation);

/* Lane thread: whether the user or a deadline wants it to end. */
bool operation_is_cancelled(struct operation *operation);

/* Lane thread: it is over; @value as in struct rondo_result. */
void operation_end(struct lane *lane, struct operation *operation, int64_t value);

/* What rondo_cancel() does when @handle names an operation. */
int operation_cancel(rondo_handle handle);

/* Takes and drops a reference, for whoever looks at it after its end. */
void operation_ref(struct operation *operation);
void operation_unref(struct operation *operation);

#endif
