/*
 * The command line of load, and how the program ends with a message.
 */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 65536,
    DEPTH_MAX = 64,
    SIZE_MAX_BYTES = 65536,
    HEADER_SIZE = 10, /* of a message: kind, 4 bytes of connection, 5 bytes of sequence */
    EXIT_BROKEN = 1,
    EXIT_SILENT = 2,
};

struct options {
    const char *host;
    const char *port;
    uint32_t light_count;
    uint32_t cpu_count;
    uint32_t size;
    uint32_t depth;
    double seconds;
    double warmup;
    int server_pid; /* 0: not asked for */
    bool one_line;
};

__attribute__((format(printf, 2, 3), noreturn)) static inline void die(int status,
                                                                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(status);
}

static const char usage_text[] =
    "usage: load --port P [options]\n"
    "  --host H             a loopback address (127.0.0.1)\n"
    "  --connections N      light connections (64)\n"
    "  --cpu-connections M  connections whose messages make the server compute (0)\n"
    "  --size B             bytes of a message, 10 to 65536 (64)\n"
    "  --depth D            messages under way on each connection, 1 to 64 (1)\n"
    "  --seconds S          measured seconds (3)\n"
    "  --warmup S           seconds before that (0.5)\n"
    "  --server-pid PID     also report the CPU time of that process\n"
    "  --json               print the JSON object in one line\n";

static inline uint32_t number_in(const char *name, const char *text, uint32_t low, uint32_t high)
{
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || number < low || number > high)
        die(EXIT_BROKEN, "--%s wants a number from %u to %u, not '%s'", name, low, high, text);
    return (uint32_t)number;
}

static inline double seconds_in(const char *name, const char *text, double low)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= low) || !(seconds <= 3600))
        die(EXIT_BROKEN, "--%s wants seconds from %g to 3600, not '%s'", name, low, text);
    return seconds;
}

static inline void option_take(struct options *o, int letter, const char *text)
{
    switch (letter) {
    case 'h':
        o->host = text;
        break;
    case 'p':
        o->port = text;
        break;
    case 'n':
        o->light_count = number_in("connections", text, 0, CONNECTIONS_MAX);
        break;
    case 'm':
        o->cpu_count = number_in("cpu-connections", text, 0, CONNECTIONS_MAX);
        break;
    case 'b':
        o->size = number_in("size", text, HEADER_SIZE, SIZE_MAX_BYTES);
        break;
    case 'd':
        o->depth = number_in("depth", text, 1, DEPTH_MAX);
        break;
    case 's':
        o->seconds = seconds_in("seconds", text, 0.01);
        break;
    case 'w':
        o->warmup = seconds_in("warmup", text, 0);
        break;
    case 'i':
        o->server_pid = (int)number_in("server-pid", text, 1, INT32_MAX);
        break;
    case 'j':
        o->one_line = true;
        break;
    case 'H':
        fputs(usage_text, stdout);
        exit(0);
    default:
        fputs(usage_text, stderr);
        exit(EXIT_BROKEN);
    }
}

static inline struct options options_parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},
        {"port", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'n'},
        {"cpu-connections", required_argument, NULL, 'm'},
        {"size", required_argument, NULL, 'b'},
        {"depth", required_argument, NULL, 'd'},
        {"seconds", required_argument, NULL, 's'},
        {"warmup", required_argument, NULL, 'w'},
        {"server-pid", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'H'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {
        .host = "127.0.0.1",
        .light_count = 64,
        .size = 64,
        .depth = 1,
        .seconds = 3,
        .warmup = 0.5,
    };
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1)
        option_take(&o, letter, optarg);
    if (optind != argc)
        option_take(&o, '?', NULL);
    if (o.light_count + o.cpu_count == 0)
        die(EXIT_BROKEN, "--connections and --cpu-connections are both 0");
    if (o.cpu_count > 0 && o.depth > 1)
        die(EXIT_BROKEN, "--cpu-connections needs --depth 1: each message must arrive alone");
    return o;
}

#endif
