/* Constants of kernels newer than Debian 12's liburing 2.3. Whether the running kernel knows them
 * is found out at run time; this file only gives them their numbers. */
#ifndef RONDO_RING_COMPAT_H
#define RONDO_RING_COMPAT_H

#include <liburing.h>

#include <stdint.h>

/* An operation of a newer kernel is an enumerator of newer headers, which #ifndef does not see. */
enum ring_opcode {
    RING_OP_READ_MULTISHOT = 49, /* 6.7 */
    RING_OP_WAITID = 50,         /* 6.7 */
    RING_OP_FUTEX_WAIT = 51,     /* 6.7 */
    RING_OP_FUTEX_WAKE = 52,     /* 6.7 */
    RING_OP_FTRUNCATE = 55,      /* 6.9 */
};

/* Of the operations on futexes, in the place of the descriptor: 32-bit words, and private ones. */
enum { RING_FUTEX_U32 = 0x02, RING_FUTEX_U32_PRIVATE = 0x82 };

#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif
#ifndef IORING_ENTER_ABS_TIMER
#define IORING_ENTER_ABS_TIMER (1U << 5)
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4)
#endif

/* struct io_uring_buf_reg with the flags it has since 6.12; before, they had to be zero. */
enum { RING_BUFFERS_INCREMENTAL = 2 };
struct ring_buffers_registration {
    uint64_t address;
    uint32_t count;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

#endif
