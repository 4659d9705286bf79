#include <rondo/rondo.h>
#include <stdio.h>

#define MS UINT64_C(1000000)

static rondo_handle late; /* written before the loop runs, only read after */

static void never(void *ctx)
{
    (void)ctx;
    printf("this line is never printed\n");
}

static void tick(void *ctx)
{
    const uint64_t *start_ns = ctx;
    int first = rondo_cancel(late);
    int second = rondo_cancel(late);

    printf("%s\n", rondo_now_ns() - *start_ns >= 50 * MS ? "not early" : "EARLY");
    printf("first cancel: %s\n", first == RONDO_CANCEL_NOT_STARTED ? "not started" : "?");
    printf("second cancel: %s\n", second == RONDO_CANCEL_FINISHED ? "finished" : "?");
    rondo_loop_stop(rondo_current_loop());
}

int main(void)
{
    uint64_t start_ns = rondo_now_ns();
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    if (!error)
        error = rondo_call_at(loop, start_ns + 50 * MS, tick, &start_ns, NULL);
    if (!error)
        error = rondo_call_later(loop, 10000 * MS, never, NULL, &late);
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "timers: %s\n", rondo_error_name(error));
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
