/* Receive buffers that the kernel picks itself, in a ring shared with it.
 *
 *   kernel's ring --receive completes--> lane --event--> worker --returns inbox--> lane --> ring
 *
 * The buffer's header carries the event that takes its bytes to the stream, so a receive needs no
 * allocation. Chunks of buffers are added while the kernel's ring runs low, up to the limit.
 *
 * Lane thread only, except buffer_return(). Invariants: (1) a buffer is either with the kernel or
 * out, and returned once; (2) only the lane writes the ring's tail; (3) free + out == allocated.
 */
#ifndef RONDO_RING_BUFFER_RING_H
#define RONDO_RING_BUFFER_RING_H

#include "inbox.h"
#include "ring.h"
#include "runnable.h"

enum buffer_group {
    BUFFER_GROUP,   /* for streams */
    DATAGRAM_GROUP, /* for datagrams, which must fit into one */
};

enum { BUFFER_CHUNK_COUNT = 64 };

struct buffer {
    struct runnable event; /* the next link also carries it back */
    void *owner;           /* the handle that received into it */
    uint32_t size;         /* bytes received */
    uint16_t id;
    bool out;
};

struct buffer_ring {
    struct io_uring_buf_ring *entries;
    struct buffer **buffers; /* by id */
    void **chunks;
    uint32_t chunk_count;
    uint32_t count_max; /* a power of two */
    uint32_t buffer_size;
    enum buffer_group group;
    uint32_t allocated_count;
    uint32_t free_count;        /* with the kernel */
    uint32_t unpublished_count; /* written, and not yet shown to the kernel */
    struct inbox returns;       /* asleep: the lane must be woken for the next return */
    struct chain starved;       /* the lane's: handles whose receive found no buffer */
};

/* Registers with an enabled ring: 0, or an error with a text. */
int buffer_ring_init(struct buffer_ring *buffers, struct ring *ring, enum buffer_group group,
                     uint32_t count_max, uint32_t buffer_size);
void buffer_ring_fini(struct buffer_ring *buffers);

/* The kernel filled buffer @id with @size bytes. */
struct buffer *buffer_ring_picked(struct buffer_ring *buffers, uint32_t id, uint32_t size);

static inline void *buffer_data(struct buffer *buffer)
{
    return buffer + 1;
}

/* Any thread: give a buffer back. True: the lane waits for it, ring its bell. */
static inline bool buffer_return(struct buffer_ring *buffers, struct buffer *buffer)
{
    return inbox_push(&buffers->returns, &buffer->event.node);
}

/* Show returned buffers to the kernel, and allocate more when it runs low: @wanted handles have
 * found none. */
void buffer_ring_refill(struct buffer_ring *buffers, uint32_t wanted);

#endif
