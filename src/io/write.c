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

static void written_run(struct runnable *runnable)
{
    struct write *write = container_of(runnable, struct write, event);

    write->written(write->stream, write->result, write->ctx);
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
        .event.run = written_run,
        .stream = stream,
        .data = write->bytes,
        .size = copied_size,
        .from_slab = from_slab,
    };
    return write;
}

struct write *write_copy(struct rondo_stream *stream, const void *data, size_t size)
{
    struct write *write = write_alloc(stream, size);

    if (write)
        memcpy(write->bytes, data, size);
    return write;
}

struct write *write_lend(struct rondo_stream *stream, const void *data, size_t size,
                         rondo_written_fn *written, void *ctx)
{
    struct write *write = write_alloc(stream, 0);

    if (write) {
        write->data = data;
        write->size = size;
        write->written = written;
        write->ctx = ctx;
    }
    return write;
}

void write_end(struct lane *lane, struct write *write, int result)
{
    if (!write->written) {
        write_free(write);
        return;
    }
    write->result = result;
    lane_post(lane, &write->stream->strand, &write->event);
}
