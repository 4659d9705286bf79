/* Options of a loop: defaults filled in, ranges checked. Any thread. */
#ifndef RONDO_LOOP_OPTIONS_H
#define RONDO_LOOP_OPTIONS_H

#include "rondo/loop.h"

/* The options to use, from what the user gave (NULL: nothing). 0, or -EINVAL with a text that
 * names the option. */
int options_resolve(const struct rondo_loop_options *given, struct rondo_loop_options *ret_options);

#endif
