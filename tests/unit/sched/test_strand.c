/* Strands: in order, one at a time, fair to others, and gone with the last reference. */
#include "pool_support.h"

#include "strand.h"

static struct test_pool test;

struct destroyed_strand {
    struct strand strand;
    struct counter destroyed;
};

static void count_destroyed(struct strand *strand)
{
    counter_add(&container_of(strand, struct destroyed_strand, strand)->destroyed, 1);
}

static void strand_start(struct destroyed_strand *strand)
{
    memset(strand, 0, sizeof(*strand));
    strand_init(&strand->strand, &test.pool, count_destroyed);
}

/* ---- order ---- */

enum { ORDER_EVENTS = 1000 };

static void events_run_in_the_order_of_their_posts(void **state)
{
    /* Goal: FIFO over many turns. Method: 1,000 events to a pool of three workers. */
    static struct journal journal;
    static struct noted events[ORDER_EVENTS];
    struct destroyed_strand strand;
    struct counter total = {0};

    (void)state;
    journal.count = 0;
    test_pool_start(&test, 3, 3);
    strand_start(&strand);
    for (uint32_t i = 0; i < ORDER_EVENTS; i++) {
        noted_init(&events[i], &journal, &total, i);
        strand_post(&strand.strand, &events[i].runnable);
    }
    counter_wait(&total, ORDER_EVENTS);
    strand_unref(&strand.strand);
    counter_wait(&strand.destroyed, 1);
    test_pool_stop(&test);
    for (uint32_t i = 0; i < ORDER_EVENTS; i++)
        assert_int_equal(journal.entries[i], i);
}

/* ---- mutual exclusion ---- */

enum { POSTERS = 4, POSTS = 25000 };

struct shared {
    struct destroyed_strand strand;
    uint64_t sum;           /* not atomic: the strand protects it */
    uint32_t next[POSTERS]; /* so is this */
    struct counter done;
    uint32_t posts;
    struct posted *events[POSTERS];
    _Atomic uint32_t next_poster;
};

struct posted {
    struct runnable runnable;
    struct shared *shared;
    uint32_t poster;
    uint32_t sequence;
};

static void posted_run(struct runnable *runnable)
{
    struct posted *event = container_of(runnable, struct posted, runnable);
    struct shared *shared = event->shared;

    THREAD_CHECK(shared->next[event->poster] == event->sequence);
    shared->next[event->poster]++;
    if (++shared->sum == (uint64_t)POSTERS * shared->posts)
        counter_add(&shared->done, 1);
}

static void *post_events(void *arg)
{
    struct shared *shared = arg;
    uint32_t poster = add_relaxed(&shared->next_poster, 1);

    for (uint32_t i = 0; i < shared->posts; i++) {
        struct posted *event = &shared->events[poster][i];
        *event = (struct posted){{.run = posted_run}, shared, poster, i};
        strand_post(&shared->strand.strand, &event->runnable);
    }
    return NULL;
}

static void events_of_one_strand_never_overlap(void **state)
{
    /* Goal: a plain number needs no lock. Method: four threads post, four workers run; the number
     * and the order of each poster must be right. */
    struct shared *shared = test_alloc(1, sizeof(*shared));
    pthread_t threads[POSTERS];

    (void)state;
    test_pool_start(&test, 4, 4);
    strand_start(&shared->strand);
    shared->posts = test_count(POSTS);
    for (uint32_t i = 0; i < POSTERS; i++)
        shared->events[i] = test_alloc(shared->posts, sizeof(struct posted));
    for (uint32_t i = 0; i < POSTERS; i++)
        threads[i] = thread_start(post_events, shared);
    for (uint32_t i = 0; i < POSTERS; i++)
        thread_join(threads[i]);
    counter_wait(&shared->done, 1);
    strand_unref(&shared->strand.strand);
    counter_wait(&shared->strand.destroyed, 1);
    test_pool_stop(&test);
    assert_int_equal(shared->sum, (uint64_t)POSTERS * shared->posts);
    for (uint32_t i = 0; i < POSTERS; i++)
        free(shared->events[i]);
    free(shared);
}

/* ---- fairness ---- */

enum { BUSY_EVENTS = 3 * STRAND_BUDGET };

static void a_busy_strand_lets_another_run_in_between(void **state)
{
    /* Goal: the budget. Method: one worker, held until a strand with three budgets of events and
     * one with a single event are ready; the single one must run after the first budget. */
    static struct journal journal;
    static struct noted events[BUSY_EVENTS + 1];
    struct destroyed_strand busy;
    struct destroyed_strand other;
    struct counter total = {0};
    struct counter entered = {0};
    struct counter gate = {0};
    struct blocker blocker;
    uint32_t position = 0;

    (void)state;
    journal.count = 0;
    test_pool_start(&test, 1, 1);
    strand_start(&busy);
    strand_start(&other);
    blocker_init(&blocker, &entered, &gate, &total);
    pool_post(&test.pool, &blocker.runnable);
    counter_wait(&entered, 1);
    for (uint32_t i = 0; i <= BUSY_EVENTS; i++) {
        noted_init(&events[i], &journal, &total, i);
        strand_post(i < BUSY_EVENTS ? &busy.strand : &other.strand, &events[i].runnable);
    }
    counter_add(&gate, 1);
    counter_wait(&total, BUSY_EVENTS + 2);
    strand_unref(&busy.strand);
    strand_unref(&other.strand);
    test_pool_stop(&test);
    while (journal.entries[position] != BUSY_EVENTS)
        position++;
    assert_in_range(position, 1, STRAND_BUDGET);
    for (uint32_t i = 0; i <= BUSY_EVENTS; i++)
        if (i != position)
            assert_int_equal(journal.entries[i], i < position ? i : i - 1);
}

/* ---- references ---- */

struct last_event {
    struct runnable runnable;
    struct strand *strand;
    struct counter *destroyed;
    struct counter *ran;
    bool unref;
};

static void last_event_run(struct runnable *runnable)
{
    struct last_event *event = container_of(runnable, struct last_event, runnable);

    THREAD_CHECK(counter_read(event->destroyed) == 0);
    strand_ref(event->strand);
    strand_unref(event->strand);
    if (event->unref)
        strand_unref(event->strand);
    THREAD_CHECK(counter_read(event->destroyed) == 0);
    counter_add(event->ran, 1);
}

static void the_last_reference_dropped_inside_an_event(void **state)
{
    /* Goal: a strand outlives the event that lets go of it, and what was posted after that event.
     * Method: three events, the first drops the creator's reference. */
    struct destroyed_strand strand;
    struct last_event events[3];
    struct counter entered = {0};
    struct counter gate = {0};
    struct counter left = {0};
    struct counter ran = {0};
    struct blocker blocker;

    (void)state;
    test_pool_start(&test, 2, 2);
    strand_start(&strand);
    blocker_init(&blocker, &entered, &gate, &left);
    strand_post(&strand.strand, &blocker.runnable);
    counter_wait(&entered, 1);
    for (uint32_t i = 0; i < 3; i++) {
        events[i] = (struct last_event){
            {.run = last_event_run}, &strand.strand, &strand.destroyed, &ran, i == 0};
        strand_post(&strand.strand, &events[i].runnable);
    }
    counter_add(&gate, 1);
    counter_wait(&strand.destroyed, 1);
    assert_int_equal(counter_read(&ran), 3);
    test_pool_stop(&test);
    assert_int_equal(counter_read(&strand.destroyed), 1);
}

static void an_idle_strand_goes_with_its_creator(void **state)
{
    /* Goal: destroyed by the last one to let go, once, at once. */
    struct destroyed_strand strand;

    (void)state;
    test_pool_init(&test, 1, 1);
    strand_start(&strand);
    strand_ref(&strand.strand);
    strand_unref(&strand.strand);
    assert_int_equal(counter_read(&strand.destroyed), 0);
    strand_unref(&strand.strand);
    assert_int_equal(counter_read(&strand.destroyed), 1);
    pool_fini(&test.pool);
}

static void push_tells_who_must_schedule(void **state)
{
    /* Goal: a lane that gathers strands gets each of them once. Method: two pushes, the first says
     * yes and holds a reference for the turn to come. */
    struct destroyed_strand strand;
    struct counter total = {0};
    struct counted events[2];

    (void)state;
    test_pool_init(&test, 1, 1);
    strand_start(&strand);
    counted_init(&events[0], &total);
    counted_init(&events[1], &total);
    assert_true(strand_push(&strand.strand, &events[0].runnable));
    assert_false(strand_push(&strand.strand, &events[1].runnable));
    assert_int_equal(load_relaxed(&strand.strand.refs), 2);
    strand_unref(&strand.strand);
    assert_int_equal(pool_start(&test.pool), 0);
    pool_post(&test.pool, &strand.strand.runnable);
    counter_wait(&strand.destroyed, 1);
    assert_int_equal(counter_read(&total), 2);
    pool_stop(&test.pool);
    pool_fini(&test.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_run_in_the_order_of_their_posts),
        cmocka_unit_test(events_of_one_strand_never_overlap),
        cmocka_unit_test(a_busy_strand_lets_another_run_in_between),
        cmocka_unit_test(the_last_reference_dropped_inside_an_event),
        cmocka_unit_test(an_idle_strand_goes_with_its_creator),
        cmocka_unit_test(push_tells_who_must_schedule),
    };

    return cmocka_run_group_tests_name("strand", tests, NULL, NULL);
}
