/* Starting processes: the program gets what it was to get and nothing else, and a start that fails
 * leaves nothing behind. The programs are those of every system: cat, ls, sh, true.
 */
#include "support.h"

#include "error.h"
#include "spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGV(...) ((char *const[]){__VA_ARGS__, NULL})

enum { OUTPUT_SIZE = 8192 };

static uint32_t count_descriptors(void)
{
    uint32_t count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* No child is left, of this test or an earlier one. */
static void expect_no_child(void)
{
    THREAD_CHECK(waitpid(-1, NULL, WNOHANG) == -1);
    THREAD_CHECK(errno == ECHILD);
}

static int wait_status(pid_t pid, int pidfd)
{
    int status = -1;

    THREAD_CHECK(fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    THREAD_CHECK(close(pidfd) == 0);
    THREAD_CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void expect_success(const struct spawn_options *options)
{
    pid_t pid = 0;
    int pidfd = -1;
    int error = spawn_start(options, &pid, &pidfd);

    if (error)
        fprintf(stderr, "%s\n", rondo_error_text());
    THREAD_CHECK(error == 0);
    THREAD_CHECK(wait_status(pid, pidfd) == 0);
}

/* It fails, with a text that has @word, and leaves neither child nor descriptor. */
static void expect_failure(const struct spawn_options *options, int error, const char *word)
{
    uint32_t descriptors = count_descriptors();
    pid_t pid = 0;
    int pidfd = -1;

    assert_int_equal(spawn_start(options, &pid, &pidfd), error);
    assert_int_equal(pid, 0);
    assert_int_equal(pidfd, -1);
    assert_non_null(strstr(rondo_error_text(), word));
    assert_int_equal(count_descriptors(), descriptors);
    expect_no_child();
}

/* What a program writes to its descriptor 1; it must succeed. How many bytes. */
static size_t output_of(const struct spawn_options *given, char output[OUTPUT_SIZE])
{
    struct spawn_options options = *given;
    struct spawn_fd fds[8];
    size_t size = 0;
    ssize_t count = 1;
    int ends[2];
    pid_t pid = 0;
    int pidfd = -1;

    THREAD_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    THREAD_CHECK(options.fd_count < ARRAY_SIZE(fds));
    if (options.fd_count > 0)
        memcpy(fds, options.fds, options.fd_count * sizeof(*fds));
    fds[options.fd_count++] = (struct spawn_fd){1, ends[1]};
    options.fds = fds;
    int error = spawn_start(&options, &pid, &pidfd);
    if (error)
        fprintf(stderr, "%s\n", rondo_error_text());
    THREAD_CHECK(error == 0);
    (void)close(ends[1]);
    for (; count > 0; size += (size_t)count) {
        count = read(ends[0], output + size, OUTPUT_SIZE - 1 - size);
        THREAD_CHECK(count >= 0);
    }
    output[size] = '\0';
    (void)close(ends[0]);
    THREAD_CHECK(wait_status(pid, pidfd) == 0);
    return size;
}

/* ---- what the program gets ---- */

static void arguments_arrive_as_they_are(void **state)
{
    /* Goal: empty ones, spaces and newlines too, and argv[0] need not be the program. Method: a
     * shell prints its own command line, in which each argument ends with a zero byte. */
    static const char expected[] = "odd name\0-c\0cat /proc/$$/cmdline\0\0two words\0new\nline\0-";
    struct spawn_options options = {
        .program = "/bin/sh",
        .argv = ARGV("odd name", "-c", "cat /proc/$$/cmdline", "", "two words", "new\nline", "-"),
    };
    char output[OUTPUT_SIZE];

    (void)state;
    assert_int_equal(output_of(&options, output), sizeof(expected));
    assert_memory_equal(output, expected, sizeof(expected));
}

static void the_environment_is_the_given_or_the_inherited(void **state)
{
    static const char expected[] = "A=1\0EMPTY=\0B=two words";
    struct spawn_options options = {
        .program = "/bin/cat",
        .argv = ARGV("cat", "/proc/self/environ"),
        .envp = ARGV("A=1", "EMPTY=", "B=two words"),
    };
    char output[OUTPUT_SIZE];

    (void)state;
    assert_int_equal(output_of(&options, output), sizeof(expected));
    assert_memory_equal(output, expected, sizeof(expected));
    options.envp = (char *const[]){NULL};
    assert_int_equal(output_of(&options, output), 0);
    assert_int_equal(setenv("RONDO_TEST_INHERITED", "yes", 1), 0);
    options.argv = ARGV("sh", "-c", "echo $RONDO_TEST_INHERITED");
    options.program = "/bin/sh";
    options.envp = NULL;
    (void)output_of(&options, output);
    assert_string_equal(output, "yes\n");
}

static void the_directory_is_the_given_or_the_inherited(void **state)
{
    char here[PATH_MAX + 1];
    struct spawn_options options = {
        .program = "/bin/sh", .argv = ARGV("sh", "-c", "pwd -P"), .cwd = "/proc"};
    char output[OUTPUT_SIZE];

    (void)state;
    (void)output_of(&options, output);
    assert_string_equal(output, "/proc\n");
    options.cwd = NULL;
    (void)output_of(&options, output);
    assert_non_null(getcwd(here, PATH_MAX));
    strcat(here, "\n");
    assert_string_equal(output, here);
    /* A relative program is looked for from there. */
    options.cwd = "/bin";
    options.program = "./sh";
    (void)output_of(&options, output);
    assert_non_null(strstr(output, "bin\n"));
}

static void a_program_is_looked_for_in_the_childs_path(void **state)
{
    /* Goal: the PATH is the child's, directories that are not there are passed over, and a program
     * with a slash is not looked for. */
    struct spawn_options options = {
        .program = "true",
        .search_path = true,
        .argv = ARGV("true"),
        .envp = ARGV("X=", "PATH=/nowhere::/etc/hostname:/usr/bin:/bin"),
    };

    (void)state;
    expect_success(&options);
    options.envp = NULL;
    expect_success(&options);
    options.envp = ARGV("NO=PATH");
    expect_success(&options);
    options.envp = ARGV("PATH=/nowhere");
    expect_failure(&options, -ENOENT, "true");
    options.envp = ARGV("PATH=");
    expect_failure(&options, -ENOENT, "true");
    options.cwd = "/bin"; /* An empty one is the directory the child is in. */
    expect_success(&options);
    options.program = "./true";
    expect_success(&options);
    options.search_path = false;
    options.program = "true";
    expect_success(&options);
    options.cwd = "/";
    expect_failure(&options, -ENOENT, "true");
}

/* ---- descriptors ---- */

/* A file with one byte, that says which it is. */
static int file_of(char byte)
{
    int fd = memfd_create("rondo", MFD_CLOEXEC);

    THREAD_CHECK(fd >= 0);
    THREAD_CHECK(pwrite(fd, &byte, 1, 0) == 1);
    return fd;
}

/* In the child's shell: what stands in each of @numbers, as "letter letter letter". */
static void expect_files(const struct spawn_fd *fds, uint32_t count, const char *numbers,
                         const char *letters)
{
    char script[256];
    char output[OUTPUT_SIZE];
    struct spawn_options options = {
        .program = "/bin/sh", .argv = ARGV("sh", "-c", script), .fds = fds, .fd_count = count};

    (void)snprintf(script, sizeof(script),
                   "for n in %s; do cat /proc/self/fd/$n 2>/dev/null || printf -; done", numbers);
    (void)output_of(&options, output);
    assert_string_equal(output, letters);
}

static void any_permutation_of_descriptors(void **state)
{
    /* Goal: goals that are sources of others are no trap: swaps, rings, one source twice, one that
     * stays. Method: files of one letter each, at known numbers. */
    int a = file_of('a');
    int b = file_of('b');
    int c = file_of('c');

    (void)state;
    assert_int_equal(dup3(a, 20, O_CLOEXEC), 20);
    assert_int_equal(dup3(b, 21, O_CLOEXEC), 21);
    assert_int_equal(dup3(c, 22, O_CLOEXEC), 22);
    expect_files((struct spawn_fd[]){{20, 20}, {21, 21}, {22, 22}}, 3, "20 21 22", "abc");
    expect_files((struct spawn_fd[]){{20, 21}, {21, 20}}, 2, "20 21 22", "ba-");
    expect_files((struct spawn_fd[]){{20, 21}, {21, 22}, {22, 20}}, 3, "20 21 22", "bca");
    expect_files((struct spawn_fd[]){{20, 22}, {22, 21}, {21, 20}}, 3, "20 21 22", "cab");
    expect_files((struct spawn_fd[]){{21, 20}, {3, 20}, {4, 22}}, 3, "3 4 20 21", "ac-a");
    expect_files((struct spawn_fd[]){{0, 21}, {9, 20}}, 2, "0 9", "ba");
    expect_files((struct spawn_fd[]){{500, 20}, {5, 22}}, 2, "5 500 501", "ca-");
    for (int fd = 20; fd <= 22; fd++)
        (void)close(fd);
    (void)close(a);
    (void)close(b);
    (void)close(c);
}

static void swap_0_and_1(void *arg)
{
    /* 0 can be written and 1 can be read: only after the swap the shell's echo goes anywhere. */
    int ends[2];
    char byte = 0;
    pid_t pid = 0;
    int pidfd = -1;
    struct spawn_options options = {
        .program = "/bin/sh",
        .argv = ARGV("sh", "-c", "echo x"),
        .fds = (struct spawn_fd[]){{0, 1}, {1, 0}},
        .fd_count = 2,
    };

    (void)arg;
    THREAD_CHECK(pipe(ends) == 0);
    int saved = dup(ends[0]);
    THREAD_CHECK(dup2(ends[1], 0) == 0);
    THREAD_CHECK(dup2(ends[0], 1) == 1);
    THREAD_CHECK(spawn_start(&options, &pid, &pidfd) == 0);
    THREAD_CHECK(wait_status(pid, pidfd) == 0);
    THREAD_CHECK(read(saved, &byte, 1) == 1);
    THREAD_CHECK(byte == 'x');
}

/* Run @body in a child, which fails by a signal. */
static void in_child(void (*body)(void *arg), void *arg)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void standard_input_and_output_swapped(void **state)
{
    (void)state;
    in_child(swap_0_and_1, NULL);
}

/* The numbers that are open in the program, ls's own one for the directory among them. */
static void expect_numbers(const struct spawn_fd *fds, uint32_t count, const char *expected)
{
    char output[OUTPUT_SIZE];
    struct spawn_options options = {
        .program = "/bin/ls", .argv = ARGV("ls", "/proc/self/fd"), .fds = fds, .fd_count = count};

    (void)output_of(&options, output);
    for (char *at = output; *at; at++)
        *at = *at == '\n' ? ' ' : *at;
    assert_string_equal(output, expected);
}

static int64_t no_close_range(long number, const long arguments[6])
{
    return number == SYS_close_range ? -ENOSYS : sys_real.call(number, arguments);
}

static void no_other_descriptor_reaches_the_program(void **state)
{
    /* Goal: not even one that its owner forgot to close on exec; with close_range and where that is
     * missing. Method: many of them, more than one read of the directory brings. */
    int first = fcntl(0, F_DUPFD, 30);

    (void)state;
    assert_int_equal(first, 30);
    for (int i = 0; i < 100; i++)
        assert_true(fcntl(0, F_DUPFD, 40) >= 40);
    for (int round = 0; round < 2; round++) {
        expect_numbers(NULL, 0, "0 1 2 3 ");
        expect_numbers((struct spawn_fd[]){{7, first}, {5, 2}}, 2, "0 1 2 3 5 7 ");
        expect_numbers((struct spawn_fd[]){{3, first}, {60, first}}, 2, "0 1 2 3 4 60 ");
        sys.call = no_close_range;
    }
    for (int fd = first; fd < 200; fd++)
        (void)close(fd);
}

static void wrong_descriptors_are_refused(void **state)
{
    struct spawn_options options = {.program = "/bin/true", .argv = ARGV("true"), .fd_count = 2};
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    options.fds = (struct spawn_fd[]){{5, 0}, {5, 1}};
    expect_failure(&options, -EINVAL, "twice");
    options.fds = (struct spawn_fd[]){{5, 0}, {-1, 1}};
    expect_failure(&options, -EINVAL, "negative");
    options.fds = (struct spawn_fd[]){{5, -1}, {6, 1}};
    expect_failure(&options, -EINVAL, "negative");
    options.fds = (struct spawn_fd[]){{5, 0}, {6, 999}};
    expect_failure(&options, -EBADF, "fds");
    options.fds = (struct spawn_fd[]){{5, 0}, {INT_MAX, 1}};
    expect_failure(&options, -EMFILE, "ulimit -n");
    options.fds = (struct spawn_fd[]){{5, 0}, {(int)limit.rlim_cur, 1}};
    expect_failure(&options, -EMFILE, "ulimit -n");
    options.fds = (struct spawn_fd[]){{5, 0}, {(int)limit.rlim_cur - 5, 1}};
    expect_success(&options);
    options.fds = NULL;
    expect_failure(&options, -EINVAL, "fds");
}

/* ---- signals, sessions, users ---- */

static uint64_t signals_of(const char *status, const char *field)
{
    const char *found = strstr(status, field);

    assert_non_null(found);
    return strtoull(found + strlen(field), NULL, 16);
}

static void handle(int number)
{
    (void)number;
}

static void signals_are_as_a_program_expects_them(void **state)
{
    /* Goal: neither the mask nor ignored signals of the thread that spawns reach the program.
     * Method: cat prints the kernel's record of its own. */
    struct spawn_options options = {.program = "/bin/cat",
                                    .argv = ARGV("cat", "/proc/self/status")};
    struct sigaction old[3];
    sigset_t wanted;
    sigset_t mask;
    sigset_t after;
    char output[OUTPUT_SIZE];

    (void)state;
    (void)sigfillset(&wanted);
    assert_int_equal(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = SIG_IGN}, &old[0]), 0);
    assert_int_equal(sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, &old[1]), 0);
    assert_int_equal(sigaction(SIGUSR2, &(struct sigaction){.sa_handler = handle}, &old[2]), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &wanted, &mask), 0);
    (void)output_of(&options, output);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, &after), 0);
    assert_int_equal(signals_of(output, "\nSigBlk:"), 0);
    assert_int_equal(signals_of(output, "\nSigIgn:"), 0);
    assert_int_equal(signals_of(output, "\nSigCgt:"), 0);
    /* This thread's are what they were. */
    assert_int_equal(sigismember(&after, SIGTERM), 1);
    (void)sigemptyset(&wanted);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &wanted, NULL), 0);
    (void)output_of(&options, output);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask, &after), 0);
    assert_int_equal(sigisemptyset(&after), 1);
    struct sigaction now;
    assert_int_equal(sigaction(SIGUSR2, &old[2], &now), 0);
    assert_ptr_equal(now.sa_handler, handle);
    assert_int_equal(sigaction(SIGPIPE, &old[1], &now), 0);
    assert_ptr_equal(now.sa_handler, SIG_IGN);
    assert_int_equal(sigaction(SIGUSR1, &old[0], NULL), 0);
}

/* Process group and session of a program, from "ID (name) S PARENT GROUP SESSION ...". */
static void ids_of(const struct spawn_options *given, int *ret_id, int *ret_group, int *ret_session)
{
    struct spawn_options options = *given;
    char output[OUTPUT_SIZE];

    options.program = "/bin/cat";
    options.argv = ARGV("cat", "/proc/self/stat");
    (void)output_of(&options, output);
    assert_int_equal(sscanf(output, "%d (cat) %*c %*d %d %d", ret_id, ret_group, ret_session), 3);
}

static void sessions_and_groups(void **state)
{
    int id;
    int group;
    int session;

    (void)state;
    ids_of(&(struct spawn_options){0}, &id, &group, &session);
    assert_int_equal(group, getpgrp());
    assert_int_equal(session, getsid(0));
    ids_of(&(struct spawn_options){.new_group = true}, &id, &group, &session);
    assert_int_equal(group, id);
    assert_int_equal(session, getsid(0));
    ids_of(&(struct spawn_options){.new_session = true, .new_group = true}, &id, &group, &session);
    assert_int_equal(group, id);
    assert_int_equal(session, id);
}

static void another_user(void **state)
{
    /* Goal: user, group and supplementary groups change in the child, and this process stays what
     * it was, dumpable too. Without the right to it, an error. */
    uid_t uid = 65534;
    gid_t gid = 65533;
    uid_t own = getuid();
    struct spawn_options options = {
        .program = "/bin/sh",
        .argv = ARGV("sh", "-c", "id -u; id -g; id -G"),
        .uid = &uid,
        .gid = &gid,
    };
    char output[OUTPUT_SIZE];

    (void)state;
    if (own != 0) {
        expect_failure(&options, -EPERM, "uid or gid");
        options.gid = NULL;
        options.uid = &own;
        expect_success(&options);
        return;
    }
    int dumpable = prctl(PR_GET_DUMPABLE);
    (void)output_of(&options, output);
    assert_string_equal(output, "65534\n65533\n65533\n");
    assert_int_equal(prctl(PR_GET_DUMPABLE), dumpable);
    assert_int_equal(getuid(), 0);
    options.program = "/nowhere"; /* Heard from a child in memory of its own. */
    expect_failure(&options, -ENOENT, "/nowhere");
}

/* ---- failures ---- */

static void failures_are_told_and_leave_nothing(void **state)
{
    /* Goal: the error of the step that failed, in the parent, with no zombie. */
    struct spawn_options options = {.program = "/nowhere/at/all", .argv = ARGV("x")};
    char path[] = "/tmp/rondo-spawn-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    expect_failure(&options, -ENOENT, "/nowhere/at/all");
    options.program = path; /* not executable yet */
    expect_failure(&options, -EACCES, path);
    options.program = "/bin";
    expect_failure(&options, -EACCES, "/bin");
    options.program = "/bin/true/x";
    expect_failure(&options, -ENOTDIR, "/bin/true/x");
    assert_int_equal(write(fd, "no magic\n", 9), 9);
    assert_int_equal(fchmod(fd, 0700), 0);
    (void)close(fd);
    options.program = path;
    expect_failure(&options, -ENOEXEC, path);
    assert_int_equal(unlink(path), 0);
    options.program = "/bin/true";
    options.cwd = "/nowhere";
    expect_failure(&options, -ENOENT, "cwd: /nowhere");
    options.cwd = "/bin/true";
    expect_failure(&options, -ENOTDIR, "cwd");
}

static void a_program_that_may_not_be_executed_is_not_called_missing(void **state)
{
    /* Goal: of a search, EACCES says more than the ENOENT of a later directory. */
    char directory[] = "/tmp/rondo-spawn-XXXXXX";
    char file[64];
    char path[96];
    struct spawn_options options = {
        .program = "tool", .search_path = true, .argv = ARGV("tool"), .envp = ARGV(path)};

    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(file, sizeof(file), "%s/tool", directory);
    (void)snprintf(path, sizeof(path), "PATH=%s:/nowhere", directory);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    expect_failure(&options, -EACCES, "tool");
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(directory), 0);
}

static void empty_options_are_refused(void **state)
{
    struct spawn_options options = {.program = "/bin/true"};

    (void)state;
    expect_failure(&options, -EINVAL, "argv");
    options.argv = (char *const[]){NULL};
    expect_failure(&options, -EINVAL, "argv");
    options.argv = ARGV("true");
    options.program = NULL;
    expect_failure(&options, -EINVAL, "program");
    options.program = "";
    expect_failure(&options, -ENOENT, "program");
    options.search_path = true;
    expect_failure(&options, -ENOENT, "program");
}

static void too_long_an_argument_is_E2BIG(void **state)
{
    enum { SIZE = 4 << 20 };
    char *longest = test_alloc(SIZE, 1);
    struct spawn_options options = {.program = "/bin/true", .argv = ARGV("true", longest)};

    (void)state;
    memset(longest, 'x', SIZE - 1);
    expect_failure(&options, -E2BIG, "E2BIG");
    free(longest);
}

static int no_process(bool apart, void (*body)(void *arg), void *arg)
{
    (void)apart;
    (void)body;
    (void)arg;
    return -EAGAIN;
}

static long refused_call;
static uint32_t refused_after;

static int64_t refuse_call(long number, const long arguments[6])
{
    if (number == refused_call && refused_after-- == 0)
        return -EMFILE;
    return sys_real.call(number, arguments);
}

static void *no_memory(size_t size)
{
    (void)size;
    return NULL;
}

static void a_system_that_refuses_is_told(void **state)
{
    /* Goal: no process, no pipe, no pidfd, no memory: an error each, nothing left, and no program
     * that runs unseen. */
    struct spawn_options options = {.program = "/bin/true", .argv = ARGV("true")};

    (void)state;
    sys.process_create = no_process;
    expect_failure(&options, -EAGAIN, "EAGAIN");
    sys.process_create = sys_real.process_create;
    sys.alloc = no_memory;
    expect_failure(&options, -ENOMEM, "memory");
    sys.alloc = sys_real.alloc;
    sys.call = refuse_call;
    refused_call = SYS_pipe2;
    refused_after = 0;
    expect_failure(&options, -EMFILE, "pipe");
    refused_call = SYS_pidfd_open;
    refused_after = 0; /* at once */
    expect_failure(&options, -EMFILE, "pidfd");
    refused_after = 1; /* when the child runs, which would go on */
    options.program = "/bin/sleep";
    options.argv = ARGV("sleep", "1000");
    expect_failure(&options, -EMFILE, "pidfd");
}

static void spawn_with_children_ignored(void *arg)
{
    struct spawn_options options = {.program = "/nowhere", .argv = ARGV("x")};
    pid_t pid = 0;
    int pidfd = -1;

    (void)arg;
    THREAD_CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    THREAD_CHECK(spawn_start(&options, &pid, &pidfd) == -ENOENT);
    options.program = "/bin/true";
    int error = spawn_start(&options, &pid, &pidfd);
    THREAD_CHECK(error == 0 || error == -ECHILD); /* Whether it has ended before it is asked for. */
}

static void a_process_that_ignores_its_children(void **state)
{
    /* Goal: children that the kernel reaps itself do not hang the start that fails. */
    (void)state;
    in_child(spawn_with_children_ignored, NULL);
}

/* ---- many ---- */

static void many_leave_nothing_behind(void **state)
{
    struct spawn_options options = {.program = "/bin/true", .argv = ARGV("true")};
    struct spawn_options missing = {.program = "/nowhere", .argv = ARGV("x")};
    uint32_t descriptors = count_descriptors();

    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        pid_t pid = 0;
        int pidfd = -1;
        expect_success(&options);
        assert_int_equal(spawn_start(&missing, &pid, &pidfd), -ENOENT);
    }
    expect_no_child();
    assert_int_equal(count_descriptors(), descriptors);
}

enum { THREADS = 6 };

static struct barrier everybody = {.count = THREADS};

static void *spawn_some(void *arg)
{
    uint32_t count = test_count(30) + 3;
    char word[32];
    char expected[40];
    char output[OUTPUT_SIZE];
    struct spawn_options options = {.program = "/bin/echo", .argv = ARGV("echo", word)};
    struct spawn_options missing = {.program = "/nowhere", .argv = ARGV("x")};

    barrier_meet(&everybody);
    for (uint32_t i = 0; i < count; i++) {
        pid_t pid = 0;
        int pidfd = -1;
        (void)snprintf(word, sizeof(word), "%lu-%u", (unsigned long)(uintptr_t)arg, i);
        (void)snprintf(expected, sizeof(expected), "%s\n", word);
        (void)output_of(&options, output);
        THREAD_CHECK(strcmp(output, expected) == 0);
        THREAD_CHECK(spawn_start(&missing, &pid, &pidfd) == -ENOENT);
        THREAD_CHECK(strstr(rondo_error_text(), "/nowhere"));
    }
    return NULL;
}

static void several_threads_at_once(void **state)
{
    /* Goal: no pipe of one start is held open by the child of another, nor do words mix. Method: a
     * reader that waits for the end would hang. */
    pthread_t threads[THREADS];
    uint32_t descriptors = count_descriptors();

    (void)state;
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = thread_start(spawn_some, (void *)i);
    for (uint32_t i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    assert_int_equal(count_descriptors(), descriptors);
    expect_no_child();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_arrive_as_they_are),
        cmocka_unit_test(the_environment_is_the_given_or_the_inherited),
        cmocka_unit_test(the_directory_is_the_given_or_the_inherited),
        cmocka_unit_test(a_program_is_looked_for_in_the_childs_path),
        cmocka_unit_test(any_permutation_of_descriptors),
        cmocka_unit_test(standard_input_and_output_swapped),
        cmocka_unit_test_teardown(no_other_descriptor_reaches_the_program, sys_restore),
        cmocka_unit_test(wrong_descriptors_are_refused),
        cmocka_unit_test(signals_are_as_a_program_expects_them),
        cmocka_unit_test(sessions_and_groups),
        cmocka_unit_test(another_user),
        cmocka_unit_test(failures_are_told_and_leave_nothing),
        cmocka_unit_test(a_program_that_may_not_be_executed_is_not_called_missing),
        cmocka_unit_test(empty_options_are_refused),
        cmocka_unit_test(too_long_an_argument_is_E2BIG),
        cmocka_unit_test_teardown(a_system_that_refuses_is_told, sys_restore),
        cmocka_unit_test(a_process_that_ignores_its_children),
        cmocka_unit_test(many_leave_nothing_behind),
        cmocka_unit_test(several_threads_at_once),
    };

    return cmocka_run_group_tests_name("spawn", tests, NULL, NULL);
}
