/* What every kind of I/O needs of its loop: the first member of struct rondo_loop.
 *
 * Written when the loop is created, read by any thread; but for the signals.
 */
#ifndef RONDO_IO_HUB_H
#define RONDO_IO_HUB_H

#include "rondo/loop.h"

#include "blocking.h"
#include "fork.h"
#include "lane.h"
#include "lock.h"
#include "scheduler.h"

#include <errno.h>

struct signal_source;

struct hub {
    struct lane *lanes; /* for the network; the one behind the last is for files */
    uint32_t lane_count;
    uint32_t fork_generation;
    struct pool *pool;
    struct life *life;
    struct scheduler *scheduler;
    struct blocking *blocking;
    uint64_t write_queue_max;
    uint64_t shed_after_ns;
    _Atomic uint32_t next_lane;
    struct lock orphans_lock;
    struct lane_handle orphans; /* streams that are closed and that their users still have */
    struct lock signal_lock;
    struct signal_source *signals; /* NULL while nobody wants any; under the lock */
};

static inline bool hub_is_forked(const struct hub *hub)
{
    /* Relaxed: it changes in fork() only, while one thread exists. */
    return unlikely(hub->fork_generation != load_relaxed(&fork_generation));
}

/* 0 and the hub of @loop, -EINVAL for NULL, or -ECHILD in the child of a fork. */
static inline int hub_of(rondo_loop *loop, struct hub **ret_hub)
{
    *ret_hub = (struct hub *)loop;
    if (!loop)
        return -EINVAL;
    return hub_is_forked(*ret_hub) ? -ECHILD : 0;
}

/* hub_of() whose error has a text. */
int hub_explained(rondo_loop *loop, struct hub **ret_hub);

/* The loop is freed: what users still have of it goes too. */
void hub_free_orphans(struct hub *hub);

static inline void hub_orphan_add(struct hub *hub, struct lane_handle *handle)
{
    lock_acquire(&hub->orphans_lock);
    list_append(&hub->orphans, handle);
    lock_release(&hub->orphans_lock);
}

static inline void hub_orphan_remove(struct hub *hub, struct lane_handle *handle)
{
    lock_acquire(&hub->orphans_lock);
    list_remove(handle);
    lock_release(&hub->orphans_lock);
}

/* Lanes take new handles in turn. */
static inline struct lane *hub_lane(struct hub *hub)
{
    /* Relaxed: any spread will do. */
    return &hub->lanes[add_relaxed(&hub->next_lane, 1) % hub->lane_count];
}

/* File work, which the kernel often does inside the submission, has a lane of its own. */
static inline struct lane *hub_file_lane(struct hub *hub)
{
    return &hub->lanes[hub->lane_count];
}

#endif
