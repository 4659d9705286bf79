/* A TCP proxy: tcp_proxy LISTEN_PORT HOST PORT. What arrives on either side is passed on to the
 * other; the end of one side, too. SIGTERM and SIGINT end it: nothing new is accepted, and what is
 * under way has five seconds. */
#include <netinet/in.h>
#include <rondo/rondo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND UINT64_C(1000000000)

struct target {
    const char *host;
    uint16_t port;
};

struct pair;

/* One of the two ways of a pair. */
struct way {
    struct pair *pair;
    struct way *other;
    rondo_stream *from;
    rondo_handle relay;
};

/* Everything of a pair runs on the strand of its client, so it needs no lock. */
struct pair {
    struct way up;   /* from the client */
    struct way down; /* from the target */
    int open_ways;
    bool broken;
};

static void close_pair(struct pair *pair)
{
    if (pair->broken) {
        rondo_stream_abort(pair->up.from);
        rondo_stream_abort(pair->down.from);
    } else {
        rondo_stream_close(pair->up.from);
        rondo_stream_close(pair->down.from);
    }
    free(pair);
}

static void on_way_end(const struct rondo_result *result, void *ctx)
{
    struct way *way = ctx;
    struct pair *pair = way->pair;

    if (result->value == 0) {
        rondo_stream_shutdown(way->other->from);
    } else {
        pair->broken = true;
        rondo_cancel(way->other->relay);
    }
    if (--pair->open_ways == 0)
        close_pair(pair);
}

static void open_way(struct way *way)
{
    int error = rondo_stream_relay(way->from, way->other->from,
                                   &RONDO_REQUEST(.done = on_way_end, .ctx = way,
                                                  .strand = rondo_stream_strand(way->pair->up.from),
                                                  .ret_handle = &way->relay));
    if (error)
        on_way_end(&(struct rondo_result){.value = error}, way);
}

static void on_connected(const struct rondo_result *result, void *ctx)
{
    struct pair *pair = ctx;

    if (result->value != 0) {
        fprintf(stderr, "tcp_proxy: connect: %s\n", rondo_error_name((int)result->value));
        rondo_stream_abort(pair->up.from);
        free(pair);
        return;
    }
    pair->down.from = result->stream;
    pair->open_ways = 2;
    open_way(&pair->up);
    open_way(&pair->down);
}

static void on_accepted(rondo_listener *listener, rondo_stream *client, void *ctx)
{
    const struct target *target = ctx;
    struct pair *pair = calloc(1, sizeof(*pair));

    (void)listener;
    if (!pair) {
        rondo_stream_abort(client);
        return;
    }
    pair->up = (struct way){.pair = pair, .other = &pair->down, .from = client};
    pair->down = (struct way){.pair = pair, .other = &pair->up};
    int error = rondo_stream_connect(rondo_current_loop(), target->host, target->port, NULL,
                                     &RONDO_REQUEST(.done = on_connected, .ctx = pair,
                                                    .strand = rondo_stream_strand(client),
                                                    .deadline_ns = rondo_now_ns() + 10 * SECOND));
    if (error)
        on_connected(&(struct rondo_result){.value = error}, pair);
}

static const struct rondo_listener_handlers on_listener = {
    .size = sizeof(on_listener),
    .accepted = on_accepted,
};

/* Until it is told to end. */
static int run(rondo_loop *loop, rondo_listener *listener, const sigset_t *signals)
{
    struct sockaddr_storage address;
    int number;
    int error = rondo_loop_start(loop);

    if (error)
        return error;
    rondo_listener_address(listener, &address);
    printf("listening on 127.0.0.1:%u\n", ntohs(((struct sockaddr_in *)&address)->sin_port));
    fflush(stdout);
    sigwait(signals, &number);
    rondo_loop_drain(loop, 5 * SECOND);
    return rondo_loop_wait(loop);
}

int main(int argc, char **argv)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    rondo_loop *loop = NULL;
    rondo_listener *listener = NULL;
    sigset_t signals;

    if (argc != 4)
        return fprintf(stderr, "usage: tcp_proxy LISTEN_PORT HOST PORT\n"), 2;
    struct target target = {argv[2], (uint16_t)atoi(argv[3])};

    /* Block the signals before the loop's threads exist: they inherit the mask. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    options.name = "tcp-proxy";
    options.buffer_size = 16384; /* What one receive takes, one send passes on. */
    int error = rondo_loop_create(&options, &loop);
    if (!error)
        error = rondo_listener_create(loop, "127.0.0.1", (uint16_t)atoi(argv[1]), NULL,
                                      &on_listener, &target, &listener);
    if (!error)
        error = run(loop, listener, &signals);
    if (error)
        fprintf(stderr, "tcp_proxy: %s %s\n", rondo_error_name(error), rondo_error_text());
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
