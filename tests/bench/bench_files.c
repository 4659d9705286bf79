/* Random reads: bench_files FILE SIZE DEPTH SECONDS [direct] [registered]. With direct the page
 * cache is left out (O_DIRECT), with registered they go into registered buffers.
 * Prints {"reads_per_s": ..., ...}; tests/bench/run compares it with fio at the same settings. */
#include <fcntl.h>
#include <rondo/rondo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 4096 };

struct reader {
    char *data;
    uint64_t random;
    uint64_t count;
};

static rondo_loop *loop;
static rondo_file *file;
static rondo_buffers *buffers;
static struct reader readers[DEPTH_MAX];
static uint64_t block_count;
static uint32_t block_size;
static uint32_t depth;
static _Atomic uint32_t readers_left;
static _Atomic bool over;

static void fail(const char *what)
{
    fprintf(stderr, "bench_files: %s\n", what);
    exit(1);
}

static void on_read(const struct rondo_result *result, void *ctx);

static void read_next(struct reader *reader)
{
    reader->random = reader->random * 6364136223846793005 + 1442695040888963407;
    uint64_t block = (reader->random >> 16) % block_count;

    if (rondo_file_read(file, reader->data, block_size, block * block_size,
                        &RONDO_REQUEST(.done = on_read, .ctx = reader)) != 0)
        fail("a read was refused");
}

static void on_read(const struct rondo_result *result, void *ctx)
{
    struct reader *reader = ctx;

    if (result->value != block_size)
        fail("a read failed");
    reader->count++;
    if (!atomic_load_explicit(&over, memory_order_relaxed))
        read_next(reader);
    else if (atomic_fetch_sub(&readers_left, 1) == 1)
        rondo_loop_stop(loop);
}

static void on_time(void *ctx)
{
    (void)ctx;
    atomic_store(&over, true);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 5; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

static char *make_memory(size_t size, bool is_registered)
{
    if (rondo_buffers_create(loop, size, 1, &buffers) != 0)
        fail("no memory");
    char *memory = rondo_buffers_take(buffers);
    memset(memory, 1, size);
    return is_registered ? memory : aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
}

int main(int argc, char **argv)
{
    struct stat about;
    char *memory;
    uint64_t count = 0;

    if (argc < 5 || argc > 7)
        fail("usage: bench_files FILE SIZE DEPTH SECONDS [direct] [registered]");
    block_size = (uint32_t)strtoul(argv[2], NULL, 10);
    depth = (uint32_t)strtoul(argv[3], NULL, 10);
    double seconds = strtod(argv[4], NULL);
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC | (has_word(argc, argv, "direct") ? O_DIRECT : 0));
    if (fd < 0 || fstat(fd, &about) != 0 || depth < 1 || depth > DEPTH_MAX || block_size < 1)
        fail("bad arguments");
    block_count = (uint64_t)about.st_size / block_size;
    if (block_count == 0 || rondo_loop_create(NULL, &loop) != 0 ||
        rondo_file_adopt(loop, fd, &file) != 0)
        fail("no file or loop");
    bool is_registered = has_word(argc, argv, "registered");
    memory = make_memory((size_t)depth * block_size, is_registered);
    atomic_store(&readers_left, depth);
    for (uint32_t i = 0; i < depth; i++) {
        readers[i].data = memory + (size_t)i * block_size;
        readers[i].random = i;
        read_next(&readers[i]);
    }
    if (rondo_call_later(loop, (uint64_t)(seconds * 1e9), on_time, NULL, NULL) != 0)
        fail("no timer");
    uint64_t from_ns = rondo_now_ns();
    if (rondo_loop_run(loop) != 0)
        fail("the loop failed");
    double took = (double)(rondo_now_ns() - from_ns) / 1e9;
    for (uint32_t i = 0; i < depth; i++)
        count += readers[i].count;
    if (is_registered && rondo_buffers_status(buffers) != 0)
        fail("the buffers are not registered");
    rondo_file_close(file, NULL);
    rondo_buffers_free(buffers);
    rondo_loop_free(loop);
    printf("{\"reads_per_s\": %.0f, \"cpu_us_per_read\": %.3f, \"reads\": %lu}\n",
           (double)count / took, cpu_seconds() * 1e6 / (double)count, (unsigned long)count);
    return 0;
}
