/* A TLS stream, seen from inside: what any thread asks of it, and what is done in its strand.
 *
 * Any thread writes wishes and queues of operations under the lock, and kicks: engine_run() then
 * happens once more, in the strand, and compares what is wanted with what is the case. Calls from
 * inside a callback need no post: the engine that made the callback looks again. SSL is touched in
 * the strand only.
 *
 *   HANDSHAKE --done--> OPEN --close_notify is out--> CLOSING --the stream is closed--> CLOSED
 *        \---failed, closed---\---failed---------------^
 *
 * Invariants: (1) an operation is in one list until it ends, and ends once; (2) a chunk is owned by
 * the connection, or lent to the stream and counted in in_flight; (3) the closed callback is last.
 */
#ifndef RONDO_TLS_CONNECTION_H
#define RONDO_TLS_CONNECTION_H

#include "rondo/error.h"
#include "rondo/tls.h"

#include "bio.h"
#include "config.h"
#include "text.h"

enum {
    TLS_HOST_SIZE = 256, /* a name of the DNS has 253 bytes at most */
    TLS_ALPN_SIZE = 256,
    TLS_RECORD_SIZE = 16384,        /* plaintext of one record at most */
    TLS_CHUNK_SIZE = 16384,         /* ciphertext at which a chunk is sent */
    TLS_IN_FLIGHT_MAX = 128 * 1024, /* ciphertext at the stream; the rest stays plain */
    TLS_INPUT_MAX = 64 * 1024,      /* ciphertext nobody reads, at which receiving pauses */
    TLS_LOW = 64 * 1024,
    TLS_HIGH = 256 * 1024,
};

enum tls_phase { TLS_HANDSHAKE, TLS_OPEN, TLS_CLOSING, TLS_CLOSED };

enum tls_wish {
    TLS_WISH_SHUTDOWN = 1 << 0,
    TLS_WISH_CLOSE = 1 << 1,
    TLS_WISH_ABORT = 1 << 2,
    TLS_WISH_PAUSE = 1 << 3, /* no read callbacks */
};

enum operation_kind { OPERATION_HANDSHAKE, OPERATION_READ, OPERATION_WRITE, OPERATION_KINDS };

/* Something that ends: for the user of a request, or a copied write that nobody is told of. */
struct operation {
    struct operation *next;
    enum operation_kind kind;
    struct rondo_tls *tls; /* with a reference, if there is a future */
    rondo_future *future;
    rondo_done_fn *done;
    void *ctx;
    unsigned char *data;
    size_t size;
    size_t moved;
    uint64_t end;   /* of a write: all bytes encrypted up to its last one */
    bool cancelled; /* under the lock */
    unsigned char bytes[];
};

struct operations {
    struct operation *first;
    struct operation *last;
};

struct rondo_tls {
    atomic_uint refs;
    rondo_stream *stream;
    rondo_strand *strand;
    rondo_tls_config *config;
    const struct rondo_tls_handlers *handlers;
    void *ctx;
    uint64_t handshake_timeout_ns;
    uint64_t close_timeout_ns;
    size_t queued_max;
    char host[TLS_HOST_SIZE];

    /* Under the lock, any thread. */
    pthread_mutex_t lock;
    uint32_t wishes;
    bool kicked;   /* the engine will look again */
    bool dead;     /* it was never started */
    bool is_open;  /* the handshake is done: info is set */
    bool is_ended; /* closing by itself, or closed */
    bool has_cancelled;
    bool above_high;
    size_t queued; /* plain bytes accepted and not yet with the kernel */
    size_t low;
    size_t high;
    struct operations waiting[OPERATION_KINDS];
    int error;
    char error_text[TLS_TEXT_SIZE];
    char alpn[TLS_ALPN_SIZE];
    const char *version;
    const char *cipher;
    bool resumed;

    /* In the strand. */
    SSL *ssl;
    enum tls_phase phase;
    struct input input;
    struct chunk *out;
    size_t in_flight;
    uint64_t encrypted;          /* plain bytes, ever */
    uint64_t written;            /* of them, with the kernel */
    struct operations unwritten; /* encrypted to their end and not written */
    rondo_handle timer;
    bool timer_armed;
    bool reading_paused; /* the stream was told to stop reading */
    bool peer_ended;     /* close_notify arrived */
    bool peer_closed;    /* the stream's end arrived */
    bool deaf;           /* what arrives is dropped */
    bool notified;       /* close_notify is out */
    bool shut;           /* the stream was told to shut down */
    bool lingering;      /* all is written; waits for the peer's end */
    bool closing_timed;  /* the close's timer was armed */
    bool drained_due;
    bool draining_due;
};

static inline void tls_lock(struct rondo_tls *tls)
{
    (void)pthread_mutex_lock(&tls->lock);
}

static inline void tls_unlock(struct rondo_tls *tls)
{
    (void)pthread_mutex_unlock(&tls->lock);
}

/* ---- engine.c ---- */

/* Lock held, any thread: have the engine look. 0, or why the loop takes no post. */
int engine_kick(struct rondo_tls *tls);

/* Any thread: the caller runs inside a callback of @tls, so that no post is needed. */
bool engine_is_running(const struct rondo_tls *tls);

/* Lock held: count bytes that wait to be written, any thread; no longer do, in the strand. */
void queue_grow(struct rondo_tls *tls, size_t size);
void queue_shrink(struct rondo_tls *tls, size_t size);

/* In a callback of @tls: whether @size bytes can be encrypted at once, and doing so. */
bool engine_can_write(const struct rondo_tls *tls, size_t size);
void engine_write(struct rondo_tls *tls, const void *data, size_t size);

/* Posted by rondo_tls_start(), with a reference. */
void engine_begin(void *ctx);

/* What the stream tells. */
extern const struct rondo_stream_handlers engine_handlers;

/* ---- closing.c, in the strand ---- */

/* The connection failed with @error; the first failure counts. */
void tls_fail(struct rondo_tls *tls, int error, const char *text);

/* An SSL call failed for good: says why and fails. */
void tls_fail_openssl(struct rondo_tls *tls);

/* End all that waits for a handshake or a read with @value, and what waits to be written. */
void tls_end_operations(struct rondo_tls *tls, int value);

/* Take the next step of what shutdown, close or a failure ask for. */
void closing_step(struct rondo_tls *tls);

/* Arm the one timer anew, or stop it. False: the loop takes no timer. */
bool timer_arm(struct rondo_tls *tls, uint64_t delay_ns);
void timer_stop(struct rondo_tls *tls);

/* ---- request.c ---- */

void operations_append(struct operations *list, struct operation *operation);
struct operation *operations_take(struct operations *list);

/* In the strand, out of its list: it ends. The lock is not held. */
void operation_end(struct operation *operation, int64_t value);

/* In the strand: ends those that were cancelled. */
void operations_end_cancelled(struct rondo_tls *tls);

/* The first that waits, or NULL. */
struct operation *operation_waiting(struct rondo_tls *tls, enum operation_kind kind);

/* Takes that one out. */
struct operation *operation_take_waiting(struct rondo_tls *tls, enum operation_kind kind);

#endif
