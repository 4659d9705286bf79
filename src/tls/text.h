/* Why the last call on this thread failed, and how the words of OpenSSL become one sentence. */
#ifndef RONDO_TLS_TEXT_H
#define RONDO_TLS_TEXT_H

#include <stddef.h>

#define TLS_PUBLIC __attribute__((visibility("default")))

enum { TLS_TEXT_SIZE = 256 };

/* Any thread: sets this thread's text. Returns @error. */
int text_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* This thread's text; empty when nothing failed yet. */
const char *text_get(void);

/* What the oldest entry in this thread's error queue of OpenSSL says. */
const char *text_openssl(void);

#endif
