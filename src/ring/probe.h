/* Which facilities of the kernel are live: the names that the layers above ask for, to choose
 * between a facility and what is used instead. The public table is rondo/probe.h.
 *
 * Any thread. The first question tries everything, about a millisecond, and the answers are kept
 * for the life of the process: ask once before a loop starts, not on a lane that is busy. Answers
 * that came of a shortage of descriptors or memory are given and not kept.
 */
#ifndef RONDO_RING_PROBE_H
#define RONDO_RING_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* The rows of the table, in its order. */
enum probe_facility {
    /* The ring itself. */
    PROBE_RING,
    PROBE_DEFER_TASKRUN,
    PROBE_SINGLE_ISSUER,
    PROBE_COOP_TASKRUN,
    PROBE_SUBMIT_ALL,
    PROBE_NO_IOWAIT,
    PROBE_RING_FD,
    PROBE_FILES,
    PROBE_BUFFERS,
    PROBE_IOWQ_CAP,
    PROBE_ABS_TIMER,
    PROBE_MIN_WAIT,
    PROBE_MSG_RING,

    /* Time and cancelling. */
    PROBE_TIMEOUT,
    PROBE_TIMEOUT_UPDATE,
    PROBE_LINK_TIMEOUT,
    PROBE_CANCEL,
    PROBE_CANCEL_FD,
    PROBE_MULTISHOT_POLL,

    /* Streams and datagrams. */
    PROBE_MULTISHOT_ACCEPT,
    PROBE_CONNECT,
    PROBE_BUFFER_RING,
    PROBE_BUFFER_INCREMENTAL,
    PROBE_MULTISHOT_RECV,
    PROBE_MULTISHOT_READ,
    PROBE_RECVMSG,
    PROBE_MULTISHOT_RECVMSG,
    PROBE_BUNDLE,
    PROBE_SEND,
    PROBE_SENDMSG,
    PROBE_SEND_ZC,
    PROBE_SENDMSG_ZC,
    PROBE_SEND_ZC_REPORT,
    PROBE_SHUTDOWN,
    PROBE_CLOSE,

    /* Files. */
    PROBE_READ,
    PROBE_WRITE,
    PROBE_SPLICE,
    PROBE_OPENAT,
    PROBE_OPENAT2_OP,
    PROBE_STATX,
    PROBE_FSYNC,
    PROBE_SYNC_FILE_RANGE,
    PROBE_FALLOCATE,
    PROBE_FTRUNCATE,
    PROBE_FADVISE,
    PROBE_RENAMEAT,
    PROBE_UNLINKAT,
    PROBE_MKDIRAT,
    PROBE_SYMLINKAT,
    PROBE_LINKAT,

    /* Waiting for other things. */
    PROBE_FUTEX_WAIT,
    PROBE_FUTEX_WAKE,
    PROBE_WAITID,

    PROBE_RING_COUNT,

    /* What is not the ring. */
    PROBE_EVENTFD = PROBE_RING_COUNT,
    PROBE_PIDFD,
    PROBE_PIDFD_WAIT,
    PROBE_PIDFD_SIGNAL,
    PROBE_CLOSE_RANGE,
    PROBE_OPENAT2_BENEATH,
    PROBE_MEMFD_SEAL,
    PROBE_INOTIFY,
    PROBE_SIGNALFD,
    PROBE_REUSEPORT,
    PROBE_UDP_SEGMENT,
    PROBE_UDP_GRO,
    PROBE_KTLS,
    PROBE_FASTOPEN,
    PROBE_FASTOPEN_CONNECT,

    PROBE_COUNT
};

bool probe_has(enum probe_facility facility);

/* The same for an operation of the ring by its number; false for one without a number here. */
bool probe_op_supported(uint8_t opcode);

/* For tests, to take the way around: the facility is answered as absent while @absent. An operation
 * that the facility stands for is absent with it. */
void probe_force_absent(enum probe_facility facility, bool absent);

#endif
