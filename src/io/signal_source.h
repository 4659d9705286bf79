/* Signals, seen from inside: one signalfd per loop, the signal source, on the first lane, whose
 * records are handed to all its takers: watchers, and operations that wait once.
 *
 * One record is read at a time, and the descriptor's mask always is what the takers want, so the
 * kernel keeps what nobody takes yet. While a read is in the kernel it may have taken a signal: a
 * waiting operation that is cancelled then ends after it.
 *
 * The source is made for the first taker and goes with the last. Lock order: none is taken under
 * the hub's signal lock.
 */
#ifndef RONDO_IO_SIGNAL_SOURCE_H
#define RONDO_IO_SIGNAL_SOURCE_H

#include "rondo/signal.h"

#include "source.h"

#include <sys/signalfd.h>

enum { SIGNAL_QUEUE_COUNT = 256 };

struct signal_source {
    struct source source;
    struct hub *hub;
    uint32_t taker_count; /* under the hub's signal lock */
    struct signalfd_siginfo record;

    /* Lane thread only. */
    struct signal_taker *takers;
    uint64_t mask; /* of the descriptor */
};

/* Who gets signals. Lane thread only, from signal_taker_add() to signal_taker_remove(). */
struct signal_taker {
    struct signal_taker *next;
    struct signal_taker *previous;
    struct signal_source *source;
    uint64_t mask; /* bit n - 1 for signal n */
    bool listed;
    bool is_full;      /* it can take no more */
    bool is_cancelled; /* to be failed with -ECANCELED once no read is in the kernel */
    /* Both may remove it. */
    void (*deliver)(struct lane *lane, struct signal_taker *taker,
                    const struct rondo_signal_info *info);
    void (*fail)(struct lane *lane, struct signal_taker *taker, int error);
};

/* Any thread: the loop's source with one more taker, which is made if there is none. 0, or the
 * error of a public function. */
int signal_source_get(struct hub *hub, struct signal_source **ret_source);

/* Any thread: one taker, which is not listed any more, less. */
void signal_source_put(struct signal_source *source);

/* Lane thread. 0, or why the source is at its end. */
int signal_taker_add(struct lane *lane, struct signal_taker *taker);
void signal_taker_remove(struct signal_taker *taker);

/* Lane thread: a taker has room again. */
void signal_taker_has_room(struct lane *lane, struct signal_taker *taker);

/* Lane thread: whether the kernel may have taken a signal that did not arrive yet. */
bool signal_is_coming(const struct signal_taker *taker);

#endif
