/* How a connection fails and closes; see connection.h. In its strand. */
#include "connection.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <errno.h>
#include <stdio.h>

/* How long the peer's end of a connection is waited for when all is written: closing earlier could
 * send a reset that overtakes what was written. */
#define LINGER_NS UINT64_C(1000000000)

/* ---- the timer ---- */

static void timer_run(void *ctx)
{
    struct rondo_tls *tls = ctx;

    tls->timer_armed = false;
    if (tls->phase == TLS_HANDSHAKE) {
        tls_fail(tls, -ETIMEDOUT, "the handshake took too long");
        (void)rondo_stream_abort(tls->stream);
    } else if (tls->lingering) {
        (void)rondo_stream_close(tls->stream);
    } else if (tls->phase != TLS_CLOSED) {
        tls_fail(tls, -ETIMEDOUT, "the peer did not take what was written before the close");
        (void)rondo_stream_abort(tls->stream);
    }
    rondo_tls_unref(tls);
}

void timer_stop(struct rondo_tls *tls)
{
    if (!tls->timer_armed)
        return;
    tls->timer_armed = false;
    /* It runs in this strand, so it is not running now. */
    if (rondo_cancel(tls->timer) == RONDO_CANCEL_NOT_STARTED)
        rondo_tls_unref(tls);
}

bool timer_arm(struct rondo_tls *tls, uint64_t delay_ns)
{
    timer_stop(tls);
    if (delay_ns == UINT64_MAX)
        return true;
    if (rondo_strand_call_later(tls->strand, delay_ns, timer_run, rondo_tls_ref(tls),
                                &tls->timer) != 0) {
        rondo_tls_unref(tls);
        return false;
    }
    tls->timer_armed = true;
    return true;
}

/* ---- failing ---- */

void tls_fail(struct rondo_tls *tls, int error, const char *text)
{
    if (tls->error)
        return;
    tls_lock(tls);
    /* The text first: who sees the error reads it without the lock. */
    (void)snprintf(tls->error_text, sizeof(tls->error_text), "%s", text);
    tls->error = error;
    tls->is_ended = true;
    tls_unlock(tls);
}

void tls_fail_openssl(struct rondo_tls *tls)
{
    unsigned long code = ERR_peek_error();
    char text[TLS_TEXT_SIZE];

    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        (void)snprintf(text, sizeof(text), "certificate verify failed: %s",
                       X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)));
        tls_fail(tls, -EKEYREJECTED, text);
    } else if (ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        tls_fail(tls, -ENOMEM, "no memory for TLS");
    } else {
        tls_fail(tls, -EPROTO, text_openssl());
    }
}

void tls_end_operations(struct rondo_tls *tls, int value)
{
    struct operation *operation;

    for (int kind = 0; kind < OPERATION_KINDS; kind++) {
        while ((operation = operation_take_waiting(tls, (enum operation_kind)kind)))
            operation_end(operation, value);
    }
    if (tls->phase < TLS_CLOSED)
        return; /* What is encrypted may still be written. */
    while ((operation = operations_take(&tls->unwritten)))
        operation_end(operation, value);
}

/* ---- closing ---- */

static void notify(struct rondo_tls *tls)
{
    tls->notified = true;
    ERR_clear_error();
    if (SSL_shutdown(tls->ssl) < 0)
        tls_fail_openssl(tls);
}

static void time_close(struct rondo_tls *tls)
{
    if (tls->closing_timed)
        return;
    tls->closing_timed = true;
    if (!timer_arm(tls, tls->close_timeout_ns))
        (void)rondo_stream_abort(tls->stream);
}

/* What arrives from here on is dropped, and nobody waits for it. */
static void stop_reading(struct rondo_tls *tls)
{
    struct operation *operation;

    tls->deaf = true;
    input_clear(&tls->input);
    while ((operation = operation_take_waiting(tls, OPERATION_READ)))
        operation_end(operation, tls->error ? tls->error : -ECANCELED);
}

static void begin_closing(struct rondo_tls *tls, int value)
{
    tls_lock(tls);
    tls->is_ended = true;
    tls_unlock(tls);
    tls->phase = TLS_CLOSING;
    stop_reading(tls);
    time_close(tls);
    tls_end_operations(tls, value);
}

/* Nothing more goes in; what is out is written, then the stream ends. */
static void end_stream(struct rondo_tls *tls)
{
    if (tls->out)
        return;
    if (!tls->shut) {
        tls->shut = true;
        (void)rondo_stream_shutdown(tls->stream);
    }
    if (tls->peer_closed) {
        (void)rondo_stream_close(tls->stream);
    } else if (tls->in_flight == 0 && !tls->lingering) {
        tls->lingering = true;
        if (!timer_arm(tls, LINGER_NS))
            (void)rondo_stream_close(tls->stream);
    }
}

void closing_step(struct rondo_tls *tls)
{
    bool has_writes = operation_waiting(tls, OPERATION_WRITE) != NULL;

    tls_lock(tls);
    uint32_t wishes = tls->wishes;
    tls_unlock(tls);
    if (tls->phase < TLS_CLOSING && tls->error) {
        begin_closing(tls, tls->error);
    } else if (tls->phase == TLS_HANDSHAKE && (wishes & TLS_WISH_CLOSE) && !has_writes) {
        begin_closing(tls, -ECANCELED);
    } else if (tls->phase == TLS_OPEN) {
        if (wishes & TLS_WISH_CLOSE) {
            stop_reading(tls);
            time_close(tls);
        }
        if ((wishes & (TLS_WISH_CLOSE | TLS_WISH_SHUTDOWN)) && !has_writes && !tls->notified)
            notify(tls);
        if (tls->error)
            begin_closing(tls, tls->error);
        else if ((wishes & TLS_WISH_CLOSE) && tls->notified)
            begin_closing(tls, -ECANCELED);
    }
    if (tls->phase == TLS_CLOSING)
        end_stream(tls);
}
