/* Texts of failures: one a thread, always terminated, and names of error numbers. */
#include "support.h"

#include "error.h"

static void *expect_no_text(void *arg)
{
    (void)arg;
    THREAD_CHECK(rondo_error_text()[0] == '\0');
    (void)error_set(-EIO, "another thread's");
    THREAD_CHECK(strcmp(rondo_error_text(), "another thread's") == 0);
    return NULL;
}

static void set_returns_the_error_and_keeps_the_text(void **state)
{
    /* Goal: a failure is one statement. Method: set twice, the later text stands. */
    (void)state;
    assert_int_equal(error_set(-ENOMEM, "first %d", 1), -ENOMEM);
    assert_string_equal(rondo_error_text(), "first 1");
    assert_int_equal(error_set(-EINVAL, "second %s", "text"), -EINVAL);
    assert_string_equal(rondo_error_text(), "second text");
}

static void each_thread_has_its_own_text(void **state)
{
    /* Goal: no thread sees another's failure. Method: a new thread finds none and sets its own. */
    (void)state;
    (void)error_set(-EINVAL, "mine");
    thread_run(expect_no_text, NULL);
    assert_string_equal(rondo_error_text(), "mine");
}

static void a_long_text_is_cut_and_terminated(void **state)
{
    /* Goal: no overrun. Method: a text of 2,000 characters; its beginning must be there. */
    char text[2001];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(error_set(-EIO, "%s", text), -EIO);
    size_t length = strlen(rondo_error_text());
    assert_true(length > 100);
    assert_true(length < sizeof(text) - 1);
    assert_memory_equal(rondo_error_text(), text, length);
}

static void names_are_found_for_both_signs(void **state)
{
    /* Goal: a name for each error, and an answer for what is none. */
    (void)state;
    assert_string_equal(rondo_error_name(-ECONNRESET), "ECONNRESET");
    assert_string_equal(rondo_error_name(ECONNRESET), "ECONNRESET");
    assert_string_equal(rondo_error_name(1000000), "unknown error");
    assert_string_equal(rondo_error_name(-1000000), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_the_error_and_keeps_the_text),
        cmocka_unit_test(each_thread_has_its_own_text),
        cmocka_unit_test(a_long_text_is_cut_and_terminated),
        cmocka_unit_test(names_are_found_for_both_signs),
    };

    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
