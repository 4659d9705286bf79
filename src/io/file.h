/* A file, seen from inside: a descriptor and who uses it. It has no strand and no callbacks of its
 * own; each operation on it is one of operation.h, on the loop's lane for files.
 *
 * Users word:   31             2      1        0
 *             +-----------------+--------+---------+
 *             | users           | WAITED | CLOSING |
 *             +-----------------+--------+---------+
 *
 * The owner counts as one user until it closes the file, each operation as one until its done has
 * returned. After CLOSING nobody becomes a user any more. Who takes the last user away closes: by
 * the close operation that waits (WAITED), or if there is none, or it was cancelled, at once.
 *
 * Invariants: (1) the descriptor is closed once, when there are no users; (2) the memory is there
 * while there are users, or a close operation.
 */
#ifndef RONDO_IO_FILE_H
#define RONDO_IO_FILE_H

#include "rondo/file.h"

#include "operation.h"

enum { FILE_CLOSING = 1 << 0, FILE_WAITED = 1 << 1, FILE_USER = 1 << 2 };

struct rondo_file {
    struct hub *hub;
    int fd;
    _Atomic uint32_t users;
    _Atomic uint32_t refs;    /* the descriptor's and the close operation's */
    struct operation *closer; /* valid with WAITED */
};

/* Any thread: use it for one operation. 0, -EINVAL (NULL), -EBADF (closing), -ECHILD. */
int file_use(struct rondo_file *file);

/* Any thread: an end of that. It may be gone then. NULL is nothing. */
void file_drop(struct rondo_file *file);

/* One system call as an operation: with an open file, with paths, or both. */
struct file_call {
    struct operation base;
    struct rondo_file *file; /* used, or NULL */
    char *paths[2];          /* owned, or NULL */
    struct statx *stat;
    uint64_t offset;
    uint64_t size;
    int flags;
    mode_t mode;
};

/* An operation of @kind with a copy of @path, and of @second unless that is NULL. 0, -EINVAL (empty
 * or NULL), -ENAMETOOLONG, and the errors of hub_of() and operation_create(). */
int file_call_create(const struct operation_kind *kind, rondo_loop *loop, const char *path,
                     const char *second, const struct rondo_request *request,
                     struct file_call **ret_call);

/* Lane thread: the members of a row that calls of this kind share. */
void file_call_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
void file_call_release(struct operation *operation);

/* A call that opens. */
struct file_open {
    struct file_call call;
    struct rondo_file *made; /* what it is to become */
    int error;               /* why not */
};

RONDO_STATIC_ASSERT(sizeof(struct file_open) <= OPERATION_SIZE);

/* Any thread: with the file made before the operation begins, so that an open descriptor is not
 * lost for want of memory. Errors as of file_call_create(). */
int file_open_create(const struct operation_kind *kind, rondo_loop *loop, const char *path,
                     const struct rondo_request *request, struct file_open **ret_open);

/* Lane thread: it is open; hand the file over, or close it if nobody wants it any more. */
void file_open_succeed(struct lane *lane, struct file_open *open, int fd);

/* Lane thread: it is open, but good for nothing. */
void file_open_fail(struct lane *lane, struct file_open *open, int fd, int error);

/* The release of a row. */
void file_open_release(struct operation *operation);

#endif
