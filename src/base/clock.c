/* Reads the monotonic clock through the table of system calls, so a test can own time. */
#include "clock.h"

#include "rondo/timer.h"

#include "check.h"
#include "sys.h"

uint64_t clock_now_ns(void)
{
    return sys.clock_now_ns();
}

void clock_nap_ns(uint64_t duration_ns)
{
    static const uint32_t never_woken;

    (void)sys.futex_wait(&never_woken, 0, UINT32_MAX, clock_add_ns(clock_now_ns(), duration_ns));
}

RONDO_PUBLIC uint64_t rondo_now_ns(void)
{
    return clock_now_ns();
}
