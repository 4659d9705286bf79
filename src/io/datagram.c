/* The public side of a datagram socket: creation, receiving on and off, addresses, the end. Any
 * thread. See datagram.h. */
#include "datagram.h"

#include "error.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>

enum { DATAGRAM_LOW = 64 * 1024, DATAGRAM_HIGH = 256 * 1024 };

/* ---- creation ---- */

static int set_int(int fd, int level, int name, int value)
{
    return sys.setsockopt(fd, level, name, &value, sizeof(value));
}

static int configure(int fd, int family, const struct rondo_datagram_options *options)
{
    int error = 0;

    if (options->receive_buffer_size)
        error = set_int(fd, SOL_SOCKET, SO_RCVBUF, (int)options->receive_buffer_size);
    if (!error && options->send_buffer_size)
        error = set_int(fd, SOL_SOCKET, SO_SNDBUF, (int)options->send_buffer_size);
    if (error || family == AF_UNIX)
        return error;
    if (options->reuse_port)
        error = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!error && options->broadcast)
        error = set_int(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (!error && family == AF_INET6)
        error = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, options->ipv6_only);
    return error;
}

/* A bound socket, or an error with a text that calls it @name. */
static int make_socket(struct address *address, const char *name,
                       const struct rondo_datagram_options *options)
{
    int family = address->storage.ss_family;
    const char *step = "socket";
    int fd = sys.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? fd : configure(fd, family, options);

    if (!error && address->size > 0) {
        step = "bind";
        error = sys.bind(fd, address_get(address), address->size);
    }
    if (!error)
        return fd;
    if (fd >= 0)
        (void)sys.close(fd);
    return address_explain(error, step, name, "that has it");
}

static int check(rondo_loop *loop, const struct rondo_datagram_options *options,
                 const struct rondo_datagram_handlers *handlers, rondo_datagram **ret_datagram,
                 struct hub **ret_hub)
{
    int error = hub_explained(loop, ret_hub);

    if (error)
        return error;
    if (!ret_datagram)
        return error_set(-EINVAL, "ret_datagram is NULL");
    if (!handlers || handlers->size != sizeof(*handlers) || !handlers->received)
        return error_set(-EINVAL, "handlers or their received is NULL, or their size is not "
                                  "sizeof(struct rondo_datagram_handlers)");
    if (options->size != sizeof(*options))
        return error_set(-EINVAL, "size of the datagram options: start from "
                                  "RONDO_DATAGRAM_OPTIONS_INIT");
    if (options->receive_buffer_size > INT_MAX || options->send_buffer_size > INT_MAX)
        return error_set(-EINVAL, "receive_buffer_size or send_buffer_size is above %d", INT_MAX);
    return 0;
}

/* Takes what the kernel can do for many datagrams at once: a kernel without it is no error. */
static void accelerate(struct rondo_datagram *datagram,
                       const struct rondo_datagram_options *options)
{
    int fd = datagram->fd;

    if (options->gro && !set_int(fd, SOL_UDP, UDP_GRO, 1))
        datagram->receive_header.msg_controllen = CMSG_SPACE(sizeof(int));
    if (options->gso && !set_int(fd, SOL_UDP, UDP_SEGMENT, 0))
        datagram->segment_max = UINT16_MAX;
}

/* Takes the descriptor over when it succeeds. */
static int open_datagram(struct hub *hub, int fd, const struct rondo_datagram_options *options,
                         const struct rondo_datagram_handlers *handlers, void *ctx,
                         rondo_datagram **ret_datagram)
{
    struct rondo_datagram *datagram = sys.alloc_aligned(sizeof(*datagram));
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof(peer);

    if (!datagram)
        return error_set(-ENOMEM, "no memory for a datagram socket");
    datagram->bound.size = sizeof(datagram->bound.storage);
    if (sys.getsockname(fd, address_get(&datagram->bound), &datagram->bound.size))
        datagram->bound.size = 0;
    if (!handle_init(&datagram->handle, &datagram_kind, hub_lane(hub), fd)) {
        sys.release(datagram);
        return error_set(-ESHUTDOWN, "the loop is stopping");
    }
    datagram->hub = hub;
    datagram->handlers = handlers;
    datagram->ctx = ctx;
    datagram->fd = fd;
    datagram->family = datagram->bound.storage.ss_family;
    datagram->queued_max = hub->write_queue_max;
    datagram->receive_header.msg_namelen = DATAGRAM_NAME_SIZE;
    if (datagram->family == AF_UNIX)
        datagram->receive_header.msg_controllen = CMSG_SPACE(PACKET_DESCRIPTORS_MAX * sizeof(int));
    else
        accelerate(datagram, options);
    inbox_init(&datagram->packets, false);
    /* All relaxed: the lane's inbox publishes them. */
    store_relaxed(&datagram->connected, !sys.getpeername(fd, (struct sockaddr *)&peer, &peer_size));
    store_relaxed(&datagram->low, DATAGRAM_LOW);
    store_relaxed(&datagram->high, DATAGRAM_HIGH);
    store_relaxed(&datagram->handle.flags, HANDLE_QUEUED | DATAGRAM_RECEIVE);
    datagram_lane_init(datagram);
    *ret_datagram = datagram;
    handle_submit(&datagram->handle);
    return 0;
}

static const struct rondo_datagram_options defaults = RONDO_DATAGRAM_OPTIONS_INIT;

static int create(struct hub *hub, struct address *address, const char *name,
                  const struct rondo_datagram_options *options,
                  const struct rondo_datagram_handlers *handlers, void *ctx,
                  rondo_datagram **ret_datagram)
{
    int fd = make_socket(address, name, options);
    int error = fd < 0 ? fd : open_datagram(hub, fd, options, handlers, ctx, ret_datagram);

    if (fd >= 0 && error)
        (void)sys.close(fd);
    return error;
}

RONDO_PUBLIC int rondo_datagram_create(rondo_loop *loop, const char *host, uint16_t port,
                                       const struct rondo_datagram_options *options,
                                       const struct rondo_datagram_handlers *handlers, void *ctx,
                                       rondo_datagram **ret_datagram)
{
    struct address address;
    struct hub *hub;
    char name[96];
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, ret_datagram, &hub);
    if (!error && !host)
        error = error_set(-EINVAL, "host is NULL");
    if (!error)
        error = address_parse(host, port, &address);
    if (error)
        return error;
    (void)snprintf(name, sizeof(name), "port %u of %s", port, host);
    return create(hub, &address, name, options, handlers, ctx, ret_datagram);
}

RONDO_PUBLIC int rondo_datagram_create_unix(rondo_loop *loop, const char *path,
                                            const struct rondo_datagram_options *options,
                                            const struct rondo_datagram_handlers *handlers,
                                            void *ctx, rondo_datagram **ret_datagram)
{
    struct address address = {.storage.ss_family = AF_UNIX};
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, ret_datagram, &hub);
    if (!error && path)
        error = address_unix(path, &address);
    if (error)
        return error;
    return create(hub, &address, path ? path : "a Unix socket", options, handlers, ctx,
                  ret_datagram);
}

RONDO_PUBLIC int rondo_datagram_create_fd(rondo_loop *loop, int fd,
                                          const struct rondo_datagram_options *options,
                                          const struct rondo_datagram_handlers *handlers, void *ctx,
                                          rondo_datagram **ret_datagram)
{
    struct hub *hub;
    int type = 0;
    int family = 0;
    socklen_t size = sizeof(int);
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, handlers, ret_datagram, &hub);
    if (error)
        return error;
    error = sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    if (!error)
        error = sys.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    if (error)
        return error_set(error, "descriptor %d: %s", fd, rondo_error_name(error));
    if (type != SOCK_DGRAM)
        return error_set(-EINVAL, "descriptor %d is a socket that is not of datagrams", fd);
    if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return error_set(-EAFNOSUPPORT, "descriptor %d is a socket of none of IPv4, IPv6 and Unix",
                         fd);
    return open_datagram(hub, fd, options, handlers, ctx, ret_datagram);
}

/* ---- receiving ---- */

static int open_error(uint32_t flags)
{
    return flags & (HANDLE_CLOSE | HANDLE_CLOSED) ? -EBADF : 0;
}

RONDO_PUBLIC int rondo_datagram_receive_stop(rondo_datagram *datagram)
{
    if (!datagram)
        return -EINVAL;
    /* Pairs with the lane, which is asked to look again. */
    uint32_t old = and_acq_rel(&datagram->handle.flags, ~(uint32_t)DATAGRAM_RECEIVE);
    if (!open_error(old) && (old & DATAGRAM_RECEIVE))
        (void)handle_ask(&datagram->handle, 0);
    return open_error(old);
}

RONDO_PUBLIC int rondo_datagram_receive_start(rondo_datagram *datagram)
{
    return datagram ? open_error(handle_ask(&datagram->handle, DATAGRAM_RECEIVE)) : -EINVAL;
}

RONDO_PUBLIC int rondo_datagram_set_watermarks(rondo_datagram *datagram, size_t low, size_t high)
{
    if (!datagram || high == 0 || low > high)
        return -EINVAL;
    store_relaxed(&datagram->low, low); /* Relaxed: the lane is asked to look after. */
    store_relaxed(&datagram->high, high);
    (void)handle_ask(&datagram->handle, 0);
    return 0;
}

/* ---- addresses ---- */

RONDO_PUBLIC int rondo_datagram_connect(rondo_datagram *datagram, const struct sockaddr *peer,
                                        socklen_t peer_size)
{
    struct address address;

    if (!datagram)
        return -EINVAL;
    int error = address_copy(peer, peer_size, &address);
    if (!error && address.storage.ss_family != datagram->family)
        error = -EAFNOSUPPORT;
    if (!error)
        error = WITH_DATAGRAM_FD(datagram, sys.connect(fd, address_get(&address), address.size));
    if (!error)
        store_relaxed(&datagram->connected, true); /* Relaxed: the kernel has the last word. */
    return error;
}

/* A port that the system chose is lost with the peer. */
static int disconnect(int fd, struct address *bound)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    struct address now = {.size = sizeof(now.storage)};
    int error = sys.connect(fd, &nobody, sizeof(nobody));

    if (!error && bound->storage.ss_family != AF_UNIX)
        error = sys.getsockname(fd, address_get(&now), &now.size);
    /* IPv4 and IPv6 keep the port at the same place. */
    if (!error && now.size > 0 && bound->storage.ss_family != AF_UNIX &&
        ((struct sockaddr_in *)&now.storage)->sin_port !=
            ((struct sockaddr_in *)&bound->storage)->sin_port)
        error = sys.bind(fd, address_get(bound), bound->size);
    return error;
}

RONDO_PUBLIC int rondo_datagram_disconnect(rondo_datagram *datagram)
{
    if (!datagram)
        return -EINVAL;
    int error = WITH_DATAGRAM_FD(datagram, disconnect(fd, &datagram->bound));
    if (error != -EBADF)
        store_relaxed(&datagram->connected, false); /* Relaxed: as in connect. */
    return error;
}

RONDO_PUBLIC int rondo_datagram_local_address(rondo_datagram *datagram,
                                              struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!datagram || !ret_address)
        return -EINVAL;
    return WITH_DATAGRAM_FD(datagram, sys.getsockname(fd, (struct sockaddr *)ret_address, &size));
}

RONDO_PUBLIC int rondo_datagram_peer_address(rondo_datagram *datagram,
                                             struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!datagram || !ret_address)
        return -EINVAL;
    return WITH_DATAGRAM_FD(datagram, sys.getpeername(fd, (struct sockaddr *)ret_address, &size));
}

/* ---- the end ---- */

RONDO_PUBLIC int rondo_datagram_close(rondo_datagram *datagram)
{
    return datagram ? handle_close(&datagram->handle) : -EINVAL;
}

RONDO_PUBLIC int rondo_datagram_abort(rondo_datagram *datagram)
{
    if (!datagram)
        return -EINVAL;
    uint32_t old = handle_ask(&datagram->handle, HANDLE_CLOSE | DATAGRAM_ABORT);
    return old & (DATAGRAM_ABORT | HANDLE_CLOSED) ? -EALREADY : 0;
}

RONDO_PUBLIC rondo_datagram *rondo_datagram_ref(rondo_datagram *datagram)
{
    if (datagram)
        strand_ref(&datagram->handle.strand);
    return datagram;
}

RONDO_PUBLIC void rondo_datagram_unref(rondo_datagram *datagram)
{
    if (datagram)
        strand_unref(&datagram->handle.strand);
}

RONDO_PUBLIC rondo_strand *rondo_datagram_strand(rondo_datagram *datagram)
{
    return datagram ? (rondo_strand *)&datagram->handle.strand : NULL;
}
