/* Buffers that the kernel knows beforehand, for reading and writing files.
 *
 * An operation on a file whose memory lies within one of them uses it by itself: the kernel need
 * not look up and pin its pages each time. That counts with O_DIRECT; docs/adr/0007-file-lane.md
 * says what it gains. They are plain memory otherwise, and where the kernel refuses to register
 * them nothing else changes.
 */
#ifndef RONDO_BUFFER_H
#define RONDO_BUFFER_H

#include "loop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_buffers rondo_buffers;

/* Make @count buffers of @buffer_size bytes (rounded up to whole pages; 1 GiB together at most) and
 * have them registered, which happens when the loop runs. Any thread; does not suspend. Yours until
 * rondo_buffers_free(). They count against `ulimit -l`; at most 64 sets of a loop are registered.
 * Returns 0, -EINVAL (NULL, no buffers, or too large), -ENOMEM, -ESHUTDOWN (the loop has stopped),
 * -ECHILD. Since 0.1. */
int rondo_buffers_create(rondo_loop *loop, size_t buffer_size, uint32_t count,
                         rondo_buffers **ret_buffers);

/* Give back all of them; NULL is nothing. No operation may use them any more. Any thread; does not
 * suspend. Before rondo_loop_free(). Since 0.1. */
void rondo_buffers_free(rondo_buffers *buffers);

/* A buffer that nobody has, aligned to a page; NULL: all are taken. Any thread; does not suspend.
 * Yours until rondo_buffers_give(). Since 0.1. */
void *rondo_buffers_take(rondo_buffers *buffers);

/* Give @data back. Any thread; does not suspend.
 * Returns 0, -EINVAL (NULL, not one of them), -EALREADY (not taken). Since 0.1. */
int rondo_buffers_give(rondo_buffers *buffers, void *data);

/* Whether the kernel knows them. Any thread; does not suspend.
 * Returns 0, -EINPROGRESS (not yet), or why not: -ENOMEM (raise `ulimit -l`), -ENOSPC (64 sets are
 * registered), -EOPNOTSUPP (this kernel), -ECANCELED (the loop did not start), -EINVAL. Since 0.1.
 */
int rondo_buffers_status(const rondo_buffers *buffers);

#ifdef __cplusplus
}
#endif

#endif
