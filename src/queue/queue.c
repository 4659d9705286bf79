/* The queues are header-only, so that a checker can compile the real code under its own atomics.
 * This file compiles each of them alone, which proves that the layer stands on base only. */
#include "inbox.h"
#include "local_queue.h"
#include "node.h"
#include "parker.h"
#include "ready_queue.h"

RONDO_STATIC_ASSERT(sizeof(struct node) == sizeof(void *));
RONDO_STATIC_ASSERT(sizeof(struct inbox) == sizeof(void *));
