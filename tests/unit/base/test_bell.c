/* The doorbell: ringing makes its descriptor readable, a debt is paid once, by one. */
#include "support.h"

#include "bell.h"

#include <fcntl.h>
#include <poll.h>

static bool is_readable(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};

    return poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN);
}

static _Atomic uint32_t rings;

static int count_ring(int fd)
{
    (void)add_relaxed(&rings, 1); /* Relaxed: read after a join. */
    return sys_real.event_ring(fd);
}

static void ringing_makes_the_descriptor_readable(void **state)
{
    /* Goal: a poll on the bell ends when it is rung. Method: poll without waiting, before and
     * after, also after a second ring. */
    struct bell bell;

    (void)state;
    assert_int_equal(bell_init(&bell), 0);
    assert_false(is_readable(bell.fd));
    bell_ring(&bell);
    assert_true(is_readable(bell.fd));
    bell_ring(&bell);
    assert_true(is_readable(bell.fd));
    bell_fini(&bell);
}

static void paying_without_a_debt_rings_nothing(void **state)
{
    /* Goal: no system call where nothing is owed. Method: count the rings. */
    struct bell bell;

    (void)state;
    store_relaxed(&rings, 0);
    sys.event_ring = count_ring;
    assert_int_equal(bell_init(&bell), 0);
    bell_pay(&bell);
    assert_int_equal(load_relaxed(&rings), 0);
    bell_fini(&bell);
}

static void several_debts_are_paid_with_one_ring(void **state)
{
    /* Goal: what several replies owe costs one ring. Method: owe three times, pay twice. */
    struct bell bell;

    (void)state;
    store_relaxed(&rings, 0);
    sys.event_ring = count_ring;
    assert_int_equal(bell_init(&bell), 0);
    for (int i = 0; i < 3; i++)
        bell_owe(&bell);
    assert_false(is_readable(bell.fd));
    bell_pay(&bell);
    bell_pay(&bell);
    assert_int_equal(load_relaxed(&rings), 1);
    assert_true(is_readable(bell.fd));
    bell_fini(&bell);
}

enum { PAYERS = 4 };

struct race {
    struct bell bell;
    struct barrier barrier;
    uint32_t rounds;
};

static void *pay_rounds(void *arg)
{
    struct race *race = arg;

    for (uint32_t i = 0; i < race->rounds; i++) {
        barrier_meet(&race->barrier);
        bell_pay(&race->bell);
        barrier_meet(&race->barrier);
    }
    return NULL;
}

static void one_of_several_payers_rings(void **state)
{
    /* Goal: worker and watch may pay at once, and one ring comes of it. Method: in each round one
     * debt, and four threads that pay it together. */
    struct race race = {.barrier.count = PAYERS + 1, .rounds = test_count(2000)};
    pthread_t threads[PAYERS];

    (void)state;
    store_relaxed(&rings, 0);
    sys.event_ring = count_ring;
    assert_int_equal(bell_init(&race.bell), 0);
    for (uint32_t i = 0; i < PAYERS; i++)
        threads[i] = thread_start(pay_rounds, &race);
    for (uint32_t i = 0; i < race.rounds; i++) {
        bell_owe(&race.bell);
        barrier_meet(&race.barrier);
        barrier_meet(&race.barrier);
    }
    for (uint32_t i = 0; i < PAYERS; i++)
        thread_join(threads[i]);
    assert_int_equal(load_relaxed(&rings), race.rounds);
    bell_fini(&race.bell);
}

static void fini_closes_once(void **state)
{
    /* Goal: the descriptor is closed, and a second fini does not close a stranger's. Method: look
     * at the descriptor, then at one that took its number. */
    struct bell bell;
    struct bell stranger;

    (void)state;
    assert_int_equal(bell_init(&bell), 0);
    int fd = bell.fd;
    bell_fini(&bell);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(bell_init(&stranger), 0);
    bell_fini(&bell);
    assert_int_not_equal(fcntl(stranger.fd, F_GETFD), -1);
    bell_fini(&stranger);
}

static int no_event(void)
{
    return -EMFILE;
}

static void init_without_a_descriptor_reports_it(void **state)
{
    /* Goal: the error of the system is returned, and fini has nothing to do. */
    struct bell bell;

    (void)state;
    sys.event_create = no_event;
    assert_int_equal(bell_init(&bell), -EMFILE);
    bell_fini(&bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ringing_makes_the_descriptor_readable),
        cmocka_unit_test_teardown(paying_without_a_debt_rings_nothing, sys_restore),
        cmocka_unit_test_teardown(several_debts_are_paid_with_one_ring, sys_restore),
        cmocka_unit_test_teardown(one_of_several_payers_rings, sys_restore),
        cmocka_unit_test(fini_closes_once),
        cmocka_unit_test_teardown(init_without_a_descriptor_reports_it, sys_restore),
    };

    return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}
