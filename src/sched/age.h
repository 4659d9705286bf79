/* How long the oldest node of a queue has waited, without a stamp on each node.
 *
 *   taken           marks: "so many had been pushed at that time"          pushed
 *     |---- 310 @ 4 ms ----- 480 @ 6 ms --- ... ---- 900 @ 22 ms ------------|
 *
 * Whoever looks now and then leaves a mark. While the first mark is not passed, a node waits that
 * was there when the mark was made: the answer is never too high. It is too low by the time between
 * two marks: that of two looks, or an eighth of the age when they were made, twice that after marks
 * had to go. Costs the queue nothing; a queue that is empty has no marks.
 *
 * One thread. Invariants: (1) marks ascend in position and in time; (2) none is passed already.
 */
#ifndef RONDO_SCHED_AGE_H
#define RONDO_SCHED_AGE_H

#include <stdint.h>

enum {
    AGE_MARKS_MAX = 32,
    AGE_PART = 8, /* marks are this part of the age apart */
};

struct age_mark {
    uint64_t position; /* nodes pushed when it was made */
    uint64_t at_ns;
};

struct age {
    uint32_t count;
    struct age_mark marks[AGE_MARKS_MAX];
};

/* Forget what was passed; every second one of the rest if there is no room for one more. */
static inline void age_tidy(struct age *age, uint64_t taken)
{
    uint32_t passed = 0;
    uint32_t kept = 0;

    while (passed < age->count && age->marks[passed].position <= taken)
        passed++;
    uint32_t step = age->count - passed == AGE_MARKS_MAX ? 2 : 1;
    for (uint32_t i = passed; i < age->count; i += step)
        age->marks[kept++] = age->marks[i];
    age->count = kept;
}

/* @taken nodes were ever taken and @waiting are in the queue: the age of the oldest in ns. */
static inline uint64_t age_look(struct age *age, uint64_t taken, uint64_t waiting, uint64_t now_ns)
{
    struct age_mark now = {taken + waiting, now_ns};
    uint64_t age_ns;

    age_tidy(age, taken);
    if (waiting == 0)
        return 0;
    if (age->count == 0) {
        age->marks[age->count++] = now;
        return 0;
    }
    const struct age_mark *last = &age->marks[age->count - 1];
    age_ns = now_ns - age->marks[0].at_ns;
    if (now.position > last->position && now_ns - last->at_ns >= age_ns / AGE_PART)
        age->marks[age->count++] = now;
    return age_ns;
}

#endif
