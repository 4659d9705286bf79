/*
 * A log-linear histogram of nanoseconds: exact below 128 ns, then 128 steps for each power of two,
 * so a value is kept with less than 0.8 % of error. Values above 2^40 ns count as 2^40 ns.
 * Owned by one thread.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 7,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_STEP_BITS,
    HISTOGRAM_VALUE_BITS = 40,
    HISTOGRAM_CELLS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 2) * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t cells[HISTOGRAM_CELLS];
};

static inline uint32_t histogram_cell(uint64_t value_ns)
{
    if (value_ns < HISTOGRAM_STEPS)
        return (uint32_t)value_ns;
    if (value_ns > UINT64_C(1) << HISTOGRAM_VALUE_BITS)
        value_ns = UINT64_C(1) << HISTOGRAM_VALUE_BITS;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value_ns) - HISTOGRAM_STEP_BITS;
    return shift * HISTOGRAM_STEPS + (uint32_t)(value_ns >> shift);
}

/* The middle of a cell: what its values are reported as. */
static inline uint64_t histogram_cell_ns(uint32_t cell)
{
    if (cell < 2 * HISTOGRAM_STEPS)
        return cell;
    uint32_t shift = cell / HISTOGRAM_STEPS - 1;
    uint64_t low = (uint64_t)(cell - shift * HISTOGRAM_STEPS) << shift;
    return low + (UINT64_C(1) << shift) / 2;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    histogram->cells[histogram_cell(value_ns)]++;
    histogram->count++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

/* The value below which @fraction of all values lie; 0 when there are none. */
static inline uint64_t histogram_quantile_ns(const struct histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)((double)histogram->count * fraction);
    uint64_t seen = 0;
    for (uint32_t cell = 0; cell < HISTOGRAM_CELLS; cell++) {
        seen += histogram->cells[cell];
        if (seen > wanted) {
            uint64_t value_ns = histogram_cell_ns(cell);
            return value_ns < histogram->max_ns ? value_ns : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

#endif
