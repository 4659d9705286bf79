/* The one table of system calls. Everything the library asks of the operating system, besides
 * what liburing does for the ring, goes through it: a test replaces an entry to make the n-th call
 * fail, production never writes it.
 *
 * Any thread. Results are 0 or a count, or -errno: errno itself is read in sys.c and nowhere else.
 */
#ifndef RONDO_BASE_SYS_H
#define RONDO_BASE_SYS_H

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum sys_descriptor {
    SYS_SOCKET = 1 << 0,
    SYS_TERMINAL = 1 << 1,
    SYS_READABLE = 1 << 2, /* opened for reading */
    SYS_WRITABLE = 1 << 3,
    SYS_DIRECTORY = 1 << 4,
    SYS_REGULAR = 1 << 5,
};

struct io_uring_params;

struct sys {
    uint64_t (*clock_now_ns)(void);

    /* Zeroed memory, or NULL. Released with release(). */
    void *(*alloc)(size_t size);
    /* The same, not zeroed. */
    void *(*alloc_raw)(size_t size);
    /* The same, aligned to a cache line. */
    void *(*alloc_aligned)(size_t size);
    void (*release)(void *memory);
    /* Zeroed whole pages, or NULL. Given back with unmap(). */
    void *(*map)(size_t size);
    void (*unmap)(void *memory, size_t size);

    int (*thread_create)(pthread_t *ret_thread, void *(*body)(void *), void *arg);
    /* The kernel's number of the calling thread. */
    int32_t (*thread_id)(void);
    /* Processor time that a live thread has used. */
    uint64_t (*thread_cpu_ns)(pthread_t thread);
    /* 1: a thread of this process sleeps in the kernel; 0: it runs, or waits for a processor. */
    int (*thread_is_blocked)(int32_t id);

    /* Sleeps while *word == expected, until woken by a wake with a bit of @mask or until
     * deadline_ns, which may be DEADLINE_NEVER.
     * 0, -EAGAIN (value differed), -EINTR, -ETIMEDOUT. */
    int (*futex_wait)(const void *word, uint32_t expected, uint32_t mask, uint64_t deadline_ns);
    /* Wakes up to @count sleepers that wait with a bit of @mask; how many it woke. */
    int (*futex_wake)(const void *word, uint32_t count, uint32_t mask);

    int (*event_create)(void);
    /* May be called in a signal handler: errno stays as it was. */
    int (*event_ring)(int fd);
    int (*close)(int fd);
    int (*open)(const char *path, int flags);
    /* Entries of an open folder, each a struct dirent64: their bytes, 0 at its end. */
    int64_t (*directory_read)(int fd, void *ret_entries, size_t size);
    int (*truncate)(int fd, uint64_t size);
    uint64_t (*random)(void);

    /* Block the signals of @mask (bit n - 1 for signal n) on the calling thread. */
    int (*signal_block)(uint64_t mask);
    /* A descriptor from which the signals of @mask are read, or with one: change its mask. */
    int (*signal_descriptor)(int fd, uint64_t mask);

    int (*watch_create)(void);
    /* The number of the watch. */
    int (*watch_add)(int fd, const char *path, uint32_t mask);
    int (*watch_remove)(int fd, int32_t id);
    /* Another number for @fd, closed on exec. */
    int (*duplicate)(int fd);

    /* What a descriptor is, bits of enum sys_descriptor; or -EBADF. */
    int (*descriptor_traits)(int fd);

    int (*socket)(int family, int type, int protocol);
    int (*bind)(int fd, const struct sockaddr *address, socklen_t size);
    int (*listen)(int fd, int backlog);
    int (*connect)(int fd, const struct sockaddr *address, socklen_t size);
    /* Takes O_NONBLOCK off. */
    int (*set_blocking)(int fd);
    /* A connection that waits at a listener, or -EAGAIN: it never blocks. */
    int (*accept_now)(int fd);
    int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t size);
    int (*getsockopt)(int fd, int level, int name, void *ret_value, socklen_t *size);
    int (*getsockname)(int fd, struct sockaddr *ret_address, socklen_t *size);
    int (*shutdown)(int fd, int how);
    int (*getpeername)(int fd, struct sockaddr *ret_address, socklen_t *size);
    int64_t (*send)(int fd, const void *data, size_t size, int flags);
    /* sendfile(2) that never waits for room: bytes, or -EAGAIN. */
    int64_t (*send_file)(int fd, int file, uint64_t offset, size_t size);

    /* As getaddrinfo(3) and getnameinfo(3): 0 or an EAI number. *ret_error: -errno with EAI_SYSTEM,
     * otherwise 0. They block. */
    int (*getaddrinfo)(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **ret_list, int *ret_error);
    void (*freeaddrinfo)(struct addrinfo *list);
    int (*getnameinfo)(const struct sockaddr *address, socklen_t size, char *ret_host,
                       size_t host_size, char *ret_service, size_t service_size, int flags,
                       int *ret_error);

    /* io_uring_register(2), for what Debian 12's liburing declares and does not export. */
    int (*ring_register)(int fd, unsigned opcode, const void *arg, unsigned count);
    /* io_uring_setup(2): a descriptor, without its memory mapped. */
    int (*ring_setup)(unsigned count, struct io_uring_params *params);

    /* Any other system call, by its number and with up to six arguments. For those that have one
     * caller, and for the child of a spawn, which may use nothing else. See sys_call(). */
    int64_t (*call)(long number, const long arguments[6]);

    /* A child process that runs @body, which may use sys_call() and nothing else, and does not
     * return. It borrows the memory of this process while the calling thread waits, until it has
     * executed a program or ended; with @apart it has a copy and nobody waits. No fork handlers
     * run. The number of the child. */
    int (*process_create)(bool apart, void (*body)(void *arg), void *arg);

    uint32_t (*processor_count)(void);
    /* The soft limit of open descriptors. */
    uint64_t (*descriptor_limit)(void);
};

extern struct sys sys;

/* sys_call(SYS_dup3, from, to, O_CLOEXEC): pointers are cast to long, what is left out is zero. */
#define sys_call(number, ...) sys.call((number), (const long[6]){__VA_ARGS__})

#endif
