/* What a connection does in its strand: handshake, decryption, encryption; see connection.h.
 *
 * Every event of the stream and every kick ends in engine_run(), so there is one place where the
 * next step is decided. It runs until nobody has asked it to look again.
 */
#include "connection.h"

#include <openssl/err.h>

#include <errno.h>
#include <string.h>

/* The connection whose engine runs on this thread: written and read by this thread only. */
static _Thread_local const struct rondo_tls *running;

static void engine_run(struct rondo_tls *tls);

static void kick_run(void *ctx)
{
    struct rondo_tls *tls = ctx;

    engine_run(tls);
    rondo_tls_unref(tls);
}

int engine_kick(struct rondo_tls *tls)
{
    if (tls->kicked)
        return 0;
    if (running != tls) {
        int error = rondo_strand_post(tls->strand, kick_run, rondo_tls_ref(tls), NULL);
        if (error) {
            rondo_tls_unref(tls); /* The caller has another one. */
            return error;
        }
    }
    tls->kicked = true;
    return 0;
}

bool engine_is_running(const struct rondo_tls *tls)
{
    return running == tls;
}

/* ---- sending ---- */

void queue_grow(struct rondo_tls *tls, size_t size)
{
    tls->queued += size;
    if (tls->queued > tls->high)
        tls->above_high = true;
}

void queue_shrink(struct rondo_tls *tls, size_t size)
{
    tls->queued -= size;
    if (tls->above_high && tls->queued <= tls->low) {
        tls->above_high = false;
        tls->drained_due = true;
    }
}

static void tell_written(struct rondo_tls *tls, size_t plain_size)
{
    tls_lock(tls);
    queue_shrink(tls, plain_size);
    tls_unlock(tls);
    while (tls->unwritten.first && tls->unwritten.first->end <= tls->written) {
        struct operation *operation = operations_take(&tls->unwritten);
        operation_end(operation, (int64_t)operation->size);
    }
}

static void on_written(rondo_stream *stream, int result, void *ctx)
{
    struct chunk *chunk = ctx;
    struct rondo_tls *tls = chunk->tls;

    (void)stream;
    tls->in_flight -= chunk->size;
    if (result == 0) { /* Otherwise the closed event follows and ends the operations. */
        tls->written += chunk->plain_size;
        tell_written(tls, chunk->plain_size);
    }
    OPENSSL_free(chunk);
    engine_run(tls);
}

/* Hand the chunk to the stream. False: it has to wait, or was dropped for a failure. */
static bool flush(struct rondo_tls *tls)
{
    struct chunk *chunk = tls->out;

    if (!chunk)
        return true;
    int error = rondo_stream_write_lent(tls->stream, chunk->bytes, chunk->size, on_written, chunk);
    if (error == -ENOBUFS && tls->in_flight > 0)
        return false; /* Its turn comes when something was written. */
    tls->out = NULL;
    if (!error) {
        tls->in_flight += chunk->size;
        return true;
    }
    OPENSSL_free(chunk);
    if (error == -EBADF || error == -EPIPE)
        return false; /* The stream is closing; its closed event tells why. */
    tls_fail(tls, error,
             error == -ENOBUFS ? "write_queue_max of the loop is too small for TLS"
                               : "no memory to write");
    (void)rondo_stream_abort(tls->stream);
    return false;
}

static bool has_room(const struct rondo_tls *tls)
{
    return tls->in_flight < TLS_IN_FLIGHT_MAX && (!tls->out || tls->out->size < TLS_CHUNK_SIZE);
}

/* One record of @data: how many bytes it took, 0 after a failure. */
static size_t encrypt(struct rondo_tls *tls, const unsigned char *data, size_t size)
{
    size_t taken = 0;

    ERR_clear_error();
    int result =
        SSL_write_ex(tls->ssl, data, size < TLS_RECORD_SIZE ? size : TLS_RECORD_SIZE, &taken);
    if (result != 1) {
        tls_fail_openssl(tls);
        return 0;
    }
    tls->encrypted += taken;
    if (tls->out)
        tls->out->plain_size += taken;
    return taken;
}

bool engine_can_write(const struct rondo_tls *tls, size_t size)
{
    return tls->phase == TLS_OPEN && !tls->notified && size <= TLS_CHUNK_SIZE && has_room(tls);
}

void engine_write(struct rondo_tls *tls, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    while (size > 0) {
        size_t taken = encrypt(tls, bytes, size);
        if (taken == 0)
            return; /* It failed: what was accepted will not go out. */
        bytes += taken;
        size -= taken;
    }
}

static void write_step(struct rondo_tls *tls)
{
    struct operation *operation;

    while (tls->phase == TLS_OPEN && !tls->error &&
           (operation = operation_waiting(tls, OPERATION_WRITE))) {
        if (!has_room(tls) && (!flush(tls) || !has_room(tls)))
            return;
        operation->moved +=
            encrypt(tls, operation->data + operation->moved, operation->size - operation->moved);
        if (operation->moved < operation->size)
            continue;
        (void)operation_take_waiting(tls, OPERATION_WRITE);
        operation->end = tls->encrypted;
        if (operation->future)
            operations_append(&tls->unwritten, operation);
        else
            OPENSSL_free(operation);
    }
}

/* ---- receiving ---- */

static void set_end(struct rondo_tls *tls)
{
    tls->peer_ended = true;
    if (tls->handlers && tls->handlers->end)
        tls->handlers->end(tls, tls->ctx);
    else if (tls->handlers && tls->handlers->read)
        (void)rondo_tls_close(tls);
}

/* SSL_read_ex() gave nothing. */
static void read_failed(struct rondo_tls *tls)
{
    switch (SSL_get_error(tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        if (tls->peer_closed)
            tls_fail(tls, -ECONNABORTED,
                     "the peer ended the connection without close_notify: data may be missing");
        return;
    case SSL_ERROR_ZERO_RETURN:
        set_end(tls);
        return;
    default:
        tls_fail_openssl(tls);
    }
}

static bool read_one(struct rondo_tls *tls, void *buffer, size_t size, size_t *ret_size)
{
    ERR_clear_error();
    if (SSL_read_ex(tls->ssl, buffer, size, ret_size) == 1)
        return true;
    read_failed(tls);
    return false;
}

/* For the first read that waits: true, if it has ended. */
static bool read_operation(struct rondo_tls *tls, struct operation *operation)
{
    size_t count = 0;

    while (!tls->peer_ended && operation->moved < operation->size &&
           read_one(tls, operation->data + operation->moved, operation->size - operation->moved,
                    &count))
        operation->moved += count;
    if (operation->moved == 0 && !tls->peer_ended)
        return false; /* Nothing is there, or it failed and ends with the others. */
    (void)operation_take_waiting(tls, OPERATION_READ);
    operation_end(operation, (int64_t)operation->moved);
    return true;
}

static bool wants_callbacks(struct rondo_tls *tls)
{
    tls_lock(tls);
    bool wants = !(tls->wishes & (TLS_WISH_PAUSE | TLS_WISH_CLOSE | TLS_WISH_ABORT));
    tls_unlock(tls);
    return wants;
}

static void read_step(struct rondo_tls *tls)
{
    unsigned char bytes[TLS_RECORD_SIZE];
    struct operation *operation;
    size_t count = 0;

    while (tls->phase == TLS_OPEN && !tls->error && !tls->deaf &&
           (operation = operation_waiting(tls, OPERATION_READ))) {
        if (!read_operation(tls, operation))
            return;
    }
    if (!tls->handlers || !tls->handlers->read)
        return;
    while (tls->phase == TLS_OPEN && !tls->error && !tls->deaf && !tls->peer_ended &&
           wants_callbacks(tls)) {
        if (!read_one(tls, bytes, sizeof(bytes), &count))
            return;
        tls->handlers->read(tls, bytes, count, tls->ctx);
    }
}

/* Receive, or pause: nobody reads what came, or the peer does not read what was written. */
static void receiving_update(struct rondo_tls *tls)
{
    bool pause = tls->reading_paused;

    if (tls->phase == TLS_OPEN && !tls->deaf) {
        size_t left = input_left(&tls->input);
        tls_lock(tls);
        if (tls->above_high || left > TLS_INPUT_MAX)
            pause = true;
        else if (left < TLS_INPUT_MAX / 2)
            pause = false;
        tls_unlock(tls);
    } else {
        pause = false;
    }
    if (pause == tls->reading_paused)
        return;
    tls->reading_paused = pause;
    if (pause)
        (void)rondo_stream_read_stop(tls->stream);
    else
        (void)rondo_stream_read_start(tls->stream);
}

/* ---- handshake ---- */

static void end_handshakes(struct rondo_tls *tls)
{
    struct operation *operation;

    while ((operation = operation_take_waiting(tls, OPERATION_HANDSHAKE)))
        operation_end(operation, 0);
}

static void set_open(struct rondo_tls *tls)
{
    const unsigned char *alpn = NULL;
    const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    unsigned alpn_size = 0;

    timer_stop(tls);
    SSL_get0_alpn_selected(tls->ssl, &alpn, &alpn_size);
    tls_lock(tls);
    if (alpn_size < sizeof(tls->alpn) && alpn)
        memcpy(tls->alpn, alpn, alpn_size);
    if (tls->config->is_server && name && strlen(name) < sizeof(tls->host))
        memcpy(tls->host, name, strlen(name) + 1);
    tls->version = SSL_get_version(tls->ssl);
    tls->cipher = SSL_get_cipher_name(tls->ssl);
    tls->resumed = SSL_session_reused(tls->ssl);
    tls->is_open = true;
    tls_unlock(tls);
    tls->phase = TLS_OPEN;
    end_handshakes(tls);
    if (tls->handlers && tls->handlers->established)
        tls->handlers->established(tls, tls->ctx);
}

static void handshake_step(struct rondo_tls *tls)
{
    if (tls->phase == TLS_OPEN)
        end_handshakes(tls); /* Some may have come late. */
    if (tls->phase != TLS_HANDSHAKE || tls->error)
        return;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1)
        set_open(tls);
    else if (SSL_get_error(tls->ssl, result) != SSL_ERROR_WANT_READ)
        tls_fail_openssl(tls);
    else if (tls->peer_closed)
        tls_fail(tls, -ECONNABORTED, "the peer ended the connection during the handshake");
}

/* ---- the engine ---- */

static void tell(struct rondo_tls *tls)
{
    const struct rondo_tls_handlers *handlers = tls->handlers;

    if (tls->drained_due) {
        tls->drained_due = false;
        if (handlers && handlers->drained && tls->phase <= TLS_OPEN)
            handlers->drained(tls, tls->ctx);
    }
    if (tls->draining_due) {
        tls->draining_due = false;
        if (handlers && handlers->draining)
            handlers->draining(tls, tls->ctx);
        else
            (void)rondo_tls_close(tls);
    }
}

/* Whether somebody asked to look again. */
static bool take_kick(struct rondo_tls *tls)
{
    tls_lock(tls);
    bool kicked = tls->kicked;
    tls->kicked = false;
    tls_unlock(tls);
    return kicked;
}

static void engine_run(struct rondo_tls *tls)
{
    const struct rondo_tls *outer = running;

    if (tls->phase == TLS_CLOSED || running == tls)
        return;
    running = tls;
    do {
        operations_end_cancelled(tls);
        tell(tls);
        handshake_step(tls);
        write_step(tls);
        read_step(tls);
        closing_step(tls);
        if (flush(tls))
            closing_step(tls);
        if (!input_keep(&tls->input)) {
            tls_fail(tls, -ENOMEM, "no memory for what was received");
            (void)rondo_stream_abort(tls->stream);
        }
        receiving_update(tls);
    } while (take_kick(tls));
    running = outer;
}

void engine_begin(void *ctx)
{
    struct rondo_tls *tls = ctx;

    tls_lock(tls);
    bool dead = tls->dead;
    tls_unlock(tls);
    if (!dead && tls->phase == TLS_HANDSHAKE) {
        if (!timer_arm(tls, tls->handshake_timeout_ns))
            (void)rondo_stream_abort(tls->stream);
        engine_run(tls);
    }
    rondo_tls_unref(tls);
}

/* ---- events of the stream ---- */

static void on_read(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    struct rondo_tls *tls = ctx;

    (void)stream;
    if (tls->deaf || tls->peer_ended)
        return; /* What arrives now is dropped. */
    tls->input.data = data;
    tls->input.size = size;
    engine_run(tls);
}

static void on_end(rondo_stream *stream, void *ctx)
{
    struct rondo_tls *tls = ctx;

    (void)stream;
    tls->peer_closed = true;
    engine_run(tls);
}

static void on_drained(rondo_stream *stream, void *ctx)
{
    (void)stream;
    engine_run(ctx);
}

static void on_draining(rondo_stream *stream, void *ctx)
{
    struct rondo_tls *tls = ctx;

    (void)stream;
    tls->draining_due = true;
    engine_run(tls);
}

static void on_closed(rondo_stream *stream, int error, void *ctx)
{
    struct rondo_tls *tls = ctx;
    const struct rondo_tls *outer = running;

    (void)stream;
    /* When all is with the kernel, a close is done: the peer may then end with a reset. */
    if (tls->phase == TLS_CLOSING && rondo_tls_write_queued(tls) == 0 && error != -ECANCELED)
        error = 0;
    if (error)
        tls_fail(tls, error, rondo_error_name(error)); /* Unless it failed before. */
    error = tls->error;
    tls_lock(tls);
    tls->is_ended = true;
    tls_unlock(tls);
    timer_stop(tls);
    tls->phase = TLS_CLOSED;
    running = tls;
    tls_end_operations(tls, error ? error : -ECANCELED);
    if (tls->handlers && tls->handlers->closed)
        tls->handlers->closed(tls, error, tls->ctx);
    running = outer;
    /* A connection that ended without close_notify leaves a session that is good all the same. */
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    OPENSSL_free(tls->out);
    tls->out = NULL;
    input_clear(&tls->input);
    rondo_tls_unref(tls); /* The stream's. */
}

const struct rondo_stream_handlers engine_handlers = {
    .size = sizeof(engine_handlers),
    .read = on_read,
    .end = on_end,
    .drained = on_drained,
    .draining = on_draining,
    .closed = on_closed,
};
