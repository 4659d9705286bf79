/* A TCP listener, seen from inside: a multishot accept on one lane, whose connections are spread
 * over all lanes of the loop.
 *
 * It accepts while it is open and neither descriptors nor connections are exhausted; otherwise it
 * waits in the lane's list of paused listeners until a connection closes or a moment has passed.
 *
 * Flags as for a stream: any thread sets CLOSE together with QUEUED, the lane takes QUEUED off, and
 * one exchange to CLOSED is the end. The strand carries accepted connections and the closed event.
 */
#ifndef RONDO_IO_LISTENER_H
#define RONDO_IO_LISTENER_H

#include "rondo/stream.h"

#include "lane.h"

struct listener_options {
    struct lane *lanes; /* of the loop: the listener lives on the first */
    uint32_t lane_count;
    struct pool *pool;
    uint64_t write_queue_max;
};

/* Any thread, with one life counted for it: the listener takes the descriptor over. */
int listener_create(const struct listener_options *options, int fd,
                    const struct rondo_listener_options *given,
                    const struct rondo_listener_handlers *handlers, void *ctx,
                    struct rondo_listener **ret_listener);

/* A bound and listening socket, or an error with a text. */
int listener_socket(const char *host, uint16_t port, const struct rondo_listener_options *options);

#endif
