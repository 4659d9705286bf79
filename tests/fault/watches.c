/* Goal: every change of what is watched is told once and in order; when the kernel had to drop
 * some, that is told.
 * Method: files made, renamed and removed in a folder of our own, while the watch is quick, stuck,
 * closed, or its loop ends. */
#include "support.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static rondo_loop *loop;
static rondo_watch *watch;
static char folder[64];

static struct seen {
    _Atomic int change_count;
    _Atomic int overflow_count;
    _Atomic int ignored_count;
    _Atomic int closed_count;
    int closed_expected; /* its error */
    _Atomic bool stuck;
    _Atomic int stuck_count;
    int next_number;
    int32_t id;
    _Atomic uint32_t last_mask;
    uint32_t cookies[2];
} seen;

static void note_changed(rondo_watch *self, const struct rondo_change *change, void *ctx)
{
    (void)ctx;
    CHECK(self == watch);
    CHECK_EQUAL(atomic_load(&seen.closed_count), 0);
    if (atomic_load(&seen.stuck)) {
        atomic_fetch_add(&seen.stuck_count, 1);
        WAIT_UNTIL(!atomic_load(&seen.stuck), 10000);
    }
    atomic_store(&seen.last_mask, change->mask);
    if (change->mask & IN_Q_OVERFLOW) {
        CHECK_EQUAL(change->id, -1);
        atomic_fetch_add(&seen.overflow_count, 1);
        return;
    }
    CHECK_EQUAL(change->id, seen.id);
    if (change->mask & IN_IGNORED) {
        atomic_fetch_add(&seen.ignored_count, 1);
        return;
    }
    if (change->mask & IN_MOVED_FROM)
        seen.cookies[0] = change->cookie;
    if (change->mask & IN_MOVED_TO)
        seen.cookies[1] = change->cookie;
    /* Files have the numbers of their making as names. */
    if (change->mask & IN_CREATE) {
        CHECK(change->name);
        CHECK_EQUAL(strtol(change->name, NULL, 10), seen.next_number++);
    }
    atomic_fetch_add(&seen.change_count, 1);
}

static void note_closed(rondo_watch *self, int error, void *ctx)
{
    (void)ctx;
    CHECK(self == watch);
    CHECK_EQUAL(error, seen.closed_expected);
    atomic_fetch_add(&seen.closed_count, 1);
}

static const struct rondo_watch_handlers handlers = {sizeof(handlers), note_changed, note_closed};

static const char *path_of(int number)
{
    static char path[128];

    (void)snprintf(path, sizeof(path), "%s/%d", folder, number);
    return path;
}

static void make_file(int number)
{
    int fd = open(path_of(number), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    CHECK(fd >= 0);
    CHECK_EQUAL(close(fd), 0);
}

static void begin(uint32_t mask)
{
    memset(&seen, 0, sizeof(seen));
    (void)snprintf(folder, sizeof(folder), "/tmp/rondo-watch-XXXXXX");
    CHECK(mkdtemp(folder));
    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_watch_create(loop, &handlers, NULL, &watch), 0);
    CHECK_EQUAL(rondo_watch_add(watch, folder, mask, &seen.id), 0);
}

static void end_loop(int files)
{
    CHECK_EQUAL(rondo_loop_drain(loop, 5000 * MS), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(atomic_load(&seen.closed_count), 1);
    rondo_loop_free(loop);
    for (int i = 0; i < files; i++)
        CHECK_EQUAL(unlink(path_of(i)), 0);
    CHECK_EQUAL(rmdir(folder), 0);
}

static void bad_arguments(void **state)
{
    struct rondo_watch_handlers broken = handlers;
    char longest[PATH_MAX + 10];
    rondo_watch *other;
    int32_t id = 77;

    (void)state;
    begin(IN_CREATE);
    CHECK_EQUAL(rondo_watch_create(NULL, &handlers, NULL, &other), -EINVAL);
    CHECK_EQUAL(rondo_watch_create(loop, NULL, NULL, &other), -EINVAL);
    CHECK_EQUAL(rondo_watch_create(loop, &handlers, NULL, NULL), -EINVAL);
    broken.changed = NULL;
    CHECK_EQUAL(rondo_watch_create(loop, &broken, NULL, &other), -EINVAL);
    CHECK_EQUAL(rondo_watch_add(NULL, folder, IN_CREATE, &id), -EINVAL);
    CHECK_EQUAL(rondo_watch_add(watch, NULL, IN_CREATE, &id), -EINVAL);
    CHECK_EQUAL(rondo_watch_add(watch, folder, IN_CREATE, NULL), -EINVAL);
    CHECK_EQUAL(rondo_watch_add(watch, folder, 0, &id), -EINVAL);
    CHECK_EQUAL(rondo_watch_add(watch, "", IN_CREATE, &id), -ENOENT);
    CHECK_EQUAL(rondo_watch_add(watch, path_of(0), IN_CREATE, &id), -ENOENT);
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    CHECK_EQUAL(rondo_watch_add(watch, longest, IN_CREATE, &id), -ENAMETOOLONG);
    CHECK_EQUAL(rondo_watch_add(watch, "/proc/self/exe", IN_CREATE | IN_ONLYDIR, &id), -ENOTDIR);
    CHECK_EQUAL(id, 77);
    CHECK_EQUAL(rondo_watch_remove(NULL, 1), -EINVAL);
    CHECK_EQUAL(rondo_watch_remove(watch, -1), -EINVAL);
    CHECK_EQUAL(rondo_watch_remove(watch, 12345), -EINVAL);
    CHECK_EQUAL(rondo_watch_close(NULL), -EINVAL);
    CHECK(!rondo_watch_strand(NULL));
    CHECK(rondo_watch_strand(watch));
    end_loop(0);
}

static void every_change_in_order(void **state)
{
    int count = (int)test_scaled(1000);
    char target[128];

    (void)state;
    begin(IN_CREATE | IN_MOVE | IN_DELETE);
    for (int i = 0; i < count; i++)
        make_file(i);
    WAIT_UNTIL(atomic_load(&seen.change_count) == count, 5000);
    (void)snprintf(target, sizeof(target), "%s/other", folder);
    CHECK_EQUAL(rename(path_of(0), target), 0);
    WAIT_UNTIL(atomic_load(&seen.change_count) == count + 2, 5000);
    CHECK(seen.cookies[0] && seen.cookies[0] == seen.cookies[1]);
    CHECK_EQUAL(unlink(target), 0);
    WAIT_UNTIL(atomic_load(&seen.change_count) == count + 3, 5000);
    CHECK_EQUAL(atomic_load(&seen.last_mask), IN_DELETE);
    make_file(count);
    WAIT_UNTIL(atomic_load(&seen.change_count) == count + 4, 5000);
    CHECK_EQUAL(rondo_watch_remove(watch, seen.id), 0);
    WAIT_UNTIL(atomic_load(&seen.ignored_count) == 1, 5000);
    for (int i = 1; i <= count; i++)
        CHECK_EQUAL(unlink(path_of(i)), 0);
    CHECK_EQUAL(atomic_load(&seen.change_count), count + 4);
    CHECK_EQUAL(atomic_load(&seen.overflow_count), 0);
    end_loop(0);
}

static int queue_max(void)
{
    FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
    int max = 0;

    CHECK(file);
    CHECK_EQUAL(fscanf(file, "%d", &max), 1);
    CHECK_EQUAL(fclose(file), 0);
    return max;
}

static void overflow_is_told(void **state)
{
    int max = queue_max();
    int toggles = 0;

    (void)state;
    if (max > 100000)
        skip();
    begin(IN_ATTRIB);
    atomic_store(&seen.stuck, true);
    CHECK_EQUAL(chmod(folder, 0700), 0);
    WAIT_UNTIL(atomic_load(&seen.stuck_count) == 1, 5000);
    /* Different changes in turn: the kernel merges equal ones. */
    make_file(0);
    for (; toggles < max + 1000; toggles++)
        CHECK_EQUAL(chmod(toggles % 2 ? folder : path_of(0), 0700), 0);
    atomic_store(&seen.stuck, false);
    WAIT_UNTIL(atomic_load(&seen.overflow_count) == 1, 20000);
    /* It goes on after that. */
    int before = atomic_load(&seen.change_count);
    CHECK_EQUAL(chmod(folder, 0700), 0);
    WAIT_UNTIL(atomic_load(&seen.change_count) > before, 5000);
    end_loop(1);
}

static void close_inside(rondo_watch *self, const struct rondo_change *change, void *ctx)
{
    int32_t id;

    (void)change;
    (void)ctx;
    atomic_fetch_add(&seen.change_count, 1);
    CHECK_EQUAL(rondo_watch_close(self), 0);
    CHECK_EQUAL(rondo_watch_close(self), -EALREADY);
    CHECK_EQUAL(rondo_watch_add(self, folder, IN_CREATE, &id), -EBADF);
    CHECK_EQUAL(rondo_watch_remove(self, 1), -EBADF);
}

static void closed_in_its_callback(void **state)
{
    static const struct rondo_watch_handlers closing = {sizeof(closing), close_inside, note_closed};
    rondo_watch *first;

    (void)state;
    begin(IN_CREATE);
    first = watch;
    CHECK_EQUAL(rondo_watch_close(first), 0);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 1, 5000);
    atomic_store(&seen.closed_count, 0);
    CHECK_EQUAL(rondo_watch_create(loop, &closing, NULL, &watch), 0);
    CHECK_EQUAL(rondo_watch_add(watch, folder, IN_CREATE, &seen.id), 0);
    for (int i = 0; i < 20; i++)
        make_file(i);
    WAIT_UNTIL(atomic_load(&seen.closed_count) == 1, 5000);
    CHECK_EQUAL(atomic_load(&seen.change_count), 1);
    end_loop(20);
}

static void loop_stopped_under_it(void **state)
{
    uint32_t descriptors = count_descriptors();

    (void)state;
    begin(IN_CREATE);
    make_file(0);
    seen.closed_expected = -ECANCELED;
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(rondo_watch_create(loop, &handlers, NULL, &watch), -ESHUTDOWN);
    end_loop(1);
    CHECK_EQUAL(count_descriptors(), descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_arguments),         cmocka_unit_test(every_change_in_order),
        cmocka_unit_test(overflow_is_told),      cmocka_unit_test(closed_in_its_callback),
        cmocka_unit_test(loop_stopped_under_it),
    };

    (void)test_begin("watches");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
