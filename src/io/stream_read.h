/* Read operations of a stream, seen from inside: what waits in its queue of reads.
 *
 * The first one is served: it receives into its own memory, or passes on what arrives to another
 * stream. What a read took beyond its end is kept as the stream's surplus for the next one.
 *
 * Lane thread only. Invariant: while the first one receives, no other does.
 */
#ifndef RONDO_IO_STREAM_READ_H
#define RONDO_IO_STREAM_READ_H

#include "operation.h"
#include "stream.h"

/* Descriptors that one read or write can carry. */
enum { STREAM_DESCRIPTORS_MAX = 16 };

#define STREAM_CONTROL_SIZE CMSG_SPACE(STREAM_DESCRIPTORS_MAX * sizeof(int))

struct read_operation {
    struct operation base;
    struct node node;
    struct rondo_stream *stream; /* with a reference */
    char *data;
    size_t size;
    size_t have;
    size_t enough;         /* bytes that end it */
    const char *delimiter; /* that ends it, or NULL */
    size_t delimiter_size;
    bool cancelled;
    struct rondo_stream *to; /* passes on to this stream, with a reference, or NULL */
    int error;               /* why passing on ended */

    /* Where descriptors that arrive with the bytes go, or NULL. */
    int *descriptors;
    uint32_t *descriptor_count;
    uint32_t descriptor_room;
    struct msghdr header;
    struct iovec part;
    union {
        struct cmsghdr align;
        char bytes[STREAM_CONTROL_SIZE];
    } control;
};

RONDO_STATIC_ASSERT(sizeof(struct read_operation) <= OPERATION_SIZE);

static inline struct read_operation *read_of(struct node *node)
{
    return container_of(node, struct read_operation, node);
}

/* Any thread: 0 and an operation to fill in and submit, or an error. It keeps @stream alive. */
int stream_read_create(struct rondo_stream *stream, const struct rondo_request *request,
                       struct read_operation **ret_read);

/* Lane thread: the first one of the stream's queue, or NULL. */
static inline struct read_operation *stream_first_read(const struct rondo_stream *stream)
{
    return stream->reads.first ? read_of(stream->reads.first) : NULL;
}

/* Lane thread: the first one ends. */
void stream_end_first_read(struct lane *lane, struct rondo_stream *stream, int64_t value);

/* Lane thread: what the first one does that passes on. */
void stream_relay_advance(struct lane *lane, struct rondo_stream *stream);

/* Lane thread: up to @size bytes of the surplus; how many. */
size_t stream_surplus_take(struct rondo_stream *stream, char *bytes, size_t size);

#endif
