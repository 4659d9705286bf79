/* The ready queue: batches in, shares out, each node once and each producer in order. */
#include "support.h"

#include "ready_queue.h"

enum { PRODUCERS = 3, CONSUMERS = 3, ITEMS = 200000, BATCH_MAX = 8 };

struct piece {
    struct node node;
    uint32_t producer;
    uint32_t sequence;
    _Atomic uint32_t taken;
};

static void batches_come_out_in_order(void **state)
{
    /* Goal: one FIFO over all batches, and takes of any size. Method: batches of 1, 2 and 3. */
    struct ready_queue queue;
    struct node nodes[6];
    struct node *taken[8];
    uint32_t at = 0;

    (void)state;
    ready_queue_init(&queue);
    for (uint32_t size = 1; size <= 3; size++) {
        struct chain chain = {0};
        for (uint32_t i = 0; i < size; i++)
            chain_append(&chain, &nodes[at++]);
        ready_queue_push(&queue, &chain);
        assert_null(chain.first);
        assert_int_equal(chain.count, 0);
    }
    assert_int_equal(ready_queue_depth(&queue), 6);
    assert_int_equal(ready_queue_take(&queue, taken, 4), 4);
    assert_int_equal(ready_queue_take(&queue, taken + 4, 4), 2);
    for (uint32_t i = 0; i < 6; i++)
        assert_ptr_equal(taken[i], &nodes[i]);
    assert_int_equal(ready_queue_take(&queue, taken, 1), 0);
    assert_true(ready_queue_is_empty(&queue));
    assert_int_equal(ready_queue_depth(&queue), 0);
    assert_int_equal(ready_queue_pushed(&queue), 6);
    ready_queue_fini(&queue);
}

static void a_closed_queue_refuses_outsiders_only(void **state)
{
    /* Goal: what was accepted stays, the loop's own pushes go on, an outsider is told. */
    struct ready_queue queue;
    struct node nodes[3];
    struct node *taken[3];
    struct chain chain = {0};

    (void)state;
    ready_queue_init(&queue);
    assert_true(ready_queue_push_outside(&queue, &nodes[0]));
    ready_queue_close(&queue);
    assert_false(ready_queue_push_outside(&queue, &nodes[1]));
    chain_append(&chain, &nodes[2]);
    ready_queue_push(&queue, &chain);
    assert_int_equal(ready_queue_take(&queue, taken, 3), 2);
    assert_ptr_equal(taken[0], &nodes[0]);
    assert_ptr_equal(taken[1], &nodes[2]);
    assert_int_equal(ready_queue_pushed(&queue), 2);
    ready_queue_fini(&queue);
}

static _Atomic bool memory_is_short;

static void *alloc_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc_raw(size);
}

static void a_deep_queue_keeps_its_order_with_and_without_memory(void **state)
{
    /* Goal: first in, first out, while the ring grows, while it cannot, and when what waited behind
     * it comes into it again. Method: random pushes and takes, deeper and deeper; memory comes and
     * goes. */
    enum { COUNT = 100000 };
    struct ready_queue queue;
    struct node *nodes = test_alloc(COUNT, sizeof(*nodes));
    struct node *taken[64];
    struct prng prng = prng_start(8);
    uint32_t pushed = 0;
    uint32_t expected = 0;

    (void)state;
    sys.alloc_raw = alloc_or_null;
    ready_queue_init(&queue);
    while (expected < COUNT) {
        struct chain chain = {0};
        store_relaxed(&memory_is_short, prng_below(&prng, 1000) > 0);
        for (uint32_t size = prng_below(&prng, 80); size > 0 && pushed < COUNT; size--)
            chain_append(&chain, &nodes[pushed++]);
        if (chain.count > 0)
            ready_queue_push(&queue, &chain);
        uint32_t count = ready_queue_take(&queue, taken, prng_below(&prng, 64));
        for (uint32_t i = 0; i < count; i++)
            assert_ptr_equal(taken[i], &nodes[expected++]);
        assert_int_equal(ready_queue_depth(&queue), pushed - expected);
        assert_int_equal(ready_queue_is_empty(&queue), pushed == expected);
    }
    assert_int_equal(ready_queue_pushed(&queue), COUNT);
    ready_queue_fini(&queue);
    free(nodes);
}

struct market {
    struct ready_queue queue;
    struct piece *pieces;
    uint32_t per_producer;
    _Atomic uint32_t next_producer;
    _Atomic uint32_t taken_count;
};

static void *produce(void *arg)
{
    struct market *market = arg;
    uint32_t producer = add_relaxed(&market->next_producer, 1);
    struct prng prng = prng_of_thread(producer);
    struct piece *pieces = market->pieces + (size_t)producer * market->per_producer;
    uint32_t made = 0;

    while (made < market->per_producer) {
        struct chain chain = {0};
        uint32_t size = 1 + prng_below(&prng, BATCH_MAX);
        while (size-- > 0 && made < market->per_producer) {
            pieces[made].producer = producer;
            pieces[made].sequence = made;
            chain_append(&chain, &pieces[made++].node);
        }
        ready_queue_push(&market->queue, &chain);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct market *market = arg;
    int64_t last[PRODUCERS] = {-1, -1, -1};
    struct node *nodes[BATCH_MAX];
    uint32_t total = PRODUCERS * market->per_producer;

    while (load_relaxed(&market->taken_count) < total) {
        uint32_t count = ready_queue_take(&market->queue, nodes, BATCH_MAX);
        for (uint32_t i = 0; i < count; i++) {
            struct piece *piece = container_of(nodes[i], struct piece, node);
            THREAD_CHECK(piece->sequence > last[piece->producer]);
            last[piece->producer] = piece->sequence;
            (void)add_relaxed(&piece->taken, 1); /* Relaxed: read after the joins. */
        }
        (void)add_relaxed(&market->taken_count, count); /* Relaxed: only a count. */
    }
    return NULL;
}

static void producers_and_consumers_at_once(void **state)
{
    /* Goal: exactly once, and no consumer sees a producer's pieces out of order. Method: three of
     * each, batches of random size, a count at every piece. */
    static struct market market;
    market.per_producer = test_count(ITEMS) / PRODUCERS;
    uint32_t total = PRODUCERS * market.per_producer;
    pthread_t threads[PRODUCERS + CONSUMERS];

    (void)state;
    (void)prng_start(77);
    ready_queue_init(&market.queue);
    market.pieces = test_alloc(total, sizeof(*market.pieces));
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++)
        threads[i] = thread_start(i < PRODUCERS ? produce : consume, &market);
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++)
        thread_join(threads[i]);
    assert_int_equal(load_relaxed(&market.taken_count), total);
    for (uint32_t i = 0; i < total; i++)
        assert_int_equal(load_relaxed(&market.pieces[i].taken), 1);
    assert_int_equal(ready_queue_pushed(&market.queue), total);
    assert_int_equal(ready_queue_depth(&market.queue), 0);
    ready_queue_fini(&market.queue);
    free(market.pieces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_out_in_order),
        cmocka_unit_test(a_closed_queue_refuses_outsiders_only),
        cmocka_unit_test_teardown(a_deep_queue_keeps_its_order_with_and_without_memory,
                                  sys_restore),
        cmocka_unit_test(producers_and_consumers_at_once),
    };

    return cmocka_run_group_tests_name("ready_queue", tests, NULL, NULL);
}
