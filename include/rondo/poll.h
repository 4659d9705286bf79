/* Readiness of any descriptor: of devices, foreign libraries' sockets, anything poll(2) knows. */
#ifndef RONDO_POLL_H
#define RONDO_POLL_H

#include <poll.h>

#include "loop.h"
#include "op.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Wait once until @fd is ready for one of @events: POLLIN, POLLPRI, POLLOUT, POLLRDHUP and the
 * other bits of poll(2). Any thread; does not suspend. The result's value is what it is ready for;
 * POLLERR and POLLHUP come unasked, and are all that comes when @events is 0. A regular file is
 * always ready. @fd stays yours and must stay open until the end.
 * Returns 0, -EINVAL (also: other bits in @events), -EBADF (no such descriptor), -ENOMEM,
 * -ESHUTDOWN, -ECHILD; the result may also be -EBADF, when it was closed meanwhile. Since 0.1. */
int rondo_poll(rondo_loop *loop, int fd, uint32_t events, const struct rondo_request *request);

typedef struct rondo_poller rondo_poller;

/* What a poller tells its user. ready must not be NULL. */
struct rondo_poller_handlers {
    size_t size;
    /* The descriptor is ready for @events. The next call comes after this one has returned, if the
     * descriptor is ready then: read or write here, or what is ready is told again and again. */
    void (*ready)(rondo_poller *poller, uint32_t events, void *ctx);
    /* The last callback; the descriptor is not used any more. @error: 0 (asked for, or the loop
     * drained), -ECANCELED (it stopped), or why the kernel refused to poll. May be NULL. */
    void (*closed)(rondo_poller *poller, int error, void *ctx);
};

/* Watch @fd for @events, see rondo_poll(), until it is closed. Level-triggered: it tells that the
 * descriptor is ready as long as it is, one call at a time. Any thread; does not suspend. @fd stays
 * yours and must stay open until the closed callback. @handlers and @ctx must stay valid until the
 * closed callback; *ret_poller is valid until it returns. The loop's drain closes it.
 * Returns 0, -EINVAL, -EBADF (no such descriptor), -ENOMEM, -ESHUTDOWN (the loop is stopping),
 * -ECHILD. Since 0.1. */
int rondo_poller_create(rondo_loop *loop, int fd, uint32_t events,
                        const struct rondo_poller_handlers *handlers, void *ctx,
                        rondo_poller **ret_poller);

/* Watch for other events from now on. A call that is on its way may still tell of the old ones. Any
 * thread; does not suspend. Returns 0, -EINVAL, -EBADF (closed or closing). Since 0.1. */
int rondo_poller_set_events(rondo_poller *poller, uint32_t events);

/* Close it, not the descriptor; the closed callback follows. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EALREADY (closing already). Since 0.1. */
int rondo_poller_close(rondo_poller *poller);

/* The strand its callbacks run on. Any thread; does not suspend. Valid as long as the poller.
 * Since 0.1. */
rondo_strand *rondo_poller_strand(rondo_poller *poller);

#ifdef __cplusplus
}
#endif

#endif
