/*
 * load: the closed-loop echo load of the benchmarks. One thread, one ring.
 * Each connection keeps --depth messages (1 by default) under way: it sends, waits for the whole
 * echo, compares every byte, notes the latency and sends the next. "cpu" connections do the same
 * with messages that start with 'C', for which the server computes; they are counted apart.
 *
 * 1. No byte of a message is 'C' except the first byte of a cpu message, so a server that looks at
 *    the first byte of each piece it receives is never misled.
 * 2. The clock is read once for each batch of completions. A latency therefore includes the time
 *    this program needs for its own batch, and mean latency x rate = messages under way.
 * 3. A message's bytes stay untouched until its echo is complete; they are the expected value.
 * 4. After the measured interval nothing new is sent and every echo still due must arrive.
 * 5. Time is bounded: without any echo for STALL_NS the program ends with 2.
 *
 * Exit: 0; 1 for wrong arguments, failing system calls and broken echoes; 2 for a silent server.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "load_options.h"

enum {
    SQ_ENTRIES = 1024,
    BATCH_MAX = 1024, /* completions handled before the next submit */
    CONNECT_BATCH = 64,
    BUF_COUNT = 1024,
    BUF_SIZE_MIN = 256,
    BUF_SIZE_MAX = 16384,
    BUF_GROUP = 0,
    ERRORS_SHOWN = 3,
};

#define NS_PER_S UINT64_C(1000000000)
#define TICK_NS (NS_PER_S / 20)
#define STALL_NS (5 * NS_PER_S)
#define DRAIN_NS (10 * NS_PER_S)

enum operation { OP_CONNECT, OP_RECEIVE, OP_SEND, OP_TICK };

/* Message number n of a connection lives in its slot n % depth: handed <= written, and
 * written - answered <= depth. */
struct connection {
    uint64_t written;
    uint64_t handed; /* given to a send */
    uint64_t answered;
    uint32_t echoed_size; /* bytes of the first unanswered message that are back */
    int fd;
    bool sending; /* only kept when depth > 1: then one send at a time keeps the order */
    bool failed;
};

struct load {
    struct options options;
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    uint8_t *bufs;
    uint32_t buf_size;

    uint32_t count; /* light connections first, cpu connections after them */
    struct connection *connections;
    uint8_t *messages; /* count x depth x size bytes */
    uint64_t *sent_ns; /* count x depth */

    uint64_t now_ns; /* when the batch in hand was reaped */
    uint64_t answer_ns;
    uint64_t under_way;
    bool draining;

    struct histogram light;
    uint64_t cpu_messages;
    uint64_t errors;
};

struct usage {
    uint64_t at_ns;
    double server_s;
    double own_s;
};

static struct load the_load;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void *zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        die(EXIT_BROKEN, "out of memory");
    return memory;
}

/* ---- messages ---- */

static bool is_cpu(const struct load *load, uint32_t index)
{
    return index >= load->options.light_count;
}

static uint8_t *message_at(struct load *load, uint32_t index, uint64_t number)
{
    const struct options *o = &load->options;
    uint64_t slot = (uint64_t)index * o->depth + number % o->depth;
    return load->messages + slot * o->size;
}

/* The body is written once; only the sequence changes from message to message. */
static void messages_prepare(struct load *load, uint32_t index)
{
    for (uint64_t slot = 0; slot < load->options.depth; slot++) {
        uint8_t *message = message_at(load, index, slot);
        for (uint32_t i = 0; i < load->options.size; i++)
            message[i] = (uint8_t)(0x80u | (index * 31u + i));
        message[0] = is_cpu(load, index) ? 'C' : 'L';
        for (uint32_t i = 0; i < 4; i++)
            message[1 + i] = (uint8_t)(0x80u | (index >> 7 * i));
    }
}

static void message_write(struct load *load, uint32_t index)
{
    struct connection *c = &load->connections[index];
    uint8_t *message = message_at(load, index, c->written);
    for (uint32_t i = 0; i < 5; i++)
        message[5 + i] = (uint8_t)(0x80u | (c->written >> 7 * i));
    load->sent_ns[(uint64_t)index * load->options.depth + c->written % load->options.depth] =
        load->now_ns;
    c->written++;
    load->under_way++;
}

/* ---- the ring ---- */

static struct io_uring_sqe *sqe_get(struct load *load)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&load->ring);
    while (sqe == NULL) {
        int result = io_uring_submit(&load->ring);
        if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
            die(EXIT_BROKEN, "io_uring_submit: %s", strerror(-result));
        sqe = io_uring_get_sqe(&load->ring);
    }
    return sqe;
}

static void sqe_tag(struct io_uring_sqe *sqe, enum operation operation, uint32_t index)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)operation << 32 | index);
}

static void receive_arm(struct load *load, uint32_t index)
{
    struct io_uring_sqe *sqe = sqe_get(load);
    io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUF_GROUP;
    sqe_tag(sqe, OP_RECEIVE, index);
}

/* Hands the written messages to one send, as far as they lie side by side. */
static void send_written(struct load *load, uint32_t index)
{
    struct connection *c = &load->connections[index];
    uint32_t depth = load->options.depth;
    if (c->sending || c->handed == c->written)
        return;
    uint64_t count = c->written - c->handed;
    uint64_t count_to_wrap = depth - c->handed % depth;
    if (count > count_to_wrap)
        count = count_to_wrap;

    struct io_uring_sqe *sqe = sqe_get(load);
    io_uring_prep_send(sqe, (int)index, message_at(load, index, c->handed),
                       count * load->options.size, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe_tag(sqe, OP_SEND, index);
    if (depth == 1)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* The echo says that it was sent. */
    else
        c->sending = true;
    c->handed += count;
}

static void tick_arm(struct load *load)
{
    static struct __kernel_timespec tick = {.tv_nsec = (long long)TICK_NS};
    struct io_uring_sqe *sqe = sqe_get(load);
    io_uring_prep_timeout(sqe, &tick, 0, 0);
    sqe_tag(sqe, OP_TICK, 0);
}

static void buf_give_back(struct load *load, uint16_t buf)
{
    io_uring_buf_ring_add(load->buf_ring, load->bufs + (size_t)buf * load->buf_size, load->buf_size,
                          buf, io_uring_buf_ring_mask(BUF_COUNT), 0);
    io_uring_buf_ring_advance(load->buf_ring, 1);
}

static void ring_open(struct load *load)
{
    uint32_t cq_entries = 4096;
    while (cq_entries < 2 * load->count && cq_entries < 32768)
        cq_entries *= 2;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = cq_entries,
    };
    int result = io_uring_queue_init_params(SQ_ENTRIES, &load->ring, &params);
    if (result < 0)
        die(EXIT_BROKEN, "io_uring_queue_init_params: %s", strerror(-result));
    io_uring_register_ring_fd(&load->ring);
}

static void buf_ring_open(struct load *load)
{
    load->buf_size = load->options.size * load->options.depth;
    if (load->buf_size < BUF_SIZE_MIN)
        load->buf_size = BUF_SIZE_MIN;
    if (load->buf_size > BUF_SIZE_MAX)
        load->buf_size = BUF_SIZE_MAX;
    size_t ring_size = BUF_COUNT * sizeof(struct io_uring_buf);
    load->bufs = zeroed(BUF_COUNT, load->buf_size);
    load->buf_ring = aligned_alloc(4096, ring_size);
    if (load->buf_ring == NULL)
        die(EXIT_BROKEN, "out of memory");
    memset(load->buf_ring, 0, ring_size);
    struct io_uring_buf_reg where = {
        .ring_addr = (uint64_t)(uintptr_t)load->buf_ring,
        .ring_entries = BUF_COUNT,
        .bgid = BUF_GROUP,
    };
    int result = io_uring_register_buf_ring(&load->ring, &where, 0);
    if (result < 0)
        die(EXIT_BROKEN, "io_uring_register_buf_ring: %s", strerror(-result));
    for (uint16_t buf = 0; buf < BUF_COUNT; buf++)
        buf_give_back(load, buf);
}

/* ---- connections ---- */

static struct sockaddr_storage address_of(const struct options *o, socklen_t *ret_size)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct sockaddr_storage address = {0};
    if (o->port == NULL)
        die(EXIT_BROKEN, "--port is missing");
    if (getaddrinfo(o->host, o->port, &hints, &found) != 0)
        die(EXIT_BROKEN, "--host %s --port %s: not a numeric address and port", o->host, o->port);
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    *ret_size = found->ai_addrlen;
    freeaddrinfo(found);

    bool loopback = false;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
        loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    }
    if (!loopback)
        die(EXIT_BROKEN, "%s is not a loopback address: this program loads only this machine",
            o->host);
    return address;
}

static int socket_open(int family)
{
    const int one = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die(EXIT_BROKEN, "socket: %s (see ulimit -n)", strerror(errno));
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
        die(EXIT_BROKEN, "TCP_NODELAY: %s", strerror(errno));
    return fd;
}

/* Connects [first, end) at once and waits for all of them. */
static void connect_batch(struct load *load, uint32_t first, uint32_t end)
{
    socklen_t size = 0;
    struct sockaddr_storage address = address_of(&load->options, &size);
    for (uint32_t index = first; index < end; index++) {
        struct connection *c = &load->connections[index];
        c->fd = socket_open(address.ss_family);
        struct io_uring_sqe *sqe = sqe_get(load);
        io_uring_prep_connect(sqe, c->fd, (const struct sockaddr *)&address, size);
        sqe_tag(sqe, OP_CONNECT, index);
    }
    uint64_t end_ns = clock_ns() + STALL_NS;
    for (uint32_t done = 0; done < end - first;) {
        struct __kernel_timespec second = {.tv_sec = 1};
        struct io_uring_cqe *cqe = NULL;
        int result = io_uring_submit_and_wait_timeout(&load->ring, &cqe, 1, &second, NULL);
        if (result < 0 && result != -ETIME && result != -EINTR)
            die(EXIT_BROKEN, "io_uring_submit_and_wait_timeout: %s", strerror(-result));
        while (io_uring_peek_cqe(&load->ring, &cqe) == 0) {
            if (cqe->res < 0)
                die(EXIT_BROKEN, "connect to %s port %s: %s", load->options.host,
                    load->options.port, strerror(-cqe->res));
            io_uring_cqe_seen(&load->ring, cqe);
            done++;
        }
        if (done < end - first && clock_ns() > end_ns)
            die(EXIT_SILENT, "the server accepted nothing for 5 s, after %u connections",
                first + done);
    }
}

static void connect_all(struct load *load)
{
    for (uint32_t first = 0; first < load->count; first += CONNECT_BATCH) {
        uint32_t rest = load->count - first;
        connect_batch(load, first, first + (rest < CONNECT_BATCH ? rest : CONNECT_BATCH));
    }
    int *fds = zeroed(load->count, sizeof(*fds));
    for (uint32_t index = 0; index < load->count; index++)
        fds[index] = load->connections[index].fd;
    int result = io_uring_register_files(&load->ring, fds, load->count);
    if (result < 0)
        die(EXIT_BROKEN, "io_uring_register_files: %s", strerror(-result));
    free(fds);
}

static void connection_fail(struct load *load, uint32_t index, const char *why)
{
    struct connection *c = &load->connections[index];
    if (c->failed)
        return;
    if (load->errors++ < ERRORS_SHOWN)
        fprintf(stderr, "load: connection %u, message %" PRIu64 ": %s\n", index, c->answered, why);
    load->under_way -= c->written - c->answered;
    c->failed = true;
    shutdown(c->fd, SHUT_RDWR);
}

/* ---- completions ---- */

static void on_answer(struct load *load, uint32_t index)
{
    struct connection *c = &load->connections[index];
    uint32_t depth = load->options.depth;
    if (is_cpu(load, index))
        load->cpu_messages++;
    else
        histogram_add(&load->light,
                      load->now_ns - load->sent_ns[(uint64_t)index * depth + c->answered % depth]);
    c->answered++;
    c->echoed_size = 0;
    load->under_way--;
    load->answer_ns = load->now_ns;
    if (!load->draining)
        message_write(load, index);
}

static void on_bytes(struct load *load, uint32_t index, const uint8_t *bytes, uint32_t size)
{
    struct connection *c = &load->connections[index];
    while (size > 0) {
        if (c->answered == c->handed) {
            connection_fail(load, index, "more bytes came back than were sent");
            return;
        }
        uint32_t piece = load->options.size - c->echoed_size;
        if (piece > size)
            piece = size;
        if (memcmp(bytes, message_at(load, index, c->answered) + c->echoed_size, piece) != 0) {
            connection_fail(load, index, "the echo has other bytes");
            return;
        }
        c->echoed_size += piece;
        bytes += piece;
        size -= piece;
        if (c->echoed_size == load->options.size)
            on_answer(load, index);
    }
    send_written(load, index);
}

static void on_receive(struct load *load, uint32_t index, const struct io_uring_cqe *cqe)
{
    const struct connection *c = &load->connections[index];
    if (cqe->res > 0) {
        uint16_t buf = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        if (!c->failed)
            on_bytes(load, index, load->bufs + (size_t)buf * load->buf_size, (uint32_t)cqe->res);
        buf_give_back(load, buf);
    } else if (cqe->res == 0) {
        connection_fail(load, index, "closed by the server");
    } else if (cqe->res != -ENOBUFS) { /* Buffers are back with the next batch: arm again. */
        connection_fail(load, index, strerror(-cqe->res));
    }
    if (!(cqe->flags & IORING_CQE_F_MORE) && !c->failed)
        receive_arm(load, index);
}

static void on_send(struct load *load, uint32_t index, const struct io_uring_cqe *cqe)
{
    struct connection *c = &load->connections[index];
    if (cqe->res < 0 || (uint32_t)cqe->res % load->options.size != 0) {
        connection_fail(load, index, cqe->res < 0 ? strerror(-cqe->res) : "a send was cut short");
        return;
    }
    c->sending = false;
    if (!c->failed)
        send_written(load, index);
}

static void dispatch(struct load *load, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)cqe->user_data;
    switch ((enum operation)(cqe->user_data >> 32)) {
    case OP_RECEIVE:
        on_receive(load, index, cqe);
        break;
    case OP_SEND:
        on_send(load, index, cqe);
        break;
    case OP_TICK:
        tick_arm(load);
        break;
    case OP_CONNECT:
        break;
    }
}

/* One turn: submit, wait for at least one completion, handle a batch. */
static void turn(struct load *load)
{
    int result = io_uring_submit_and_wait(&load->ring, 1);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        die(EXIT_BROKEN, "io_uring_submit_and_wait: %s", strerror(-result));
    load->now_ns = clock_ns();
    struct io_uring_cqe *cqe = NULL;
    unsigned head = 0;
    unsigned count = 0;
    io_uring_for_each_cqe (&load->ring, head, cqe) {
        dispatch(load, cqe);
        if (++count == BATCH_MAX)
            break;
    }
    io_uring_cq_advance(&load->ring, count);
    if (load->now_ns - load->answer_ns > STALL_NS && load->under_way > 0)
        die(EXIT_SILENT, "the server stopped answering: %" PRIu64 " messages have waited for 5 s",
            load->under_way);
}

/* ---- the run ---- */

static void run_until(struct load *load, uint64_t end_ns)
{
    while (load->now_ns < end_ns && load->under_way > 0)
        turn(load);
}

static void start_all(struct load *load)
{
    load->now_ns = clock_ns();
    load->answer_ns = load->now_ns;
    tick_arm(load);
    for (uint32_t index = 0; index < load->count; index++) {
        messages_prepare(load, index);
        receive_arm(load, index);
        for (uint32_t i = 0; i < load->options.depth; i++)
            message_write(load, index);
        send_written(load, index);
    }
}

/* User and system seconds of the server so far; the command name may hold spaces and brackets. */
static double server_seconds(int pid)
{
    char path[64];
    char line[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        die(EXIT_BROKEN, "--server-pid %d: %s", pid, strerror(errno));
    size_t size = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[size] = '\0';
    const char *fields = strrchr(line, ')');
    unsigned long user = 0;
    unsigned long system = 0;
    if (fields == NULL || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                                 &user, &system) != 2)
        die(EXIT_BROKEN, "%s: unknown form", path);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double own_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static struct usage usage_now(const struct load *load)
{
    int pid = load->options.server_pid;
    struct usage usage = {
        .at_ns = clock_ns(),
        .server_s = pid > 0 ? server_seconds(pid) : 0,
        .own_s = own_seconds(),
    };
    return usage;
}

static void report_value(const struct load *load, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void report_value(const struct load *load, const char *name, const char *format, ...)
{
    va_list arguments;
    static bool started;
    const char *glue = load->options.one_line ? ", " : ",\n  ";
    printf("%s\"%s\": ", started ? glue : load->options.one_line ? "{" : "{\n  ", name);
    started = true;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

static void report_usage(const struct load *load, const struct usage *from, const struct usage *to)
{
    uint64_t messages = load->light.count + load->cpu_messages;
    report_value(load, "load_cpu_seconds", "%.3f", to->own_s - from->own_s);
    if (load->options.server_pid == 0)
        return;
    double server_s = to->server_s - from->server_s;
    report_value(load, "server_cpu_seconds", "%.3f", server_s);
    report_value(load, "cpu_us_per_message", "%.3f",
                 messages > 0 ? server_s * 1e6 / (double)messages : 0);
}

/* Writes all but the errors, which are known only after the drain. */
static void report(const struct load *load, const struct usage *from, const struct usage *to)
{
    const struct options *o = &load->options;
    const struct histogram *light = &load->light;
    double seconds = (double)(to->at_ns - from->at_ns) / (double)NS_PER_S;
    report_value(load, "connections", "%u", o->light_count);
    report_value(load, "cpu_connections", "%u", o->cpu_count);
    report_value(load, "size", "%u", o->size);
    report_value(load, "depth", "%u", o->depth);
    report_value(load, "seconds", "%.3f", seconds);
    report_value(load, "light_messages", "%" PRIu64, light->count);
    report_value(load, "light_per_s", "%.1f", (double)light->count / seconds);
    report_value(load, "p50_us", "%.2f", (double)histogram_quantile_ns(light, 0.50) / 1e3);
    report_value(load, "p90_us", "%.2f", (double)histogram_quantile_ns(light, 0.90) / 1e3);
    report_value(load, "p99_us", "%.2f", (double)histogram_quantile_ns(light, 0.99) / 1e3);
    report_value(load, "max_us", "%.2f", (double)light->max_ns / 1e3);
    report_value(load, "cpu_messages", "%" PRIu64, load->cpu_messages);
    report_usage(load, from, to);
}

static void measure(struct load *load)
{
    start_all(load);
    run_until(load, load->now_ns + (uint64_t)(load->options.warmup * 1e9));
    memset(&load->light, 0, sizeof(load->light));
    load->cpu_messages = 0;
    struct usage from = usage_now(load);
    run_until(load, from.at_ns + (uint64_t)(load->options.seconds * 1e9));
    struct usage to = usage_now(load);
    report(load, &from, &to);

    load->draining = true;
    run_until(load, to.at_ns + DRAIN_NS);
    if (load->under_way > 0)
        die(EXIT_SILENT, "%" PRIu64 " echoes are still due 10 s after the last message",
            load->under_way);
    report_value(load, "errors", "%" PRIu64, load->errors);
    puts(load->options.one_line ? "}" : "\n}");
}

/* ---- the process ---- */

static void descriptor_limit_raise(uint32_t count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die(EXIT_BROKEN, "getrlimit: %s", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die(EXIT_BROKEN, "setrlimit: %s", strerror(errno));
    if (limit.rlim_max < (rlim_t)count + 16)
        die(EXIT_BROKEN, "%u connections need more than the %ju descriptors allowed", count,
            (uintmax_t)limit.rlim_max);
}

int main(int argc, char **argv)
{
    struct load *load = &the_load;
    load->options = options_parse(argc, argv);
    load->count = load->options.light_count + load->options.cpu_count;
    size_t slots = (size_t)load->count * load->options.depth;
    load->connections = zeroed(load->count, sizeof(*load->connections));
    load->messages = zeroed(slots, load->options.size);
    load->sent_ns = zeroed(slots, sizeof(*load->sent_ns));
    descriptor_limit_raise(load->count);
    ring_open(load);
    connect_all(load);
    buf_ring_open(load);
    measure(load);
    return load->errors > 0 ? EXIT_BROKEN : 0;
}
