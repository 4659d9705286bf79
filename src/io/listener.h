/* A listener, seen from inside: a multishot accept on one lane, whose connections are spread over
 * all lanes of the loop.
 *
 * It accepts while it is open, the loop is not overloaded and neither descriptors nor connections
 * are exhausted; otherwise it waits in the lane's list of paused listeners until a connection
 * closes or a moment has passed. Who connects meanwhile waits in the kernel's backlog. When
 * descriptors stay exhausted, the one that the listener holds in reserve serves to accept those who
 * wait and to close them.
 *
 * The strand carries accepted connections and the closed event.
 */
#ifndef RONDO_IO_LISTENER_H
#define RONDO_IO_LISTENER_H

#include "rondo/stream.h"

#include "handle.h"

struct rondo_listener {
    struct handle handle;
    struct hub *hub;
    bool nodelay;
    uint32_t backlog;
    const struct rondo_listener_handlers *handlers;
    void *ctx;
    struct sockaddr_storage address;

    /* Lane thread only. */
    struct lane_request paused;
    int reserve; /* a descriptor to do without when there are no others, or -1 */
    uint64_t accept_data;
    uint64_t exhausted_ns; /* there are none since then; 0: there are some */
    bool accepting;
    bool accept_cancelled;
    bool is_paused;
};

static inline struct rondo_listener *listener_of(struct handle *handle)
{
    return container_of(handle, struct rondo_listener, handle);
}

/* The lane's side. */
extern const struct handle_kind listener_kind;
void listener_paused_run(struct lane *lane, struct lane_request *request);

#endif
