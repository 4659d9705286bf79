/* Parses the command line of rondo-echo and explains what is wrong with it. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, EXIT_SAID = 1 };

static const char help[] =
    "Usage: rondo-echo [options]\n"
    "\n"
    "A TCP server that sends back every byte it receives, on one event loop with many threads.\n"
    "\n"
    "  --host ADDRESS     numeric IPv4 or IPv6 address to listen on (127.0.0.1)\n"
    "  --port N           port, 0 lets the system choose (7000)\n"
    "  --workers N        workers that are always there (the number of processors)\n"
    "  --max-workers N    workers the pool may grow to (4 x processors + 16)\n"
    "  --lanes N          completion threads, each with an io_uring of its own (1)\n"
    "  --spin-us N        how long an idle worker looks for work before it sleeps (0)\n"
    "  --burn-us N        a message whose first byte is 'C' costs N microseconds of computing (0)\n"
    "  --drain-ms N       on SIGTERM or SIGINT, how long open connections may take (2000)\n"
    "  --help, --version\n"
    "\n"
    "Prints `listening on HOST:PORT` when ready. SIGTERM or SIGINT finishes what is in hand and\n"
    "exits with 0; a second signal ends at once. Other exit statuses: 1 the server could not run,\n"
    "2 the command line is wrong.\n"
    "\n"
    "Examples:\n"
    "  rondo-echo --port 7000\n"
    "  rondo-echo --host :: --port 0 --workers 2 --max-workers 2\n"
    "  rondo-echo --burn-us 10000     # then send messages that begin with C and others\n";

static int parse_number(const char *name, const char *text, uint64_t max, uint64_t *ret_value)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value > max) {
        fprintf(stderr, "rondo-echo: --%s: \"%s\" is not a number from 0 to %llu\n", name, text,
                (unsigned long long)max);
        return EXIT_USAGE;
    }
    *ret_value = value;
    return 0;
}

enum option_id {
    OPTION_HOST = 1,
    OPTION_PORT,
    OPTION_WORKERS,
    OPTION_MAX_WORKERS,
    OPTION_LANES,
    OPTION_SPIN_US,
    OPTION_BURN_US,
    OPTION_DRAIN_MS,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"host", required_argument, NULL, OPTION_HOST},
    {"port", required_argument, NULL, OPTION_PORT},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"max-workers", required_argument, NULL, OPTION_MAX_WORKERS},
    {"lanes", required_argument, NULL, OPTION_LANES},
    {"spin-us", required_argument, NULL, OPTION_SPIN_US},
    {"burn-us", required_argument, NULL, OPTION_BURN_US},
    {"drain-ms", required_argument, NULL, OPTION_DRAIN_MS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static int apply(enum option_id id, const char *name, struct echo_options *options)
{
    uint64_t value = 0;
    int error = 0;

    switch (id) {
    case OPTION_HOST:
        options->host = optarg;
        break;
    case OPTION_PORT:
        error = parse_number(name, optarg, UINT16_MAX, &value);
        options->port = (uint16_t)value;
        break;
    case OPTION_WORKERS:
        error = parse_number(name, optarg, UINT32_MAX - 1, &value);
        options->loop.workers = (uint32_t)value;
        break;
    case OPTION_MAX_WORKERS:
        error = parse_number(name, optarg, UINT32_MAX - 1, &value);
        options->loop.max_workers = (uint32_t)value;
        break;
    case OPTION_LANES:
        error = parse_number(name, optarg, UINT32_MAX - 1, &value);
        options->loop.lanes = (uint32_t)value;
        break;
    case OPTION_SPIN_US:
        error = parse_number(name, optarg, 1000, &value);
        options->loop.spin_ns = value * 1000;
        break;
    case OPTION_BURN_US:
        error = parse_number(name, optarg, 10000000, &options->burn_us);
        break;
    case OPTION_DRAIN_MS:
        error = parse_number(name, optarg, 3600000, &options->drain_ms);
        break;
    case OPTION_HELP:
        (void)fputs(help, stdout);
        return EXIT_SAID;
    case OPTION_VERSION:
        printf("rondo-echo %s\n", rondo_version());
        return EXIT_SAID;
    }
    return error;
}

int echo_options_parse(int argc, char **argv, struct echo_options *ret_options)
{
    int id;
    int index = 0;

    *ret_options = (struct echo_options){
        .host = "127.0.0.1", .port = 7000, .drain_ms = 2000, .loop = RONDO_LOOP_OPTIONS_INIT};
    ret_options->loop.name = "echo";
    while ((id = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (id == '?')
            break; /* getopt_long() has said what it is. */
        int error = apply((enum option_id)id, long_options[index].name, ret_options);
        if (error)
            return error;
    }
    if (id == -1 && optind == argc)
        return 0;
    if (id == -1)
        fprintf(stderr, "rondo-echo: unexpected argument \"%s\"\n", argv[optind]);
    fprintf(stderr, "Try `rondo-echo --help`.\n");
    return EXIT_USAGE;
}
