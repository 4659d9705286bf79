/* Names and addresses by the system's resolver; see rondo/resolve.h and resolve.h.
 *
 * The public functions: any thread. What has "now" or "run" in its name: a thread of the blocking
 * pool.
 */
#include "resolve.h"

#include "error.h"
#include "work.h"

#include <stdio.h>
#include <string.h>

struct lookup {
    struct work work;
    struct addrinfo hints;
    bool has_host;
    bool has_service;
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
};

struct name_lookup {
    struct work work;
    struct address address;
    int flags;
};

int resolve_error(int eai, int error)
{
    switch (eai) {
    case 0:
        return 0;
    case EAI_NONAME:
        return -ENOENT;
    case EAI_NODATA:
        return -ENODATA;
    case EAI_ADDRFAMILY:
        return -EADDRNOTAVAIL;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_FAIL:
        return -EREMOTEIO;
    case EAI_SERVICE:
        return -EPROTONOSUPPORT;
    case EAI_SOCKTYPE:
        return -ESOCKTNOSUPPORT;
    case EAI_FAMILY:
        return -EAFNOSUPPORT;
    case EAI_BADFLAGS:
        return -EINVAL;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_OVERFLOW:
        return -EOVERFLOW;
    case EAI_IDN_ENCODE:
        return -EILSEQ;
    case EAI_SYSTEM:
        return error < 0 ? error : -EIO;
    default:
        return -EIO;
    }
}

/* ---- on a thread of the blocking pool ---- */

static struct resolve_outcome failure(int eai, int error)
{
    return (struct resolve_outcome){.value = resolve_error(eai, error), .eai = eai};
}

static struct rondo_addresses *addresses_create(uint32_t count)
{
    struct rondo_addresses *addresses =
        sys.alloc(sizeof(*addresses) + count * sizeof(addresses->list[0]));

    if (addresses)
        addresses->count = count;
    return addresses;
}

static bool is_usable(const struct addrinfo *info)
{
    return info->ai_addr && info->ai_addrlen <= sizeof(struct sockaddr_storage);
}

static struct rondo_addresses *addresses_copy(const struct addrinfo *list, uint32_t count)
{
    struct rondo_addresses *addresses = addresses_create(count);
    uint32_t index = 0;

    if (!addresses)
        return NULL;
    for (const struct addrinfo *info = list; info; info = info->ai_next) {
        if (!is_usable(info))
            continue;
        struct address *address = &addresses->list[index++];
        memcpy(&address->storage, info->ai_addr, info->ai_addrlen);
        address->size = info->ai_addrlen;
    }
    if (list->ai_canonname)
        (void)snprintf(addresses->host, sizeof(addresses->host), "%s", list->ai_canonname);
    return addresses;
}

struct resolve_outcome resolve_now(const char *host, const char *service,
                                   const struct addrinfo *hints)
{
    struct addrinfo *list = NULL;
    uint32_t count = 0;
    int error = 0;
    int eai = sys.getaddrinfo(host, service, hints, &list, &error);

    if (eai)
        return failure(eai, error);
    for (const struct addrinfo *info = list; info; info = info->ai_next)
        count += is_usable(info);
    if (count == 0) {
        sys.freeaddrinfo(list);
        return failure(EAI_NODATA, 0);
    }
    struct rondo_addresses *addresses = addresses_copy(list, count);
    sys.freeaddrinfo(list);
    return addresses ? (struct resolve_outcome){.addresses = addresses} : failure(EAI_MEMORY, 0);
}

static struct resolve_outcome name_now(const struct name_lookup *lookup)
{
    const struct sockaddr *address = (const struct sockaddr *)&lookup->address.storage;
    struct rondo_addresses *found = addresses_create(1);
    int error = 0;

    if (!found)
        return failure(EAI_MEMORY, 0);
    found->list[0] = lookup->address;
    int eai = sys.getnameinfo(address, lookup->address.size, found->host, sizeof(found->host),
                              found->service, sizeof(found->service), lookup->flags, &error);
    if (!eai)
        return (struct resolve_outcome){.addresses = found};
    sys.release(found);
    return failure(eai, error);
}

void resolve_fill(struct rondo_result *result, const struct resolve_outcome *outcome)
{
    result->value = outcome->value;
    result->addresses = outcome->addresses;
    /* A look-up moves no bytes; EAI numbers are negative. */
    result->bytes = (uint64_t)-outcome->eai;
}

static void lookup_run(struct work *work)
{
    struct lookup *lookup = container_of(work, struct lookup, work);
    struct resolve_outcome outcome =
        resolve_now(lookup->has_host ? lookup->host : NULL,
                    lookup->has_service ? lookup->service : NULL, &lookup->hints);

    resolve_fill(&work->result, &outcome);
}

static void name_run(struct work *work)
{
    struct resolve_outcome outcome = name_now(container_of(work, struct name_lookup, work));

    resolve_fill(&work->result, &outcome);
}

static void lookup_dispose(struct work *work, bool lost)
{
    if (lost)
        sys.release(work->result.addresses);
    sys.release(container_of(work, struct lookup, work));
}

static void name_dispose(struct work *work, bool lost)
{
    if (lost)
        sys.release(work->result.addresses);
    sys.release(container_of(work, struct name_lookup, work));
}

/* ---- any thread ---- */

int resolve_check_host(const char *host)
{
    if (!host)
        return 0;
    if (!*host)
        return error_set(-EINVAL, "host is empty");
    if (strlen(host) > RESOLVE_HOST_MAX)
        return error_set(-ENAMETOOLONG, "host: a name has at most %d bytes", RESOLVE_HOST_MAX);
    return 0;
}

static int check(rondo_loop *loop, const char *host, const char *service,
                 const struct rondo_resolve_options *options, struct hub **ret_hub)
{
    int error = hub_of(loop, ret_hub);

    if (error == -EINVAL)
        return error_set(-EINVAL, "loop is NULL");
    if (error)
        return error;
    if (options->size != sizeof(*options))
        return error_set(-EINVAL, "size of the resolve options: start from "
                                  "RONDO_RESOLVE_OPTIONS_INIT");
    if (options->family != AF_UNSPEC && options->family != AF_INET && options->family != AF_INET6)
        return error_set(-EAFNOSUPPORT, "family: %d is none of AF_UNSPEC, AF_INET and AF_INET6",
                         options->family);
    if (!host && !service)
        return error_set(-EINVAL, "host and service are both NULL");
    if (service && !*service)
        return error_set(-EINVAL, "service is empty");
    if (service && strlen(service) > RESOLVE_SERVICE_MAX)
        return error_set(-ENAMETOOLONG, "service: a name has at most %d bytes",
                         RESOLVE_SERVICE_MAX);
    return resolve_check_host(host);
}

static int submit(struct hub *hub, struct work *work, void (*run)(struct work *work),
                  void (*dispose)(struct work *work, bool lost),
                  const struct rondo_request *request)
{
    work->job.class = BLOCKING_LOOKUP;
    work->can_be_lost = true;
    work->run = run;
    work->dispose = dispose;
    int error = work_submit(hub, work, request);
    if (error)
        dispose(work, false);
    return error;
}

RONDO_PUBLIC int rondo_resolve(rondo_loop *loop, const char *host, const char *service,
                               const struct rondo_resolve_options *options,
                               const struct rondo_request *request)
{
    static const struct rondo_resolve_options defaults = RONDO_RESOLVE_OPTIONS_INIT;
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, host, service, options, &hub);
    if (error)
        return error;
    struct lookup *lookup = sys.alloc(sizeof(*lookup));
    if (!lookup)
        return error_set(-ENOMEM, "no memory for a look-up");
    lookup->hints.ai_family = options->family;
    lookup->hints.ai_socktype = options->socktype;
    lookup->hints.ai_protocol = options->protocol;
    lookup->hints.ai_flags = options->flags;
    lookup->has_host = host;
    lookup->has_service = service;
    if (host)
        (void)snprintf(lookup->host, sizeof(lookup->host), "%s", host);
    if (service)
        (void)snprintf(lookup->service, sizeof(lookup->service), "%s", service);
    return submit(hub, &lookup->work, lookup_run, lookup_dispose, request);
}

RONDO_PUBLIC int rondo_resolve_name(rondo_loop *loop, const struct sockaddr *address,
                                    socklen_t size, int flags, const struct rondo_request *request)
{
    struct address copy;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (error == -EINVAL)
        return error_set(-EINVAL, "loop is NULL");
    if (!error)
        error = address_copy(address, size, &copy);
    if (error)
        return error;
    struct name_lookup *lookup = sys.alloc(sizeof(*lookup));
    if (!lookup)
        return error_set(-ENOMEM, "no memory for a look-up");
    lookup->address = copy;
    lookup->flags = flags;
    return submit(hub, &lookup->work, name_run, name_dispose, request);
}

RONDO_PUBLIC int rondo_resolve_eai(const struct rondo_result *result)
{
    return result && result->value < 0 ? -(int)result->bytes : 0;
}

RONDO_PUBLIC size_t rondo_addresses_count(const rondo_addresses *addresses)
{
    return addresses ? addresses->count : 0;
}

RONDO_PUBLIC const struct sockaddr *rondo_addresses_get(const rondo_addresses *addresses,
                                                        size_t index, socklen_t *ret_size)
{
    if (!addresses || index >= addresses->count)
        return NULL;
    if (ret_size)
        *ret_size = addresses->list[index].size;
    return (const struct sockaddr *)&addresses->list[index].storage;
}

RONDO_PUBLIC const char *rondo_addresses_host(const rondo_addresses *addresses)
{
    return addresses && addresses->host[0] ? addresses->host : NULL;
}

RONDO_PUBLIC const char *rondo_addresses_service(const rondo_addresses *addresses)
{
    return addresses && addresses->service[0] ? addresses->service : NULL;
}

RONDO_PUBLIC void rondo_addresses_free(rondo_addresses *addresses)
{
    sys.release(addresses);
}
