/* The probe: what is live is said to be live, what is not gets the true reason. Kernels that lack
 * something are made of this one by a seccomp filter in a child, or by the table of system calls.
 */
#include "needs_ring.h"

#include "probe_facts.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static struct rondo_probe *probe(void)
{
    struct rondo_probe *made = NULL;

    THREAD_CHECK(rondo_probe(&made) == 0);
    THREAD_CHECK(made->size == sizeof(*made));
    THREAD_CHECK(made->facility_count == PROBE_COUNT);
    return made;
}

static const struct rondo_facility *row_of(const struct rondo_probe *made, uint32_t facility)
{
    return made->facilities[facility];
}

static void expect_row(const struct rondo_facility *row, uint32_t state, int error,
                       const char *reason)
{
    if (row->state == state && row->error == error && strstr(row->reason, reason))
        return;
    fprintf(stderr, "%s: state %u, error %d, \"%s\"; expected state %u, error %d, \"%s\"\n",
            row->name, row->state, row->error, row->reason, state, error, reason);
    THREAD_CHECK(row->state == state && row->error == error && strstr(row->reason, reason));
}

/* Every row is complete, whatever became of it. */
static void expect_texts(const struct rondo_probe *made)
{
    THREAD_CHECK(made->kernel[0] && made->verdict[0]);
    for (uint32_t i = 0; i < made->facility_count; i++) {
        const struct rondo_facility *row = row_of(made, i);
        bool is_live = row->state == RONDO_FACILITY_LIVE;
        THREAD_CHECK(row->name[0] && row->used_for[0] && row->instead[0]);
        THREAD_CHECK(row->since_major >= 2 && row->need <= RONDO_FACILITY_PLANNED);
        THREAD_CHECK(row->state <= RONDO_FACILITY_FORBIDDEN);
        THREAD_CHECK((row->error == 0) == is_live);
        THREAD_CHECK((row->reason[0] == '\0') == is_live);
        THREAD_CHECK((row->remedy[0] == '\0') == is_live);
        for (uint32_t j = 0; j < i; j++)
            THREAD_CHECK(strcmp(row->name, row_of(made, j)->name) != 0);
    }
}

static uint32_t count_descriptors(void)
{
    uint32_t count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Run @body in a child, which fails by a signal. */
static void in_child(void (*body)(void *arg), const void *arg)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        body((void *)(uintptr_t)arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void forbid(uint32_t call, uint32_t error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_SIZE(code), code};

    THREAD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    THREAD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* ---- this kernel as it is ---- */

static void every_row_is_complete(void **state)
{
    /* Goal: no row without a text, none with two meanings. */
    struct rondo_probe *made = probe();

    (void)state;
    expect_texts(made);
    rondo_probe_free(made);
}

static void what_this_kernel_has_is_live(void **state)
{
    /* Goal: the tests of the ring use it as it wants to be used. Method: what came with this kernel
     * or before is live; locked memory may be limited, so not where that matters. */
    struct rondo_probe *made = probe();
    struct probe_surroundings here;

    (void)state;
    probe_surroundings(&here);
    assert_string_equal(made->kernel, here.release);
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++) {
        const struct rondo_facility *row = row_of(made, i);
        bool is_here = here.major > row->since_major ||
                       (here.major == row->since_major && here.minor >= row->since_minor);
        bool locks_memory = i == PROBE_BUFFERS || i == PROBE_SEND_ZC || i == PROBE_SEND_ZC_REPORT;
        if (is_here && !locks_memory)
            expect_row(row, RONDO_FACILITY_LIVE, 0, "");
    }
    expect_row(row_of(made, PROBE_EVENTFD), RONDO_FACILITY_LIVE, 0, "");
    expect_row(row_of(made, PROBE_PIDFD_WAIT), RONDO_FACILITY_LIVE, 0, "");
    assert_int_equal(made->is_usable, 1);
    rondo_probe_free(made);
}

static void twice_gives_the_same(void **state)
{
    /* Goal: a probe leaves nothing behind that changes the next one. */
    struct rondo_probe *first = probe();
    uint32_t descriptors = count_descriptors();

    (void)state;
    for (uint32_t round = 0; round < 10; round++) {
        struct rondo_probe *again = probe();
        for (uint32_t i = 0; i < PROBE_COUNT; i++)
            expect_row(row_of(again, i), row_of(first, i)->state, row_of(first, i)->error,
                       row_of(first, i)->reason);
        assert_string_equal(again->verdict, first->verdict);
        rondo_probe_free(again);
    }
    assert_int_equal(count_descriptors(), descriptors);
    rondo_probe_free(first);
}

static struct barrier everybody = {.count = 8};

static void *ask_all(void *arg)
{
    barrier_meet(&everybody);
    for (uint32_t i = 0; i < PROBE_COUNT; i++)
        ((bool *)arg)[i] = probe_has((enum probe_facility)i);
    struct rondo_probe *made = probe();
    for (uint32_t i = 0; i < PROBE_COUNT; i++)
        THREAD_CHECK(((bool *)arg)[i] == (row_of(made, i)->state == RONDO_FACILITY_LIVE));
    rondo_probe_free(made);
    return NULL;
}

static void many_threads_ask_at_once(void **state)
{
    /* Goal: the first question may come from several threads. Method: eight meet, ask for all, and
     * compare with a table of their own; under ThreadSanitizer this is also about races. */
    static bool answers[8][PROBE_COUNT];
    pthread_t threads[8];

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        threads[i] = thread_start(ask_all, answers[i]);
    for (uint32_t i = 0; i < 8; i++)
        thread_join(threads[i]);
    for (uint32_t i = 1; i < 8; i++)
        assert_memory_equal(answers[i], answers[0], sizeof(answers[0]));
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++)
        if (probe_rows[i].how == PROBE_BY_OPCODE)
            assert_int_equal(probe_op_supported((uint8_t)probe_rows[i].what), answers[0][i]);
    assert_false(probe_op_supported(255));
}

static void what_is_forced_absent_is_absent(void **state)
{
    /* Goal: a test can take the way around, and back. */
    bool zero_copy = probe_has(PROBE_SEND_ZC);
    bool truncate = probe_has(PROBE_FTRUNCATE);

    (void)state;
    probe_force_absent(PROBE_SEND_ZC, true);
    probe_force_absent(PROBE_FTRUNCATE, true);
    assert_false(probe_has(PROBE_SEND_ZC));
    assert_false(probe_op_supported(IORING_OP_SEND_ZC));
    assert_false(probe_op_supported(RING_OP_FTRUNCATE));
    probe_force_absent(PROBE_SEND_ZC, false);
    probe_force_absent(PROBE_FTRUNCATE, false);
    assert_int_equal(probe_has(PROBE_SEND_ZC), zero_copy);
    assert_int_equal(probe_has(PROBE_FTRUNCATE), truncate);
    assert_int_equal(probe_op_supported(RING_OP_FTRUNCATE), truncate);
    /* One of several tests of an operation does not take the operation away. */
    probe_force_absent(PROBE_MULTISHOT_RECV, true);
    assert_true(probe_op_supported(IORING_OP_RECV));
    probe_force_absent(PROBE_MULTISHOT_RECV, false);
}

/* ---- forbidden ---- */

struct refusal {
    uint32_t call;
    int error;
    uint32_t state;
    const char *reason;
};

static void probe_without_ring(void *arg)
{
    const struct refusal *refusal = arg;

    forbid(refusal->call, (uint32_t)refusal->error);
    struct rondo_probe *made = probe();
    expect_texts(made);
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++)
        expect_row(row_of(made, i), refusal->state, -refusal->error, refusal->reason);
    for (uint32_t i = PROBE_RING_COUNT; i < PROBE_KTLS; i++)
        expect_row(row_of(made, i), RONDO_FACILITY_LIVE, 0, "");
    THREAD_CHECK(made->is_usable == 0);
    THREAD_CHECK(strstr(made->verdict, "cannot work here"));
    THREAD_CHECK(strstr(made->verdict, refusal->reason));
    THREAD_CHECK(made->remedy[0]);
    THREAD_CHECK(!probe_has(PROBE_RING));
    THREAD_CHECK(!probe_op_supported(IORING_OP_NOP));
    THREAD_CHECK(probe_has(PROBE_EVENTFD));
    rondo_probe_free(made);
}

static void a_forbidden_ring_is_explained_in_every_row(void **state)
{
    /* Goal: no ring is no reason to fail, nor to abort, whichever of the three calls is refused. */
    static const struct refusal refusals[] = {
        {SYS_io_uring_setup, EPERM, RONDO_FACILITY_FORBIDDEN, "seccomp filter of this process"},
        {SYS_io_uring_setup, EACCES, RONDO_FACILITY_FORBIDDEN, "io_uring_setup (EACCES)"},
        {SYS_io_uring_register, EPERM, RONDO_FACILITY_FORBIDDEN, "io_uring_register (EPERM)"},
        {SYS_io_uring_enter, EPERM, RONDO_FACILITY_FORBIDDEN, "io_uring_enter (EPERM)"},
        {SYS_io_uring_setup, ENOSYS, RONDO_FACILITY_FORBIDDEN, "hides it"},
        {SYS_io_uring_setup, EMFILE, RONDO_FACILITY_REFUSED, "no descriptor"},
        {SYS_io_uring_setup, ENOMEM, RONDO_FACILITY_REFUSED, "no memory"},
        {SYS_io_uring_setup, EINVAL, RONDO_FACILITY_REFUSED, "io_uring_setup failed (EINVAL)"},
    };

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(refusals); i++)
        in_child(probe_without_ring, &refusals[i]);
}

static void probe_without_pidfd(void *arg)
{
    const struct refusal *refusal = arg;

    forbid(refusal->call, (uint32_t)refusal->error);
    struct rondo_probe *made = probe();
    expect_row(row_of(made, PROBE_PIDFD), refusal->state, -refusal->error, refusal->reason);
    expect_row(row_of(made, PROBE_CLOSE_RANGE), RONDO_FACILITY_LIVE, 0, "");
    expect_row(row_of(made, PROBE_RING), RONDO_FACILITY_LIVE, 0, "");
    THREAD_CHECK(made->is_usable == 1);
    THREAD_CHECK(strstr(made->verdict, "replacement"));
    rondo_probe_free(made);
}

static void one_forbidden_call_is_one_row(void **state)
{
    /* Goal: a filter that refuses and one that hides are both found out. */
    static const struct refusal refusals[] = {
        {SYS_pidfd_open, EPERM, RONDO_FACILITY_FORBIDDEN, "seccomp filter of this process refuses"},
        {SYS_pidfd_open, ENOSYS, RONDO_FACILITY_FORBIDDEN, "hides it"},
    };

    (void)state;
    for (uint32_t i = 0; i < ARRAY_SIZE(refusals); i++)
        in_child(probe_without_pidfd, &refusals[i]);
}

/* What the replaced calls answer. */
static const char *sysctl_text;
static int setup_error;
static uint32_t setup_flag_refused;

static int setup_refused(unsigned count, struct io_uring_params *params)
{
    if (setup_error)
        return setup_error;
    return params->flags & setup_flag_refused ? -EINVAL : sys_real.ring_setup(count, params);
}

static int64_t call_with_sysctl(long number, const long arguments[6])
{
    if (number == SYS_openat &&
        strcmp((const char *)arguments[1], "/proc/sys/kernel/io_uring_disabled") == 0) {
        int fd = memfd_create("sysctl", MFD_CLOEXEC);
        THREAD_CHECK(write(fd, sysctl_text, strlen(sysctl_text)) == (ssize_t)strlen(sysctl_text));
        THREAD_CHECK(lseek(fd, 0, SEEK_SET) == 0);
        return fd;
    }
    return sys_real.call(number, arguments);
}

static void the_sysctl_is_named(void **state)
{
    /* Goal: EPERM is laid at the door of the sysctl when that is closed. Method: the call fails and
     * the file says 2. With 0 it must be something else. */
    (void)state;
    sys.ring_setup = setup_refused;
    sys.call = call_with_sysctl;
    setup_error = -EPERM;
    sysctl_text = "2\n";
    struct rondo_probe *made = probe();
    for (uint32_t i = 0; i < PROBE_RING_COUNT; i++)
        expect_row(row_of(made, i), RONDO_FACILITY_FORBIDDEN, -EPERM,
                   "kernel.io_uring_disabled is 2: nobody");
    assert_non_null(strstr(made->remedy, "sysctl -w kernel.io_uring_disabled=0"));
    rondo_probe_free(made);
    sysctl_text = "0\n";
    made = probe();
    assert_int_equal(row_of(made, PROBE_RING)->state, RONDO_FACILITY_FORBIDDEN);
    assert_null(strstr(row_of(made, PROBE_RING)->reason, "io_uring_disabled"));
    rondo_probe_free(made);
}

static void drop_rights(void)
{
    if (getuid() == 0)
        THREAD_CHECK(setresuid(65534, 65534, 65534) == 0);
}

static void probe_as_nobody_with_sysctl_1(void *arg)
{
    (void)arg;
    drop_rights();
    sys.ring_setup = setup_refused;
    sys.call = call_with_sysctl;
    setup_error = -EPERM;
    sysctl_text = "1\n";
    struct rondo_probe *made = probe();
    expect_row(row_of(made, PROBE_RING), RONDO_FACILITY_FORBIDDEN, -EPERM, "io_uring_group");
    rondo_probe_free(made);
}

static void the_sysctl_for_admins_is_named_to_others(void **state)
{
    (void)state;
    in_child(probe_as_nobody_with_sysctl_1, NULL);
}

/* ---- older kernels ---- */

static void a_refused_flag_is_one_row(void **state)
{
    /* Goal: one set-up flag less does not take the others along. */
    (void)state;
    sys.ring_setup = setup_refused;
    setup_error = 0;
    setup_flag_refused = IORING_SETUP_SUBMIT_ALL;
    struct rondo_probe *made = probe();
    expect_row(row_of(made, PROBE_SUBMIT_ALL), RONDO_FACILITY_REFUSED, -EINVAL,
               "refuses the flag (EINVAL), which came with Linux 5.18");
    expect_row(row_of(made, PROBE_DEFER_TASKRUN), RONDO_FACILITY_LIVE, 0, "");
    expect_row(row_of(made, PROBE_SEND), RONDO_FACILITY_LIVE, 0, "");
    rondo_probe_free(made);
}

static int64_t call_on_6_1(long number, const long arguments[6])
{
    int64_t result = sys_real.call(number, arguments);

    if (number == SYS_uname)
        strcpy(((struct utsname *)arguments[0])->release, "6.1.0-18-amd64");
    return result;
}

static int register_on_6_1(int fd, unsigned opcode, const void *arg, unsigned count)
{
    int result = sys_real.ring_register(fd, opcode, arg, count);

    if (opcode == IORING_REGISTER_PROBE && result == 0)
        ((struct io_uring_probe *)(uintptr_t)arg)->ops_len = IORING_OP_SENDMSG_ZC + 1;
    return result;
}

static void an_older_kernel_is_named_with_the_one_that_is_needed(void **state)
{
    /* Goal: operations that the kernel does not list are absent, and the reason names both
     * versions. Method: what is listed ends where 6.1 ended. */
    static const enum probe_facility newer[] = {PROBE_MULTISHOT_READ, PROBE_WAITID,
                                                PROBE_FUTEX_WAIT, PROBE_FUTEX_WAKE};

    (void)state;
    sys.call = call_on_6_1;
    sys.ring_register = register_on_6_1;
    struct rondo_probe *made = probe();
    assert_string_equal(made->kernel, "6.1.0-18-amd64");
    for (uint32_t i = 0; i < ARRAY_SIZE(newer); i++)
        expect_row(row_of(made, newer[i]), RONDO_FACILITY_ABSENT, -ENOSYS,
                   "it came with Linux 6.7, this is 6.1.0-18-amd64");
    expect_row(row_of(made, PROBE_FTRUNCATE), RONDO_FACILITY_ABSENT, -ENOSYS, "Linux 6.9");
    expect_row(row_of(made, PROBE_SENDMSG_ZC), RONDO_FACILITY_LIVE, 0, "");
    expect_row(row_of(made, PROBE_MULTISHOT_RECV), RONDO_FACILITY_LIVE, 0, "");
    assert_int_equal(made->is_usable, 1);
    assert_non_null(strstr(made->verdict, "replacement"));
    rondo_probe_free(made);
}

/* ---- shortages ---- */

static void probe_without_locked_memory(void *arg)
{
    struct rlimit none = {0, 0};

    (void)arg;
    drop_rights();
    THREAD_CHECK(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    struct rondo_probe *made = probe();
    expect_texts(made);
    /* Some kernels count the ring as well. */
    expect_row(row_of(made, PROBE_BUFFERS), RONDO_FACILITY_REFUSED, -ENOMEM,
               "RLIMIT_MEMLOCK, is limited to 0 bytes");
    THREAD_CHECK(strstr(row_of(made, PROBE_BUFFERS)->remedy, "ulimit -l"));
    rondo_probe_free(made);
}

static void a_limit_of_locked_memory_is_named(void **state)
{
    (void)state;
    in_child(probe_without_locked_memory, NULL);
}

static int no_registered_buffers(int fd, unsigned opcode, const void *arg, unsigned count)
{
    return opcode == IORING_REGISTER_BUFFERS ? -ENOMEM
                                             : sys_real.ring_register(fd, opcode, arg, count);
}

static void probe_without_buffers(void *arg)
{
    (void)arg;
    sys.ring_register = no_registered_buffers;
    THREAD_CHECK(!probe_has(PROBE_BUFFERS));
    THREAD_CHECK(probe_has(PROBE_MULTISHOT_RECV));
    sys.ring_register = sys_real.ring_register;
    sys.ring_setup = setup_refused;
    setup_error = -EPERM;
    THREAD_CHECK(!probe_has(PROBE_BUFFERS));
    THREAD_CHECK(probe_has(PROBE_MULTISHOT_RECV));
}

static void a_lack_of_locked_memory_is_kept(void **state)
{
    /* Goal: a limit that stays does not make every question try everything again. Method: after the
     * first one no ring can be made, and the answers are the same. */
    (void)state;
    in_child(probe_without_buffers, NULL);
}

static void probe_without_descriptors(void *arg)
{
    struct rlimit limit;
    struct rlimit none = {0, 0};

    (void)arg;
    THREAD_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none.rlim_max = limit.rlim_max;
    THREAD_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    THREAD_CHECK(!probe_has(PROBE_RING));
    THREAD_CHECK(!probe_has(PROBE_PIDFD));
    THREAD_CHECK(!probe_op_supported(IORING_OP_SEND));
    struct rondo_probe *made = probe();
    expect_texts(made);
    expect_row(row_of(made, PROBE_SEND), RONDO_FACILITY_REFUSED, -EMFILE, "no descriptor");
    expect_row(row_of(made, PROBE_PIDFD), RONDO_FACILITY_REFUSED, -EMFILE, "no descriptor");
    rondo_probe_free(made);
    THREAD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    THREAD_CHECK(probe_has(PROBE_RING));
    THREAD_CHECK(probe_has(PROBE_PIDFD));
    THREAD_CHECK(probe_op_supported(IORING_OP_SEND));
}

static void a_moment_without_descriptors_is_not_kept(void **state)
{
    /* Goal: a shortage does not turn everything off for good. Method: a child that never asked
     * before asks with no descriptor left, and again with all. */
    (void)state;
    in_child(probe_without_descriptors, NULL);
}

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void wrong_arguments_and_no_memory_are_errors(void **state)
{
    struct rondo_probe *made = NULL;

    (void)state;
    assert_int_equal(rondo_probe(NULL), -EINVAL);
    rondo_probe_free(NULL);
    sys.alloc = no_memory;
    assert_int_equal(rondo_probe(&made), -ENOMEM);
    assert_null(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First, while this process has asked for nothing. */
        cmocka_unit_test(a_moment_without_descriptors_is_not_kept),
        cmocka_unit_test(a_lack_of_locked_memory_is_kept),
        cmocka_unit_test(a_limit_of_locked_memory_is_named),
        cmocka_unit_test(a_forbidden_ring_is_explained_in_every_row),
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(what_this_kernel_has_is_live),
        cmocka_unit_test(twice_gives_the_same),
        cmocka_unit_test(many_threads_ask_at_once),
        cmocka_unit_test(what_is_forced_absent_is_absent),
        cmocka_unit_test(one_forbidden_call_is_one_row),
        cmocka_unit_test_teardown(the_sysctl_is_named, sys_restore),
        cmocka_unit_test(the_sysctl_for_admins_is_named_to_others),
        cmocka_unit_test_teardown(a_refused_flag_is_one_row, sys_restore),
        cmocka_unit_test_teardown(an_older_kernel_is_named_with_the_one_that_is_needed,
                                  sys_restore),
        cmocka_unit_test_teardown(wrong_arguments_and_no_memory_are_errors, sys_restore),
    };

    if (ring_is_missing())
        return TEST_SKIPPED;
    return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
