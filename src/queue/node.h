/* The link every queued thing carries. A node is in at most one queue at a time, and the queue it
 * is in owns the link. */
#ifndef RONDO_QUEUE_NODE_H
#define RONDO_QUEUE_NODE_H

#include <stddef.h>
#include <stdint.h>

struct node {
    struct node *next;
};

/* Nodes in order, owned by one thread. A zeroed chain is empty. */
struct chain {
    struct node *first;
    struct node *last;
    uint32_t count;
};

static inline void chain_append(struct chain *chain, struct node *node)
{
    node->next = NULL;
    if (chain->last)
        chain->last->next = node;
    else
        chain->first = node;
    chain->last = node;
    chain->count++;
}

static inline struct node *chain_take(struct chain *chain)
{
    struct node *node = chain->first;

    if (!node)
        return NULL;
    chain->first = node->next;
    if (!chain->first)
        chain->last = NULL;
    chain->count--;
    return node;
}

/* Takes @node out, wherever it is; it may be absent. */
static inline void chain_remove(struct chain *chain, const struct node *node)
{
    struct chain all = *chain;
    struct node *next;

    *chain = (struct chain){0};
    while ((next = chain_take(&all)))
        if (next != node)
            chain_append(chain, next);
}

/* Moves all of @from behind @to. */
static inline void chain_join(struct chain *to, struct chain *from)
{
    if (!from->first)
        return;
    if (to->last)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    *from = (struct chain){0};
}

#endif
