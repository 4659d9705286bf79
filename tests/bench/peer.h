/*
 * What the three peer servers share: their command line, the listening socket, the computation that
 * a message starting with 'C' asks for, and the end on SIGTERM. A peer is only a yardstick beside
 * rondo-echo, so a wrong argument or a failing socket ends the program at once.
 * C17 and C++17 both compile this file.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PEER_BACKLOG = 4096, PEER_BUF_SIZE = 2048 };

struct peer_options {
    const char *host;
    uint32_t port;    /* 0: the kernel chooses */
    uint32_t burn_us; /* what one 'C' message costs */
    uint32_t threads; /* 0: the peer has one thread and no such option */
};

static inline void peer_die(const char *what, int error)
{
    fprintf(stderr, "peer: %s: %s\n", what, strerror(error));
    exit(1);
}

static inline uint32_t peer_number(const char *name, const char *text, uint32_t number_max)
{
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || number > number_max) {
        fprintf(stderr, "peer: --%s wants a number up to %u, not '%s'\n", name,
                (unsigned)number_max, text);
        exit(1);
    }
    return (uint32_t)number;
}

/* @threads is the default of --threads; 0 takes that option away. */
static inline struct peer_options peer_options_parse(int argc, char **argv, uint32_t threads)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},
        {"port", required_argument, NULL, 'p'},
        {"burn-us", required_argument, NULL, 'b'},
        {"threads", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0},
    };
    struct peer_options options = {"127.0.0.1", 0, 0, threads};
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (letter == 'h') {
            options.host = optarg;
        } else if (letter == 'p') {
            options.port = peer_number("port", optarg, 65535);
        } else if (letter == 'b') {
            options.burn_us = peer_number("burn-us", optarg, 1000000);
        } else if (letter == 't' && threads > 0) {
            options.threads = peer_number("threads", optarg, 256);
        } else {
            fprintf(stderr, "usage: %s [--host H] [--port P] [--burn-us N]%s\n", argv[0],
                    threads > 0 ? " [--threads N]" : "");
            exit(1);
        }
    }
    if (threads > 0 && options.threads == 0)
        peer_die("--threads", EINVAL);
    return options;
}

static inline void peer_announce(const struct peer_options *options, int fd)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    char port[NI_MAXSERV];
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0)
        peer_die("getsockname", errno);
    if (getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, sizeof(port), NI_NUMERICSERV) !=
        0)
        peer_die("getnameinfo", EINVAL);
    bool ipv6 = strchr(options->host, ':') != NULL;
    printf("listening on %s%s%s:%s\n", ipv6 ? "[" : "", options->host, ipv6 ? "]" : "", port);
    fflush(stdout);
}

/*
 * Returns a listening socket and prints where it listens. @type_flags is 0 or SOCK_NONBLOCK.
 * TCP_NODELAY is set here because accepted sockets inherit it from the listening one.
 */
static inline int peer_listen(const struct peer_options *options, int type_flags)
{
    char port[16];
    snprintf(port, sizeof(port), "%u", (unsigned)options->port);
    struct addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
    hints.ai_socktype = SOCK_STREAM;
    struct addrinfo *where = NULL;
    if (getaddrinfo(options->host, port, &hints, &where) != 0)
        peer_die("--host wants a numeric address", EINVAL);

    const int one = 1;
    int fd = socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (fd < 0)
        peer_die("socket", errno);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0)
        peer_die("SO_REUSEADDR", errno);
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
        peer_die("TCP_NODELAY", errno);
    if (bind(fd, where->ai_addr, where->ai_addrlen) != 0)
        peer_die("bind", errno);
    if (listen(fd, PEER_BACKLOG) != 0)
        peer_die("listen", errno);
    freeaddrinfo(where);
    peer_announce(options, fd);
    return fd;
}

static inline uint64_t peer_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Computes for the options' time when the message that starts at @bytes asks for it. */
static inline void peer_serve(const struct peer_options *options, const uint8_t *bytes)
{
    if (bytes[0] != 'C' || options->burn_us == 0)
        return;
    uint64_t end_ns = peer_now_ns() + (uint64_t)options->burn_us * 1000;
    while (peer_now_ns() < end_ns) {
    }
}

static inline void peer_on_stop(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* SIGTERM and SIGINT end the peer with 0; descriptors go up to the hard limit. */
static inline void peer_prepare_process(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = peer_on_stop;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);

    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

#endif
