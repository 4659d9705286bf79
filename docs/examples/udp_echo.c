/* Answers each UDP datagram with the same bytes: udp_echo [HOST [PORT]]. SIGTERM ends it. */
#include <arpa/inet.h>
#include <rondo/rondo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void on_received(rondo_datagram *datagram, const struct rondo_message *message, void *ctx)
{
    (void)ctx;
    /* A full queue drops the answer, as a full network would. */
    (void)rondo_datagram_send(datagram, message->data, message->size, message->from,
                              message->from_size);
}

static const struct rondo_datagram_handlers on_datagram = {
    .size = sizeof(on_datagram),
    .received = on_received,
};

int main(int argc, char **argv)
{
    const char *host = argc > 1 ? argv[1] : "127.0.0.1";
    uint16_t port = argc > 2 ? (uint16_t)atoi(argv[2]) : 7000;
    struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
    struct sockaddr_storage bound;
    rondo_datagram *datagram = NULL;
    rondo_loop *loop = NULL;
    sigset_t signals;
    int number;

    /* Block the signals before the loop's threads exist: they inherit the mask. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    /* The kernel drops what finds its buffer full: the more room, the longer a burst may be. */
    options.receive_buffer_size = 4 << 20;
    if (rondo_loop_create(NULL, &loop) != 0 ||
        rondo_datagram_create(loop, host, port, &options, &on_datagram, NULL, &datagram) != 0 ||
        rondo_datagram_local_address(datagram, &bound) != 0 || rondo_loop_start(loop) != 0) {
        fprintf(stderr, "udp_echo: %s\n", rondo_error_text());
        rondo_loop_free(loop);
        return 1;
    }
    printf("listening on %s:%u\n", host, ntohs(((struct sockaddr_in *)&bound)->sin_port));
    fflush(stdout);
    sigwait(&signals, &number);
    rondo_loop_drain(loop, UINT64_C(2000000000));
    int error = rondo_loop_wait(loop);
    rondo_loop_free(loop);
    return error ? 1 : 0;
}
