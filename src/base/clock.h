/* Monotonic time in nanoseconds, the only time the library knows. Any thread. */
#ifndef RONDO_BASE_CLOCK_H
#define RONDO_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_SECOND UINT64_C(1000000000)

/* "Never": the deadline that does not come. */
#define DEADLINE_NEVER UINT64_MAX

/* CLOCK_MONOTONIC now. */
uint64_t clock_now_ns(void);

/* Sleep for about that long. */
void clock_nap_ns(uint64_t duration_ns);

/* now + delay, or DEADLINE_NEVER - 1 where the sum does not fit: 584 years are long enough. */
static inline uint64_t clock_add_ns(uint64_t now_ns, uint64_t delay_ns)
{
    uint64_t limit_ns = DEADLINE_NEVER - 1;

    return delay_ns > limit_ns - now_ns ? limit_ns : now_ns + delay_ns;
}

#endif
