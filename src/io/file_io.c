/* Reading and writing at an offset; see rondo/file.h.
 *
 * Public functions: any thread. start, complete: the lane's thread. release: a worker.
 *
 * A transfer has a run of bytes in hand (data, rest) and pieces that come behind it. What the
 * kernel did only in part is submitted again from where it stopped: the rest of a piece by itself,
 * the pieces that are whole together, so the caller's array is never changed or copied.
 */
#include "file.h"

enum { TRANSFER_SIZE_MAX = 1 << 30 }; /* of one submission; the rest follows */

struct transfer {
    struct operation base;
    struct rondo_file *file;
    char *data;
    size_t rest;
    const struct iovec *parts;
    uint32_t part_count;
    uint64_t offset; /* of the next byte, or RONDO_FILE_POSITION */
    bool is_write;
};

RONDO_STATIC_ASSERT(sizeof(struct transfer) <= OPERATION_SIZE);

static void transfer_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind read_op = {"read", transfer_complete};
static const struct op_kind write_op = {"write", transfer_complete};

static void prepare_parts(struct transfer *self, struct io_uring_sqe *sqe)
{
    int fd = self->file->fd;

    if (self->is_write)
        io_uring_prep_writev(sqe, fd, self->parts, self->part_count, self->offset);
    else
        io_uring_prep_readv(sqe, fd, self->parts, self->part_count, self->offset);
}

static void prepare_run(struct lane *lane, struct transfer *self, struct io_uring_sqe *sqe)
{
    int fd = self->file->fd;
    uint32_t size = self->rest < TRANSFER_SIZE_MAX ? (uint32_t)self->rest : TRANSFER_SIZE_MAX;
    int32_t region = region_find(&lane->regions, self->data, size);

    if (region >= 0 && self->is_write)
        io_uring_prep_write_fixed(sqe, fd, self->data, size, self->offset, region);
    else if (region >= 0)
        io_uring_prep_read_fixed(sqe, fd, self->data, size, self->offset, region);
    else if (self->is_write)
        io_uring_prep_write(sqe, fd, self->data, size, self->offset);
    else
        io_uring_prep_read(sqe, fd, self->data, size, self->offset);
}

static void transfer_start(struct lane *lane, struct operation *operation)
{
    struct transfer *self = (struct transfer *)operation;
    struct io_uring_sqe *sqe =
        operation_submission(lane, self->is_write ? &write_op : &read_op, operation);

    if (!sqe)
        return;
    if (self->rest > 0)
        prepare_run(lane, self, sqe);
    else
        prepare_parts(self, sqe);
}

/* @count bytes more are done. True: all are. */
static bool move_on(struct transfer *self, size_t count)
{
    self->base.result.bytes += count;
    if (self->offset != RONDO_FILE_POSITION)
        self->offset += count;
    if (self->rest > 0) {
        self->data += count;
        self->rest -= count;
        count = 0;
    }
    while (self->part_count > 0 && self->rest == 0 && count >= self->parts->iov_len) {
        count -= self->parts->iov_len;
        self->parts++;
        self->part_count--;
    }
    if (count > 0) {
        self->data = (char *)self->parts->iov_base + count;
        self->rest = self->parts->iov_len - count;
        self->parts++;
        self->part_count--;
    }
    return self->rest == 0 && self->part_count == 0;
}

static void transfer_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct transfer *self = owner;
    struct operation *operation = &self->base;
    bool is_done = result > 0 && move_on(self, (size_t)result);

    (void)flags;
    if (is_done || (result == 0 && !self->is_write))
        operation_end(lane, operation, (int64_t)operation->result.bytes);
    else if (result == 0)
        operation_end(lane, operation, -EIO);
    else if (result < 0 && result != -EINTR)
        operation_end(lane, operation, result);
    else if (operation_is_cancelled(operation))
        operation_end(lane, operation, -ECANCELED);
    else
        transfer_start(lane, operation);
}

static void transfer_release(struct operation *operation)
{
    file_drop(((struct transfer *)operation)->file);
}

static const struct operation_kind read_kind = {
    .name = "read",
    .start = transfer_start,
    .cancel = operation_cancel_submission,
    .release = transfer_release,
};

static const struct operation_kind write_kind = {
    .name = "write",
    .start = transfer_start,
    .cancel = operation_cancel_submission,
    .release = transfer_release,
};

/* A range of at least one byte that the kernel can name. */
static bool is_range(uint64_t offset, uint64_t size)
{
    if (offset == RONDO_FILE_POSITION)
        offset = 0;
    return size > 0 && size <= INT64_MAX && offset <= INT64_MAX - size;
}

static int submit(struct rondo_file *file, const struct transfer *wanted,
                  const struct rondo_request *request)
{
    struct operation *operation;
    int error = file_use(file);

    if (error)
        return error;
    error = operation_create(wanted->is_write ? &write_kind : &read_kind, file->hub,
                             hub_file_lane(file->hub), NULL, request, &operation);
    if (error) {
        file_drop(file);
        return error;
    }
    struct transfer *self = (struct transfer *)operation;
    self->file = file;
    self->data = wanted->data;
    self->rest = wanted->rest;
    self->parts = wanted->parts;
    self->part_count = wanted->part_count;
    self->offset = wanted->offset;
    self->is_write = wanted->is_write;
    operation_submit(operation);
    return 0;
}

RONDO_PUBLIC int rondo_file_read(rondo_file *file, void *data, size_t size, uint64_t offset,
                                 const struct rondo_request *request)
{
    struct transfer wanted = {.data = data, .rest = size, .offset = offset};

    if (!data || !is_range(offset, size))
        return -EINVAL;
    return submit(file, &wanted, request);
}

RONDO_PUBLIC int rondo_file_write(rondo_file *file, const void *data, size_t size, uint64_t offset,
                                  const struct rondo_request *request)
{
    /* The kernel only reads it. */
    struct transfer wanted = {
        .data = (char *)(uintptr_t)data, .rest = size, .offset = offset, .is_write = true};

    if (!data || !is_range(offset, size))
        return -EINVAL;
    return submit(file, &wanted, request);
}

static int submit_parts(struct rondo_file *file, const struct iovec *parts, uint32_t count,
                        uint64_t offset, bool is_write, const struct rondo_request *request)
{
    struct transfer wanted = {
        .parts = parts, .part_count = count, .offset = offset, .is_write = is_write};
    uint64_t size = 0;

    if (!parts || count < 1 || count > RONDO_FILE_PARTS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].iov_len > INT64_MAX - size || (!parts[i].iov_base && parts[i].iov_len > 0))
            return -EINVAL;
        size += parts[i].iov_len;
    }
    if (!is_range(offset, size))
        return -EINVAL;
    return submit(file, &wanted, request);
}

RONDO_PUBLIC int rondo_file_readv(rondo_file *file, const struct iovec *parts, uint32_t count,
                                  uint64_t offset, const struct rondo_request *request)
{
    return submit_parts(file, parts, count, offset, false, request);
}

RONDO_PUBLIC int rondo_file_writev(rondo_file *file, const struct iovec *parts, uint32_t count,
                                   uint64_t offset, const struct rondo_request *request)
{
    return submit_parts(file, parts, count, offset, true, request);
}
