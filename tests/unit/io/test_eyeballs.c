/* Names with several addresses: in which order they are tried, when the next one is, who wins, and
 * that nothing is left of the others. And what the kernel rarely says of a connect.
 *
 * The resolver of the table of system calls is replaced: it says which of 127.0.0.2 and so on, and
 * ::1, a name has. An address can be alive (it listens), refuse, or hang (its backlog is full). The
 * entry for sockets notes when each attempt began. */
#include "needs_ring.h"

#include "eyeballs.h"
#include "hub.h"
#include "latch.h"

#include "rondo/rondo.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <unistd.h>

enum {
    ADDRESSES_MAX = 8,
    DELAY_MS = 50,
    NOTED_LATE_MS = 5, /* an attempt's time is noted a moment after it was taken */
};

static rondo_loop *loop;

/* ---- the addresses of the name ---- */

enum manner { ALIVE, REFUSES, HANGS };

static struct {
    struct sockaddr_storage address;
    socklen_t size;
    int listener; /* or only a socket, which keeps the port */
    int filler;
} hosts[ADDRESSES_MAX];
static uint32_t host_count;
static uint16_t port; /* the same for all */

static struct latch gate;
static bool gated; /* look-ups wait for the gate */
static struct counter asked;
static struct counter answered;

static int begin(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    (void)state;
    options.retire_after_ns = 20 * NS_PER_MS;
    gate = (struct latch){0};
    gated = false;
    asked = answered = (struct counter){0};
    host_count = 0;
    port = 0;
    THREAD_CHECK(rondo_loop_create(&options, &loop) == 0);
    THREAD_CHECK(rondo_loop_start(loop) == 0);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    rondo_loop_free(loop); /* In one test it is gone already: NULL is nothing. */
    loop = NULL;
    counter_wait(&answered, counter_read(&asked)); /* Also those that are lost. */
    for (uint32_t i = 0; i < host_count; i++) {
        (void)close(hosts[i].listener);
        if (hosts[i].filler >= 0)
            (void)close(hosts[i].filler);
    }
    return 0;
}

/* @text: "127.0.0.2" and so on, or "::1". */
static void add_host(const char *text, enum manner manner)
{
    struct sockaddr_storage *address = &hosts[host_count].address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    bool is_v4 = inet_pton(AF_INET, text, &v4->sin_addr) == 1;

    THREAD_CHECK(is_v4 || inet_pton(AF_INET6, text, &v6->sin6_addr) == 1);
    address->ss_family = is_v4 ? AF_INET : AF_INET6;
    v4->sin_port = htons(port); /* IPv6 has it at the same place. */
    hosts[host_count].size = is_v4 ? sizeof(*v4) : sizeof(*v6);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    THREAD_CHECK(fd >= 0);
    THREAD_CHECK(bind(fd, (struct sockaddr *)address, hosts[host_count].size) == 0);
    THREAD_CHECK(manner == REFUSES || listen(fd, manner == HANGS ? 0 : 16) == 0);
    THREAD_CHECK(getsockname(fd, (struct sockaddr *)address, &hosts[host_count].size) == 0);
    port = ntohs(v4->sin_port);
    hosts[host_count].listener = fd;
    hosts[host_count].filler = -1;
    if (manner == HANGS) {
        int filler = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        THREAD_CHECK(connect(filler, (struct sockaddr *)address, hosts[host_count].size) == 0);
        hosts[host_count].filler = filler;
    }
    host_count++;
}

static int host_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **ret_list, int *ret_error)
{
    THREAD_CHECK(strcmp(host, "many.example") == 0);
    THREAD_CHECK(!service);
    THREAD_CHECK(hints->ai_socktype == SOCK_STREAM);
    counter_add(&asked, 1);
    if (gated)
        latch_wait(&gate);
    *ret_error = 0;
    *ret_list = NULL;
    for (uint32_t i = host_count; i-- > 0;) {
        if (hints->ai_family && hints->ai_family != hosts[i].address.ss_family)
            continue;
        struct addrinfo *info = test_alloc(1, sizeof(*info));
        struct sockaddr_storage *address = test_alloc(1, sizeof(*address));
        *address = hosts[i].address;
        ((struct sockaddr_in *)address)->sin_port = 0;
        info->ai_addr = (struct sockaddr *)address;
        info->ai_addrlen = hosts[i].size;
        info->ai_next = *ret_list;
        *ret_list = info;
    }
    if (*ret_list)
        return 0;
    counter_add(&answered, 1);
    return EAI_ADDRFAMILY;
}

static void host_freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;
        free(list->ai_addr);
        free(list);
        list = next;
    }
    counter_add(&answered, 1);
}

/* ---- attempts ---- */

static struct counter attempts;
static uint64_t attempt_ns[64];
static int attempt_family[64];
static int fail_family; /* no sockets of it */

static int noting_socket(int family, int type, int protocol)
{
    uint32_t index = counter_read(&attempts);

    if (index < ARRAY_SIZE(attempt_ns)) {
        attempt_ns[index] = clock_now_ns();
        attempt_family[index] = family;
    }
    counter_add(&attempts, 1);
    return family == fail_family ? -EAFNOSUPPORT : sys_real.socket(family, type, protocol);
}

struct end {
    struct counter count;
    struct rondo_result result;
    rondo_handle handle;
    uint64_t begin_ns;
    uint64_t end_ns;
    struct sockaddr_storage peer;
};

static void note_done(const struct rondo_result *result, void *ctx)
{
    struct end *end = ctx;

    end->end_ns = clock_now_ns();
    end->result = *result;
    if (result->stream) {
        THREAD_CHECK(rondo_stream_peer_address(result->stream, &end->peer) == 0);
        THREAD_CHECK(rondo_stream_abort(result->stream) == 0);
    }
    counter_add(&end->count, 1);
}

static void dial(struct end *end, const struct rondo_connect_options *options, uint64_t deadline_ns)
{
    struct rondo_request request =
        RONDO_REQUEST(.done = note_done, .ctx = end, .ret_handle = &end->handle,
                      .deadline_ns = deadline_ns);

    store_relaxed(&attempts.value, 0); /* Relaxed: a count of what follows. */
    end->begin_ns = clock_now_ns();
    assert_int_equal(rondo_stream_connect(loop, "many.example", port, options, &request), 0);
}

static struct rondo_connect_options quick(void)
{
    struct rondo_connect_options options = RONDO_CONNECT_OPTIONS_INIT;

    options.attempt_delay_ns = DELAY_MS * NS_PER_MS;
    return options;
}

static bool is_host(const struct end *end, uint32_t index)
{
    return memcmp(&end->peer, &hosts[index].address, hosts[index].size) == 0;
}

static uint32_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint32_t count = 0;

    THREAD_CHECK(folder);
    while (readdir(folder))
        count++;
    (void)closedir(folder);
    return count;
}

/* ---- tests of the order ---- */

/* Families as letters, in and out; the number in the order of its family follows each. */
static void check_order(const char *in, const char *expected)
{
    int families[16] = {0};
    uint32_t order[16];
    uint32_t numbers[16];
    uint32_t counts[128] = {0};
    char out[64] = "";
    size_t length = 0;
    uint32_t count = (uint32_t)strlen(in);

    for (uint32_t i = 0; i < count; i++) {
        families[i] = in[i];
        numbers[i] = counts[(int)in[i]]++;
    }
    eyeballs_order(families, count, order);
    for (uint32_t i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, sizeof(out) - length, "%c%u", in[order[i]],
                                   numbers[order[i]]);
    assert_string_equal(out, expected);
}

static void families_take_turns(void **state)
{
    (void)state;
    check_order("", "");
    check_order("6", "60");
    check_order("666", "606162");
    check_order("64", "6040");
    check_order("46", "4060");
    check_order("6644", "60406141");
    check_order("4466", "40604161");
    check_order("66664", "6040616263");
    check_order("64444", "6040414243");
    check_order("646", "604061");
    check_order("466464", "406041614262");
}

/* ---- tests of the race ---- */

static void the_first_that_lives_wins(void **state)
{
    /* Goal: no second attempt when the first address answers. */
    struct end end = {0};

    (void)state;
    add_host("127.0.0.2", ALIVE);
    add_host("127.0.0.3", ALIVE);
    dial(&end, NULL, 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, 0);
    assert_true(is_host(&end, 0));
    assert_int_equal(counter_read(&attempts), 1);
}

static void a_refusal_starts_the_next_at_once(void **state)
{
    /* Goal: only an address that is silent costs its delay. Method: three refuse; with the longest
     * delay there may be, the fourth is reached all the same. */
    struct rondo_connect_options options = quick();
    struct end end = {0};

    (void)state;
    options.attempt_delay_ns = 10 * NS_PER_SECOND;
    add_host("127.0.0.2", REFUSES);
    add_host("127.0.0.3", REFUSES);
    add_host("127.0.0.4", REFUSES);
    add_host("127.0.0.5", ALIVE);
    dial(&end, &options, 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, 0);
    assert_true(is_host(&end, 3));
    assert_true(end.end_ns - end.begin_ns < 5 * NS_PER_SECOND);
}

static void silence_starts_the_next_beside_it(void **state)
{
    /* Goal: attempts begin a delay apart, never earlier, and the losers are closed when done is
     * called. */
    struct rondo_connect_options options = quick();
    struct end end = {0};

    (void)state;
    add_host("127.0.0.2", HANGS);
    add_host("127.0.0.3", HANGS);
    add_host("127.0.0.4", ALIVE);
    uint32_t before = count_descriptors();
    dial(&end, &options, 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, 0);
    assert_true(is_host(&end, 2));
    assert_int_equal(counter_read(&attempts), 3);
    for (uint32_t i = 1; i < 3; i++) {
        uint64_t apart_ns = attempt_ns[i] - attempt_ns[i - 1];
        print_message("attempt %u began after %.2f ms\n", i, (double)apart_ns / 1e6);
        assert_true(apart_ns >= (DELAY_MS - NOTED_LATE_MS) * NS_PER_MS);
        assert_true(apart_ns < (DELAY_MS + 1000) * NS_PER_MS);
    }
    print_message("connected %.2f ms after it\n", (double)(end.end_ns - attempt_ns[2]) / 1e6);
    WAIT_UNTIL(count_descriptors() == before);
}

static void a_refusal_moves_the_delay(void **state)
{
    /* Goal: the delay counts from the last attempt. Method: hangs, hangs, refuses at once, hangs,
     * lives: 0, 1, 2, 2, 3 delays. */
    static const uint32_t delays[] = {0, 1, 2, 2, 3};
    struct rondo_connect_options options = quick();
    uint64_t delay_ns = 3 * options.attempt_delay_ns; /* Far more than "at once" ever takes. */
    struct end end = {0};

    (void)state;
    options.attempt_delay_ns = delay_ns;
    add_host("127.0.0.2", HANGS);
    add_host("127.0.0.3", HANGS);
    add_host("127.0.0.4", REFUSES);
    add_host("127.0.0.5", HANGS);
    add_host("127.0.0.6", ALIVE);
    dial(&end, &options, 0);
    counter_wait(&end.count, 1);
    assert_true(is_host(&end, 4));
    for (uint32_t i = 1; i < ARRAY_SIZE(delays); i++) {
        uint64_t apart_ns = attempt_ns[i] - attempt_ns[0];
        assert_true(apart_ns >= delays[i] * delay_ns - NOTED_LATE_MS * NS_PER_MS);
    }
    assert_true(attempt_ns[3] - attempt_ns[2] < delay_ns);
}

static void families_are_tried_in_turn(void **state)
{
    struct rondo_connect_options options = quick();
    struct end end = {0};
    struct end only_v4 = {0};

    (void)state;
    add_host("127.0.0.2", REFUSES);
    add_host("127.0.0.3", ALIVE);
    add_host("::1", REFUSES);
    dial(&end, &options, 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, 0);
    assert_true(is_host(&end, 1));
    assert_int_equal(attempt_family[0], AF_INET);
    assert_int_equal(attempt_family[1], AF_INET6);
    assert_int_equal(attempt_family[2], AF_INET);

    options.source_host = "127.0.0.9"; /* It has its family only. */
    dial(&only_v4, &options, 0);
    counter_wait(&only_v4.count, 1);
    assert_int_equal(only_v4.result.value, 0);
    assert_int_equal(counter_read(&attempts), 2);
    assert_int_equal(attempt_family[1], AF_INET);

    struct end none = {0};
    options = quick();
    options.family = AF_INET6;
    host_count = 2;
    dial(&none, &options, 0);
    counter_wait(&none.count, 1);
    host_count = 3;
    assert_int_equal(none.result.value, -EADDRNOTAVAIL);
    assert_int_equal(rondo_resolve_eai(&none.result), EAI_ADDRFAMILY);
}

static void all_failed_gives_the_first_ones_error(void **state)
{
    struct rondo_connect_options options = quick();
    struct end end = {0};
    struct end other = {0};

    (void)state;
    add_host("::1", REFUSES);
    add_host("127.0.0.2", REFUSES);
    fail_family = AF_INET6;
    dial(&end, &options, 0);
    counter_wait(&end.count, 1);
    assert_int_equal(end.result.value, -EAFNOSUPPORT);
    fail_family = AF_INET;
    dial(&other, &options, 0);
    counter_wait(&other.count, 1);
    fail_family = 0;
    assert_int_equal(other.result.value, -ECONNREFUSED);
    assert_int_equal(counter_read(&attempts), 2);
}

static void one_deadline_for_all_of_it(void **state)
{
    /* Goal: the deadline cuts the look-up, and the race after it; a cancel does too. */
    struct rondo_connect_options options = quick();
    struct end lookup = {0};
    struct end lookup_cancelled = {0};
    struct end race = {0};
    struct end race_cancelled = {0};

    (void)state;
    add_host("127.0.0.2", HANGS);
    add_host("127.0.0.3", HANGS);
    uint32_t before = count_descriptors();
    gated = true;
    dial(&lookup, &options, clock_now_ns() + 20 * NS_PER_MS);
    dial(&lookup_cancelled, &options, 0);
    counter_wait(&asked, 2);
    assert_int_equal(rondo_cancel(lookup_cancelled.handle), RONDO_CANCEL_IN_FLIGHT);
    counter_wait(&lookup.count, 1);
    counter_wait(&lookup_cancelled.count, 1);
    assert_int_equal(lookup.result.value, -ETIMEDOUT);
    assert_int_equal(lookup_cancelled.result.value, -ECANCELED);
    assert_int_equal(counter_read(&attempts), 0);
    latch_set(&gate);

    dial(&race, &options, clock_now_ns() + (DELAY_MS + 20) * NS_PER_MS);
    counter_wait(&race.count, 1);
    assert_int_equal(race.result.value, -ETIMEDOUT);
    dial(&race_cancelled, &options, 0);
    counter_wait(&attempts, 2);
    assert_int_equal(rondo_cancel(race_cancelled.handle), RONDO_CANCEL_IN_FLIGHT);
    counter_wait(&race_cancelled.count, 1);
    assert_int_equal(race_cancelled.result.value, -ECANCELED);
    assert_int_equal(count_descriptors(), before);
}

static void the_loop_ends_under_it(void **state)
{
    /* Goal: free returns at once while one look-up hangs and one race goes on. */
    struct rondo_connect_options options = quick();
    struct end race = {0};
    struct end lookup = {0};

    (void)state;
    add_host("127.0.0.2", HANGS);
    add_host("127.0.0.3", HANGS);
    dial(&race, &options, 0);
    counter_wait(&attempts, 1);
    gated = true;
    dial(&lookup, &options, 0);
    counter_wait(&asked, 2);
    rondo_loop_free(loop);
    loop = NULL;
    assert_int_equal(counter_read(&race.count), 1);
    assert_int_equal(race.result.value, -ECANCELED);
    assert_int_equal(counter_read(&lookup.count), 1);
    assert_int_equal(lookup.result.value, -ECANCELED);
    latch_set(&gate);
}

static void races_and_cancels_race(void **state)
{
    /* Goal: one done each and no descriptor left, wherever a cancel or a deadline meets a race. */
    enum { COUNT = 600 };
    static struct end ends[COUNT];
    struct rondo_connect_options options = quick();
    uint32_t count = test_count(COUNT);
    struct prng prng = prng_start(12);
    uint32_t connected = 0;

    (void)state;
    count = count < COUNT ? count : COUNT;
    memset(ends, 0, sizeof(ends));
    options.attempt_delay_ns = 10 * NS_PER_MS;
    add_host("127.0.0.2", HANGS);
    add_host("::1", REFUSES);
    add_host("127.0.0.3", ALIVE);
    assert_int_equal(listen(hosts[2].listener, 4096), 0); /* Nobody accepts. */
    uint32_t before = count_descriptors();
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kind = prng_below(&prng, 3);
        uint64_t after_ns = prng_below(&prng, 15) * NS_PER_MS;
        dial(&ends[i], &options, kind == 1 ? clock_now_ns() + after_ns : 0);
        if (kind == 2)
            (void)rondo_cancel(ends[i - prng_below(&prng, i < 32 ? i + 1 : 32)].handle);
        if (i >= 32)
            counter_wait(&ends[i - 32].count, 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        counter_wait(&ends[i].count, 1);
        assert_int_equal(counter_read(&ends[i].count), 1);
        int64_t value = ends[i].result.value;
        assert_true(value == 0 || value == -ECANCELED || value == -ETIMEDOUT);
        connected += value == 0;
    }
    print_message("%u of %u connected\n", connected, count);
    assert_true(connected > 0);
    assert_true(connected < count);
    WAIT_UNTIL(count_descriptors() == before);
}

/* ---- what rarely happens ---- */

static _Atomic int64_t allocations_left = INT64_MAX;

static bool may_allocate(void)
{
    return sub_relaxed(&allocations_left, 1) > 0; /* Relaxed: only the count matters. */
}

static void *counted_alloc(size_t size)
{
    return may_allocate() ? sys_real.alloc(size) : NULL;
}

static void *counted_alloc_aligned(size_t size)
{
    return may_allocate() ? sys_real.alloc_aligned(size) : NULL;
}

static void no_memory_at_any_step(void **state)
{
    /* Goal: an error, and nothing left over. Method: the first allocation fails, then the second
     * and all after it, and so on, until a connect finds enough of them. */
    struct rondo_connect_options options = quick();
    uint32_t failures = 0;
    uint32_t before;

    (void)state;
    add_host("127.0.0.2", REFUSES);
    add_host("127.0.0.3", ALIVE);
    before = count_descriptors();
    for (int64_t left = 0;; left++) {
        struct end end = {0};
        struct rondo_request request = RONDO_REQUEST(.done = note_done, .ctx = &end);
        store_relaxed(&allocations_left, left); /* Relaxed: as above. */
        int error = rondo_stream_connect(loop, "many.example", port, &options, &request);
        if (!error) {
            counter_wait(&end.count, 1);
            error = (int)end.result.value;
        }
        store_relaxed(&allocations_left, INT64_MAX); /* Relaxed: as above. */
        if (!error)
            break;
        assert_true(error == -ENOMEM || error == -EAGAIN);
        failures++;
    }
    print_message("failed at %u steps\n", failures);
    assert_true(failures >= 4); /* Look-up, race, attempts, stream. */
    WAIT_UNTIL(count_descriptors() == before);
}

struct lost_race {
    struct lane_request request;
    struct race race;
    struct attempt winner;
    struct counter ended;
};

static void lost_race_ended(struct lane *lane, struct race *race, int error, int fd)
{
    struct lost_race *lost = race->owner;

    (void)lane;
    THREAD_CHECK(error == 0);
    THREAD_CHECK(fd == lost->winner.fd);
    counter_add(&lost->ended, 1);
}

static void lost_race_run(struct lane *lane, struct lane_request *request)
{
    struct lost_race *lost = container_of(request, struct lost_race, request);

    race_begin(lane, &lost->race);
    THREAD_CHECK(lost->race.in_flight == 1);
    lost->race.winner = &lost->winner; /* Before the kernel has even seen the attempt. */
    lost->race.over = true;
}

static void a_loser_that_connects_is_closed(void **state)
{
    /* Goal: two connections at a time, and one is left. Method: the winner is made up. */
    struct lost_race lost = {.request.run = lost_race_run, .winner.fd = 4711};
    struct attempt *attempt = race_attempts_create(1);

    (void)state;
    add_host("127.0.0.2", ALIVE);
    memcpy(&attempt->address.storage, &hosts[0].address, hosts[0].size);
    attempt->address.size = hosts[0].size;
    lost.race.attempts = attempt;
    lost.race.count = 1;
    lost.race.ended = lost_race_ended;
    lost.race.owner = &lost;
    uint32_t before = count_descriptors();
    lane_ask(hub_lane((struct hub *)loop), &lost.request);
    counter_wait(&lost.ended, 1);
    assert_int_equal(count_descriptors(), before);
    int fd = accept(hosts[0].listener, NULL, NULL); /* It did connect. */
    assert_true(fd >= 0);
    (void)close(fd);
    sys.release(attempt);
}

struct interrupted {
    struct lane_request request;
    struct attempt attempt;
    struct counter ended;
    int said; /* by the kernel */
    int error;
    bool cancels;
};

static void interrupted_ended(struct lane *lane, struct attempt *attempt, int error)
{
    struct interrupted *one = attempt->owner;

    (void)lane;
    one->error = error;
    counter_add(&one->ended, 1);
}

/* Lane thread: a connect that the kernel has begun and was interrupted in. */
static void interrupted_run(struct lane *lane, struct lane_request *request)
{
    struct interrupted *one = container_of(request, struct interrupted, request);
    struct attempt *attempt = &one->attempt;

    attempt->ended = interrupted_ended;
    attempt->owner = one;
    attempt->fd = sys_real.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (one->said != -EISCONN) {
        int error =
            sys_real.connect(attempt->fd, address_get(&attempt->address), attempt->address.size);
        THREAD_CHECK(error == -EINPROGRESS);
    }
    attempt_connect_kind.complete(lane, attempt, one->said, 0);
    if (one->cancels)
        attempt_cancel(lane, attempt);
}

static void interrupted_begin(struct interrupted *one, uint32_t host)
{
    struct hub *hub = (struct hub *)loop;

    memcpy(&one->attempt.address.storage, &hosts[host].address, hosts[host].size);
    one->attempt.address.size = hosts[host].size;
    one->request.run = interrupted_run;
    lane_ask(hub_lane(hub), &one->request);
}

static void an_interrupted_connect_goes_on(void **state)
{
    /* Goal: after -EINTR, -EALREADY or -EINPROGRESS the attempt ends with what became of it.
     * Method: the completion is made up; the connect behind it is real. */
    struct interrupted alive = {.said = -EINTR};
    struct interrupted refused = {.said = -EALREADY};
    struct interrupted hanging = {.said = -EINPROGRESS, .cancels = true};
    struct interrupted late = {.said = -EISCONN};

    (void)state;
    add_host("127.0.0.2", ALIVE);
    add_host("127.0.0.3", REFUSES);
    add_host("127.0.0.4", HANGS);
    interrupted_begin(&alive, 0);
    interrupted_begin(&refused, 1);
    interrupted_begin(&hanging, 2);
    interrupted_begin(&late, 0);
    counter_wait(&alive.ended, 1);
    counter_wait(&refused.ended, 1);
    counter_wait(&hanging.ended, 1);
    counter_wait(&late.ended, 1);
    assert_int_equal(alive.error, 0);
    assert_int_equal(refused.error, -ECONNREFUSED);
    assert_int_equal(hanging.error, -ECANCELED);
    assert_int_equal(late.error, 0);
    assert_true(alive.attempt.fd >= 0);
    assert_int_equal(refused.attempt.fd, -1);
    assert_int_equal(hanging.attempt.fd, -1);
    (void)close(alive.attempt.fd);
    (void)close(late.attempt.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_take_turns),
        cmocka_unit_test_setup_teardown(the_first_that_lives_wins, begin, finish),
        cmocka_unit_test_setup_teardown(a_refusal_starts_the_next_at_once, begin, finish),
        cmocka_unit_test_setup_teardown(silence_starts_the_next_beside_it, begin, finish),
        cmocka_unit_test_setup_teardown(a_refusal_moves_the_delay, begin, finish),
        cmocka_unit_test_setup_teardown(families_are_tried_in_turn, begin, finish),
        cmocka_unit_test_setup_teardown(all_failed_gives_the_first_ones_error, begin, finish),
        cmocka_unit_test_setup_teardown(one_deadline_for_all_of_it, begin, finish),
        cmocka_unit_test_setup_teardown(the_loop_ends_under_it, begin, finish),
        cmocka_unit_test_setup_teardown(races_and_cancels_race, begin, finish),
        cmocka_unit_test_setup_teardown(a_loser_that_connects_is_closed, begin, finish),
        cmocka_unit_test_setup_teardown(no_memory_at_any_step, begin, finish),
        cmocka_unit_test_setup_teardown(an_interrupted_connect_goes_on, begin, finish),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    /* For good: a thread whose look-up was lost may still look at the table after its test. */
    sys.getaddrinfo = host_getaddrinfo;
    sys.freeaddrinfo = host_freeaddrinfo;
    sys.socket = noting_socket;
    sys.alloc = counted_alloc;
    sys.alloc_aligned = counted_alloc_aligned;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
