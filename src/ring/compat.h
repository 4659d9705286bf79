/* Constants of kernels newer than Debian 12's liburing 2.3. Whether the running kernel knows them
 * is found out at run time; this file only gives them their numbers. */
#ifndef RONDO_RING_COMPAT_H
#define RONDO_RING_COMPAT_H

#include <liburing.h>

#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif

#endif
