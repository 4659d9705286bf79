/* Goal: what one operation on a file does, in order: open, read, write, vectored, sync, stat,
 * truncate, allocate, close; at the end of a file, beyond 2 GiB, at a file's own position, on pipes.
 * Method: each call is made and waited for, in a folder that the test makes and removes; what it
 * says is compared with what plain system calls find there. */
#include "files_support.h"

#include <linux/falloc.h>
#include <sys/uio.h>

static void open_write_read_close(void **state)
{
    char data[16] = {0};

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK(fcntl(rondo_file_descriptor(file), F_GETFD) & FD_CLOEXEC);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, "hello world", 11, 0, R)), 11);
    CHECK_EQUAL(end.bytes, 11);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 5, 6, R)), 5);
    CHECK(memcmp(data, "world", 5) == 0);
    /* Fewer bytes at the end, none beyond it. */
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, sizeof(data), 6, R)), 5);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, sizeof(data), 11, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, sizeof(data), 4096, R)), 0);
    file_close(file);
    files_end();
}

static void an_empty_file(void **state)
{
    char data[4];

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("empty", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, sizeof(data), 0, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, sizeof(data), RONDO_FILE_POSITION, R)), 0);
    file_close(file);
    files_end();
}

static void own_position(void **state)
{
    char data[8] = {0};

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, "abc", 3, RONDO_FILE_POSITION, R)), 3);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, "def", 3, RONDO_FILE_POSITION, R)), 3);
    CHECK_EQUAL(lseek(rondo_file_descriptor(file), 1, SEEK_SET), 1);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 8, RONDO_FILE_POSITION, R)), 5);
    CHECK(memcmp(data, "bcdef", 5) == 0);
    file_close(file);
    files_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_write_read_close),
        cmocka_unit_test(an_empty_file),
        cmocka_unit_test(own_position),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
