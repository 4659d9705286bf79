/* Goal: each documented error of files, paths and folders, and that none of them leaves anything.
 * Method: every call with every argument that is wrong in itself; then calls that the filesystem
 * refuses; memory that runs out is left to the unit tests. */
#include "files_support.h"

#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static char data[4096];

static void wrong_arguments(void **state)
{
    struct rondo_request no_done = RONDO_REQUEST(.ctx = &end);
    struct iovec part = {data, 1};
    struct iovec none = {data, 0};
    struct iovec bad = {NULL, 1};
    struct iovec huge[2] = {{data, INT64_MAX}, {data, 1}};
    static struct iovec many[RONDO_FILE_PARTS_MAX + 1];

    (void)state;
    files_begin();
    end = (struct file_end){0};
    CHECK_EQUAL(rondo_file_open(NULL, "a", O_RDONLY, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_open(loop, NULL, O_RDONLY, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_open(loop, "", O_RDONLY, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_open(loop, "a", O_RDONLY, 0, NULL), -EINVAL);
    CHECK_EQUAL(rondo_file_open(loop, "a", O_RDONLY, 0, &no_done), -EINVAL);
    CHECK_EQUAL(rondo_file_open_temporary(loop, NULL, 0600, R), -EINVAL);
    CHECK_EQUAL(rondo_file_adopt(loop, 0, NULL), -EINVAL);

    struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
    end = (struct file_end){0};
    CHECK_EQUAL(rondo_file_read(NULL, data, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, NULL, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, data, 0, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, data, 1, 0, NULL), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, data, 1, INT64_MAX, R), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, data, SIZE_MAX, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_read(file, data, 1, UINT64_MAX - 1, R), -EINVAL);
    CHECK_EQUAL(rondo_file_write(NULL, data, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_write(file, NULL, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_write(file, data, 0, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_readv(NULL, &part, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_readv(file, NULL, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_readv(file, &part, 0, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_readv(file, &none, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_writev(file, &bad, 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_writev(file, huge, 2, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_writev(file, many, RONDO_FILE_PARTS_MAX + 1, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_sync(NULL, true, R), -EINVAL);
    CHECK_EQUAL(rondo_file_stat(file, NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_file_truncate(NULL, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_truncate(file, (uint64_t)INT64_MAX + 1, R), -EINVAL);
    CHECK_EQUAL(rondo_file_truncate(file, 0, &no_done), -EINVAL);
    CHECK_EQUAL(rondo_file_allocate(file, 0, 0, 0, R), -EINVAL);
    CHECK_EQUAL(rondo_file_allocate(file, 0, 1, INT64_MAX, R), -EINVAL);
    CHECK_EQUAL(rondo_file_close(NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_file_close(file, &no_done), -EINVAL);
    CHECK_EQUAL(rondo_file_descriptor(NULL), -EINVAL);
    CHECK_EQUAL(atomic_load(&end.count), 0);
    file_close(file);
    files_end();
}

static void wrong_paths(void **state)
{
    static char too_long[PATH_MAX + 1];
    static char long_name[300];
    struct statx about;

    (void)state;
    files_begin();
    end = (struct file_end){0};
    memset(too_long, 'a', PATH_MAX);
    memset(long_name, 'a', sizeof(long_name) - 1);
    CHECK_EQUAL(rondo_file_open(loop, too_long, O_RDONLY, 0, R), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_path_stat(loop, too_long, 0, &about, R), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_path_stat(loop, "a", AT_EMPTY_PATH, &about, R), -EINVAL);
    CHECK_EQUAL(rondo_path_stat(loop, "a", 0, NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_path_rename(loop, "a", NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_path_rename(loop, NULL, "a", R), -EINVAL);
    CHECK_EQUAL(rondo_path_rename(loop, "a", too_long, R), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_path_rename(loop, "a", "", R), -EINVAL);
    CHECK_EQUAL(rondo_path_unlink(loop, NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_path_mkdir(loop, "", 0700, R), -EINVAL);
    CHECK_EQUAL(rondo_path_rmdir(loop, "a", NULL), -EINVAL);
    CHECK_EQUAL(rondo_path_symlink(loop, "a", NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_path_link(NULL, "a", "b", R), -EINVAL);
    CHECK_EQUAL(rondo_directory_list(loop, NULL, R), -EINVAL);
    CHECK_EQUAL(rondo_directory_list(NULL, "/", R), -EINVAL);
    CHECK_EQUAL(rondo_directory_list(loop, too_long, R), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_directory_list(loop, "/", NULL), -EINVAL);
    CHECK_EQUAL(atomic_load(&end.count), 0);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, long_name, O_RDONLY, 0, R)), -ENAMETOOLONG);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, long_name, R)), -ENAMETOOLONG);
    files_end();
}

static void refused_by_the_filesystem(void **state)
{
    struct statx about;

    (void)state;
    files_begin();
    file_close(file_open("file", O_RDWR | O_CREAT, 0600));
    CHECK_EQUAL(symlink("loop", path_of("loop")), 0);
    CHECK_EQUAL(mkdir(path_of("d"), 0700), 0);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("none"), O_RDONLY, 0, R)), -ENOENT);
    CHECK(!end.object);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("file"), O_CREAT | O_EXCL, 0600, R)), -EEXIST);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("file/a"), O_RDONLY, 0, R)), -ENOTDIR);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("loop"), O_RDONLY, 0, R)), -ELOOP);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, folder, O_WRONLY, 0, R)), -EISDIR);
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, path_of("file"), 0600, R)), -ENOTDIR);
    CHECK_EQUAL(AWAIT(rondo_path_stat(loop, path_of("loop"), 0, &about, R)), -ELOOP);
    CHECK_EQUAL(AWAIT(rondo_path_rename(loop, path_of("none"), path_of("b"), R)), -ENOENT);
    CHECK_EQUAL(AWAIT(rondo_path_rename(loop, path_of("file"), "/dev/shm/x", R)), -EXDEV);
    CHECK_EQUAL(AWAIT(rondo_path_rename(loop, path_of("file"), path_of("d"), R)), -EISDIR);
    CHECK_EQUAL(AWAIT(rondo_path_unlink(loop, path_of("none"), R)), -ENOENT);
    CHECK_EQUAL(AWAIT(rondo_path_unlink(loop, folder, R)), -EISDIR);
    CHECK_EQUAL(AWAIT(rondo_path_mkdir(loop, path_of("file"), 0700, R)), -EEXIST);
    CHECK_EQUAL(AWAIT(rondo_path_rmdir(loop, path_of("file"), R)), -ENOTDIR);
    CHECK_EQUAL(AWAIT(rondo_path_rmdir(loop, path_of("."), R)), -EINVAL);
    CHECK_EQUAL(AWAIT(rondo_path_symlink(loop, "x", path_of("file"), R)), -EEXIST);
    CHECK_EQUAL(AWAIT(rondo_path_link(loop, path_of("file"), path_of("file"), R)), -EEXIST);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, path_of("none"), R)), -ENOENT);
    CHECK(!end.object);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, path_of("file"), R)), -ENOTDIR);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, path_of("loop"), R)), -ELOOP);
    files_end();
}

static void wrong_descriptors(void **state)
{
    rondo_file *file;
    int fds[2];

    (void)state;
    files_begin();
    CHECK_EQUAL(rondo_file_adopt(loop, -1, &file), -EBADF);
    CHECK_EQUAL(rondo_file_adopt(loop, 1000000, &file), -EBADF);
    file = file_open("a", O_WRONLY | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 1, 0, R)), -EBADF);
    file_close(file);
    file = file_open("a", O_RDONLY, 0);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 1, 0, R)), -EBADF);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 1, R)), -EINVAL);
    CHECK_EQUAL(AWAIT(rondo_file_allocate(file, 0, 0, 1, R)), -EBADF);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, (void *)8, 1, 0, R)), 0); /* Empty: not touched. */
    file_close(file);
    file = file_open("", O_RDONLY | O_DIRECTORY, 0);
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 1, 0, R)), -EISDIR);
    file_close(file);
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[0], &file), 0);
    CHECK_EQUAL(AWAIT(rondo_file_sync(file, true, R)), -EINVAL);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 1, R)), -EINVAL);
    CHECK_EQUAL(write(fds[1], "abc", 3), 3);
    /* It waits, whatever mode the descriptor is in. */
    CHECK_EQUAL(AWAIT(rondo_file_read(file, data, 5, RONDO_FILE_POSITION,
                                      &RONDO_REQUEST(.done = note_end, .ctx = &end,
                                                     .deadline_ns = rondo_now_ns() + 5 * MS))),
                -ETIMEDOUT);
    CHECK_EQUAL(end.bytes, 3);
    file_close(file);
    CHECK_EQUAL(rondo_file_adopt(loop, fds[1], &file), 0);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 1, RONDO_FILE_POSITION, R)), -EPIPE);
    file_close(file);
    files_end();
}

static void no_room(void **state)
{
    struct rlimit before;
    struct rlimit small;
    rondo_file *file;

    (void)state;
    files_begin();
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, "/dev/full", O_WRONLY, 0, R)), 0);
    file = end.object;
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 10, 0, R)), -ENOSPC);
    CHECK_EQUAL(end.bytes, 0);
    file_close(file);
    /* A limit that is met in the midst of a write: what fits is written, and told. */
    CHECK_EQUAL(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){6000, before.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &small), 0);
    file = file_open("a", O_WRONLY | O_CREAT, 0600);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 4096, 0, R)), 4096);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 4096, 4096, R)), -EFBIG);
    CHECK_EQUAL(end.bytes, 6000 - 4096);
    CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 7000, R)), -EFBIG);
    CHECK_EQUAL(AWAIT(rondo_file_allocate(file, 0, 0, 7000, R)), -EFBIG);
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &before), 0);
    file_close(file);
    files_end();
}

/* ---- with less rights, and on small and odd filesystems: each in a process of its own ---- */

static void without_rights(void *ctx)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    (void)ctx;
    files_begin();
    rondo_loop_free(loop);
    CHECK_EQUAL(syscall(SYS_capset, &header, none), 0);
    loop = loop_begin(NULL);
    file_close(file_open("closed", O_RDWR | O_CREAT, 0));
    CHECK_EQUAL(mkdir(path_of("d"), 0500), 0);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("closed"), O_RDONLY, 0, R)), -EACCES);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, path_of("d/a"), O_RDWR | O_CREAT, 0600, R)), -EACCES);
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, path_of("d"), 0600, R)), -EACCES);
    CHECK_EQUAL(AWAIT(rondo_path_mkdir(loop, path_of("d/a"), 0700, R)), -EACCES);
    CHECK_EQUAL(AWAIT(rondo_path_rename(loop, path_of("closed"), path_of("d/a"), R)), -EACCES);
    CHECK_EQUAL(chmod(path_of("d"), 0), 0);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, path_of("d"), R)), -EACCES);
    CHECK_EQUAL(chmod(path_of("d"), 0700), 0);
    files_end();
}

/* The loop is begun anew, so that its threads see what is mounted. */
static bool begin_mounted(const char *type, const char *options)
{
    files_begin();
    rondo_loop_free(loop);
    bool is_mounted = unshare(CLONE_NEWNS) == 0 &&
                      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                      mount("none", folder, type, 0, options) == 0;
    if (!is_mounted)
        printf("no %s can be mounted: not tested\n", type);
    loop = loop_begin(NULL);
    return is_mounted;
}

static void on_a_full_filesystem(void *ctx)
{
    static char much[300000];

    (void)ctx;
    if (begin_mounted("tmpfs", "size=128k")) {
        struct rondo_file *file = file_open("a", O_RDWR | O_CREAT, 0600);
        CHECK_EQUAL(AWAIT(rondo_file_write(file, much, sizeof(much), 0, R)), -ENOSPC);
        CHECK_EQUAL(end.bytes, 131072);
        CHECK_EQUAL(AWAIT(rondo_file_truncate(file, 0, R)), 0);
        CHECK_EQUAL(AWAIT(rondo_file_allocate(file, 0, 0, 200000, R)), -ENOSPC);
        file_close(file);
        CHECK_EQUAL(umount2(folder, MNT_DETACH), 0);
    }
    files_end();
}

/* This one makes files, and has none without a name. */
static void on_an_odd_filesystem(void *ctx)
{
    struct statx about;

    (void)ctx;
    if (begin_mounted("mqueue", NULL)) {
        CHECK_EQUAL(open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), -1);
        CHECK_EQUAL(errno, EOPNOTSUPP);
        CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, folder, 0600, R)), 0);
        struct rondo_file *file = end.object;
        CHECK_EQUAL(AWAIT(rondo_file_stat(file, &about, R)), 0);
        CHECK_EQUAL(about.stx_nlink, 0);
        CHECK_EQUAL(AWAIT(rondo_directory_list(loop, folder, R)), 0);
        rondo_directory_free(end.object);
        file_close(file);
        CHECK_EQUAL(umount2(folder, MNT_DETACH), 0);
    }
    files_end();
}

static void other_surroundings(void **state)
{
    (void)state;
    run_in_child(without_rights, NULL);
    run_in_child(on_a_full_filesystem, NULL);
    run_in_child(on_an_odd_filesystem, NULL);
}

static void no_descriptors(void **state)
{
    struct rlimit before;
    struct rlimit few;

    (void)state;
    files_begin();
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = (struct rlimit){0, before.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQUAL(AWAIT(rondo_file_open(loop, "/", O_RDONLY, 0, R)), -EMFILE);
    CHECK_EQUAL(AWAIT(rondo_directory_list(loop, "/", R)), -EMFILE);
    CHECK_EQUAL(AWAIT(rondo_file_open_temporary(loop, "/tmp", 0600, R)), -EMFILE);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &before), 0);
    files_end();
}

static void in_a_child(void *ctx)
{
    rondo_file *file = ctx;

    CHECK_EQUAL(rondo_file_read(file, data, 1, 0, R), -ECHILD);
    CHECK_EQUAL(rondo_file_close(file, NULL), -ECHILD);
    CHECK_EQUAL(rondo_file_open(loop, "/", O_RDONLY, 0, R), -ECHILD);
    CHECK_EQUAL(rondo_directory_list(loop, "/", R), -ECHILD);
}

static void after_a_fork(void **state)
{
    rondo_file *file;

    (void)state;
    files_begin();
    file = file_open("a", O_RDWR | O_CREAT, 0600);
    run_in_child(in_a_child, file);
    CHECK_EQUAL(AWAIT(rondo_file_write(file, data, 1, 0, R)), 1);
    file_close(file);
    files_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(wrong_paths),
        cmocka_unit_test(refused_by_the_filesystem),
        cmocka_unit_test(wrong_descriptors),
        cmocka_unit_test(no_room),
        cmocka_unit_test(other_surroundings),
        cmocka_unit_test(no_descriptors),
        cmocka_unit_test(after_a_fork),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
