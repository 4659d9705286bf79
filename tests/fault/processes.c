/* Goal: a child process tells how it ended once, gets what it was promised, and is never left as a
 * zombie, whoever closes, kills, drains or stops meanwhile.
 * Method: small programs of the system; a child counts as gone when its number is nobody's, which a
 * zombie's is not. Built twice: the second program polls pidfds instead of waiting in the ring. */
#include "support.h"

#ifdef WITHOUT_RING
#include "probe.h"
#endif

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static rondo_loop *loop;

static struct child {
    rondo_process *process;
    pid_t id;
    struct rondo_exit_status status;
    _Atomic int exited_count;
    _Atomic int closed_count;
    int closed_error;
    bool gone_when_closed;
    bool closes_itself;
} children[200];

static bool is_gone(pid_t id)
{
    return kill(id, 0) != 0 && errno == ESRCH;
}

static void note_exited(rondo_process *process, const struct rondo_exit_status *status, void *ctx)
{
    struct child *child = ctx;

    CHECK(process == child->process);
    CHECK_EQUAL(atomic_load(&child->closed_count), 0);
    child->status = *status;
    CHECK(is_gone(rondo_process_id(process)));
    CHECK_EQUAL(rondo_process_kill(process, 0), -ESRCH);
    atomic_fetch_add(&child->exited_count, 1);
    if (child->closes_itself)
        CHECK_EQUAL(rondo_process_close(process), 0);
}

static void note_closed(rondo_process *process, int error, void *ctx)
{
    struct child *child = ctx;

    CHECK(process == child->process);
    child->closed_error = error;
    child->gone_when_closed = is_gone(rondo_process_id(process));
    atomic_fetch_add(&child->closed_count, 1);
}

static const struct rondo_process_handlers handlers = {sizeof(handlers), note_exited, note_closed};

static int spawn(struct child *child, struct rondo_process_options *options, char *const argv[])
{
    int error;

    options->program = argv[0];
    options->argv = argv;
    error = rondo_process_spawn(loop, options, &handlers, child, &child->process);
    if (!error)
        child->id = rondo_process_id(child->process);
    return error;
}

/* A shell that does @script; returns when it has begun. */
static void shell(struct child *child, struct rondo_process_options *options, const char *script)
{
    char *argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)script, NULL};
    struct rondo_process_options plain = RONDO_PROCESS_OPTIONS_INIT;

    memset(child, 0, sizeof(*child));
    CHECK_EQUAL(spawn(child, options ? options : &plain, argv), 0);
}

static void wait_exited(struct child *child)
{
    WAIT_UNTIL(atomic_load(&child->exited_count) == 1, 10000);
}

static void close_child(struct child *child)
{
    CHECK_EQUAL(rondo_process_close(child->process), 0);
    WAIT_UNTIL(atomic_load(&child->closed_count) == 1, 5000);
    CHECK_EQUAL(child->closed_error, 0);
}

static void end_loop(void)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 20000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    rondo_loop_free(loop);
}

/* ---- starting ---- */

static void errors_of_a_start(void **state)
{
    struct child *child = &children[0];
    char *argv[] = {"/bin/true", NULL};
    char *missing[] = {"/no/such/program", NULL};
    char *unfound[] = {"no-such-program-anywhere", NULL};
    char *folder[] = {"/", NULL};
    char *none[] = {NULL};
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct rondo_process_fd twice[2] = {{5, 1}, {5, 2}};
    uint32_t descriptors;
    rondo_process *process;

    (void)state;
    loop = loop_begin(NULL);
    descriptors = count_descriptors();
    for (int i = 0; i < 3; i++)
        options.stdio[i].kind = i == 1 ? RONDO_STDIO_NULL : RONDO_STDIO_PIPE;
    CHECK_EQUAL(spawn(child, &options, missing), -ENOENT);
    CHECK(strstr(rondo_error_text(), "/no/such/program"));
    CHECK_EQUAL(spawn(child, &options, unfound), -ENOENT);
    CHECK_EQUAL(spawn(child, &options, folder), -EACCES);
    options.cwd = "/no/such/folder";
    CHECK_EQUAL(spawn(child, &options, argv), -ENOENT);
    options.cwd = NULL;
    options.program = argv[0];
    options.argv = none;
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &handlers, child, &process), -EINVAL);
    options.argv = NULL;
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &handlers, child, &process), -EINVAL);
    options.argv = argv;
    options.program = NULL;
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &handlers, child, &process), -EINVAL);
    options.stdio[2] = (struct rondo_stdio){RONDO_STDIO_FD, -1};
    CHECK_EQUAL(spawn(child, &options, argv), -EBADF);
    options.stdio[2] = (struct rondo_stdio){RONDO_STDIO_FD, 999999};
    CHECK_EQUAL(spawn(child, &options, argv), -EBADF);
    options.stdio[2] = (struct rondo_stdio){(enum rondo_stdio_kind)9, 0};
    CHECK_EQUAL(spawn(child, &options, argv), -EINVAL);
    options.stdio[2] = (struct rondo_stdio){RONDO_STDIO_NULL, 0};
    options.fds = twice;
    options.fd_count = 2;
    CHECK_EQUAL(spawn(child, &options, argv), -EINVAL);
    options.fd_count = UINT32_MAX;
    CHECK_EQUAL(spawn(child, &options, argv), -EINVAL);
    options.fd_count = 0;
    CHECK_EQUAL(rondo_process_spawn(NULL, &options, &handlers, child, &process), -EINVAL);
    CHECK_EQUAL(rondo_process_spawn(loop, NULL, &handlers, child, &process), -EINVAL);
    CHECK_EQUAL(rondo_process_spawn(loop, &options, NULL, child, &process), -EINVAL);
    CHECK_EQUAL(rondo_process_spawn(loop, &options, &handlers, child, NULL), -EINVAL);
    options.size--;
    CHECK_EQUAL(spawn(child, &options, argv), -EINVAL);
    CHECK_EQUAL(count_descriptors(), descriptors);
    CHECK_EQUAL(waitpid(-1, NULL, WNOHANG), -1);
    end_loop();
    options.size++;
    CHECK_EQUAL(rondo_process_kill(NULL, 0), -EINVAL);
    CHECK_EQUAL(rondo_process_id(NULL), -EINVAL);
    CHECK_EQUAL(rondo_process_take_pipe(NULL, 0), -EINVAL);
    CHECK_EQUAL(rondo_process_wait(NULL, NULL, NULL), -EINVAL);
    CHECK_EQUAL(rondo_process_close(NULL), -EINVAL);
    CHECK(!rondo_process_strand(NULL));
}

static void codes_and_signals(void **state)
{
    struct child *child = &children[0];
    static const struct {
        const char *script;
        int code;
        int signal;
    } rows[] = {{"exit 0", 0, 0}, {"exit 7", 7, 0}, {"exit 255", 255, 0}, {"kill -9 $$", -1, 9}};

    (void)state;
    loop = loop_begin(NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        shell(child, NULL, rows[i].script);
        wait_exited(child);
        CHECK_EQUAL(child->status.code, rows[i].code);
        CHECK_EQUAL(child->status.signal, rows[i].signal);
        close_child(child);
    }
    shell(child, NULL, "exec sleep 30");
    CHECK_EQUAL(rondo_process_kill(child->process, 0), 0);
    CHECK_EQUAL(rondo_process_kill(child->process, 1000), -EINVAL);
    CHECK_EQUAL(atomic_load(&child->exited_count), 0);
    CHECK_EQUAL(rondo_process_kill(child->process, SIGTERM), 0);
    wait_exited(child);
    CHECK_EQUAL(child->status.signal, SIGTERM);
    close_child(child);
    end_loop();
}

/* ---- what the child gets ---- */

/* What arrives until the end, at most @size - 1 bytes, as a string. */
static size_t read_all(int fd, char *data, size_t size)
{
    size_t got = 0;
    ssize_t one;

    while (got < size - 1 && (one = read(fd, data + got, size - 1 - got)) != 0) {
        CHECK(one > 0 || errno == EINTR);
        got += one > 0 ? (size_t)one : 0;
    }
    data[got] = '\0';
    return got;
}

/* The kernel ends earlier rings of this thread late, and that may cut a write short. */
static void write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t one = write(fd, data, size);
        CHECK(one > 0 || errno == EINTR);
        data += one > 0 ? one : 0;
        size -= one > 0 ? (size_t)one : 0;
    }
}

static int take(struct child *child, int number)
{
    int fd = rondo_process_take_pipe(child->process, number);

    CHECK(fd >= 0);
    CHECK_EQUAL(rondo_process_take_pipe(child->process, number), -ENOENT);
    CHECK_EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    return fd;
}

static void environment_and_cwd(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    char *envp[] = {"COLOUR=blue", "PATH=/usr/bin:/bin", NULL};
    char text[256];
    int out;

    (void)state;
    loop = loop_begin(NULL);
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    options.envp = envp;
    options.cwd = "/usr";
    shell(&children[0], &options, "pwd; echo $COLOUR; echo ${HOME:-none}; ls -d /proc/self/fd");
    out = take(&children[0], 1);
    CHECK_EQUAL(rondo_process_take_pipe(children[0].process, 0), -ENOENT);
    CHECK_EQUAL(rondo_process_take_pipe(children[0].process, 3), -EINVAL);
    read_all(out, text, sizeof(text));
    CHECK(strcmp(text, "/usr\nblue\nnone\n/proc/self/fd\n") == 0);
    CHECK_EQUAL(close(out), 0);
    wait_exited(&children[0]);
    CHECK_EQUAL(children[0].status.code, 0);
    close_child(&children[0]);
    end_loop();
}

static void signals_are_reset(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    char *argv[] = {"grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status", NULL};
    struct child *child = &children[0];
    char text[256];
    sigset_t all;
    sigset_t old;
    int out;

    (void)state;
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    sigfillset(&all);
    CHECK_EQUAL(sigprocmask(SIG_BLOCK, &all, &old), 0);
    loop = loop_begin(NULL);
    memset(child, 0, sizeof(*child));
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    CHECK_EQUAL(spawn(child, &options, argv), 0);
    out = take(child, 1);
    read_all(out, text, sizeof(text));
    CHECK(strcmp(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n") == 0);
    CHECK_EQUAL(close(out), 0);
    wait_exited(child);
    close_child(child);
    end_loop();
    CHECK_EQUAL(sigprocmask(SIG_SETMASK, &old, NULL), 0);
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
}

static void large_output_and_input(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct child *child = &children[0];
    size_t size = 3000001;
    char *data = malloc(size);
    char text[64];
    int in;

    (void)state;
    CHECK(data);
    loop = loop_begin(NULL);
    for (int i = 0; i < 3; i++)
        options.stdio[i].kind = RONDO_STDIO_PIPE;
    shell(child, &options, "head -c 3000000 /dev/zero; echo done >&2; cat >/dev/null; exit 3");
    int out = take(child, 1);
    int errors = take(child, 2);
    CHECK_EQUAL(read_all(out, data, size), 3000000);
    read_all(errors, text, 6);
    CHECK(strcmp(text, "done\n") == 0);
    CHECK_EQUAL(atomic_load(&child->exited_count), 0);
    in = take(child, 0);
    write_all(in, data, 100000);
    CHECK_EQUAL(close(in), 0);
    wait_exited(child);
    CHECK_EQUAL(child->status.code, 3);
    close_child(child);
    CHECK_EQUAL(close(out), 0);
    CHECK_EQUAL(close(errors), 0);
    free(data);
    end_loop();
}

static _Atomic uint64_t echoed;
static _Atomic bool echo_closed;

static void note_echo(rondo_stream *stream, const void *data, size_t size, void *ctx)
{
    (void)stream;
    (void)data;
    (void)ctx;
    atomic_fetch_add(&echoed, size);
}

static void note_echo_closed(rondo_stream *stream, int error, void *ctx)
{
    (void)stream;
    (void)ctx;
    CHECK_EQUAL(error, 0);
    atomic_store(&echo_closed, true);
}

static const struct rondo_stream_handlers echo_handlers = {
    .size = sizeof(echo_handlers), .read = note_echo, .closed = note_echo_closed};

static void pipes_as_streams(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct child *child = &children[0];
    static char data[1000000];
    rondo_stream *in;
    rondo_stream *out;

    (void)state;
    loop = loop_begin(NULL);
    options.stdio[0].kind = RONDO_STDIO_PIPE;
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    shell(child, &options, "exec cat");
    CHECK_EQUAL(rondo_process_take_stream(NULL, 0, &in), -EINVAL);
    CHECK_EQUAL(rondo_process_take_stream(child->process, 2, &in), -ENOENT);
    CHECK_EQUAL(rondo_process_take_stream(child->process, 0, NULL), -EINVAL);
    CHECK_EQUAL(rondo_process_take_stream(child->process, 0, &in), 0);
    CHECK_EQUAL(rondo_process_take_stream(child->process, 0, &in), -ENOENT);
    CHECK_EQUAL(rondo_process_take_stream(child->process, 1, &out), 0);
    CHECK_EQUAL(rondo_stream_start(out, &echo_handlers, NULL), 0);
    CHECK_EQUAL(rondo_stream_write(in, data, sizeof(data)), 0);
    CHECK_EQUAL(rondo_stream_close(in), 0);
    WAIT_UNTIL(atomic_load(&echo_closed), 5000);
    CHECK_EQUAL(atomic_load(&echoed), sizeof(data));
    wait_exited(child);
    close_child(child);
    end_loop();
}

static void given_descriptors(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct rondo_process_fd more;
    struct child *child = &children[0];
    char text[64];
    int pipes[2];

    (void)state;
    loop = loop_begin(NULL);
    CHECK_EQUAL(pipe2(pipes, O_CLOEXEC), 0);
    options.stdio[0].kind = RONDO_STDIO_NULL;
    options.stdio[1] = (struct rondo_stdio){RONDO_STDIO_FD, pipes[1]};
    more = (struct rondo_process_fd){9, pipes[1]};
    options.fds = &more;
    options.fd_count = 1;
    options.new_session = true;
    shell(child, &options, "cat; echo one; echo nine >&9; ls /proc/self/fd | wc -l");
    CHECK_EQUAL(close(pipes[1]), 0);
    read_all(pipes[0], text, sizeof(text));
    /* 0, 1, 2, 9 and the folder that ls reads. */
    CHECK(strcmp(text, "one\nnine\n5\n") == 0);
    CHECK_EQUAL(close(pipes[0]), 0);
    wait_exited(child);
    close_child(child);
    end_loop();
}

/* ---- many ---- */

static void many_children(void **state)
{
    int count = TEST_SANITIZED ? 40 : 200;
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    char *argv[] = {"/bin/cat", NULL};
    uint32_t descriptors;

    (void)state;
    loop = loop_begin(NULL);
    descriptors = count_descriptors();
    options.stdio[0].kind = RONDO_STDIO_PIPE;
    options.stdio[1].kind = RONDO_STDIO_PIPE;
    for (int i = 0; i < count; i++) {
        memset(&children[i], 0, sizeof(children[i]));
        children[i].closes_itself = true;
        CHECK_EQUAL(spawn(&children[i], &options, argv), 0);
    }
    /* The end of its input ends each: no other child may hold a copy of the pipe. */
    for (int i = 0; i < count; i++)
        CHECK_EQUAL(close(take(&children[i], 0)), 0);
    for (int i = 0; i < count; i++) {
        WAIT_UNTIL(atomic_load(&children[i].closed_count) == 1, 10000);
        CHECK_EQUAL(atomic_load(&children[i].exited_count), 1);
        CHECK_EQUAL(children[i].status.code, 0);
        CHECK(is_gone(children[i].id));
    }
    /* Pipes that nobody took are closed as well. */
    WAIT_UNTIL(count_descriptors() == descriptors, 5000);
    CHECK_EQUAL(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
    end_loop();
}

/* ---- closing ---- */

static void closed_while_it_runs(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct child *child = &children[0];

    (void)state;
    loop = loop_begin(NULL);
    shell(child, NULL, "exec sleep 30");
    close_child(child);
    CHECK_EQUAL(atomic_load(&child->exited_count), 0);
    CHECK(!child->gone_when_closed);
    end_loop();
    /* Collected though its loop is gone. */
    CHECK_EQUAL(kill(child->id, SIGKILL), 0);
    WAIT_UNTIL(is_gone(child->id), 5000);

    loop = loop_begin(NULL);
    options.kill_on_close = true;
    shell(child, &options, "exec sleep 30");
    close_child(child);
    CHECK_EQUAL(atomic_load(&child->exited_count), 0);
    CHECK(child->gone_when_closed);
    end_loop();
}

static void close_after_exit(void *ctx)
{
    struct child *child = ctx;

    WAIT_UNTIL(is_gone(child->id), 5000);
    test_pass_time(5); /* The exit is posted behind this callback by now. */
    CHECK_EQUAL(rondo_process_close(child->process), 0);
    CHECK_EQUAL(rondo_process_close(child->process), -EALREADY);
}

static void not_told_after_a_close(void **state)
{
    struct child *child = &children[0];

    (void)state;
    loop = loop_begin(NULL);
    shell(child, NULL, "sleep 0.01");
    CHECK_EQUAL(
        rondo_strand_post(rondo_process_strand(child->process), close_after_exit, child, NULL), 0);
    WAIT_UNTIL(atomic_load(&child->closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&child->exited_count), 0);
    end_loop();
}

static void close_against_exit(void **state)
{
    uint64_t seed = test_begin("processes");
    char *argv[] = {"/bin/true", NULL};
    int exited = 0;
    int count = TEST_SANITIZED ? 20 : 150;

    (void)state;
    loop = loop_begin(NULL);
    for (int i = 0; i < count; i++) {
        struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
        options.kill_on_close = random_below(&seed, 2);
        memset(&children[i], 0, sizeof(children[i]));
        CHECK_EQUAL(spawn(&children[i], &options, argv), 0);
        uint64_t until = rondo_now_ns() + random_below(&seed, 1500000);
        while (rondo_now_ns() < until)
            ;
        CHECK_EQUAL(rondo_process_close(children[i].process), 0);
    }
    for (int i = 0; i < count; i++) {
        WAIT_UNTIL(atomic_load(&children[i].closed_count) == 1, 5000);
        WAIT_UNTIL(is_gone(children[i].id), 5000);
        exited += atomic_load(&children[i].exited_count);
    }
    printf("%d of %d told their exit\n", exited, count);
    end_loop();
}

/* ---- the loop's end ---- */

static void loop_ends_under_it(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;

    (void)state;
    /* A drain waits for the exit, and tells it. */
    loop = loop_begin(NULL);
    shell(&children[0], NULL, "sleep 0.05; exit 4");
    shell(&children[1], NULL, "exit 5");
    wait_exited(&children[1]);
    end_loop();
    CHECK_EQUAL(children[0].status.code, 4);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(atomic_load(&children[i].exited_count), 1);
        CHECK_EQUAL(atomic_load(&children[i].closed_count), 1);
        CHECK_EQUAL(children[i].closed_error, 0);
    }
    /* A stop and a deadline do not: one child goes on, the other is killed. */
    for (int round = 0; round < 2; round++) {
        loop = loop_begin(NULL);
        options.kill_on_close = false;
        shell(&children[0], &options, "exec sleep 30");
        options.kill_on_close = true;
        shell(&children[1], &options, "exec sleep 30");
        CHECK_EQUAL(round ? rondo_loop_stop(loop) : rondo_loop_drain(loop, 5 * MS), 0);
        CHECK_EQUAL(rondo_loop_wait(loop), round ? 0 : -ETIMEDOUT);
        for (int i = 0; i < 2; i++) {
            CHECK_EQUAL(atomic_load(&children[i].closed_count), 1);
            CHECK_EQUAL(children[i].closed_error, -ECANCELED);
            CHECK_EQUAL(atomic_load(&children[i].exited_count), 0);
        }
        CHECK(children[1].gone_when_closed);
        CHECK(!is_gone(children[0].id));
        options.program = "/bin/true";
        CHECK_EQUAL(spawn(&children[2], &options, (char *[]){"/bin/true", NULL}), -ESHUTDOWN);
        rondo_loop_free(loop);
        CHECK_EQUAL(kill(children[0].id, SIGKILL), 0);
        WAIT_UNTIL(is_gone(children[0].id), 5000);
    }
}

static void status_is_taken_by_another(void **state)
{
    (void)state;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    loop = loop_begin(NULL);
    shell(&children[0], NULL, "sleep 0.05; exit 4");
    wait_exited(&children[0]);
    CHECK_EQUAL(children[0].status.code, -1);
    CHECK_EQUAL(children[0].status.signal, 0);
    close_child(&children[0]);
    end_loop();
    CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
}

/* ---- waiting once ---- */

struct operation_end {
    _Atomic int count;
    int64_t value;
    rondo_handle handle;
    struct rondo_exit_status status;
};

static void note_done(const struct rondo_result *result, void *ctx)
{
    struct operation_end *end = ctx;

    end->value = result->value;
    atomic_fetch_add(&end->count, 1);
}

static int wait_for(struct child *child, struct operation_end *end, uint64_t deadline_ns)
{
    memset(end, 0, sizeof(*end));
    return rondo_process_wait(child->process, &end->status,
                              &RONDO_REQUEST(.done = note_done, .ctx = end,
                                             .deadline_ns = deadline_ns,
                                             .ret_handle = &end->handle));
}

static void wait_done(struct operation_end *end, int64_t value)
{
    WAIT_UNTIL(atomic_load(&end->count) > 0, 5000);
    CHECK_EQUAL(end->value, value);
    CHECK_EQUAL(atomic_load(&end->count), 1);
}

static void waits(void **state)
{
    struct rondo_process_options options = RONDO_PROCESS_OPTIONS_INIT;
    struct child *child = &children[0];
    struct operation_end ends[6];

    (void)state;
    loop = loop_begin(NULL);
    shell(child, NULL, "exec sleep 30");
    CHECK_EQUAL(rondo_process_wait(child->process, NULL, NULL), -EINVAL);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(wait_for(child, &ends[i], 0), 0);
    CHECK_EQUAL(wait_for(child, &ends[3], rondo_now_ns() + 5 * MS), 0);
    CHECK_EQUAL(wait_for(child, &ends[4], 1), 0);
    wait_done(&ends[3], -ETIMEDOUT);
    wait_done(&ends[4], -ETIMEDOUT);
    CHECK_EQUAL(rondo_cancel(ends[1].handle), RONDO_CANCEL_IN_FLIGHT);
    wait_done(&ends[1], -ECANCELED);
    CHECK_EQUAL(rondo_cancel(ends[1].handle), RONDO_CANCEL_FINISHED);
    CHECK_EQUAL(rondo_process_kill(child->process, SIGKILL), 0);
    wait_done(&ends[0], 128 + SIGKILL);
    wait_done(&ends[2], 128 + SIGKILL);
    CHECK_EQUAL(ends[0].status.signal, SIGKILL);
    CHECK_EQUAL(ends[0].status.code, -1);
    CHECK_EQUAL(wait_for(child, &ends[5], 0), 0);
    wait_done(&ends[5], 128 + SIGKILL);
    close_child(child);

    options.kill_on_close = true;
    shell(child, &options, "exec sleep 30");
    CHECK_EQUAL(wait_for(child, &ends[0], 0), 0);
    CHECK_EQUAL(rondo_process_close(child->process), 0);
    wait_done(&ends[0], -ECANCELED);
    WAIT_UNTIL(atomic_load(&child->closed_count) == 1, 5000);
    shell(child, &options, "exec sleep 30");
    CHECK_EQUAL(wait_for(child, &ends[0], 0), 0);
    CHECK_EQUAL(wait_for(child, &ends[1], UINT64_MAX), 0);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    wait_done(&ends[0], -ECANCELED);
    wait_done(&ends[1], -ECANCELED);
    CHECK_EQUAL(atomic_load(&child->closed_count), 1);
    rondo_loop_free(loop);
}

static void before_the_loop_runs(void **state)
{
    struct operation_end end;

    (void)state;
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    shell(&children[0], NULL, "exit 6");
    CHECK_EQUAL(wait_for(&children[0], &end, 0), 0);
    CHECK_EQUAL(rondo_cancel(end.handle), RONDO_CANCEL_NOT_STARTED);
    CHECK_EQUAL(rondo_loop_start(loop), 0);
    wait_done(&end, -ECANCELED);
    wait_exited(&children[0]);
    CHECK_EQUAL(children[0].status.code, 6);
    end_loop();
    /* A loop that never ran is run to its end. */
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    shell(&children[0], NULL, "exit 6");
    rondo_loop_free(loop);
    CHECK_EQUAL(atomic_load(&children[0].closed_count), 1);
    WAIT_UNTIL(is_gone(children[0].id), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_a_start),          cmocka_unit_test(codes_and_signals),
        cmocka_unit_test(environment_and_cwd),        cmocka_unit_test(signals_are_reset),
        cmocka_unit_test(large_output_and_input),     cmocka_unit_test(pipes_as_streams),
        cmocka_unit_test(given_descriptors),          cmocka_unit_test(many_children),
        cmocka_unit_test(closed_while_it_runs),       cmocka_unit_test(not_told_after_a_close),
        cmocka_unit_test(close_against_exit),         cmocka_unit_test(loop_ends_under_it),
        cmocka_unit_test(status_is_taken_by_another), cmocka_unit_test(waits),
        cmocka_unit_test(before_the_loop_runs),
    };

    (void)test_begin("processes");
#ifdef WITHOUT_RING
    probe_force_absent(PROBE_WAITID, true);
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
