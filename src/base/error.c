/* Texts of failures, one per thread, and names of error numbers.
 *
 * Any thread. The text is written only where something failed, never on a hot path.
 */
#include "error.h"

#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ERROR_TEXT_SIZE = 512 };

static _Thread_local char text[ERROR_TEXT_SIZE];

int error_set(int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error;
}

RONDO_PUBLIC const char *rondo_error_text(void)
{
    return text;
}

RONDO_PUBLIC const char *rondo_error_name(int error)
{
    const char *name = strerrorname_np(error < 0 ? -error : error);

    return name ? name : "unknown error";
}
