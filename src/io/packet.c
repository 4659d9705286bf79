/* Making and freeing datagrams on their way out; see packet.h. Any thread. */
#include "packet.h"

#include "slab.h"
#include "sys.h"

#include <errno.h>
#include <string.h>

enum packet_storage { PACKET_SMALL, PACKET_LARGE, PACKET_HUGE };

/* Small ones, and what fits into an Ethernet frame, cost no call of the allocator. */
enum { PACKET_SMALL_SIZE = 256, PACKET_LARGE_SIZE = 1664 };

RONDO_STATIC_ASSERT(sizeof(struct packet) % 8 == 0);

static struct slab small_slab = {.id = SLAB_PACKET, .node_size = PACKET_SMALL_SIZE};
static struct slab large_slab = {.id = SLAB_PACKET_LARGE, .node_size = PACKET_LARGE_SIZE};

static struct packet *packet_alloc(size_t size)
{
    enum packet_storage storage = size <= PACKET_SMALL_SIZE   ? PACKET_SMALL
                                  : size <= PACKET_LARGE_SIZE ? PACKET_LARGE
                                                              : PACKET_HUGE;
    struct packet *packet;

    if (storage == PACKET_HUGE)
        packet = sys.alloc_raw(size);
    else
        packet = slab_alloc(storage == PACKET_SMALL ? &small_slab : &large_slab);
    if (packet)
        *packet = (struct packet){.storage = (uint8_t)storage};
    return packet;
}

static void close_all(const int *descriptors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)sys.close(descriptors[i]);
}

/* Writes the control data that passes the descriptors. */
static int put_descriptors(struct packet *packet, const struct rondo_datagram_message *message)
{
    uint32_t count = message->descriptor_count;
    struct cmsghdr *header = packet->control;
    int *numbers = (int *)(void *)CMSG_DATA(header);

    memset(header, 0, CMSG_SPACE(count * sizeof(int)));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (uint32_t i = 0; i < count; i++) {
        int number = message->descriptors[i];
        numbers[i] = packet->owns_descriptors ? sys.duplicate(number) : number;
        if (numbers[i] < 0) {
            if (packet->owns_descriptors)
                close_all(numbers, i);
            return packet->owns_descriptors ? numbers[i] : -EBADF;
        }
    }
    return 0;
}

int packet_create(const struct rondo_datagram_message *message, bool lent,
                  struct packet **ret_packet)
{
    size_t address_size = (message->to_size + 7) & ~(size_t)7;
    size_t data_size = lent ? 0 : (message->size + 7) & ~(size_t)7;
    size_t control_size = 0;
    struct packet *packet;

    if (message->descriptor_count > 0)
        control_size = CMSG_SPACE(message->descriptor_count * sizeof(int));
    packet = packet_alloc(sizeof(*packet) + address_size + data_size + control_size);
    if (!packet)
        return -ENOMEM;
    packet->size = (uint32_t)message->size;
    packet->address_size = (uint8_t)message->to_size;
    packet->data = lent ? message->data : packet->bytes + address_size;
    if (message->to_size > 0)
        memcpy(packet->bytes, message->to, message->to_size);
    if (!lent && message->size > 0)
        memcpy(packet->bytes + address_size, message->data, message->size);
    if (control_size > 0) {
        packet->control = packet->bytes + address_size + data_size;
        packet->owns_descriptors = !lent;
        int error = put_descriptors(packet, message);
        if (error) {
            packet->owns_descriptors = false;
            packet_free(packet);
            return error;
        }
        packet->control_size = (uint16_t)control_size;
    }
    *ret_packet = packet;
    return 0;
}

void packet_free(struct packet *packet)
{
    if (packet->owns_descriptors) {
        struct cmsghdr *header = packet->control;
        close_all((const int *)(const void *)CMSG_DATA(header),
                  (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int)));
    }
    if (packet->storage == PACKET_SMALL)
        slab_free(&small_slab, packet);
    else if (packet->storage == PACKET_LARGE)
        slab_free(&large_slab, packet);
    else
        sys.release(packet);
}

bool packets_match(const struct packet *a, const struct packet *b)
{
    return !a->control && !b->control && !a->is_alone && !b->is_alone &&
           a->address_size == b->address_size && memcmp(a->bytes, b->bytes, a->address_size) == 0;
}
