/* Waiting for a word of memory to change, as futex(2) does, without a thread that waits. */
#ifndef RONDO_FUTEX_H
#define RONDO_FUTEX_H

#include "loop.h"
#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The word is in memory that several processes share: FUTEX_WAKE without FUTEX_PRIVATE_FLAG wakes
 * it, and with it otherwise. */
#define RONDO_FUTEX_SHARED 1U

/* Wait until another thread, which changed *@word, wakes one waiter of @word with futex(2). Any
 * thread; does not suspend. @word is 4-byte aligned and must stay valid until the end. @flags: 0 or
 * RONDO_FUTEX_SHARED. Change the word, then wake: a wake without a change may be missed.
 * The result's value is 0 (woken; look at the word again, as always), -EAGAIN (*@word was not
 * @expected when the wait began), -EFAULT (no such memory).
 * Before Linux 6.7 each wait takes a thread of the blocking pool, which looks every 20 ms whether
 * it was cancelled.
 * Returns 0, -EINVAL (NULL, not aligned, other flags), -ENOMEM, -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_futex_wait(rondo_loop *loop, const uint32_t *word, uint32_t expected, uint32_t flags,
                     const struct rondo_request *request);

#ifdef __cplusplus
}
#endif

#endif
