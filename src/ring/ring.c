/* The kernel's io_uring behind ring.h.
 *
 * A ring is made by the controller, disabled, so that an error is reported where the loop is
 * created; the thread that enables it becomes its single issuer. The ladder in ring_init() drops
 * one feature at a time for kernels that refuse it, and records what was dropped.
 */
#include "ring.h"

#include "atomics.h"
#include "check.h"
#include "error.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
    uint32_t feature;
    uint32_t setup_flag;
} ladder[] = {
    {RING_DEFER_TASKRUN, IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG},
    {RING_SINGLE_ISSUER, IORING_SETUP_SINGLE_ISSUER},
    {RING_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN},
    {RING_SUBMIT_ALL, IORING_SETUP_SUBMIT_ALL},
};

/* A ring may begin at the address where another thread's has ended. The kernel orders the two, but
 * inside liburing, where ThreadSanitizer does not see it; this word says it once more. */
static _Atomic uint32_t mapping_order;

static uint32_t setup_flags(uint32_t features)
{
    uint32_t flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;

    /* Cooperative task work is the second best form of the deferred one. */
    if (features & RING_DEFER_TASKRUN)
        features &= ~(uint32_t)RING_COOP_TASKRUN;
    for (uint32_t i = 0; i < ARRAY_SIZE(ladder); i++)
        if (features & ladder[i].feature)
            flags |= ladder[i].setup_flag;
    return flags;
}

static int setup(struct ring *ring, const struct ring_options *options, uint32_t features)
{
    struct io_uring_params params = {
        .flags = setup_flags(features),
        .cq_entries = options->completions,
    };
    int error = io_uring_queue_init_params(options->submissions, &ring->uring, &params);

    if (error)
        return error;
    ring->features = features;
    if (params.features & IORING_FEAT_NO_IOWAIT) {
        ring->features |= RING_NO_IOWAIT;
        ring->enter_flags |= IORING_ENTER_NO_IOWAIT;
    } else {
        ring->features_dropped |= RING_NO_IOWAIT;
    }
    ring->has_min_wait = (params.features & IORING_FEAT_MIN_TIMEOUT) != 0;
    return 0;
}

int ring_explain(int error)
{
    switch (error) {
    case -ENOSYS:
        return error_set(error,
                         "io_uring is missing in this kernel: rondo needs Linux 6.1 or later "
                         "built with CONFIG_IO_URING");
    case -EPERM:
    case -EACCES:
        return error_set(-EPERM,
                         "io_uring is forbidden here: check `sysctl kernel.io_uring_disabled` "
                         "(0 allows it, 1 only to root and the group of "
                         "kernel.io_uring_group), and in a container allow the io_uring_* "
                         "system calls in its seccomp profile");
    case -ENOMEM:
        return error_set(error,
                         "no memory for an io_uring: raise `ulimit -l` (locked memory) or the "
                         "memory limit of the container, or lower the options `submissions`, "
                         "`completions`, `buffers`, `buffer_size` and `lanes`");
    case -EMFILE:
    case -ENFILE:
        return error_set(error, "no descriptor left for an io_uring: raise `ulimit -n`");
    case -EINVAL:
        return error_set(-ENOSYS,
                         "this kernel's io_uring is too old: rondo needs Linux 6.1 or later");
    default:
        return error_set(error, "io_uring failed: %s", rondo_error_name(error));
    }
}

int ring_init(struct ring *ring, const struct ring_options *options)
{
    uint32_t features =
        RING_DEFER_TASKRUN | RING_SINGLE_ISSUER | RING_COOP_TASKRUN | RING_SUBMIT_ALL;
    int error;

    *ring = (struct ring){.disabled = true};
    error = setup(ring, options, features);
    for (uint32_t i = 0; error == -EINVAL && i < ARRAY_SIZE(ladder); i++) {
        features &= ~ladder[i].feature;
        ring->features_dropped |= ladder[i].feature;
        error = setup(ring, options, features);
    }
    if (error)
        return ring_explain(error);
    (void)add_acq_rel(&mapping_order, 1); /* Pairs with ring_fini() of an earlier ring. */
    (void)io_uring_ring_dontfork(&ring->uring);
    return 0;
}

void ring_fini(struct ring *ring)
{
    (void)add_acq_rel(&mapping_order, 1); /* Pairs with ring_init() of a later ring. */
    io_uring_queue_exit(&ring->uring);
}

void ring_abandon(struct ring *ring)
{
    /* The mapping did not come along (ring_dontfork); only the descriptor did. */
    (void)sys.close(ring->uring.ring_fd);
}

int ring_enable(struct ring *ring)
{
    int error = sys.ring_register(ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

    if (error)
        return ring_explain(error);
    ring->disabled = false;
    /* A registered descriptor saves its look-up at each enter; without it all works the same. */
    if (io_uring_register_ring_fd(&ring->uring) == 1)
        ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
    return 0;
}

struct io_uring_sqe *ring_submission(struct ring *ring)
{
    return io_uring_get_sqe(&ring->uring);
}

uint32_t ring_room(struct ring *ring)
{
    return io_uring_sq_space_left(&ring->uring);
}

uint32_t ring_unsubmitted(struct ring *ring)
{
    return io_uring_sq_ready(&ring->uring);
}

/* Show the filled submissions to the kernel. */
static void publish(struct io_uring_sq *sq)
{
    if (sq->sqe_head == sq->sqe_tail)
        return;
    for (unsigned i = sq->sqe_head; sq->array && i != sq->sqe_tail; i++)
        sq->array[i & sq->ring_mask] = i & sq->ring_mask;
    sq->sqe_head = sq->sqe_tail;
    /* Pairs with the kernel's acquire of the tail. */
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
}

static int enter_result(int result)
{
    switch (result) {
    case -ETIME: /* The rest, or the shortest wait, is over. */
        return 0;
    case -EINTR:  /* A signal, a debugger: nothing was lost. */
    case -EAGAIN: /* No memory for a request. */
    case -ENOMEM:
    case -EBUSY: /* The completion ring is full. */
        return result;
    default:
        /* Among the rest is -EBADR, a completion the kernel had to drop: exactly once is gone. */
        RONDO_ASSERT(result >= 0);
        return 0;
    }
}

/* @wait: how long, or NULL. */
static int enter(struct ring *ring, uint32_t wait_count, struct io_uring_getevents_arg *wait)
{
    struct io_uring *uring = &ring->uring;
    int fd =
        ring->enter_flags & IORING_ENTER_REGISTERED_RING ? uring->enter_ring_fd : uring->ring_fd;
    unsigned flags = ring->enter_flags | IORING_ENTER_GETEVENTS;

    publish(&uring->sq);
    if (wait)
        flags |= IORING_ENTER_EXT_ARG;
    return enter_result(io_uring_enter2((unsigned)fd, io_uring_sq_ready(uring), wait_count, flags,
                                        (sigset_t *)wait, wait ? sizeof(*wait) : 0));
}

int ring_enter(struct ring *ring, uint32_t wait_count)
{
    /* Without a longest wait the shortest one would end in nothing. The member that liburing 2.3
     * calls pad is the shortest, in microseconds. */
    struct __kernel_timespec longest = {.tv_sec = INT32_MAX};
    struct io_uring_getevents_arg wait = {.pad = ring->min_wait_us,
                                          .ts = (uint64_t)(uintptr_t)&longest};

    if (wait_count <= 1 || ring->min_wait_us == 0)
        return enter(ring, wait_count, NULL);
    return ring->has_min_wait ? enter(ring, wait_count, &wait) : enter(ring, 1, NULL);
}

int ring_rest(struct ring *ring, uint64_t rest_ns)
{
    struct __kernel_timespec rest = {.tv_nsec = (int64_t)rest_ns};
    struct io_uring_getevents_arg wait = {.ts = (uint64_t)(uintptr_t)&rest};

    return enter(ring, RING_REST_COUNT, &wait);
}

bool ring_files_register(struct ring *ring, uint32_t count)
{
    /* NO_IOWAIT came with 6.15: later than the change that matters here. */
    return (ring->features & RING_NO_IOWAIT) &&
           io_uring_register_files_sparse(&ring->uring, count) == 0;
}

int ring_file_set(struct ring *ring, uint32_t slot, int fd)
{
    int result = io_uring_register_files_update(&ring->uring, slot, &fd, 1);

    return result < 0 ? result : 0;
}

bool ring_buffers_register(struct ring *ring, uint32_t count)
{
    return io_uring_register_buffers_sparse(&ring->uring, count) == 0;
}

int ring_buffer_set(struct ring *ring, uint32_t slot, void *memory, size_t size)
{
    struct iovec buffer = {memory, size};
    int result = io_uring_register_buffers_update_tag(&ring->uring, slot, &buffer, NULL, 1);

    return result < 0 ? result : 0;
}

void ring_limit_workers(struct ring *ring, uint32_t files, uint32_t others)
{
    unsigned limits[] = {files, others};

    /* The kernel's own limits are only higher. */
    (void)io_uring_register_iowq_max_workers(&ring->uring, limits);
}

uint32_t ring_reap(struct ring *ring, struct completion *ret_completions, uint32_t count)
{
    struct io_uring_cqe *cqe;
    uint32_t reaped = 0;
    unsigned head;

    io_uring_for_each_cqe (&ring->uring, head, cqe) {
        if (reaped == count)
            break;
        ret_completions[reaped++] = (struct completion){cqe->user_data, cqe->res, cqe->flags};
    }
    io_uring_cq_advance(&ring->uring, reaped);
    return reaped;
}

bool ring_has_task_work(struct ring *ring)
{
    return (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

bool ring_has_overflow(struct ring *ring)
{
    return io_uring_cq_has_overflow(&ring->uring);
}
