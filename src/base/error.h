/* The text behind the last failure of the calling thread; see rondo/error.h. */
#ifndef RONDO_BASE_ERROR_H
#define RONDO_BASE_ERROR_H

#include "rondo/error.h"

/* Keeps the text for rondo_error_text() and returns @error, so a failure is one statement. */
int error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#endif
