/* Goal: registered buffers are plain memory that files read and write right, also in part, across
 * two of them and beyond their end; and where the kernel refuses them all works the same.
 * Method: bytes go through a file by way of them and are compared; then without the right to lock
 * memory, with more sets than there are places, and around the loop's end. */
#include "files_support.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { SIZE = 8192, COUNT = 4 };

static void wait_status(rondo_buffers *buffers, int status)
{
    WAIT_UNTIL(rondo_buffers_status(buffers) != -EINPROGRESS, 5000);
    CHECK_EQUAL(rondo_buffers_status(buffers), status);
}

static void arguments(void **state)
{
    rondo_buffers *buffers;

    (void)state;
    files_begin();
    CHECK_EQUAL(rondo_buffers_create(NULL, 1, 1, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 1, 1, NULL), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 0, 1, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 1, 0, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE_MAX, 1, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 1 << 20, 1025, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 4096, UINT32_MAX, &buffers), -EINVAL);
    CHECK_EQUAL(rondo_buffers_create(loop, 1, 2, &buffers), 0);
    char *first = rondo_buffers_take(buffers);
    char *second = rondo_buffers_take(buffers);
    CHECK_EQUAL((uintptr_t)first % 4096, 0);
    CHECK_EQUAL(second - first, 4096);
    CHECK(!rondo_buffers_take(buffers));
    CHECK_EQUAL(rondo_buffers_give(buffers, first + 1), -EINVAL);
    CHECK_EQUAL(rondo_buffers_give(buffers, first - 4096), -EINVAL);
    CHECK_EQUAL(rondo_buffers_give(buffers, second + 4096), -EINVAL);
    CHECK_EQUAL(rondo_buffers_give(buffers, NULL), -EINVAL);
    CHECK_EQUAL(rondo_buffers_give(NULL, first), -EINVAL);
    CHECK_EQUAL(rondo_buffers_give(buffers, first), 0);
    CHECK_EQUAL(rondo_buffers_give(buffers, first), -EALREADY);
    CHECK(rondo_buffers_take(buffers) == first);
    CHECK(!rondo_buffers_take(NULL));
    CHECK_EQUAL(rondo_buffers_status(NULL), -EINVAL);
    rondo_buffers_free(buffers);
    rondo_buffers_free(NULL);
    files_end();
}

/* Writes from and reads into every part of the region, and beyond its end. */
static void through_a_file(rondo_buffers *buffers, struct rondo_file *file)
{
    char *memory = rondo_buffers_take(buffers);
    char *other = malloc(SIZE * COUNT);
    const uint32_t offsets[][2] = {
        {0, SIZE}, {0, SIZE * COUNT}, {100, 1}, {SIZE - 1, 2}, {SIZE + 5, 2 * SIZE}};

    CHECK(other);
    for (uint32_t i = 0; i < SIZE * COUNT; i++)
        memory[i] = (char)random_of(7, i);
    memcpy(other, memory, SIZE * COUNT);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        uint32_t offset = offsets[i][0];
        uint32_t size = offsets[i][1];
        CHECK_EQUAL(AWAIT(rondo_file_write(file, memory + offset, size, 12345, R)), size);
        memset(memory + offset, 0, size);
        CHECK_EQUAL(AWAIT(rondo_file_read(file, memory + offset, size, 12345, R)), size);
        CHECK(memcmp(memory, other, SIZE * COUNT) == 0);
    }
    free(other);
    CHECK_EQUAL(rondo_buffers_give(buffers, memory), 0);
}

static void in_use(void **state)
{
    rondo_buffers *buffers;

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, COUNT, &buffers), 0);
    wait_status(buffers, 0);
    through_a_file(buffers, file);
    rondo_buffers_free(buffers);
    file_close(file);
    files_end();
}

static void direct(void **state)
{
    rondo_buffers *buffers;

    (void)state;
    files_begin();
    (void)AWAIT(rondo_file_open(loop, path_of("a"), O_RDWR | O_CREAT | O_DIRECT, 0600, R));
    if (end.value == 0) {
        struct rondo_file *file = end.object;
        CHECK_EQUAL(rondo_buffers_create(loop, SIZE, 2, &buffers), 0);
        wait_status(buffers, 0);
        char *from = rondo_buffers_take(buffers);
        char *to = rondo_buffers_take(buffers);
        memset(from, 'x', SIZE);
        CHECK_EQUAL(AWAIT(rondo_file_write(file, from, SIZE, 0, R)), SIZE);
        CHECK_EQUAL(AWAIT(rondo_file_read(file, to, SIZE, 0, R)), SIZE);
        CHECK(memcmp(from, to, SIZE) == 0);
        CHECK_EQUAL(AWAIT(rondo_file_read(file, to + 1, 511, 0, R)), -EINVAL);
        rondo_buffers_free(buffers);
        file_close(file);
    }
    files_end();
}

static void many_sets(void **state)
{
    rondo_buffers *sets[66];

    (void)state;
    files_begin();
    for (int i = 0; i < 66; i++)
        CHECK_EQUAL(rondo_buffers_create(loop, 1, 1, &sets[i]), 0);
    for (int i = 0; i < 66; i++)
        wait_status(sets[i], i < 64 ? 0 : -ENOSPC);
    rondo_buffers_free(sets[3]);
    rondo_buffers_free(sets[65]);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, COUNT, &sets[3]), 0);
    wait_status(sets[3], 0);
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    through_a_file(sets[3], file);
    file_close(file);
    for (int i = 0; i < 65; i++)
        rondo_buffers_free(sets[i]);
    files_end();
}

static void without_the_right(void *ctx)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    rondo_buffers *buffers;

    (void)ctx;
    /* Enough for the rings of a loop, and not for the buffers. */
    CHECK_EQUAL(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){8 << 20, 8 << 20}), 0);
    files_begin();
    rondo_loop_free(loop);
    CHECK_EQUAL(syscall(SYS_capset, &header, none), 0);
    loop = loop_begin(NULL);
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, 4096, &buffers), 0);
    wait_status(buffers, -ENOMEM);
    through_a_file(buffers, file);
    file_close(file);
    rondo_buffers_free(buffers);
    files_end();
}

static void no_locked_memory(void **state)
{
    (void)state;
    run_in_child(without_the_right, NULL);
}

static void around_the_end(void **state)
{
    rondo_buffers *early;
    rondo_buffers *late;

    (void)state;
    (void)test_begin("file_buffers");
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, COUNT, &early), 0);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, COUNT, &late), 0);
    CHECK_EQUAL(rondo_buffers_status(early), -EINPROGRESS);
    rondo_buffers_free(early); /* Before it was registered. */
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(rondo_buffers_create(loop, SIZE, COUNT, &early), -ESHUTDOWN);
    CHECK(rondo_buffers_status(late) != -EINPROGRESS);
    rondo_buffers_free(late);
    rondo_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments),        cmocka_unit_test(in_use),
        cmocka_unit_test(direct),           cmocka_unit_test(many_sets),
        cmocka_unit_test(no_locked_memory), cmocka_unit_test(around_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
