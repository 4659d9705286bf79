/* Goal: a loop leaves nothing behind: no descriptor, no thread, no memory.
 *
 * Method: create, start, use, stop and free a loop a thousand times, with a connection in every
 * tenth; compare the process before and after. Under a sanitizer the heap is left to it.
 */
#include "support.h"

#include <malloc.h>
#include <unistd.h>

enum { CYCLES = 1000, WARM_UP_CYCLES = 50, CALLBACKS = 20, HEAP_GROWTH_MAX = 64 * 1024 };

static _Atomic uint64_t runs;

static void on_run(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&runs, 1);
}

static void connect_once(rondo_loop *loop)
{
    char byte = 'x';
    rondo_listener *listener = listen_local(loop, &echo_listener, NULL);
    int fd = tcp_dial(listener_port(listener));

    tcp_send(fd, &byte, 1);
    CHECK_EQUAL(tcp_receive(fd, &byte, 1), 1);
    (void)close(fd);
}

static void cycle(uint64_t number)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    uint64_t before = atomic_load(&runs);
    rondo_loop *loop;

    options.lanes = 1 + (uint32_t)(number % 2);
    options.submissions = 64;
    options.completions = 256;
    loop = loop_begin(&options);
    for (uint32_t i = 0; i < CALLBACKS; i++) {
        CHECK_EQUAL(rondo_call_soon(loop, on_run, NULL, NULL), 0);
        CHECK_EQUAL(rondo_call_later(loop, i % 2 ? 3600000 * MS : 0, on_run, NULL, NULL), 0);
    }
    if (number % 10 == 0)
        connect_once(loop);
    if (number % 3 == 0) {
        CHECK_EQUAL(rondo_loop_stop(loop), 0);
        CHECK_EQUAL(rondo_loop_wait(loop), 0);
    } else if (number % 3 == 1) {
        CHECK_EQUAL(rondo_loop_drain(loop, 10000 * MS), 0);
        CHECK_EQUAL(rondo_loop_wait(loop), 0);
    }
    rondo_loop_free(loop);
    CHECK(atomic_load(&runs) >= before + CALLBACKS);
}

static void repeated_start_and_stop_leaves_nothing_behind(void **state)
{
    (void)state;
    (void)test_begin("start_stop");
    for (uint64_t i = 0; i < WARM_UP_CYCLES; i++)
        cycle(i);
    uint32_t descriptors = count_descriptors();
    uint32_t threads = count_threads();
    size_t heap = mallinfo2().uordblks;
    uint64_t rss = process_rss();
    uint64_t cycles = test_scaled(CYCLES);

    for (uint64_t i = 0; i < cycles; i++)
        cycle(i);
    CHECK_EQUAL(count_descriptors(), descriptors);
    WAIT_UNTIL(count_threads() == threads, 1000); /* A joined thread may linger in /proc. */
    fprintf(stderr, "heap %zu then %zu bytes, resident %llu then %llu\n", heap,
            mallinfo2().uordblks, (unsigned long long)rss, (unsigned long long)process_rss());
    if (!TEST_SANITIZED)
        CHECK(mallinfo2().uordblks <= heap + HEAP_GROWTH_MAX);
}

static void a_loop_that_never_started_leaves_nothing_behind(void **state)
{
    (void)state;
    (void)test_begin("start_stop");
    uint32_t descriptors = count_descriptors();

    for (uint64_t i = 0; i < test_scaled(50); i++) {
        rondo_loop *loop = NULL;
        uint64_t before = atomic_load(&runs);
        CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
        CHECK_EQUAL(rondo_call_soon(loop, on_run, NULL, NULL), 0);
        (void)listen_local(loop, &echo_listener, NULL);
        rondo_loop_free(loop);
        CHECK_EQUAL(atomic_load(&runs), before + 1); /* It keeps what was posted until it runs. */
    }
    CHECK_EQUAL(count_descriptors(), descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_start_and_stop_leaves_nothing_behind),
        cmocka_unit_test(a_loop_that_never_started_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
