/* What the stress, fault and end-to-end tests share: seeds and scale, checks that work on any
 * thread, bounded waits for a condition, numbers of this process, plain sockets.
 *
 * CHECK and its kin print what failed together with the seed and abort: cmocka's own asserts may
 * only be used on the main thread.
 */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rondo/rondo.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED true
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED false
#endif

#define MS UINT64_C(1000000) /* in nanoseconds */

/* ---- seeds and scale ---- */

/* First in each test: prints the seed, undoes cmocka's signal handlers (they jump between stacks,
 * which is no good when a worker crashed). Returns the seed: RONDO_TEST_SEED, or a fixed one. */
uint64_t test_begin(const char *name);

/* @count times RONDO_TEST_SCALE; a tenth of it under a sanitizer. At least 1. */
uint64_t test_scaled(uint64_t count);

/* A good enough generator: the next number, one below @bound, and a number from two others. */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t bound);
uint64_t random_of(uint64_t seed, uint64_t number);

/* ---- checks ---- */

_Noreturn void check_failed(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what, intmax_t a, intmax_t b);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
#define CHECK_EQUAL(a, b) \
    check_equal(__FILE__, __LINE__, #a " == " #b, (intmax_t)(a), (intmax_t)(b))

/* Waits for the condition, and fails when it does not come true within @timeout_ms. */
#define WAIT_UNTIL(condition, timeout_ms)                                 \
    do {                                                                  \
        uint64_t until_ = test_deadline(timeout_ms);                      \
        while (!(condition)) {                                            \
            if (rondo_now_ns() > until_)                                  \
                check_failed(__FILE__, __LINE__, "in time: " #condition); \
            test_nap();                                                   \
        }                                                                 \
    } while (0)

/* Now + @timeout_ms, longer under a sanitizer. */
uint64_t test_deadline(uint64_t timeout_ms);

/* A fifth of a millisecond, between two looks at a condition. */
void test_nap(void);

/* Let @duration_ms pass, to see that nothing happens meanwhile. */
void test_pass_time(uint64_t duration_ms);

/* ---- this process ---- */

uint32_t count_descriptors(void);
uint32_t count_threads(void);
uint64_t process_rss(void);
uint64_t process_cpu_ns(void);

/* Run @body in a child of its own; fails when it does not return. */
void run_in_child(void (*body)(void *ctx), void *ctx);

/* ---- plain sockets, all on 127.0.0.1; they fail the test instead of returning an error ---- */

int tcp_dial(uint16_t port);
void tcp_send(int fd, const void *data, size_t size);
/* Reads @size bytes, or fewer when the peer closed or reset: how many. */
size_t tcp_receive(int fd, void *data, size_t size);
/* Closes with a reset. */
void tcp_reset(int fd);

/* ---- operations ---- */

/* How an operation ended, and how often: more than once is a failure. */
struct outcome {
    _Atomic int count;
    struct rondo_result result;
    rondo_handle handle;
};

/* The done of an operation whose ctx is a struct outcome. */
void outcome_note(const struct rondo_result *result, void *ctx);

/* A request that ends in @outcome, with further members: deadline_ns, strand. */
#define REQUEST(outcome, ...)                                                                \
    &RONDO_REQUEST(.done = outcome_note, .ctx = (outcome), .ret_handle = &(outcome)->handle, \
                   __VA_ARGS__)

/* Waits for the end, which must have this value. */
#define EXPECT_END(outcome, expected)                          \
    do {                                                       \
        WAIT_UNTIL(atomic_load(&(outcome)->count) > 0, 10000); \
        CHECK_EQUAL((outcome)->result.value, expected);        \
    } while (0)

/* ---- loops ---- */

/* Created and started; NULL for the defaults. */
rondo_loop *loop_begin(const struct rondo_loop_options *options);
struct rondo_loop_stats loop_stats(rondo_loop *loop);
rondo_listener *listen_local(rondo_loop *loop, const struct rondo_listener_handlers *handlers,
                             void *ctx);
uint16_t listener_port(const rondo_listener *listener);

/* Listener handlers whose accepted starts each stream as a plain echo. */
extern const struct rondo_listener_handlers echo_listener;

#endif
