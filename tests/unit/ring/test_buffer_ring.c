/* Receive buffers: the kernel picks them, they come back, and no buffer is in two hands. */
#include "needs_ring.h"

#include "buffer_ring.h"

#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 128 };

static struct ring ring;
static struct buffer_ring buffers;
static int pair[2];

static void start(uint32_t count_max)
{
    struct ring_options options = {.submissions = 8, .completions = 64};

    assert_int_equal(ring_init(&ring, &options), 0);
    assert_int_equal(ring_enable(&ring), 0);
    assert_int_equal(buffer_ring_init(&buffers, &ring, BUFFER_GROUP, count_max, BUFFER_SIZE), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
}

static void stop(void)
{
    ring_fini(&ring);
    buffer_ring_fini(&buffers);
    assert_int_equal(close(pair[0]), 0);
    assert_int_equal(close(pair[1]), 0);
}

/* Send @size bytes of @value and receive them. NULL: the kernel found no buffer, and the message
 * is read away. */
static struct buffer *receive(char value, uint32_t size)
{
    char bytes[BUFFER_SIZE];
    struct completion done;

    memset(bytes, value, sizeof(bytes));
    assert_int_equal(send(pair[0], bytes, size, 0), size);
    struct io_uring_sqe *sqe = ring_submission(&ring);
    assert_non_null(sqe);
    io_uring_prep_recv(sqe, pair[1], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    assert_int_equal(ring_enter(&ring, 1), 0);
    assert_int_equal(ring_reap(&ring, &done, 1), 1);
    if (done.result == -ENOBUFS) {
        assert_int_equal(recv(pair[1], bytes, sizeof(bytes), 0), size);
        return NULL;
    }
    assert_int_equal(done.result, size);
    assert_true(done.flags & IORING_CQE_F_BUFFER);
    struct buffer *buffer =
        buffer_ring_picked(&buffers, done.flags >> IORING_CQE_BUFFER_SHIFT, (uint32_t)done.result);
    assert_true(buffer->out);
    assert_int_equal(buffer->size, size);
    for (uint32_t i = 0; i < size; i++)
        assert_int_equal(((char *)buffer_data(buffer))[i], value);
    return buffer;
}

static void a_receive_brings_its_bytes_in_a_buffer(void **state)
{
    /* Goal: the buffer the kernel picked is found by its number. Method: messages of each size. */
    (void)state;
    start(64);
    for (uint32_t size = 1; size <= BUFFER_SIZE; size++) {
        struct buffer *buffer = receive((char)size, size);
        assert_non_null(buffer);
        assert_false(buffer_return(&buffers, buffer));
        buffer_ring_refill(&buffers, 0);
        assert_false(buffer->out);
    }
    assert_int_equal(buffers.free_count, buffers.allocated_count);
    stop();
}

static void no_buffer_is_picked_twice(void **state)
{
    /* Goal: one owner at a time. Method: keep every buffer until none is left; each is another one,
     * keeps its bytes, and the next receive finds none. Then all come back, and it goes on. */
    enum { COUNT = 16 };
    struct buffer *taken[COUNT];

    (void)state;
    start(COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        taken[i] = receive((char)('a' + i), BUFFER_SIZE);
        assert_non_null(taken[i]);
        for (uint32_t j = 0; j < i; j++)
            assert_ptr_not_equal(taken[i], taken[j]);
        assert_int_equal(buffers.free_count, COUNT - 1 - i);
    }
    assert_null(receive('x', 1));
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(*(char *)buffer_data(taken[i]), 'a' + i);
        assert_false(buffer_return(&buffers, taken[i]));
    }
    buffer_ring_refill(&buffers, 0);
    assert_int_equal(buffers.free_count, COUNT);
    struct buffer *again = receive('y', 1);
    assert_non_null(again);
    assert_false(buffer_return(&buffers, again));
    stop();
}

static void buffers_are_added_while_they_run_low(void **state)
{
    /* Goal: memory as needed, up to the limit, and no farther. Method: a limit of 256, all kept. */
    enum { COUNT = 256 };
    uint32_t taken = 0;

    (void)state;
    start(COUNT);
    assert_int_equal(buffers.allocated_count, BUFFER_CHUNK_COUNT);
    for (taken = 0; taken < COUNT; taken++) {
        assert_non_null(receive('b', 8));
        buffer_ring_refill(&buffers, 0);
        assert_true(buffers.allocated_count <= COUNT);
        assert_int_equal(buffers.free_count + taken + 1, buffers.allocated_count);
    }
    assert_int_equal(buffers.allocated_count, COUNT);
    assert_null(receive('x', 1));
    stop();
}

static _Atomic bool memory_is_short;

static void *zeroed_or_null(size_t size)
{
    return load_relaxed(&memory_is_short) ? NULL : sys_real.alloc(size);
}

static void without_memory_it_works_with_what_it_has(void **state)
{
    /* Goal: a chunk that cannot be had is asked for again later. */
    (void)state;
    sys.alloc = zeroed_or_null;
    store_relaxed(&memory_is_short, false);
    start(256);
    store_relaxed(&memory_is_short, true);
    for (uint32_t i = 0; i < BUFFER_CHUNK_COUNT; i++) {
        assert_non_null(receive('c', 8));
        buffer_ring_refill(&buffers, 0);
    }
    assert_int_equal(buffers.allocated_count, BUFFER_CHUNK_COUNT);
    assert_null(receive('x', 1));
    store_relaxed(&memory_is_short, false);
    buffer_ring_refill(&buffers, 0);
    assert_int_equal(buffers.allocated_count, 2 * BUFFER_CHUNK_COUNT);
    assert_non_null(receive('d', 8));
    stop();
}

static void an_init_without_memory_reports_it(void **state)
{
    /* Goal: -ENOMEM with a text that names the options, and nothing kept. */
    struct ring_options options = {.submissions = 4, .completions = 8};

    (void)state;
    sys.alloc = zeroed_or_null;
    store_relaxed(&memory_is_short, true);
    assert_int_equal(ring_init(&ring, &options), 0);
    assert_int_equal(ring_enable(&ring), 0);
    assert_int_equal(buffer_ring_init(&buffers, &ring, BUFFER_GROUP, 64, BUFFER_SIZE), -ENOMEM);
    assert_non_null(strstr(rondo_error_text(), "`buffers`"));
    ring_fini(&ring);
}

static void a_size_the_kernel_refuses_is_reported(void **state)
{
    /* Goal: a refusal is an error that says which kernel is needed. Method: a count that is no
     * power of two. */
    struct ring_options options = {.submissions = 4, .completions = 8};

    (void)state;
    assert_int_equal(ring_init(&ring, &options), 0);
    assert_int_equal(ring_enable(&ring), 0);
    assert_int_equal(buffer_ring_init(&buffers, &ring, BUFFER_GROUP, 3, BUFFER_SIZE), -ENOSYS);
    assert_non_null(strstr(rondo_error_text(), "Linux 6.1"));
    ring_fini(&ring);
}

static void the_first_return_wakes_a_lane_that_waits(void **state)
{
    /* Goal: a starved lane hears of the first buffer, and only of that. */
    struct buffer *taken[2];

    (void)state;
    start(2);
    taken[0] = receive('e', 1);
    taken[1] = receive('f', 1);
    assert_non_null(taken[0]);
    assert_non_null(taken[1]);
    assert_true(inbox_sleep(&buffers.returns));
    assert_true(buffer_return(&buffers, taken[1]));
    assert_false(buffer_return(&buffers, taken[0]));
    buffer_ring_refill(&buffers, 0);
    assert_int_equal(buffers.free_count, 2);
    stop();
}

/* ---- returns from other threads ---- */

enum { RETURNERS = 2, HELD = 8 };

struct returner {
    struct inbox in;
    struct counter given;
    uint32_t count;
};

static void *return_buffers(void *arg)
{
    struct returner *returner = arg;
    struct chain chain = {0};
    struct node *node;

    for (uint32_t done = 0; done < returner->count;) {
        counter_wait(&returner->given, done + 1);
        (void)inbox_take(&returner->in, &chain);
        for (; (node = chain_take(&chain)); done++) {
            struct buffer *buffer = container_of(runnable_of(node), struct buffer, event);
            THREAD_CHECK(buffer->out);
            (void)buffer_return(&buffers, buffer);
        }
    }
    return NULL;
}

static void buffers_come_back_from_any_thread(void **state)
{
    /* Goal: the way back is safe while the lane refills. Method: few buffers, two threads that give
     * them back; each receive goes on as soon as one is there. */
    static struct returner returners[RETURNERS];
    pthread_t threads[RETURNERS];
    uint32_t count = test_count(20000);
    uint32_t received = 0;

    (void)state;
    start(HELD);
    for (uint32_t i = 0; i < RETURNERS; i++) {
        inbox_init(&returners[i].in, false);
        returners[i].count = count / RETURNERS;
        threads[i] = thread_start(return_buffers, &returners[i]);
    }
    while (received < count / RETURNERS * RETURNERS) {
        WAIT_UNTIL((buffer_ring_refill(&buffers, 0), buffers.free_count > 0));
        struct buffer *buffer = receive((char)received, 1 + received % BUFFER_SIZE);
        assert_non_null(buffer);
        struct returner *returner = &returners[received++ % RETURNERS];
        (void)inbox_push(&returner->in, &buffer->event.node);
        counter_add(&returner->given, 1);
    }
    for (uint32_t i = 0; i < RETURNERS; i++)
        thread_join(threads[i]);
    buffer_ring_refill(&buffers, 0);
    assert_int_equal(buffers.free_count, HELD);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receive_brings_its_bytes_in_a_buffer),
        cmocka_unit_test(no_buffer_is_picked_twice),
        cmocka_unit_test(buffers_are_added_while_they_run_low),
        cmocka_unit_test_teardown(without_memory_it_works_with_what_it_has, sys_restore),
        cmocka_unit_test_teardown(an_init_without_memory_reports_it, sys_restore),
        cmocka_unit_test(a_size_the_kernel_refuses_is_reported),
        cmocka_unit_test(the_first_return_wakes_a_lane_that_waits),
        cmocka_unit_test(buffers_come_back_from_any_thread),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("buffer_ring", tests, NULL, NULL);
}
