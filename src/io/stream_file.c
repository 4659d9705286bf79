/* Writing a part of a file to a stream, in turn with the stream's other writes.
 *
 *   lane: it is first --> worker: sendfile(2) until there is no room --> lane: polls, or it is over
 *
 * The bytes go from the page cache to the socket. A worker does it, not the lane, because the file
 * may have to be read from a disk first; the kernel's own asynchronous splice would do it on
 * threads of its own, one for each slow peer. Public function: any thread.
 */
#include "file.h"
#include "write.h"

enum { FILE_TURN_SIZE = 1 << 20 }; /* bytes sent before others get their turn */

struct file_write {
    struct operation base;
    struct write write;
    struct rondo_file *file; /* used */
    uint64_t offset;
    bool to_end; /* as much as there is */
    struct runnable turn;
    struct lane_request turned;
    uint64_t before; /* bytes sent before this turn */
    uint64_t sent;   /* in this turn */
    int64_t result;  /* of the last sendfile(2) */
};

RONDO_STATIC_ASSERT(sizeof(struct file_write) <= OPERATION_SIZE);

/* A worker. The stream keeps its descriptor open while a send is in flight. */
static void turn_run(struct runnable *runnable)
{
    struct file_write *self = container_of(runnable, struct file_write, turn);
    uint64_t left = self->write.size - self->before;
    uint64_t size = left < FILE_TURN_SIZE ? left : FILE_TURN_SIZE;

    self->sent = 0;
    do {
        self->result = sys.send_file(self->write.stream->fd, self->file->fd,
                                     self->offset + self->before + self->sent, size - self->sent);
        if (self->result > 0)
            self->sent += (uint64_t)self->result;
    } while (self->result > 0 && self->sent < size);
    lane_ask(self->base.lane, &self->turned);
}

/* Whether the stream is no good any more, not only the file. */
static bool is_connection_error(int64_t result)
{
    return result == -EPIPE || result == -ECONNRESET || result == -ETIMEDOUT ||
           result == -ENOTCONN || result == -EHOSTUNREACH || result == -ENETUNREACH;
}

static void turned_run(struct lane *lane, struct lane_request *request)
{
    struct file_write *self = container_of(request, struct file_write, turned);
    bool is_whole = self->before + self->sent == self->write.size;
    int result = self->result < 0 ? (int)self->result : 0;

    if (is_connection_error(result)) {
        stream_break(self->write.stream, result);
        result = -EAGAIN; /* It ends with the stream. */
    } else if (result == -EINTR) {
        result = 0;
    } else if (self->result == 0 && !is_whole && !self->to_end) {
        result = -ENODATA;
    }
    stream_sent_apart(lane, &self->write, self->sent, result, is_whole || self->result == 0);
}

static void file_send(struct lane *lane, struct write *write)
{
    struct file_write *self = container_of(write, struct file_write, write);

    self->before = write->stream->sent_of_first;
    chain_append(&lane->ready, &self->turn.node);
}

static void file_write_end(struct lane *lane, struct write *write)
{
    struct file_write *self = container_of(write, struct file_write, write);

    self->base.result.bytes = write->sent;
    operation_end(lane, &self->base, write->result ? write->result : (int64_t)write->sent);
}

static void file_write_cancel(struct lane *lane, struct operation *operation)
{
    stream_write_cancel(lane, &((struct file_write *)operation)->write);
}

static void file_write_release(struct operation *operation)
{
    struct file_write *self = (struct file_write *)operation;

    file_drop(self->file);
    strand_unref(&self->write.stream->strand);
}

/* It has begun when it is queued. */
static const struct operation_kind file_write_kind = {
    .name = "write-file",
    .cancel = file_write_cancel,
    .release = file_write_release,
};

static int submit(struct rondo_stream *stream, struct rondo_file *file, uint64_t offset,
                  uint64_t size, const struct rondo_request *request)
{
    struct operation *operation;
    int error = operation_create(&file_write_kind, stream_hub(stream), stream->lane,
                                 &stream->strand, request, &operation);

    if (error)
        return error;
    struct file_write *self = (struct file_write *)operation;
    strand_ref(&stream->strand);
    self->file = file;
    self->offset = offset;
    self->to_end = size == RONDO_FILE_REST;
    self->turn.run = turn_run;
    self->turned.run = turned_run;
    self->write.stream = stream;
    self->write.send = file_send;
    self->write.end = file_write_end;
    self->write.size = self->to_end ? INT64_MAX - offset : size;
    operation_mark_started(operation);
    stream_write_push(stream, &self->write);
    operation_submit(operation);
    return 0;
}

RONDO_PUBLIC int rondo_stream_write_file(rondo_stream *stream, struct rondo_file *file,
                                         uint64_t offset, uint64_t size,
                                         const struct rondo_request *request)
{
    int error;

    if (!stream || !file || size == 0 || offset >= INT64_MAX ||
        (size != RONDO_FILE_REST && size > INT64_MAX - offset))
        return -EINVAL;
    error = file_use(file);
    if (error)
        return error;
    error = stream_write_enter(stream);
    if (!error) {
        error = submit(stream, file, offset, size, request);
        stream_write_leave(stream);
    }
    if (error)
        file_drop(file);
    return error;
}
