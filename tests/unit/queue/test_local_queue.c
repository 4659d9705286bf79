/* The local queue: one owner and its thieves, a ring that fills, empties and wraps. */
#include "support.h"

#include "local_queue.h"

enum { THIEVES = 2, ITEMS = 500000, LOOT_MAX = LOCAL_QUEUE_SIZE };

static struct local_queue queue;

/* A queue that is empty, whose next index is @at. */
static void queue_start(uint32_t at)
{
    memset(&queue, 0, sizeof(queue));
    store_relaxed(&queue.head, at);
    store_relaxed(&queue.tail, at);
}

static void fill(struct node *nodes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_true(local_queue_push(&queue, &nodes[i]));
}

static void a_full_queue_refuses_and_an_empty_one_has_none(void **state)
{
    /* Goal: both ends of the ring. Method: fill it, one more, empty it, one more; from index 0 and
     * from indices whose sum passes UINT32_MAX. */
    static const uint32_t starts[] = {
        0, 1, UINT32_MAX, UINT32_MAX - 3, UINT32_MAX - 255, UINT32_MAX - 256};
    struct node nodes[LOCAL_QUEUE_SIZE];
    struct node extra;

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(starts); i++) {
        queue_start(starts[i]);
        assert_null(local_queue_take(&queue));
        fill(nodes, LOCAL_QUEUE_SIZE);
        assert_int_equal(local_queue_depth(&queue), LOCAL_QUEUE_SIZE);
        assert_false(local_queue_push(&queue, &extra));
        for (uint32_t j = 0; j < LOCAL_QUEUE_SIZE; j++)
            assert_ptr_equal(local_queue_take(&queue), &nodes[j]);
        assert_null(local_queue_take(&queue));
        assert_int_equal(local_queue_depth(&queue), 0);
    }
}

static void the_ring_wraps_with_a_few_inside(void **state)
{
    /* Goal: slots are reused in order. Method: three stay inside while the indices go over the end
     * of the ring and of 32 bits. */
    struct node nodes[3 * LOCAL_QUEUE_SIZE];

    (void)state;
    queue_start(UINT32_MAX - LOCAL_QUEUE_SIZE - 1);
    fill(nodes, 3);
    for (uint32_t i = 3; i < ARRAY_SIZE(nodes); i++) {
        assert_true(local_queue_push(&queue, &nodes[i]));
        assert_ptr_equal(local_queue_take(&queue), &nodes[i - 3]);
        assert_int_equal(local_queue_depth(&queue), 3);
    }
}

static void a_thief_takes_half_and_the_oldest(void **state)
{
    /* Goal: half, rounded up, at most what was asked, oldest first, across the wrap. Method: each
     * depth from 0 to full. */
    struct node nodes[LOCAL_QUEUE_SIZE];
    struct node *loot[LOOT_MAX];

    (void)state;
    for (uint32_t depth = 0; depth <= LOCAL_QUEUE_SIZE; depth++) {
        uint32_t half = (depth + 1) / 2;
        queue_start(UINT32_MAX - 100);
        fill(nodes, depth);
        assert_int_equal(local_queue_steal(&queue, loot, LOOT_MAX), half);
        for (uint32_t i = 0; i < half; i++)
            assert_ptr_equal(loot[i], &nodes[i]);
        assert_int_equal(local_queue_depth(&queue), depth - half);
        if (half < depth)
            assert_ptr_equal(local_queue_take(&queue), &nodes[half]);
    }
}

static void a_thief_takes_no_more_than_it_asked(void **state)
{
    /* Goal: the limit of the thief's own space. */
    struct node nodes[10];
    struct node *loot[3];

    (void)state;
    queue_start(7);
    fill(nodes, 10);
    assert_int_equal(local_queue_steal(&queue, loot, 3), 3);
    assert_int_equal(local_queue_steal(&queue, loot, 1), 1);
    assert_ptr_equal(loot[0], &nodes[3]);
    assert_int_equal(local_queue_depth(&queue), 6);
}

struct piece {
    struct node node;
    _Atomic uint32_t taken;
};

struct heist {
    struct piece *pieces;
    uint32_t count;
    _Atomic bool finished;
    _Atomic uint32_t next_thief;
};

/* Each taker sees the pieces in the order in which they went in. */
static void note_taken(struct heist *heist, struct node *node, int64_t *last)
{
    struct piece *piece = container_of(node, struct piece, node);
    int64_t index = piece - heist->pieces;

    THREAD_CHECK(index > *last);
    THREAD_CHECK(index < heist->count);
    *last = index;
    (void)add_relaxed(&piece->taken, 1); /* Relaxed: read after the joins. */
}

static void *steal_all(void *arg)
{
    struct heist *heist = arg;
    struct prng prng = prng_of_thread(add_relaxed(&heist->next_thief, 1));
    struct node *loot[LOOT_MAX];
    int64_t last = -1;

    for (;;) {
        /* Acquire pairs with the release by the owner: an empty queue stays empty then. */
        bool finished = load_acquire(&heist->finished);
        uint32_t count = local_queue_steal(&queue, loot, 1 + prng_below(&prng, LOOT_MAX));
        for (uint32_t i = 0; i < count; i++)
            note_taken(heist, loot[i], &last);
        if (count == 0 && finished)
            return NULL;
    }
}

static void own_all(struct heist *heist)
{
    struct prng prng = prng_of_thread(THIEVES);
    struct node *node;
    int64_t last = -1;
    uint32_t pushed = 0;

    while (pushed < heist->count) {
        uint32_t burst = 1 + prng_below(&prng, LOCAL_QUEUE_SIZE);
        while (burst-- > 0 && pushed < heist->count &&
               local_queue_push(&queue, &heist->pieces[pushed].node))
            pushed++;
        for (burst = prng_below(&prng, 64); burst > 0 && (node = local_queue_take(&queue)); burst--)
            note_taken(heist, node, &last);
    }
    while ((node = local_queue_take(&queue)))
        note_taken(heist, node, &last);
    store_release(&heist->finished, true); /* Pairs with the acquire in steal_all(). */
}

static void owner_and_thieves_take_each_once(void **state)
{
    /* Goal: exactly once under theft, also where the indices pass UINT32_MAX. Method: an owner that
     * pushes and takes in bursts, two thieves; every piece counts how often it was taken. */
    struct heist heist = {.count = test_count(ITEMS)};
    pthread_t thieves[THIEVES];

    (void)state;
    (void)prng_start(4242);
    queue_start(UINT32_MAX - heist.count / 2);
    heist.pieces = test_alloc(heist.count, sizeof(*heist.pieces));
    for (uint32_t i = 0; i < THIEVES; i++)
        thieves[i] = thread_start(steal_all, &heist);
    own_all(&heist);
    for (uint32_t i = 0; i < THIEVES; i++)
        thread_join(thieves[i]);
    for (uint32_t i = 0; i < heist.count; i++)
        assert_int_equal(load_relaxed(&heist.pieces[i].taken), 1);
    free(heist.pieces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_queue_refuses_and_an_empty_one_has_none),
        cmocka_unit_test(the_ring_wraps_with_a_few_inside),
        cmocka_unit_test(a_thief_takes_half_and_the_oldest),
        cmocka_unit_test(a_thief_takes_no_more_than_it_asked),
        cmocka_unit_test(owner_and_thieves_take_each_once),
    };

    return cmocka_run_group_tests_name("local_queue", tests, NULL, NULL);
}
