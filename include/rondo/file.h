/* Files: open, read, write and change them without blocking a worker; paths; directory listings.
 *
 * A file belongs to you, like its descriptor, until rondo_file_close(): neither the drain nor the
 * stop of its loop closes it. Operations on one file run in parallel and end in any order, as do
 * their done callbacks unless their requests name the same strand: wait for the end of one before
 * you begin another that must come after it.
 *
 * A cancel or deadline ends an operation when the kernel lets go of the memory, and the kernel
 * often does not interrupt a disk: done may come late, and may say that all was done after all.
 * Until then the memory stays lent.
 *
 * Besides the errors that a function names, done gets what the filesystem answers (such as -EIO)
 * and what every operation may get (see rondo/op.h).
 */
#ifndef RONDO_FILE_H
#define RONDO_FILE_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

struct statx;

typedef struct rondo_file rondo_file;
typedef struct rondo_directory rondo_directory;

/* Instead of an offset: at the file's own position, which moves on. Begin one operation at a time
 * then: two at once take pieces in any order. Right for pipes and terminals, which have no offsets;
 * there an operation waits for its bytes, also if the descriptor is in non-blocking mode. */
#define RONDO_FILE_POSITION UINT64_MAX

/* Pieces of memory in one vectored read or write. */
#define RONDO_FILE_PARTS_MAX 1024

/* ---- a file's life ---- */

/* Open @path as open(2) does, with @flags (O_CLOEXEC is added) and @mode. Any thread; does not
 * suspend. @path is copied. The result's file is yours until rondo_file_close(); one that a cancel
 * or deadline came too late for is closed, and value says -ECANCELED or -ETIMEDOUT.
 * Returns 0, -EINVAL (NULL, an empty path), -ENAMETOOLONG, -ENOMEM, -ESHUTDOWN (the loop has
 * stopped), -ECHILD. Done: 0, or what open(2) says: -ENOENT, -EACCES, -EEXIST, -EISDIR, -ENOTDIR,
 * -ELOOP, -EMFILE, -ENFILE, -ENOSPC, -EROFS, -ETXTBSY, -EPERM. Since 0.1. */
int rondo_file_open(rondo_loop *loop, const char *path, int flags, mode_t mode,
                    const struct rondo_request *request);

/* Open a new file without a name in the folder @directory, for reading and writing; it is gone when
 * it is closed. Any thread; does not suspend. @directory is copied. Where the filesystem has no
 * such files, one is made with a name that is removed at once.
 * Returns and ends as rondo_file_open() does. Since 0.1. */
int rondo_file_open_temporary(rondo_loop *loop, const char *directory, mode_t mode,
                              const struct rondo_request *request);

/* A file of a descriptor that is open already: a regular file, a pipe, a terminal, a device. On
 * success @fd belongs to the file. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (not an open descriptor), -ENOMEM, -ECHILD. Since 0.1. */
int rondo_file_adopt(rondo_loop *loop, int fd, rondo_file **ret_file);

/* Close it once no operation is under way any more: from now on new ones answer -EBADF, and done is
 * called after the done of each of them has returned. Any thread; does not suspend. The file is
 * valid until done returns; @request may be NULL, then it is invalid at once, and the call works
 * after the loop has stopped too. Cancelled or past its deadline while it waits, done says so, and
 * the file is closed when the last operation ends. Close each file before rondo_loop_free().
 * Returns 0, -EINVAL, -EALREADY (closing already), -ECHILD, and only with a request -ENOMEM and
 * -ESHUTDOWN. Done: 0, or what close(2) says; the descriptor is gone in any case. Since 0.1. */
int rondo_file_close(rondo_file *file, const struct rondo_request *request);

/* Its descriptor, to look at or pass on, not to close. Any thread; does not suspend.
 * Returns it, -EINVAL. Since 0.1. */
int rondo_file_descriptor(const rondo_file *file);

/* ---- reading and writing ---- */

/* Read @size bytes (1 and up) from @offset (or RONDO_FILE_POSITION) into @data, fewer only at the
 * end of the file. Any thread; does not suspend. @data is lent until done.
 * Returns 0, -EINVAL (NULL, size 0, or a range that ends beyond INT64_MAX), -EBADF (closing),
 * -ENOMEM, -ESHUTDOWN, -ECHILD. Done: the bytes read, 0 at the end of the file; or -EBADF (not open
 * for reading), -EISDIR, -EFAULT, -EIO, -EINVAL (not aligned as O_DIRECT wants it);
 * bytes says how many came before an error. Since 0.1. */
int rondo_file_read(rondo_file *file, void *data, size_t size, uint64_t offset,
                    const struct rondo_request *request);

/* Write all @size bytes (1 and up) of @data at @offset (or RONDO_FILE_POSITION; a file opened with
 * O_APPEND appends). Any thread; does not suspend. @data is lent until done.
 * Returns what rondo_file_read() returns. Done: @size; or -EBADF (not open for writing), -ENOSPC,
 * -EDQUOT, -EFBIG, -EFAULT, -EIO, -EPIPE, -EINVAL (as for reads), -EPERM; bytes says how
 * many were written before an error. Since 0.1. */
int rondo_file_write(rondo_file *file, const void *data, size_t size, uint64_t offset,
                     const struct rondo_request *request);

/* rondo_file_read() into @count pieces (1 to RONDO_FILE_PARTS_MAX) that together have at least one
 * byte, in order. Any thread; does not suspend. @parts and what they name are lent until done.
 * Returns and ends as rondo_file_read() does. Since 0.1. */
int rondo_file_readv(rondo_file *file, const struct iovec *parts, uint32_t count, uint64_t offset,
                     const struct rondo_request *request);

/* rondo_file_write() of @count pieces. Any thread; does not suspend. Lent as for
 * rondo_file_readv(). Returns and ends as rondo_file_write() does. Since 0.1. */
int rondo_file_writev(rondo_file *file, const struct iovec *parts, uint32_t count, uint64_t offset,
                      const struct rondo_request *request);

/* ---- more with an open file ---- */

/* Have all that was written reach the disk; @data_only: without times and other things that reading
 * it again does not need. Only writes that have ended count. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closing), -ENOMEM, -ESHUTDOWN, -ECHILD. Done: 0, -EIO, -ENOSPC,
 * -EDQUOT, -EROFS, -EINVAL (a pipe, a terminal). Since 0.1. */
int rondo_file_sync(rondo_file *file, bool data_only, const struct rondo_request *request);

/* What statx(2) says of it. Any thread; does not suspend. *ret_stat is lent until done and filled
 * when value is 0. Returns what rondo_file_sync() returns. Done: 0, -EIO. Since 0.1. */
int rondo_file_stat(rondo_file *file, struct statx *ret_stat, const struct rondo_request *request);

/* Make it @size bytes long (0 to INT64_MAX); new ones are zero. Any thread; does not suspend.
 * Returns what rondo_file_sync() returns. Done: 0, -EINVAL (not a regular file open for writing),
 * -EFBIG, -EPERM, -EIO, -ENOSPC. Since 0.1. */
int rondo_file_truncate(rondo_file *file, uint64_t size, const struct rondo_request *request);

/* fallocate(2): with @mode 0 see that there is room for @size bytes (1 and up) from @offset; other
 * modes, of <linux/falloc.h>, make holes and the like. Any thread; does not suspend.
 * Returns what rondo_file_read() returns. Done: 0, -ENOSPC, -EOPNOTSUPP (not on this filesystem),
 * -EBADF, -EFBIG, -EINVAL (mode), -ENODEV, -ESPIPE, -EPERM. Since 0.1. */
int rondo_file_allocate(rondo_file *file, int mode, uint64_t offset, uint64_t size,
                        const struct rondo_request *request);

/* ---- paths ---- */

/* The functions on paths copy them, may be called from any thread, and do not suspend. They return
 * 0, -EINVAL (NULL, an empty path), -ENAMETOOLONG, -ENOMEM, -ESHUTDOWN, -ECHILD; done gets 0 or
 * what the system call of that name says: -ENOENT, -ENOTDIR, -EACCES, -EPERM, -ELOOP, -ENAMETOOLONG
 * (one name in it), -EROFS, -EIO and what is named below. */

/* What statx(2) says of @path; @flags: 0, or AT_SYMLINK_NOFOLLOW for a link itself. *ret_stat is
 * lent until done and filled when value is 0. Returns also -EINVAL (other flags). Since 0.1. */
int rondo_path_stat(rondo_loop *loop, const char *path, int flags, struct statx *ret_stat,
                    const struct rondo_request *request);

/* Call what is named @from @to; what was @to is replaced in one step. Done also: -EXDEV (another
 * filesystem), -EISDIR, -ENOTEMPTY, -EEXIST, -EINVAL (into itself), -ENOSPC. Since 0.1. */
int rondo_path_rename(rondo_loop *loop, const char *from, const char *to,
                      const struct rondo_request *request);

/* Remove the name of a file. Done also: -EISDIR, -EBUSY. Since 0.1. */
int rondo_path_unlink(rondo_loop *loop, const char *path, const struct rondo_request *request);

/* Make a folder. Done also: -EEXIST, -ENOSPC, -EMLINK. Since 0.1. */
int rondo_path_mkdir(rondo_loop *loop, const char *path, mode_t mode,
                     const struct rondo_request *request);

/* Remove an empty folder. Done also: -ENOTEMPTY, -EBUSY, -EINVAL (it is "."). Since 0.1. */
int rondo_path_rmdir(rondo_loop *loop, const char *path, const struct rondo_request *request);

/* Make @path a symbolic link to @target. Done also: -EEXIST, -ENOSPC. Since 0.1. */
int rondo_path_symlink(rondo_loop *loop, const char *target, const char *path,
                       const struct rondo_request *request);

/* Give the file @from the further name @to; a symbolic link is not followed. Done also: -EEXIST,
 * -EXDEV, -EMLINK, -ENOSPC. Since 0.1. */
int rondo_path_link(rondo_loop *loop, const char *from, const char *to,
                    const struct rondo_request *request);

/* ---- directories ---- */

/* Read the whole folder @path, on the blocking pool. Any thread; does not suspend. @path is copied.
 * One that is cancelled ends at once; its thread may hold the folder open a little longer, even
 * when the loop has been freed. The result's directory is yours until rondo_directory_free(); value
 * is its count of entries.
 * Returns what the functions on paths return. Done: the count, or -ENOENT, -ENOTDIR, -EACCES,
 * -ELOOP, -EMFILE, -ENFILE, -EIO, -EAGAIN (no thread could be started). Since 0.1. */
int rondo_directory_list(rondo_loop *loop, const char *path, const struct rondo_request *request);

/* How many entries it has; "." and ".." do not count. Any thread; does not suspend. 0 for NULL.
 * Since 0.1. */
size_t rondo_directory_count(const rondo_directory *directory);

/* The name of entry @index, 0 to count - 1, in the order in which the filesystem gave them. Any
 * thread; does not suspend. Valid until the directory is freed; NULL beyond its end. Since 0.1. */
const char *rondo_directory_name(const rondo_directory *directory, size_t index);

/* What entry @index is, as in d_type of <dirent.h>: DT_REG, DT_DIR, DT_LNK and so on; DT_UNKNOWN
 * where the filesystem does not say, and beyond the end. Any thread; does not suspend. Since 0.1.
 */
int rondo_directory_type(const rondo_directory *directory, size_t index);

/* Give it back; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_directory_free(rondo_directory *directory);

#ifdef __cplusplus
}
#endif

#endif
