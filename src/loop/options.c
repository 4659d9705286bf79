/* Checks options and chooses the automatic ones; see rondo/loop.h for the ranges. Any thread. */
#include "options.h"

#include "check.h"
#include "clock.h"
#include "error.h"
#include "sys.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
    WORKERS_MAX = 1024,
    MAX_WORKERS_MAX = 4096,
    MAX_WORKERS_AUTO = 256,
    LANES_MAX = 64,
    CONNECTIONS_MAX = 16777216,
    DESCRIPTORS_RESERVED = 64,
    BLOCKING_THREADS_MAX = 1024,
    NAME_LENGTH_MAX = 31,
};

struct range {
    const char *name;
    uint64_t value;
    uint64_t min;
    uint64_t max;
    bool power_of_two;
};

static int check_range(const struct range *range)
{
    if (range->value < range->min || range->value > range->max)
        return error_set(-EINVAL, "option %s: %llu is not between %llu and %llu", range->name,
                         (unsigned long long)range->value, (unsigned long long)range->min,
                         (unsigned long long)range->max);
    if (range->power_of_two && (range->value & (range->value - 1)))
        return error_set(-EINVAL, "option %s: %llu is not a power of two", range->name,
                         (unsigned long long)range->value);
    return 0;
}

static int check_name(const char *name)
{
    size_t length = name ? strnlen(name, NAME_LENGTH_MAX + 1) : 0;

    if (length < 1 || length > NAME_LENGTH_MAX)
        return error_set(-EINVAL, "option name: it must have 1 to %d bytes", NAME_LENGTH_MAX);
    if (strchr(name, '/'))
        return error_set(-EINVAL, "option name: \"%s\" contains a '/'", name);
    return 0;
}

static uint32_t min_u32(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

static void choose_automatic(struct rondo_loop_options *options)
{
    uint32_t processors = sys.processor_count();

    if (options->workers == RONDO_AUTO)
        options->workers = min_u32(processors, WORKERS_MAX);
    if (options->max_workers == RONDO_AUTO) {
        options->max_workers = min_u32(4 * (uint64_t)processors + 16, MAX_WORKERS_AUTO);
        if (options->max_workers < options->workers)
            options->max_workers = min_u32(options->workers, MAX_WORKERS_MAX);
    }
    if (options->connections == RONDO_AUTO) {
        uint64_t limit = sys.descriptor_limit();
        options->connections = limit > 2 * DESCRIPTORS_RESERVED
                                   ? min_u32(limit - DESCRIPTORS_RESERVED, CONNECTIONS_MAX)
                                   : (uint32_t)(limit / 2 + 1);
    }
}

static int check(const struct rondo_loop_options *options)
{
    const struct range ranges[] = {
        {"workers", options->workers, 1, WORKERS_MAX, false},
        {"max_workers", options->max_workers, 1, MAX_WORKERS_MAX, false},
        {"lanes", options->lanes, 1, LANES_MAX, false},
        {"grow_after_ns", options->grow_after_ns, 100 * NS_PER_US, 10 * NS_PER_SECOND, false},
        {"retire_after_ns", options->retire_after_ns, NS_PER_MS, 3600 * NS_PER_SECOND, false},
        {"spin_ns", options->spin_ns, 0, NS_PER_MS, false},
        {"submissions", options->submissions, 2, 32768, true},
        {"completions", options->completions, 2, 65536, true},
        {"buffer_size", options->buffer_size, 64, 1 << 20, false},
        {"buffers", options->buffers, 2, 32768, true},
        {"connections", options->connections, 1, CONNECTIONS_MAX, false},
        {"write_queue_max", options->write_queue_max, 4096, UINT64_C(1) << 40, false},
        {"blocking_threads", options->blocking_threads, 1, BLOCKING_THREADS_MAX, false},
        {"zero_copy_size", options->zero_copy_size, 4096, UINT64_MAX, false},
        {"overload_target_ns", options->overload_target_ns, 0, 10 * NS_PER_SECOND, false},
        {"overload_after_ns", options->overload_after_ns, NS_PER_MS, 10 * NS_PER_SECOND, false},
        {"shed_after_ns", options->shed_after_ns, 0, 3600 * NS_PER_SECOND, false},
    };
    int error = check_name(options->name);

    for (uint32_t i = 0; !error && i < ARRAY_SIZE(ranges); i++)
        error = check_range(&ranges[i]);
    if (error)
        return error;
    if (options->overload_target_ns > 0 && options->overload_target_ns < NS_PER_MS)
        return error_set(-EINVAL, "option overload_target_ns: %llu is neither 0 nor 1 ms or more",
                         (unsigned long long)options->overload_target_ns);
    if (options->max_workers < options->workers)
        return error_set(-EINVAL, "option max_workers: %u is less than workers, which is %u",
                         options->max_workers, options->workers);
    if (options->completions < options->submissions)
        return error_set(-EINVAL, "option completions: %u is less than submissions, which is %u",
                         options->completions, options->submissions);
    return 0;
}

int options_resolve(const struct rondo_loop_options *given, struct rondo_loop_options *ret_options)
{
    *ret_options = (struct rondo_loop_options)RONDO_LOOP_OPTIONS_INIT;
    if (given) {
        /* The first version has this one size; a later one accepts the older sizes too. */
        if (given->size != sizeof(*given))
            return error_set(-EINVAL,
                             "option size: %zu is not the size of the options; start "
                             "from RONDO_LOOP_OPTIONS_INIT",
                             given->size);
        *ret_options = *given;
    }
    choose_automatic(ret_options);
    return check(ret_options);
}
