/* rondo: one event loop, many threads, every event once. This header includes all the others.
 *
 * A loop owns a completion thread per lane, a scheduler thread and an elastic pool of workers. User
 * callbacks run on workers only. Callbacks of one stream, listener or strand run in order and never
 * two at a time; different ones run in parallel.
 */
#ifndef RONDO_H
#define RONDO_H

#include "buffer.h"
#include "datagram.h"
#include "error.h"
#include "file.h"
#include "futex.h"
#include "loop.h"
#include "op.h"
#include "poll.h"
#include "probe.h"
#include "process.h"
#include "resolve.h"
#include "signal.h"
#include "strand.h"
#include "stream.h"
#include "timer.h"
#include "version.h"
#include "wake.h"
#include "watch.h"

#endif
