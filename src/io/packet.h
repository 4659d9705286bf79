/* One datagram on its way out: its bytes, or where they are lent, its address, and the control data
 * that carries descriptors.
 *
 * Any thread makes it and queues it; its lane sends it. In memory: the struct, the address, the
 * bytes of a copy, the control data.
 */
#ifndef RONDO_IO_PACKET_H
#define RONDO_IO_PACKET_H

#include "rondo/datagram.h"

#include "check.h"
#include "node.h"

enum {
    PACKET_COST = 256,           /* what a queued datagram counts besides its bytes */
    PACKET_DESCRIPTORS_MAX = 253 /* the kernel's SCM_MAX_FD */
};

struct lent_send;

struct packet {
    struct node node;
    const void *data;
    void *control;          /* NULL: none */
    struct lent_send *lent; /* who hears of its end; NULL: a copy */
    uint32_t size;
    uint16_t control_size;
    uint8_t address_size; /* 0: to the connected peer */
    bool owns_descriptors : 1;
    /* Lane thread only. */
    bool in_burst : 1; /* the kernel may read it */
    bool is_dead : 1;  /* its sender was told of the end already: drop it */
    bool is_alone : 1; /* must not be sent together with others */
    bool repeated : 1; /* it met an error that was not its own, and is sent once more */
    uint8_t storage;   /* enum packet_storage */
    char bytes[] __attribute__((aligned(8)));
};

/* A packet that @message describes, which was checked before: 0, -ENOMEM, or why its descriptors
 * could not be duplicated. @lent: data and descriptors stay where they are. */
int packet_create(const struct rondo_datagram_message *message, bool lent,
                  struct packet **ret_packet);

/* Any thread: free it, and close what it duplicated. */
void packet_free(struct packet *packet);

static inline struct packet *packet_of(struct node *node)
{
    return container_of(node, struct packet, node);
}

/* What it counts in the queue. */
static inline uint64_t packet_cost(const struct packet *packet)
{
    return (uint64_t)packet->size + PACKET_COST;
}

static inline const void *packet_address(const struct packet *packet)
{
    return packet->bytes;
}

/* Whether the two can be one submission of several datagrams, besides their sizes. */
bool packets_match(const struct packet *a, const struct packet *b);

#endif
