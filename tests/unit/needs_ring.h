/* For tests that need a real io_uring: main() asks here first, and skips where there is none. */
#ifndef RONDO_TESTS_UNIT_NEEDS_RING_H
#define RONDO_TESTS_UNIT_NEEDS_RING_H

#include "support.h"

#include "error.h"
#include "ring.h"

/* The exit status that the build system reads as "skipped". */
enum { TEST_SKIPPED = 77 };

/* In the place of sys.ring_register: nothing can be registered, nor a ring be enabled. */
static inline int ring_register_refused(int fd, unsigned opcode, const void *arg, unsigned count)
{
    (void)fd;
    (void)opcode;
    (void)arg;
    (void)count;
    return -EPERM;
}

static inline bool ring_is_missing(void)
{
    struct ring ring;
    struct ring_options options = {.submissions = 2, .completions = 4};

    if (ring_init(&ring, &options)) {
        printf("skip: %s\n", rondo_error_text());
        return true;
    }
    ring_fini(&ring);
    return false;
}

#endif
