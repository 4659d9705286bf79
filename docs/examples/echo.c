#include <rondo/rondo.h>
#include <stdio.h>

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    if (rondo_stream_write(stream, data, size) != 0)
        rondo_stream_abort(stream);
}
static const struct rondo_stream_handlers on_stream = {.size = sizeof(on_stream), .read = on_read};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    rondo_stream_start(stream, &on_stream, ctx);
}
static const struct rondo_listener_handlers on_listener = {sizeof(on_listener), on_accepted, NULL};
int main(void)
{
    rondo_loop *loop = NULL;
    if (rondo_loop_create(NULL, &loop) != 0 ||
        rondo_listener_create(loop, "127.0.0.1", 7000, NULL, &on_listener, NULL, NULL) != 0)
        return fprintf(stderr, "echo: %s\n", rondo_error_text()), 1;
    return rondo_loop_run(loop) == 0 ? 0 : 1;
}
