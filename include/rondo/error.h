/* Errors. Functions of rondo return 0 or a count, or a negative errno value; none sets errno. */
#ifndef RONDO_ERROR_H
#define RONDO_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Why the last call on this thread that returned an error did so, in a sentence that names the
 * option or the remedy. Any thread; does not suspend. Belongs to the library, valid until the next
 * failure on this thread; empty when nothing failed yet. Not every error has a text of its own:
 * each function that sets one says so. Since 0.1. */
const char *rondo_error_text(void);

/* The name of an error, "ECONNRESET" for -ECONNRESET or ECONNRESET. Any thread; does not suspend.
 * A constant string; "unknown error" for a number that has no name. Since 0.1. */
const char *rondo_error_name(int error);

#ifdef __cplusplus
}
#endif

#endif
