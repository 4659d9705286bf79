/* What the files of the probe share: the facts that trying finds, and the rows they are told in.
 *
 * One thread fills a struct probe_facts and turns it into texts; nothing here is shared.
 */
#ifndef RONDO_RING_PROBE_FACTS_H
#define RONDO_RING_PROBE_FACTS_H

#include "probe.h"
#include "ring.h"

#include "rondo/probe.h"

enum { PROBE_OP_COUNT = 256, PROBE_TEXT_SIZE = 256 };

/* How it is found out whether a facility is live. */
enum probe_how {
    PROBE_BY_TEST,    /* by using it, if the operation it belongs to is listed */
    PROBE_BY_USE,     /* the same for an operation as such */
    PROBE_BY_OPCODE,  /* the kernel lists its operations */
    PROBE_BY_SETUP,   /* a ring is set up with the flag */
    PROBE_BY_FEATURE, /* the kernel lists its features */
};

struct probe_row {
    const char *name;
    const char *used_for;
    const char *instead;
    uint8_t need; /* enum rondo_facility_need */
    uint8_t how;
    uint8_t since_major;
    uint8_t since_minor;
    uint32_t what; /* the opcode, flags or feature bit; of a test, its opcode or 0 */
};

extern const struct probe_row probe_rows[PROBE_COUNT];

/* Who this process is and what binds it: -1 where it is not known. */
struct probe_surroundings {
    char release[65];
    uint32_t major, minor;
    int seccomp;      /* the mode: 0 none, 2 a filter */
    int ring_sysctl;  /* kernel.io_uring_disabled, which exists since 6.6 */
    int fastopen;     /* net.ipv4.tcp_fastopen */
    bool is_admin;    /* has CAP_SYS_ADMIN, which the sysctl lets through */
    uint64_t memlock; /* RLIMIT_MEMLOCK in bytes, UINT64_MAX: no limit */
};

struct probe_facts {
    struct probe_surroundings here;
    /* Why no ring can be used, and the call that said so; 0: one can. */
    int ring_error;
    const char *ring_call;
    int errors[PROBE_COUNT]; /* 0: live */
    bool ops[PROBE_OP_COUNT];
};

/* The whole of /proc/... at @path, as a text: its length or an error. */
int probe_read_text(const char *path, char *ret_text, size_t size);

void probe_surroundings(struct probe_surroundings *ret_here);

/* Try what belongs to the ring, and what does not: each fills its part of errors. */
void probe_ring(struct probe_facts *facts);
void probe_kernel(struct probe_facts *facts);

/* State, reason and remedy of a row. */
void probe_tell(const struct probe_facts *facts, enum probe_facility facility,
                struct rondo_facility *ret_row, char ret_reason[PROBE_TEXT_SIZE],
                char ret_remedy[PROBE_TEXT_SIZE]);

#endif
