/* The inbox: everything once, in the order of each pusher, and one wake for one sleep. */
#include "support.h"

#include "inbox.h"

enum { PUSHERS = 4, PUSHES = 50000 };

struct letter {
    struct node node;
    uint32_t pusher;
    uint32_t sequence;
};

static struct letter *letter_of(struct node *node)
{
    return container_of(node, struct letter, node);
}

static void taken_oldest_first(void **state)
{
    /* Goal: first in, first out, behind what the chain held. Method: two takes into one chain. */
    struct letter letters[10];
    struct inbox inbox;
    struct chain chain = {0};

    (void)state;
    inbox_init(&inbox, false);
    assert_int_equal(inbox_take(&inbox, &chain), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_false(inbox_push(&inbox, &letters[i].node));
        if (i == 5)
            assert_int_equal(inbox_take(&inbox, &chain), 6);
    }
    assert_int_equal(inbox_take(&inbox, &chain), 4);
    assert_int_equal(chain.count, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_ptr_equal(chain_take(&chain), &letters[i].node);
    assert_null(chain_take(&chain));
}

static void only_the_first_push_wakes_a_sleeper(void **state)
{
    /* Goal: one wake a sleep. Method: sleep, push three times, look at the three answers. */
    struct letter letters[3];
    struct inbox inbox;
    struct chain chain = {0};

    (void)state;
    inbox_init(&inbox, false);
    assert_false(inbox_is_asleep(&inbox));
    assert_true(inbox_sleep(&inbox));
    assert_true(inbox_is_asleep(&inbox));
    assert_true(inbox_push(&inbox, &letters[0].node));
    assert_false(inbox_is_asleep(&inbox));
    assert_false(inbox_push(&inbox, &letters[1].node));
    assert_false(inbox_push(&inbox, &letters[2].node));
    assert_int_equal(inbox_take(&inbox, &chain), 3);
    assert_ptr_equal(chain_take(&chain), &letters[0].node);
}

static void sleep_is_refused_while_something_is_inside(void **state)
{
    /* Goal: no sleep over a letter. */
    struct letter letter;
    struct inbox inbox;
    struct chain chain = {0};

    (void)state;
    inbox_init(&inbox, false);
    assert_false(inbox_push(&inbox, &letter.node));
    assert_false(inbox_sleep(&inbox));
    assert_int_equal(inbox_take(&inbox, &chain), 1);
    assert_true(inbox_sleep(&inbox));
}

static void who_woke_for_another_reason_takes_the_mark_back(void **state)
{
    /* Goal: after inbox_awake() a push wakes nobody, and a push before it is not lost. */
    struct letter letter;
    struct inbox inbox;
    struct chain chain = {0};

    (void)state;
    inbox_init(&inbox, true);
    assert_true(inbox_is_asleep(&inbox));
    inbox_awake(&inbox);
    assert_false(inbox_push(&inbox, &letter.node));
    assert_int_equal(inbox_take(&inbox, &chain), 1);
    assert_true(inbox_sleep(&inbox));
    assert_true(inbox_push(&inbox, &letter.node));
    inbox_awake(&inbox);
    assert_int_equal(inbox_take(&inbox, &chain), 1);
}

struct exchange {
    struct inbox inbox;
    struct counter wakes;
    uint32_t pushes;
    struct letter *letters[PUSHERS];
    _Atomic uint32_t next_pusher;
};

static void *push_letters(void *arg)
{
    struct exchange *exchange = arg;
    uint32_t pusher = add_relaxed(&exchange->next_pusher, 1);
    struct letter *letters = exchange->letters[pusher];

    for (uint32_t i = 0; i < exchange->pushes; i++) {
        letters[i].pusher = pusher;
        letters[i].sequence = i;
        if (inbox_push(&exchange->inbox, &letters[i].node))
            counter_add(&exchange->wakes, 1);
    }
    return NULL;
}

static void pushers_at_once_keep_order_and_wake_once(void **state)
{
    /* Goal: nothing lost, order kept for each pusher, each sleep ended by exactly one wake. Method:
     * four threads push; the consumer sleeps whenever it finds nothing, and at each awakening the
     * wakes must be as many as the sleeps. */
    struct exchange *exchange = test_alloc(1, sizeof(*exchange));
    uint32_t expected[PUSHERS] = {0};
    pthread_t threads[PUSHERS];
    uint32_t total = 0;
    uint32_t sleeps = 0;
    struct chain chain = {0};
    struct node *node;

    (void)state;
    inbox_init(&exchange->inbox, false);
    exchange->pushes = test_count(PUSHES);
    for (uint32_t i = 0; i < PUSHERS; i++)
        exchange->letters[i] = test_alloc(exchange->pushes, sizeof(struct letter));
    for (uint32_t i = 0; i < PUSHERS; i++)
        threads[i] = thread_start(push_letters, exchange);
    while (total < PUSHERS * exchange->pushes) {
        if (inbox_take(&exchange->inbox, &chain) == 0 && inbox_sleep(&exchange->inbox)) {
            sleeps++;
            counter_wait(&exchange->wakes, sleeps);
            assert_int_equal(counter_read(&exchange->wakes), sleeps);
        }
        while ((node = chain_take(&chain))) {
            struct letter *letter = letter_of(node);
            assert_int_equal(letter->sequence, expected[letter->pusher]);
            expected[letter->pusher]++;
            total++;
        }
    }
    for (uint32_t i = 0; i < PUSHERS; i++)
        thread_join(threads[i]);
    assert_int_equal(counter_read(&exchange->wakes), sleeps);
    assert_true(inbox_sleep(&exchange->inbox));
    for (uint32_t i = 0; i < PUSHERS; i++)
        free(exchange->letters[i]);
    free(exchange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_oldest_first),
        cmocka_unit_test(only_the_first_push_wakes_a_sleeper),
        cmocka_unit_test(sleep_is_refused_while_something_is_inside),
        cmocka_unit_test(who_woke_for_another_reason_takes_the_mark_back),
        cmocka_unit_test(pushers_at_once_keep_order_and_wake_once),
    };

    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
