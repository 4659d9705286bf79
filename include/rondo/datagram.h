/* Datagram sockets: UDP over IPv4 and IPv6, and Unix datagram sockets.
 *
 * Callbacks of one datagram socket run in the order the kernel reported, one at a time, and never
 * after its closed callback. Every function here may be called from any thread, and from any
 * callback.
 *
 * Life: one of the create functions begins it, and receiving starts when the loop runs; it ends
 * with exactly one closed callback, after which the pointer is invalid unless rondo_datagram_ref()
 * keeps it.
 *
 * A datagram is delivered whole or cut, never joined with another: the kernel may hand many over at
 * once (GRO) and take many at once (GSO), which nobody sees.
 */
#ifndef RONDO_DATAGRAM_H
#define RONDO_DATAGRAM_H

#include <stdbool.h>
#include <sys/socket.h>

#include "loop.h"
#include "op.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_datagram rondo_datagram;

/* A datagram that arrived; valid until the received callback returns. */
struct rondo_message {
    const void *data; /* never NULL, also when size is 0 */
    size_t size;      /* bytes at data */
    /* Bytes the sender sent: more than size when truncated. */
    size_t real_size;
    const struct sockaddr *from; /* NULL: a Unix socket without a name */
    socklen_t from_size;
    /* Descriptors that came with it, over Unix sockets. To keep one, set its entry to -1; the
     * others are closed when the callback returns. */
    int *descriptors;
    uint32_t descriptor_count;
    /* It was larger than what is received whole: 65535 bytes, or buffer_size of the loop if that is
     * more. The rest of it is lost. */
    bool truncated;
    /* More descriptors came than could be taken: the rest is closed. */
    bool descriptors_truncated;
};

/* What a datagram socket tells its user. Members may be NULL, except received. */
struct rondo_datagram_handlers {
    size_t size;
    /* A datagram arrived, perhaps one of no bytes. */
    void (*received)(rondo_datagram *datagram, const struct rondo_message *message, void *ctx);
    /* The send queue fell to the low watermark after it had been above the high one. */
    void (*drained)(rondo_datagram *datagram, void *ctx);
    /* Something went wrong and the socket goes on: -ECONNREFUSED (nobody listens at the peer),
     * -EHOSTUNREACH and other answers of the network, or why a datagram of rondo_datagram_send()
     * was dropped, such as -EMSGSIZE. Errors that come while one waits to be told are not told. */
    void (*error)(rondo_datagram *datagram, int error, void *ctx);
    /* The last callback. @error: 0 (asked for), -ECANCELED (aborted, or the loop stopped), or why
     * receiving ended for good. */
    void (*closed)(rondo_datagram *datagram, int error, void *ctx);
};

struct rondo_datagram_options {
    size_t size;
    /* Let several sockets have the same port (SO_REUSEPORT). */
    bool reuse_port;
    /* An IPv6 socket takes IPv6 only, not IPv4 as well. */
    bool ipv6_only;
    /* Sending to broadcast addresses is allowed. */
    bool broadcast;
    /* Take datagrams from the kernel many at a time where it can (UDP GRO). */
    bool gro;
    /* Give datagrams to the kernel many at a time where it can (UDP GSO). */
    bool gso;
    /* Bytes the kernel holds for receiving and sending: 0 (what the system gives) to 2147483647;
     * the system caps them. */
    uint32_t receive_buffer_size;
    uint32_t send_buffer_size;
};

#define RONDO_DATAGRAM_OPTIONS_INIT                                                  \
    {                                                                                \
        sizeof(struct rondo_datagram_options), false, false, false, true, true, 0, 0 \
    }

/* Open a UDP socket at @host, a numeric IPv4 or IPv6 address ("127.0.0.1", "0.0.0.0", "::"), and
 * @port (0: the system chooses, see rondo_datagram_local_address()). Any thread; does not suspend.
 * @options may be NULL; @handlers and @ctx must stay valid until the closed callback.
 * *ret_datagram is valid until the closed callback returns. Receiving begins when the loop runs.
 * Returns 0, or with a rondo_error_text(): -EINVAL, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE,
 * -ENFILE, -ENOMEM, -EAFNOSUPPORT, -ESHUTDOWN (the loop is stopping), -ECHILD. Since 0.1. */
int rondo_datagram_create(rondo_loop *loop, const char *host, uint16_t port,
                          const struct rondo_datagram_options *options,
                          const struct rondo_datagram_handlers *handlers, void *ctx,
                          rondo_datagram **ret_datagram);

/* The same on a Unix datagram socket at @path, with a leading '@' at an abstract name, or for NULL
 * without a name: nobody can answer it. The file of a path is made, and is not removed when the
 * socket closes. Any thread; does not suspend.
 * Returns what rondo_datagram_create() returns, and -ENAMETOOLONG, -ENOENT. Since 0.1. */
int rondo_datagram_create_unix(rondo_loop *loop, const char *path,
                               const struct rondo_datagram_options *options,
                               const struct rondo_datagram_handlers *handlers, void *ctx,
                               rondo_datagram **ret_datagram);

/* The same on a datagram socket that exists already, connected or not, such as one of socketpair(2)
 * or one that a service manager hands over. On success @fd belongs to the datagram socket. Of the
 * options only gro and gso count. Any thread; does not suspend.
 * Returns what rondo_datagram_create() returns, and -EBADF, -ENOTSOCK. Since 0.1. */
int rondo_datagram_create_fd(rondo_loop *loop, int fd, const struct rondo_datagram_options *options,
                             const struct rondo_datagram_handlers *handlers, void *ctx,
                             rondo_datagram **ret_datagram);

/* ---- sending ---- */

/* A datagram to send. Start from {0}. */
struct rondo_datagram_message {
    const void *data; /* may be NULL if size is 0 */
    size_t size;
    const struct sockaddr *to; /* NULL: the peer of rondo_datagram_connect() */
    socklen_t to_size;
    /* Descriptors to send along, over Unix sockets: up to 253. */
    const int *descriptors;
    uint32_t descriptor_count;
};

/* Send a copy of @size bytes (0 is a datagram too) to @to, or for NULL to the peer of
 * rondo_datagram_connect(). Any thread; does not suspend. Datagrams are given to the kernel in the
 * order in which they were queued. Above the high watermark the socket stops receiving by itself
 * until the queue has drained. One that the kernel refuses is dropped and told by the error
 * callback.
 * Returns 0, -EINVAL, -EMSGSIZE (larger than a datagram can be), -EDESTADDRREQ (no address, and not
 * connected), -EAFNOSUPPORT (the address is of another family), -EBADF (closed or closing),
 * -ENOBUFS (write_queue_max of the loop is reached), -ENOMEM. Since 0.1. */
int rondo_datagram_send(rondo_datagram *datagram, const void *data, size_t size,
                        const struct sockaddr *to, socklen_t to_size);

/* Send copies of @count messages, 1 to 65536, in their order. Descriptors are duplicated: yours may
 * be closed at once. Any thread; does not suspend.
 * Returns how many were queued, which is less than @count when an error met a later one, or the
 * error that met the first one: what rondo_datagram_send() returns, -EMFILE. Since 0.1. */
int rondo_datagram_send_batch(rondo_datagram *datagram,
                              const struct rondo_datagram_message *messages, uint32_t count);

/* Send one message without copying: its data and descriptors are lent until done is called; the
 * message itself and the address are copied. Any thread; does not suspend.
 * The result's value is the size, or -EMSGSIZE (the kernel says that it is too large),
 * -ECONNREFUSED and -ENOENT (nobody is at the address of a Unix socket), -ECONNRESET (the peer of a
 * Unix socket is gone), -EPERM, -ENETUNREACH and other errors of the network; -ECANCELED also when
 * the socket is aborted under it.
 * Returns what rondo_datagram_send() returns, and -ESHUTDOWN; on an error done is not called.
 * Since 0.1. */
int rondo_datagram_send_lent(rondo_datagram *datagram, const struct rondo_datagram_message *message,
                             const struct rondo_request *request);

/* Bytes queued for sending that the kernel has not taken yet; each datagram counts 256 more than
 * its size, for what it costs. Any thread; does not suspend. Since 0.1. */
size_t rondo_datagram_send_queued(const rondo_datagram *datagram);

/* Set the watermarks of the send queue, in bytes as rondo_datagram_send_queued() counts them; 65536
 * and 262144 unless set. Any thread; does not suspend.
 * Returns 0, -EINVAL (NULL, high is 0, or low > high). Since 0.1. */
int rondo_datagram_set_watermarks(rondo_datagram *datagram, size_t low, size_t high);

/* ---- receiving ---- */

/* Stop receiving: what was taken from the kernel is still delivered, no more is. The kernel then
 * keeps what fits into its buffer and drops the rest. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closed or closing). Since 0.1. */
int rondo_datagram_receive_stop(rondo_datagram *datagram);

/* Receive on after rondo_datagram_receive_stop(). Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closed or closing). Since 0.1. */
int rondo_datagram_receive_start(rondo_datagram *datagram);

/* ---- addresses ---- */

/* Connect to a peer: only its datagrams are received from now on, sends need no address, and
 * answers of the network come to the error callback. Again to change the peer. Any thread; does not
 * suspend. Datagrams that are queued without an address go to the peer of the moment in which they
 * are sent.
 * Returns 0, -EINVAL, -EAFNOSUPPORT, -EBADF (closed), -ENETUNREACH, -EACCES, -EPERM; for Unix
 * sockets -ECONNREFUSED, -ENOENT, -EPROTOTYPE (a stream socket is there). Since 0.1. */
int rondo_datagram_connect(rondo_datagram *datagram, const struct sockaddr *peer,
                           socklen_t peer_size);

/* Let go of the peer; the own address stays. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closed), -EADDRINUSE (another took the port meanwhile). Since 0.1. */
int rondo_datagram_disconnect(rondo_datagram *datagram);

/* The own address, with the port the system chose, or that of the connected peer. Any thread; does
 * not suspend. Return 0, -EINVAL, -EBADF (closed), -ENOTCONN. Since 0.1. */
int rondo_datagram_local_address(rondo_datagram *datagram, struct sockaddr_storage *ret_address);
/* See rondo_datagram_local_address(). Since 0.1. */
int rondo_datagram_peer_address(rondo_datagram *datagram, struct sockaddr_storage *ret_address);

/* ---- multicast ---- */

/* Become a member of the group at @group, a numeric address of the socket's family, on @interface,
 * a name such as "eth0", or for NULL the one the system chooses. With @source, a numeric address,
 * only what that one sends is received. Any thread; does not suspend.
 * Returns 0, -EINVAL (also: no group address), -ENODEV (no such interface), -EADDRINUSE (a member
 * already), -EADDRNOTAVAIL, -ENOBUFS (too many groups), -EAFNOSUPPORT (a Unix socket), -EBADF
 * (closed). Since 0.1. */
int rondo_datagram_join(rondo_datagram *datagram, const char *group, const char *interface,
                        const char *source);

/* Leave the group that was joined with the same arguments. Any thread; does not suspend.
 * Returns what rondo_datagram_join() returns; -EADDRNOTAVAIL: not a member. Since 0.1. */
int rondo_datagram_leave(rondo_datagram *datagram, const char *group, const char *interface,
                         const char *source);

/* How many routers a multicast datagram may pass: 0 (this machine only) to 255; 1 unless set. Any
 * thread; does not suspend. Returns 0, -EINVAL, -EAFNOSUPPORT (a Unix socket), -EBADF (closed).
 * Since 0.1. */
int rondo_datagram_set_multicast_ttl(rondo_datagram *datagram, uint32_t ttl);

/* Whether this machine's own members get what this socket sends; true unless set. Any thread; does
 * not suspend. Returns 0, -EINVAL, -EAFNOSUPPORT (a Unix socket), -EBADF (closed). Since 0.1. */
int rondo_datagram_set_multicast_loop(rondo_datagram *datagram, bool loop);

/* The interface that multicast datagrams leave by: a name, or NULL for the one the system chooses.
 * Any thread; does not suspend. Returns 0, -EINVAL, -ENODEV (no such interface), -EAFNOSUPPORT (a
 * Unix socket), -EBADF (closed). Since 0.1. */
int rondo_datagram_set_multicast_interface(rondo_datagram *datagram, const char *interface);

/* ---- the end ---- */

/* Close when all that was queued is with the kernel; the closed callback follows. What arrives
 * meanwhile is dropped. Any thread; does not suspend. A Unix peer that never receives can hold this
 * up: see rondo_datagram_abort(). Returns 0, -EINVAL, -EALREADY. Since 0.1. */
int rondo_datagram_close(rondo_datagram *datagram);

/* Close now: what is queued is dropped, lent sends end with -ECANCELED. Any thread, also after
 * rondo_datagram_close(); does not suspend. Returns 0, -EINVAL, -EALREADY (aborted or closed
 * already). Since 0.1. */
int rondo_datagram_abort(rondo_datagram *datagram);

/* Keep the pointer valid for one more user; calls on a closed socket answer -EBADF. Any thread;
 * does not suspend. Returns @datagram. Since 0.1. */
rondo_datagram *rondo_datagram_ref(rondo_datagram *datagram);

/* Drop one use; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_datagram_unref(rondo_datagram *datagram);

/* The strand the socket's callbacks run on: post to it to work with the socket's own data. Any
 * thread; does not suspend. Valid as long as the socket. Since 0.1. */
rondo_strand *rondo_datagram_strand(rondo_datagram *datagram);

#ifdef __cplusplus
}
#endif

#endif
