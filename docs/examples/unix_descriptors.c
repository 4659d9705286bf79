/* Passes a descriptor from one stream to another: a client gives the write end of a pipe to a server
 * over a Unix socket, the server writes a line to it, and main() reads that line from the pipe. */
#include <rondo/rondo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

/* ---- the server ---- */

struct visit {
    rondo_stream *stream;
    char name[64];
    int descriptors[1];
    uint32_t descriptor_count;
};

static void on_received(const struct rondo_result *result, void *ctx)
{
    struct visit *visit = ctx;

    for (uint32_t i = 0; i < visit->descriptor_count; i++) {
        if (result->value > 0)
            dprintf(visit->descriptors[i], "Hello, %.*s!\n", (int)result->value, visit->name);
        close(visit->descriptors[i]); /* They are ours. */
    }
    rondo_stream_close(visit->stream);
    free(visit);
}

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    struct visit *visit = calloc(1, sizeof(*visit));

    (void)listener;
    (void)ctx;
    if (visit) {
        visit->stream = stream;
        visit->descriptor_count = 1; /* how many there is room for; then how many came */
    }
    if (!visit ||
        rondo_stream_read_descriptors(
            stream, visit->name, sizeof(visit->name), visit->descriptors, &visit->descriptor_count,
            &RONDO_REQUEST(.done = on_received, .ctx = visit,
                           .deadline_ns = rondo_now_ns() + 10 * SECOND)) != 0) {
        rondo_stream_abort(stream);
        free(visit);
    }
}

static const struct rondo_listener_handlers on_listener = {
    .size = sizeof(on_listener),
    .accepted = on_accepted,
};

/* ---- the client ---- */

struct client {
    rondo_stream *stream;
    int pipe_end;
};

static void on_sent(const struct rondo_result *result, void *ctx)
{
    struct client *client = ctx;

    if (result->value < 0)
        fprintf(stderr, "unix_descriptors: %s\n", rondo_error_name((int)result->value));
    close(client->pipe_end); /* The kernel has its own reference now. */
    if (client->stream)
        rondo_stream_close(client->stream);
}

static void on_connected(const struct rondo_result *result, void *ctx)
{
    struct client *client = ctx;
    int error = (int)result->value;

    if (!error) {
        client->stream = result->stream;
        error = rondo_stream_write_descriptors(client->stream, "world", 5, &client->pipe_end, 1,
                                               &RONDO_REQUEST(.done = on_sent, .ctx = client));
    }
    if (error)
        on_sent(&(struct rondo_result){.value = error}, client);
}

/* ---- both ---- */

static int begin(rondo_loop *loop, struct client *client)
{
    char name[64];

    /* '@': an abstract name, which leaves no file behind. */
    snprintf(name, sizeof(name), "@rondo-unix-descriptors-%d", (int)getpid());
    int error = rondo_listener_create_unix(loop, name, NULL, &on_listener, NULL, NULL);
    if (!error)
        error = rondo_loop_start(loop);
    if (!error)
        error = rondo_stream_connect_unix(loop, name, NULL,
                                          &RONDO_REQUEST(.done = on_connected, .ctx = client));
    return error;
}

int main(void)
{
    rondo_loop *loop = NULL;
    struct client client = {0};
    char line[128];
    int ends[2];

    if (rondo_loop_create(NULL, &loop) != 0 || pipe(ends) != 0)
        return fprintf(stderr, "unix_descriptors: %s\n", rondo_error_text()), 1;
    client.pipe_end = ends[1];
    int error = begin(loop, &client);
    if (error) {
        fprintf(stderr, "unix_descriptors: %s\n", rondo_error_text());
        close(ends[1]);
    }

    /* It ends when all write ends are closed: the client's and the server's. */
    ssize_t total = 0;
    for (ssize_t size; (size = read(ends[0], line, sizeof(line))) > 0; total += size)
        fwrite(line, 1, (size_t)size, stdout);
    close(ends[0]);
    rondo_loop_free(loop);
    return error || total == 0 ? 1 : 0;
}
