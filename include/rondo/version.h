/* The version of these headers and of the library that runs. */
#ifndef RONDO_VERSION_H
#define RONDO_VERSION_H

#define RONDO_VERSION_MAJOR 0
#define RONDO_VERSION_MINOR 1
#define RONDO_VERSION_PATCH 0
#define RONDO_VERSION_STRING "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library in use, such as "0.1.0". Any thread; does not suspend. A constant
 * string. Since 0.1. */
const char *rondo_version(void);

#ifdef __cplusplus
}
#endif

#endif
