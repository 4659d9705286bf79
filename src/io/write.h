/* One write of a stream: a copy of the user's bytes, or memory lent until it ends.
 *
 * Any thread makes it and pushes it on the stream; the lane sends it; it ends on the lane, or for a
 * lent one in the stream's strand, with the user's callback.
 */
#ifndef RONDO_IO_WRITE_H
#define RONDO_IO_WRITE_H

#include "stream.h"

struct write {
    struct runnable event; /* its link also holds it in the stream's queues */
    struct rondo_stream *stream;
    const char *data;
    size_t size;
    rondo_written_fn *written; /* NULL: a copy, nobody is told */
    void *ctx;
    int result;
    bool from_slab;
    char bytes[]; /* of a copy */
};

static inline struct write *write_of(struct node *node)
{
    return container_of(runnable_of(node), struct write, event);
}

/* A write that owns a copy of @size bytes, or NULL. */
struct write *write_copy(struct rondo_stream *stream, const void *data, size_t size);

/* A write of lent memory, or NULL. */
struct write *write_lend(struct rondo_stream *stream, const void *data, size_t size,
                         rondo_written_fn *written, void *ctx);

/* Lane thread: it ended with @result; tells the user of a lent one. */
void write_end(struct lane *lane, struct write *write, int result);

#endif
