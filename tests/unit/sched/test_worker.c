/* A worker: who it is, what it picks, what it owes, and what it does when its queue is full. */
#include "pool_support.h"

#include "strand.h"

static struct test_pool test;

/* A pool whose watch is asked for and never ticks, so that nobody interferes. */
static void unwatched_start(uint32_t workers)
{
    test_pool_init(&test, workers, workers);
    int error = pool_start(&test.pool);
    THREAD_CHECK(error == 0);
}

static void unwatched_stop(void)
{
    pool_stop(&test.pool);
    pool_fini(&test.pool);
}

/* Runs a function of the test on a worker. */
struct on_worker {
    struct runnable runnable;
    void (*body)(void);
    struct counter *done;
};

static void on_worker_run(struct runnable *runnable)
{
    struct on_worker *work = container_of(runnable, struct on_worker, runnable);

    work->body();
    counter_add(work->done, 1);
}

static void run_on_worker(void (*body)(void))
{
    struct counter done = {0};
    struct on_worker work = {{.run = on_worker_run}, body, &done};

    pool_post(&test.pool, &work.runnable);
    counter_wait(&done, 1);
    /* The counter lives here: let its last user leave it. */
    test_pool_wait_idle(&test);
}

static void check_self(void)
{
    struct worker *worker = worker_self();

    THREAD_CHECK(worker);
    THREAD_CHECK(worker->pool == &test.pool);
    THREAD_CHECK(worker == pool_worker(&test.pool, worker->slot));
}

static void a_worker_knows_itself(void **state)
{
    /* Goal: the worker of this thread, and none on other threads. */
    (void)state;
    unwatched_start(1);
    assert_null(worker_self());
    run_on_worker(check_self);
    assert_null(worker_self());
    unwatched_stop();
}

enum { MANY = 1000 };

static struct counted many[MANY];
static struct counter many_total;

static void post_many(void)
{
    for (uint32_t i = 0; i < MANY; i++) {
        counted_init(&many[i], &many_total);
        pool_post(&test.pool, &many[i].runnable);
    }
}

static void a_full_queue_spills_into_the_shared_one(void **state)
{
    /* Goal: nothing is refused and nothing runs twice. Method: one callback posts four times what
     * its worker's queue can hold, alone and with a thief beside it. */
    (void)state;
    for (uint32_t workers = 1; workers <= 2; workers++) {
        store_relaxed(&many_total.value, 0);
        unwatched_start(workers);
        run_on_worker(post_many);
        counter_wait(&many_total, MANY);
        unwatched_stop();
        for (uint32_t i = 0; i < MANY; i++)
            assert_int_equal(load_relaxed(&many[i].runs), 1);
    }
}

static struct journal journal;
static struct noted notes[MANY];
static uint32_t notes_count;
static struct counter notes_total;

static void post_notes(void)
{
    for (uint32_t i = 0; i < notes_count; i++) {
        noted_init(&notes[i], &journal, &notes_total, i);
        pool_post(&test.pool, &notes[i].runnable);
    }
}

/* Post @count from a callback, on a pool of one worker, and compare the order of the runs. */
static void check_order(uint32_t count)
{
    journal.count = 0;
    notes_count = count;
    store_relaxed(&notes_total.value, 0);
    unwatched_start(1);
    run_on_worker(post_notes);
    counter_wait(&notes_total, count);
    unwatched_stop();
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(journal.entries[i], i);
}

static void its_own_queue_is_first_in_first_out(void **state)
{
    /* Goal: callbacks posted on a worker start in order there. */
    (void)state;
    check_order(200);
}

static void a_queue_that_spills_keeps_the_order_of_the_posts(void **state)
{
    /* Goal: "callbacks posted by one thread start in the order of the calls" holds for more than
     * the worker's own queue can hold. Method: one callback posts 1,000 on the only worker. */
    (void)state;
    check_order(MANY);
}

/* Posts itself again until it may end. */
struct chain_reaction {
    struct runnable runnable;
    struct counted other;
    struct counter total;
    uint32_t runs;
    uint32_t runs_max;
    struct counter done;
};

static void reaction_run(struct runnable *runnable)
{
    struct chain_reaction *reaction = container_of(runnable, struct chain_reaction, runnable);

    if (reaction->runs == 0)
        pool_yield(&test.pool, &reaction->other.runnable);
    if (counter_read(&reaction->total) > 0 || reaction->runs == reaction->runs_max) {
        counter_add(&reaction->done, 1);
        return;
    }
    reaction->runs++;
    pool_post(&test.pool, &reaction->runnable);
}

static void callbacks_that_post_each_other_do_not_starve_the_rest(void **state)
{
    /* Goal: a regular look at the shared queue. Method: one worker, a callback that always posts
     * itself on its own queue; one in the shared queue must run within 64 rounds. */
    static struct chain_reaction reaction;

    (void)state;
    memset(&reaction, 0, sizeof(reaction));
    reaction.runnable.run = reaction_run;
    reaction.runs_max = 100000;
    counted_init(&reaction.other, &reaction.total);
    unwatched_start(1);
    pool_post(&test.pool, &reaction.runnable);
    counter_wait(&reaction.done, 1);
    unwatched_stop();
    assert_int_equal(counter_read(&reaction.total), 1);
    assert_in_range(reaction.runs, 1, 64);
}

/* ---- bells ---- */

static struct bell bell;
static struct counter rings;

static int count_ring(int fd)
{
    counter_add(&rings, 1);
    return sys_real.event_ring(fd);
}

static void belled_start(void)
{
    store_relaxed(&rings.value, 0);
    sys.event_ring = count_ring;
    test_pool_init(&test, 1, 1);
    int error = bell_init(&bell);
    THREAD_CHECK(error == 0);
    test.pool.bells[0] = &bell;
    test.pool.bell_count = 1;
    /* As if the watch ticked: debts are allowed. */
    store_relaxed(&test.pool.watching, true);
    error = pool_start(&test.pool);
    THREAD_CHECK(error == 0);
}

static void belled_stop(void)
{
    unwatched_stop();
    bell_fini(&bell);
}

static void from_outside_a_bell_rings_at_once(void **state)
{
    /* Goal: no debt on a thread that will not pay. */
    (void)state;
    belled_start();
    pool_ring(&test.pool, &bell);
    assert_int_equal(counter_read(&rings), 1);
    belled_stop();
}

static void ring_with_nothing_more_to_run(void)
{
    pool_ring(&test.pool, &bell);
    THREAD_CHECK(counter_read(&rings) == 1);
}

static void a_worker_with_nothing_more_to_run_rings_at_once(void **state)
{
    /* Goal: a lonely reply does not wait. */
    (void)state;
    belled_start();
    run_on_worker(ring_with_nothing_more_to_run);
    belled_stop();
    assert_int_equal(counter_read(&rings), 1);
}

enum { REPLIES = 10 };

struct reply {
    struct runnable runnable;
    struct counter *total;
};

static struct reply replies[REPLIES];
static struct counter replies_total;

static void reply_run(struct runnable *runnable)
{
    struct reply *reply = container_of(runnable, struct reply, runnable);
    bool last = reply == &replies[REPLIES - 1];

    pool_ring(&test.pool, &bell);
    THREAD_CHECK(counter_read(&rings) == (last ? 1 : 0));
    counter_add(reply->total, 1);
}

static void post_replies(void)
{
    for (uint32_t i = 0; i < REPLIES; i++) {
        replies[i] = (struct reply){{.run = reply_run}, &replies_total};
        pool_post(&test.pool, &replies[i].runnable);
    }
}

static void replies_of_a_batch_share_a_ring(void **state)
{
    /* Goal: a debt while more is to run, paid at the end of the batch. Method: ten callbacks in one
     * worker's queue ring; the last finds the queue empty and rings at once, and the debt of the
     * others costs one more. */
    (void)state;
    store_relaxed(&replies_total.value, 0);
    belled_start();
    run_on_worker(post_replies);
    counter_wait(&replies_total, REPLIES);
    belled_stop();
    assert_in_range(counter_read(&rings), 1, 2);
    assert_false(load_relaxed(&bell.owed));
}

static struct counted follower;
static struct counter followed;

static void owe_and_go_idle(void)
{
    counted_init(&follower, &followed);
    pool_post(&test.pool, &follower.runnable);
    pool_ring(&test.pool, &bell);
    THREAD_CHECK(counter_read(&rings) == 0);
}

static void a_debt_is_paid_before_the_worker_sleeps(void **state)
{
    /* Goal: no lane sleeps over a reply. Method: a callback owes, one more runs, nothing else
     * comes; the ring must come by itself, once. */
    (void)state;
    store_relaxed(&followed.value, 0);
    belled_start();
    run_on_worker(owe_and_go_idle);
    counter_wait(&rings, 1);
    belled_stop();
    assert_int_equal(counter_read(&rings), 1);
    assert_int_equal(counter_read(&followed), 1);
}

/* ---- life ---- */

static int no_thread(pthread_t *ret_thread, void *(*body)(void *), void *arg)
{
    (void)ret_thread;
    (void)body;
    (void)arg;
    return -EAGAIN;
}

static void a_worker_without_a_thread_is_absent(void **state)
{
    /* Goal: a start that failed leaves nothing to join. */
    struct worker *worker = sys.alloc_aligned(sizeof(*worker));

    (void)state;
    assert_non_null(worker);
    sys.thread_create = no_thread;
    assert_int_equal(worker_start(worker), -EAGAIN);
    assert_int_equal(load_relaxed(&worker->life), WORKER_ABSENT);
    sys.release(worker);
}

static void a_spinning_worker_misses_nothing(void **state)
{
    /* Goal: the look before the sleep. Method: a worker that spins for a while, and work that comes
     * one by one, each when the last was done. */
    struct counter total = {0};
    struct counted work;

    (void)state;
    test_pool_init(&test, 1, 1);
    test.pool.options.spin_ns = 100 * NS_PER_US;
    assert_int_equal(pool_start(&test.pool), 0);
    for (uint32_t i = 1; i <= test_count(5000); i++) {
        counted_init(&work, &total);
        pool_post(&test.pool, &work.runnable);
        counter_wait(&total, i);
    }
    unwatched_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_knows_itself),
        cmocka_unit_test(a_full_queue_spills_into_the_shared_one),
        cmocka_unit_test(its_own_queue_is_first_in_first_out),
        cmocka_unit_test(a_queue_that_spills_keeps_the_order_of_the_posts),
        cmocka_unit_test(callbacks_that_post_each_other_do_not_starve_the_rest),
        cmocka_unit_test_teardown(from_outside_a_bell_rings_at_once, sys_restore),
        cmocka_unit_test_teardown(a_worker_with_nothing_more_to_run_rings_at_once, sys_restore),
        cmocka_unit_test_teardown(replies_of_a_batch_share_a_ring, sys_restore),
        cmocka_unit_test_teardown(a_debt_is_paid_before_the_worker_sleeps, sys_restore),
        cmocka_unit_test_teardown(a_worker_without_a_thread_is_absent, sys_restore),
        cmocka_unit_test(a_spinning_worker_misses_nothing),
    };

    return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
