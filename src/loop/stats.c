/* Numbers of a running loop, gathered from their single writers. Any thread. */
#include "loop.h"

#include "rondo/version.h"

#include <errno.h>

RONDO_PUBLIC const char *rondo_version(void)
{
    return RONDO_VERSION_STRING;
}

/* All loads here are relaxed: a snapshot of counters, read one by one. */
static void add_pool(struct rondo_loop_stats *stats, struct pool *pool)
{
    stats->workers = load_relaxed(&pool->alive_count);
    stats->workers_parked = parker_idle_count(&pool->parker);
    stats->workers_grown = load_relaxed(&pool->grown_count);
    stats->workers_retired = load_relaxed(&pool->retired_count);
    stats->ready_depth = pool_ready_depth(pool);
    stats->wakes = load_relaxed(&pool->wake_count);
    for (uint32_t i = 0; i < load_acquire(&pool->slot_count); i++) { /* Pairs with growth. */
        struct worker *worker = pool_worker(pool, i);
        stats->runs += load_relaxed(&worker->runs);
        stats->parks += load_relaxed(&worker->parks);
    }
    stats->overloads = load_relaxed(&pool->overload.count);
    stats->overloaded = overload_is_on(&pool->overload);
    stats->ready_age_ns = load_relaxed(&pool->overload.age_ns);
    stats->ready_age_max_ns = load_relaxed(&pool->overload.age_max_ns);
}

static void add_lane(struct rondo_loop_stats *stats, struct lane *lane)
{
    stats->lane_wakes += load_relaxed(&lane->wake_count);
    stats->submissions += load_relaxed(&lane->submission_count);
    stats->completions += load_relaxed(&lane->completion_count);
    stats->completions_stale += load_relaxed(&lane->stale_count);
    stats->ring_overflows += load_relaxed(&lane->overflow_count);
    stats->buffers += load_relaxed(&lane->buffer_count);
    stats->buffers_exhausted += load_relaxed(&lane->exhausted_count);
    stats->accepts_paused += load_relaxed(&lane->accept_pause_count);
    stats->reads_paused += load_relaxed(&lane->read_pause_count);
    stats->accepts_paused_overload += load_relaxed(&lane->overload_accept_pause_count);
    stats->reads_paused_overload += load_relaxed(&lane->overload_read_pause_count);
    stats->connections_shed += load_relaxed(&lane->shed_count);
    stats->bytes_received += load_relaxed(&lane->received_bytes);
    stats->bytes_sent += load_relaxed(&lane->sent_bytes);
    stats->zero_copy_sends += load_relaxed(&lane->zero_copy_count);
    stats->zero_copy_copied += load_relaxed(&lane->zero_copy_copied_count);
    stats->datagrams_received += load_relaxed(&lane->received_datagrams);
    stats->datagrams_sent += load_relaxed(&lane->sent_datagrams);
    stats->segmentations_refused += load_relaxed(&lane->segment_refusal_count);
    stats->setup_flags_dropped |= lane->ring.features_dropped;
}

RONDO_PUBLIC int rondo_loop_stats(rondo_loop *loop, struct rondo_loop_stats *stats)
{
    if (!loop || !stats || stats->size != sizeof(*stats))
        return -EINVAL;
    *stats = (struct rondo_loop_stats){.size = sizeof(*stats)};
    add_pool(stats, &loop->pool);
    stats->timers_armed = load_relaxed(&loop->scheduler.armed_count);
    stats->timers_fired = load_relaxed(&loop->scheduler.fired_count);
    stats->scheduler_wakes = load_relaxed(&loop->scheduler.wake_count);
    stats->connections = load_relaxed(&loop->life.connections);
    stats->connections_total = load_relaxed(&loop->life.connections_total);
    stats->blocking_threads = blocking_thread_count(loop->hub.blocking);
    stats->setup_flags_dropped = loop->scheduler.ring.features_dropped;
    for (uint32_t i = 0; i < loop->lanes_ready; i++)
        add_lane(stats, &loop->lanes[i]);
    return 0;
}
