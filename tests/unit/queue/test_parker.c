/* The parker: its word after each step, who is woken, and that nobody sleeps over work. */
#include "support.h"

#include "parker.h"
#include "ready_queue.h"

#include <sys/syscall.h>
#include <unistd.h>

static uint32_t word_of(struct parker *parker)
{
    return load_acquire(&parker->word); /* Pairs with every change of the word. */
}

static void announce_and_leave_restore_the_word(void **state)
{
    /* Goal: a worker that found work after all leaves no trace. */
    struct parker parker = {0};

    (void)state;
    parker_announce(&parker, false);
    parker_announce(&parker, false);
    assert_int_equal(word_of(&parker), 2);
    assert_int_equal(parker_idle_count(&parker), 2);
    assert_false(parker_leave(&parker));
    assert_false(parker_leave(&parker));
    assert_int_equal(word_of(&parker), 0);
}

/* How many were woken for @count pieces of work; with those on their way they must be @coming. */
static uint32_t wake(struct parker *parker, uint32_t count, uint32_t coming)
{
    uint32_t word = word_of(parker);
    uint32_t before = (word & PARKER_TOKEN_MASK) / PARKER_TOKEN + (word & PARKER_SEARCHING ? 1 : 0);
    uint32_t woken = parker_wake(parker, count);

    THREAD_CHECK(before + woken == coming);
    return woken;
}

static void wake_turns_idle_workers_into_tokens(void **state)
{
    /* Goal: at most as many as asked and as are idle, each announced once. Method: wakes of every
     * size at three idle workers, the word after each. */
    struct parker parker = {0};

    (void)state;
    assert_int_equal(wake(&parker, 5, 0), 0);
    assert_int_equal(word_of(&parker), 0);
    for (int i = 0; i < 3; i++)
        parker_announce(&parker, false);
    assert_int_equal(wake(&parker, 0, 0), 0);
    assert_int_equal(wake(&parker, 1, 1), 1);
    assert_int_equal(word_of(&parker), PARKER_TOKEN + 2);
    assert_int_equal(wake(&parker, 10, 3), 2);
    assert_int_equal(word_of(&parker), 3 * PARKER_TOKEN);
    assert_int_equal(parker_idle_count(&parker), 0);
    for (int i = 0; i < 3; i++)
        assert_true(parker_leave(&parker));
    assert_int_equal(word_of(&parker), 0);
}

static void who_comes_already_is_not_woken_again(void **state)
{
    /* Goal: a token that nobody took yet counts. Method: three idle, one on its way. */
    struct parker parker = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        parker_announce(&parker, false);
    assert_int_equal(wake(&parker, 1, 1), 1);
    assert_int_equal(wake(&parker, 1, 1), 0);
    assert_int_equal(wake(&parker, 2, 2), 1);
    assert_true(parker_leave(&parker));
    assert_int_equal(wake(&parker, 2, 2), 1);
    assert_int_equal(word_of(&parker), 2 * PARKER_TOKEN);
}

static void one_worker_searches_and_counts_as_coming(void **state)
{
    /* Goal: the searcher is alone, stands for one that comes, and becomes idle in one step. */
    struct parker parker = {0};

    (void)state;
    assert_true(parker_search(&parker));
    assert_false(parker_search(&parker));
    assert_int_equal(word_of(&parker), PARKER_SEARCHING);
    assert_int_equal(wake(&parker, 1, 1), 0);
    parker_announce(&parker, true);
    assert_int_equal(word_of(&parker), 1);
    assert_true(parker_search(&parker));
    assert_int_equal(wake(&parker, 2, 2), 1);
    parker_search_end(&parker);
    assert_int_equal(word_of(&parker), PARKER_TOKEN);
    assert_true(parker_leave(&parker));
}

static void a_token_ends_a_sleep_before_it_begins(void **state)
{
    /* Goal: a wake between the announcement and the sleep is not lost. */
    struct parker parker = {0};

    (void)state;
    parker_announce(&parker, false);
    assert_int_equal(wake(&parker, 1, 1), 1);
    assert_int_equal(parker_sleep(&parker, PARKER_REGULAR, DEADLINE_NEVER), PARK_WOKEN);
    assert_int_equal(word_of(&parker), 0);
}

static void a_timeout_takes_the_announcement_back(void **state)
{
    /* Goal: who gives up is not counted any more, and gave up no earlier than allowed. */
    struct parker parker = {0};
    uint64_t begin_ns = clock_now_ns();

    (void)state;
    parker_announce(&parker, false);
    assert_int_equal(parker_sleep(&parker, PARKER_SURPLUS, begin_ns + 2 * NS_PER_MS),
                     PARK_TIMED_OUT);
    assert_true(clock_now_ns() - begin_ns >= 2 * NS_PER_MS);
    assert_int_equal(word_of(&parker), 0);
}

static struct parker *woken_late;

static int wake_then_time_out(const void *word, uint32_t expected, uint32_t mask,
                              uint64_t timeout_ns)
{
    (void)word;
    (void)expected;
    (void)mask;
    (void)timeout_ns;
    THREAD_CHECK(wake(woken_late, 1, 1) == 1);
    return -ETIMEDOUT;
}

static void a_token_granted_at_the_timeout_is_taken_along(void **state)
{
    /* Goal: work given to a worker that is about to retire is not forgotten. Method: the sleep
     * itself is replaced; it grants the token and then says that time is up. */
    struct parker parker = {0};

    (void)state;
    woken_late = &parker;
    sys.futex_wait = wake_then_time_out;
    parker_announce(&parker, false);
    assert_int_equal(parker_sleep(&parker, PARKER_SURPLUS, 1), PARK_WOKEN);
    assert_int_equal(word_of(&parker), 0);
}

static void a_closed_parker_lets_nobody_sleep(void **state)
{
    /* Goal: after close a sleep ends at once, again and again, and the count stays right. */
    struct parker parker = {0};

    (void)state;
    parker_close(&parker);
    assert_int_equal(word_of(&parker), PARKER_CLOSED);
    for (int i = 0; i < 3; i++) {
        parker_announce(&parker, false);
        assert_int_equal(parker_sleep(&parker, PARKER_REGULAR, DEADLINE_NEVER), PARK_CLOSED);
        assert_int_equal(word_of(&parker), PARKER_CLOSED);
    }
}

static struct {
    uint32_t count;
    uint32_t mask;
} wakes[4];
static uint32_t wake_calls;
static int regular_sleepers;

static int record_wake(const void *word, uint32_t count, uint32_t mask)
{
    (void)word;
    THREAD_CHECK(wake_calls < ARRAY_SIZE(wakes));
    wakes[wake_calls].count = count;
    wakes[wake_calls].mask = mask;
    wake_calls++;
    return mask == PARKER_REGULAR && (int)count > regular_sleepers ? regular_sleepers : (int)count;
}

static void surplus_workers_get_only_the_rest(void **state)
{
    /* Goal: regular sleepers first. Method: the wake is replaced by one that finds two regular
     * sleepers; look at what it was asked for. */
    struct parker parker = {0};

    (void)state;
    sys.futex_wake = record_wake;
    regular_sleepers = 2;
    wake_calls = 0;
    for (int i = 0; i < 5; i++)
        parker_announce(&parker, false);
    assert_int_equal(wake(&parker, 2, 2), 2);
    assert_int_equal(wake_calls, 1);
    assert_int_equal(wakes[0].count, 2);
    assert_int_equal(wakes[0].mask, PARKER_REGULAR);
    assert_int_equal(wake(&parker, 5, 5), 3);
    assert_int_equal(wake_calls, 3);
    assert_int_equal(wakes[1].count, 3);
    assert_int_equal(wakes[1].mask, PARKER_REGULAR);
    assert_int_equal(wakes[2].count, 1);
    assert_int_equal(wakes[2].mask, PARKER_SURPLUS);
}

/* ---- real sleepers ---- */

struct bedroom;

struct sleeper {
    struct bedroom *room;
    enum parker_rank rank;
    _Atomic int tid;
    enum park_outcome outcome;
    pthread_t thread;
};

struct bedroom {
    struct parker parker;
    struct counter up[3]; /* by rank */
};

static void *sleep_once(void *arg)
{
    struct sleeper *sleeper = arg;

    parker_announce(&sleeper->room->parker, false);
    /* Release pairs with the acquire in sleeper_start(). */
    store_release(&sleeper->tid, (int)syscall(SYS_gettid));
    sleeper->outcome = parker_sleep(&sleeper->room->parker, sleeper->rank, DEADLINE_NEVER);
    counter_add(&sleeper->room->up[sleeper->rank], 1);
    return NULL;
}

/* The state of one of our threads as the kernel shows it; 'S' is asleep. */
static char thread_state(int tid)
{
    char path[64];
    char text[256] = "";

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "r");
    THREAD_CHECK(file);
    (void)!fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' ? end[2] : '?';
}

/* Returns when the thread sleeps. */
static void sleeper_start(struct sleeper *sleeper, struct bedroom *room, enum parker_rank rank)
{
    *sleeper = (struct sleeper){.room = room, .rank = rank};
    sleeper->thread = thread_start(sleep_once, sleeper);
    WAIT_UNTIL(load_acquire(&sleeper->tid) != 0); /* Pairs with the release in sleep_once(). */
    WAIT_UNTIL(thread_state(load_relaxed(&sleeper->tid)) == 'S');
}

static void surplus_sleeps_while_a_regular_sleeper_is_left(void **state)
{
    /* Goal: surplus workers rest and retire. Method: two of each rank asleep, surplus first; of
     * four single wakes the first two must bring the regular ones. */
    struct bedroom room = {0};
    struct sleeper sleepers[4];

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        sleeper_start(&sleepers[i], &room, i < 2 ? PARKER_SURPLUS : PARKER_REGULAR);
    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(wake(&room.parker, 1, 1), 1);
        counter_wait(&room.up[PARKER_REGULAR], i);
        assert_int_equal(counter_read(&room.up[PARKER_SURPLUS]), 0);
    }
    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(wake(&room.parker, 1, 1), 1);
        counter_wait(&room.up[PARKER_SURPLUS], i);
    }
    for (uint32_t i = 0; i < 4; i++) {
        thread_join(sleepers[i].thread);
        assert_int_equal(sleepers[i].outcome, PARK_WOKEN);
    }
    assert_int_equal(word_of(&room.parker), 0);
}

static void close_wakes_sleepers_of_both_ranks(void **state)
{
    /* Goal: nobody sleeps on at the end. */
    struct bedroom room = {0};
    struct sleeper sleepers[4];

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        sleeper_start(&sleepers[i], &room, i % 2 ? PARKER_SURPLUS : PARKER_REGULAR);
    parker_close(&room.parker);
    counter_wait(&room.up[PARKER_REGULAR], 2);
    counter_wait(&room.up[PARKER_SURPLUS], 2);
    for (uint32_t i = 0; i < 4; i++) {
        thread_join(sleepers[i].thread);
        assert_int_equal(sleepers[i].outcome, PARK_CLOSED);
    }
    assert_int_equal(word_of(&room.parker), PARKER_CLOSED);
}

/* ---- everything at once ---- */

enum { WORKERS = 4, PRODUCERS = 3, ITEMS = 150000, BATCH_MAX = 4 };

struct factory {
    struct ready_queue queue;
    struct parker parker;
    struct node *nodes;
    uint32_t per_producer;
    struct counter taken;
    struct counter ended;
    _Atomic uint32_t next_worker;
    _Atomic uint32_t next_producer;
};

/* False: the worker is to end. As a pool's worker parks, but it never retires. */
static bool worker_park(struct factory *factory, enum parker_rank rank)
{
    uint64_t deadline_ns = DEADLINE_NEVER;

    if (rank == PARKER_SURPLUS)
        deadline_ns = clock_now_ns() + NS_PER_MS / 5;

    parker_announce(&factory->parker, false);
    if (!ready_queue_is_empty(&factory->queue)) {
        (void)parker_leave(&factory->parker);
        return true;
    }
    return parker_sleep(&factory->parker, rank, deadline_ns) != PARK_CLOSED ||
           ready_queue_depth(&factory->queue) > 0;
}

static void *work(void *arg)
{
    struct factory *factory = arg;
    uint32_t index = add_relaxed(&factory->next_worker, 1);
    enum parker_rank rank = index < WORKERS - 1 ? PARKER_REGULAR : PARKER_SURPLUS;
    struct node *nodes[BATCH_MAX];

    for (;;) { /* Runs until the parker is closed. */
        uint32_t count = ready_queue_take(&factory->queue, nodes, BATCH_MAX);
        if (count > 0)
            counter_add(&factory->taken, count);
        else if (!worker_park(factory, rank))
            break;
    }
    counter_add(&factory->ended, 1);
    return NULL;
}

static void *produce(void *arg)
{
    struct factory *factory = arg;
    uint32_t producer = add_relaxed(&factory->next_producer, 1);
    struct prng prng = prng_of_thread(producer);
    struct node *nodes = factory->nodes + (size_t)producer * factory->per_producer;

    for (uint32_t made = 0; made < factory->per_producer;) {
        struct chain chain = {0};
        uint32_t size = 1 + prng_below(&prng, BATCH_MAX);
        while (size-- > 0 && made < factory->per_producer)
            chain_append(&chain, &nodes[made++]);
        uint32_t count = chain.count;
        ready_queue_push(&factory->queue, &chain);
        uint32_t woken = parker_wake(&factory->parker, count);
        THREAD_CHECK(woken <= count);
        /* Let the workers run dry now and then: going to sleep is what is tested. */
        for (uint32_t pause = prng_below(&prng, 400); pause > 0; pause--)
            cpu_relax();
    }
    return NULL;
}

static void no_work_is_slept_over(void **state)
{
    /* Goal: a push is never missed by all workers at once. Method: three producers with random
     * pauses, four workers that park as those of the pool do; the count must be reached. */
    static struct factory factory;
    pthread_t workers[WORKERS];
    pthread_t producers[PRODUCERS];

    (void)state;
    (void)prng_start(99);
    ready_queue_init(&factory.queue);
    factory.per_producer = test_count(ITEMS) / PRODUCERS;
    factory.nodes = test_alloc((size_t)PRODUCERS * factory.per_producer, sizeof(struct node));
    for (uint32_t i = 0; i < WORKERS; i++)
        workers[i] = thread_start(work, &factory);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        producers[i] = thread_start(produce, &factory);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        thread_join(producers[i]);
    counter_wait(&factory.taken, PRODUCERS * factory.per_producer);
    parker_close(&factory.parker);
    counter_wait(&factory.ended, WORKERS);
    for (uint32_t i = 0; i < WORKERS; i++)
        thread_join(workers[i]);
    assert_int_equal(counter_read(&factory.taken), PRODUCERS * factory.per_producer);
    assert_int_equal(word_of(&factory.parker), PARKER_CLOSED);
    ready_queue_fini(&factory.queue);
    free(factory.nodes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(announce_and_leave_restore_the_word),
        cmocka_unit_test(wake_turns_idle_workers_into_tokens),
        cmocka_unit_test(who_comes_already_is_not_woken_again),
        cmocka_unit_test(one_worker_searches_and_counts_as_coming),
        cmocka_unit_test(a_token_ends_a_sleep_before_it_begins),
        cmocka_unit_test(a_timeout_takes_the_announcement_back),
        cmocka_unit_test_teardown(a_token_granted_at_the_timeout_is_taken_along, sys_restore),
        cmocka_unit_test(a_closed_parker_lets_nobody_sleep),
        cmocka_unit_test_teardown(surplus_workers_get_only_the_rest, sys_restore),
        cmocka_unit_test(surplus_sleeps_while_a_regular_sleeper_is_left),
        cmocka_unit_test(close_wakes_sleepers_of_both_ranks),
        cmocka_unit_test(no_work_is_slept_over),
    };

    return cmocka_run_group_tests_name("parker", tests, NULL, NULL);
}
