/*
 * load_udp: loads a UDP echo server on this machine and prints one JSON object. Each of --sockets
 * sockets keeps --window datagrams of --size bytes under way: it sends that many with sendmmsg, and
 * one more for each that came back. A datagram carries its number; an echo with other bytes is an
 * error. When nothing comes back for POLL_MS, what is under way counts as lost and is sent anew.
 *
 * One thread. Exit status 1: a wrong argument or a failing call; 3: nothing ever came back.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64,
    SIZE_MAX_BYTES = 1472,
    SOCKETS_MAX = 1024,
    WINDOW_MAX = 4096,
    SOCKET_BUFFER_SIZE = 4 << 20,
    POLL_MS = 200,
};

#define SECOND_NS UINT64_C(1000000000)

struct options {
    const char *host;
    uint32_t port;
    uint32_t sockets;
    uint32_t window;
    uint32_t size;
    double seconds;
    double warmup;
    int server_pid;
};

struct lane {
    int fd;
    uint32_t under_way;
    uint64_t next; /* number of the next datagram */
};

static struct options options = {"127.0.0.1", 0, 1, 128, 64, 3, 0.5, 0};
static struct lane lanes[SOCKETS_MAX];
static struct pollfd polled[SOCKETS_MAX];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint8_t bytes[BATCH][SIZE_MAX_BYTES + 1];
static uint64_t answers;
static uint64_t losses;
static uint64_t errors;

static void die(const char *what)
{
    fprintf(stderr, "load_udp: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Processor seconds of the server so far. */
static double server_cpu_s(void)
{
    char path[64];
    char text[1024] = "";
    unsigned long user = 0;
    unsigned long system = 0;
    if (options.server_pid == 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", options.server_pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[size] = '\0';
    const char *end = strrchr(text, ')');
    if (end == NULL ||
        sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void fill(uint8_t *data, uint64_t number)
{
    memset(data, (int)(number * 31 & 0xff), options.size);
    memcpy(data, &number, sizeof(number));
}

static void send_more(struct lane *lane)
{
    while (lane->under_way < options.window) {
        uint32_t count = options.window - lane->under_way;
        count = count < BATCH ? count : BATCH;
        for (uint32_t i = 0; i < count; i++) {
            fill(bytes[i], lane->next + i);
            parts[i].iov_len = options.size;
        }
        int sent = sendmmsg(lane->fd, messages, count, 0);
        if (sent < 0 && errno != EINTR && errno != ECONNREFUSED)
            die("sendmmsg");
        if (sent > 0) {
            lane->under_way += (uint32_t)sent;
            lane->next += (uint64_t)sent;
        }
    }
}

static bool is_echo(const uint8_t *data, uint32_t size)
{
    uint64_t number;
    memcpy(&number, data, sizeof(number));
    uint8_t last = (uint8_t)(number * 31);
    return size == options.size && (size == sizeof(number) || data[size - 1] == last);
}

/* True: something came. */
static bool take_answers(struct lane *lane)
{
    for (uint32_t i = 0; i < BATCH; i++)
        parts[i].iov_len = SIZE_MAX_BYTES + 1;
    int count = recvmmsg(lane->fd, messages, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
        die("recvmmsg");
    for (int i = 0; i < count; i++) {
        answers++;
        if (!is_echo(bytes[i], messages[i].msg_len))
            errors++;
        if (lane->under_way > 0)
            lane->under_way--;
    }
    return count > 0;
}

/* Waits for answers, takes them and sends as many anew. */
static void turn(void)
{
    int ready = poll(polled, options.sockets, POLL_MS);
    if (ready < 0 && errno != EINTR)
        die("poll");
    for (uint32_t i = 0; i < options.sockets; i++) {
        if (ready == 0) {
            losses += lanes[i].under_way;
            lanes[i].under_way = 0;
            send_more(&lanes[i]);
        } else if (polled[i].revents) {
            while (take_answers(&lanes[i]))
                send_more(&lanes[i]);
        }
    }
}

static void run_for(double seconds)
{
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end_ns)
        turn();
}

static void lanes_open(void)
{
    const int size = SOCKET_BUFFER_SIZE;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    if (inet_pton(AF_INET, options.host, &server.sin_addr) != 1 ||
        ntohl(server.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "load_udp: %s is not a loopback address\n", options.host);
        exit(1);
    }
    for (uint32_t i = 0; i < options.sockets; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) != 0 ||
            connect(fd, (const struct sockaddr *)&server, sizeof(server)) != 0)
            die("socket");
        lanes[i].fd = fd;
        polled[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    for (uint32_t i = 0; i < BATCH; i++) {
        parts[i].iov_base = bytes[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static uint32_t parse_number(const char *text, uint32_t min, uint32_t max)
{
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number < min || number > max) {
        fprintf(stderr, "load_udp: '%s' is not a number from %u to %u\n", text, min, max);
        exit(1);
    }
    return (uint32_t)number;
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, 'h'},    {"port", required_argument, NULL, 'p'},
        {"sockets", required_argument, NULL, 'n'}, {"window", required_argument, NULL, 'w'},
        {"size", required_argument, NULL, 's'},    {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'u'},  {"server-pid", required_argument, NULL, 'i'},
        {"json", no_argument, NULL, 'j'},          {NULL, 0, NULL, 0},
    };
    int letter = 0;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 'h':
            options.host = optarg;
            break;
        case 'p':
            options.port = parse_number(optarg, 1, 65535);
            break;
        case 'n':
            options.sockets = parse_number(optarg, 1, SOCKETS_MAX);
            break;
        case 'w':
            options.window = parse_number(optarg, 1, WINDOW_MAX);
            break;
        case 's':
            options.size = parse_number(optarg, 8, SIZE_MAX_BYTES);
            break;
        case 't':
            options.seconds = atof(optarg);
            break;
        case 'u':
            options.warmup = atof(optarg);
            break;
        case 'i':
            options.server_pid = (int)parse_number(optarg, 1, INT32_MAX);
            break;
        case 'j':
            break;
        default:
            fprintf(stderr,
                    "usage: %s --port P [--sockets N] [--window N] [--size N]"
                    " [--seconds S] [--warmup S] [--server-pid P]\n",
                    argv[0]);
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    lanes_open();
    for (uint32_t i = 0; i < options.sockets; i++)
        send_more(&lanes[i]);
    run_for(options.warmup);
    answers = losses = 0;
    double cpu_from = server_cpu_s();
    uint64_t from_ns = now_ns();
    run_for(options.seconds);
    double took_s = (double)(now_ns() - from_ns) / 1e9;
    double cpu_s = server_cpu_s() - cpu_from;
    if (answers == 0) {
        fprintf(stderr, "load_udp: nothing came back\n");
        return 3;
    }
    printf("{\"light_per_s\": %.0f, \"cpu_us_per_message\": %.3f, \"losses\": %" PRIu64
           ", \"errors\": %" PRIu64 ", \"p50_us\": null, \"p99_us\": null}\n",
           (double)answers / took_s, cpu_s * 1e6 / (double)answers, losses, errors);
    return 0;
}
