/* Directory listings, on the blocking pool: the ring has no operation for them.
 *
 * Public functions: any thread. list_run: a thread of the blocking pool.
 *
 * A listing owns its path, so one that is cancelled is left to its thread, which disposes of it.
 */
#include "rondo/file.h"

#include "work.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

enum { LIST_BUFFER_SIZE = 32768, LIST_FIRST_COUNT = 64, LIST_FIRST_SIZE = 2048 };

struct entry {
    size_t name; /* its place among the names */
    int type;
};

struct rondo_directory {
    struct entry *entries;
    size_t count;
    size_t capacity;
    char *names; /* each with its end */
    size_t names_size;
    size_t names_capacity;
};

struct listing {
    struct work work;
    char path[PATH_MAX];
    char buffer[LIST_BUFFER_SIZE] __attribute__((aligned(8)));
};

RONDO_PUBLIC void rondo_directory_free(rondo_directory *directory)
{
    if (!directory)
        return;
    sys.release(directory->entries);
    sys.release(directory->names);
    sys.release(directory);
}

RONDO_PUBLIC size_t rondo_directory_count(const rondo_directory *directory)
{
    return directory ? directory->count : 0;
}

RONDO_PUBLIC const char *rondo_directory_name(const rondo_directory *directory, size_t index)
{
    if (!directory || index >= directory->count)
        return NULL;
    return directory->names + directory->entries[index].name;
}

RONDO_PUBLIC int rondo_directory_type(const rondo_directory *directory, size_t index)
{
    if (!directory || index >= directory->count)
        return DT_UNKNOWN;
    return directory->entries[index].type;
}

/* ---- reading it ---- */

/* A larger copy of *memory, which holds @size bytes, with room for twice @capacity of @unit bytes
 * and at least for @least. */
static bool grow(void **memory, size_t size, size_t *capacity, size_t unit, size_t least)
{
    size_t wanted = *capacity * 2 > least ? *capacity * 2 : least;
    void *larger = sys.alloc_raw(wanted * unit);

    if (!larger)
        return false;
    if (size > 0)
        memcpy(larger, *memory, size);
    sys.release(*memory);
    *memory = larger;
    *capacity = wanted;
    return true;
}

static int entry_add(struct rondo_directory *directory, const struct dirent64 *found)
{
    size_t size = strlen(found->d_name) + 1;
    void *memory;

    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
        return 0;
    if (directory->count == directory->capacity) {
        memory = directory->entries;
        if (!grow(&memory, directory->count * sizeof(struct entry), &directory->capacity,
                  sizeof(struct entry), LIST_FIRST_COUNT))
            return -ENOMEM;
        directory->entries = memory;
    }
    if (directory->names_size + size > directory->names_capacity) {
        memory = directory->names;
        if (!grow(&memory, directory->names_size, &directory->names_capacity, 1, LIST_FIRST_SIZE))
            return -ENOMEM;
        directory->names = memory;
    }
    memcpy(directory->names + directory->names_size, found->d_name, size);
    directory->entries[directory->count++] = (struct entry){directory->names_size, found->d_type};
    directory->names_size += size;
    return 0;
}

static int64_t read_all(struct listing *listing, int fd, struct rondo_directory *directory)
{
    for (;;) { /* Ends with the folder: the kernel answers 0. */
        int64_t size = sys.directory_read(fd, listing->buffer, sizeof(listing->buffer));
        if (size < 0)
            return size;
        if (size == 0)
            return (int64_t)directory->count;
        /* Relaxed: a hint. */
        if (load_relaxed(&listing->work.cancelled))
            return -ECANCELED;
        for (int64_t i = 0; i < size;) {
            const void *place = listing->buffer + i;
            const struct dirent64 *found = place;
            int error = entry_add(directory, found);
            if (error)
                return error;
            i += found->d_reclen;
        }
    }
}

static void list_run(struct work *work)
{
    struct listing *listing = container_of(work, struct listing, work);
    struct rondo_directory *directory = sys.alloc(sizeof(*directory));
    int fd = -ENOMEM;

    if (directory)
        fd = sys.open(listing->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    work->result.value = fd;
    if (fd >= 0) {
        work->result.value = read_all(listing, fd, directory);
        (void)sys.close(fd);
    }
    if (work->result.value >= 0)
        work->result.directory = directory;
    else
        rondo_directory_free(directory);
}

static void list_dispose(struct work *work, bool lost)
{
    if (lost)
        rondo_directory_free(work->result.directory);
    sys.release(container_of(work, struct listing, work));
}

RONDO_PUBLIC int rondo_directory_list(rondo_loop *loop, const char *path,
                                      const struct rondo_request *request)
{
    struct listing *listing;
    struct hub *hub;
    int error = hub_of(loop, &hub);

    if (!error && (!path || !path[0]))
        error = -EINVAL;
    if (!error && strnlen(path, PATH_MAX) == PATH_MAX)
        error = -ENAMETOOLONG;
    if (error)
        return error;
    listing = sys.alloc(sizeof(*listing));
    if (!listing)
        return -ENOMEM;
    memcpy(listing->path, path, strlen(path));
    listing->work.job.class = BLOCKING_OTHER;
    listing->work.can_be_lost = true;
    listing->work.run = list_run;
    listing->work.dispose = list_dispose;
    error = work_submit(hub, &listing->work, request);
    if (error)
        sys.release(listing);
    return error;
}
