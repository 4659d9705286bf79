/* Counts the forks between the first loop and this process, and holds locks across them. */
#include "fork.h"

#include "check.h"

#include <pthread.h>

enum { FORK_LOCKS_MAX = 32 };

_Atomic uint32_t fork_generation;

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;
static struct lock list_lock;
static struct lock *held[FORK_LOCKS_MAX];
static uint32_t held_count;

static void prepare(void)
{
    lock_acquire(&list_lock);
    for (uint32_t i = 0; i < held_count; i++)
        lock_acquire(held[i]);
}

static void in_parent(void)
{
    for (uint32_t i = held_count; i > 0; i--)
        lock_release(held[i - 1]);
    lock_release(&list_lock);
}

static void in_child(void)
{
    add_relaxed(&fork_generation, 1); /* Relaxed: the child has one thread. */
    in_parent();
}

static void watch(void)
{
    (void)pthread_atfork(prepare, in_parent, in_child);
}

void fork_watch(void)
{
    (void)pthread_once(&watch_once, watch);
}

void fork_hold(struct lock *lock)
{
    fork_watch();
    lock_acquire(&list_lock);
    RONDO_ASSERT(held_count < FORK_LOCKS_MAX);
    held[held_count++] = lock;
    lock_release(&list_lock);
}
