/* Names and addresses: the system's own resolver, without waiting for it.
 *
 * Look-ups are what getaddrinfo(3) and getnameinfo(3) say, with /etc/hosts, nsswitch.conf and all;
 * they run on threads apart from the workers, so a resolver that hangs delays other look-ups only.
 */
#ifndef RONDO_RESOLVE_H
#define RONDO_RESOLVE_H

#include <netdb.h>
#include <sys/socket.h>

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a look-up found: addresses in the order in which to try them. Never changes. */
typedef struct rondo_addresses rondo_addresses;

/* What to look up, as the hints of getaddrinfo(3). */
struct rondo_resolve_options {
    size_t size;
    /* AF_UNSPEC (IPv4 and IPv6), AF_INET or AF_INET6. */
    int family;
    /* SOCK_STREAM, SOCK_DGRAM; 0: each address comes once for every type. */
    int socktype;
    /* 0: any that goes with the type. */
    int protocol;
    /* AI_CANONNAME, AI_PASSIVE, AI_NUMERICHOST, AI_ADDRCONFIG and so on. */
    int flags;
};

#define RONDO_RESOLVE_OPTIONS_INIT                                         \
    {                                                                      \
        sizeof(struct rondo_resolve_options), AF_UNSPEC, SOCK_STREAM, 0, 0 \
    }

/* Look up the addresses of @host and @service, a name or a number each; one of them may be NULL.
 * @options may be NULL. Strings and options are copied. Any thread; does not suspend. On success
 * the result's value is 0 and its addresses are yours until rondo_addresses_free(). A cancel, a
 * deadline or the end of the loop ends it at once, whatever the resolver does. Results: 0, or
 *
 *   -ENOENT          there is no such name (EAI_NONAME)
 *   -ENODATA         the name is there and has no address (EAI_NODATA)
 *   -EADDRNOTAVAIL   it has none of this family (EAI_ADDRFAMILY)
 *   -EAGAIN          the name server does not answer: try again later (EAI_AGAIN); or no thread
 *                    could be started
 *   -EREMOTEIO       the name server failed for good (EAI_FAIL)
 *   -EPROTONOSUPPORT the service is not there for this type of socket (EAI_SERVICE)
 *   -ESOCKTNOSUPPORT, -EAFNOSUPPORT, -EINVAL   the type, family or flags (EAI_SOCKTYPE, EAI_FAMILY,
 *                    EAI_BADFLAGS)
 *   -ENOMEM, -EOVERFLOW, -EILSEQ   EAI_MEMORY, EAI_OVERFLOW, EAI_IDN_ENCODE
 *   -EIO             any other EAI number; EAI_SYSTEM gives the error behind it
 *
 * and what every operation gives; rondo_resolve_eai() has the resolver's own number.
 * Returns 0, or with a rondo_error_text(): -EINVAL (NULL, empty, the size of @options), or
 * -ENAMETOOLONG (host above 1024 bytes, service above 31), -EAFNOSUPPORT (family), -ENOMEM; or
 * -ESHUTDOWN (the loop has stopped), -ECHILD. Since 0.1. */
int rondo_resolve(rondo_loop *loop, const char *host, const char *service,
                  const struct rondo_resolve_options *options, const struct rondo_request *request);

/* Look up the names of an address and its port. @flags: NI_NUMERICHOST, NI_NUMERICSERV,
 * NI_NAMEREQD, NI_NOFQDN, NI_DGRAM, or 0. The address is copied. Any thread; does not suspend. On
 * success the result's addresses, yours, hold this one address with rondo_addresses_host() and
 * rondo_addresses_service(). Results as of rondo_resolve().
 * Returns 0, or with a rondo_error_text(): -EINVAL (the address or its size), -EAFNOSUPPORT,
 * -ENOMEM; or -ESHUTDOWN, -ECHILD. Since 0.1. */
int rondo_resolve_name(rondo_loop *loop, const struct sockaddr *address, socklen_t size, int flags,
                       const struct rondo_request *request);

/* The EAI_ number behind the result of a look-up, or of rondo_stream_connect(), that failed, for
 * gai_strerror(3); 0 when it was not the resolver that failed. Any thread; does not suspend.
 * Since 0.1. */
int rondo_resolve_eai(const struct rondo_result *result);

/* How many there are: one at least; 0 for NULL. Any thread; does not suspend. Since 0.1. */
size_t rondo_addresses_count(const rondo_addresses *addresses);

/* Number @index of them, with its size in *ret_size, which may be NULL. Any thread; does not
 * suspend. Valid until rondo_addresses_free(). NULL: there is no such number. Since 0.1. */
const struct sockaddr *rondo_addresses_get(const rondo_addresses *addresses, size_t index,
                                           socklen_t *ret_size);

/* The canonical name, where AI_CANONNAME asked for it, or the name that rondo_resolve_name() found;
 * otherwise NULL. Any thread; does not suspend. Valid until rondo_addresses_free(). Since 0.1. */
const char *rondo_addresses_host(const rondo_addresses *addresses);

/* The name of the service that rondo_resolve_name() found, otherwise NULL. Any thread; does not
 * suspend. Valid until rondo_addresses_free(). Since 0.1. */
const char *rondo_addresses_service(const rondo_addresses *addresses);

/* Give them back; NULL is nothing. Any thread; does not suspend. Since 0.1. */
void rondo_addresses_free(rondo_addresses *addresses);

#ifdef __cplusplus
}
#endif

#endif
