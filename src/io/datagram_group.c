/* Multicast: groups and how datagrams to them leave. Any thread. See rondo/datagram.h. */
#include "datagram.h"

#include <net/if.h>
#include <netinet/in.h>

/* 0 for NULL, the interface's number, or -ENODEV. */
static int64_t interface_index(const char *interface)
{
    if (!interface)
        return 0;
    uint32_t index = if_nametoindex(interface);
    return index ? (int64_t)index : -ENODEV;
}

/* The level of its multicast options, or an error. */
static int level_of(const struct rondo_datagram *datagram)
{
    if (!datagram)
        return -EINVAL;
    if (datagram->family == AF_UNIX)
        return -EAFNOSUPPORT;
    return datagram->family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
}

/* A numeric address of the socket's family. */
static int parse(const struct rondo_datagram *datagram, const char *text,
                 struct sockaddr_storage *ret_address)
{
    struct address address;
    int error = text ? address_parse(text, 0, &address) : -EINVAL;

    if (!error && address.storage.ss_family != datagram->family)
        error = -EINVAL;
    if (!error)
        *ret_address = address.storage;
    return error;
}

static int change_membership(struct rondo_datagram *datagram, const char *group,
                             const char *interface, const char *source, bool join)
{
    int level = level_of(datagram);
    int64_t index = interface_index(interface);
    struct group_req any = {0};
    struct group_source_req one = {0};

    if (level < 0)
        return level;
    if (index < 0)
        return (int)index;
    int error = parse(datagram, group, &any.gr_group);
    if (!error && source)
        error = parse(datagram, source, &one.gsr_source);
    if (error)
        return error;
    any.gr_interface = one.gsr_interface = (uint32_t)index;
    one.gsr_group = any.gr_group;
    if (source)
        return WITH_DATAGRAM_FD(
            datagram,
            sys.setsockopt(fd, level, join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP,
                           &one, sizeof(one)));
    return WITH_DATAGRAM_FD(
        datagram,
        sys.setsockopt(fd, level, join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, &any, sizeof(any)));
}

RONDO_PUBLIC int rondo_datagram_join(rondo_datagram *datagram, const char *group,
                                     const char *interface, const char *source)
{
    return change_membership(datagram, group, interface, source, true);
}

RONDO_PUBLIC int rondo_datagram_leave(rondo_datagram *datagram, const char *group,
                                      const char *interface, const char *source)
{
    return change_membership(datagram, group, interface, source, false);
}

static int set_option(struct rondo_datagram *datagram, int v4_name, int v6_name, int value)
{
    int level = level_of(datagram);

    if (level < 0)
        return level;
    return WITH_DATAGRAM_FD(
        datagram,
        sys.setsockopt(fd, level, level == IPPROTO_IP ? v4_name : v6_name, &value, sizeof(value)));
}

RONDO_PUBLIC int rondo_datagram_set_multicast_ttl(rondo_datagram *datagram, uint32_t ttl)
{
    if (ttl > 255)
        return -EINVAL;
    return set_option(datagram, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, (int)ttl);
}

RONDO_PUBLIC int rondo_datagram_set_multicast_loop(rondo_datagram *datagram, bool loop)
{
    return set_option(datagram, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, loop);
}

RONDO_PUBLIC int rondo_datagram_set_multicast_interface(rondo_datagram *datagram,
                                                        const char *interface)
{
    int level = level_of(datagram);
    int64_t index = interface_index(interface);
    struct ip_mreqn request = {.imr_ifindex = (int)index};

    if (level < 0)
        return level;
    if (index < 0)
        return (int)index;
    if (level == IPPROTO_IPV6)
        return set_option(datagram, 0, IPV6_MULTICAST_IF, (int)index);
    return WITH_DATAGRAM_FD(datagram,
                            sys.setsockopt(fd, level, IP_MULTICAST_IF, &request, sizeof(request)));
}
