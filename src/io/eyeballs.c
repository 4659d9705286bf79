/* See eyeballs.h. eyeballs_order() and race_attempts_create(): any thread. The rest: lane thread
 * only.
 *
 * race_advance() compares what is wanted with what is under way; every completion ends in it.
 */
#include "eyeballs.h"

#include <errno.h>

/* The next index from @from on whose family is @first, or is not; @count: none. */
static uint32_t find(const int *families, uint32_t count, uint32_t from, int first, bool is_first)
{
    while (from < count && (families[from] == first) != is_first)
        from++;
    return from;
}

void eyeballs_order(const int *families, uint32_t count, uint32_t *ret_order)
{
    int first = count > 0 ? families[0] : 0;
    uint32_t same = 0;
    uint32_t other = find(families, count, 0, first, false);

    for (uint32_t i = 0; i < count; i++) {
        bool take_same = other == count || (same < count && i % 2 == 0);
        ret_order[i] = take_same ? same : other;
        if (take_same)
            same = find(families, count, same + 1, first, true);
        else
            other = find(families, count, other + 1, first, false);
    }
}

struct attempt *race_attempts_create(uint32_t count)
{
    return sys.alloc(count * sizeof(struct attempt));
}

static void race_advance(struct lane *lane, struct race *race);

/* ---- attempts ---- */

/* @error as in attempt_begin(), but for -EINPROGRESS. */
static void attempt_over(struct race *race, struct attempt *attempt, int error)
{
    if (attempt == &race->attempts[0])
        race->first_error = error;
    if (error) {
        race->is_due = true; /* No need to wait for the next one's time. */
    } else if (race->winner) {
        (void)sys.close(attempt->fd); /* A late result is disposed of. */
    } else {
        race->winner = attempt;
        race->over = true;
    }
}

static void attempt_ended(struct lane *lane, struct attempt *attempt, int error)
{
    struct race *race = attempt->owner;

    race->in_flight--;
    attempt_over(race, attempt, error);
    race_advance(lane, race);
}

static void attempt_next(struct lane *lane, struct race *race)
{
    struct attempt *attempt = &race->attempts[race->begun++];

    race->is_due = false;
    race->next_ns = clock_add_ns(clock_now_ns(), race->delay_ns);
    attempt->ended = attempt_ended;
    attempt->owner = race;
    int error = attempt_begin(lane, attempt, &race->settings);
    if (error == -EINPROGRESS)
        race->in_flight++;
    else
        attempt_over(race, attempt, error);
}

/* ---- the delay between them ---- */

static void timer_complete(struct lane *lane, void *owner, int32_t result, uint32_t flags)
{
    struct race *race = owner;

    (void)result; /* -ETIME, or -ECANCELED. */
    (void)flags;
    race->timer_armed = false;
    /* An attempt that failed has moved the next one's time since: then it is armed again. */
    if (clock_now_ns() >= race->next_ns)
        race->is_due = true;
    race_advance(lane, race);
}

static const struct op_kind timer_kind = {"connect-delay", timer_complete};

static void timer_arm(struct lane *lane, struct race *race)
{
    struct io_uring_sqe *sqe = lane_submit(lane, &timer_kind, race, &race->timer_data);

    if (!sqe)
        return; /* The next attempt begins when one has failed. */
    race->until.tv_sec = (int64_t)(race->next_ns / NS_PER_SECOND);
    race->until.tv_nsec = (int64_t)(race->next_ns % NS_PER_SECOND);
    io_uring_prep_timeout(sqe, &race->until, 0, IORING_TIMEOUT_ABS);
    race->timer_armed = true;
}

/* ---- the race ---- */

/* False: something is still in the kernel. */
static bool quiesce(struct lane *lane, struct race *race)
{
    for (uint32_t i = 0; i < race->begun; i++)
        attempt_cancel(lane, &race->attempts[i]);
    if (race->timer_armed && !race->timer_cancelled) {
        race->timer_cancelled = true;
        lane_cancel(lane, race->timer_data);
    }
    return race->in_flight == 0 && !race->timer_armed;
}

static void race_advance(struct lane *lane, struct race *race)
{
    while (!race->over && race->begun < race->count && (race->is_due || race->in_flight == 0))
        attempt_next(lane, race);
    if (race->in_flight == 0)
        race->over = true;
    if (!race->over && race->begun < race->count && !race->timer_armed)
        timer_arm(lane, race);
    if (!race->over || !quiesce(lane, race))
        return;
    if (race->winner)
        race->ended(lane, race, 0, race->winner->fd);
    else
        race->ended(lane, race, race->cancelled ? -ECANCELED : race->first_error, -1);
}

void race_begin(struct lane *lane, struct race *race)
{
    race_advance(lane, race);
}

void race_cancel(struct lane *lane, struct race *race)
{
    if (race->over)
        return;
    race->over = race->cancelled = true;
    race_advance(lane, race);
}
