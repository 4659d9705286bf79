/* rondo-echo: sends back every byte it receives. The demo of the library's callbacks.
 *
 * The main thread waits for signals; callbacks run on the loop's workers.
 */
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void burn(uint64_t burn_us)
{
    uint64_t until_ns = rondo_now_ns() + burn_us * 1000;

    while (rondo_now_ns() < until_ns)
        ;
}

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    const struct echo_options *options = ctx;

    if (options->burn_us > 0 && *(const char *)data == 'C')
        burn(options->burn_us);
    if (rondo_stream_write(stream, data, size) != 0)
        (void)rondo_stream_abort(stream);
}

static const struct rondo_stream_handlers stream_handlers = {
    .size = sizeof(stream_handlers),
    .read = on_read,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)rondo_stream_start(stream, &stream_handlers, ctx);
}

static const struct rondo_listener_handlers listener_handlers = {
    .size = sizeof(listener_handlers),
    .accepted = on_accepted,
};

/* As many connections as the system lets this process have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void say_listening(const rondo_listener *listener)
{
    struct sockaddr_storage address = {0};
    char host[INET6_ADDRSTRLEN] = "";

    (void)rondo_listener_address(listener, &address);
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        printf("listening on [%s]:%u\n", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        printf("listening on %s:%u\n", host, ntohs(v4->sin_port));
    }
    (void)fflush(stdout);
}

static int fail(const char *what, int error)
{
    fprintf(stderr, "rondo-echo: %s: %s\n", what,
            *rondo_error_text() ? rondo_error_text() : rondo_error_name(error));
    return EXIT_FAILURE;
}

struct signals {
    sigset_t set;
    rondo_loop *loop;
};

/* A thread of its own: the second signal ends at once what the first one drains. */
static void *wait_for_second(void *arg)
{
    const struct signals *signals = arg;
    int number = 0;

    (void)sigwait(&signals->set, &number);
    /* Cancelled inside the call, the thread would take a lock of the loop with it. */
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    (void)rondo_loop_stop(signals->loop);
    return NULL;
}

/* A signal drains the loop, a second one stops it. */
static int serve(rondo_loop *loop, const sigset_t *set, uint64_t drain_ms)
{
    struct signals signals;
    pthread_t second;
    int number = 0;
    int error = rondo_loop_start(loop);

    if (error)
        return fail("the loop did not start", error);
    (void)sigwait(set, &number);
    (void)rondo_loop_drain(loop, drain_ms * 1000000);
    signals = (struct signals){.set = *set, .loop = loop};
    bool has_second = pthread_create(&second, NULL, wait_for_second, &signals) == 0;
    error = rondo_loop_wait(loop);
    if (has_second) {
        (void)pthread_cancel(second);
        (void)pthread_join(second, NULL);
    }
    if (error == -ETIMEDOUT)
        fprintf(stderr, "rondo-echo: connections still open after %llu ms were reset\n",
                (unsigned long long)drain_ms);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct echo_options options;
    rondo_loop *loop = NULL;
    rondo_listener *listener = NULL;
    sigset_t signals;
    int status = echo_options_parse(argc, argv, &options);

    if (status)
        return status == 1 ? EXIT_SUCCESS : status;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    raise_descriptor_limit();

    int error = rondo_loop_create(&options.loop, &loop);
    if (error)
        return fail("no loop", error);
    error = rondo_listener_create(loop, options.host, options.port, NULL, &listener_handlers,
                                  &options, &listener);
    if (error) {
        status = fail("cannot listen", error);
    } else {
        say_listening(listener);
        status = serve(loop, &signals, options.drain_ms);
    }
    rondo_loop_free(loop);
    return status;
}
