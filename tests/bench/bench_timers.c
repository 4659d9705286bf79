/* Timers: how many can be armed and cancelled a second with a million alive, and how late they fire
 * on a loop that is otherwise idle. Prints one JSON object.
 *
 * The rates are those of the calling thread, for a million timers one to two hours away; absorb_ms
 * is how long after the last call the scheduler had taken them all in.
 */
#include <rondo/rondo.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIVE_COUNT = 1000000, LATE_COUNT = 2000 };

static const uint64_t hour_ns = UINT64_C(3600000000000);
static rondo_handle handles[LIVE_COUNT];
static uint64_t late_ns[LATE_COUNT];

static void must(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "bench_timers: %s: %s\n", what, rondo_error_name(error));
        exit(1);
    }
}

static void on_never(void *ctx)
{
    (void)ctx;
    fprintf(stderr, "bench_timers: a timer an hour away fired\n");
    abort();
}

static uint64_t armed(rondo_loop *loop)
{
    struct rondo_loop_stats stats = RONDO_LOOP_STATS_INIT;

    must(rondo_loop_stats(loop, &stats), "rondo_loop_stats");
    return stats.timers_armed;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One deadline after the other, 1 to 3 ms apart, so that the loop is asleep before each. */
struct late {
    rondo_loop *loop;
    uint64_t deadline_ns;
    uint64_t random;
    uint32_t count;
    uint32_t early;
    _Atomic bool done;
};

static void late_arm(struct late *late);

static void on_late(void *ctx)
{
    struct late *late = ctx;
    uint64_t now_ns = rondo_now_ns();

    if (now_ns < late->deadline_ns)
        late->early++;
    late_ns[late->count++] = now_ns - late->deadline_ns;
    if (late->count < LATE_COUNT)
        late_arm(late);
    else
        late->done = true;
}

static void late_arm(struct late *late)
{
    late->deadline_ns = rondo_now_ns() + 1000000 + next_random(&late->random) % 2000000;
    must(rondo_call_at(late->loop, late->deadline_ns, on_late, late, NULL), "rondo_call_at");
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int main(void)
{
    rondo_loop *loop;
    uint64_t random = 88172645463325252;
    uint64_t start_ns;

    must(rondo_loop_create(NULL, &loop), "rondo_loop_create");
    must(rondo_loop_start(loop), "rondo_loop_start");

    static struct late late;
    late = (struct late){.loop = loop, .random = random};
    late_arm(&late);
    while (!late.done)
        usleep(10000);
    qsort(late_ns, LATE_COUNT, sizeof(*late_ns), compare);

    start_ns = rondo_now_ns();
    for (uint32_t i = 0; i < LIVE_COUNT; i++)
        must(rondo_call_at(loop, start_ns + hour_ns + next_random(&random) % hour_ns, on_never,
                           NULL, &handles[i]),
             "rondo_call_at");
    double arm_s = (double)(rondo_now_ns() - start_ns) / 1e9;
    while (armed(loop) < LIVE_COUNT)
        usleep(100);
    double absorb_ms = (double)(rondo_now_ns() - start_ns) / 1e6 - arm_s * 1e3;

    start_ns = rondo_now_ns();
    for (uint32_t i = 0; i < LIVE_COUNT; i++)
        if (rondo_cancel(handles[i]) != RONDO_CANCEL_NOT_STARTED)
            must(-EALREADY, "rondo_cancel");
    double cancel_s = (double)(rondo_now_ns() - start_ns) / 1e9;

    rondo_loop_free(loop);
    printf("{\"arm_per_s\": %.0f, \"cancel_per_s\": %.0f, \"absorb_ms\": %.1f, "
           "\"late_p50_us\": %.1f, \"late_p99_us\": %.1f, \"late_max_us\": %.1f, \"early\": %u}\n",
           LIVE_COUNT / arm_s, LIVE_COUNT / cancel_s, absorb_ms,
           (double)late_ns[LATE_COUNT / 2] / 1e3, (double)late_ns[LATE_COUNT * 99 / 100] / 1e3,
           (double)late_ns[LATE_COUNT - 1] / 1e3, late.early);
    return 0;
}
