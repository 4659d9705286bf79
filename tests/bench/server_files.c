/* An echo server whose loop also works on files: server_files LOAD FOLDER --host H --port P, to
 * measure whether file work slows the network. LOAD is one of
 *   none   no file work
 *   sync   64 KiB written and synced, 800 times a second, up to 8 at a time: the disk is busy
 *   read   1 MiB read from the page cache, 500 times a second: long copies inside the kernel
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <rondo/rondo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAINS = 8, BLOCK_SIZE = 65536, READ_SIZE = 1 << 20 };

struct chain {
    char *data;
    uint64_t offset;
    int number;
};

static rondo_loop *loop;
static rondo_file *file;
static struct chain chains[CHAINS];
static _Atomic uint64_t operations;
static _Atomic bool ending;

static void fail(const char *what)
{
    fprintf(stderr, "server_files: %s\n", what);
    exit(1);
}

static void check(const struct rondo_result *result)
{
    if (result->value < 0 && result->value != -ECANCELED)
        fail(rondo_error_name((int)result->value));
    atomic_fetch_add(&operations, 1);
}

/* ---- the file work ---- */

static void on_done(const struct rondo_result *result, void *ctx)
{
    (void)ctx;
    check(result);
}

static void on_written(const struct rondo_result *result, void *ctx)
{
    check(result);
    if (!atomic_load(&ending))
        (void)rondo_file_sync(file, true, &RONDO_REQUEST(.done = on_done, .ctx = ctx));
}

static void sync_on_time(void *ctx)
{
    struct chain *chain = ctx;

    if (atomic_load(&ending))
        return;
    chain->offset = (chain->offset + (uint64_t)CHAINS * BLOCK_SIZE) % (64 << 20);
    (void)rondo_file_write(file, chain->data, BLOCK_SIZE,
                           chain->offset + (uint64_t)chain->number * BLOCK_SIZE,
                           &RONDO_REQUEST(.done = on_written, .ctx = chain));
    (void)rondo_call_later(loop, 10000000, sync_on_time, chain, NULL);
}

static void read_on_time(void *ctx)
{
    struct chain *chain = ctx;

    if (atomic_load(&ending))
        return;
    (void)rondo_file_read(file, chain->data, READ_SIZE, 0, &RONDO_REQUEST(.done = on_done));
    (void)rondo_call_later(loop, 2000000, read_on_time, chain, NULL);
}

static void begin(const char *load)
{
    for (int i = 0; i < CHAINS; i++) {
        chains[i].number = i;
        chains[i].data = calloc(1, READ_SIZE);
        if (strcmp(load, "sync") == 0)
            sync_on_time(&chains[i]);
    }
    if (strcmp(load, "read") == 0)
        read_on_time(&chains[0]);
}

static void open_file(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char *data = calloc(1, READ_SIZE);

    if (fd < 0 || !data || pwrite(fd, data, READ_SIZE, 0) != READ_SIZE ||
        rondo_file_adopt(loop, fd, &file) != 0)
        fail("no file");
    free(data);
}

/* ---- the echo ---- */

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    if (rondo_stream_write(stream, data, size) != 0)
        (void)rondo_stream_abort(stream);
}
static const struct rondo_stream_handlers on_stream = {.size = sizeof(on_stream), .read = on_read};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)rondo_stream_start(stream, &on_stream, ctx);
}
static const struct rondo_listener_handlers on_listener = {sizeof(on_listener), on_accepted, NULL};

int main(int argc, char **argv)
{
    rondo_listener *listener;
    struct sockaddr_storage address;
    sigset_t signals;
    int number;

    /* tests/bench/run puts "--host H --port P" behind what it is told to run. */
    if (argc != 7 || strcmp(argv[3], "--host") != 0 || strcmp(argv[5], "--port") != 0)
        fail("usage: server_files LOAD FOLDER --host H --port P");
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (rondo_loop_create(NULL, &loop) != 0 ||
        rondo_listener_create(loop, argv[4], (uint16_t)strtoul(argv[6], NULL, 10), NULL,
                              &on_listener, NULL, &listener) != 0 ||
        rondo_loop_start(loop) != 0)
        fail(rondo_error_text());
    open_file(argv[2]);
    (void)rondo_listener_address(listener, &address);
    printf("listening on %s:%u\n", argv[4], ntohs(((struct sockaddr_in *)&address)->sin_port));
    fflush(stdout);
    begin(argv[1]);
    sigwait(&signals, &number);
    atomic_store(&ending, true);
    (void)rondo_loop_drain(loop, 2000000000);
    (void)rondo_loop_wait(loop);
    (void)rondo_file_close(file, NULL);
    rondo_loop_free(loop);
    fprintf(stderr, "%lu operations on files\n", (unsigned long)operations);
    return 0;
}
