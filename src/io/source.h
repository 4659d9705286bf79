/* A handle that reads records from a descriptor into a buffer of its own: signals, changes of
 * files, rings of a wake. One read at a time, and by default the next one only after a worker is
 * done with the last.
 *
 *   IDLE --arm--> POLLING --readable--> READING --got some--> arrived(): by default given to the
 *    ^                                     |                  strand; IDLE again
 *    +--------- nothing there after all ---+
 *
 * The descriptor does not block, so a read ends at once; the poll before it does the waiting, also
 * where the kernel could not wait inside a read of such a descriptor.
 *
 * Invariants: (1) the descriptor stays open until nobody has a reference, so other threads may use
 * its number until the closed event has run; (2) the buffer is the kernel's while READING, the
 * worker's while the event is out, and the lane's otherwise.
 */
#ifndef RONDO_IO_SOURCE_H
#define RONDO_IO_SOURCE_H

#include "handle.h"

enum {
    SOURCE_CONSUMED = HANDLE_OWN,
    SOURCE_OWN = HANDLE_OWN << 1, /* from here up: the kind's own */
};

enum source_state { SOURCE_IDLE, SOURCE_POLLING, SOURCE_READING };

struct source {
    struct handle handle;
    int fd;
    uint32_t buffer_size;
    void *buffer;
    /* Lane thread: @filled bytes have arrived. */
    void (*arrived)(struct lane *lane, struct source *source);
    /* Lane thread: it cannot read any more. */
    void (*failed)(struct lane *lane, struct source *source, int error);

    /* Lane thread only. */
    enum source_state state;
    uint32_t filled;
    uint64_t user_data;
    bool cancelled;
    bool held; /* a worker has the buffer */

    struct runnable event; /* the kind sets its run */
};

/* Any thread: as handle_init(). The descriptor does not block; it is closed by source_fini(). */
bool source_init(struct source *source, const struct handle_kind *kind, struct lane *lane, int fd,
                 void *buffer, uint32_t buffer_size);

/* In kind->destroy. */
void source_fini(struct source *source);

/* Lane thread: wait for more, if it does not already. */
void source_arm(struct lane *lane, struct source *source);

/* As kind->advance and kind->quiesce. */
void source_advance(struct lane *lane, struct handle *handle);
bool source_quiesce(struct lane *lane, struct handle *handle);

/* The worker that ran the event: the buffer may be filled again. */
void source_consumed(struct source *source);

static inline struct source *source_of(struct handle *handle)
{
    return container_of(handle, struct source, handle);
}

#endif
