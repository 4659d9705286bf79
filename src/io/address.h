/* Socket addresses as users write them. Any thread. */
#ifndef RONDO_IO_ADDRESS_H
#define RONDO_IO_ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
};

/* A numeric IPv4 or IPv6 address, with a scope such as "fe80::1%eth0" if it has one. 0, or -EINVAL
 * with a text. */
int address_parse(const char *host, uint16_t port, struct address *ret_address);

/* A path, or with a leading '@' an abstract name. 0, or -EINVAL or -ENAMETOOLONG with a text. */
int address_unix(const char *path, struct address *ret_address);

/* From what a user gave: 0, -EINVAL or -EAFNOSUPPORT (none of IPv4, IPv6 and Unix) with a text. */
int address_copy(const struct sockaddr *given, socklen_t size, struct address *ret_address);

/* Why @step with the address that the text calls @name failed, and what to do about it; @rival says
 * of another program that it has the address. Returns @error. */
int address_explain(int error, const char *step, const char *name, const char *rival);

static inline struct sockaddr *address_get(struct address *address)
{
    return (struct sockaddr *)&address->storage;
}

#endif
