/* What a loop costs that has nothing to do: wake-ups and processor time over two seconds, and the
 * library's memory for each of 9,000 connections that are open and silent. Prints one JSON object.
 *
 * Both ends of a connection are in this process, so the number stays below the usual hard limit of
 * 20,000 descriptors; memory is what the allocator has handed out, which the kernel's socket
 * buffers are not part of.
 */
#include <rondo/rondo.h>

#include <arpa/inet.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTION_COUNT = 9000, IDLE_SECONDS = 2 };

static _Atomic uint32_t started;

static void must(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "bench_idle: %s: %s %s\n", what, rondo_error_name(error),
                rondo_error_text());
        exit(1);
    }
}

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    (void)rondo_stream_write(stream, data, size);
}

static const struct rondo_stream_handlers stream_handlers = {
    .size = sizeof(stream_handlers),
    .read = on_read,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    must(rondo_stream_start(stream, &stream_handlers, ctx), "rondo_stream_start");
    atomic_fetch_add(&started, 1);
}

static const struct rondo_listener_handlers listener_handlers = {
    .size = sizeof(listener_handlers),
    .accepted = on_accepted,
};

static size_t memory_used(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static uint64_t wakes(rondo_loop *loop)
{
    struct rondo_loop_stats stats = RONDO_LOOP_STATS_INIT;

    must(rondo_loop_stats(loop, &stats), "rondo_loop_stats");
    return stats.lane_wakes + stats.scheduler_wakes + stats.parks + stats.wakes;
}

static double cpu_seconds(void)
{
    struct timespec used;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void connect_all(const rondo_listener *listener)
{
    struct sockaddr_storage address;

    must(rondo_listener_address(listener, &address), "rondo_listener_address");
    for (uint32_t i = 0; i < CONNECTION_COUNT; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in)) != 0) {
            perror("bench_idle: connect");
            exit(1);
        }
        while (atomic_load(&started) + 256 < i) /* Stay within the backlog. */
            usleep(1000);
    }
    while (atomic_load(&started) < CONNECTION_COUNT)
        usleep(1000);
}

int main(void)
{
    struct rlimit limit;
    rondo_loop *loop;
    rondo_listener *listener;

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30); /* Count everything in one place. */

    must(rondo_loop_create(NULL, &loop), "rondo_loop_create");
    must(rondo_listener_create(loop, "127.0.0.1", 0, NULL, &listener_handlers, NULL, &listener),
         "rondo_listener_create");
    must(rondo_loop_start(loop), "rondo_loop_start");
    usleep(300000);
    size_t memory_before = memory_used();
    connect_all(listener);
    usleep(300000);
    size_t memory_after = memory_used();

    uint64_t wakes_before = wakes(loop);
    double cpu_before = cpu_seconds();
    (void)sleep(IDLE_SECONDS);
    double cpu_used = cpu_seconds() - cpu_before;
    uint64_t wakes_after = wakes(loop);

    printf("{\"wakeups_per_s\": %.1f, \"cpu_percent\": %.3f, \"connections\": %d, "
           "\"bytes_per_connection\": %.0f}\n",
           (double)(wakes_after - wakes_before) / IDLE_SECONDS, cpu_used * 100 / IDLE_SECONDS,
           CONNECTION_COUNT, (double)(memory_after - memory_before) / CONNECTION_COUNT);
    rondo_loop_free(loop);
    return 0;
}
