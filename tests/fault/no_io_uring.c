/* Goal: where io_uring is missing or forbidden, the error says so and what to do about it; nothing
 * crashes and nothing leaks.
 *
 * Method: children of this process with a seccomp filter that lets one system call fail, with the
 * errors that the kernel, its sysctl and container profiles give.
 */
#include "support.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *echo_program;

static void forbid(uint32_t call, uint32_t error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

struct refusal {
    uint32_t call;
    int error;
    int expected;
    const char *remedy[2];
};

static void expect_remedy(const struct refusal *refusal, const char *text)
{
    for (uint32_t i = 0; i < 2 && refusal->remedy[i]; i++)
        if (!strstr(text, refusal->remedy[i])) {
            fprintf(stderr, "\"%s\" does not name \"%s\"\n", text, refusal->remedy[i]);
            CHECK(strstr(text, refusal->remedy[i]));
        }
}

static void create_in_vain(void *ctx)
{
    const struct refusal *refusal = ctx;
    rondo_loop *loop = NULL;

    forbid(refusal->call, (uint32_t)refusal->error);
    uint32_t descriptors = count_descriptors();
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQUAL(rondo_loop_create(NULL, &loop), refusal->expected);
        CHECK(!loop);
        expect_remedy(refusal, rondo_error_text());
    }
    CHECK_EQUAL(count_descriptors(), descriptors);
}

static const struct refusal refusals[] = {
    {SYS_io_uring_setup, EPERM, -EPERM, {"kernel.io_uring_disabled", "seccomp"}},
    {SYS_io_uring_setup, EACCES, -EPERM, {"kernel.io_uring_disabled", "seccomp"}},
    {SYS_io_uring_setup, ENOSYS, -ENOSYS, {"Linux 6.1"}},
    {SYS_io_uring_setup, EINVAL, -ENOSYS, {"Linux 6.1"}},
    {SYS_io_uring_setup, ENOMEM, -ENOMEM, {"ulimit -l"}},
    {SYS_io_uring_setup, EMFILE, -EMFILE, {"ulimit -n"}},
    {SYS_io_uring_setup, ENFILE, -ENFILE, {"ulimit -n"}},
};

static void a_refused_io_uring_setup_is_explained(void **state)
{
    (void)state;
    (void)test_begin("no_io_uring, setup");
    for (uint32_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        run_in_child(create_in_vain, (void *)(uintptr_t)&refusals[i]);
}

/* Whichever of create and start meets it: an error, and a clean end. */
static void start_in_vain(void *ctx)
{
    const struct refusal *refusal = ctx;

    forbid(refusal->call, (uint32_t)refusal->error);
    uint32_t descriptors = count_descriptors();
    for (uint32_t i = 0; i < 5; i++) {
        rondo_loop *loop = NULL;
        int error = rondo_loop_create(NULL, &loop);
        if (!error)
            error = rondo_loop_start(loop);
        CHECK_EQUAL(error, refusal->expected);
        if (loop) {
            (void)rondo_loop_wait(loop);
            rondo_loop_free(loop);
        }
    }
    WAIT_UNTIL(count_threads() == 3 || TEST_SANITIZED, 5000); /* ".", ".." and this one */
    CHECK_EQUAL(count_descriptors(), descriptors);
}

static void a_refused_io_uring_register_ends_the_start(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {SYS_io_uring_register, EPERM, -EPERM, {NULL}},
        {SYS_io_uring_register, ENOMEM, -ENOMEM, {NULL}},
        {SYS_io_uring_register, EINVAL, -ENOSYS, {"Linux 6.1"}},
    };

    (void)test_begin("no_io_uring, register");
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        run_in_child(start_in_vain, (void *)(uintptr_t)&cases[i]);
}

/* Cause: the text is set on the thread that failed, where the caller of start cannot read it. */
static void read_text_in_vain(void *ctx)
{
    rondo_loop *loop = NULL;

    (void)ctx;
    forbid(SYS_io_uring_register, ENOMEM);
    if (rondo_loop_create(NULL, &loop) == 0)
        CHECK_EQUAL(rondo_loop_start(loop), -ENOMEM);
    CHECK(strstr(rondo_error_text(), "io_uring"));
    rondo_loop_free(loop);
}

static void the_caller_of_a_failed_start_sees_the_text(void **state)
{
    (void)state;
    (void)test_begin("no_io_uring, text");
    run_in_child(read_text_in_vain, NULL);
}

static void accepted_never(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    (void)ctx;
    (void)rondo_stream_close(stream);
}

/* Cause: handles that were made before the start never reach a lane when the start fails. */
static void listen_in_vain(void *ctx)
{
    static const struct rondo_listener_handlers handlers = {
        .size = sizeof(handlers),
        .accepted = accepted_never,
    };

    (void)ctx;
    forbid(SYS_io_uring_register, ENOMEM);
    uint32_t descriptors = count_descriptors();
    for (uint32_t i = 0; i < 5; i++) {
        rondo_loop *loop = NULL;
        if (rondo_loop_create(NULL, &loop) != 0)
            return;
        (void)listen_local(loop, &handlers, NULL);
        CHECK_EQUAL(rondo_loop_start(loop), -ENOMEM);
        rondo_loop_free(loop);
    }
    CHECK_EQUAL(count_descriptors(), descriptors);
}

static void a_failed_start_does_not_leak_listeners_made_before_it(void **state)
{
    (void)state;
    (void)test_begin("no_io_uring, listener");
    run_in_child(listen_in_vain, NULL);
}

static void the_server_prints_the_remedy_and_exits_with_1(void **state)
{
    (void)state;
    (void)test_begin("no_io_uring, rondo-echo");
    char words[4096] = "";
    int output[2];
    int status = 0;

    CHECK_EQUAL(pipe(output), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        forbid(SYS_io_uring_setup, EPERM);
        CHECK(dup2(output[1], STDERR_FILENO) >= 0);
        (void)execl(echo_program, echo_program, "--port", "0", (char *)NULL);
        _exit(127);
    }
    (void)close(output[1]);
    for (ssize_t size = 0, count = 1; count > 0; size += count)
        count = read(output[0], words + size, sizeof(words) - 1 - (size_t)size);
    (void)close(output[0]);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 1);
    expect_remedy(&refusals[0], words);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_io_uring_setup_is_explained),
        cmocka_unit_test(a_refused_io_uring_register_ends_the_start),
        cmocka_unit_test(the_caller_of_a_failed_start_sees_the_text),
        cmocka_unit_test(a_failed_start_does_not_leak_listeners_made_before_it),
        cmocka_unit_test(the_server_prints_the_remedy_and_exits_with_1),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: fault_no_io_uring PATH-OF-RONDO-ECHO\n");
        return 2;
    }
    echo_program = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
