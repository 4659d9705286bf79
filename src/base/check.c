/* What happens when an invariant does not hold: say which one, then stop the process.
 *
 * Any thread. Nothing is allocated and no lock is taken, so it works in any state.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "rondo: invariant failed: %s (%s:%d)\n", condition, file, line);
    abort();
}
