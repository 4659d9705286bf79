/* Goal: look-ups answer what the system's resolver says, and bad input gets an error.
 * Method: numbers, localhost and names that cannot exist (".invalid" is reserved for that), with
 * the real resolver; one that hangs is in tests/unit/io/test_resolve.c. */
#include "support.h"

#include <arpa/inet.h>

static rondo_loop *loop;

static int begin(void **state)
{
    (void)state;
    (void)test_begin("resolve");
    loop = loop_begin(NULL);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
    return 0;
}

static struct rondo_result look_up(const char *host, const char *service,
                                   const struct rondo_resolve_options *options)
{
    struct outcome end = {0};

    CHECK_EQUAL(rondo_resolve(loop, host, service, options, REQUEST(&end)), 0);
    WAIT_UNTIL(atomic_load(&end.count) == 1, 30000);
    return end.result;
}

static void numbers(void **state)
{
    struct rondo_resolve_options options = RONDO_RESOLVE_OPTIONS_INIT;
    struct rondo_result result = look_up("127.0.0.1", "7000", NULL);
    socklen_t size = 0;

    (void)state;
    CHECK_EQUAL(result.value, 0);
    CHECK_EQUAL(rondo_addresses_count(result.addresses), 1);
    const struct sockaddr_in *v4 = (const void *)rondo_addresses_get(result.addresses, 0, &size);
    CHECK_EQUAL(size, sizeof(*v4));
    CHECK_EQUAL(v4->sin_family, AF_INET);
    CHECK_EQUAL(ntohs(v4->sin_port), 7000);
    CHECK_EQUAL(ntohl(v4->sin_addr.s_addr), INADDR_LOOPBACK);
    CHECK(!rondo_addresses_host(result.addresses));
    rondo_addresses_free(result.addresses);

    options.socktype = SOCK_DGRAM;
    result = look_up("::1", "53", &options);
    CHECK_EQUAL(result.value, 0);
    CHECK_EQUAL(rondo_addresses_get(result.addresses, 0, NULL)->sa_family, AF_INET6);
    rondo_addresses_free(result.addresses);

    /* No host: this machine, or with AI_PASSIVE any of its addresses. */
    options = (struct rondo_resolve_options)RONDO_RESOLVE_OPTIONS_INIT;
    options.family = AF_INET;
    options.flags = AI_PASSIVE;
    result = look_up(NULL, "7000", &options);
    CHECK_EQUAL(result.value, 0);
    v4 = (const void *)rondo_addresses_get(result.addresses, 0, &size);
    CHECK_EQUAL(ntohl(v4->sin_addr.s_addr), INADDR_ANY);
    rondo_addresses_free(result.addresses);
}

static void names(void **state)
{
    struct rondo_resolve_options options = RONDO_RESOLVE_OPTIONS_INIT;

    (void)state;
    options.family = AF_INET;
    options.flags = AI_CANONNAME;
    struct rondo_result result = look_up("localhost", NULL, &options);
    CHECK_EQUAL(result.value, 0);
    CHECK(rondo_addresses_host(result.addresses));
    const struct sockaddr_in *v4 = (const void *)rondo_addresses_get(result.addresses, 0, NULL);
    CHECK_EQUAL(ntohl(v4->sin_addr.s_addr) >> 24, 127);
    rondo_addresses_free(result.addresses);

    /* Offline the name server does not answer: that is honest, too. */
    result = look_up("name.invalid", NULL, NULL);
    CHECK(result.value == -ENOENT || result.value == -EAGAIN || result.value == -ENODATA);
    CHECK(rondo_resolve_eai(&result) == EAI_NONAME || rondo_resolve_eai(&result) == EAI_AGAIN ||
          rondo_resolve_eai(&result) == EAI_NODATA);
    CHECK(!result.addresses);

    options.flags = AI_NUMERICHOST;
    result = look_up("localhost", NULL, &options);
    CHECK_EQUAL(result.value, -ENOENT);
    options.flags = 1 << 30;
    result = look_up("localhost", NULL, &options);
    CHECK_EQUAL(result.value, -EINVAL);
    options.flags = 0;
    result = look_up("127.0.0.1", "no-such-service", &options);
    CHECK_EQUAL(result.value, -EPROTONOSUPPORT);
    CHECK_EQUAL(rondo_resolve_eai(&result), EAI_SERVICE);
    options.socktype = 4711;
    result = look_up("127.0.0.1", "80", &options);
    CHECK(result.value == -ESOCKTNOSUPPORT || result.value == -EPROTONOSUPPORT);
}

static void names_of_addresses(void **state)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(7000)};
    struct outcome end = {0};

    (void)state;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK_EQUAL(rondo_resolve_name(loop, (struct sockaddr *)&v4, sizeof(v4),
                                   NI_NUMERICHOST | NI_NUMERICSERV, REQUEST(&end)),
                0);
    memset(&v4, 0xff, sizeof(v4)); /* It was copied. */
    WAIT_UNTIL(atomic_load(&end.count) == 1, 5000);
    CHECK_EQUAL(end.result.value, 0);
    CHECK(strcmp(rondo_addresses_host(end.result.addresses), "127.0.0.1") == 0);
    CHECK(strcmp(rondo_addresses_service(end.result.addresses), "7000") == 0);
    CHECK_EQUAL(rondo_addresses_count(end.result.addresses), 1);
    rondo_addresses_free(end.result.addresses);
}

static void bad_input(void **state)
{
    struct rondo_resolve_options options = RONDO_RESOLVE_OPTIONS_INIT;
    struct outcome end = {0};
    struct rondo_request request = RONDO_REQUEST(.done = outcome_note, .ctx = &end);
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr strange = {.sa_family = AF_PACKET};
    char long_name[1100];

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    CHECK_EQUAL(rondo_resolve(NULL, "localhost", NULL, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve(loop, NULL, NULL, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve(loop, "", NULL, NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve(loop, "localhost", "", NULL, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve(loop, long_name, NULL, NULL, &request), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_resolve(loop, NULL, long_name, NULL, &request), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_resolve(loop, "localhost", NULL, NULL, NULL), -EINVAL);
    options.family = AF_UNIX;
    CHECK_EQUAL(rondo_resolve(loop, "localhost", NULL, &options, &request), -EAFNOSUPPORT);
    options.size--;
    CHECK_EQUAL(rondo_resolve(loop, "localhost", NULL, &options, &request), -EINVAL);
    request.size--;
    CHECK_EQUAL(rondo_resolve(loop, "localhost", NULL, NULL, &request), -EINVAL);
    request.size++;
    CHECK_EQUAL(rondo_resolve_name(NULL, (struct sockaddr *)&v4, sizeof(v4), 0, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve_name(loop, NULL, sizeof(v4), 0, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve_name(loop, (struct sockaddr *)&v4, 4, 0, &request), -EINVAL);
    CHECK_EQUAL(rondo_resolve_name(loop, &strange, sizeof(strange), 0, &request), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_resolve_name(loop, (struct sockaddr *)&v4, sizeof(v4), 0, NULL), -EINVAL);
    CHECK_EQUAL(rondo_resolve_eai(NULL), 0);
    CHECK_EQUAL(atomic_load(&end.count), 0);
}

static void deadlines_and_the_end(void **state)
{
    struct outcome past = {0};
    struct outcome far = {0};

    (void)state;
    CHECK_EQUAL(rondo_resolve(loop, "127.0.0.1", NULL, NULL,
                              &RONDO_REQUEST(.done = outcome_note, .ctx = &past, .deadline_ns = 1)),
                0);
    CHECK_EQUAL(
        rondo_resolve(loop, "127.0.0.1", NULL, NULL,
                      &RONDO_REQUEST(.done = outcome_note, .ctx = &far, .deadline_ns = UINT64_MAX)),
        0);
    WAIT_UNTIL(atomic_load(&past.count) + atomic_load(&far.count) == 2, 5000);
    CHECK_EQUAL(past.result.value, -ETIMEDOUT);
    CHECK_EQUAL(far.result.value, 0);
    rondo_addresses_free(far.result.addresses);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(rondo_resolve(loop, "127.0.0.1", NULL, NULL,
                              &RONDO_REQUEST(.done = outcome_note, .ctx = &past)),
                -ESHUTDOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers, begin, finish),
        cmocka_unit_test_setup_teardown(names, begin, finish),
        cmocka_unit_test_setup_teardown(names_of_addresses, begin, finish),
        cmocka_unit_test_setup_teardown(bad_input, begin, finish),
        cmocka_unit_test_setup_teardown(deadlines_and_the_end, begin, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
