/* The public side of a listener: its socket, creation and close. Any thread. See listener.h. */
#include "listener.h"

#include "address.h"
#include "error.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum { BACKLOG_MAX = 65535 };

static int configure(int fd, int family, const struct rondo_listener_options *options)
{
    int on = 1;
    int v6only = options->ipv6_only;
    int error = 0;

    if (family == AF_UNIX)
        return 0;
    error = sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (!error && options->reuse_port)
        error = sys.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (!error && family == AF_INET6)
        error = sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    return error;
}

/* Of a socket that is bound: also the file that this made. */
static void undo_bind(int fd, const struct address *address)
{
    const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;

    if (address->storage.ss_family == AF_UNIX && path[0] != '\0')
        (void)sys_call(SYS_unlinkat, AT_FDCWD, (long)path);
    (void)sys.close(fd);
}

/* A bound and listening socket, or an error with a text that calls it @name. */
static int make_socket(struct address *address, const char *name,
                       const struct rondo_listener_options *options)
{
    int family = address->storage.ss_family;
    const char *step = "socket";
    int fd = sys.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? fd : configure(fd, family, options);

    if (!error) {
        step = "bind";
        error = sys.bind(fd, address_get(address), address->size);
    }
    if (!error) {
        step = "listen";
        error = sys.listen(fd, (int)options->backlog);
        if (!error)
            return fd;
        undo_bind(fd, address);
    } else if (fd >= 0) {
        (void)sys.close(fd);
    }
    return address_explain(error, step, name, "that listens there");
}

static int check(rondo_loop *loop, const struct rondo_listener_options *options,
                 const struct rondo_listener_handlers *handlers, struct hub **ret_hub)
{
    int error = hub_explained(loop, ret_hub);

    if (error)
        return error;
    if (!handlers || handlers->size != sizeof(*handlers) || !handlers->accepted)
        return error_set(-EINVAL, "handlers or their accepted is NULL, or their size is not "
                                  "sizeof(struct rondo_listener_handlers)");
    if (options->size != sizeof(*options))
        return error_set(-EINVAL, "size of the listener options: start from "
                                  "RONDO_LISTENER_OPTIONS_INIT");
    if (options->backlog < 1 || options->backlog > BACKLOG_MAX)
        return error_set(-EINVAL, "backlog: %u is not between 1 and %d", options->backlog,
                         BACKLOG_MAX);
    return 0;
}

/* Takes the descriptor over when it succeeds. */
static int open_listener(struct hub *hub, int fd, const struct rondo_listener_options *options,
                         const struct rondo_listener_handlers *handlers, void *ctx,
                         rondo_listener **ret_listener)
{
    struct rondo_listener *listener = sys.alloc(sizeof(*listener));
    socklen_t size = sizeof(listener->address);

    if (!listener)
        return error_set(-ENOMEM, "no memory for a listener");
    if (!handle_init(&listener->handle, &listener_kind, hub_lane(hub), fd)) {
        sys.release(listener);
        return error_set(-ESHUTDOWN, "the loop is stopping");
    }
    listener->hub = hub;
    listener->reserve = sys.event_create();
    listener->nodelay = options->nodelay;
    listener->backlog = options->backlog;
    listener->handlers = handlers;
    listener->ctx = ctx;
    listener->paused.run = listener_paused_run;
    (void)sys.getsockname(fd, (struct sockaddr *)&listener->address, &size);
    if (listener->address.ss_family == AF_UNIX)
        listener->nodelay = false;
    if (ret_listener)
        *ret_listener = listener;
    handle_submit(&listener->handle);
    return 0;
}

static const struct rondo_listener_options defaults = RONDO_LISTENER_OPTIONS_INIT;

static int create(struct hub *hub, struct address *address, const char *name,
                  const struct rondo_listener_options *options,
                  const struct rondo_listener_handlers *handlers, void *ctx,
                  rondo_listener **ret_listener)
{
    int fd = make_socket(address, name, options);
    int error = fd < 0 ? fd : open_listener(hub, fd, options, handlers, ctx, ret_listener);

    if (fd >= 0 && error)
        undo_bind(fd, address);
    return error;
}

RONDO_PUBLIC int rondo_listener_create(rondo_loop *loop, const char *host, uint16_t port,
                                       const struct rondo_listener_options *options,
                                       const struct rondo_listener_handlers *handlers, void *ctx,
                                       rondo_listener **ret_listener)
{
    struct address address;
    struct hub *hub;
    char name[96];
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, &hub);
    if (!error && !host)
        error = error_set(-EINVAL, "host is NULL");
    if (!error)
        error = address_parse(host, port, &address);
    if (error)
        return error;
    (void)snprintf(name, sizeof(name), "port %u of %s", port, host);
    return create(hub, &address, name, options, handlers, ctx, ret_listener);
}

RONDO_PUBLIC int rondo_listener_create_unix(rondo_loop *loop, const char *path,
                                            const struct rondo_listener_options *options,
                                            const struct rondo_listener_handlers *handlers,
                                            void *ctx, rondo_listener **ret_listener)
{
    struct address address;
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, &hub);
    if (!error && !path)
        error = error_set(-EINVAL, "path is NULL");
    if (!error)
        error = address_unix(path, &address);
    if (error)
        return error;
    return create(hub, &address, path, options, handlers, ctx, ret_listener);
}

static int check_socket(int fd)
{
    int listening = 0;
    int type = 0;
    socklen_t size = sizeof(int);
    int error = sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);

    if (!error)
        error = sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (error)
        return error_set(error, "descriptor %d: %s", fd, rondo_error_name(error));
    if (!listening)
        return error_set(-EINVAL, "descriptor %d is a socket that does not listen", fd);
    if (type != SOCK_STREAM)
        return error_set(-EINVAL, "descriptor %d is a socket of records, not of bytes", fd);
    return 0;
}

RONDO_PUBLIC int rondo_listener_create_fd(rondo_loop *loop, int fd,
                                          const struct rondo_listener_options *options,
                                          const struct rondo_listener_handlers *handlers, void *ctx,
                                          rondo_listener **ret_listener)
{
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, &hub);
    if (!error)
        error = check_socket(fd);
    if (error)
        return error;
    return open_listener(hub, fd, options, handlers, ctx, ret_listener);
}

RONDO_PUBLIC int rondo_listener_address(const rondo_listener *listener,
                                        struct sockaddr_storage *ret_address)
{
    if (!listener || !ret_address)
        return -EINVAL;
    *ret_address = listener->address;
    return 0;
}

RONDO_PUBLIC int rondo_listener_close(rondo_listener *listener)
{
    return listener ? handle_close(&listener->handle) : -EINVAL;
}
