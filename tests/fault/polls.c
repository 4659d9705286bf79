/* Goal: readiness of a descriptor is told once by rondo_poll() and level-triggered by a poller,
 * with the outcome its cancel, deadline, close or loop's end asks for.
 * Method: pipes, sockets and files in every state of readiness; each operation must end once. */
#include "support.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static rondo_loop *loop;

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

static void wait_done(struct outcome *end)
{
    WAIT_UNTIL(atomic_load(&end->count) > 0, 5000);
    CHECK_EQUAL(atomic_load(&end->count), 1);
}

static void poll_now(int fd, uint32_t events, struct outcome *end, uint64_t deadline_ns)
{
    CHECK_EQUAL(rondo_poll(loop, fd, events,
                           &RONDO_REQUEST(.done = outcome_note, .ctx = end,
                                          .deadline_ns = deadline_ns, .ret_handle = &end->handle)),
                0);
}

static void bad_arguments(void **state)
{
    static const struct rondo_poller_handlers none = {.size = sizeof(none)};
    struct outcome end = {0};
    struct rondo_request request = RONDO_REQUEST(.done = outcome_note, .ctx = &end);
    rondo_poller *poller;
    int pipes[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe(pipes), 0);
    CHECK_EQUAL(rondo_poll(NULL, pipes[0], POLLIN, &request), -EINVAL);
    CHECK_EQUAL(rondo_poll(loop, pipes[0], POLLIN, NULL), -EINVAL);
    CHECK_EQUAL(rondo_poll(loop, pipes[0], 1U << 31, &request), -EINVAL);
    CHECK_EQUAL(rondo_poll(loop, -1, POLLIN, &request), -EBADF);
    CHECK_EQUAL(rondo_poll(loop, INT32_MAX, POLLIN, &request), -EBADF);
    CHECK_EQUAL(rondo_poller_create(loop, pipes[0], POLLIN, NULL, NULL, &poller), -EINVAL);
    CHECK_EQUAL(rondo_poller_create(loop, pipes[0], POLLIN, &none, NULL, &poller), -EINVAL);
    CHECK_EQUAL(rondo_poller_create(loop, -1, POLLIN, &none, NULL, &poller), -EBADF);
    CHECK_EQUAL(rondo_poller_close(NULL), -EINVAL);
    CHECK_EQUAL(rondo_poller_set_events(NULL, POLLIN), -EINVAL);
    CHECK(!rondo_poller_strand(NULL));
    end_loop();
    CHECK_EQUAL(atomic_load(&end.count), 0);
    close(pipes[0]);
    close(pipes[1]);
}

static void once(void **state)
{
    struct outcome ends[6] = {0};
    int pipes[2];
    FILE *file = tmpfile();

    (void)state;
    loop = loop_begin(NULL);
    CHECK(file);
    CHECK_EQUAL(pipe(pipes), 0);
    poll_now(pipes[1], POLLOUT, &ends[0], 0);
    wait_done(&ends[0]);
    CHECK_EQUAL(ends[0].result.value, POLLOUT);
    poll_now(pipes[0], POLLIN, &ends[1], 0);
    CHECK_EQUAL(atomic_load(&ends[1].count), 0);
    CHECK_EQUAL(write(pipes[1], "x", 1), 1);
    wait_done(&ends[1]);
    CHECK_EQUAL(ends[1].result.value, POLLIN);
    /* A regular file is always ready, as poll(2) says. */
    poll_now(fileno(file), POLLIN | POLLOUT, &ends[2], 0);
    wait_done(&ends[2]);
    CHECK_EQUAL(ends[2].result.value, POLLIN | POLLOUT);
    /* Hang-up comes unasked. */
    CHECK_EQUAL(close(pipes[1]), 0);
    poll_now(pipes[0], 0, &ends[3], 0);
    wait_done(&ends[3]);
    CHECK_EQUAL(ends[3].result.value, POLLHUP);
    poll_now(pipes[0], POLLIN, &ends[4], 1);
    wait_done(&ends[4]);
    CHECK_EQUAL(ends[4].result.value, -ETIMEDOUT);
    poll_now(pipes[0], POLLIN, &ends[5], UINT64_MAX);
    wait_done(&ends[5]);
    CHECK_EQUAL(ends[5].result.value, POLLIN | POLLHUP);
    end_loop();
    CHECK_EQUAL(close(pipes[0]), 0);
    CHECK_EQUAL(fclose(file), 0);
}

static void cancels_and_deadlines(void **state)
{
    struct outcome ends[4] = {0};
    int pipes[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe(pipes), 0);
    poll_now(pipes[0], POLLIN, &ends[0], rondo_now_ns() + 5 * MS);
    wait_done(&ends[0]);
    CHECK_EQUAL(ends[0].result.value, -ETIMEDOUT);
    poll_now(pipes[0], POLLIN, &ends[1], 0);
    CHECK(rondo_cancel(ends[1].handle) != RONDO_CANCEL_FINISHED);
    wait_done(&ends[1]);
    CHECK_EQUAL(ends[1].result.value, -ECANCELED);
    CHECK_EQUAL(rondo_cancel(ends[1].handle), RONDO_CANCEL_FINISHED);
    /* A drain lets it go on, a stop cancels it. */
    poll_now(pipes[0], POLLIN, &ends[2], 0);
    poll_now(pipes[0], POLLIN, &ends[3], rondo_now_ns() + 60000 * MS);
    CHECK_EQUAL(rondo_loop_drain(loop, 60000 * MS), 0);
    test_pass_time(5);
    CHECK_EQUAL(atomic_load(&ends[2].count), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(ends[2].result.value, -ECANCELED);
    CHECK_EQUAL(ends[3].result.value, -ECANCELED);
    CHECK_EQUAL(
        rondo_poll(loop, pipes[0], POLLIN, &RONDO_REQUEST(.done = outcome_note, .ctx = &ends[3])),
        -ESHUTDOWN);
    rondo_loop_free(loop);
    close(pipes[0]);
    close(pipes[1]);
}

static void cancel_before_start(void **state)
{
    struct outcome end = {0};
    int pipes[2];

    (void)state;
    CHECK_EQUAL(pipe(pipes), 0);
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    poll_now(pipes[1], POLLOUT, &end, 0);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    wait_done(&end);
    CHECK_EQUAL(end.result.value, -ECANCELED);
    end_loop();
    close(pipes[0]);
    close(pipes[1]);
}

/* ---- a poller ---- */

static struct seen {
    int fd;
    _Atomic int ready_count;
    _Atomic int byte_count;
    _Atomic uint32_t events;
    _Atomic int inside;
    _Atomic int closed_count;
    _Atomic int closed_error;
} seen;

/* Takes one byte a call, so what is left must be told again. */
static void take_one(rondo_poller *poller, uint32_t events, void *ctx)
{
    struct seen *self = ctx;
    char byte;

    CHECK(rondo_poller_strand(poller));
    CHECK_EQUAL(atomic_fetch_add(&self->inside, 1), 0);
    CHECK_EQUAL(atomic_load(&self->closed_count), 0);
    atomic_store(&self->events, events);
    atomic_fetch_add(&self->ready_count, 1);
    if (events & POLLIN && read(self->fd, &byte, 1) == 1)
        atomic_fetch_add(&self->byte_count, 1);
    else if (events & (POLLHUP | POLLOUT))
        CHECK_EQUAL(rondo_poller_close(poller), 0);
    atomic_fetch_sub(&self->inside, 1);
}

static void note_closed(rondo_poller *poller, int error, void *ctx)
{
    struct seen *self = ctx;

    (void)poller;
    atomic_store(&self->closed_error, error);
    atomic_fetch_add(&self->closed_count, 1);
}

static const struct rondo_poller_handlers handlers = {sizeof(handlers), take_one, note_closed};

static void level_triggered(void **state)
{
    rondo_poller *poller;
    char bytes[100] = {0};
    int pipes[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe(pipes), 0);
    memset(&seen, 0, sizeof(seen));
    seen.fd = pipes[0];
    CHECK_EQUAL(rondo_poller_create(loop, pipes[0], POLLIN, &handlers, &seen, &poller), 0);
    test_pass_time(5);
    CHECK_EQUAL(atomic_load(&seen.ready_count), 0);
    CHECK_EQUAL(write(pipes[1], bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    WAIT_UNTIL(atomic_load(&seen.byte_count) == (int)sizeof(bytes), 5000);
    CHECK_EQUAL(atomic_load(&seen.ready_count), (int)sizeof(bytes));
    CHECK_EQUAL(close(pipes[1]), 0);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&seen.closed_error), 0);
    /* The descriptor stays the user's. */
    CHECK(fcntl(pipes[0], F_GETFD) >= 0);
    CHECK_EQUAL(close(pipes[0]), 0);
    end_loop();
}

static void other_events(void **state)
{
    rondo_poller *poller;
    int sockets[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    memset(&seen, 0, sizeof(seen));
    seen.fd = sockets[0];
    CHECK_EQUAL(rondo_poller_create(loop, sockets[0], POLLIN, &handlers, &seen, &poller), 0);
    CHECK_EQUAL(rondo_poller_set_events(poller, 1U << 30), -EINVAL);
    test_pass_time(5);
    CHECK_EQUAL(rondo_poller_set_events(poller, POLLOUT), 0);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&seen.events), POLLOUT);
    end_loop();
    close(sockets[0]);
    close(sockets[1]);
}

static void ends_of_a_poller(void **state)
{
    rondo_poller *poller;
    int pipes[2];

    (void)state;
    CHECK_EQUAL(pipe(pipes), 0);
    for (int round = 0; round < 4; round++) {
        loop = loop_begin(NULL);
        memset(&seen, 0, sizeof(seen));
        seen.fd = pipes[0];
        CHECK_EQUAL(rondo_poller_create(loop, pipes[0], POLLIN, &handlers, &seen, &poller), 0);
        if (round > 0)
            test_pass_time(2);
        if (round < 2) {
            CHECK_EQUAL(rondo_poller_close(poller), 0);
            WAIT_UNTIL(atomic_load(&seen.closed_count) == 1, 5000);
        } else if (round == 2) {
            CHECK_EQUAL(rondo_loop_stop(loop), 0);
        }
        CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
        CHECK_EQUAL(rondo_loop_wait(loop), 0);
        CHECK_EQUAL(atomic_load(&seen.closed_count), 1);
        CHECK_EQUAL(atomic_load(&seen.closed_error), round == 2 ? -ECANCELED : 0);
        CHECK_EQUAL(rondo_poller_create(loop, pipes[0], POLLIN, &handlers, &seen, &poller),
                    -ESHUTDOWN);
        rondo_loop_free(loop);
    }
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments),         cmocka_unit_test(once),
        cmocka_unit_test(cancels_and_deadlines), cmocka_unit_test(cancel_before_start),
        cmocka_unit_test(level_triggered),       cmocka_unit_test(other_events),
        cmocka_unit_test(ends_of_a_poller),
    };

    (void)test_begin("polls");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
