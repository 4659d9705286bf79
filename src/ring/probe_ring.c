/* The ring's part of the probe: whether a ring can be used at all, its operations, set-up flags and
 * features, and the bench that the tests of probe_tests.c run on. The calling thread owns the ring.
 */
#include "probe_bench.h"

#include "check.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { BENCH_SUBMISSIONS = 16, BENCH_COMPLETIONS = 64, BENCH_GUARD_S = 5 };

/* ---- using the ring ---- */

struct io_uring_sqe *bench_submission(struct bench *bench)
{
    struct io_uring_sqe *sqe = ring_submission(&bench->ring);

    RONDO_ASSERT(sqe); /* Each test enters long before it has filled them all. */
    return sqe;
}

uint64_t bench_user_data(const struct bench *bench, enum tag tag)
{
    return bench->test * (TAG_COUNT + 1) + tag;
}

void bench_tag(struct bench *bench, struct io_uring_sqe *sqe, enum tag tag)
{
    sqe->user_data = bench_user_data(bench, tag);
}

static void note(struct bench *bench, const struct completion *completion)
{
    uint64_t tag = completion->user_data % (TAG_COUNT + 1);

    if (tag == TAG_GUARD) {
        bench->guard_fired = true;
    } else if (completion->user_data / (TAG_COUNT + 1) == bench->test) {
        struct seen *seen = &bench->seen[tag];
        if (seen->count++ == 0) {
            seen->result = completion->result;
            seen->flags = completion->flags;
        }
        if (!(completion->flags & IORING_CQE_F_MORE))
            seen->ended = true;
    }
}

int bench_await(struct bench *bench, enum tag tag, bool to_the_end)
{
    struct seen *seen = &bench->seen[tag];
    struct completion completion;

    while (!bench->guard_fired) {
        while (ring_reap(&bench->ring, &completion, 1) == 1)
            note(bench, &completion);
        if (seen->ended || (!to_the_end && seen->count > 0))
            return 0;
        if (ring_enter(&bench->ring, 1) == -ENOMEM)
            return -ENOMEM;
    }
    return -ETIME;
}

int bench_result(struct bench *bench)
{
    int error = bench_await(bench, TAG_FIRST, false);

    return error ? error : bench->seen[TAG_FIRST].result;
}

int bench_multishot_result(struct bench *bench)
{
    int result = bench_result(bench);

    if (result >= 0 && !(bench->seen[TAG_FIRST].flags & IORING_CQE_F_MORE))
        return -EINVAL;
    return result;
}

void bench_finish(struct bench *bench)
{
    if (bench->seen[TAG_FIRST].ended || bench->guard_fired)
        return;
    struct io_uring_sqe *sqe = bench_submission(bench);
    io_uring_prep_cancel64(sqe, bench_user_data(bench, TAG_FIRST), 0);
    bench_tag(bench, sqe, TAG_CANCEL);
    (void)bench_await(bench, TAG_FIRST, true);
}

/* ---- all of them ---- */

static void run_tests(struct bench *bench, struct probe_facts *facts)
{
    for (uint32_t i = 0; i < probe_test_count; i++) {
        enum probe_facility facility = probe_tests[i].facility;
        uint32_t opcode = probe_rows[facility].what;
        bench->test++;
        memset(bench->seen, 0, sizeof(bench->seen));
        if (opcode != 0 && !facts->ops[opcode])
            facts->errors[facility] = -ENOSYS;
        else
            facts->errors[facility] = probe_tests[i].run(bench);
    }
}

static int bench_run(struct probe_facts *facts, uint32_t *ret_dropped)
{
    struct ring_options options = {BENCH_SUBMISSIONS, BENCH_COMPLETIONS};
    struct bench bench = {.test = 1};
    int error = ring_init(&bench.ring, &options);

    if (error)
        return error;
    *ret_dropped = bench.ring.features_dropped & ~(uint32_t)RING_NO_IOWAIT;
    error = ring_enable(&bench.ring);
    bench.memory = mmap(NULL, sizeof(*bench.memory), PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (bench.memory == MAP_FAILED)
        error = -ENOMEM;
    if (!error) {
        struct __kernel_timespec patience = {.tv_sec = BENCH_GUARD_S};
        struct io_uring_sqe *sqe = bench_submission(&bench);
        io_uring_prep_timeout(sqe, &patience, 0, 0);
        bench_tag(&bench, sqe, TAG_GUARD);
        (void)ring_enter(&bench.ring, 0);
        bench.memory->long_time.tv_sec = 3600;
        run_tests(&bench, facts);
    }
    ring_fini(&bench.ring);
    if (bench.memory != MAP_FAILED && !bench.guard_fired)
        (void)munmap(bench.memory, sizeof(*bench.memory));
    return error;
}

/* Which operations there are. 0 or an error. */
static int list_ops(int fd, struct probe_facts *facts)
{
    uint64_t
        memory[(sizeof(struct io_uring_probe) + PROBE_OP_COUNT * sizeof(struct io_uring_probe_op)) /
               sizeof(uint64_t)] = {0};
    const struct io_uring_probe *list = (const void *)memory;
    int error = sys.ring_register(fd, IORING_REGISTER_PROBE, memory, PROBE_OP_COUNT);

    if (error)
        return error;
    for (uint32_t i = 0; i < list->ops_len; i++)
        if (list->ops[i].flags & IO_URING_OP_SUPPORTED)
            facts->ops[list->ops[i].op] = true;
    return 0;
}

/* Whether the three calls work at all: 0 or the error of the first that does not. */
static int try_calls(struct probe_facts *facts, uint32_t *ret_features)
{
    struct io_uring_params params = {0};
    int fd;
    int error;

    facts->ring_call = "io_uring_setup";
    fd = sys.ring_setup(2, &params);
    if (fd < 0)
        return fd;
    *ret_features = params.features;
    facts->ring_call = "io_uring_register";
    error = list_ops(fd, facts);
    if (!error) {
        facts->ring_call = "io_uring_enter";
        error = (int)sys_call(SYS_io_uring_enter, fd, 0, 0, 0);
    }
    (void)sys.close(fd);
    return error;
}

static int try_setup(uint32_t flags, bool none_dropped)
{
    struct io_uring_params params = {.flags = flags};
    int fd = sys.ring_setup(2, &params);

    /* The kernel takes its time to give back the locked memory of rings that have ended. The
     * bench's had all flags. */
    if (fd == -ENOMEM && none_dropped)
        return 0;
    if (fd < 0)
        return fd;
    (void)sys.close(fd);
    return 0;
}

void probe_ring(struct probe_facts *facts)
{
    uint32_t features = 0;
    uint32_t dropped = 0;
    int error = try_calls(facts, &features);

    if (!error) {
        facts->ring_call = "io_uring_setup";
        error = bench_run(facts, &dropped);
    }
    facts->ring_error = error;
    facts->errors[PROBE_RING] = error;
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++) {
        const struct probe_row *row = &probe_rows[i];
        if (error)
            facts->errors[i] = error;
        else if (row->how == PROBE_BY_OPCODE)
            facts->errors[i] = facts->ops[row->what] ? 0 : -ENOSYS;
        else if (row->how == PROBE_BY_SETUP)
            facts->errors[i] = try_setup(row->what, dropped == 0);
        else if (row->how == PROBE_BY_FEATURE)
            facts->errors[i] = features & row->what ? 0 : -ENOSYS;
    }
    if (error)
        memset(facts->ops, 0, sizeof(facts->ops));
}
