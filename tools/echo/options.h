/* The command line of rondo-echo. */
#ifndef ECHO_OPTIONS_H
#define ECHO_OPTIONS_H

#include <stdint.h>

#include <rondo/rondo.h>

struct echo_options {
    const char *host;
    uint16_t port;
    uint64_t burn_us;
    uint64_t drain_ms;
    struct rondo_loop_options loop;
};

/* 0: use *ret_options. 1: all was said (--help, --version). Else the exit status of a usage error,
 * which was explained on stderr. */
int echo_options_parse(int argc, char **argv, struct echo_options *ret_options);

#endif
