/* Look-ups of names and addresses, as they run on a thread of the blocking pool.
 *
 * A look-up owns copies of all that it needs, so it can be lost while the resolver hangs.
 */
#ifndef RONDO_IO_RESOLVE_H
#define RONDO_IO_RESOLVE_H

#include "rondo/resolve.h"

#include "address.h"

#include <stdint.h>

enum { RESOLVE_HOST_MAX = NI_MAXHOST - 1, RESOLVE_SERVICE_MAX = NI_MAXSERV - 1 };

struct rondo_addresses {
    uint32_t count;
    char host[NI_MAXHOST]; /* empty: none */
    char service[NI_MAXSERV];
    struct address list[];
};

/* How a look-up ended: a result's value, and the EAI number behind it or 0. */
struct resolve_outcome {
    int value;
    int eai;
    struct rondo_addresses *addresses; /* NULL unless value is 0 */
};

/* What the EAI number @eai is as an error; @error is the one behind EAI_SYSTEM. */
int resolve_error(int eai, int error);

/* Where a result keeps the EAI number, for rondo_resolve_eai(). */
void resolve_fill(struct rondo_result *result, const struct resolve_outcome *outcome);

/* Blocks: what the system's resolver says. @host or @service may be NULL. */
struct resolve_outcome resolve_now(const char *host, const char *service,
                                   const struct addrinfo *hints);

/* Any thread: 0, or with a text -EINVAL or -ENAMETOOLONG. NULL is good. */
int resolve_check_host(const char *host);

#endif
