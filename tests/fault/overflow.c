/* Goal: a lane whose rings and buffers are far too small is slower, and loses nothing.
 *
 * Method: many connections send bursts of messages through rings of 4 entries, and through 2
 * buffers of 64 bytes; every byte must come back in order, and the numbers must show that the ring
 * did overflow and the buffers did run out: otherwise the test tested nothing.
 */
#include "support.h"

#include <unistd.h>

enum { CONNECTIONS = 16, MESSAGES = 2000, BURST = 20, MESSAGE_SIZE = 50 };

static void make_message(char *message, uint32_t connection, uint64_t sequence)
{
    uint64_t words[MESSAGE_SIZE / 8 + 1];

    for (uint32_t i = 0; i <= MESSAGE_SIZE / 8; i++)
        words[i] = random_of(sequence * CONNECTIONS + connection, i);
    memcpy(message, words, MESSAGE_SIZE);
}

static void burst(int *fds, uint64_t first)
{
    char sent[BURST * MESSAGE_SIZE];
    char received[BURST * MESSAGE_SIZE];

    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        for (uint32_t j = 0; j < BURST; j++)
            make_message(sent + j * MESSAGE_SIZE, i, first + j);
        tcp_send(fds[i], sent, sizeof(sent));
    }
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        for (uint32_t j = 0; j < BURST; j++)
            make_message(sent + j * MESSAGE_SIZE, i, first + j);
        CHECK_EQUAL(tcp_receive(fds[i], received, sizeof(received)), sizeof(received));
        CHECK_EQUAL(memcmp(sent, received, sizeof(sent)), 0);
    }
}

static struct rondo_loop_stats traffic(const struct rondo_loop_options *options)
{
    rondo_loop *loop = loop_begin(options);
    uint16_t port = listener_port(listen_local(loop, &echo_listener, NULL));
    uint64_t messages = test_scaled(MESSAGES);
    int fds[CONNECTIONS];

    for (uint32_t i = 0; i < CONNECTIONS; i++)
        fds[i] = tcp_dial(port);
    for (uint64_t first = 0; first < messages; first += BURST)
        burst(fds, first);
    struct rondo_loop_stats stats = loop_stats(loop);
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        (void)close(fds[i]);
    rondo_loop_free(loop);
    CHECK(stats.bytes_received >= messages * CONNECTIONS * MESSAGE_SIZE);
    CHECK_EQUAL(stats.completions_stale, 0);
    return stats;
}

static void a_full_completion_ring_loses_nothing(void **state)
{
    (void)state;
    (void)test_begin("overflow, rings of 4");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.submissions = 4;
    options.completions = 4;
    struct rondo_loop_stats stats = traffic(&options);
    fprintf(stderr, "%llu overflows\n", (unsigned long long)stats.ring_overflows);
    CHECK(stats.ring_overflows > 0);
}

static void rings_of_two_entries_work(void **state)
{
    (void)state;
    (void)test_begin("overflow, rings of 2");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.submissions = 2;
    options.completions = 2;
    CHECK(traffic(&options).ring_overflows > 0);
}

static void exhausted_receive_buffers_lose_nothing(void **state)
{
    (void)state;
    (void)test_begin("overflow, 2 buffers");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.buffers = 2;
    options.buffer_size = 64;
    struct rondo_loop_stats stats = traffic(&options);
    fprintf(stderr, "%llu times exhausted\n", (unsigned long long)stats.buffers_exhausted);
    CHECK(stats.buffers_exhausted > 0);
    CHECK(stats.buffers <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_completion_ring_loses_nothing),
        cmocka_unit_test(rings_of_two_entries_work),
        cmocka_unit_test(exhausted_receive_buffers_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
