/* A TLS client for interop.py: connects to a port of this machine, writes a line and prints the
 * answer up to its line feed, all by operations. Prints what was agreed, or what went wrong.
 *
 * Usage: tls_client PORT CA_FILE HOST LINE [COUNT], COUNT connections one after the other
 */
#include <rondo/rondo.h>
#include <rondo/tls.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWER_SIZE = 256, CLOSE_S = 10 };

struct waiting {
    sem_t ended;
    int64_t value;
};

static sem_t closed;

static void on_done(const struct rondo_result *result, void *ctx)
{
    struct waiting *waiting = ctx;

    waiting->value = result->value;
    (void)sem_post(&waiting->ended);
}

static void on_closed(rondo_tls *tls, int error, void *ctx)
{
    (void)tls;
    (void)error;
    (void)ctx;
    (void)sem_post(&closed);
}

static const struct rondo_tls_handlers handlers = {
    .size = sizeof(handlers),
    .closed = on_closed,
};

/* What @call, an operation with &request, ends with. */
#define WAIT(call)                                                                         \
    __extension__({                                                                        \
        struct waiting waiting_ = {0};                                                     \
        struct rondo_request request = *&RONDO_REQUEST(.done = on_done, .ctx = &waiting_); \
        (void)sem_init(&waiting_.ended, 0, 0);                                             \
        int64_t value_ = (call);                                                           \
        while (value_ == 0 && sem_wait(&waiting_.ended) != 0)                              \
            ;                                                                              \
        value_ ? value_ : waiting_.value;                                                  \
    })

static rondo_stream *dial(rondo_loop *loop, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rondo_stream *stream = NULL;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        rondo_stream_open(loop, fd, &stream) != 0)
        perror("tls_client: connect");
    return stream;
}

static int64_t talk(rondo_tls *tls, const char *line)
{
    struct rondo_tls_info info = RONDO_TLS_INFO_INIT;
    char answer[ANSWER_SIZE] = "";
    size_t size = 0;
    int64_t count = WAIT(rondo_tls_handshake(tls, &request));

    if (count < 0)
        return count;
    (void)rondo_tls_info(tls, &info);
    printf("%s%s\n", info.version, info.resumed ? " resumed" : "");
    count = WAIT(rondo_tls_write_all(tls, line, strlen(line), &request));
    while (count > 0 && size < sizeof(answer) - 1 && !strchr(answer, '\n')) {
        count = WAIT(rondo_tls_read(tls, answer + size, sizeof(answer) - 1 - size, &request));
        size += count > 0 ? (size_t)count : 0;
    }
    printf("%s", answer);
    return count < 0 ? count : 0;
}

static int connect_once(rondo_loop *loop, rondo_tls_config *config, uint16_t port, const char *host,
                        const char *line)
{
    struct rondo_tls_options options = RONDO_TLS_OPTIONS_INIT;
    rondo_stream *stream = dial(loop, port);
    rondo_tls *tls = NULL;

    options.host = host;
    if (!stream || rondo_tls_start(stream, config, &options, &handlers, NULL, &tls) != 0)
        return 1;
    int64_t error = talk(tls, line);
    if (error)
        printf("%s: %s\n", rondo_error_name((int)error), rondo_tls_error_text(tls));
    (void)rondo_tls_close(tls);
    while (sem_wait(&closed) != 0)
        ;
    rondo_tls_unref(tls);
    return error ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
    rondo_tls_config *config = NULL;
    rondo_loop *loop = NULL;
    char line[ANSWER_SIZE];
    int status = 0;

    if (argc < 5)
        return 2;
    (void)sem_init(&closed, 0, 0);
    (void)snprintf(line, sizeof(line), "%s\n", argv[4]);
    options.ca_file = argv[2];
    if (rondo_tls_config_create_client(&options, &config) != 0)
        return fprintf(stderr, "tls_client: %s\n", rondo_tls_error_text(NULL)), 1;
    if (rondo_loop_create(NULL, &loop) != 0 || rondo_loop_start(loop) != 0)
        return fprintf(stderr, "tls_client: %s\n", rondo_error_text()), 1;
    for (long i = 0; i < (argc > 5 ? strtol(argv[5], NULL, 10) : 1); i++)
        status |= connect_once(loop, config, (uint16_t)strtoul(argv[1], NULL, 10), argv[3], line);
    rondo_tls_config_unref(config);
    rondo_loop_free(loop);
    return status;
}
