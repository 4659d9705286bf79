#include <rondo/rondo.h>
#include <stdio.h>
#include <stdlib.h>

enum { FEEDERS = 4, POSTS = 10000 };

static rondo_strand *strand;
static long sum; /* touched in the strand only: no lock, no atomic */

static void add(void *ctx)
{
    (void)ctx;
    sum++;
    if (sum == (long)FEEDERS * POSTS)
        rondo_loop_stop(rondo_current_loop());
}

/* Several of these run at the same time, on different workers. */
static void feed(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < POSTS; i++)
        if (rondo_strand_post(strand, add, NULL, NULL) != 0)
            abort();
}

int main(void)
{
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    if (!error)
        error = rondo_strand_create(loop, &strand);
    for (int i = 0; i < FEEDERS && !error; i++)
        error = rondo_call_soon(loop, feed, NULL, NULL);
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "strand: %s\n", rondo_error_name(error));
    else
        printf("%ld of %d\n", sum, FEEDERS * POSTS);
    rondo_strand_unref(strand);
    rondo_loop_free(loop);
    return !error && sum == (long)FEEDERS * POSTS ? 0 : 1;
}
