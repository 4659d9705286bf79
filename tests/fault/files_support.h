/* What the tests of files share: a loop, a folder of their own, and operations that are waited for
 * one after the other. */
#ifndef TEST_FILES_SUPPORT_H
#define TEST_FILES_SUPPORT_H

#include "support.h"

#include <fcntl.h>
#include <unistd.h>

struct file_end {
    _Atomic int count;
    int64_t value;
    uint64_t bytes;
    void *object;
    rondo_handle handle;
};

static rondo_loop *loop;
static struct file_end end; /* of the operation that is waited for */
static char folder[64];
static uint32_t descriptors_before;

static void note_end(const struct rondo_result *result, void *ctx)
{
    struct file_end *noted = ctx;

    noted->value = result->value;
    noted->bytes = result->bytes;
    noted->object = result->object;
    atomic_fetch_add(&noted->count, 1);
}

#define R (&RONDO_REQUEST(.done = note_end, .ctx = &end))

static inline int64_t wait_end(struct file_end *noted)
{
    WAIT_UNTIL(atomic_load(&noted->count) > 0, 10000);
    CHECK_EQUAL(atomic_load(&noted->count), 1);
    return noted->value;
}

/* The value that the operation which @call begins ends with. */
#define AWAIT(call) (end = (struct file_end){0}, check_begun(call), wait_end(&end))

static inline void check_begun(int error)
{
    CHECK_EQUAL(error, 0);
}

/* The path of @name in the test's folder; four at a time are valid. */
static inline const char *path_of(const char *name)
{
    static char paths[4][128];
    static int turn;

    turn = (turn + 1) % 4;
    (void)snprintf(paths[turn], sizeof(paths[turn]), "%s/%s", folder, name);
    return paths[turn];
}

static inline void files_begin(void)
{
    (void)test_begin("files");
    descriptors_before = count_descriptors();
    (void)strcpy(folder, "/tmp/rondo-test-XXXXXX");
    CHECK(mkdtemp(folder));
    loop = loop_begin(NULL);
}

static inline void remove_folder(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    CHECK_EQUAL(system(command), 0);
}

/* The loop ends, and nothing is left: no descriptor, no file. */
static inline void files_end(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
    remove_folder();
    CHECK_EQUAL(count_descriptors(), descriptors_before);
}

static inline struct rondo_file *file_open(const char *name, int flags, mode_t mode)
{
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of(name), flags, mode, R)), 0);
    CHECK(end.object);
    return end.object;
}

static inline void file_close(struct rondo_file *file)
{
    CHECK_EQUAL(AWAIT(rondo_file_close(file, R)), 0);
}

#endif
