/* The descriptor of a stream: opening a stream on one, its addresses and options. Any thread.
 *
 * Whoever uses the descriptor holds the stream's lock, so that it cannot be closed meanwhile.
 */
#include "error.h"
#include "stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

/* A socket must be one of bytes, and not one that listens. */
static int check_socket(int fd)
{
    int type = 0;
    int listening = 0;
    socklen_t size = sizeof(int);
    int error = sys.getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);

    if (!error)
        error = sys.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    if (error)
        return error_set(error, "descriptor %d: %s", fd, rondo_error_name(error));
    if (type != SOCK_STREAM)
        return error_set(-EINVAL, "descriptor %d is a socket, but not one of bytes", fd);
    if (listening)
        return error_set(-EINVAL, "descriptor %d is a socket that listens", fd);
    return 0;
}

RONDO_PUBLIC int rondo_stream_open(rondo_loop *loop, int fd, rondo_stream **ret_stream)
{
    struct hub *hub;
    int traits;
    int error = hub_of(loop, &hub);

    if (error || !ret_stream)
        return error ? error : -EINVAL;
    traits = sys.descriptor_traits(fd);
    if (traits < 0)
        return error_set(traits, "descriptor %d is not open", fd);
    if (traits & SYS_DIRECTORY)
        return error_set(-EISDIR, "descriptor %d is a directory", fd);
    error = traits & SYS_SOCKET ? check_socket(fd) : 0;
    if (error)
        return error;
    struct rondo_stream *stream = stream_create(hub_lane(hub), fd, hub->write_queue_max);
    if (!stream)
        return error_set(-ENOMEM, "no memory for a stream, or the loop has stopped");
    stream->is_socket = traits & SYS_SOCKET;
    stream->is_terminal = traits & SYS_TERMINAL;
    stream->can_read = traits & SYS_READABLE;
    stream->can_write = traits & SYS_WRITABLE;
    stream->copies = !stream->is_socket;
    *ret_stream = stream;
    lane_ask(stream->lane, &stream->request);
    return 0;
}

/* Calls @call with the descriptor while it cannot be closed: its result, or -EBADF. */
#define WITH_FD(stream, call)             \
    __extension__({                       \
        int result_ = -EBADF;             \
        lock_acquire(&(stream)->fd_lock); \
        int fd = (stream)->fd;            \
        if (fd >= 0)                      \
            result_ = (call);             \
        lock_release(&(stream)->fd_lock); \
        result_;                          \
    })

RONDO_PUBLIC int rondo_stream_peer_address(rondo_stream *stream,
                                           struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!stream || !ret_address)
        return -EINVAL;
    return WITH_FD(stream, sys.getpeername(fd, (struct sockaddr *)ret_address, &size));
}

RONDO_PUBLIC int rondo_stream_local_address(rondo_stream *stream,
                                            struct sockaddr_storage *ret_address)
{
    socklen_t size = sizeof(*ret_address);

    if (!stream || !ret_address)
        return -EINVAL;
    return WITH_FD(stream, sys.getsockname(fd, (struct sockaddr *)ret_address, &size));
}

RONDO_PUBLIC int rondo_stream_set_nodelay(rondo_stream *stream, bool nodelay)
{
    int on = nodelay;

    if (!stream)
        return -EINVAL;
    return WITH_FD(stream, sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
}

static int keepalive_set(int fd, int idle_s, int interval_s, int count)
{
    int on = idle_s > 0;
    int error = sys.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));

    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    if (!error && on)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    return error;
}

RONDO_PUBLIC int rondo_stream_set_keepalive(rondo_stream *stream, uint32_t idle_s,
                                            uint32_t interval_s, uint32_t count)
{
    if (!stream || idle_s > 32767)
        return -EINVAL;
    if (idle_s > 0 && (interval_s < 1 || interval_s > 32767 || count < 1 || count > 127))
        return -EINVAL;
    return WITH_FD(stream, keepalive_set(fd, (int)idle_s, (int)interval_s, (int)count));
}

RONDO_PUBLIC rondo_strand *rondo_stream_strand(rondo_stream *stream)
{
    return stream ? (rondo_strand *)&stream->strand : NULL;
}
