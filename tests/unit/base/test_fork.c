/* The fork counter: another number in the child, the same in the parent. */
#include "support.h"

#include "fork.h"

#include <sys/wait.h>
#include <unistd.h>

static uint32_t generation(void)
{
    return load_relaxed(&fork_generation);
}

/* What a child, or its own child, says: its generation less @before. */
static int child_difference(uint32_t before, int depth)
{
    int status;
    pid_t child = fork();

    THREAD_CHECK(child >= 0);
    if (child == 0)
        _exit(depth > 1 ? child_difference(before, depth - 1) : (int)(generation() - before));
    THREAD_CHECK(waitpid(child, &status, 0) == child);
    THREAD_CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_child_has_another_number(void **state)
{
    /* Goal: a fork is seen without a system call. Method: a child exits with the difference; the
     * counter is armed twice, as by two loops, and must still count once. */
    (void)state;
    fork_watch();
    fork_watch();
    assert_int_equal(child_difference(generation(), 1), 1);
}

static void the_parent_keeps_its_number(void **state)
{
    /* Goal: a fork does not kill the parent's loop. */
    uint32_t before = generation();

    (void)state;
    fork_watch();
    (void)child_difference(before, 1);
    assert_int_equal(generation(), before);
}

static void each_generation_differs(void **state)
{
    /* Goal: a loop made in a child is dead in the grandchild. */
    (void)state;
    fork_watch();
    assert_int_equal(child_difference(generation(), 2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_has_another_number),
        cmocka_unit_test(the_parent_keeps_its_number),
        cmocka_unit_test(each_generation_differs),
    };

    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
