/* One write of a stream: where its bytes are, and what to do when it ends.
 *
 * Any thread makes it and pushes it on the stream; the lane sends it, in order, and ends it: when
 * all its bytes are with the kernel and the kernel needs its memory no more, or when it fails.
 */
#ifndef RONDO_IO_WRITE_H
#define RONDO_IO_WRITE_H

#include "stream.h"

#include <sys/uio.h>

struct write {
    struct runnable event; /* its link also holds it in the stream's queues */
    struct rondo_stream *stream;
    const struct iovec *parts; /* its own one, or an array of the user's */
    uint32_t part_count;
    bool from_slab;
    bool has_control;
    bool cancelled;         /* lane: take it off the queue as soon as the kernel lets go of it */
    bool over;              /* lane: off the queue, and only waits for notifications */
    uint32_t notifications; /* lane: sends without copying whose memory the kernel still reads */
    int result;
    size_t size;
    uint64_t sent; /* lane: of it, when it is off the queue */
    struct iovec one;
    /* Lane thread, once. It frees the write, or hands it on. */
    void (*end)(struct lane *lane, struct write *write);
    union {
        struct {
            rondo_written_fn *written;
            void *ctx;
        } lent;
        struct buffer *buffer;        /* received by @from, on its way to another stream */
        const struct msghdr *control; /* descriptors that go with its first byte */
    };
    struct rondo_stream *from;
    /* Behind it: the bytes of a copy. */
};

static inline struct write *write_of(struct node *node)
{
    return container_of(runnable_of(node), struct write, event);
}

/* A write that owns a copy of @size bytes, or NULL. */
struct write *write_copy(struct rondo_stream *stream, const void *data, size_t size);

/* A write of lent memory, or NULL. @size: of all parts. */
struct write *write_lend(struct rondo_stream *stream, const void *data, size_t size,
                         rondo_written_fn *written, void *ctx);

/* A write of what @from received into @buffer, which goes back when it ends, or NULL. */
struct write *write_forward(struct rondo_stream *stream, struct rondo_stream *from,
                            struct buffer *buffer);

/* Lane thread: it is off the queue with @sent bytes sent, and @result. */
void write_end(struct lane *lane, struct write *write, uint64_t sent, int result);

/* Lane thread: take it off its stream's queue as soon as the kernel lets go of it. */
void stream_write_cancel(struct lane *lane, struct write *write);

/* Lane thread: a notification for it came. */
void write_notified(struct lane *lane, struct write *write);

#endif
