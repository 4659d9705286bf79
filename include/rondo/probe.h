/* What this kernel offers to rondo, what it does not and why, and what is used instead. */
#ifndef RONDO_PROBE_H
#define RONDO_PROBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether a facility can be used by this process, now. */
enum rondo_facility_state {
    RONDO_FACILITY_LIVE = 0,      /* it works: it was tried */
    RONDO_FACILITY_ABSENT = 1,    /* this kernel does not have it */
    RONDO_FACILITY_REFUSED = 2,   /* the kernel knows it and refuses it: a flag, a limit */
    RONDO_FACILITY_FORBIDDEN = 3, /* a seccomp filter, a sysctl or a security module forbids it */
};

/* What it means to rondo that a facility is missing. */
enum rondo_facility_need {
    RONDO_FACILITY_REQUIRED = 0, /* no loop works without it */
    RONDO_FACILITY_USED = 1,     /* `instead` takes its place */
    RONDO_FACILITY_PLANNED = 2,  /* not used by this version; the row is information */
};

/* One row. All texts are there in every row, none is NULL; reason and remedy of a facility that is
 * live are empty. */
struct rondo_facility {
    const char *name;
    const char *used_for;
    const char *reason;  /* why not: the kernel it needs, the error, seccomp, the sysctl, a limit */
    const char *remedy;  /* what would make it live */
    const char *instead; /* what rondo does without it, whether it is live or not */
    uint32_t state;      /* enum rondo_facility_state */
    uint32_t need;       /* enum rondo_facility_need */
    int error;           /* what the kernel answered, a negative errno value; 0: it is live */
    uint32_t since_major; /* the first Linux that has it, 6.7 for example */
    uint32_t since_minor;
};

/* The whole table. */
struct rondo_probe {
    size_t size;         /* what the library that made it knows */
    const char *kernel;  /* the release that runs, such as "6.1.0-18-amd64" */
    const char *verdict; /* in one sentence: can rondo work here, and how well */
    const char *remedy;  /* what to do about it; empty when nothing is missing */
    uint32_t is_usable;  /* 1: every required facility is live */
    uint32_t facility_count;
    const struct rondo_facility *const *facilities;
};

/* Try every kernel facility that rondo wants, on a ring and on descriptors of its own. Any thread,
 * also several at a time; does not suspend, blocks for about a millisecond, at most five
 * seconds. It never fails for lack of a facility: where io_uring is missing or forbidden, every
 * row of the ring says so and why. It reads /proc, opens no other file, sends nothing to another
 * host and loads no kernel module. The answer is that of the moment: limits and filters may change.
 * *ret_probe and all its texts are yours until rondo_probe_free().
 * Returns 0, -EINVAL (ret_probe is NULL), -ENOMEM. Since 0.1. */
int rondo_probe(struct rondo_probe **ret_probe);

/* Free a table; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_probe_free(struct rondo_probe *probe);

#ifdef __cplusplus
}
#endif

#endif
