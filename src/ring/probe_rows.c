/* The rows of the probe: what each facility is used for, since when there is one, and what rondo
 * does without it. Constant data, read by any thread.
 *
 * "instead" must be true of the sources: whoever changes a fallback changes its row.
 */
#include "probe_facts.h"

#define NEEDS_6_1 "nothing: rondo needs Linux 6.1 or later"
#define POOL_CALLS "a thread of the blocking pool makes the call"

#define REQUIRED RONDO_FACILITY_REQUIRED
#define USED RONDO_FACILITY_USED
#define PLANNED RONDO_FACILITY_PLANNED

#define TEST(opcode) PROBE_BY_TEST, .what = (opcode)
#define USE(opcode) PROBE_BY_USE, .what = (opcode)
#define OPCODE(opcode) PROBE_BY_OPCODE, .what = (opcode)
#define SETUP(flags) PROBE_BY_SETUP, .what = (flags)
#define FEATURE(bit) PROBE_BY_FEATURE, .what = (bit)

/* A row: what it needs is spelled once, in the order of struct probe_row. */
#define ROW(row_name, row_used_for, row_instead, row_need, major, minor, row_how)          \
    {                                                                                      \
        .name = (row_name), .used_for = (row_used_for), .instead = (row_instead),          \
        .need = (row_need), .since_major = (major), .since_minor = (minor), .how = row_how \
    }

const struct probe_row probe_rows[PROBE_COUNT] = {
    [PROBE_RING] = ROW("io_uring", "everything", NEEDS_6_1, REQUIRED, 5, 1, TEST(0)),
    [PROBE_DEFER_TASKRUN] =
        ROW("deferred task work", "completions in batches, made when the lane asks for them",
            "cooperative task work, or interrupts of the lane; smaller batches", USED, 6, 1,
            SETUP(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER)),
    [PROBE_SINGLE_ISSUER] =
        ROW("single issuer", "submitting without a lock in the kernel",
            "a little locking in the kernel", USED, 6, 0, SETUP(IORING_SETUP_SINGLE_ISSUER)),
    [PROBE_COOP_TASKRUN] = ROW("cooperative task work", "the second best after deferred task work",
                               "the kernel interrupts the lane", USED, 5, 19,
                               SETUP(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)),
    [PROBE_SUBMIT_ALL] =
        ROW("submit all", "batches that go on after a bad submission",
            "one more enter after a bad submission", USED, 5, 18, SETUP(IORING_SETUP_SUBMIT_ALL)),
    [PROBE_NO_IOWAIT] = ROW("no iowait", "idle lanes that do not look like waiting for a disk",
                            "top shows iowait for an idle lane; nothing is slower", USED, 6, 15,
                            FEATURE(IORING_FEAT_NO_IOWAIT)),
    [PROBE_RING_FD] = ROW("registered ring descriptor", "entering without a look-up of the ring",
                          "a look-up at each enter", USED, 5, 18, TEST(0)),
    [PROBE_FILES] =
        ROW("registered files",
            "operations without a look-up of the descriptor; on kernels that let go of one at once",
            "plain descriptors", USED, 6, 15, TEST(0)),
    [PROBE_BUFFERS] = ROW("registered buffers", "memory that is pinned once", "plain memory",
                          PLANNED, 5, 1, TEST(0)),
    [PROBE_IOWQ_CAP] =
        ROW("cap of the kernel's workers", "a bound on kernel threads of operations that block",
            "the kernel's own bound", PLANNED, 5, 15, TEST(0)),
    [PROBE_ABS_TIMER] = ROW("wait until a time", "timers without an operation in the ring",
                            "one timeout in the ring of the scheduler", PLANNED, 6, 12, TEST(0)),
    [PROBE_MIN_WAIT] = ROW("minimal wait", "gathering completions for a moment before waking",
                           "the lane wakes for the first completion", PLANNED, 6, 12,
                           FEATURE(IORING_FEAT_MIN_TIMEOUT)),
    [PROBE_MSG_RING] =
        ROW("message to a ring", "waking a lane from another one", "an eventfd that the lane polls",
            PLANNED, 5, 18, USE(IORING_OP_MSG_RING)),

    [PROBE_TIMEOUT] =
        ROW("timeout", "timers", NEEDS_6_1, REQUIRED, 5, 4, OPCODE(IORING_OP_TIMEOUT)),
    [PROBE_TIMEOUT_UPDATE] = ROW("timeout update", "a timer before the next one", NEEDS_6_1,
                                 REQUIRED, 5, 11, TEST(IORING_OP_TIMEOUT_REMOVE)),
    [PROBE_LINK_TIMEOUT] =
        ROW("linked timeout", "deadlines kept by the kernel",
            "timers of the scheduler, and a cancel", PLANNED, 5, 5, USE(IORING_OP_LINK_TIMEOUT)),
    [PROBE_CANCEL] = ROW("cancel", "closing and stopping", NEEDS_6_1, REQUIRED, 5, 5,
                         OPCODE(IORING_OP_ASYNC_CANCEL)),
    [PROBE_CANCEL_FD] = ROW("cancel by descriptor", "closing a handle with one cancel",
                            "each operation is cancelled by its number", PLANNED, 5, 19,
                            TEST(IORING_OP_ASYNC_CANCEL)),
    [PROBE_MULTISHOT_POLL] = ROW("multishot poll", "the doorbell of a lane", NEEDS_6_1, REQUIRED, 5,
                                 13, TEST(IORING_OP_POLL_ADD)),

    [PROBE_MULTISHOT_ACCEPT] =
        ROW("multishot accept", "listeners", NEEDS_6_1, REQUIRED, 5, 19, TEST(IORING_OP_ACCEPT)),
    [PROBE_CONNECT] =
        ROW("connect", "outgoing connections", NEEDS_6_1, USED, 5, 5, OPCODE(IORING_OP_CONNECT)),
    [PROBE_BUFFER_RING] = ROW("buffer ring", "receive buffers that the kernel picks", NEEDS_6_1,
                              REQUIRED, 5, 19, TEST(0)),
    [PROBE_BUFFER_INCREMENTAL] = ROW("incremental buffers", "several receives in one buffer",
                                     "a whole buffer for each receive", PLANNED, 6, 12, TEST(0)),
    [PROBE_MULTISHOT_RECV] =
        ROW("multishot receive", "streams", NEEDS_6_1, REQUIRED, 6, 0, TEST(IORING_OP_RECV)),
    [PROBE_MULTISHOT_READ] = ROW("multishot read", "streams over pipes and terminals",
                                 "one read at a time", USED, 6, 7, USE(RING_OP_READ_MULTISHOT)),
    [PROBE_RECVMSG] =
        ROW("receive message", "datagrams", NEEDS_6_1, USED, 5, 3, OPCODE(IORING_OP_RECVMSG)),
    [PROBE_MULTISHOT_RECVMSG] = ROW("multishot receive message", "datagrams",
                                    "one datagram at a time", USED, 6, 0, TEST(IORING_OP_RECVMSG)),
    [PROBE_BUNDLE] = ROW("bundles", "several buffers in one send or receive",
                         "a sendmsg of several pieces, and one buffer a receive", PLANNED, 6, 10,
                         FEATURE(IORING_FEAT_RECVSEND_BUNDLE)),
    [PROBE_SEND] = ROW("send", "streams", NEEDS_6_1, REQUIRED, 5, 6, OPCODE(IORING_OP_SEND)),
    [PROBE_SENDMSG] = ROW("send message", "several writes in one send", NEEDS_6_1, REQUIRED, 5, 3,
                          OPCODE(IORING_OP_SENDMSG)),
    [PROBE_SEND_ZC] = ROW("zero-copy send", "large writes of lent memory", "a copying send", USED,
                          6, 0, USE(IORING_OP_SEND_ZC)),
    [PROBE_SENDMSG_ZC] = ROW("zero-copy send message", "several large writes in one send",
                             "a copying send", USED, 6, 1, OPCODE(IORING_OP_SENDMSG_ZC)),
    [PROBE_SEND_ZC_REPORT] =
        ROW("zero-copy usage report", "going back to copying where the kernel copies anyway",
            "it is not known whether the kernel copied", USED, 6, 2, TEST(IORING_OP_SEND_ZC)),
    [PROBE_SHUTDOWN] =
        ROW("shutdown", "half close", NEEDS_6_1, REQUIRED, 5, 11, OPCODE(IORING_OP_SHUTDOWN)),
    [PROBE_CLOSE] = ROW("close", "closing without blocking the lane", NEEDS_6_1, REQUIRED, 5, 6,
                        OPCODE(IORING_OP_CLOSE)),

    [PROBE_READ] = ROW("read", "files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_READ)),
    [PROBE_WRITE] = ROW("write", "files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_WRITE)),
    [PROBE_SPLICE] = ROW("splice", "moving bytes between descriptors without a copy",
                         "reads and writes", USED, 5, 7, OPCODE(IORING_OP_SPLICE)),
    [PROBE_OPENAT] =
        ROW("openat", "opening files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_OPENAT)),
    [PROBE_OPENAT2_OP] = ROW("openat2", "opening files with rules for the path", POOL_CALLS, USED,
                             5, 6, OPCODE(IORING_OP_OPENAT2)),
    [PROBE_STATX] =
        ROW("statx", "attributes of files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_STATX)),
    [PROBE_FSYNC] = ROW("fsync", "files", POOL_CALLS, USED, 5, 1, OPCODE(IORING_OP_FSYNC)),
    [PROBE_SYNC_FILE_RANGE] =
        ROW("sync_file_range", "files", POOL_CALLS, USED, 5, 2, OPCODE(IORING_OP_SYNC_FILE_RANGE)),
    [PROBE_FALLOCATE] =
        ROW("fallocate", "files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_FALLOCATE)),
    [PROBE_FTRUNCATE] =
        ROW("ftruncate", "files", POOL_CALLS, USED, 6, 9, OPCODE(RING_OP_FTRUNCATE)),
    [PROBE_FADVISE] = ROW("fadvise", "files", POOL_CALLS, USED, 5, 6, OPCODE(IORING_OP_FADVISE)),
    [PROBE_RENAMEAT] =
        ROW("renameat", "files", POOL_CALLS, USED, 5, 11, OPCODE(IORING_OP_RENAMEAT)),
    [PROBE_UNLINKAT] =
        ROW("unlinkat", "files", POOL_CALLS, USED, 5, 11, OPCODE(IORING_OP_UNLINKAT)),
    [PROBE_MKDIRAT] =
        ROW("mkdirat", "directories", POOL_CALLS, USED, 5, 15, OPCODE(IORING_OP_MKDIRAT)),
    [PROBE_SYMLINKAT] =
        ROW("symlinkat", "files", POOL_CALLS, USED, 5, 15, OPCODE(IORING_OP_SYMLINKAT)),
    [PROBE_LINKAT] = ROW("linkat", "files", POOL_CALLS, USED, 5, 15, OPCODE(IORING_OP_LINKAT)),

    [PROBE_FUTEX_WAIT] =
        ROW("futex wait", "waiting for a word in memory", "a thread of the blocking pool waits",
            USED, 6, 7, USE(RING_OP_FUTEX_WAIT)),
    [PROBE_FUTEX_WAKE] = ROW("futex wake", "waking who waits for a word in memory",
                             "the futex system call", USED, 6, 7, USE(RING_OP_FUTEX_WAKE)),
    [PROBE_WAITID] = ROW("waitid", "the end of a child process", "a poll of the pidfd", USED, 6, 7,
                         USE(RING_OP_WAITID)),

    [PROBE_EVENTFD] = ROW("eventfd", "the doorbell of a lane", NEEDS_6_1, REQUIRED, 2, 6, TEST(0)),
    [PROBE_PIDFD] = ROW("pidfd_open", "child processes", "nothing: no process can be started", USED,
                        5, 3, TEST(0)),
    [PROBE_PIDFD_WAIT] = ROW("waitid by pidfd", "the status of a child process",
                             "a wait by the number of the process", USED, 5, 4, TEST(0)),
    [PROBE_PIDFD_SIGNAL] = ROW("pidfd_send_signal", "signals to a child process",
                               "a signal by the number of the process", USED, 5, 1, TEST(0)),
    [PROBE_CLOSE_RANGE] = ROW("close_range", "children that inherit no descriptor",
                              "descriptors are marked one by one", USED, 5, 11, TEST(0)),
    [PROBE_OPENAT2_BENEATH] = ROW("RESOLVE_BENEATH", "paths that cannot leave their directory",
                                  "nothing: it is not used yet", PLANNED, 5, 6, TEST(0)),
    [PROBE_MEMFD_SEAL] = ROW("sealed memfd", "memory handed to other processes",
                             "nothing: it is not used yet", PLANNED, 3, 17, TEST(0)),
    [PROBE_INOTIFY] =
        ROW("inotify", "changes of files", "nothing: it is not used yet", PLANNED, 2, 6, TEST(0)),
    [PROBE_SIGNALFD] =
        ROW("signalfd", "signals as events", "nothing: it is not used yet", PLANNED, 2, 6, TEST(0)),
    [PROBE_REUSEPORT] = ROW("SO_REUSEPORT", "listeners of several processes on one port",
                            "nothing: the option reuse_port fails", USED, 3, 9, TEST(0)),
    [PROBE_UDP_SEGMENT] = ROW("UDP_SEGMENT", "many datagrams in one send",
                              "one send for each datagram", USED, 4, 18, TEST(0)),
    [PROBE_UDP_GRO] = ROW("UDP_GRO", "many datagrams in one receive",
                          "one receive for each datagram", USED, 5, 0, TEST(0)),
    [PROBE_KTLS] = ROW("kernel TLS", "encryption of streams in the kernel",
                       "encryption in the program", PLANNED, 4, 13, TEST(0)),
    [PROBE_FASTOPEN] = ROW("TCP_FASTOPEN", "data in the first packet of a client",
                           "an ordinary handshake", PLANNED, 3, 7, TEST(0)),
    [PROBE_FASTOPEN_CONNECT] = ROW("TCP_FASTOPEN_CONNECT", "data in the first packet to a server",
                                   "an ordinary handshake", PLANNED, 4, 11, TEST(0)),
};
