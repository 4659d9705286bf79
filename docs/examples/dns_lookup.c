/* Look up names, all at the same time: dns_lookup [NAME...] */
#include <rondo/rondo.h>
#include <stdatomic.h>
#include <stdio.h>

#define SECOND UINT64_C(1000000000)

static atomic_int failures; /* done runs on any worker */

static void print_failure(const char *name, const struct rondo_result *result)
{
    int eai = rondo_resolve_eai(result);

    printf("%s: %s\n", name, eai ? gai_strerror(eai) : rondo_error_name((int)result->value));
    failures++;
}

static void on_found(const struct rondo_result *result, void *ctx)
{
    const char *name = ctx;
    char text[NI_MAXHOST];

    if (result->value != 0) {
        print_failure(name, result);
        return;
    }
    for (size_t i = 0; i < rondo_addresses_count(result->addresses); i++) {
        socklen_t size;
        const struct sockaddr *address = rondo_addresses_get(result->addresses, i, &size);
        if (getnameinfo(address, size, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
            printf("%s: %s\n", name, text);
    }
    rondo_addresses_free(result->addresses);
}

int main(int argc, char **argv)
{
    static char *defaults[] = {NULL, "localhost"};
    rondo_loop *loop = NULL;

    if (argc < 2) {
        argc = 2;
        argv = defaults;
    }
    if (rondo_loop_create(NULL, &loop) != 0 || rondo_loop_start(loop) != 0) {
        fprintf(stderr, "dns_lookup: %s\n", rondo_error_text());
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        if (rondo_resolve(loop, argv[i], NULL, NULL,
                          &RONDO_REQUEST(.done = on_found, .ctx = argv[i],
                                         .deadline_ns = rondo_now_ns() + 10 * SECOND)) != 0) {
            printf("%s: %s\n", argv[i], rondo_error_text());
            failures++;
        }
    }
    /* What is under way goes on: the loop ends when the last look-up has. */
    rondo_loop_drain(loop, 20 * SECOND);
    rondo_loop_wait(loop);
    rondo_loop_free(loop);
    return failures > 0;
}
