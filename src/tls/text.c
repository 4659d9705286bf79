/* Texts of failures, one per thread; see text.h.
 *
 * Any thread. librondo keeps its own text to itself, so this library has one too.
 */
#include "text.h"

#include <openssl/err.h>

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char text[TLS_TEXT_SIZE];

int text_set(int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error;
}

const char *text_get(void)
{
    return text;
}

const char *text_openssl(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    return reason ? reason : "no reason given";
}
