/* Goal: every callback ends exactly once, and a cancel tells the truth about which way.
 *
 * Method: each operation has a serial, and each serial four bits in a ledger that change only by an
 * atomic "or"; setting a bit that must not be set aborts. Threads outside the loop and callbacks
 * submit callbacks, strand posts and timers of 0 to 2 ms; 30 % of them are cancelled by whichever
 * thread comes by next. At the end of a round each serial has run or was cancelled, never both, and
 * what the cancels said agrees with it. A round in which one side won nearly every race proves
 * nothing, and fails.
 */
#include "support.h"

#include <pthread.h>
#include <sched.h>

enum {
    ROUND_SERIALS = 1000000,
    ROUNDS = 20,
    SUBMITTERS = 3,
    STRANDS = 8,
    CANCEL_SLOTS = 256,
    OUTSTANDING_MAX = 50000,
    SERIALS_PER_WORD = 8,
};

enum { SUBMITTED = 1, RAN = 2, CANCELLED = 4, SAID_RUN = 8 };

static struct {
    rondo_loop *loop;
    rondo_strand *strands[STRANDS];
    atomic_int strand_busy[STRANDS];
    uint64_t seed;
    uint64_t count;

    _Atomic uint64_t next;      /* serial to give out */
    _Atomic uint64_t submitted; /* accepted by the loop */
    _Atomic uint64_t ended;     /* ran or cancelled */
    _Atomic uint64_t not_started;
    _Atomic uint64_t in_flight;
    _Atomic uint64_t finished;
    _Atomic uint64_t slots[CANCEL_SLOTS]; /* serial + 1 of one to cancel */
    _Atomic uint64_t handles[ROUND_SERIALS];
    _Atomic uint32_t ledger[ROUND_SERIALS / SERIALS_PER_WORD];
} round_state;

static uint32_t mark(uint64_t serial, uint32_t bits)
{
    uint32_t shift = (uint32_t)(serial % SERIALS_PER_WORD) * 4;

    return atomic_fetch_or(&round_state.ledger[serial / SERIALS_PER_WORD], bits << shift) >> shift &
           15;
}

static uint32_t bits_of(uint64_t serial)
{
    return mark(serial, 0);
}

static void cancel(uint64_t serial)
{
    rondo_handle handle = {atomic_load(&round_state.handles[serial])};
    uint32_t before = bits_of(serial);
    int outcome = rondo_cancel(handle);

    switch (outcome) {
    case RONDO_CANCEL_NOT_STARTED:
        CHECK_EQUAL(mark(serial, CANCELLED) & (RAN | CANCELLED | SAID_RUN), 0);
        atomic_fetch_add(&round_state.not_started, 1);
        atomic_fetch_add(&round_state.ended, 1);
        CHECK_EQUAL(rondo_cancel(handle), RONDO_CANCEL_FINISHED);
        break;
    case RONDO_CANCEL_IN_FLIGHT:
        CHECK_EQUAL(mark(serial, SAID_RUN) & CANCELLED, 0);
        atomic_fetch_add(&round_state.in_flight, 1);
        break;
    case RONDO_CANCEL_FINISHED:
        /* Said after the callback's effects: the ledger must know already. */
        CHECK(mark(serial, SAID_RUN) & RAN);
        atomic_fetch_add(&round_state.finished, 1);
        break;
    default:
        CHECK_EQUAL(outcome, 0);
    }
    if (before & RAN)
        CHECK(outcome != RONDO_CANCEL_NOT_STARTED);
}

static void on_run(void *ctx);
static void on_strand_run(void *ctx);

static bool submit(uint64_t *random)
{
    uint64_t serial = atomic_fetch_add(&round_state.next, 1);
    uint64_t kind = random_of(round_state.seed, serial) % 10;
    rondo_strand *strand = round_state.strands[serial % STRANDS];
    void *ctx = (void *)(uintptr_t)serial;
    rondo_handle handle = {0};
    int error;

    if (serial >= round_state.count)
        return false;
    CHECK_EQUAL(mark(serial, SUBMITTED), 0);
    if (kind < 4)
        error = rondo_call_soon(round_state.loop, on_run, ctx, &handle);
    else if (kind < 6)
        error = rondo_strand_post(strand, on_strand_run, ctx, &handle);
    else if (kind < 7)
        error = rondo_strand_call_later(strand, random_below(random, 2 * MS), on_strand_run, ctx,
                                        &handle);
    else
        error =
            rondo_call_later(round_state.loop, random_below(random, 2 * MS), on_run, ctx, &handle);
    CHECK_EQUAL(error, 0);
    atomic_store(&round_state.handles[serial], handle.id);
    atomic_fetch_add(&round_state.submitted, 1);
    if (random_below(random, 10) < 3) {
        _Atomic uint64_t *slot = &round_state.slots[random_below(random, CANCEL_SLOTS)];
        uint64_t other = atomic_exchange(slot, serial + 1);
        if (other)
            cancel(other - 1);
    }
    return true;
}

static void on_run(void *ctx)
{
    uint64_t serial = (uintptr_t)ctx;
    uint64_t random = random_of(round_state.seed + 1, serial);

    CHECK_EQUAL(mark(serial, RAN) & (SUBMITTED | RAN | CANCELLED), SUBMITTED);
    if (random_below(&random, 3) == 0)
        (void)submit(&random);
    /* From inside: it is running, if its submitter has told its name by now. */
    rondo_handle self = {atomic_load(&round_state.handles[serial])};
    if (self.id && random_below(&random, 16) == 0)
        CHECK_EQUAL(rondo_cancel(self), RONDO_CANCEL_IN_FLIGHT);
    atomic_fetch_add(&round_state.ended, 1);
}

static void on_strand_run(void *ctx)
{
    atomic_int *busy = &round_state.strand_busy[(uintptr_t)ctx % STRANDS];

    CHECK_EQUAL(atomic_exchange(busy, 1), 0);
    on_run(ctx);
    CHECK_EQUAL(atomic_exchange(busy, 0), 1);
}

static void *submitter(void *arg)
{
    uint64_t random = random_of(round_state.seed + 2, (uintptr_t)arg);

    do {
        while (atomic_load(&round_state.submitted) - atomic_load(&round_state.ended) >
               OUTSTANDING_MAX)
            (void)sched_yield();
    } while (submit(&random));
    return NULL;
}

static void round_begin(uint64_t seed, uint64_t number, uint64_t count)
{
    static const uint32_t worker_counts[] = {1, 2, 4, 8};
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;

    memset(&round_state, 0, sizeof(round_state));
    round_state.seed = random_of(seed, number);
    round_state.count = count;
    options.workers = worker_counts[number % 4];
    round_state.loop = loop_begin(&options);
    for (uint32_t i = 0; i < STRANDS; i++)
        CHECK_EQUAL(rondo_strand_create(round_state.loop, &round_state.strands[i]), 0);
}

static void round_verify(void)
{
    uint64_t ran = 0;
    uint64_t cancelled = 0;

    for (uint64_t serial = 0; serial < round_state.count; serial++) {
        uint32_t bits = bits_of(serial);
        CHECK(bits & SUBMITTED);
        CHECK(!(bits & RAN) != !(bits & CANCELLED));
        ran += (bits & RAN) != 0;
        cancelled += (bits & CANCELLED) != 0;
    }
    CHECK_EQUAL(ran + cancelled, round_state.count);
    CHECK_EQUAL(cancelled, atomic_load(&round_state.not_started));
}

static void round_run(uint64_t seed, uint64_t number, uint64_t count)
{
    pthread_t threads[SUBMITTERS];

    round_begin(seed, number, count);
    for (uintptr_t i = 0; i < SUBMITTERS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, submitter, (void *)i), 0);
    for (uint32_t i = 0; i < SUBMITTERS; i++)
        (void)pthread_join(threads[i], NULL);
    WAIT_UNTIL(atomic_load(&round_state.ended) == round_state.count, 10000);
    for (uint32_t i = 0; i < CANCEL_SLOTS; i++) {
        uint64_t other = atomic_exchange(&round_state.slots[i], 0);
        if (other)
            cancel(other - 1);
    }
    for (uint32_t i = 0; i < STRANDS; i++)
        rondo_strand_unref(round_state.strands[i]);
    CHECK_EQUAL(rondo_loop_stop(round_state.loop), 0);
    CHECK_EQUAL(rondo_loop_wait(round_state.loop), 0);
    round_verify();
    CHECK_EQUAL(loop_stats(round_state.loop).completions_stale, 0);
    rondo_loop_free(round_state.loop);
}

static void every_serial_ends_once_and_cancels_agree(void **state)
{
    (void)state;
    uint64_t seed = test_begin("exactly_once");
    uint64_t total = test_scaled((uint64_t)ROUND_SERIALS * ROUNDS);
    uint64_t not_started = 0;
    uint64_t in_flight = 0;
    uint64_t finished = 0;
    uint64_t rounds = total >= ROUND_SERIALS ? total / ROUND_SERIALS : 1;

    if (rounds < 4)
        rounds = 4; /* Each count of workers once. */
    for (uint64_t i = 0; i < rounds; i++) {
        round_run(seed, i, total / rounds);
        not_started += atomic_load(&round_state.not_started);
        in_flight += atomic_load(&round_state.in_flight);
        finished += atomic_load(&round_state.finished);
    }
    uint64_t cancels = not_started + in_flight + finished;
    fprintf(stderr, "%llu operations; cancels: %llu not started, %llu in flight, %llu finished\n",
            (unsigned long long)total, (unsigned long long)not_started,
            (unsigned long long)in_flight, (unsigned long long)finished);
    /* Race quality: both sides win some. */
    CHECK(cancels > total / 5);
    CHECK(not_started * 100 >= cancels);
    CHECK((in_flight + finished) * 100 >= cancels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_serial_ends_once_and_cancels_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
