/* Threads for blocking work; see blocking.h.
 *
 * Idle threads sleep on a futex word that every push changes. A thread that has idled long enough
 * detaches itself and ends; the others are joined when the pool is freed.
 */
#include "blocking.h"

#include "clock.h"
#include "lock.h"

#include <errno.h>
#include <stdio.h>

struct blocking_thread {
    struct blocking_thread *next;
    struct blocking_thread *previous;
    struct blocking *pool;
    pthread_t id;
    struct blocking_job *job;
    bool lost;     /* its job is */
    bool orphaned; /* the pool was freed under its lost job */
};

struct blocking_queue {
    struct blocking_job *first;
    struct blocking_job *last;
    uint32_t waiting;
    uint32_t running;
    uint32_t running_max;
};

struct blocking {
    struct lock lock;
    _Atomic uint32_t changes; /* what idle threads sleep on */
    struct blocking_queue queues[_BLOCKING_CLASS_COUNT];
    struct blocking_thread *threads; /* that have begun */
    uint32_t thread_count;           /* begun or about to */
    uint32_t starting_count;
    uint32_t idle_count;
    uint32_t threads_max;
    uint64_t retire_after_ns;
    bool closed;
};

/* ---- queues and threads: all under the lock ---- */

static void enqueue(struct blocking_queue *queue, struct blocking_job *job)
{
    job->next = NULL;
    job->previous = queue->last;
    *(queue->last ? &queue->last->next : &queue->first) = job;
    queue->last = job;
    queue->waiting++;
}

static void dequeue(struct blocking_queue *queue, struct blocking_job *job)
{
    *(job->previous ? &job->previous->next : &queue->first) = job->next;
    *(job->next ? &job->next->previous : &queue->last) = job->previous;
    job->next = job->previous = NULL;
    queue->waiting--;
}

static bool is_waiting(const struct blocking_queue *queue, const struct blocking_job *job)
{
    return job->previous || queue->first == job;
}

/* The next job that may run, or NULL. */
static struct blocking_job *take(struct blocking *pool)
{
    for (uint32_t i = 0; i < _BLOCKING_CLASS_COUNT; i++) {
        struct blocking_queue *queue = &pool->queues[i];
        struct blocking_job *job = queue->first;
        if (job && queue->running < queue->running_max) {
            dequeue(queue, job);
            queue->running++;
            return job;
        }
    }
    return NULL;
}

/* More jobs could run than there are threads coming for them. */
static bool wants_thread(const struct blocking *pool)
{
    uint32_t runnable = 0;

    for (uint32_t i = 0; i < _BLOCKING_CLASS_COUNT; i++) {
        const struct blocking_queue *queue = &pool->queues[i];
        uint32_t room = queue->running_max - queue->running;
        runnable += queue->waiting < room ? queue->waiting : room;
    }
    return runnable > pool->idle_count + pool->starting_count &&
           pool->thread_count < pool->threads_max;
}

static void thread_add(struct blocking_thread *thread)
{
    struct blocking *pool = thread->pool;

    thread->next = pool->threads;
    if (thread->next)
        thread->next->previous = thread;
    pool->threads = thread;
    pool->starting_count--;
}

static void thread_remove(struct blocking_thread *thread)
{
    struct blocking *pool = thread->pool;

    *(thread->previous ? &thread->previous->next : &pool->threads) = thread->next;
    if (thread->next)
        thread->next->previous = thread->previous;
    pool->thread_count--;
}

/* ---- a thread ---- */

/* Under the lock, which it leaves while the job runs. */
static void run(struct blocking_thread *thread, struct blocking_job *job)
{
    struct blocking *pool = thread->pool;
    struct blocking_queue *queue = &pool->queues[job->class];

    thread->job = job;
    job->thread = thread;
    lock_release(&pool->lock);
    job->run(job);
    lock_acquire(&pool->lock);
    bool lost = thread->lost;
    job->thread = NULL; /* From here on it can not be lost any more. */
    queue->running--;
    lock_release(&pool->lock);
    job->finished(job, lost);
    lock_acquire(&pool->lock);
    thread->job = NULL;
    thread->lost = false;
}

/* Under the lock, which it leaves to sleep. False: it has idled long enough. */
static bool rest(struct blocking *pool)
{
    uint32_t changes = load_relaxed(&pool->changes); /* Relaxed twice: under the lock. */
    uint64_t deadline_ns = clock_add_ns(clock_now_ns(), pool->retire_after_ns);

    pool->idle_count++;
    lock_release(&pool->lock);
    int error = sys.futex_wait(&pool->changes, changes, UINT32_MAX, deadline_ns);
    lock_acquire(&pool->lock);
    pool->idle_count--;
    return error != -ETIMEDOUT || load_relaxed(&pool->changes) != changes;
}

/* Under the lock, which is released. */
static void leave(struct blocking_thread *thread)
{
    struct blocking *pool = thread->pool;
    bool joined = pool->closed && !thread->orphaned;
    bool is_last;

    if (joined) {
        lock_release(&pool->lock); /* The rest is done by blocking_free(). */
        return;
    }
    thread_remove(thread);
    is_last = pool->closed && pool->thread_count == 0;
    lock_release(&pool->lock);
    (void)pthread_detach(thread->id);
    sys.release(thread);
    if (is_last)
        sys.release(pool);
}

static void *thread_main(void *arg)
{
    struct blocking_thread *thread = arg;
    struct blocking *pool = thread->pool;

    (void)pthread_setname_np(pthread_self(), "rondo-blocking");
    lock_acquire(&pool->lock);
    thread->id = pthread_self();
    thread_add(thread);
    for (;;) { /* Runs until the pool is freed, or it has idled long enough. */
        struct blocking_job *job = take(pool);
        if (job)
            run(thread, job);
        else if (pool->closed || !rest(pool))
            break;
    }
    leave(thread);
    return NULL;
}

static int thread_start(struct blocking *pool)
{
    struct blocking_thread *thread = sys.alloc(sizeof(*thread));
    pthread_t id;
    int error;

    if (!thread)
        return -ENOMEM;
    thread->pool = pool;
    error = sys.thread_create(&id, thread_main, thread);
    if (error)
        sys.release(thread);
    return error;
}

/* ---- the pool ---- */

struct blocking *blocking_create(uint32_t threads_max, uint64_t retire_after_ns)
{
    struct blocking *pool = sys.alloc(sizeof(*pool));

    if (!pool)
        return NULL;
    pool->threads_max = threads_max;
    pool->retire_after_ns = retire_after_ns;
    pool->queues[BLOCKING_OTHER].running_max = threads_max;
    pool->queues[BLOCKING_LOOKUP].running_max = (threads_max + 1) / 2;
    return pool;
}

/* No thread came. True: there is one that will take the job, or has taken it. */
static bool push_without_thread(struct blocking *pool, struct blocking_job *job)
{
    struct blocking_queue *queue = &pool->queues[job->class];

    lock_acquire(&pool->lock);
    pool->starting_count--;
    pool->thread_count--;
    bool refused = pool->thread_count == 0 && is_waiting(queue, job);
    if (refused)
        dequeue(queue, job);
    lock_release(&pool->lock);
    return !refused;
}

int blocking_push(struct blocking *pool, struct blocking_job *job)
{
    lock_acquire(&pool->lock);
    RONDO_ASSERT(!pool->closed);
    enqueue(&pool->queues[job->class], job);
    bool starts = wants_thread(pool);
    if (starts) {
        pool->thread_count++;
        pool->starting_count++;
    }
    (void)add_relaxed(&pool->changes, 1); /* Relaxed: under the lock. */
    lock_release(&pool->lock);
    (void)sys.futex_wake(&pool->changes, 1, UINT32_MAX);
    if (starts && thread_start(pool) && !push_without_thread(pool, job))
        return -EAGAIN;
    return 0;
}

bool blocking_remove(struct blocking *pool, struct blocking_job *job)
{
    struct blocking_queue *queue = &pool->queues[job->class];

    lock_acquire(&pool->lock);
    bool waiting = is_waiting(queue, job);
    if (waiting)
        dequeue(queue, job);
    lock_release(&pool->lock);
    return waiting;
}

bool blocking_lose(struct blocking *pool, struct blocking_job *job)
{
    lock_acquire(&pool->lock);
    bool running = job->thread != NULL;
    if (running)
        job->thread->lost = true;
    lock_release(&pool->lock);
    return running;
}

uint32_t blocking_thread_count(struct blocking *pool)
{
    lock_acquire(&pool->lock);
    uint32_t count = pool->thread_count;
    lock_release(&pool->lock);
    return count;
}

/* Under the lock: close, and take off the list the threads that are to be joined. */
static struct blocking_thread *close_pool(struct blocking *pool)
{
    struct blocking_thread *joined = NULL;
    struct blocking_thread *next;

    pool->closed = true;
    for (struct blocking_thread *thread = pool->threads; thread; thread = next) {
        next = thread->next;
        thread->orphaned = thread->lost;
        if (thread->orphaned)
            continue;
        thread_remove(thread);
        thread->next = joined;
        joined = thread;
    }
    (void)add_relaxed(&pool->changes, 1); /* Relaxed: under the lock. */
    return joined;
}

void blocking_free(struct blocking *pool)
{
    struct blocking_thread *next;

    if (!pool)
        return;
    lock_acquire(&pool->lock);
    while (pool->starting_count > 0) { /* A moment: they are on their way. */
        lock_release(&pool->lock);
        clock_nap_ns(NS_PER_MS / 20);
        lock_acquire(&pool->lock);
    }
    struct blocking_thread *joined = close_pool(pool);
    bool is_last = pool->thread_count == 0;
    lock_release(&pool->lock);
    (void)sys.futex_wake(&pool->changes, INT32_MAX, UINT32_MAX);
    for (struct blocking_thread *thread = joined; thread; thread = next) {
        next = thread->next;
        (void)pthread_join(thread->id, NULL);
        sys.release(thread);
    }
    if (is_last)
        sys.release(pool);
}

void blocking_forget(struct blocking *pool)
{
    struct blocking_thread *next;

    for (struct blocking_thread *thread = pool->threads; thread; thread = next) {
        next = thread->next;
        sys.release(thread);
    }
    sys.release(pool);
}
