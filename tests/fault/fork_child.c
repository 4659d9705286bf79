/* Goal: after a fork the child cannot use the parent's loop, is told so, and does the parent no
 * harm; the child can have a loop of its own.
 *
 * Method: fork while the loop carries traffic; the child calls every function and frees the loop;
 * the parent's traffic goes on.
 */
#include "support.h"

#include <pthread.h>
#include <unistd.h>

enum { FORKS = 20 };

static rondo_loop *loop;
static rondo_strand *strand;
static uint16_t port;
static atomic_bool stopping;
static _Atomic uint64_t exchanges;
static _Atomic uint64_t runs;

static void count_run(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&runs, 1);
}

static void *traffic_main(void *arg)
{
    int fd = tcp_dial(port);
    char bytes[64] = "";

    (void)arg;
    while (!atomic_load(&stopping)) {
        tcp_send(fd, bytes, sizeof(bytes));
        CHECK_EQUAL(tcp_receive(fd, bytes, sizeof(bytes)), sizeof(bytes));
        CHECK_EQUAL(rondo_call_soon(loop, count_run, NULL, NULL), 0);
        atomic_fetch_add(&exchanges, 1);
    }
    (void)close(fd);
    return NULL;
}

static void use_in_child(void *ctx)
{
    struct rondo_loop_stats stats = RONDO_LOOP_STATS_INIT;
    rondo_listener *listener = NULL;
    rondo_strand *other = NULL;
    rondo_handle handle;

    (void)ctx;
    CHECK_EQUAL(rondo_loop_start(loop), -ECHILD);
    CHECK_EQUAL(rondo_loop_run(loop), -ECHILD);
    CHECK_EQUAL(rondo_loop_stop(loop), -ECHILD);
    CHECK_EQUAL(rondo_loop_drain(loop, 0), -ECHILD);
    CHECK_EQUAL(rondo_loop_wait(loop), -ECHILD);
    CHECK_EQUAL(rondo_call_soon(loop, count_run, NULL, &handle), -ECHILD);
    CHECK_EQUAL(rondo_call_later(loop, 0, count_run, NULL, &handle), -ECHILD);
    CHECK_EQUAL(rondo_call_at(loop, 0, count_run, NULL, NULL), -ECHILD);
    CHECK_EQUAL(rondo_strand_create(loop, &other), -ECHILD);
    CHECK_EQUAL(rondo_strand_post(strand, count_run, NULL, NULL), -ECHILD);
    CHECK_EQUAL(rondo_strand_call_at(strand, 0, count_run, NULL, NULL), -ECHILD);
    CHECK_EQUAL(rondo_strand_call_later(strand, 0, count_run, NULL, NULL), -ECHILD);
    CHECK_EQUAL(rondo_listener_create(loop, "127.0.0.1", 0, NULL, &echo_listener, NULL, &listener),
                -ECHILD);
    CHECK(rondo_error_text()[0]);
    CHECK_EQUAL(rondo_loop_stats(loop, &stats), 0);
    CHECK(!rondo_current_loop());
    rondo_loop_free(loop);
}

static void own_loop_in_child(void *ctx)
{
    (void)ctx;
    rondo_loop_free(loop);
    atomic_store(&runs, 0);
    rondo_loop *own = loop_begin(NULL);
    for (uint32_t i = 0; i < 1000; i++)
        CHECK_EQUAL(rondo_call_soon(own, count_run, NULL, NULL), 0);
    WAIT_UNTIL(atomic_load(&runs) == 1000, 5000);
    rondo_loop_free(own);
}

static void begin(pthread_t *traffic, const char *name)
{
    (void)test_begin(name);
    atomic_store(&stopping, false);
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_strand_create(loop, &strand), 0);
    port = listener_port(listen_local(loop, &echo_listener, NULL));
    CHECK_EQUAL(pthread_create(traffic, NULL, traffic_main, NULL), 0);
}

static void end(pthread_t traffic)
{
    atomic_store(&stopping, true);
    (void)pthread_join(traffic, NULL);
    rondo_strand_unref(strand);
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void the_child_is_refused_and_the_parent_goes_on(void **state)
{
    (void)state;
    pthread_t traffic;

    begin(&traffic, "fork_child, refused");
    for (uint64_t i = 0; i < FORKS; i++) {
        uint64_t before = atomic_load(&exchanges);
        WAIT_UNTIL(atomic_load(&exchanges) > before + 10, 5000);
        run_in_child(use_in_child, NULL);
        before = atomic_load(&exchanges);
        WAIT_UNTIL(atomic_load(&exchanges) > before + 10, 5000);
    }
    end(traffic);
}

/* Cause: a lock of the library that another thread held at the moment of the fork. */
static void the_child_can_have_a_loop_of_its_own(void **state)
{
    (void)state;
    pthread_t traffic;

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
    skip(); /* It allows no threads in the child of a process with threads. */
#endif
#endif
    begin(&traffic, "fork_child, own loop");
    for (uint64_t i = 0; i < FORKS; i++)
        run_in_child(own_loop_in_child, NULL);
    end(traffic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_is_refused_and_the_parent_goes_on),
        cmocka_unit_test(the_child_can_have_a_loop_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
