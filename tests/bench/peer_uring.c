/*
 * peer_uring: the raw single-threaded liburing echo server, the yardstick of the benchmarks.
 * One ring, one thread: multishot accept into direct descriptors, multishot receive from a ring of
 * provided buffers, the reply sent from the very buffer the message came in, and that buffer given
 * back when the send has completed.
 *
 * 1. A connection has at most one send in flight; what arrives meanwhile queues behind it, so the
 *    bytes never change their order.
 * 2. A receive that ends for want of buffers (-ENOBUFS) goes to the starved list and is armed again
 *    when a send gives a buffer back.
 * 3. A slot is closed after its receive has ended and its last send has completed, so no completion
 *    ever speaks about an earlier owner of the slot.
 */
#define _GNU_SOURCE 1

#include <assert.h>
#include <liburing.h>

#include "peer.h"

enum {
    SQ_ENTRIES = 1024,
    CQ_ENTRIES = 16384,
    BATCH_MAX = 1024, /* completions handled before the next submit */
    BUF_COUNT = 4096,
    BUF_SIZE = PEER_BUF_SIZE,
    BUF_GROUP = 0,
    SLOT_COUNT_MAX = 16384,
    NONE = UINT16_MAX,
};

enum operation { OP_ACCEPT, OP_RECEIVE, OP_SEND, OP_CLOSE };

struct connection {
    uint32_t sent_size; /* bytes of the first buffer that have left */
    uint16_t first;     /* buffers to send, in order; NONE: nothing to send */
    uint16_t last;
    bool receiving;
    bool broken; /* a send failed: replies are dropped */
};

static struct peer_options options;
static struct io_uring ring;
static int listen_fd;
static bool accepting;

static struct io_uring_buf_ring *buf_ring;
static uint8_t *bufs;
static uint16_t buf_next[BUF_COUNT];
static uint32_t buf_size_used[BUF_COUNT];

static struct connection connections[SLOT_COUNT_MAX];
/* Slots whose receive waits for a buffer, first in, first out; each is in it once at most. */
static uint32_t starved[SLOT_COUNT_MAX];
static uint32_t starved_first;
static uint32_t starved_count;

static struct io_uring_sqe *sqe_get(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    while (sqe == NULL) {
        int result = io_uring_submit(&ring);
        if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
            peer_die("io_uring_submit", -result);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void sqe_tag(struct io_uring_sqe *sqe, enum operation operation, uint32_t slot)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)operation << 32 | slot);
}

static void accept_arm(void)
{
    struct io_uring_sqe *sqe = sqe_get();
    io_uring_prep_multishot_accept_direct(sqe, listen_fd, NULL, NULL, 0);
    sqe_tag(sqe, OP_ACCEPT, 0);
    accepting = true;
}

static void receive_arm(uint32_t slot)
{
    struct io_uring_sqe *sqe = sqe_get();
    io_uring_prep_recv_multishot(sqe, (int)slot, NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUF_GROUP;
    sqe_tag(sqe, OP_RECEIVE, slot);
    connections[slot].receiving = true;
}

static void send_first(uint32_t slot)
{
    const struct connection *c = &connections[slot];
    const uint8_t *bytes = bufs + (size_t)c->first * BUF_SIZE + c->sent_size;
    uint32_t size = buf_size_used[c->first] - c->sent_size;
    struct io_uring_sqe *sqe = sqe_get();
    io_uring_prep_send(sqe, (int)slot, bytes, size, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe_tag(sqe, OP_SEND, slot);
}

static void close_if_over(uint32_t slot)
{
    if (connections[slot].receiving || connections[slot].first != NONE)
        return;
    struct io_uring_sqe *sqe = sqe_get();
    io_uring_prep_close_direct(sqe, slot);
    sqe_tag(sqe, OP_CLOSE, slot);
}

static void buf_give_back(uint16_t buf)
{
    io_uring_buf_ring_add(buf_ring, bufs + (size_t)buf * BUF_SIZE, BUF_SIZE, buf,
                          io_uring_buf_ring_mask(BUF_COUNT), 0);
    io_uring_buf_ring_advance(buf_ring, 1);
    if (starved_count > 0) {
        uint32_t slot = starved[starved_first];
        starved_first = (starved_first + 1) % SLOT_COUNT_MAX;
        starved_count--;
        receive_arm(slot);
    }
}

static void on_accept(const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        uint32_t slot = (uint32_t)cqe->res;
        assert(slot < SLOT_COUNT_MAX);
        connections[slot] = (struct connection){.first = NONE, .last = NONE};
        receive_arm(slot);
    }
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    if (cqe->res == -ENFILE)
        accepting = false; /* No free slot: the next close arms it again. */
    else if (cqe->res == -EINVAL)
        peer_die("multishot accept", EINVAL);
    else
        accept_arm();
}

static void on_message(uint32_t slot, uint16_t buf, uint32_t size)
{
    struct connection *c = &connections[slot];
    if (c->broken) {
        buf_give_back(buf);
        return;
    }
    peer_serve(&options, bufs + (size_t)buf * BUF_SIZE);
    buf_size_used[buf] = size;
    buf_next[buf] = NONE;
    if (c->first == NONE) {
        c->first = buf;
        c->last = buf;
        c->sent_size = 0;
        send_first(slot);
    } else {
        buf_next[c->last] = buf;
        c->last = buf;
    }
}

static void on_receive(const struct io_uring_cqe *cqe, uint32_t slot)
{
    if (cqe->res > 0)
        on_message(slot, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT), (uint32_t)cqe->res);
    if (cqe->flags & IORING_CQE_F_MORE)
        return;
    if (cqe->res > 0) {
        receive_arm(slot);
    } else if (cqe->res == -ENOBUFS) {
        assert(starved_count < SLOT_COUNT_MAX);
        starved[(starved_first + starved_count) % SLOT_COUNT_MAX] = slot;
        starved_count++;
    } else {
        connections[slot].receiving = false;
        close_if_over(slot);
    }
}

/* A failed send drops what waits behind it; the receive then ends by itself. */
static void drop_replies(struct connection *c)
{
    c->broken = true;
    while (c->first != NONE) {
        uint16_t buf = c->first;
        c->first = buf_next[buf];
        buf_give_back(buf);
    }
}

static void on_send(const struct io_uring_cqe *cqe, uint32_t slot)
{
    struct connection *c = &connections[slot];
    if (cqe->res <= 0) {
        drop_replies(c);
        close_if_over(slot);
        return;
    }
    c->sent_size += (uint32_t)cqe->res;
    if (c->sent_size < buf_size_used[c->first]) {
        send_first(slot);
        return;
    }
    uint16_t sent = c->first;
    c->first = buf_next[sent];
    c->sent_size = 0;
    if (c->first != NONE)
        send_first(slot);
    else if (!c->receiving)
        close_if_over(slot);
    buf_give_back(sent);
}

static void on_close(void)
{
    if (!accepting)
        accept_arm();
}

static void dispatch(const struct io_uring_cqe *cqe)
{
    uint32_t slot = (uint32_t)cqe->user_data;
    switch ((enum operation)(cqe->user_data >> 32)) {
    case OP_ACCEPT:
        on_accept(cqe);
        break;
    case OP_RECEIVE:
        on_receive(cqe, slot);
        break;
    case OP_SEND:
        on_send(cqe, slot);
        break;
    case OP_CLOSE:
        on_close();
        break;
    }
}

static void ring_open(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = CQ_ENTRIES,
    };
    int result = io_uring_queue_init_params(SQ_ENTRIES, &ring, &params);
    if (result < 0)
        peer_die("io_uring_queue_init_params", -result);
    io_uring_register_ring_fd(&ring);

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    uint32_t slot_count =
        limit.rlim_cur < SLOT_COUNT_MAX ? (uint32_t)limit.rlim_cur : (uint32_t)SLOT_COUNT_MAX;
    result = io_uring_register_files_sparse(&ring, slot_count);
    if (result < 0)
        peer_die("io_uring_register_files_sparse", -result);
}

static void buf_ring_open(void)
{
    size_t ring_size = BUF_COUNT * sizeof(struct io_uring_buf);
    buf_ring = aligned_alloc(4096, ring_size);
    bufs = aligned_alloc(4096, (size_t)BUF_COUNT * BUF_SIZE);
    if (buf_ring == NULL || bufs == NULL)
        peer_die("buffers", ENOMEM);
    memset(bufs, 0, (size_t)BUF_COUNT * BUF_SIZE);
    memset(buf_ring, 0, ring_size);
    struct io_uring_buf_reg where = {
        .ring_addr = (uint64_t)(uintptr_t)buf_ring,
        .ring_entries = BUF_COUNT,
        .bgid = BUF_GROUP,
    };
    int result = io_uring_register_buf_ring(&ring, &where, 0);
    if (result < 0)
        peer_die("io_uring_register_buf_ring", -result);
    for (uint16_t buf = 0; buf < BUF_COUNT; buf++)
        buf_give_back(buf);
}

int main(int argc, char **argv)
{
    options = peer_options_parse(argc, argv, 0);
    peer_prepare_process();
    ring_open();
    buf_ring_open();
    listen_fd = peer_listen(&options, 0);
    accept_arm();
    for (;;) { /* Runs until SIGTERM. */
        int result = io_uring_submit_and_wait(&ring, 1);
        if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
            peer_die("io_uring_submit_and_wait", -result);
        struct io_uring_cqe *cqe = NULL;
        unsigned head = 0;
        unsigned count = 0;
        io_uring_for_each_cqe (&ring, head, cqe) {
            dispatch(cqe);
            if (++count == BATCH_MAX)
                break;
        }
        io_uring_cq_advance(&ring, count);
    }
}
