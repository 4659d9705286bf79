/* Measuring the age of ready work, and deciding what is too old; see overload.h. */
#include "overload.h"

#include "pool.h"

#include <errno.h>

enum { OVERLOAD_LOOKS = 4 }; /* in the time that is too long */

int overload_init(struct overload *overload, const struct overload_options *options,
                  uint32_t max_workers)
{
    *overload = (struct overload){.options = *options};
    overload->locals = sys.alloc(max_workers * sizeof(*overload->locals));
    return overload->locals ? 0 : -ENOMEM;
}

void overload_fini(struct overload *overload)
{
    sys.release(overload->locals);
    overload->locals = NULL;
}

uint64_t overload_period_ns(const struct overload *overload, uint64_t watch_period_ns)
{
    uint64_t period_ns = overload->options.target_ns / OVERLOAD_LOOKS;

    return period_ns > 0 && period_ns < watch_period_ns ? period_ns : watch_period_ns;
}

/* What the head of a worker's own queue had waited before it came there. */
static uint64_t carried_ns(struct worker *worker, uint32_t head)
{
    uint64_t share = load_relaxed(&worker->share); /* Relaxed: one word that stands for itself. */
    uint32_t left = (uint32_t)share - head;

    return left > 0 && left <= LOCAL_QUEUE_SIZE ? (share >> 32) * NS_PER_US : 0;
}

static uint64_t local_look(struct overload_local *local, struct worker *worker, uint64_t now_ns)
{
    /* Relaxed twice: samples. The head first: what is waiting is never too much by a wrap. */
    uint32_t head = load_relaxed(&worker->local.head);
    uint32_t waiting = load_relaxed(&worker->local.tail) - head;

    local->taken += head - local->head;
    local->head = head;
    uint64_t age_ns = age_look(&local->age, local->taken, waiting, now_ns);
    return waiting > 0 ? age_ns + carried_ns(worker, head) : 0;
}

static void publish(_Atomic uint64_t *number, uint64_t value)
{
    /* Relaxed twice: this thread alone writes it. Only where it changes: others read it often. */
    if (load_relaxed(number) != value)
        store_relaxed(number, value);
}

static uint64_t measure(struct pool *pool, uint64_t now_ns)
{
    struct overload *overload = &pool->overload;
    uint32_t slot_count = load_relaxed(&pool->slot_count); /* Relaxed: this thread writes it. */
    /* The depth first: what came between the two counts as taken, not as waiting for long. */
    uint64_t depth = ready_queue_depth(&pool->ready);
    uint64_t pushed = ready_queue_pushed(&pool->ready);
    uint64_t oldest_ns = age_look(&overload->shared, pushed - depth, depth, now_ns);

    publish(&overload->shared_age_ns, oldest_ns);
    for (uint32_t i = 0; i < slot_count; i++) {
        uint64_t age_ns = local_look(&overload->locals[i], pool_worker(pool, i), now_ns);
        if (age_ns > oldest_ns)
            oldest_ns = age_ns;
    }
    publish(&overload->age_ns, oldest_ns);
    if (oldest_ns > load_relaxed(&overload->age_max_ns)) /* Relaxed: written here only. */
        store_relaxed(&overload->age_max_ns, oldest_ns);
    return oldest_ns;
}

void overload_look(struct pool *pool, uint64_t now_ns)
{
    struct overload *overload = &pool->overload;
    uint64_t target_ns = overload->options.target_ns;
    uint64_t age_ns = measure(pool, now_ns);
    bool is_on = overload_is_on(overload);

    if (target_ns == 0)
        return;
    if (is_on ? age_ns > target_ns / 2 : age_ns <= target_ns) {
        overload->since_ns = 0;
        return;
    }
    if (overload->since_ns == 0)
        overload->since_ns = now_ns;
    if (now_ns - overload->since_ns < overload->options.after_ns)
        return;
    overload->since_ns = 0;
    store_relaxed(&overload->is_on, !is_on); /* Relaxed: who acts on it is told by changed(). */
    if (!is_on)
        count_add(&overload->count, 1);
    overload->options.changed(overload->options.ctx, !is_on);
}
