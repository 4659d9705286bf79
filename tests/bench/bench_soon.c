/* How many callbacks a second go through the ready queue: posted by one outside thread, and as 16
 * chains whose callbacks post themselves again. Two workers. Prints one JSON object.
 *
 * The outside thread keeps at most a million callbacks in flight, as a real producer would have to;
 * each figure counts callbacks that have run, from the first post to the last run.
 */
#include <rondo/rondo.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    OUTSIDE_COUNT = 20000000,
    OUTSIDE_AHEAD_MAX = 1000000,
    CHAIN_COUNT = 16,
    CHAIN_RUNS = 1250000,
};

struct counter {
    _Alignas(128) _Atomic uint64_t value;
};

/* Each worker counts on a line of its own; at most 64 workers exist here. */
static struct counter counters[64];
static _Atomic uint32_t counter_next;
static _Thread_local struct counter *mine;

static void on_count(void *ctx)
{
    (void)ctx;
    if (!mine)
        mine = &counters[atomic_fetch_add(&counter_next, 1) % 64];
    uint64_t value = atomic_load_explicit(&mine->value, memory_order_relaxed);
    atomic_store_explicit(&mine->value, value + 1, memory_order_release);
}

static uint64_t counted(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < 64; i++)
        sum += atomic_load_explicit(&counters[i].value, memory_order_acquire);
    return sum;
}

static void wait_until_counted(uint64_t goal)
{
    while (counted() < goal)
        usleep(200);
}

static void must(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "bench_soon: %s: %s\n", what, rondo_error_name(error));
        exit(1);
    }
}

static double outside(rondo_loop *loop)
{
    uint64_t start_ns = rondo_now_ns();

    for (uint32_t i = 0; i < OUTSIDE_COUNT; i++) {
        if (i % 4096 == 0 && i > OUTSIDE_AHEAD_MAX)
            wait_until_counted(i - OUTSIDE_AHEAD_MAX);
        must(rondo_call_soon(loop, on_count, NULL, NULL), "rondo_call_soon");
    }
    wait_until_counted(OUTSIDE_COUNT);
    return OUTSIDE_COUNT * 1e9 / (double)(rondo_now_ns() - start_ns);
}

struct chain {
    _Alignas(128) rondo_loop *loop;
    uint32_t left;
};

static _Atomic uint32_t chains_left;

static void on_link(void *ctx)
{
    struct chain *chain = ctx;

    if (--chain->left > 0)
        must(rondo_call_soon(chain->loop, on_link, chain, NULL), "rondo_call_soon");
    else
        atomic_fetch_sub(&chains_left, 1);
}

static double chains(rondo_loop *loop)
{
    static struct chain all[CHAIN_COUNT];
    uint64_t start_ns = rondo_now_ns();

    atomic_store(&chains_left, CHAIN_COUNT);
    for (int i = 0; i < CHAIN_COUNT; i++) {
        all[i] = (struct chain){loop, CHAIN_RUNS};
        must(rondo_call_soon(loop, on_link, &all[i], NULL), "rondo_call_soon");
    }
    while (atomic_load(&chains_left) > 0)
        usleep(200);
    return (double)CHAIN_COUNT * CHAIN_RUNS * 1e9 / (double)(rondo_now_ns() - start_ns);
}

int main(void)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    rondo_loop *loop;

    options.workers = 2;
    must(rondo_loop_create(&options, &loop), "rondo_loop_create");
    must(rondo_loop_start(loop), "rondo_loop_start");
    double outside_per_s = outside(loop);
    double chains_per_s = chains(loop);
    rondo_loop_free(loop);
    printf("{\"outside_per_s\": %.0f, \"chains_per_s\": %.0f}\n", outside_per_s, chains_per_s);
    return 0;
}
