/*
 * peer_udp: the raw UDP echo server, the yardstick of the datagram benchmark. One thread takes up
 * to BATCH datagrams with recvmmsg and sends them back with sendmmsg, from the very buffers they
 * came in. A sendmmsg that stops early goes on with the rest.
 */
#define _GNU_SOURCE 1

#include "peer.h"

enum { BATCH = 64, DATAGRAM_SIZE = 2048, SOCKET_BUFFER_SIZE = 4 << 20 };

static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static struct sockaddr_storage names[BATCH];
static uint8_t bytes[BATCH][DATAGRAM_SIZE];

static int peer_bind(const struct peer_options *options)
{
    const int size = SOCKET_BUFFER_SIZE;
    char port[16];
    snprintf(port, sizeof(port), "%u", (unsigned)options->port);
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
        .ai_socktype = SOCK_DGRAM,
    };
    struct addrinfo *where = NULL;
    if (getaddrinfo(options->host, port, &hints, &where) != 0)
        peer_die("--host wants a numeric address", EINVAL);
    int fd = socket(where->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        peer_die("socket", errno);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) != 0)
        peer_die("SO_RCVBUF", errno);
    if (bind(fd, where->ai_addr, where->ai_addrlen) != 0)
        peer_die("bind", errno);
    freeaddrinfo(where);
    peer_announce(options, fd);
    return fd;
}

int main(int argc, char **argv)
{
    struct peer_options options = peer_options_parse(argc, argv, 0);
    peer_prepare_process();
    int fd = peer_bind(&options);
    for (uint32_t i = 0; i < BATCH; i++) {
        parts[i].iov_base = bytes[i];
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &names[i];
    }
    for (;;) { /* Runs until SIGTERM. */
        for (uint32_t i = 0; i < BATCH; i++) {
            parts[i].iov_len = DATAGRAM_SIZE;
            messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR)
            peer_die("recvmmsg", errno);
        for (int i = 0; i < count; i++) {
            peer_serve(&options, bytes[i]);
            parts[i].iov_len = messages[i].msg_len;
        }
        for (int sent = 0; sent < count;) {
            int now = sendmmsg(fd, messages + sent, (unsigned)(count - sent), 0);
            if (now < 0 && errno != EINTR && errno != ENOBUFS)
                peer_die("sendmmsg", errno);
            sent += now > 0 ? now : 0;
        }
    }
}
