/* Parsing and checking of addresses; see address.h. Any thread. */
#include "address.h"

#include "error.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* "fe80::1%eth0": the scope's number, 0 for none; negative: there is no such interface. */
static int64_t take_scope(const char *host, char *ret_text, size_t size)
{
    const char *percent = strchr(host, '%');
    size_t length = percent ? (size_t)(percent - host) : strlen(host);

    if (length >= size)
        return -1;
    memcpy(ret_text, host, length);
    ret_text[length] = '\0';
    if (!percent)
        return 0;
    uint32_t index = if_nametoindex(percent + 1);
    return index ? (int64_t)index : -1;
}

int address_parse(const char *host, uint16_t port, struct address *ret_address)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&ret_address->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret_address->storage;
    char text[INET6_ADDRSTRLEN];

    *ret_address = (struct address){0};
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        ret_address->size = sizeof(*v4);
        return 0;
    }
    int64_t scope = take_scope(host, text, sizeof(text));
    if (scope >= 0 && inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        v6->sin6_scope_id = (uint32_t)scope;
        ret_address->size = sizeof(*v6);
        return 0;
    }
    return error_set(-EINVAL,
                     "host: \"%s\" is not a numeric IPv4 or IPv6 address such as "
                     "127.0.0.1 or ::1",
                     host);
}

int address_unix(const char *path, struct address *ret_address)
{
    struct sockaddr_un *name = (struct sockaddr_un *)&ret_address->storage;
    size_t length = strlen(path);

    *ret_address = (struct address){0};
    if (length == 0)
        return error_set(-EINVAL, "the path of a Unix socket is empty");
    /* An abstract name may fill the field, a path ends with a zero. */
    if (length > sizeof(name->sun_path) - (path[0] == '@' ? 0 : 1))
        return error_set(-ENAMETOOLONG, "the path of a Unix socket has at most %zu bytes",
                         sizeof(name->sun_path) - 1);
    name->sun_family = AF_UNIX;
    memcpy(name->sun_path, path, length);
    ret_address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (path[0] == '@')
        name->sun_path[0] = '\0';
    else
        ret_address->size++;
    return 0;
}

int address_copy(const struct sockaddr *given, socklen_t size, struct address *ret_address)
{
    socklen_t size_min = 0;

    *ret_address = (struct address){0};
    if (!given || size < sizeof(sa_family_t) || size > sizeof(ret_address->storage))
        return error_set(-EINVAL, "the address is NULL, or its size is wrong");
    if (given->sa_family == AF_INET)
        size_min = sizeof(struct sockaddr_in);
    else if (given->sa_family == AF_INET6)
        size_min = sizeof(struct sockaddr_in6);
    else if (given->sa_family == AF_UNIX)
        size_min = sizeof(sa_family_t) + 1;
    else
        return error_set(-EAFNOSUPPORT, "the address is neither IPv4, IPv6 nor Unix");
    if (size < size_min || (given->sa_family == AF_UNIX && size > sizeof(struct sockaddr_un)))
        return error_set(-EINVAL, "the size of the address does not fit its family");
    memcpy(&ret_address->storage, given, size);
    ret_address->size = size;
    return 0;
}

int address_explain(int error, const char *step, const char *name, const char *rival)
{
    if (error == -EADDRINUSE)
        return error_set(error,
                         "%s is taken: stop the program %s, or choose another port (0 lets the "
                         "system choose) or path",
                         name, rival);
    if (error == -EACCES)
        return error_set(error,
                         "%s needs more rights: use a port above 1023 or another folder, or give "
                         "the program CAP_NET_BIND_SERVICE",
                         name);
    return error_set(error, "%s of %s failed: %s", step, name, rondo_error_name(error));
}
