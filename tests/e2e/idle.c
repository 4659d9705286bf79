/* Goal: a loop that has nothing to do does nothing at all: no thread of it wakes, no processor time
 * goes; connections that are idle change nothing about it.
 *
 * Method: when the threads have come to rest, add up their context switches and processor time from
 * /proc, let a second pass, and do so again.
 */
#include "support.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CONNECTIONS = 1000, WATCHED_MS = 1000, REST_MS = 100 };

struct activity {
    uint64_t switches;
    uint64_t cpu_ns;
    uint32_t threads;
};

/* What stands behind @name in a status file of /proc, or 0. */
static uint64_t status_value(const char *path, const char *name)
{
    char line[256];
    uint64_t value = 0;
    FILE *file = fopen(path, "r");

    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtoull(line + strlen(name) + 1, NULL, 10);
    if (file)
        (void)fclose(file);
    return value;
}

static bool is_of_the_library(const char *task)
{
    char path[320];
    char name[32] = "";

    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool found = fgets(name, sizeof(name), file) && strncmp(name, "rondo-", 6) == 0;
    (void)fclose(file);
    return found;
}

/* Of the library's threads only. */
static struct activity activity_now(void)
{
    struct activity sum = {0};
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;

    CHECK(folder);
    while ((entry = readdir(folder))) {
        char path[320];
        unsigned long long cpu_ns = 0;
        if (entry->d_name[0] == '.' || !is_of_the_library(entry->d_name))
            continue;
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
        sum.switches += status_value(path, "voluntary_ctxt_switches");
        sum.switches += status_value(path, "nonvoluntary_ctxt_switches");
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file) {
            CHECK_EQUAL(fscanf(file, "%llu", &cpu_ns), 1);
            (void)fclose(file);
        }
        sum.cpu_ns += cpu_ns;
        sum.threads++;
    }
    (void)closedir(folder);
    return sum;
}

/* Surplus workers retire, the watch of the pool ends: then nothing moves for a while. */
static struct activity come_to_rest(void)
{
    uint64_t until_ns = test_deadline(8000);
    struct activity before = activity_now();

    for (;;) {
        test_pass_time(REST_MS);
        struct activity now = activity_now();
        if (now.switches == before.switches && now.threads == before.threads)
            return now;
        CHECK(rondo_now_ns() < until_ns);
        before = now;
    }
}

static void expect_idle(rondo_loop *loop)
{
    struct activity before = come_to_rest();
    struct rondo_loop_stats stats_before = loop_stats(loop);

    CHECK(before.threads >= 3);
    test_pass_time(WATCHED_MS);
    struct activity after = activity_now();
    struct rondo_loop_stats stats = loop_stats(loop);
    fprintf(stderr, "%u threads: %llu switches, %llu ns\n", after.threads,
            (unsigned long long)(after.switches - before.switches),
            (unsigned long long)(after.cpu_ns - before.cpu_ns));
    CHECK_EQUAL(after.threads, before.threads);
    CHECK_EQUAL(after.switches - before.switches, 0);
    CHECK_EQUAL(after.cpu_ns - before.cpu_ns, 0);
    CHECK_EQUAL(stats.lane_wakes, stats_before.lane_wakes);
    CHECK_EQUAL(stats.scheduler_wakes, stats_before.scheduler_wakes);
    CHECK_EQUAL(stats.parks, stats_before.parks);
    CHECK_EQUAL(stats.workers_parked, stats.workers);
}

static void an_idle_loop_does_nothing(void **state)
{
    (void)state;
    (void)test_begin("idle, empty");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.lanes = 2;
    rondo_loop *loop = loop_begin(&options);
    expect_idle(loop);
    rondo_loop_free(loop);
}

/* A far timer is armed in the kernel and costs nothing either. */
static void never_run(void *ctx)
{
    (void)ctx;
    check_failed(__FILE__, __LINE__, "called");
}

static void idle_connections_and_far_timers_cost_nothing(void **state)
{
    (void)state;
    (void)test_begin("idle, connections");
    static int fds[CONNECTIONS];
    struct rlimit limit;

    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uint32_t count =
        limit.rlim_cur > 2 * CONNECTIONS + 100 ? CONNECTIONS : (uint32_t)limit.rlim_cur / 2 - 100;
    rondo_loop *loop = loop_begin(NULL);
    uint16_t port = listener_port(listen_local(loop, &echo_listener, NULL));
    for (uint32_t i = 0; i < count; i++) {
        char byte = 'x';
        fds[i] = tcp_dial(port);
        tcp_send(fds[i], &byte, 1);
        CHECK_EQUAL(tcp_receive(fds[i], &byte, 1), 1);
    }
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQUAL(rondo_call_later(loop, 3600000 * MS, never_run, NULL, NULL), 0);
    CHECK_EQUAL(loop_stats(loop).connections, count);
    expect_idle(loop);
    for (uint32_t i = 0; i < count; i++)
        (void)close(fds[i]);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_loop_does_nothing),
        cmocka_unit_test(idle_connections_and_far_timers_cost_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
