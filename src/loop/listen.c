/* Creating listeners: where the io layer meets the loop's lanes. Any thread. */
#include "loop.h"

#include "error.h"
#include "listener.h"

#include <errno.h>

RONDO_PUBLIC int rondo_listener_create(rondo_loop *loop, const char *host, uint16_t port,
                                       const struct rondo_listener_options *options,
                                       const struct rondo_listener_handlers *handlers, void *ctx,
                                       rondo_listener **ret_listener)
{
    static const struct rondo_listener_options defaults = RONDO_LISTENER_OPTIONS_INIT;
    int error = loop_check(loop);
    int fd;

    if (error)
        return error_set(error, "%s",
                         error == -ECHILD ? "the loop belongs to the parent process"
                                          : "loop is NULL");
    if (!host || !handlers || handlers->size != sizeof(*handlers) || !handlers->accepted)
        return error_set(-EINVAL, "host, handlers or their accepted is NULL, or their size is not "
                                  "sizeof(struct rondo_listener_handlers)");
    if (!options)
        options = &defaults;
    if (options->size != sizeof(*options))
        return error_set(-EINVAL, "size of the listener options: start from "
                                  "RONDO_LISTENER_OPTIONS_INIT");
    fd = listener_socket(host, port, options);
    if (fd < 0)
        return fd;
    if (life_add(&loop->life)) {
        struct listener_options inner = {
            .lanes = loop->lanes,
            .lane_count = loop->lanes_ready,
            .pool = &loop->pool,
            .write_queue_max = loop->options.write_queue_max,
        };
        error = listener_create(&inner, fd, options, handlers, ctx, ret_listener);
        if (!error)
            return 0;
        life_drop(&loop->life, 1);
    } else {
        error = error_set(-ESHUTDOWN, "the loop is stopping");
    }
    (void)sys.close(fd);
    return error;
}
