/* Assertions and the few macros every file uses.
 *
 * RONDO_ASSERT states an invariant of our own code and stays on in release builds; what a user can
 * get wrong is answered with an error, never with an assertion.
 */
#ifndef RONDO_BASE_CHECK_H
#define RONDO_BASE_CHECK_H

#include <stddef.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define RONDO_ASSERT(condition)                           \
    do {                                                  \
        if (unlikely(!(condition)))                       \
            check_failed(#condition, __FILE__, __LINE__); \
    } while (0)

#define RONDO_STATIC_ASSERT(condition) _Static_assert(condition, #condition)

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* An array on a hot path that is written before it is read: the build clears all others. */
#define UNINITIALIZED __attribute__((uninitialized))

/* A public function: everything else is hidden by -fvisibility=hidden. */
#define RONDO_PUBLIC __attribute__((visibility("default")))

/* Prints the failed condition and aborts the process. */
_Noreturn void check_failed(const char *condition, const char *file, int line);

#endif
