/* See attempt.h. Lane thread only. */
#include "attempt.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

enum {
    ATTEMPT_TRIES_MAX = 8, /* connects of one attempt that were interrupted */
    PAUSE_MIN_MS = 1,      /* until the backlog of a Unix listener is looked at again */
    PAUSE_MAX_MS = 64,
};

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);
static void pause_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags);

static const struct op_kind poll_kind = {"connect-poll", poll_complete};
static const struct op_kind pause_kind = {"connect-pause", pause_complete};

static bool is_unix(const struct attempt *attempt)
{
    return attempt->address.storage.ss_family == AF_UNIX;
}

/* ---- the socket ---- */

/* A port that the system chooses is chosen by the connect, which knows the peer: then a port may
 * serve for several peers. */
static int bind_source(int fd, const struct address *source)
{
    struct address copy = *source;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&source->storage;
    int on = 1;
    int error;

    /* IPv6 has its port at the same place. */
    if (v4->sin_port == 0)
        error = sys.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    else
        error = sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return error ? error : sys.bind(fd, address_get(&copy), copy.size);
}

static int configure(int fd, int family, const struct attempt_settings *settings)
{
    int on = 1;
    int error = 0;

    if (family == AF_UNIX)
        return 0;
    if (settings->source.size > 0)
        error = bind_source(fd, &settings->source);
    if (!error && settings->nodelay)
        error = sys.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return error;
}

static void socket_close(struct attempt *attempt)
{
    if (attempt->fd >= 0)
        (void)sys.close(attempt->fd);
    attempt->fd = -1;
}

/* ---- its connect ---- */

static struct io_uring_sqe *submission(struct lane *lane, struct attempt *attempt,
                                       const struct op_kind *kind)
{
    struct io_uring_sqe *sqe = lane_submit(lane, kind, attempt, &attempt->user_data);

    attempt->in_kernel = sqe;
    return sqe;
}

static int refused(struct lane *lane)
{
    return lane->given_up ? -ECANCELED : -ENOMEM;
}

static int connect_arm(struct lane *lane, struct attempt *attempt)
{
    struct io_uring_sqe *sqe = submission(lane, attempt, &attempt_connect_kind);

    if (!sqe)
        return refused(lane);
    io_uring_prep_connect(sqe, attempt->fd, address_get(&attempt->address), attempt->address.size);
    return -EINPROGRESS;
}

/* The connect goes on without us: wait for its end. */
static int poll_arm(struct lane *lane, struct attempt *attempt)
{
    struct io_uring_sqe *sqe = submission(lane, attempt, &poll_kind);

    if (!sqe)
        return refused(lane);
    io_uring_prep_poll_add(sqe, attempt->fd, POLLOUT);
    return -EINPROGRESS;
}

static int pause_arm(struct lane *lane, struct attempt *attempt)
{
    struct io_uring_sqe *sqe = submission(lane, attempt, &pause_kind);
    uint32_t pause_ms = (uint32_t)PAUSE_MIN_MS << attempt->tries;

    if (!sqe)
        return refused(lane);
    if (pause_ms < PAUSE_MAX_MS)
        attempt->tries++;
    attempt->pause = (struct __kernel_timespec){.tv_nsec = (int64_t)(pause_ms * NS_PER_MS)};
    io_uring_prep_timeout(sqe, &attempt->pause, 0, 0);
    return -EINPROGRESS;
}

static int connect_unix(struct lane *lane, struct attempt *attempt)
{
    int error = sys.connect(attempt->fd, address_get(&attempt->address), attempt->address.size);

    if (error == -EAGAIN)
        return pause_arm(lane, attempt);
    return error ? error : sys.set_blocking(attempt->fd);
}

/* What became of a connect that went on without us; -ENOTCONN: nothing. */
static int outcome(int fd)
{
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof(peer);
    int error = 0;
    socklen_t size = sizeof(error);
    int failed = sys.getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);

    if (failed || error)
        return failed ? failed : -error;
    return sys.getpeername(fd, (struct sockaddr *)&peer, &peer_size);
}

/* One step is over: @error as in attempt_begin(). */
static void step(struct lane *lane, struct attempt *attempt, int error)
{
    if (error == -EINPROGRESS)
        return;
    if (error)
        socket_close(attempt);
    attempt->ended(lane, attempt, error);
}

static void connect_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct attempt *attempt = owner;

    (void)flags;
    attempt->in_kernel = false;
    switch (result) {
    case -EISCONN: /* It was interrupted, and has succeeded since. */
        result = 0;
        break;
    case -EINTR: /* It goes on, if it had begun. */
    case -EALREADY:
    case -EINPROGRESS:
        result = attempt->cancelled ? -ECANCELED : poll_arm(lane, attempt);
        break;
    default:
        break;
    }
    step(lane, attempt, result);
}

const struct op_kind attempt_connect_kind = {"connect", connect_complete};

static void poll_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct attempt *attempt = owner;
    int error = outcome(attempt->fd);

    (void)flags;
    attempt->in_kernel = false;
    if (error == -ENOTCONN && attempt->cancelled)
        error = -ECANCELED;
    else if (error == -ENOTCONN && result < 0)
        error = result;
    else if (error == -ENOTCONN && attempt->tries++ < ATTEMPT_TRIES_MAX)
        error = connect_arm(lane, attempt);
    step(lane, attempt, error);
}

static void pause_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct attempt *attempt = owner;

    (void)result; /* -ETIME, or -ECANCELED. */
    (void)flags;
    attempt->in_kernel = false;
    step(lane, attempt, attempt->cancelled ? -ECANCELED : connect_unix(lane, attempt));
}

/* ---- what others call ---- */

int attempt_begin(struct lane *lane, struct attempt *attempt,
                  const struct attempt_settings *settings)
{
    int family = attempt->address.storage.ss_family;
    int type = SOCK_STREAM | SOCK_CLOEXEC | (is_unix(attempt) ? SOCK_NONBLOCK : 0);
    int error;

    attempt->fd = sys.socket(family, type, 0);
    if (attempt->fd < 0)
        return attempt->fd;
    error = configure(attempt->fd, family, settings);
    if (!error)
        error = is_unix(attempt) ? connect_unix(lane, attempt) : connect_arm(lane, attempt);
    if (error && error != -EINPROGRESS)
        socket_close(attempt);
    return error;
}

void attempt_cancel(struct lane *lane, struct attempt *attempt)
{
    if (!attempt->in_kernel || attempt->cancelled)
        return;
    attempt->cancelled = true;
    lane_cancel(lane, attempt->user_data);
}
