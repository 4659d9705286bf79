#include <rondo/rondo.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic int parts_left = 2; /* the child's output, and its exit */

static void part_ended(void)
{
    if (atomic_fetch_sub(&parts_left, 1) == 1)
        rondo_loop_stop(rondo_current_loop());
}

static void on_output(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)stream;
    (void)ctx;
    fwrite(data, 1, size, stdout);
}

static void on_output_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)error;
    (void)ctx;
    part_ended();
}
static const struct rondo_stream_handlers output = {
    .size = sizeof(output), .read = on_output, .closed = on_output_closed};

static void on_exited(rondo_process *process, const struct rondo_exit_status *status, void *ctx)
{
    (void)ctx;
    fprintf(stderr, "sort ended with %d\n", status->code);
    rondo_process_close(process);
}

static void on_closed(rondo_process *process, int error, void *ctx)
{
    (void)process;
    (void)error;
    (void)ctx;
    part_ended();
}
static const struct rondo_process_handlers sorter = {sizeof(sorter), on_exited, on_closed};

static int talk(rondo_process *process)
{
    static const char text[] = "three\none\ntwo\n";
    rondo_stream *in = NULL;
    rondo_stream *out = NULL;
    int error = rondo_process_take_stream(process, 0, &in);

    if (!error)
        error = rondo_process_take_stream(process, 1, &out);
    if (!error)
        error = rondo_stream_start(out, &output, NULL);
    if (!error)
        error = rondo_stream_write(in, text, strlen(text));
    if (!error)
        error = rondo_stream_close(in); /* When it is written; the child sees the end: it sorts. */
    return error;
}

int main(void)
{
    char *argv[] = {"sort", NULL};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    rondo_process *process = NULL;
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    options.program = argv[0];
    options.argv = argv;
    options.stdio[0].kind = RONDO_STDIO_PIPE;
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    if (!error)
        error = rondo_process_spawn(loop, &options, &sorter, NULL, &process);
    if (!error)
        error = talk(process);
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "child: %s\n", rondo_error_text());
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
