/* Making and ending writes; see write.h.
 *
 * Small writes come from a slab, so that the usual message costs no call of the allocator.
 */
#include "write.h"

#include "slab.h"

#include <string.h>

enum { WRITE_SLAB_NODE_SIZE = 512 };

static struct slab write_slab = {.id = SLAB_WRITE, .node_size = WRITE_SLAB_NODE_SIZE};

static void write_free(struct write *write)
{
    if (write->from_slab)
        slab_free(&write_slab, write);
    else
        sys.release(write);
}

static void end_copy(struct lane *lane, struct write *write)
{
    (void)lane;
    write_free(write);
}

static void written_run(struct runnable *runnable)
{
    struct write *write = container_of(runnable, struct write, event);

    write->lent.written(write->stream, write->result, write->lent.ctx);
    write_free(write);
}

static void end_lent(struct lane *lane, struct write *write)
{
    lane_post(lane, &write->stream->strand, &write->event);
}

static void end_forward(struct lane *lane, struct write *write)
{
    struct rondo_stream *from = write->from;

    (void)lane;
    stream_consumed(from, write->buffer);
    strand_unref(&from->strand);
    write_free(write);
}

static struct write *write_alloc(struct rondo_stream *stream, size_t copied_size)
{
    struct write *write;
    bool from_slab = copied_size <= WRITE_SLAB_NODE_SIZE - sizeof(*write);

    if (from_slab)
        write = slab_alloc(&write_slab);
    else
        write = sys.alloc_raw(sizeof(*write) + copied_size);
    if (!write)
        return NULL;
    *write = (struct write){
        .stream = stream,
        .parts = &write->one,
        .part_count = 1,
        .from_slab = from_slab,
    };
    return write;
}

/* @data is only read, whatever struct iovec says. */
static void write_set(struct write *write, const void *data, size_t size)
{
    write->one = (struct iovec){(void *)(uintptr_t)data, size};
    write->size = size;
}

struct write *write_copy(struct rondo_stream *stream, const void *data, size_t size)
{
    struct write *write = write_alloc(stream, size);

    if (write) {
        memcpy(write + 1, data, size);
        write_set(write, write + 1, size);
        write->end = end_copy;
    }
    return write;
}

struct write *write_lend(struct rondo_stream *stream, const void *data, size_t size,
                         rondo_written_fn *written, void *ctx)
{
    struct write *write = write_alloc(stream, 0);

    if (write) {
        write_set(write, data, size);
        write->end = end_lent;
        write->event.run = written_run;
        write->lent.written = written;
        write->lent.ctx = ctx;
    }
    return write;
}

struct write *write_forward(struct rondo_stream *stream, struct rondo_stream *from,
                            struct buffer *buffer)
{
    struct write *write = write_alloc(stream, 0);

    if (write) {
        write_set(write, buffer_data(buffer), buffer->size);
        write->end = end_forward;
        write->buffer = buffer;
        write->from = from;
        strand_ref(&from->strand);
    }
    return write;
}

void write_end(struct lane *lane, struct write *write, uint64_t sent, int result)
{
    write->over = true;
    write->sent = sent;
    write->result = result;
    if (write->notifications == 0)
        write->end(lane, write);
}

void write_notified(struct lane *lane, struct write *write)
{
    RONDO_ASSERT(write->notifications > 0);
    write->notifications--;
    if (write->over && write->notifications == 0)
        write->end(lane, write);
}
