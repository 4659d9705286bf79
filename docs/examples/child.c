#include <rondo/rondo.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int parts_left = 2; /* the child's output, and its exit */

static void part_ended(void)
{
    if (atomic_fetch_sub(&parts_left, 1) == 1)
        rondo_loop_stop(rondo_current_loop());
}

static void on_output(rondo_poller *poller, uint32_t events, void *ctx)
{
    const int *fd = ctx;
    char data[4096];
    ssize_t size = read(*fd, data, sizeof(data));

    (void)events;
    if (size > 0)
        fwrite(data, 1, (size_t)size, stdout);
    else
        rondo_poller_close(poller);
}

static void on_output_closed(rondo_poller *poller, int error, void *ctx)
{
    const int *fd = ctx;

    (void)poller;
    (void)error;
    close(*fd);
    part_ended();
}
static const struct rondo_poller_handlers output = {sizeof(output), on_output, on_output_closed};

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

int main(void)
{
    static const char text[] = "three\none\ntwo\n";
    static int out;
    char *argv[] = {"sort", NULL};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    rondo_process *process = NULL;
    rondo_poller *poller = NULL;
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    options.program = argv[0];
    options.argv = argv;
    options.stdio[0].kind = RONDO_STDIO_PIPE;
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    if (!error)
        error = rondo_process_spawn(loop, &options, &sorter, NULL, &process);
    if (!error) {
        int in = rondo_process_take_pipe(process, 0);
        if (write(in, text, strlen(text)) < 0)
            perror("write");
        close(in); /* The end of its input: it sorts. */
        out = rondo_process_take_pipe(process, 1);
        error = rondo_poller_create(loop, out, POLLIN, &output, &out, &poller);
    }
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "child: %s\n", rondo_error_text());
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
