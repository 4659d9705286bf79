/* Goal: each operation on a file ends exactly once and tells the truth, whatever cancels and
 * deadlines come: what it says was written is there, what it says was read is right, and no
 * descriptor is lost.
 * Method: many slots of one file are written and read back over and over, whole or in pieces, each
 * with bytes of its own, while deadlines are short and the main thread cancels at random; then
 * files, temporary files and folders are opened under the same fire. */
#include "support.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SLOT_COUNT = 48,
    SLOT_SIZE = 40000,
    PART_COUNT = 5,
    STEP_COUNT = 400,
    OPEN_COUNT = 4000,
};

static rondo_loop *loop;
static rondo_file *file;
static char folder[64];
static _Atomic uint64_t outcomes[3]; /* finished, cancelled, timed out */
static _Atomic uint64_t cancels[3];
static _Atomic int slots_left;

static struct slot {
    uint64_t seed;
    uint64_t steps_left;
    uint64_t offset;
    uint32_t size;
    uint32_t round;
    bool is_write;
    _Atomic int pending;
    _Atomic uint64_t handle;
    struct iovec parts[PART_COUNT];
    char data[SLOT_SIZE];
} slots[SLOT_COUNT];

static char byte_of(const struct slot *slot, uint32_t round, uint32_t i)
{
    return (char)random_of((uint64_t)(slot - slots) << 32 | round, i / 8);
}

static void begin(struct slot *slot);

static void on_done(const struct rondo_result *result, void *ctx);

/* Half of them in one piece, the rest in pieces of any size, some empty. */
static int submit(struct slot *slot, const struct rondo_request *request)
{
    char *data = slot->data;
    uint32_t left = slot->size;

    if (random_below(&slot->seed, 2))
        return slot->is_write ? rondo_file_write(file, data, left, slot->offset, request)
                              : rondo_file_read(file, data, left, slot->offset, request);
    for (int i = 0; i < PART_COUNT; i++) {
        uint32_t size = i < PART_COUNT - 1 ? (uint32_t)random_below(&slot->seed, left + 1) : left;
        slot->parts[i] = (struct iovec){data, size};
        data += size;
        left -= size;
    }
    return slot->is_write ? rondo_file_writev(file, slot->parts, PART_COUNT, slot->offset, request)
                          : rondo_file_readv(file, slot->parts, PART_COUNT, slot->offset, request);
}

static void begin(struct slot *slot)
{
    rondo_handle handle;
    uint64_t deadline_ns = 0;

    if (random_below(&slot->seed, 4) == 0)
        deadline_ns = rondo_now_ns() + random_below(&slot->seed, 300000);
    CHECK_EQUAL(atomic_exchange(&slot->pending, 1), 0);
    int error = submit(slot, &RONDO_REQUEST(.done = on_done, .ctx = slot, .ret_handle = &handle,
                                            .deadline_ns = deadline_ns));
    CHECK_EQUAL(error, 0);
    /* The next one may have begun already; an old handle is only too late. */
    atomic_store(&slot->handle, handle.id);
}

static void write_next(struct slot *slot)
{
    if (slot->steps_left-- == 0) {
        atomic_fetch_sub(&slots_left, 1);
        return;
    }
    slot->round++;
    slot->is_write = true;
    for (uint32_t i = 0; i < slot->size; i++)
        slot->data[i] = byte_of(slot, slot->round, i);
    begin(slot);
}

static void on_done(const struct rondo_result *result, void *ctx)
{
    struct slot *slot = ctx;
    bool is_whole = result->value == slot->size;

    CHECK_EQUAL(atomic_exchange(&slot->pending, 0), 1);
    CHECK(is_whole || result->value == -ECANCELED || result->value == -ETIMEDOUT);
    CHECK(is_whole ? result->bytes == slot->size : result->bytes <= slot->size);
    atomic_fetch_add(&outcomes[is_whole ? 0 : result->value == -ECANCELED ? 1 : 2], 1);
    if (slot->is_write && !is_whole && result->bytes == 0) {
        begin(slot); /* Nothing is known of what the file holds now. */
    } else if (slot->is_write) {
        slot->is_write = false;
        memset(slot->data, 0, slot->size);
        if (!is_whole) {
            /* What was told to be written must be there. */
            CHECK_EQUAL(
                pread(rondo_file_descriptor(file), slot->data, result->bytes, (off_t)slot->offset),
                result->bytes);
            for (uint32_t i = 0; i < result->bytes; i++)
                CHECK_EQUAL(slot->data[i], byte_of(slot, slot->round, i));
            write_next(slot);
        } else {
            begin(slot);
        }
    } else {
        for (uint32_t i = 0; i < result->bytes; i++)
            CHECK_EQUAL(slot->data[i], byte_of(slot, slot->round, i));
        write_next(slot);
    }
}

static void make_folder(void)
{
    (void)strcpy(folder, "/tmp/rondo-test-XXXXXX");
    CHECK(mkdtemp(folder));
}

static void on_opened(const struct rondo_result *result, void *ctx)
{
    rondo_file **opened = ctx;

    CHECK_EQUAL(result->value, 0);
    *opened = result->file;
    atomic_fetch_sub(&slots_left, 1);
}

static void end_loop(uint32_t descriptors)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
    /* The thread of a listing that was given up has its folder open a moment longer. */
    WAIT_UNTIL(count_descriptors() <= descriptors, 5000);
}

static void slots_under_fire(void **state)
{
    uint64_t seed = test_begin("files_storm");
    uint32_t descriptors = count_descriptors();

    (void)state;
    make_folder();
    loop = loop_begin(NULL);
    atomic_store(&slots_left, 1);
    CHECK_EQUAL(rondo_file_open_temporary(loop, folder, 0600,
                                          &RONDO_REQUEST(.done = on_opened, .ctx = &file)),
                0);
    WAIT_UNTIL(atomic_load(&slots_left) == 0, 5000);
    atomic_store(&slots_left, SLOT_COUNT);
    for (int i = 0; i < SLOT_COUNT; i++) {
        struct slot *slot = &slots[i];
        slot->seed = random_of(seed, (uint64_t)i);
        slot->steps_left = test_scaled(STEP_COUNT);
        slot->size = 1 + (uint32_t)random_below(&slot->seed, SLOT_SIZE);
        /* Some of them far out. */
        slot->offset = (uint64_t)i * SLOT_SIZE + (i % 4 == 0 ? UINT64_C(3) << 30 : 0);
        write_next(slot);
    }
    WAIT_UNTIL(({
                   struct slot *slot = &slots[random_below(&seed, SLOT_COUNT)];
                   rondo_handle handle = {atomic_load(&slot->handle)};
                   if (handle.id)
                       atomic_fetch_add(&cancels[rondo_cancel(handle)], 1);
                   atomic_load(&slots_left) == 0;
               }),
               30000);
    CHECK_EQUAL(rondo_file_close(file, NULL), 0);
    end_loop(descriptors);
    CHECK_EQUAL(rmdir(folder), 0);
    printf("finished %lu, cancelled %lu, timed out %lu; not started %lu, in flight %lu, late %lu\n",
           (unsigned long)outcomes[0], (unsigned long)outcomes[1], (unsigned long)outcomes[2],
           (unsigned long)cancels[0], (unsigned long)cancels[1], (unsigned long)cancels[2]);
    CHECK(outcomes[0] > 0 && outcomes[1] + outcomes[2] > 0);
}

/* ---- opening ---- */

static struct opening {
    _Atomic int count;
    int kind;
    rondo_handle handle;
} openings[OPEN_COUNT];

static void on_opening(const struct rondo_result *result, void *ctx)
{
    struct opening *opening = ctx;

    CHECK(result->value >= 0 || result->value == -ECANCELED || result->value == -ETIMEDOUT);
    CHECK_EQUAL(result->value >= 0, result->object != NULL);
    if (result->value < 0)
        atomic_fetch_add(&outcomes[result->value == -ECANCELED ? 1 : 2], 1);
    else if (opening->kind == 2)
        rondo_directory_free(result->directory);
    else
        CHECK_EQUAL(rondo_file_close(result->file, NULL), 0);
    atomic_fetch_add(&opening->count, 1);
}

static int opening_begin(struct opening *opening, const struct rondo_request *request)
{
    switch (opening->kind) {
    case 0:
        return rondo_file_open(loop, "/proc/self/status", O_RDONLY, 0, request);
    case 1:
        return rondo_file_open_temporary(loop, folder, 0600, request);
    default:
        return rondo_directory_list(loop, "/dev", request);
    }
}

static void opens_under_fire(void **state)
{
    uint64_t seed = test_begin("files_storm");
    uint32_t descriptors = count_descriptors();
    uint64_t count = test_scaled(OPEN_COUNT);

    (void)state;
    count = count > OPEN_COUNT ? OPEN_COUNT : count;
    make_folder();
    loop = loop_begin(NULL);
    for (uint64_t i = 0; i < count; i++) {
        struct opening *opening = &openings[i];
        uint64_t deadline_ns = 0;
        opening->kind = (int)random_below(&seed, 3);
        if (random_below(&seed, 3) == 0)
            deadline_ns = rondo_now_ns() + random_below(&seed, 100000);
        CHECK_EQUAL(opening_begin(opening, &RONDO_REQUEST(.done = on_opening, .ctx = opening,
                                                          .ret_handle = &opening->handle,
                                                          .deadline_ns = deadline_ns)),
                    0);
        if (random_below(&seed, 2))
            (void)rondo_cancel(openings[i - random_below(&seed, i < 20 ? i + 1 : 20)].handle);
        if (i >= 200)
            WAIT_UNTIL(atomic_load(&openings[i - 200].count) > 0, 5000);
    }
    for (uint64_t i = 0; i < count; i++) {
        WAIT_UNTIL(atomic_load(&openings[i].count) > 0, 5000);
        CHECK_EQUAL(atomic_load(&openings[i].count), 1);
    }
    end_loop(descriptors);
    CHECK_EQUAL(rmdir(folder), 0);
}

/* The loop stops in the midst of it: every operation still ends, and files can be closed. */
static void stops_under_fire(void **state)
{
    uint32_t descriptors = count_descriptors();

    (void)test_begin("files_storm");
    (void)state;
    make_folder();
    memset(openings, 0, sizeof(openings));
    for (int round = 0; round < 10; round++) {
        uint64_t begun = 0;
        int error = 0;
        loop = loop_begin(NULL);
        for (int i = 0; !error && i < 300; i++) {
            openings[i] = (struct opening){.kind = i % 3};
            if (i == 100 + 10 * round)
                CHECK_EQUAL(rondo_loop_stop(loop), 0);
            error = opening_begin(&openings[i],
                                  &RONDO_REQUEST(.done = on_opening, .ctx = &openings[i]));
            CHECK(error == 0 || error == -ESHUTDOWN);
            begun += error == 0;
        }
        end_loop(descriptors);
        for (uint64_t i = 0; i < begun; i++)
            CHECK_EQUAL(atomic_load(&openings[i].count), 1);
    }
    CHECK_EQUAL(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_under_fire),
        cmocka_unit_test(opens_under_fire),
        cmocka_unit_test(stops_under_fire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
