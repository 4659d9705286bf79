#include <rondo/rondo.h>
#include <stdio.h>

static void greet(void *ctx)
{
    printf("hello from %s\n", (const char *)ctx);
}

static void finish(void *ctx)
{
    (void)ctx;
    printf("stopping\n");
    rondo_loop_stop(rondo_current_loop());
}

int main(void)
{
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    if (error) {
        fprintf(stderr, "no loop: %s\n", rondo_error_text());
        return 1;
    }
    error = rondo_call_soon(loop, greet, "a callback", NULL);
    if (!error)
        error = rondo_call_soon(loop, greet, "another one", NULL);
    if (!error)
        error = rondo_call_soon(loop, finish, NULL, NULL);
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "the loop failed: %s\n", rondo_error_name(error));
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
