/* Goal: what each operation on files, paths and folders does: whole and in pieces, at the end of a
 * file, beyond 2 GiB, at a file's own position, on pipes; cancelled, past its deadline, when its
 * file closes under it and when the loop drains and stops.
 * Method: each call is made and waited for, in a folder that the test makes and removes; what it
 * says is compared with what plain system calls find there. */
#include "files_support.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

static void vectored(void **state)
{
    char a[3] = "one";
    char b[1] = "";
    char c[5] = "three";
    char in[4][4] = {{0}};
    struct iovec out_parts[] = {{a, 3}, {b, 0}, {c, 5}};
    struct iovec in_parts[] = {{in[0], 2}, {in[1], 0}, {in[2], 4}, {in[3], 4}};

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_writev(file, out_parts, 3, 1, R)), 8);
    CHECK_EQUAL(AWAIT(rondo_file_readv(file, in_parts, 4, 1, R)), 8);
    CHECK(memcmp(in[0], "on", 2) == 0 && memcmp(in[2], "ethr", 4) == 0);
    CHECK(memcmp(in[3], "ee", 3) == 0);
    /* Ends within a piece. */
    CHECK_EQUAL(AWAIT(rondo_file_readv(file, in_parts, 4, 4, R)), 5);
    CHECK(memcmp(in[2], "ree", 3) == 0);
    file_close(file);
    files_end();
}

/* A pipe takes and gives as much as it holds, so each of these is done in many pieces. */
static void pieces_through_a_pipe(void **state)
{
    enum { SIZE = 300000, PARTS = 7 };
    static char out[SIZE];
    static char in[SIZE];
    struct file_end written = {0};
    struct iovec parts[PARTS];
    rondo_file *reader;
    rondo_file *writer;
    int fds[2];

    (void)state;
    files_begin();
    for (int i = 0; i < SIZE; i++)
        out[i] = (char)(i * 7 + i / 251);
    for (int i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){in + i * (SIZE / PARTS), SIZE / PARTS};
    parts[PARTS - 1].iov_len = SIZE - (PARTS - 1) * (SIZE / PARTS);
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &reader), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[1], &writer), 0);
    CHECK_EQUAL(rondo_file_write(writer, out, SIZE, RONDO_FILE_POSITION,
                                 &RONDO_REQUEST(.done = note_end, .ctx = &written)),
                0);
    CHECK_EQUAL(AWAIT(rondo_file_readv(reader, parts, PARTS, RONDO_FILE_POSITION, R)), SIZE);
    CHECK_EQUAL(wait_end(&written), SIZE);
    CHECK(memcmp(in, out, SIZE) == 0);
    /* The end of a pipe is the end of the file. */
    file_close(writer);
    CHECK_EQUAL(AWAIT(rondo_file_read(reader, in, 10, RONDO_FILE_POSITION, R)), 0);
    file_close(reader);
    files_end();
}

static void a_cancelled_read_tells_its_bytes(void **state)
{
    char data[10] = {0};
    rondo_file *reader;
    int fds[2];

    (void)state;
    files_begin();
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &reader), 0);
    CHECK_EQUAL(write(fds[1], "abcd", 4), 4);
    end = (struct file_end){0};
    CHECK_EQUAL(
        rondo_file_read(reader, data, sizeof(data), RONDO_FILE_POSITION,
                        &RONDO_REQUEST(.done = note_end, .ctx = &end, .ret_handle = &end.handle)),
        0);
    int left = 4;
    WAIT_UNTIL(ioctl(fds[0], FIONREAD, &left) == 0 && left == 0, 5000);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_IN_FLIGHT);
    CHECK_EQUAL(wait_end(&end), -ECANCELED);
    CHECK_EQUAL(end.bytes, 4);
    CHECK(memcmp(data, "abcd", 4) == 0);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_FINISHED);
    /* A deadline says so; one in the past before anything is done. */
    CHECK_EQUAL(AWAIT(rondo_file_read(reader, data, 1, RONDO_FILE_POSITION,
                                      &RONDO_REQUEST(.done = note_end, .ctx = &end,
                                                     .deadline_ns = rondo_now_ns() + 10 * MS))),
                -ETIMEDOUT);
    CHECK_EQUAL(write(fds[1], "e", 1), 1);
    CHECK_EQUAL(
        AWAIT(rondo_file_read(reader, data, 1, RONDO_FILE_POSITION,
                              &RONDO_REQUEST(.done = note_end, .ctx = &end, .deadline_ns = 1))),
        -ETIMEDOUT);
    CHECK_EQUAL(end.bytes, 0);
    CHECK_EQUAL(AWAIT(rondo_file_read(
                    reader, data, 1, RONDO_FILE_POSITION,
                    &RONDO_REQUEST(.done = note_end, .ctx = &end, .deadline_ns = UINT64_MAX))),
                1);
    file_close(reader);
    CHECK_EQUAL(close(fds[1]), 0);
    files_end();
}

static void far_offsets(void **state)
{
    const uint64_t far = (UINT64_C(5) << 30) + 3;
    char data[8] = {0};
    struct statx about;

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("sparse", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, "far", 3, far, R)), 3);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 8, far - 2, R)), 5);
    CHECK(memcmp(data, "\0\0far", 5) == 0);
    CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
    CHECK_EQUAL(about.stx_size, far + 3);
    file_close(file);
    files_end();
}

static void sizes_and_sync(void **state)
{
    struct statx about;
    char data[4];

    (void)state;
    files_begin();
    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0640);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 10000, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
    CHECK_EQUAL(about.stx_size, 10000);
    CHECK_EQUAL(about.stx_mode, S_IFREG | 0640);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 4, 9998, R)), 2);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 5, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_allocate(file, 0, 0, 65536, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
    CHECK_EQUAL(about.stx_size, 65536);
    CHECK(about.stx_blocks >= 128);
    CHECK_EQUAL(
        AWAIT(rondo_file_allocate(file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 65536, R)),
        0);
    CHECK_EQUAL(AWAIT(rondo_file_sync(file, true, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_sync(file, false, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 0, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
    CHECK_EQUAL(about.stx_size, 0);
    file_close(file);
    files_end();
}

static void temporary(void **state)
{
    struct statx about;
    char data[3];

    (void)state;
    files_begin();
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, folder, 0600, R)), 0);
    struct rondo_file *file = end.object;
    CHECK_EQUAL(AWAIT(rondo_file_write(file, "abc", 3, 0, R)), 3);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 3, 0, R)), 3);
    CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
    CHECK_EQUAL(about.stx_nlink, 0);
    CHECK_EQUAL(about.stx_mode, S_IFREG | 0600);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, folder, R)), 0);
    rondo_directory_free(end.object);
    file_close(file);
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, path_of("nowhere"), 0600, R)), -ENOENT);
    /* No such files here, and no others either: the error of the second way. */
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, "/proc", 0600, R)), -ENOENT);
    files_end();
}

/* ---- close ---- */

static _Atomic bool may_end;

static void on_any_end(const struct rondo_result *result, void *ctx)
{
    struct file_end *noted = ctx;

    CHECK(atomic_load(&may_end));
    CHECK_EQUAL(atomic_load(&end.count), 0); /* The close comes after all of them. */
    note_end(result, noted);
}

static void close_waits(void **state)
{
    enum { READS = 20 };
    struct file_end ends[READS] = {0};
    static char data[READS];
    rondo_file *reader;
    int fds[2];

    (void)state;
    files_begin();
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &reader), 0);
    for (int i = 0; i < READS; i++)
        CHECK_EQUAL(rondo_file_read(reader, &data[i], 1, RONDO_FILE_POSITION,
                                    &RONDO_REQUEST(.done = on_any_end, .ctx = &ends[i])),
                    0);
    end = (struct file_end){0};
    CHECK_EQUAL(rondo_file_close(reader, R), 0);
    CHECK_EQUAL(rondo_file_close(reader, R), -EALREADY);
    CHECK_EQUAL(rondo_file_close(reader, NULL), -EALREADY);
    CHECK_EQUAL(rondo_file_read(reader, data, 1, 0, R), -EBADF);
    CHECK_EQUAL(rondo_file_sync(reader, true, R), -EBADF);
    CHECK_EQUAL(rondo_file_truncate(reader, 1, R), -EBADF);
    test_pass_time(5);
    CHECK_EQUAL(atomic_load(&end.count), 0);
    atomic_store(&may_end, true);
    for (int i = 0; i < READS; i++)
        CHECK_EQUAL(write(fds[1], "x", 1), 1);
    CHECK_EQUAL(wait_end(&end), 0);
    for (int i = 0; i < READS; i++)
        CHECK_EQUAL(wait_end(&ends[i]), 1);
    CHECK_EQUAL(write(fds[1], "x", 1), -1); /* Nobody has the other end any more. */
    CHECK_EQUAL(errno, EPIPE);
    CHECK_EQUAL(close(fds[1]), 0);
    files_end();
}

/* A close that gave up waiting closes all the same. */
static void close_past_its_deadline(void **state)
{
    struct file_end read_end = {0};
    rondo_file *reader;
    char data;
    int fds[2];

    (void)state;
    files_begin();
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &reader), 0);
    CHECK_EQUAL(rondo_file_read(reader, &data, 1, RONDO_FILE_POSITION,
                                &RONDO_REQUEST(.done = note_end, .ctx = &read_end)),
                0);
    CHECK_EQUAL(
        AWAIT(rondo_file_close(reader, &RONDO_REQUEST(.done = note_end, .ctx = &end,
                                                      .deadline_ns = rondo_now_ns() + 5 * MS))),
        -ETIMEDOUT);
    CHECK_EQUAL(write(fds[1], "x", 1), 1);
    CHECK_EQUAL(wait_end(&read_end), 1);
    WAIT_UNTIL(write(fds[1], "x", 1) == -1, 5000);
    CHECK_EQUAL(close(fds[1]), 0);
    files_end();
}

/* ---- the loop's end ---- */

static void stop_and_drain(void **state)
{
    struct file_end read_end = {0};
    rondo_file *reader;
    rondo_file *other;
    char data;
    int fds[2];

    (void)state;
    files_begin();
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &reader), 0);
    other = file_open("a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(rondo_file_read(reader, &data, 1, RONDO_FILE_POSITION,
                                &RONDO_REQUEST(.done = note_end, .ctx = &read_end)),
                0);
    /* A drain waits for what is under way, and what still begins then works. */
    CHECK_EQUAL(rondo_loop_drain(loop, 60000 * MS), 0);
    CHECK_EQUAL(AWAIT(rondo_file_write(other, "x", 1, 0, R)), 1);
    CHECK_EQUAL(atomic_load(&read_end.count), 0);
    end = (struct file_end){0};
    CHECK_EQUAL(rondo_file_close(reader, R), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(wait_end(&read_end), -ECANCELED);
    CHECK_EQUAL(wait_end(&end), -ECANCELED);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(write(fds[1], "x", 1), -1);
    /* After it, a file can only be closed. */
    CHECK_EQUAL(rondo_file_write(other, "x", 1, 0, R), -ESHUTDOWN);
    CHECK_EQUAL(rondo_file_close(other, R), -ESHUTDOWN);
    CHECK_EQUAL(rondo_file_close(other, NULL), 0);
    CHECK_EQUAL(rondo_file_open(loop, "/", O_RDONLY, 0, R), -ESHUTDOWN);
    CHECK_EQUAL(rondo_directory_list(loop, "/", R), -ESHUTDOWN);
    CHECK_EQUAL(close(fds[1]), 0);
    files_end();
}

static void before_the_start(void **state)
{
    struct file_end opened = {0};

    (void)state;
    (void)test_begin("files");
    descriptors_before = count_descriptors();
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    CHECK_EQUAL(rondo_file_open(loop, "/dev/null", O_RDONLY, 0,
                                &RONDO_REQUEST(.done = note_end, .ctx = &opened)),
                0);
    CHECK_EQUAL(atomic_load(&opened.count), 0);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    CHECK_EQUAL(wait_end(&opened), 0);
    CHECK_EQUAL(rondo_file_close(opened.object, NULL), 0);
    rondo_loop_free(loop);
    CHECK_EQUAL(count_descriptors(), descriptors_before);
}

/* ---- paths and folders ---- */

static void paths(void **state)
{
    struct statx about;

    (void)state;
    files_begin();
    CHECK_EQUAL(AWAIT(rondo_path_mkdir(loop, path_of("d"), 0750, R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_stat(loop, path_of("d"), 0, &about, R)), 0);
    CHECK_EQUAL(about.stx_mode, S_IFDIR | 0750);
    file_close(file_open("d/a", O_RDWR | O_CREAT, 0600));
    CHECK_EQUAL(AWAIT(rondo_path_rename(loop, path_of("d/a"), path_of("d/b"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_link(loop, path_of("d/b"), path_of("d/c"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_symlink(loop, "b", path_of("d/s"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_stat(loop, path_of("d/s"), 0, &about, R)), 0);
    CHECK_EQUAL(about.stx_nlink, 2);
    CHECK_EQUAL(AWAIT(rondo_path_stat(loop, path_of("d/s"), AT_SYMLINK_NOFOLLOW, &about, R)), 0);
    CHECK(S_ISLNK(about.stx_mode));
    CHECK_EQUAL(AWAIT(rondo_path_rmdir(loop, path_of("d"), R)), -ENOTEMPTY);
    CHECK_EQUAL(AWAIT(rondo_path_unlink(loop, path_of("d/b"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_unlink(loop, path_of("d/c"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_unlink(loop, path_of("d/s"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_rmdir(loop, path_of("d"), R)), 0);
    CHECK_EQUAL(AWAIT(rondo_path_stat(loop, path_of("d"), 0, &about, R)), -ENOENT);
    files_end();
}

static void listing(void **state)
{
    enum { FILES = 500 };
    static bool seen[FILES];
    char name[64];
    int number;

    (void)state;
    files_begin();
    for (int i = 0; i < FILES; i++) {
        (void)snprintf(name, sizeof(name), "a-rather-long-name-of-a-file-%d", i);
        int fd = open(path_of(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK_EQUAL(mkdir(path_of("folder"), 0700), 0);
    CHECK_EQUAL(symlink("folder", path_of("link")), 0);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, folder, R)), FILES + 2);
    struct rondo_directory *directory = end.object;
    CHECK_EQUAL(rondo_directory_count(directory), FILES + 2);
    for (size_t i = 0; i < FILES + 2; i++) {
        const char *found = rondo_directory_name(directory, i);
        int type = rondo_directory_type(directory, i);
        if (strcmp(found, "folder") == 0) {
            CHECK(type == DT_DIR || type == DT_UNKNOWN);
        } else if (strcmp(found, "link") == 0) {
            CHECK(type == DT_LNK || type == DT_UNKNOWN);
        } else {
            CHECK_EQUAL(sscanf(found, "a-rather-long-name-of-a-file-%d", &number), 1);
            CHECK(!seen[number]);
            seen[number] = true;
        }
    }
    CHECK(!rondo_directory_name(directory, FILES + 2));
    CHECK_EQUAL(rondo_directory_type(directory, FILES + 2), DT_UNKNOWN);
    rondo_directory_free(directory);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, path_of("folder"), R)), 0);
    CHECK_EQUAL(rondo_directory_count(end.object), 0);
    rondo_directory_free(end.object);
    rondo_directory_free(NULL);
    CHECK_EQUAL(rondo_directory_count(NULL), 0);
    files_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_write_read_close),
        cmocka_unit_test(an_empty_file),
        cmocka_unit_test(own_position),
        cmocka_unit_test(vectored),
        cmocka_unit_test(pieces_through_a_pipe),
        cmocka_unit_test(a_cancelled_read_tells_its_bytes),
        cmocka_unit_test(far_offsets),
        cmocka_unit_test(sizes_and_sync),
        cmocka_unit_test(temporary),
        cmocka_unit_test(close_waits),
        cmocka_unit_test(close_past_its_deadline),
        cmocka_unit_test(stop_and_drain),
        cmocka_unit_test(before_the_start),
        cmocka_unit_test(paths),
        cmocka_unit_test(listing),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
