/* One attempt to connect a stream socket: its socket, its source address, its connect.
 *
 *   attempt_begin() --> in the kernel --> ended(error)      or connected or failed at once
 *
 * TCP connects in the ring. A Unix socket connects at once or its listener's backlog is full; the
 * kernel would have a thread of its own wait for room, so we look again after a moment instead.
 *
 * Lane thread only. Invariants: (1) what the kernel reads, the address, stays until the end; (2)
 * the descriptor is open from begin to end, and after it only if the attempt succeeded.
 */
#ifndef RONDO_IO_ATTEMPT_H
#define RONDO_IO_ATTEMPT_H

#include "address.h"
#include "lane.h"

struct attempt_settings {
    struct address source; /* size 0: the system chooses */
    bool nodelay;
};

struct attempt {
    struct address address;
    /* 0: connected, and fd is the receiver's. Otherwise why not. */
    void (*ended)(struct lane *lane, struct attempt *attempt, int error);
    void *owner; /* of it, for ended() */
    uint64_t user_data;
    struct __kernel_timespec pause;
    int fd;
    uint8_t tries;
    bool in_kernel;
    bool cancelled;
};

/* -EINPROGRESS: begun, ended() follows. 0: connected already. Otherwise it failed. */
int attempt_begin(struct lane *lane, struct attempt *attempt,
                  const struct attempt_settings *settings);

/* Ask the kernel to end one that is in progress; ended() tells how it ended. */
void attempt_cancel(struct lane *lane, struct attempt *attempt);

/* The completion of its connect, for tests of what the kernel rarely says. */
extern const struct op_kind attempt_connect_kind;

#endif
