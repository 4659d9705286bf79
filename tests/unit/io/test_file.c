/* Files when memory runs out: each call says -ENOMEM at whichever allocation fails, leaves nothing
 * behind, and works once there is memory again; and folders that cannot be read to their end. */
#include "needs_ring.h"

#include "rondo/rondo.h"

#include "latch.h"
#include "probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

/* Allocations of this thread that still succeed; negative: all do. */
static _Thread_local int left = -1;
static rondo_loop *loop;
static struct rondo_result end;
static struct latch ended;
static _Atomic int directory_error;

static bool fails(void)
{
    if (left < 0)
        return false;
    return left == 0 || left-- == 0;
}

static void *scarce_alloc(size_t size)
{
    return fails() ? NULL : sys_real.alloc(size);
}

static void *scarce_alloc_raw(size_t size)
{
    return fails() ? NULL : sys_real.alloc_raw(size);
}

static void *scarce_map(size_t size)
{
    return fails() ? NULL : sys_real.map(size);
}

/* Fails in the second portion of a folder, on whichever thread reads it. */
static int64_t failing_directory_read(int fd, void *ret_entries, size_t size)
{
    int error = load_relaxed(&directory_error); /* Relaxed: set before the listing begins. */
    int64_t got = sys_real.directory_read(fd, ret_entries, size);

    return error && got == 0 ? error : got;
}

static int begin(void **state)
{
    (void)state;
    sys.alloc = scarce_alloc;
    sys.alloc_raw = scarce_alloc_raw;
    sys.map = scarce_map;
    sys.directory_read = failing_directory_read;
    return rondo_loop_create(NULL, &loop) || rondo_loop_start(loop);
}

static int finish(void **state)
{
    left = -1;
    rondo_loop_free(loop);
    return sys_restore(state);
}

static void note(const struct rondo_result *result, void *ctx)
{
    (void)ctx;
    end = *result;
    latch_set(&ended);
}

#define R (&RONDO_REQUEST(.done = note))

static int64_t wait_end(void)
{
    latch_wait(&ended);
    store_relaxed(&ended.word, 0); /* Relaxed: the next call publishes it. */
    return end.value;
}

/* Calls with 0, 1, 2 ... allocations allowed, until one begins; how many failed. */
#define UNTIL_IT_BEGINS(call)                      \
    ({                                             \
        int failures_ = 0;                         \
        for (int error_ = -ENOMEM; error_;) {      \
            left = failures_;                      \
            error_ = (call);                       \
            left = -1;                             \
            if (error_)                            \
                assert_int_equal(error_, -ENOMEM); \
            failures_ += error_ != 0;              \
        }                                          \
        failures_;                                 \
    })

static void truncate_elsewhere(void)
{
    struct rondo_file *file;
    char path[] = "/tmp/rondo-test-XXXXXX";
    int fd = mkstemp(path);

    assert_int_equal(unlink(path), 0);
    assert_int_equal(rondo_file_adopt(loop, fd, &file), 0);
    assert_int_equal(rondo_file_truncate(file, 1000, R), 0);
    assert_int_equal(wait_end(), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 1000);
    assert_int_equal(rondo_file_close(file, R), 0);
    assert_int_equal(wait_end(), 0);
}

static void files_without_memory(void **state)
{
    struct rondo_file *file;
    int fd = dup(0);

    (void)state;
    assert_true(UNTIL_IT_BEGINS(rondo_file_open(loop, "/dev/null", O_RDWR, 0, R)) >= 2);
    assert_int_equal(wait_end(), 0);
    file = end.file;
    (void)UNTIL_IT_BEGINS(rondo_file_write(file, "x", 1, 0, R));
    assert_int_equal(wait_end(), 1);
    /* Once in the ring, and once where a kernel has no such operation. */
    (void)UNTIL_IT_BEGINS(rondo_file_truncate(file, 0, R));
    assert_int_equal(wait_end(), -EINVAL);
    probe_force_absent(PROBE_FTRUNCATE, true);
    assert_true(UNTIL_IT_BEGINS(rondo_file_truncate(file, 0, R)) >= 1);
    assert_int_equal(wait_end(), -EINVAL);
    truncate_elsewhere();
    probe_force_absent(PROBE_FTRUNCATE, false);
    assert_int_equal(rondo_file_close(file, NULL), 0);
    assert_true(UNTIL_IT_BEGINS(rondo_file_adopt(loop, fd, &file)) >= 1);
    assert_int_equal(rondo_file_close(file, R), 0);
    assert_int_equal(wait_end(), 0);
}

static void paths_without_memory(void **state)
{
    (void)state;
    assert_true(UNTIL_IT_BEGINS(rondo_path_rename(loop, "/none/a", "/none/b", R)) >= 2);
    assert_int_equal(wait_end(), -ENOENT);
    assert_true(UNTIL_IT_BEGINS(rondo_directory_list(loop, "/", R)) >= 1);
    assert_true(wait_end() > 0);
    rondo_directory_free(end.directory);
}

static void buffers_without_memory(void **state)
{
    rondo_buffers *buffers;

    (void)state;
    assert_true(UNTIL_IT_BEGINS(rondo_buffers_create(loop, 1, 1, &buffers)) >= 4);
    rondo_buffers_free(buffers);
}

static void a_folder_that_ends_with_an_error(void **state)
{
    (void)state;
    store_relaxed(&directory_error, -EIO); /* Relaxed: the call publishes it. */
    assert_int_equal(rondo_directory_list(loop, "/", R), 0);
    assert_int_equal(wait_end(), -EIO);
    assert_null(end.directory);
    store_relaxed(&directory_error, 0); /* Relaxed: nothing reads it. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_without_memory, begin, finish),
        cmocka_unit_test_setup_teardown(paths_without_memory, begin, finish),
        cmocka_unit_test_setup_teardown(buffers_without_memory, begin, finish),
        cmocka_unit_test_setup_teardown(a_folder_that_ends_with_an_error, begin, finish),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
