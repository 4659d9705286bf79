/* What the files of the test drain_kinds share: what a kind is, and what was begun of it.
 *
 * Everything here: the test's thread, except note_closed(), which closed callbacks call.
 */
#ifndef DRAIN_KINDS_H
#define DRAIN_KINDS_H

#include "support.h"

#include <sys/socket.h>

enum { SLOTS = 3, OPERATIONS = 2, CLOSINGS = 2, SHORT_DRAIN_MS = 30 };

/* How the loop is ended. */
enum ending {
    DRAIN_IN_TIME,
    DRAIN_TOO_SHORT,
    STOP_AT_ONCE,
    STOP_LATER, /* when all is in the kernel's hands */
    ENDINGS,
};

struct closing {
    atomic_int count;
    int error;
};

/* One of a kind, alive. Members below `closings` are for the kind's own use. */
struct slot {
    const struct kind *kind;
    uint32_t number;
    struct outcome outcomes[OPERATIONS];
    int64_t finished[OPERATIONS]; /* what each ends with when it is not cancelled */
    uint32_t outcome_count;
    struct closing closings[CLOSINGS];
    uint32_t closing_count;
    int fds[4];
    rondo_stream *streams[2];
    rondo_file *file;
    rondo_process *process;
    rondo_future *future;
    rondo_handle timer;
    _Atomic uint32_t word;
    atomic_int asked;
    char byte;
};

struct kind {
    const char *name;
    void (*begin)(struct slot *slot);
    /* The loop drains: what a user does to finish. NULL: it ends by itself, except endless. */
    void (*finish)(struct slot *slot);
    /* The loop has ended in any way: give back what the test holds. */
    void (*clean)(struct slot *slot);
    int family;      /* what begin may need to know */
    bool endless;    /* nothing in reach finishes it: drained for too short only */
    bool may_finish; /* also when it is to be cancelled it may end well */
};

#define KIND(name_, begin_, ...)                        \
    {                                                   \
        .name = (name_), .begin = (begin_), __VA_ARGS__ \
    }
#define FINISH(finish_, clean_) .finish = (finish_), .clean = (clean_)

/* The kinds of sockets and pipes, until one without a name. */
extern const struct kind network_kinds[];

/* Of the run that is under way. */
extern rondo_loop *loop;
extern enum ending ending;

/* The next operation of the slot, which ends well with @finished. */
const struct rondo_request *operation(struct slot *slot, int64_t finished);

/* The ctx of a handle of the slot, and what its closed callback calls with it. */
struct closing *expect_closed(struct slot *slot);
void note_closed(struct closing *closing, int error);

/* The slot's first two descriptors. */
void open_pair(struct slot *slot, int type);
void open_pipe(struct slot *slot);
void close_both_ends(struct slot *slot);
/* The loop has the first: these work on the second. */
void send_byte(struct slot *slot);
void close_other_end(struct slot *slot);

#endif
