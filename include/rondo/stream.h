/* Listeners, and streams of bytes: TCP and Unix sockets, pipes, terminals.
 *
 * Callbacks of one stream run in the order the kernel reported, one at a time, and never after its
 * closed callback. Every function here may be called from any thread, and from any callback.
 *
 * A stream comes from a listener's accepted callback, from a connect, or from a descriptor. It is
 * yours, and read in one of two ways. rondo_stream_start() gives it handlers and pushes what
 * arrives to them; it ends with exactly one closed callback, after which the pointer is invalid
 * unless rondo_stream_ref() keeps it. Read operations pull instead: each takes what it needs into
 * memory of yours, and tells errors; then the pointer is valid until you close, finish or abort it,
 * or free the loop. Writing is the same for both.
 */
#ifndef RONDO_STREAM_H
#define RONDO_STREAM_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "loop.h"
#include "op.h"
#include "strand.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rondo_listener rondo_listener;
typedef struct rondo_stream rondo_stream;

/* What a listener tells its user. Members may be NULL, except accepted. */
struct rondo_listener_handlers {
    size_t size;
    /* A connection arrived. It is yours: start it or close it, now or later. */
    void (*accepted)(rondo_listener *listener, rondo_stream *stream, void *ctx);
    /* The listener is closed; the last callback. @error: 0 (asked for), -ECANCELED (the loop
     * stopped), or why accepting ended for good. */
    void (*closed)(rondo_listener *listener, int error, void *ctx);
};

struct rondo_listener_options {
    size_t size;
    /* Connections the kernel may hold ready: 1 to 65535; the system caps it (somaxconn). */
    uint32_t backlog;
    /* Let several sockets listen on the same port. */
    bool reuse_port;
    /* An IPv6 listener takes IPv6 only, not IPv4 as well. */
    bool ipv6_only;
    /* Accepted streams send small messages at once (TCP_NODELAY). */
    bool nodelay;
};

#define RONDO_LISTENER_OPTIONS_INIT                                     \
    {                                                                   \
        sizeof(struct rondo_listener_options), 4096, false, false, true \
    }

/* Listen on @host, a numeric IPv4 or IPv6 address ("127.0.0.1", "::1", "0.0.0.0", "::"), and
 * @port (0: the system chooses, see rondo_listener_address()). Any thread; does not suspend.
 * @options may be NULL; @handlers and @ctx must stay valid until the closed callback.
 * *ret_listener may be NULL; it is valid until the closed callback returns. Accepting begins when
 * the loop runs. It pauses when descriptors or connections are exhausted and goes on by itself.
 * Returns 0, or with a rondo_error_text(): -EINVAL, -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, -EMFILE,
 * -ENFILE, -ENOMEM, -EAFNOSUPPORT, -ESHUTDOWN (the loop is stopping), -ECHILD. Since 0.1. */
int rondo_listener_create(rondo_loop *loop, const char *host, uint16_t port,
                          const struct rondo_listener_options *options,
                          const struct rondo_listener_handlers *handlers, void *ctx,
                          rondo_listener **ret_listener);

/* The same on a Unix stream socket at @path, or with a leading '@' at an abstract name. The file of
 * a path is made, and is not removed when the listener closes. Any thread; does not suspend.
 * Returns what rondo_listener_create() returns, and -ENAMETOOLONG, -ENOENT, -ENOTDIR, -ELOOP,
 * -EROFS. Since 0.1. */
int rondo_listener_create_unix(rondo_loop *loop, const char *path,
                               const struct rondo_listener_options *options,
                               const struct rondo_listener_handlers *handlers, void *ctx,
                               rondo_listener **ret_listener);

/* The same on a socket that listens already, such as one that a service manager hands over. On
 * success @fd belongs to the listener. Any thread; does not suspend.
 * Returns what rondo_listener_create() returns, and -EBADF, -ENOTSOCK. Since 0.1. */
int rondo_listener_create_fd(rondo_loop *loop, int fd, const struct rondo_listener_options *options,
                             const struct rondo_listener_handlers *handlers, void *ctx,
                             rondo_listener **ret_listener);

/* The address the listener is bound to, with the port the system chose. Any thread; does not
 * suspend. Returns 0, -EINVAL. Since 0.1. */
int rondo_listener_address(const rondo_listener *listener, struct sockaddr_storage *ret_address);

/* Stop accepting and close; the closed callback follows. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EALREADY (closing already). Since 0.1. */
int rondo_listener_close(rondo_listener *listener);

/* A stream on a descriptor that is open: a connected socket, a pipe or FIFO, a terminal or another
 * character device, also one that is open for reading or for writing only. Any thread; does not
 * suspend. On success @fd belongs to the stream.
 * Returns 0, or with a rondo_error_text(): -EINVAL (also: a socket of datagrams or records, or one
 * that listens), -EBADF, -EISDIR, -ENOMEM (or the loop has stopped), -ECHILD. Since 0.1. */
int rondo_stream_open(rondo_loop *loop, int fd, rondo_stream **ret_stream);

/* What a stream tells its user. Members may be NULL, except read. */
struct rondo_stream_handlers {
    size_t size;
    /* @size > 0 bytes arrived. @data is valid until the callback returns. */
    void (*read)(rondo_stream *stream, const void *data, size_t size, void *ctx);
    /* The peer sent its last byte; writing still works. NULL: the stream is closed. */
    void (*end)(rondo_stream *stream, void *ctx);
    /* The write queue fell to the low watermark after it had been above the high one. */
    void (*drained)(rondo_stream *stream, void *ctx);
    /* The loop drains: finish and close the stream before the loop's deadline. NULL: the stream is
     * closed when its queue is written. */
    void (*draining)(rondo_stream *stream, void *ctx);
    /* The last callback. @error: 0 (asked for), -ECONNRESET and other errors of the connection, or
     * -ECANCELED (aborted, or the loop stopped). */
    void (*closed)(rondo_stream *stream, int error, void *ctx);
};

/* The end of one lent write: @result is 0 when all bytes are with the kernel, or the error. The
 * memory is yours again. */
typedef void rondo_written_fn(rondo_stream *stream, int result, void *ctx);

/* Give a stream its handlers and begin to read. Any thread; does not suspend. @handlers
 * and @ctx must stay valid until the closed callback, which follows a success exactly once; after
 * an error nothing follows.
 * Returns 0, -EINVAL, -EALREADY (started before, or read operations are used), -EBADF (closed or
 * closing). Since 0.1. */
int rondo_stream_start(rondo_stream *stream, const struct rondo_stream_handlers *handlers,
                       void *ctx);

/* Stop reading: bytes that arrived are still delivered, no more are taken from the kernel. Any
 * thread; does not suspend. Returns 0, -EINVAL, -EBADF (closed or closing). Since 0.1. */
int rondo_stream_read_stop(rondo_stream *stream);

/* Read on after rondo_stream_read_stop(). Any thread; does not suspend.
 * Returns 0, -EINVAL (also: not started), -EBADF (closed or closing). Since 0.1. */
int rondo_stream_read_start(rondo_stream *stream);

/* Write a copy of @size bytes after all that was written before. Any thread; does not suspend.
 * Above the high watermark the stream stops reading by itself until the queue has drained.
 * Returns 0, -EINVAL (NULL, or size 0), -EPIPE (shut down for writing), -EBADF (closed or closing),
 * -ENOBUFS (write_queue_max of the loop is reached), -ENOMEM. Since 0.1. */
int rondo_stream_write(rondo_stream *stream, const void *data, size_t size);

/* Write without copying: @data is lent to the stream until @written is called, exactly once, also
 * when the stream is closed. Any thread; does not suspend.
 * Returns what rondo_stream_write() returns; on an error @written is not called. Since 0.1. */
int rondo_stream_write_lent(rondo_stream *stream, const void *data, size_t size,
                            rondo_written_fn *written, void *ctx);

/* Write all of @data, lent until done, in its turn after all that was written before. Any thread;
 * does not suspend. The result's value is @size. Cancelled or past its deadline it is taken off the
 * queue; when the kernel had a part of it already, bytes tells how much: the peer sees that part,
 * and then what is written next.
 * Returns what rondo_stream_write() and operations in general return. The result may also be what
 * closed the stream, such as -ECONNRESET or -EPIPE. Since 0.1. */
int rondo_stream_write_all(rondo_stream *stream, const void *data, size_t size,
                           const struct rondo_request *request);

/* The same for 1 to 1024 pieces of memory in a row, none empty; the array is lent, too. Any thread;
 * does not suspend. Returns what rondo_stream_write_all() returns. Since 0.1. */
int rondo_stream_writev(rondo_stream *stream, const struct iovec *parts, uint32_t count,
                        const struct rondo_request *request);

/* The same on a Unix socket, with 1 to 16 descriptors that go with the first byte. They must stay
 * open until done. Any thread; does not suspend. Returns what rondo_stream_write_all() returns, and
 * -ENOTSOCK; the result may be -EBADF (one of them is closed) or -EINVAL (not a Unix socket), which
 * closes the stream. Since 0.1. */
int rondo_stream_write_descriptors(rondo_stream *stream, const void *data, size_t size,
                                   const int *descriptors, uint32_t count,
                                   const struct rondo_request *request);

/* "To its end", as the size of a part of a file. */
#define RONDO_FILE_REST UINT64_MAX

/* Write @size bytes of @file from @offset on, in turn with all other writes, without copying them
 * through the program. Any thread; does not suspend. The file stays open until done. The result's
 * value is the count; -ENODATA: the file ended before, bytes tells where. When it fails or is
 * cancelled half way the peer sees that part, and then what is written next.
 * Returns what rondo_stream_write_all() returns, and -EINVAL for a part that ends beyond 2^63. The
 * result may also be an error of reading the file: -EIO, -EINVAL (a kind of file that cannot be
 * sent), -EBADF (not open for reading). Since 0.1. */
int rondo_stream_write_file(rondo_stream *stream, struct rondo_file *file, uint64_t offset,
                            uint64_t size, const struct rondo_request *request);

/* Read 1 to @size bytes into @data, lent until done, as soon as some are there. Any thread; does
 * not suspend. Reads are served one after the other, in the order of the calls. The result's value
 * is the count, or 0 at the end of the stream.
 * Returns 0, -EINVAL, -EALREADY (the stream is started), -EBADF (closed or closing), -ENOMEM,
 * -ESHUTDOWN (the loop has stopped). The result may also be what closed the stream, such as
 * -ECONNRESET, or -EBADF (not open for reading). Since 0.1. */
int rondo_stream_read(rondo_stream *stream, void *data, size_t size,
                      const struct rondo_request *request);

/* Read until @size bytes are there. Any thread; does not suspend. Returns what rondo_stream_read()
 * returns. The result's value is @size, or -ENODATA: the stream ended before; bytes tells after how
 * many, as it does when it is cancelled. Since 0.1. */
int rondo_stream_read_exactly(rondo_stream *stream, void *data, size_t size,
                              const struct rondo_request *request);

/* Read until the bytes in @data end with @delimiter, lent until done. Any thread; does not suspend.
 * What arrived beyond it is kept for the next read. The result's value is the count, the delimiter
 * included; -EMSGSIZE: it is not among the first @size bytes, which are in @data; -ENODATA: the
 * stream ended before it. Returns what rondo_stream_read() returns. Since 0.1. */
int rondo_stream_read_until(rondo_stream *stream, const void *delimiter, size_t delimiter_size,
                            void *data, size_t size, const struct rondo_request *request);

/* rondo_stream_read() on a Unix socket that also takes up to *count (1 to 16) descriptors into
 * @descriptors; when done, *count is how many. They are close-on-exec, and yours. Other reads drop
 * descriptors that arrive with their bytes. Any thread; does not suspend. Returns what
 * rondo_stream_read() returns, and -ENOTSOCK. The result's value may be -EMSGSIZE: more arrived,
 * and all were closed. Since 0.1. */
int rondo_stream_read_descriptors(rondo_stream *stream, void *data, size_t size, int *descriptors,
                                  uint32_t *count, const struct rondo_request *request);

/* Pass on to @to all that arrives at @from, until its end, in turn with other reads of it. The
 * bytes are not copied and run no callback; when @to is slow, @from is not read: the limit of the
 * write queue does not end a relay. Any thread; does not suspend. Both streams belong to one loop.
 * The result's value is 0 at the end of @from, which is not passed on: see rondo_stream_shutdown().
 * Its bytes are those that were queued on @to.
 * Returns what rondo_stream_read() returns. The result may also be -EBADF or -EPIPE: @to cannot be
 * written to any more. Since 0.1. */
int rondo_stream_relay(rondo_stream *from, rondo_stream *to, const struct rondo_request *request);

/* Bytes accepted for writing that the kernel has not taken yet. Any thread; does not suspend.
 * Since 0.1. */
size_t rondo_stream_write_queued(const rondo_stream *stream);

/* Set the watermarks of the write queue, in bytes; 65536 and 262144 unless set. Any thread; does
 * not suspend. Returns 0, -EINVAL (NULL, high is 0, or low > high). Since 0.1. */
int rondo_stream_set_watermarks(rondo_stream *stream, size_t low, size_t high);

/* Half close: the peer sees the end after all that was written. Reading goes on. Any thread; does
 * not suspend. Where the descriptor is no socket, writing is only refused from then on.
 * Returns 0, -EINVAL, -EALREADY, -EBADF (closed or closing). Since 0.1. */
int rondo_stream_shutdown(rondo_stream *stream);

/* Close when all that was written is with the kernel; the closed callback follows. What arrives
 * meanwhile is dropped. Any thread; does not suspend. A peer that never reads can hold this up: see
 * rondo_stream_abort(). Returns 0, -EINVAL, -EALREADY. Since 0.1. */
int rondo_stream_close(rondo_stream *stream);

/* rondo_stream_close() that tells when the stream is closed. Any thread; does not suspend. When it
 * is cancelled or its deadline comes, the stream is aborted. The result's value is 0, or the error
 * that closed the stream before all was written; -ECANCELED and -ETIMEDOUT: it was aborted.
 * Returns 0, -EINVAL, -EALREADY (closed or closing), -ENOMEM, -ESHUTDOWN. Since 0.1. */
int rondo_stream_finish(rondo_stream *stream, const struct rondo_request *request);

/* Close now: what is queued is dropped, the peer sees a reset. Any thread, also after
 * rondo_stream_close(); does not suspend. Returns 0, -EINVAL, -EALREADY (aborted already).
 * Since 0.1. */
int rondo_stream_abort(rondo_stream *stream);

/* Keep the pointer valid for one more user; calls on a closed stream answer -EBADF. Any thread;
 * does not suspend. Returns @stream. Since 0.1. */
rondo_stream *rondo_stream_ref(rondo_stream *stream);

/* Drop one use; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_stream_unref(rondo_stream *stream);

/* The address of the other side, or of this one. Any thread; does not suspend.
 * Return 0, -EINVAL, -EBADF (closed), -ENOTCONN. Since 0.1. */
int rondo_stream_peer_address(rondo_stream *stream, struct sockaddr_storage *ret_address);
/* See rondo_stream_peer_address(). Since 0.1. */
int rondo_stream_local_address(rondo_stream *stream, struct sockaddr_storage *ret_address);

/* Send small messages at once (true) or let the kernel gather them (false). Any thread; does not
 * suspend. Returns 0, -EINVAL, -EBADF (closed). Since 0.1. */
int rondo_stream_set_nodelay(rondo_stream *stream, bool nodelay);

/* Probe an idle peer after @idle_s seconds (1 to 32767), every @interval_s (1 to 32767), @count
 * times (1 to 127); idle_s 0 turns it off. Any thread; does not suspend.
 * Returns 0, -EINVAL, -EBADF (closed). Since 0.1. */
int rondo_stream_set_keepalive(rondo_stream *stream, uint32_t idle_s, uint32_t interval_s,
                               uint32_t count);

/* The strand the stream's callbacks run on: post to it to work with the stream's own data. Any
 * thread; does not suspend. Valid as long as the stream. Since 0.1. */
rondo_strand *rondo_stream_strand(rondo_stream *stream);

/* ---- connecting ---- */

/* How to connect. Start from RONDO_CONNECT_OPTIONS_INIT. */
struct rondo_connect_options {
    size_t size;
    /* Connect from here: a numeric IPv4 or IPv6 address of this machine, which restricts the family
     * to its own. NULL: the system chooses. Copied. */
    const char *source_host;
    /* And from this port, which needs a source_host. 0: the system chooses. */
    uint16_t source_port;
    /* Which addresses of a name to try: AF_UNSPEC (all), AF_INET or AF_INET6. */
    int family;
    /* Send small messages at once (TCP_NODELAY). */
    bool nodelay;
    /* How long one address of a name has before the next is tried beside it: 10 ms to 10 s. */
    uint64_t attempt_delay_ns;
};

#define RONDO_CONNECT_OPTIONS_INIT                                                \
    {                                                                             \
        sizeof(struct rondo_connect_options), NULL, 0, AF_UNSPEC, true, 250000000 \
    }

/* Connect to @port (1 to 65535) of @host, a name or a numeric IPv4 or IPv6 address. @options may be
 * NULL; all input is copied. Any thread; does not suspend. On success the result's value is 0 and
 * its stream is yours as an accepted one is: start it or close it. Its errors are those of
 * connect(2), socket(2) and bind(2), such as -ECONNREFUSED, -EHOSTUNREACH, -EADDRNOTAVAIL, -EMFILE;
 * -ETIMEDOUT is the deadline's or the kernel's, which gives up after some two minutes; -ENOBUFS:
 * the loop has as many connections as its options allow.
 *
 * A name is looked up as by rondo_resolve(), whose errors it then ends with (rondo_resolve_eai()
 * tells them apart). IPv4 and IPv6 addresses come from getaddrinfo(3) together and sorted, so both
 * answers of the name server are awaited. They are tried as RFC 8305 says: families in turn, the
 * next address at once when one failed, otherwise beside the others after attempt_delay_ns; 64
 * addresses at most. The first connection wins; the others are closed before done is called. If all
 * fail, the error is that of the first address. The deadline is for all of it, and a cancel ends
 * all of it at once. If a connection was made before the cancel reached the kernel, it is the
 * result.
 *
 * Returns 0, or with a rondo_error_text(): -EINVAL (an argument or option), -ENAMETOOLONG (host),
 * -EAFNOSUPPORT (the families of host, source_host and family do not go together), -ENOMEM; or
 * -ESHUTDOWN (the loop has stopped), -ECHILD. Since 0.1. */
int rondo_stream_connect(rondo_loop *loop, const char *host, uint16_t port,
                         const struct rondo_connect_options *options,
                         const struct rondo_request *request);

/* The same to one IPv4, IPv6 or Unix address, which is copied. Any thread; does not suspend.
 * Returns what rondo_stream_connect() returns. Since 0.1. */
int rondo_stream_connect_address(rondo_loop *loop, const struct sockaddr *address, socklen_t size,
                                 const struct rondo_connect_options *options,
                                 const struct rondo_request *request);

/* The same to the Unix stream socket at @path, or with a leading '@' at an abstract name; a
 * source_host is refused. While the backlog of its listener is full it waits. Any thread; does not
 * suspend. Returns what rondo_stream_connect() returns. Since 0.1. */
int rondo_stream_connect_unix(rondo_loop *loop, const char *path,
                              const struct rondo_connect_options *options,
                              const struct rondo_request *request);

#ifdef __cplusplus
}
#endif

#endif
