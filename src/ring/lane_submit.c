/* What a lane gives to the kernel and takes from it; see lane.h. Lane thread only.
 *
 * Nothing may enter the kernel between taking a submission and preparing it.
 */
#include "lane.h"

#include <errno.h>
#include <string.h>

enum { LANE_BUSY_RETRY_MAX = 1000 }; /* tries, 1 ms apart, while the kernel is out of memory */

/* What one enter may bring when the ring of completions is small, copied aside. */
uint32_t lane_reap(struct lane *lane)
{
    if (lane->reaped_begin == lane->reaped_count)
        lane->reaped_begin = lane->reaped_count = 0;
    if (lane->reaped_capacity - lane->reaped_count < LANE_REAP_COUNT) {
        uint32_t capacity = lane->reaped_capacity * 2;
        struct completion *larger = sys.alloc(capacity * sizeof(*larger));
        RONDO_ASSERT(larger); /* Without room, completions could only be lost. */
        memcpy(larger, lane->reaped, lane->reaped_count * sizeof(*larger));
        sys.release(lane->reaped);
        lane->reaped = larger;
        lane->reaped_capacity = capacity;
    }
    uint32_t count = ring_reap(&lane->ring, lane->reaped + lane->reaped_count, LANE_REAP_COUNT);
    lane->reaped_count += count;
    count_add(&lane->completion_count, count);
    return count;
}

static void enter(struct lane *lane, uint32_t wait_count, uint64_t rest_ns)
{
    uint32_t before = ring_unsubmitted(&lane->ring);

    if (ring_has_overflow(&lane->ring))
        count_add(&lane->overflow_count, 1);
    for (uint32_t tries = 0;; tries++) {
        int result =
            rest_ns > 0 ? ring_rest(&lane->ring, rest_ns) : ring_enter(&lane->ring, wait_count);
        /* When busy the kernel wants room for completions first. */
        bool is_short = result == -EAGAIN || result == -ENOMEM;
        if ((result == -EBUSY && lane_reap(lane) == 0) || is_short)
            clock_nap_ns(NS_PER_MS);
        if (ring_unsubmitted(&lane->ring) == 0)
            break;
        RONDO_ASSERT(tries < LANE_BUSY_RETRY_MAX);
        wait_count = 0;
        rest_ns = 0;
    }
    count_add(&lane->submission_count, before);
    lane->gather_count = 0;
}

void lane_enter(struct lane *lane, uint32_t wait_count)
{
    enter(lane, wait_count, 0);
}

void lane_rest(struct lane *lane, uint64_t rest_ns)
{
    enter(lane, 0, rest_ns);
}

struct io_uring_sqe *lane_submit_untracked(struct lane *lane)
{
    struct io_uring_sqe *sqe = ring_submission(&lane->ring);

    if (!sqe) {
        lane_enter(lane, 0);
        sqe = ring_submission(&lane->ring);
        RONDO_ASSERT(sqe);
    }
    sqe->user_data = OP_UNTRACKED;
    return sqe;
}

struct io_uring_sqe *lane_submit(struct lane *lane, const struct op_kind *kind, void *owner,
                                 uint64_t *ret_user_data)
{
    uint64_t user_data;

    if (unlikely(lane->given_up) || !op_take(&lane->ops, kind, owner, &user_data))
        return NULL;
    struct io_uring_sqe *sqe = lane_submit_untracked(lane);
    sqe->user_data = user_data;
    if (ret_user_data)
        *ret_user_data = user_data;
    return sqe;
}

void lane_cancel(struct lane *lane, uint64_t target)
{
    /* Found or not, the operation's own completion is its end. */
    io_uring_prep_cancel64(lane_submit_untracked(lane), target, 0);
}

void lane_gather_reserve(struct lane *lane)
{
    if (lane->gather_count == LANE_GATHER_COUNT || ring_room(&lane->ring) == 0)
        lane_enter(lane, 0);
}

struct lane_gather *lane_gather(struct lane *lane)
{
    RONDO_ASSERT(lane->gather_count < LANE_GATHER_COUNT);
    struct lane_gather *gather = &lane->gathers[lane->gather_count++];
    memset(&gather->header, 0, sizeof(gather->header));
    gather->header.msg_iov = gather->parts;
    return gather;
}
