/* The inbox: many threads push, one consumer takes all. Used for a lane's requests, the scheduler's
 * timers and every strand's mailbox.
 *
 *            push                     push
 *   EMPTY ---------> node <---------------------- ASLEEP
 *     ^               |      (and the pusher wakes the consumer)
 *     |  take all     |
 *     +---------------+
 *     EMPTY --sleep--> ASLEEP        fails when something was pushed meanwhile
 *
 * The one word says both what is inside and whether the consumer must be woken, so exactly one
 * pusher, the one that replaced ASLEEP, wakes it. Pushers are lock-free; per pusher the order is
 * kept. Linearisation point of a push: its compare-and-swap. Model: tests/model/inbox.pml.
 */
#ifndef RONDO_QUEUE_INBOX_H
#define RONDO_QUEUE_INBOX_H

#include "atomics.h"
#include "check.h"
#include "node.h"

struct inbox {
    _Atomic(struct node *) head; /* newest first, or one of the two marks */
};

#define INBOX_EMPTY ((struct node *)NULL)
#define INBOX_ASLEEP ((struct node *)1)

static inline void inbox_init(struct inbox *inbox, bool asleep)
{
    store_relaxed(&inbox->head, asleep ? INBOX_ASLEEP : INBOX_EMPTY); /* Relaxed: not shared. */
}

/* True: the consumer slept, and the caller must wake it. */
static inline bool inbox_push(struct inbox *inbox, struct node *node)
{
    struct node *old = load_relaxed(&inbox->head); /* Relaxed: the exchange validates it. */

    do {
        node->next = old == INBOX_ASLEEP ? NULL : old;
        /* Pairs with the exchange in inbox_take(): publishes the node. */
    } while (!cas_weak_acq_rel(&inbox->head, &old, node));
    return old == INBOX_ASLEEP;
}

/* Consumer only, awake: everything pushed so far, oldest first, behind what @chain holds. */
static inline uint32_t inbox_take(struct inbox *inbox, struct chain *chain)
{
    /* Relaxed: an empty answer may be late, sleeping looks again. */
    struct node *head = load_relaxed(&inbox->head);
    struct chain taken = {0};

    if (head == INBOX_EMPTY)
        return 0;
    /* Pairs with the exchange in inbox_push(): the nodes are complete. */
    head = exchange_acq_rel(&inbox->head, INBOX_EMPTY);
    RONDO_ASSERT(head != INBOX_ASLEEP);
    taken.last = head;
    while (head) {
        struct node *older = head->next;
        head->next = taken.first;
        taken.first = head;
        taken.count++;
        head = older;
    }
    uint32_t count = taken.count;
    chain_join(chain, &taken);
    return count;
}

/* Consumer only: true when nothing was inside; the next pusher will wake it. */
static inline bool inbox_sleep(struct inbox *inbox)
{
    struct node *expected = INBOX_EMPTY;

    /* Pairs with the exchange in inbox_push(): what the consumer did is seen by its waker. */
    return cas_acq_rel(&inbox->head, &expected, INBOX_ASLEEP);
}

/* Consumer only, after inbox_sleep(): it is awake for another reason, or was woken. */
static inline void inbox_awake(struct inbox *inbox)
{
    struct node *expected = INBOX_ASLEEP;

    /* Fails when a pusher woke it: then the head is a node. Pairs with inbox_push(). */
    (void)cas_acq_rel(&inbox->head, &expected, INBOX_EMPTY);
}

/* Any thread: true while the consumer sleeps and nothing is inside. A hint. */
static inline bool inbox_is_asleep(struct inbox *inbox)
{
    return load_relaxed(&inbox->head) == INBOX_ASLEEP; /* Relaxed: only a hint. */
}

#endif
