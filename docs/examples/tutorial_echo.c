#include <rondo/rondo.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    int error = rondo_stream_write(stream, data, size);

    (void)ctx;
    if (error && error != -EBADF) /* -EBADF: it is closing already, that is fine */
        rondo_stream_abort(stream);
}

static void on_draining(rondo_stream *stream, void *ctx)
{
    static const char bye[] = "bye\n";

    (void)ctx;
    rondo_stream_write(stream, bye, strlen(bye));
    rondo_stream_close(stream);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)ctx;
    printf("closed: %s\n", error ? rondo_error_name(error) : "asked for");
}

static const struct rondo_stream_handlers on_stream = {
    .size = sizeof(on_stream),
    .read = on_read,
    .draining = on_draining,
    .closed = on_closed,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    rondo_stream_set_watermarks(stream, 16 * 1024, 64 * 1024);
    if (rondo_stream_start(stream, &on_stream, ctx) != 0)
        rondo_stream_abort(stream);
}

static const struct rondo_listener_handlers on_listener = {
    .size = sizeof(on_listener),
    .accepted = on_accepted,
};

int main(void)
{
    rondo_loop *loop = NULL;
    sigset_t signals;
    int number;

    /* Block the signals before the loop's threads exist: they inherit the mask. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    if (rondo_loop_create(NULL, &loop) != 0 ||
        rondo_listener_create(loop, "127.0.0.1", 7000, NULL, &on_listener, NULL, NULL) != 0) {
        fprintf(stderr, "echo: %s\n", rondo_error_text());
        rondo_loop_free(loop);
        return 1;
    }
    int error = rondo_loop_start(loop);
    if (!error) {
        sigwait(&signals, &number);
        rondo_loop_drain(loop, UINT64_C(2000000000));
        error = rondo_loop_wait(loop);
    }
    if (error)
        fprintf(stderr, "echo: %s\n", rondo_error_name(error));
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
