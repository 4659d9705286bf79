#include <rondo/rondo.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static void on_user(rondo_signal *self, const struct rondo_signal_info *info, void *ctx)
{
    (void)self;
    (void)ctx;
    printf("SIGUSR1 from process %s\n", info->pid == getpid() ? "itself" : "another");
}
static const struct rondo_signal_handlers user = {sizeof(user), on_user, NULL};

static void on_terminate(rondo_signal *self, const struct rondo_signal_info *info, void *ctx)
{
    (void)self;
    (void)info;
    (void)ctx;
    printf("SIGTERM: finish what is in hand, then end\n");
    rondo_loop_drain(rondo_current_loop(), 5000 * MS);
}
static const struct rondo_signal_handlers terminate = {sizeof(terminate), on_terminate, NULL};

static void send_signal(void *ctx)
{
    kill(getpid(), *(const int *)ctx);
}

int main(void)
{
    static int numbers[] = {SIGUSR1, SIGTERM};
    rondo_signal *signals[2];
    rondo_loop *loop = NULL;
    int error = rondo_loop_create(NULL, &loop);

    /* Before any other thread is started, so that all of them block the two signals. */
    if (!error)
        error = rondo_signal_create(loop, SIGUSR1, &user, NULL, &signals[0]);
    if (!error)
        error = rondo_signal_create(loop, SIGTERM, &terminate, NULL, &signals[1]);
    for (int i = 0; !error && i < 2; i++)
        error = rondo_call_later(loop, (uint64_t)(i + 1) * 20 * MS, send_signal, &numbers[i], NULL);
    if (!error)
        error = rondo_loop_run(loop);
    if (error)
        fprintf(stderr, "signals: %s\n", rondo_error_name(error));
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
