/* The private ring on which the probe tries facilities, and what its tests share.
 *
 * The thread that probes owns the ring. What may fail is the kernel, never an assertion: every
 * answer becomes the error of a row. Invariants: (1) a timeout of five seconds guards all waits;
 * (2) the memory that operations point to outlives the ring, and is leaked if one did not end.
 */
#ifndef RONDO_RING_PROBE_BENCH_H
#define RONDO_RING_PROBE_BENCH_H

#include "probe_facts.h"

#include <sys/socket.h>

enum {
    BENCH_GROUP = 0,
    BENCH_GROUP_INCREMENTAL = 1,
    BENCH_BUFFER_COUNT = 8,
    BENCH_BUFFER_SIZE = 128,
    BENCH_PAGE_SIZE = 65536, /* no kernel has larger ones */
};

/* What one test waits for: the operation under test, and another one. */
enum tag { TAG_FIRST, TAG_SECOND, TAG_CANCEL, TAG_COUNT, TAG_GUARD = TAG_COUNT };

struct seen {
    uint32_t count;
    int32_t result; /* of the first completion */
    uint32_t flags;
    bool ended; /* a completion without "more" was seen */
};

/* The memory that operations point to, in pages of its own. */
struct bench_memory {
    /* First and a whole page each, because a ring of buffers begins a page. */
    struct io_uring_buf entries[2][BENCH_PAGE_SIZE / sizeof(struct io_uring_buf)];
    char buffers[2][BENCH_BUFFER_COUNT][BENCH_BUFFER_SIZE];
    struct msghdr message;
    siginfo_t info;
    struct __kernel_timespec long_time, no_time;
    uint32_t word;
    char byte;
};

struct bench {
    struct ring ring;
    struct bench_memory *memory;
    uint64_t test; /* counts the tests: completions of earlier ones are not looked at */
    struct seen seen[TAG_COUNT];
    bool guard_fired;
    int buffers_error; /* why there is no ring of buffers; 0: there is one */
};

/* An empty submission whose completion is seen as @tag. */
struct io_uring_sqe *bench_submission(struct bench *bench);
void bench_tag(struct bench *bench, struct io_uring_sqe *sqe, enum tag tag);

/* The number of the operation with @tag in this test. */
uint64_t bench_user_data(const struct bench *bench, enum tag tag);

/* Enter and take completions until @tag has ended, or has completed at all. 0 or an error. */
int bench_await(struct bench *bench, enum tag tag, bool to_the_end);

/* What the first completion of the operation under test says: its result or an error. */
int bench_result(struct bench *bench);

/* The same of a multishot: an older kernel refuses it, or takes it for a single one. */
int bench_multishot_result(struct bench *bench);

/* End the operation under test if it has not ended. */
void bench_finish(struct bench *bench);

struct probe_test {
    enum probe_facility facility;
    int (*run)(struct bench *bench); /* 0, or the error of the row */
};

extern const struct probe_test probe_tests[];
extern const uint32_t probe_test_count;

#endif
