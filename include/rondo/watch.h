/* Watches: changes of files and directories, by inotify(7). */
#ifndef RONDO_WATCH_H
#define RONDO_WATCH_H

#include <sys/inotify.h>

#include "loop.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_watch rondo_watch;

/* One change, in the kernel's order. */
struct rondo_change {
    /* Of rondo_watch_add(); -1 when the kernel's queue was full and changes are missing: mask is
     * IN_Q_OVERFLOW then, and what is watched must be looked at afresh. */
    int32_t id;
    uint32_t mask;    /* what happened, IN_CREATE and so on; IN_IGNORED: the id has ended */
    uint32_t cookie;  /* the same number for both sides of a rename */
    const char *name; /* in the watched directory; NULL: of what is watched itself */
};

/* What a watch tells its user. changed must not be NULL. */
struct rondo_watch_handlers {
    size_t size;
    /* @change is valid until the callback returns. */
    void (*changed)(rondo_watch *watch, const struct rondo_change *change, void *ctx);
    /* The last callback. @error: 0 (asked for, or the loop drained), -ECANCELED (it
     * stopped), or why changes cannot be read any more. May be NULL. */
    void (*closed)(rondo_watch *watch, int error, void *ctx);
};

/* Create a watch of nothing yet. Any thread; does not suspend. @handlers and @ctx must stay valid
 * until the closed callback; *ret_watch is valid until it returns. The loop's drain closes it.
 * Returns 0, -EINVAL, -ENOMEM, -EMFILE (also: fs.inotify.max_user_instances is reached), -ENFILE,
 * -ESHUTDOWN (the loop is stopping), -ECHILD; with a rondo_error_text() for -EMFILE. Since 0.1. */
int rondo_watch_create(rondo_loop *loop, const struct rondo_watch_handlers *handlers, void *ctx,
                       rondo_watch **ret_watch);

/* Watch @path, a file or a directory (what is directly in it), for the changes of @mask: IN_MODIFY,
 * IN_CREATE, IN_DELETE, IN_MOVE, IN_CLOSE_WRITE, IN_ONLYDIR and the other bits of inotify(7). Any
 * thread; does not suspend, and blocks as long as it takes to look the path up. The same file under
 * another path has the same id, and the new mask replaces the old one unless it has IN_MASK_ADD.
 * A change may be told before this returns: call it on the watch's strand where that matters.
 * Returns 0, -EINVAL (also: no change in @mask), -EBADF (closed or closing), -ENOENT, -ENOTDIR,
 * -EACCES, -ENAMETOOLONG, -ELOOP, -EEXIST (IN_MASK_CREATE), -ENOMEM, -ECHILD, or with a
 * rondo_error_text() -ENOSPC (fs.inotify.max_user_watches is reached). Since 0.1. */
int rondo_watch_add(rondo_watch *watch, const char *path, uint32_t mask, int32_t *ret_id);

/* Watch @id no more. Changes that happened before are still told, then one with IN_IGNORED; after
 * that the number may come again. Any thread; does not suspend.
 * Returns 0, -EINVAL (also: no such id), -EBADF (closed or closing), -ECHILD. Since 0.1. */
int rondo_watch_remove(rondo_watch *watch, int32_t id);

/* Close it; the closed callback follows. Any thread; does not suspend. Returns 0, -EINVAL,
 * -EALREADY (closing already). Since 0.1. */
int rondo_watch_close(rondo_watch *watch);

/* The strand its callbacks run on. Any thread; does not suspend. Valid as long as the watch.
 * Since 0.1. */
rondo_strand *rondo_watch_strand(rondo_watch *watch);

#ifdef __cplusplus
}
#endif

#endif
