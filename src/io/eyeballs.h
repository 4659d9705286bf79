/* Happy eyeballs, RFC 8305: in which order to try the addresses of a name, and the race for the
 * first that answers.
 *
 *   race_begin() --> attempts, one more each time one fails or a delay has passed
 *                --> the first success, or all failed, or race_cancel()
 *                --> the others are cancelled and closed --> ended()
 *
 * eyeballs_order(): any thread. The race: lane thread only. Invariants: (1) ended() is called once,
 * when nothing of the race is in the kernel any more; (2) a connection that was made is either
 * handed to ended() or closed.
 */
#ifndef RONDO_IO_EYEBALLS_H
#define RONDO_IO_EYEBALLS_H

#include "attempt.h"

/* Addresses of one name that are tried. */
enum { EYEBALLS_ATTEMPTS_MAX = 64 };

/* In which order to try addresses of these families, sorted as getaddrinfo() sorts (RFC 6724): the
 * first one, then the families in turn as long as there are two, each in its order. */
void eyeballs_order(const int *families, uint32_t count, uint32_t *ret_order);

struct race {
    /* The maker's. */
    struct attempt_settings settings;
    uint64_t delay_ns; /* between two attempts */
    /* @fd: of the connection if @error is 0. Otherwise @error is -ECANCELED, or that of the first
     * address. The race may be freed. */
    void (*ended)(struct lane *lane, struct race *race, int error, int fd);
    void *owner; /* of it, for ended() */

    struct attempt *attempts;
    uint32_t count;
    uint32_t begun;
    uint32_t in_flight;
    struct attempt *winner;
    int first_error;
    bool is_due; /* the next attempt is */
    bool over;
    bool cancelled;
    bool timer_armed;
    bool timer_cancelled;
    uint64_t next_ns; /* when the next attempt is due */
    uint64_t timer_data;
    struct __kernel_timespec until;
};

/* Any thread: room for @count attempts, whose addresses the caller fills in. NULL: no memory. */
struct attempt *race_attempts_create(uint32_t count);

/* ended() may be called before this returns. */
void race_begin(struct lane *lane, struct race *race);

/* End it. A connection that is made meanwhile still wins. */
void race_cancel(struct lane *lane, struct race *race);

#endif
