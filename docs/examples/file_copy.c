/* Copies a file: file_copy FROM TO. Each of DEPTH blocks is read and written in turn, and takes the
 * next place in the file when it is done; the blocks do not wait for each other. All callbacks run
 * on one strand: they need no lock, and the writes begin in the order of the file. */
#include <fcntl.h>
#include <rondo/rondo.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 32, BLOCK_SIZE = 64 * 1024 };

struct block {
    char *data;
    uint64_t offset;
};

static rondo_loop *loop;
static rondo_strand *strand;
static const char *to_path;
static rondo_file *from;
static rondo_file *to;
static struct block blocks[DEPTH];
static uint64_t next_offset;
static int blocks_left = DEPTH;
static int failure;

static void check(int64_t result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, rondo_error_name((int)result));
    failure = 1;
}

static void on_closed(const struct rondo_result *result, void *ctx)
{
    (void)ctx;
    check(result->value, "close");
    rondo_loop_stop(loop);
}

static void block_end(void)
{
    if (--blocks_left > 0)
        return;
    rondo_file_close(from, NULL);
    if (rondo_file_close(to, &RONDO_REQUEST(.done = on_closed, .strand = strand)) != 0)
        rondo_loop_stop(loop);
}

static void block_begin(struct block *block);

static void on_written(const struct rondo_result *result, void *ctx)
{
    check(result->value, "write");
    if (result->value < 0)
        block_end();
    else
        block_begin(ctx);
}

static void on_read(const struct rondo_result *result, void *ctx)
{
    struct block *block = ctx;
    int error = -1;

    check(result->value, "read");
    if (result->value > 0)
        error =
            rondo_file_write(to, block->data, (size_t)result->value, block->offset,
                             &RONDO_REQUEST(.done = on_written, .ctx = block, .strand = strand));
    if (error != 0)
        block_end();
}

static void block_begin(struct block *block)
{
    block->offset = next_offset;
    next_offset += BLOCK_SIZE;
    if (rondo_file_read(from, block->data, BLOCK_SIZE, block->offset,
                        &RONDO_REQUEST(.done = on_read, .ctx = block, .strand = strand)) != 0)
        block_end();
}

static void on_to_open(const struct rondo_result *result, void *ctx)
{
    (void)ctx;
    check(result->value, to_path);
    if (result->value < 0) {
        rondo_file_close(from, NULL);
        rondo_loop_stop(loop);
        return;
    }
    to = result->file;
    for (int i = 0; i < DEPTH; i++)
        block_begin(&blocks[i]);
}

static void on_from_open(const struct rondo_result *result, void *ctx)
{
    check(result->value, ctx);
    from = result->file;
    if (result->value < 0 ||
        rondo_file_open(loop, to_path, O_WRONLY | O_CREAT | O_TRUNC, 0644,
                        &RONDO_REQUEST(.done = on_to_open, .strand = strand)) != 0)
        rondo_loop_stop(loop);
}

int main(int argc, char **argv)
{
    char *memory = aligned_alloc(4096, (size_t)DEPTH * BLOCK_SIZE);

    if (argc != 3 || !memory)
        return fprintf(stderr, "usage: file_copy FROM TO\n"), 2;
    for (int i = 0; i < DEPTH; i++)
        blocks[i].data = memory + (size_t)i * BLOCK_SIZE;
    to_path = argv[2];
    if (rondo_loop_create(NULL, &loop) != 0 || rondo_strand_create(loop, &strand) != 0)
        return fprintf(stderr, "loop: %s\n", rondo_error_text()), 1;
    int error =
        rondo_file_open(loop, argv[1], O_RDONLY, 0,
                        &RONDO_REQUEST(.done = on_from_open, .ctx = argv[1], .strand = strand));
    if (error == 0)
        error = rondo_loop_run(loop);
    check(error, "run");
    rondo_strand_unref(strand);
    rondo_loop_free(loop);
    free(memory);
    return failure;
}
