/* Goal: at the limit of descriptors or connections accepting pauses without burning the processor,
 * and goes on when a connection closes; nobody who waits is lost, and who waits for descriptors in
 * vain is told.
 *
 * Method: a server in a child process with a low RLIMIT_NOFILE, or a low `connections` option; more
 * clients than fit connect from here. The child answers questions about its numbers over a socket.
 */
#include "support.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 60, DESCRIPTORS = 40, CONNECTIONS = 8, BUSY_PERCENT_MAX = 5 };

struct server {
    pid_t process;
    int control;
    uint16_t port;
};

/* ---- the child ---- */

static _Noreturn void serve(int control, const struct rondo_loop_options *options,
                            uint32_t descriptors)
{
    struct rlimit limit;
    char question;

    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (descriptors)
        limit.rlim_cur = descriptors;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    rondo_loop *loop = NULL;
    CHECK_EQUAL(rondo_loop_create(options, &loop), 0);
    uint16_t port = listener_port(listen_local(loop, &echo_listener, NULL));
    tcp_send(control, &port, sizeof(port));
    /* All clients are in the backlog when accepting begins. */
    CHECK_EQUAL(tcp_receive(control, &question, 1), 1);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    while (tcp_receive(control, &question, 1) == 1) {
        struct rondo_loop_stats stats = loop_stats(loop);
        tcp_send(control, &stats, sizeof(stats));
    }
    rondo_loop_free(loop);
    _exit(0);
}

/* ---- this side ---- */

static struct server server_start(const struct rondo_loop_options *options, uint32_t descriptors)
{
    struct server server = {0};
    int pair[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    (void)fflush(NULL);
    server.process = fork();
    CHECK(server.process >= 0);
    if (server.process == 0) {
        (void)close(pair[0]);
        serve(pair[1], options, descriptors);
    }
    (void)close(pair[1]);
    server.control = pair[0];
    CHECK_EQUAL(tcp_receive(server.control, &server.port, sizeof(server.port)),
                sizeof(server.port));
    return server;
}

static void server_stop(struct server *server)
{
    int status = 0;

    (void)close(server->control);
    CHECK_EQUAL(waitpid(server->process, &status, 0), server->process);
    CHECK_EQUAL(status, 0);
}

static struct rondo_loop_stats server_stats(struct server *server)
{
    struct rondo_loop_stats stats;

    tcp_send(server->control, "?", 1);
    CHECK_EQUAL(tcp_receive(server->control, &stats, sizeof(stats)), sizeof(stats));
    return stats;
}

static uint64_t server_cpu_ns(struct server *server)
{
    struct timespec used;
    clockid_t clock;

    CHECK_EQUAL(clock_getcpuclockid(server->process, &clock), 0);
    CHECK_EQUAL(clock_gettime(clock, &used), 0);
    return (uint64_t)used.tv_sec * 1000 * MS + (uint64_t)used.tv_nsec;
}

struct client {
    int fd;
    bool served;
};

/* Takes the answers that are there; how many clients were served so far. */
static uint32_t take_answers(struct client *clients)
{
    uint32_t served = 0;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        char byte;
        if (!clients[i].served && recv(clients[i].fd, &byte, 1, MSG_DONTWAIT) == 1)
            clients[i].served = true;
        served += clients[i].served;
    }
    return served;
}

static uint32_t close_served(struct client *clients, bool *closed)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < CLIENTS; i++)
        if (clients[i].served && !closed[i]) {
            CHECK_EQUAL(shutdown(clients[i].fd, SHUT_RDWR), 0);
            closed[i] = true;
            count++;
        }
    return count;
}

/* More clients than fit, until all have been served; never more than @max at a time. */
static void crowd(struct server *server, uint32_t max)
{
    struct client clients[CLIENTS];
    bool closed[CLIENTS] = {false};
    uint32_t done = 0;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.fd = tcp_dial(server->port)};
        tcp_send(clients[i].fd, "x", 1);
    }
    tcp_send(server->control, "!", 1);
    WAIT_UNTIL(server_stats(server).accepts_paused > 0, 5000);
    WAIT_UNTIL(take_answers(clients) >= 8, 5000);

    uint64_t cpu_ns = server_cpu_ns(server);
    test_pass_time(1000);
    cpu_ns = server_cpu_ns(server) - cpu_ns;
    fprintf(stderr, "full: %llu us of processor time in a second, %u served, %llu connections\n",
            (unsigned long long)cpu_ns / 1000, take_answers(clients),
            (unsigned long long)server_stats(server).connections);
    CHECK(cpu_ns < 1000 * MS * BUSY_PERCENT_MAX / 100 * (TEST_SANITIZED ? 3 : 1));
    CHECK(take_answers(clients) <= max);
    CHECK(server_stats(server).connections <= max);

    while (done < CLIENTS) {
        WAIT_UNTIL(take_answers(clients) > done, 5000);
        done += close_served(clients, closed);
    }
    WAIT_UNTIL(server_stats(server).connections == 0, 5000);
    CHECK_EQUAL(server_stats(server).connections_total, CLIENTS);
    for (uint32_t i = 0; i < CLIENTS; i++)
        (void)close(clients[i].fd);
}

static void out_of_descriptors_accepting_pauses_and_goes_on(void **state)
{
    (void)state;
    (void)test_begin("descriptors, EMFILE");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.connections = 100000; /* So that the limit of descriptors is met first. */
    struct server server = server_start(&options, DESCRIPTORS);
    crowd(&server, DESCRIPTORS);
    server_stop(&server);
}

/* The automatic limit must keep clear of the limit of descriptors. */
static void the_automatic_limit_works_with_few_descriptors(void **state)
{
    (void)state;
    (void)test_begin("descriptors, automatic");
    struct server server = server_start(NULL, DESCRIPTORS);

    crowd(&server, DESCRIPTORS);
    server_stop(&server);
}

/* Cause: a multishot accept takes all that waits before the lane sees the first completion. */
static void the_connections_option_is_never_exceeded_by_a_burst(void **state)
{
    (void)state;
    (void)test_begin("descriptors, connections");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    options.connections = CONNECTIONS;
    struct server server = server_start(&options, 0);
    crowd(&server, CONNECTIONS);
    server_stop(&server);
}

/* Served, told that there is no room for it, or still waiting. */
static uint32_t take_ends(struct client *clients, bool *ended)
{
    uint32_t count = 0;

    (void)take_answers(clients);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        char byte;
        if (!clients[i].served && !ended[i]) {
            ssize_t size = recv(clients[i].fd, &byte, 1, MSG_DONTWAIT);
            clients[i].served = size == 1;
            ended[i] = size == 0 || (size < 0 && errno == ECONNRESET);
        }
        count += ended[i];
    }
    return count;
}

/* Nothing is closed, so those who wait are told; who is served stays so, and the loop recovers. */
static void those_who_wait_in_vain_are_told(void **state)
{
    (void)state;
    (void)test_begin("descriptors, shed");
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct client clients[CLIENTS];
    bool ended[CLIENTS] = {false};
    char byte;

    options.connections = 100000;
    options.shed_after_ns = 200 * MS;
    struct server server = server_start(&options, DESCRIPTORS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.fd = tcp_dial(server.port)};
        tcp_send(clients[i].fd, "x", 1);
    }
    tcp_send(server.control, "!", 1);
    WAIT_UNTIL(take_ends(clients, ended) + take_answers(clients) == CLIENTS, 5000);
    struct rondo_loop_stats stats = server_stats(&server);
    CHECK(stats.accepts_paused > 1); /* It has waited before. */
    CHECK_EQUAL(stats.connections_shed, take_ends(clients, ended));
    CHECK_EQUAL(stats.connections, take_answers(clients));
    CHECK(stats.connections_shed > 0 && stats.connections >= 8);

    uint64_t cpu_ns = server_cpu_ns(&server);
    test_pass_time(300);
    CHECK(server_cpu_ns(&server) - cpu_ns <
          300 * MS * BUSY_PERCENT_MAX / 100 * (TEST_SANITIZED ? 3 : 1));
    for (uint32_t i = 0, left = 2; i < CLIENTS && left > 0; i++)
        if (clients[i].served) {
            CHECK_EQUAL(shutdown(clients[i].fd, SHUT_RDWR), 0);
            left--;
        }
    WAIT_UNTIL(server_stats(&server).connections == stats.connections - 2, 5000);
    int late = tcp_dial(server.port);
    tcp_send(late, "x", 1);
    CHECK_EQUAL(tcp_receive(late, &byte, 1), 1);
    CHECK_EQUAL(server_stats(&server).connections_shed, stats.connections_shed);
    (void)close(late);
    for (uint32_t i = 0; i < CLIENTS; i++)
        (void)close(clients[i].fd);
    server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(out_of_descriptors_accepting_pauses_and_goes_on),
        cmocka_unit_test(those_who_wait_in_vain_are_told),
        cmocka_unit_test(the_automatic_limit_works_with_few_descriptors),
        cmocka_unit_test(the_connections_option_is_never_exceeded_by_a_burst),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
