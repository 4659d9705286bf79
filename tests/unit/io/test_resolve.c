/* Look-ups while the resolver hangs or fails, and the numbers of its errors. The resolver of the
 * table of system calls is replaced: it waits for a latch, then says what the test wants. */
#include "needs_ring.h"

#include "latch.h"
#include "resolve.h"

#include "rondo/rondo.h"

#include <arpa/inet.h>
#include <dirent.h>

static rondo_loop *loop;

static struct latch *gate; /* NULL: do not wait */
static struct counter asked;
static struct counter answered;
static struct counter freed;
static int eai;
static int eai_error;

struct end {
    struct counter count;
    struct rondo_result result;
    rondo_handle handle;
};

static int slow_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **ret_list, int *ret_error)
{
    (void)service;
    counter_add(&asked, 1);
    if (gate)
        latch_wait(gate);
    *ret_error = eai_error;
    if (!eai) {
        struct addrinfo *info = test_alloc(1, sizeof(*info));
        struct sockaddr_in *v4 = test_alloc(1, sizeof(*v4));
        v4->sin_family = AF_INET;
        THREAD_CHECK(inet_pton(AF_INET, "127.0.0.9", &v4->sin_addr) == 1);
        info->ai_addr = (struct sockaddr *)v4;
        info->ai_addrlen = sizeof(*v4);
        info->ai_canonname = strdup(host ? host : "nobody");
        THREAD_CHECK(hints->ai_socktype == SOCK_STREAM);
        *ret_list = info;
    }
    counter_add(&answered, 1);
    return eai;
}

static void slow_freeaddrinfo(struct addrinfo *list)
{
    free(list->ai_canonname);
    free(list->ai_addr);
    free(list);
    counter_add(&freed, 1);
}

static int slow_getnameinfo(const struct sockaddr *address, socklen_t size, char *ret_host,
                            size_t host_size, char *ret_service, size_t service_size, int flags,
                            int *ret_error)
{
    (void)address;
    (void)size;
    (void)flags;
    counter_add(&asked, 1);
    if (gate)
        latch_wait(gate);
    *ret_error = eai_error;
    (void)snprintf(ret_host, host_size, "a.name");
    (void)snprintf(ret_service, service_size, "a-service");
    counter_add(&answered, 1);
    return eai;
}

static int begin(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)state;
    gate = NULL;
    eai = eai_error = 0;
    asked = answered = freed = (struct counter){0};
    options.blocking_threads = 4;
    options.retire_after_ns = 20 * NS_PER_MS;
    THREAD_CHECK(rondo_loop_create(&options, &loop) == 0);
    THREAD_CHECK(rondo_loop_start(loop) == 0);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    rondo_loop_free(loop);
    loop = NULL;
    return 0;
}

static void note_done(const struct rondo_result *result, void *ctx)
{
    struct end *end = ctx;

    end->result = *result;
    counter_add(&end->count, 1);
}

static struct rondo_request request_of(struct end *end)
{
    return RONDO_REQUEST(.done = note_done, .ctx = end, .ret_handle = &end->handle);
}

static void look_up(struct end *end, const char *host, uint64_t deadline_ns)
{
    struct rondo_request request = request_of(end);

    request.deadline_ns = deadline_ns;
    assert_int_equal(rondo_resolve(loop, host, NULL, NULL, &request), 0);
}

/* ---- tests ---- */

static void each_eai_number_has_an_error(void **state)
{
    /* Goal: no EAI number is lost or looks like success. Method: one look-up each. */
    static const struct {
        int eai, error, expected;
    } rows[] = {
        {EAI_NONAME, 0, -ENOENT},
        {EAI_NODATA, 0, -ENODATA},
        {EAI_ADDRFAMILY, 0, -EADDRNOTAVAIL},
        {EAI_AGAIN, 0, -EAGAIN},
        {EAI_FAIL, 0, -EREMOTEIO},
        {EAI_SERVICE, 0, -EPROTONOSUPPORT},
        {EAI_SOCKTYPE, 0, -ESOCKTNOSUPPORT},
        {EAI_FAMILY, 0, -EAFNOSUPPORT},
        {EAI_BADFLAGS, 0, -EINVAL},
        {EAI_MEMORY, 0, -ENOMEM},
        {EAI_OVERFLOW, 0, -EOVERFLOW},
        {EAI_IDN_ENCODE, 0, -EILSEQ},
        {EAI_SYSTEM, -EMFILE, -EMFILE},
        {EAI_SYSTEM, 0, -EIO},
        {-4711, 0, -EIO},
    };

    (void)state;
    assert_int_equal(resolve_error(0, -EPERM), 0);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct end end = {0};
        eai = rows[i].eai;
        eai_error = rows[i].error;
        assert_int_equal(resolve_error(eai, eai_error), rows[i].expected);
        look_up(&end, "a.name", 0);
        counter_wait(&end.count, 1);
        assert_int_equal(end.result.value, rows[i].expected);
        assert_int_equal(rondo_resolve_eai(&end.result), rows[i].eai);
        assert_null(end.result.addresses);
    }
    struct end end = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct rondo_request request = request_of(&end);
    eai = EAI_NONAME;
    assert_int_equal(
        rondo_resolve_name(loop, (struct sockaddr *)&v4, sizeof(v4), NI_NAMEREQD, &request), 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, -ENOENT);
    assert_int_equal(rondo_resolve_eai(&end.result), EAI_NONAME);
    assert_null(end.result.addresses);
}

static void a_result_holds_copies(void **state)
{
    /* Goal: what is found is right and stays, and what the resolver made is given back. */
    struct end end = {0};
    socklen_t size = 0;
    char host[] = "copied.name";

    (void)state;
    look_up(&end, host, 0);
    memset(host, 'x', sizeof(host) - 1);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, 0);
    assert_int_equal(rondo_resolve_eai(&end.result), 0);
    assert_int_equal(counter_read(&freed), 1);
    rondo_addresses *found = end.result.addresses;
    assert_int_equal(rondo_addresses_count(found), 1);
    assert_string_equal(rondo_addresses_host(found), "copied.name");
    assert_null(rondo_addresses_service(found));
    const struct sockaddr_in *v4 = (const void *)rondo_addresses_get(found, 0, &size);
    assert_int_equal(size, sizeof(*v4));
    assert_int_equal(ntohl(v4->sin_addr.s_addr), 0x7f000009);
    assert_null(rondo_addresses_get(found, 1, &size));
    assert_null(rondo_addresses_get(NULL, 0, NULL));
    assert_int_equal(rondo_addresses_count(NULL), 0);
    rondo_addresses_free(found);
    rondo_addresses_free(NULL);
}

static int64_t answer(void *ctx)
{
    (void)ctx;
    return 42;
}

static void run_now(void *ctx)
{
    counter_add(ctx, 1);
}

static void a_resolver_that_hangs_delays_look_ups_only(void **state)
{
    /* Goal: other work goes on. Method: more look-ups that hang than there may be; meanwhile
     * blocking work, callbacks and timers end. */
    enum { HANGING = 6 };
    struct latch closed = {0};
    struct end ends[HANGING] = {0};
    struct end blocking = {0};
    struct counter runs = {0};

    (void)state;
    gate = &closed;
    for (int i = 0; i < HANGING; i++)
        look_up(&ends[i], "hangs.example", 0);
    counter_wait(&asked, 2); /* Half of the four threads. */
    for (uint32_t i = 1; i <= 20; i++) {
        struct rondo_request request = request_of(&blocking);
        assert_int_equal(rondo_run_blocking(loop, answer, NULL, &request), 0);
        counter_wait(&blocking.count, i);
        assert_int_equal(blocking.result.value, 42);
    }
    assert_int_equal(rondo_call_soon(loop, run_now, &runs, NULL), 0);
    assert_int_equal(rondo_call_later(loop, NS_PER_MS, run_now, &runs, NULL), 0);
    counter_wait(&runs, 2);
    assert_int_equal(counter_read(&asked), 2);
    for (int i = 0; i < HANGING; i++)
        assert_int_equal(counter_read(&ends[i].count), 0);
    latch_set(&closed);
    for (int i = 0; i < HANGING; i++) {
        counter_wait(&ends[i].count, 1);
        rondo_addresses_free(ends[i].result.addresses);
    }
    assert_int_equal(counter_read(&freed), HANGING);
}

static void a_look_up_that_hangs_ends_at_once(void **state)
{
    /* Goal: neither cancel nor deadline waits for the resolver, and the late result is freed. */
    struct latch closed = {0};
    struct end cancelled = {0};
    struct end late = {0};
    struct end waiting = {0};
    struct end name = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET};

    (void)state;
    gate = &closed;
    look_up(&cancelled, "hangs.example", 0);
    counter_wait(&asked, 1);
    struct rondo_request request = request_of(&name);
    request.deadline_ns = clock_now_ns() + 10 * NS_PER_MS;
    assert_int_equal(rondo_resolve_name(loop, (struct sockaddr *)&v4, sizeof(v4), 0, &request), 0);
    counter_wait(&asked, 2);
    look_up(&waiting, "waits.example", 0);
    look_up(&late, "waits.example", clock_now_ns() + 10 * NS_PER_MS);
    assert_int_equal(rondo_cancel(cancelled.handle), RONDO_CANCEL_IN_FLIGHT);
    counter_wait(&cancelled.count, 1);
    assert_int_equal(cancelled.result.value, -ECANCELED);
    counter_wait(&name.count, 1);
    assert_int_equal(name.result.value, -ETIMEDOUT);
    counter_wait(&late.count, 1);
    assert_int_equal(late.result.value, -ETIMEDOUT);
    assert_true(rondo_cancel(waiting.handle) != RONDO_CANCEL_FINISHED);
    counter_wait(&waiting.count, 1);
    assert_int_equal(waiting.result.value, -ECANCELED);
    assert_int_equal(rondo_cancel(waiting.handle), RONDO_CANCEL_FINISHED);
    assert_int_equal(counter_read(&answered), 0);
    latch_set(&closed);
    counter_wait(&answered, 2);
    counter_wait(&freed, 1);
    assert_int_equal(counter_read(&asked), 2); /* Those that waited never began. */
}

/* Threads of the library; a sanitizer has one of its own. */
static uint32_t count_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    uint32_t count = 0;
    char path[300];
    char name[32];

    THREAD_CHECK(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof(name), file))
            count += strncmp(name, "rondo-", 6) == 0;
        if (file)
            (void)fclose(file);
    }
    (void)closedir(folder);
    return count;
}

static void the_loop_ends_while_the_resolver_hangs(void **state)
{
    /* Goal: stop and free return at once; the thread of the lost job ends when the resolver does,
     * and takes its memory along (the address sanitizer looks). */
    struct latch closed = {0};
    struct end end = {0};

    (void)state;
    gate = &closed;
    look_up(&end, "hangs.example", 0);
    counter_wait(&asked, 1);
    uint64_t begin_ns = clock_now_ns();
    rondo_loop_free(loop);
    loop = NULL;
    assert_true(clock_now_ns() - begin_ns < 10 * NS_PER_SECOND);
    assert_int_equal(counter_read(&end.count), 1);
    assert_int_equal(end.result.value, -ECANCELED);
    assert_int_equal(counter_read(&answered), 0);
    WAIT_UNTIL(count_threads() == 1); /* A joined one is seen a moment longer. */
    latch_set(&closed);
    counter_wait(&freed, 1);
    WAIT_UNTIL(count_threads() == 0);
}

static void look_ups_and_cancels_race(void **state)
{
    /* Goal: one done each and nothing leaked, wherever the cancel meets the look-up. */
    enum { COUNT = 2000 };
    static struct end ends[COUNT];
    uint32_t count = test_count(COUNT);
    struct prng prng = prng_start(11);
    uint32_t found = 0;

    (void)state;
    count = count < COUNT ? count : COUNT;
    memset(ends, 0, sizeof(ends));
    for (uint32_t i = 0; i < count; i++) {
        look_up(&ends[i], "a.name", 0);
        if (prng_below(&prng, 2))
            (void)rondo_cancel(ends[i - prng_below(&prng, i < 3 ? i + 1 : 3)].handle);
        if (i % 16 == 15)
            counter_wait(&ends[i - 8].count, 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        counter_wait(&ends[i].count, 1);
        assert_int_equal(counter_read(&ends[i].count), 1);
        assert_true(ends[i].result.value == 0 || ends[i].result.value == -ECANCELED);
        found += ends[i].result.value == 0;
        rondo_addresses_free(ends[i].result.addresses);
    }
    assert_true(found > 0);
    assert_true(found < count);
    WAIT_UNTIL(counter_read(&freed) == counter_read(&asked));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_eai_number_has_an_error, begin, finish),
        cmocka_unit_test_setup_teardown(a_result_holds_copies, begin, finish),
        cmocka_unit_test_setup_teardown(a_resolver_that_hangs_delays_look_ups_only, begin, finish),
        cmocka_unit_test_setup_teardown(a_look_up_that_hangs_ends_at_once, begin, finish),
        cmocka_unit_test_setup_teardown(the_loop_ends_while_the_resolver_hangs, begin, finish),
        cmocka_unit_test_setup_teardown(look_ups_and_cancels_race, begin, finish),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    /* For good: a thread whose look-up was lost may still look at the table after its test. */
    sys.getaddrinfo = slow_getaddrinfo;
    sys.freeaddrinfo = slow_freeaddrinfo;
    sys.getnameinfo = slow_getnameinfo;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
