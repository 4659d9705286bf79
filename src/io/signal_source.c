/* The signal source of a loop: its life, and handing out what it reads; see signal_source.h.
 *
 * get, put: any thread. source_closed, source_destroy: a worker. The rest: the lane's thread.
 */
#include "signal_source.h"

/* ---- reading, on the lane ---- */

static struct signal_source *signal_source_of(struct source *source)
{
    return container_of(source, struct signal_source, source);
}

/* Have the descriptor take what the takers want. */
static void mask_update(struct signal_source *source)
{
    uint64_t mask = 0;

    for (struct signal_taker *taker = source->takers; taker; taker = taker->next)
        mask |= taker->mask;
    if (mask == source->mask)
        return;
    source->mask = mask;
    int result = sys.signal_descriptor(source->source.fd, mask);
    RONDO_ASSERT(result == source->source.fd);
}

static struct rondo_signal_info info_of(const struct signalfd_siginfo *record)
{
    return (struct rondo_signal_info){
        .number = (int)record->ssi_signo,
        .code = record->ssi_code,
        .pid = (int32_t)record->ssi_pid,
        .uid = record->ssi_uid,
        .status = record->ssi_status,
        .value = record->ssi_int,
        .pointer = (void *)(uintptr_t)record->ssi_ptr,
    };
}

static void arrived(struct lane *lane, struct source *base)
{
    struct signal_source *source = signal_source_of(base);
    struct rondo_signal_info info = info_of(&source->record);
    uint64_t bit = UINT64_C(1) << (info.number - 1);
    struct signal_taker *next;

    for (struct signal_taker *taker = source->takers; taker; taker = next) {
        next = taker->next;
        if (taker->mask & bit)
            taker->deliver(lane, taker, &info);
    }
}

static void failed(struct lane *lane, struct source *base, int error)
{
    struct signal_source *source = signal_source_of(base);
    struct signal_taker *next;

    handle_fail(&base->handle, error);
    for (struct signal_taker *taker = source->takers; taker; taker = next) {
        next = taker->next;
        taker->fail(lane, taker, error);
    }
}

/* Those whose cancel waited for a read that may have been theirs. */
static void end_cancelled(struct lane *lane, struct signal_source *source)
{
    struct signal_taker *next;

    if (source->source.state == SOURCE_READING)
        return;
    for (struct signal_taker *taker = source->takers; taker; taker = next) {
        next = taker->next;
        if (taker->is_cancelled)
            taker->fail(lane, taker, -ECANCELED);
    }
}

static bool has_room(const struct signal_source *source)
{
    for (const struct signal_taker *taker = source->takers; taker; taker = taker->next)
        if (taker->is_full)
            return false;
    return source->takers != NULL;
}

static void source_wants(struct lane *lane, struct handle *handle)
{
    struct signal_source *source = signal_source_of(source_of(handle));

    end_cancelled(lane, source);
    if (has_room(source))
        source_arm(lane, &source->source);
}

static bool source_ends(struct lane *lane, struct handle *handle)
{
    bool is_quiet = source_quiesce(lane, handle);

    end_cancelled(lane, signal_source_of(source_of(handle)));
    return is_quiet;
}

/* It goes with its last taker. */
static void source_drain(struct lane *lane, struct handle *handle)
{
    (void)lane;
    (void)handle;
}

int signal_taker_add(struct lane *lane, struct signal_taker *taker)
{
    struct signal_source *source = taker->source;
    struct handle *handle = &source->source.handle;

    if (handle_has_flag(handle, HANDLE_CLOSE))
        return handle->error ? handle->error : -ECANCELED;
    taker->next = source->takers;
    if (taker->next)
        taker->next->previous = taker;
    source->takers = taker;
    taker->listed = true;
    mask_update(source);
    handle_advance(lane, handle);
    return 0;
}

void signal_taker_remove(struct signal_taker *taker)
{
    struct signal_source *source = taker->source;

    if (!taker->listed)
        return;
    taker->listed = false;
    *(taker->previous ? &taker->previous->next : &source->takers) = taker->next;
    if (taker->next)
        taker->next->previous = taker->previous;
    taker->next = taker->previous = NULL;
    mask_update(source);
}

void signal_taker_has_room(struct lane *lane, struct signal_taker *taker)
{
    handle_advance(lane, &taker->source->source.handle);
}

bool signal_is_coming(const struct signal_taker *taker)
{
    return taker->listed && taker->source->source.state == SOURCE_READING;
}

/* ---- its life ---- */

static void source_closed(struct handle *handle)
{
    (void)handle; /* Nobody is told. */
}

static void source_destroy(struct handle *handle)
{
    struct signal_source *source = signal_source_of(source_of(handle));

    source_fini(&source->source);
    sys.release(source);
}

static const struct handle_kind signal_source_kind = {
    .name = "signals",
    .advance = source_wants,
    .quiesce = source_ends,
    .drain = source_drain,
    .closed = source_closed,
    .destroy = source_destroy,
};

/* Under the lock. */
static int source_create(struct hub *hub)
{
    struct signal_source *source = sys.alloc(sizeof(*source));

    if (!source)
        return -ENOMEM;
    int fd = sys.signal_descriptor(-1, 0);
    if (fd < 0 || !source_init(&source->source, &signal_source_kind, &hub->lanes[0], fd,
                               &source->record, sizeof(source->record))) {
        if (fd >= 0)
            (void)sys.close(fd);
        sys.release(source);
        return fd < 0 ? fd : -ESHUTDOWN;
    }
    source->hub = hub;
    source->source.arrived = arrived;
    source->source.failed = failed;
    strand_ref(&source->source.handle.strand); /* The takers' together. */
    hub->signals = source;
    handle_submit(&source->source.handle);
    return 0;
}

int signal_source_get(struct hub *hub, struct signal_source **ret_source)
{
    int error = 0;

    lock_acquire(&hub->signal_lock);
    if (!hub->signals)
        error = source_create(hub);
    if (!error) {
        hub->signals->taker_count++;
        *ret_source = hub->signals;
    }
    lock_release(&hub->signal_lock);
    return error;
}

void signal_source_put(struct signal_source *source)
{
    struct hub *hub = source->hub;
    bool is_last;

    lock_acquire(&hub->signal_lock);
    is_last = --source->taker_count == 0;
    if (is_last)
        hub->signals = NULL;
    lock_release(&hub->signal_lock);
    if (!is_last)
        return;
    (void)handle_close(&source->source.handle);
    strand_unref(&source->source.handle.strand);
}
