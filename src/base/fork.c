/* Counts the forks between the first loop and this process. */
#include "fork.h"

#include <pthread.h>

_Atomic uint32_t fork_generation;

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void in_child(void)
{
    add_relaxed(&fork_generation, 1); /* Relaxed: the child has one thread. */
}

static void watch(void)
{
    (void)pthread_atfork(NULL, NULL, in_child);
}

void fork_watch(void)
{
    (void)pthread_once(&watch_once, watch);
}
