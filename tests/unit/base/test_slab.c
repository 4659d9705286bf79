/* The slab: nodes with an index, handed between threads without loss and without growth.
 *
 * A thread's cache belongs to one slab of each id, so each test works in threads of its own: they
 * leave nothing behind in the thread that runs the tests.
 */
#include "support.h"

#include "slab.h"

enum { BULK = 10000, SHORT_THREADS = 200, NODE_SIZE = 64 };

struct item {
    void *links[2]; /* the slab's while the node is free */
    uint32_t index; /* set once, kept for ever */
    uint32_t owner;
    char rest[NODE_SIZE - 2 * sizeof(void *) - 2 * sizeof(uint32_t)];
};

static void item_init(void *node, uint32_t index)
{
    struct item *item = node;

    item->index = index;
}

static struct slab slab;
static struct item *items[BULK];

static int slab_start(void **state)
{
    (void)state;
    memset(&slab, 0, sizeof(slab));
    slab.id = SLAB_WRITE;
    slab.node_size = sizeof(struct item);
    slab.node_init = item_init;
    return 0;
}

static uint32_t list_length(const struct magazine *magazine)
{
    uint32_t length = 0;

    for (; magazine; magazine = magazine->next)
        length++;
    return length;
}

static void list_release(struct magazine *magazine)
{
    while (magazine) {
        struct magazine *next = magazine->next;
        sys_real.release(magazine);
        magazine = next;
    }
}

static int slab_end(void **state)
{
    list_release(slab.filled);
    list_release(slab.empty);
    for (uint32_t i = 0; i < slab.chunk_count; i++)
        sys_real.release(load_relaxed(&slab.chunks[i]));
    return sys_restore(state);
}

static void *alloc_bulk(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < BULK; i++) {
        items[i] = slab_alloc(&slab);
        THREAD_CHECK(items[i]);
        THREAD_CHECK(items[i]->owner == 0);
        items[i]->owner = i + 1;
    }
    return NULL;
}

static void *free_bulk(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < BULK; i++) {
        THREAD_CHECK(items[i]->owner == i + 1);
        items[i]->owner = 0;
        slab_free(&slab, items[i]);
    }
    return NULL;
}

static void a_node_is_found_by_its_index(void **state)
{
    /* Goal: index and address belong together. Method: every node of ten chunks, and indices that
     * were never handed out. */
    (void)state;
    thread_run(alloc_bulk, NULL);
    for (uint32_t i = 0; i < BULK; i++)
        assert_ptr_equal(slab_at(&slab, items[i]->index), items[i]);
    assert_null(slab_at(&slab, slab.chunk_count * SLAB_CHUNK_NODE_COUNT));
    assert_null(slab_at(&slab, SLAB_NODE_COUNT_MAX - 1));
    assert_null(slab_at(&slab, SLAB_NODE_COUNT_MAX));
    assert_null(slab_at(&slab, UINT32_MAX));
}

static void no_node_is_handed_out_twice(void **state)
{
    /* Goal: nodes in use are distinct. Method: each gets an owner when it is handed out, and must
     * still have it after all others were; done again with used nodes. */
    (void)state;
    for (int round = 0; round < 3; round++) {
        thread_run(alloc_bulk, NULL);
        thread_run(free_bulk, NULL);
    }
}

static void alloc_here_free_there_does_not_grow(void **state)
{
    /* Goal: nodes freed by one thread serve another. Method: one thread only allocates, another
     * only frees, in bulk and repeatedly; the number of chunks must stay what one bulk needs. */
    (void)state;
    thread_run(alloc_bulk, NULL);
    uint32_t chunk_count = slab.chunk_count;
    thread_run(free_bulk, NULL);
    for (int round = 0; round < 10; round++) {
        thread_run(alloc_bulk, NULL);
        thread_run(free_bulk, NULL);
    }
    assert_int_equal(slab.chunk_count, chunk_count);
}

static void *pass_one(void *arg)
{
    struct item *item = slab_alloc(&slab);

    (void)arg;
    THREAD_CHECK(item);
    slab_free(&slab, item);
    return NULL;
}

static void a_thread_that_ends_gives_its_cache_back(void **state)
{
    /* Goal: short threads lose no nodes. Method: 200 threads one after the other use one node
     * each; without the return each would keep a magazine, and 12,400 nodes be carved. */
    (void)state;
    for (uint32_t i = 0; i < SHORT_THREADS; i++)
        thread_run(pass_one, NULL);
    assert_int_equal(slab.chunk_count, 1);
    assert_in_range(slab.carved_count, 1, SLAB_MAGAZINE_SIZE);
}

static void short_threads_leave_no_empty_magazines_behind(void **state)
{
    /* Goal: no growth by magazines either. Method: as above; a thread must use an empty magazine
     * of the depot before it allocates one, so that a handful serves all 200. */
    (void)state;
    for (uint32_t i = 0; i < SHORT_THREADS; i++)
        thread_run(pass_one, NULL);
    assert_in_range(list_length(slab.filled) + list_length(slab.empty), 1, 8);
}

static void *free_one(void *arg)
{
    slab_free(&slab, arg);
    return NULL;
}

static void a_thread_that_only_frees_gives_back_too(void **state)
{
    /* Goal: the return is armed by a free as well. Method: each node is freed by a thread of its
     * own that never allocated; then as many again must fit into what is there. */
    (void)state;
    thread_run(alloc_bulk, NULL);
    uint32_t chunk_count = slab.chunk_count;
    uint32_t carved_count = slab.carved_count;
    for (uint32_t i = 0; i < BULK; i++)
        items[i]->owner = 0;
    for (uint32_t i = 0; i < SHORT_THREADS; i++)
        thread_run(free_one, items[i]);
    for (uint32_t i = 0; i < SHORT_THREADS; i++)
        thread_run(pass_one, NULL);
    assert_int_equal(slab.chunk_count, chunk_count);
    assert_int_equal(slab.carved_count, carved_count);
}

static void *check_untouched(void *arg)
{
    struct item *item = slab_alloc(&slab);

    (void)arg;
    THREAD_CHECK(item);
    uint32_t index = item->index;
    memset(item->rest, 0x5a, sizeof(item->rest));
    item->owner = 77;
    slab_free(&slab, item);
    struct item *again = slab_alloc(&slab);
    THREAD_CHECK(again == item); /* The newest is the warmest. */
    THREAD_CHECK(again->index == index);
    THREAD_CHECK(again->owner == 77);
    for (size_t i = 0; i < sizeof(again->rest); i++)
        THREAD_CHECK(again->rest[i] == 0x5a);
    slab_free(&slab, again);
    return NULL;
}

static void what_lies_behind_16_bytes_is_kept(void **state)
{
    /* Goal: a stale handle can still read its node. Method: free and allocate the same node. */
    (void)state;
    thread_run(check_untouched, NULL);
}

static _Atomic bool memory_is_short;

static void *aligned_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc_aligned(size);
}

static void *zeroed_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc(size);
}

static void *alloc_when_short(void *arg)
{
    uint32_t count = 0;

    (void)arg;
    store_relaxed(&memory_is_short, true);
    THREAD_CHECK(!slab_alloc(&slab)); /* There was no chunk yet. */
    store_relaxed(&memory_is_short, false);
    items[count++] = slab_alloc(&slab);
    THREAD_CHECK(items[0]);
    store_relaxed(&memory_is_short, true);
    while ((items[count] = slab_alloc(&slab)))
        count++;
    THREAD_CHECK(count == SLAB_CHUNK_NODE_COUNT);
    slab_free(&slab, items[--count]); /* What is freed can be had, also then. */
    THREAD_CHECK(slab_alloc(&slab) == items[count]);
    count++;
    store_relaxed(&memory_is_short, false);
    items[count] = slab_alloc(&slab);
    THREAD_CHECK(items[count]);
    THREAD_CHECK(items[count]->index >= SLAB_CHUNK_NODE_COUNT);
    while (count < SLAB_CHUNK_NODE_COUNT + 1)
        count++;
    while (count > 0)
        slab_free(&slab, items[--count]);
    return NULL;
}

static void no_memory_is_null_and_recovers(void **state)
{
    /* Goal: an allocation that fails harms nothing. Method: no memory for the first chunk, then
     * none for the second, then memory again. */
    (void)state;
    sys.alloc_aligned = aligned_or_null;
    thread_run(alloc_when_short, NULL);
    assert_int_equal(slab.chunk_count, 2);
}

static void *expect_none(void *arg)
{
    (void)arg;
    THREAD_CHECK(!slab_alloc(&slab));
    return NULL;
}

static void a_free_without_memory_for_a_magazine_loses_nothing(void **state)
{
    /* Goal: a free never fails. Method: a new thread frees everything while there is no memory for
     * its magazines, another can allocate nothing; then memory comes back, and what was freed is
     * enough for the same again. */
    (void)state;
    sys.alloc = zeroed_or_null;
    store_relaxed(&memory_is_short, false);
    thread_run(alloc_bulk, NULL);
    uint32_t chunk_count = slab.chunk_count;
    uint32_t carved_count = slab.carved_count;
    list_release(slab.filled); /* The rest of the last magazine: out of the game. */
    list_release(slab.empty);
    slab.filled = slab.empty = NULL;
    store_relaxed(&memory_is_short, true);
    thread_run(expect_none, NULL);
    thread_run(free_bulk, NULL);
    thread_run(expect_none, NULL);
    store_relaxed(&memory_is_short, false);
    thread_run(alloc_bulk, NULL);
    assert_int_equal(slab.chunk_count, chunk_count);
    /* The last magazine is filled up with new ones. */
    assert_in_range(slab.carved_count, carved_count, carved_count + SLAB_MAGAZINE_SIZE - 1);
    thread_run(free_bulk, NULL);
}

enum { TRADERS = 4, TRADE_SLOTS = 256 };

static _Atomic(struct item *) market[TRADE_SLOTS];

static void *trade(void *arg)
{
    struct prng prng = prng_of_thread((uint32_t)(uintptr_t)arg);
    uint32_t rounds = test_count(200000);

    for (uint32_t i = 0; i < rounds; i++) {
        struct item *item = slab_alloc(&slab);
        THREAD_CHECK(item);
        THREAD_CHECK(item->owner == 0);
        item->owner = i + 1;
        /* Pairs with itself: whoever gets the node sees all of it. */
        item = exchange_acq_rel(&market[prng_below(&prng, TRADE_SLOTS)], item);
        if (!item)
            continue;
        THREAD_CHECK(item->owner > 0);
        item->owner = 0;
        slab_free(&slab, item);
    }
    return NULL;
}

static void threads_that_trade_nodes_share_none(void **state)
{
    /* Goal: alloc and free by everybody at once. Method: four threads swap nodes through a table
     * and free what others allocated; a node handed out twice would have an owner already. */
    pthread_t threads[TRADERS];

    (void)state;
    (void)prng_start(20240601);
    for (uintptr_t i = 0; i < TRADERS; i++)
        threads[i] = thread_start(trade, (void *)i);
    for (uint32_t i = 0; i < TRADERS; i++)
        thread_join(threads[i]);
    for (uint32_t i = 0; i < TRADE_SLOTS; i++)
        store_relaxed(&market[i], NULL);
    assert_in_range(slab.chunk_count, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_node_is_found_by_its_index, slab_start, slab_end),
        cmocka_unit_test_setup_teardown(no_node_is_handed_out_twice, slab_start, slab_end),
        cmocka_unit_test_setup_teardown(alloc_here_free_there_does_not_grow, slab_start, slab_end),
        cmocka_unit_test_setup_teardown(a_thread_that_ends_gives_its_cache_back, slab_start,
                                        slab_end),
        cmocka_unit_test_setup_teardown(short_threads_leave_no_empty_magazines_behind, slab_start,
                                        slab_end),
        cmocka_unit_test_setup_teardown(a_free_without_memory_for_a_magazine_loses_nothing,
                                        slab_start, slab_end),
        cmocka_unit_test_setup_teardown(a_thread_that_only_frees_gives_back_too, slab_start,
                                        slab_end),
        cmocka_unit_test_setup_teardown(what_lies_behind_16_bytes_is_kept, slab_start, slab_end),
        cmocka_unit_test_setup_teardown(no_memory_is_null_and_recovers, slab_start, slab_end),
        cmocka_unit_test_setup_teardown(threads_that_trade_nodes_share_none, slab_start, slab_end),
    };

    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
