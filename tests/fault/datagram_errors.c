/* Goal: what a datagram socket does when the user, the peer or the kernel does not play along: each
 * error reaches whom it concerns, the socket goes on, every lent send ends once, nothing leaks.
 * Method: wrong arguments; peers that are gone, that never read, that are too small for what comes;
 * deadlines and cancels while the kernel has no room; ends of socket and loop under all that. */
#include "datagram_peer.h"

static rondo_loop *loop;
static uint32_t descriptors_before;

static void begin(const char *name)
{
    (void)test_begin(name);
    descriptors_before = count_descriptors();
    loop = loop_begin(NULL);
}

static void end(void)
{
    loop_end(loop);
    CHECK_EQUAL(count_descriptors(), descriptors_before);
}

/* ---- arguments ---- */

static void bad_creations(void **state)
{
    struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
    struct rondo_datagram_handlers handlers = recorder_handlers;
    struct recorder recorder = {0};
    rondo_datagram *datagram = NULL;
    char path[200];
    int pair[2];

    (void)state;
    begin("bad creations");
#define CREATE(loop_, host_, options_, handlers_) \
    rondo_datagram_create(loop_, host_, 0, options_, handlers_, &recorder, &datagram)
    CHECK_EQUAL(CREATE(NULL, "127.0.0.1", NULL, &handlers), -EINVAL);
    CHECK_EQUAL(CREATE(loop, NULL, NULL, &handlers), -EINVAL);
    CHECK_EQUAL(CREATE(loop, "localhost", NULL, &handlers), -EINVAL);
    CHECK_EQUAL(CREATE(loop, "192.0.2.1", NULL, &handlers), -EADDRNOTAVAIL);
    CHECK_EQUAL(CREATE(loop, "127.0.0.1", NULL, NULL), -EINVAL);
    CHECK_EQUAL(rondo_datagram_create(loop, "127.0.0.1", 0, NULL, &handlers, &recorder, NULL),
                -EINVAL);
    options.size--;
    CHECK_EQUAL(CREATE(loop, "127.0.0.1", &options, &handlers), -EINVAL);
    options.size++;
    options.receive_buffer_size = UINT32_MAX;
    CHECK_EQUAL(CREATE(loop, "127.0.0.1", &options, &handlers), -EINVAL);
    CHECK(strstr(rondo_error_text(), "receive_buffer_size"));
    handlers.size--;
    CHECK_EQUAL(CREATE(loop, "127.0.0.1", NULL, &handlers), -EINVAL);
    handlers = recorder_handlers;
    handlers.received = NULL;
    CHECK_EQUAL(CREATE(loop, "127.0.0.1", NULL, &handlers), -EINVAL);
    handlers = recorder_handlers;

    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
#define CREATE_UNIX(path_) \
    rondo_datagram_create_unix(loop, path_, NULL, &handlers, &recorder, &datagram)
    CHECK_EQUAL(CREATE_UNIX(""), -EINVAL);
    CHECK_EQUAL(CREATE_UNIX(path), -ENAMETOOLONG);
    CHECK_EQUAL(CREATE_UNIX("/no-such-folder/socket"), -ENOENT);
#define CREATE_FD(fd_) rondo_datagram_create_fd(loop, fd_, NULL, &handlers, &recorder, &datagram)
    CHECK_EQUAL(CREATE_FD(-1), -EBADF);
    CHECK_EQUAL(CREATE_FD(0), -ENOTSOCK);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(CREATE_FD(pair[0]), -EINVAL);
    close(pair[0]);
    close(pair[1]);
    CHECK(!datagram);
    CHECK_EQUAL(atomic_load(&recorder.closed), 0);
    end();
}

static void bad_sends(void **state)
{
    enum { TOO_LARGE = 65508 };
    static uint8_t data[TOO_LARGE + 20];
    struct recorder recorder = {0};
    struct sockaddr_in address;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct lent lent = {0};
    int fd = 0;

    (void)state;
    begin("bad sends");
    udp_open(&recorder, loop, "127.0.0.1", NULL);
    rondo_datagram *datagram = recorder.datagram;
    int plain = plain_udp(&address);
    struct rondo_datagram_message message = {
        .data = "x",
        .size = 1,
        .to = (const struct sockaddr *)&address,
        .to_size = sizeof(address),
    };
    CHECK_EQUAL(rondo_datagram_send(NULL, "x", 1, TO(address)), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send(datagram, NULL, 1, TO(address)), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, NULL, 0), -EDESTADDRREQ);
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, NULL, 5), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, (struct sockaddr *)&address, 1), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, (struct sockaddr *)&address, 8), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, TO(v6)), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_datagram_send(datagram, data, TOO_LARGE, TO(address)), -EMSGSIZE);
    CHECK_EQUAL(rondo_datagram_send_batch(datagram, NULL, 1), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send_batch(datagram, &message, 0), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send_batch(datagram, &message, 65537), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send_lent(datagram, NULL, LENT(&lent)), -EINVAL);
    CHECK_EQUAL(rondo_datagram_send_lent(datagram, &message, NULL), -EINVAL);
    message.size = TOO_LARGE;
    CHECK_EQUAL(rondo_datagram_send_lent(datagram, &message, LENT(&lent)), -EMSGSIZE);
    message.size = 1;
    message.descriptors = &fd; /* Not over UDP. */
    message.descriptor_count = 1;
    CHECK_EQUAL(rondo_datagram_send_batch(datagram, &message, 1), -EINVAL);
    CHECK_EQUAL(rondo_datagram_set_watermarks(datagram, 2, 1), -EINVAL);
    CHECK_EQUAL(rondo_datagram_set_watermarks(datagram, 0, 0), -EINVAL);
    CHECK_EQUAL(rondo_datagram_connect(datagram, TO(v6)), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_datagram_connect(datagram, NULL, 0), -EINVAL);

    /* No bytes is a datagram, also without a pointer. The first of a batch is sent before the
     * second is refused. */
    struct rondo_datagram_message two[2] = {message, message};
    two[0].data = two[1].data = NULL;
    two[0].size = two[0].descriptor_count = two[1].descriptor_count = 0;
    CHECK_EQUAL(rondo_datagram_send_batch(datagram, two, 2), 1);
    CHECK_EQUAL(plain_receive(plain, data, 1), 0);
    CHECK_EQUAL(atomic_load(&lent.count), 0);

    /* Closed: every call says so, as long as the pointer is kept. */
    rondo_datagram_ref(datagram);
    recorder_close(&recorder);
    struct sockaddr_storage any;
    message.descriptor_count = 0;
    CHECK_EQUAL(rondo_datagram_send(datagram, "x", 1, TO(address)), -EBADF);
    CHECK_EQUAL(rondo_datagram_send_lent(datagram, &message, LENT(&lent)), -EBADF);
    CHECK_EQUAL(rondo_datagram_connect(datagram, TO(address)), -EBADF);
    CHECK_EQUAL(rondo_datagram_disconnect(datagram), -EBADF);
    CHECK_EQUAL(rondo_datagram_local_address(datagram, &any), -EBADF);
    CHECK_EQUAL(rondo_datagram_peer_address(datagram, &any), -EBADF);
    CHECK_EQUAL(rondo_datagram_join(datagram, "239.1.1.1", NULL, NULL), -EBADF);
    CHECK_EQUAL(rondo_datagram_receive_stop(datagram), -EBADF);
    CHECK_EQUAL(rondo_datagram_receive_start(datagram), -EBADF);
    CHECK_EQUAL(rondo_datagram_close(datagram), -EALREADY);
    CHECK_EQUAL(rondo_datagram_abort(datagram), -EALREADY);
    rondo_datagram_unref(datagram);
    close(plain);
    end();
}

/* ---- peers ---- */

/* An answer of the network does not end the socket, and costs no datagram that is sent later. */
static void nobody_listens(void **state)
{
    enum { COUNT = 50 };
    struct recorder udp = {.received = NULL};
    struct sockaddr_in address;
    char byte;

    (void)state;
    begin("refused");
    udp_open(&udp, loop, "127.0.0.1", NULL);
    int peer = plain_udp(&address);
    CHECK_EQUAL(rondo_datagram_connect(udp.datagram, TO(address)), 0);
    close(peer);
    CHECK_EQUAL(rondo_datagram_send(udp.datagram, "lost", 4, NULL, 0), 0);
    WAIT_UNTIL(atomic_load(&udp.errors) == 1, 5000);
    CHECK_EQUAL(atomic_load(&udp.error), -ECONNREFUSED);
    CHECK_EQUAL(atomic_load(&udp.closed), 0);

    /* The peer comes back: also when an answer is pending, what is sent now arrives. Receiving is
     * stopped, so that the answer meets the send. */
    CHECK_EQUAL(rondo_datagram_receive_stop(udp.datagram), 0);
    for (uint64_t round = 0; round < COUNT; round++) {
        struct lent lent = {0};
        struct rondo_datagram_message message = {.data = "b", .size = 1};
        CHECK_EQUAL(rondo_datagram_send(udp.datagram, "lost", 4, NULL, 0), 0);
        WAIT_UNTIL(rondo_datagram_send_queued(udp.datagram) == 0, 5000);
        peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        set_patience(peer);
        CHECK_EQUAL(bind(peer, TO(address)), 0);
        CHECK_EQUAL(rondo_datagram_send_lent(udp.datagram, &message, LENT(&lent)), 0);
        lent_wait(&lent, 1);
        CHECK_EQUAL(plain_receive(peer, &byte, 1), 1);
        CHECK_EQUAL(byte, 'b');
        close(peer);
    }
    recorder_close(&udp);
    end();
}

static void unix_peers_that_are_not_there(void **state)
{
    struct recorder sender = {0};
    struct lent gone = {0};
    struct lent never = {0};
    socklen_t gone_size;
    struct sockaddr_un address = unix_name("gone", &gone_size);
    struct sockaddr_un no_path = {.sun_family = AF_UNIX, .sun_path = "/tmp/rondo-no-such-socket"};
    int pair[2];

    (void)state;
    begin("gone");
    unix_open(&sender, loop, NULL);
    struct rondo_datagram_message message = {.data = "x", .size = 1};
    message.to = (struct sockaddr *)&address;
    message.to_size = gone_size;
    CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&gone)), 0);
    lent_wait(&gone, -ECONNREFUSED);
    message.to = (struct sockaddr *)&no_path;
    message.to_size = sizeof(no_path);
    CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&never)), 0);
    lent_wait(&never, -ENOENT);
    CHECK_EQUAL(atomic_load(&sender.errors), 0);
    /* The error of a copy is told. */
    CHECK_EQUAL(rondo_datagram_send(sender.datagram, "x", 1, TO(no_path)), 0);
    WAIT_UNTIL(atomic_load(&sender.errors) == 1, 5000);
    CHECK_EQUAL(atomic_load(&sender.error), -ENOENT);
    CHECK_EQUAL(rondo_datagram_connect(sender.datagram, TO(no_path)), -ENOENT);

    /* The other end of a pair closes. */
    struct recorder end_of_pair = {0};
    struct lent reset = {0};
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(rondo_datagram_create_fd(loop, pair[0], NULL, &recorder_handlers, &end_of_pair,
                                         &end_of_pair.datagram),
                0);
    close(pair[1]);
    message.to = NULL;
    message.to_size = 0;
    CHECK_EQUAL(rondo_datagram_send_lent(end_of_pair.datagram, &message, LENT(&reset)), 0);
    WAIT_UNTIL(atomic_load(&reset.count) == 1, 5000);
    CHECK(reset.value == -ECONNREFUSED || reset.value == -ECONNRESET || reset.value == -ENOTCONN);
    CHECK_EQUAL(atomic_load(&end_of_pair.closed), 0);
    end();
}

static void too_large_for_the_kernel(void **state)
{
    enum { SIZE = 4 << 20 };
    struct recorder sender = {0};
    struct lent lent = {0};
    socklen_t size;
    uint8_t *data = calloc(1, SIZE);
    char byte;

    (void)state;
    begin("too large");
    int reader = plain_unix("small");
    struct sockaddr_un to = unix_name("small", &size);
    unix_open(&sender, loop, NULL);
    struct rondo_datagram_message message = {
        .data = data, .size = SIZE, .to = (struct sockaddr *)&to, .to_size = size};
    CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&lent)), 0);
    lent_wait(&lent, -EMSGSIZE);
    CHECK_EQUAL(atomic_load(&sender.errors), 0);
    CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, &message, 1), 1);
    WAIT_UNTIL(atomic_load(&sender.errors) == 1, 5000);
    CHECK_EQUAL(atomic_load(&sender.error), -EMSGSIZE);
    message.size = 1;
    CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, &message, 1), 1);
    CHECK_EQUAL(plain_receive(reader, &byte, 1), 1);
    close(reader);
    end();
    free(data);
}

/* A socket without checksums cannot segment: the kernel says so, and they go one by one. */
static void segmentation_is_refused(void **state)
{
    enum { COUNT = 20 };
    struct rondo_datagram_message messages[COUNT] = {0};
    struct recorder sender = {0};
    struct sockaddr_in to;
    struct sockaddr_in from;
    uint8_t data[COUNT][100];
    uint8_t got[101];
    int on = 1;

    (void)state;
    begin("no gso");
    int reader = plain_udp(&to);
    int fd = plain_udp(&from);
    CHECK_EQUAL(setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
    CHECK_EQUAL(
        rondo_datagram_create_fd(loop, fd, NULL, &recorder_handlers, &sender, &sender.datagram), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        fill_bytes(data[i], sizeof(data[i]), i);
        messages[i] = (struct rondo_datagram_message){.data = data[i],
                                                      .size = sizeof(data[i]),
                                                      .to = (struct sockaddr *)&to,
                                                      .to_size = sizeof(to)};
    }
    CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, messages, COUNT), COUNT);
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(plain_receive(reader, got, sizeof(got)), 100);
        CHECK(bytes_are(got, 100, i));
    }
    WAIT_UNTIL(loop_stats(loop).datagrams_sent == COUNT, 5000);
    CHECK(loop_stats(loop).segmentations_refused > 0);
    CHECK_EQUAL(atomic_load(&sender.errors), 0);
    close(reader);
    end();
}

/* ---- a peer that never reads ---- */

/* Fills the queue of @reader through the socket, until sends wait. Returns how many it sent. */
static uint64_t fill_peer(struct recorder *sender, const struct sockaddr_un *to, socklen_t size)
{
    uint64_t count = 0;
    uint64_t sent;

    /* What is queued stays queued when the kernel has no room. */
    do {
        sent = loop_stats(loop).datagrams_sent;
        CHECK_EQUAL(rondo_datagram_send(sender->datagram, &count, sizeof(count),
                                        (const struct sockaddr *)to, size),
                    0);
        count++;
        uint64_t until = rondo_now_ns() + 200 * MS;
        while (loop_stats(loop).datagrams_sent == sent && rondo_now_ns() < until)
            test_nap();
    } while (loop_stats(loop).datagrams_sent > sent);
    return count;
}

/* Lent sends behind a full queue end by their deadline or a cancel, and the others go on in order.
 * Once with an address, once connected. */
static void deadlines_and_cancels_without_room(void **state)
{
    (void)state;
    for (int connected = 0; connected < 2; connected++) {
        struct recorder sender = {0};
        struct lent late = {0};
        struct lent cancelled = {0};
        struct lent past = {0};
        struct lent last = {0};
        uint64_t number;
        socklen_t size;

        begin(connected ? "no room, connected" : "no room");
        int reader = plain_unix("full");
        struct sockaddr_un to = unix_name("full", &size);
        unix_open(&sender, loop, NULL);
        if (connected)
            CHECK_EQUAL(rondo_datagram_connect(sender.datagram, (struct sockaddr *)&to, size), 0);
        uint64_t count = fill_peer(&sender, connected ? NULL : &to, connected ? 0 : size);
        CHECK(count > 1);

        struct rondo_datagram_message message = {.data = "lent", .size = 4};
        if (!connected) {
            message.to = (struct sockaddr *)&to;
            message.to_size = size;
        }
        uint64_t now = rondo_now_ns();
        CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message,
                                             LENT(&late, .deadline_ns = now + 30 * MS)),
                    0);
        CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&cancelled)), 0);
        CHECK_EQUAL(
            rondo_datagram_send_lent(sender.datagram, &message, LENT(&past, .deadline_ns = 1)), 0);
        CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message,
                                             LENT(&last, .deadline_ns = UINT64_MAX - 1)),
                    0);
        lent_wait(&past, -ETIMEDOUT);
        lent_wait(&late, -ETIMEDOUT);
        CHECK_EQUAL(atomic_load(&cancelled.count), 0);
        CHECK(rondo_cancel(cancelled.handle) == RONDO_CANCEL_IN_FLIGHT);
        lent_wait(&cancelled, -ECANCELED);
        CHECK_EQUAL(rondo_cancel(cancelled.handle), RONDO_CANCEL_FINISHED);
        CHECK_EQUAL(atomic_load(&last.count), 0);

        /* It waits without working. */
        uint64_t before = loop_stats(loop).submissions;
        test_pass_time(30);
        CHECK(loop_stats(loop).submissions - before < 10);

        for (uint64_t i = 0; i < count; i++) {
            CHECK_EQUAL(plain_receive(reader, &number, sizeof(number)), sizeof(number));
            CHECK_EQUAL(number, i);
        }
        CHECK_EQUAL(plain_receive(reader, &number, sizeof(number)), 4);
        lent_wait(&last, 4);
        recorder_close(&sender);
        close(reader);
        end();
    }
}

/* Two lent sends, the first of which waits for a peer that never reads: it does not hold up the
 * second, to another peer, longer than it lives. */
static void the_next_receiver_has_room(void **state)
{
    struct recorder sender = {0};
    struct lent stuck = {0};
    struct lent other = {0};
    socklen_t full_size;
    socklen_t free_size;
    char byte;

    (void)state;
    begin("another peer");
    int full = plain_unix("full");
    int empty = plain_unix("free");
    struct sockaddr_un to_full = unix_name("full", &full_size);
    struct sockaddr_un to_free = unix_name("free", &free_size);
    int filler = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (sendto(filler, "f", 1, 0, (struct sockaddr *)&to_full, full_size) == 1)
        ;
    unix_open(&sender, loop, NULL);
    struct rondo_datagram_message message = {
        .data = "1", .size = 1, .to = (struct sockaddr *)&to_full, .to_size = full_size};
    CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&stuck)), 0);
    message.to = (struct sockaddr *)&to_free;
    message.to_size = free_size;
    CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&other)), 0);
    test_pass_time(20);
    CHECK_EQUAL(atomic_load(&other.count), 0);
    (void)rondo_cancel(stuck.handle);
    lent_wait(&stuck, -ECANCELED);
    lent_wait(&other, 1);
    CHECK_EQUAL(plain_receive(empty, &byte, 1), 1);
    close(filler);
    close(full);
    close(empty);
    end();
}

static void the_queue_is_bounded(void **state)
{
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct recorder sender = {0};
    socklen_t size;
    uint64_t count = 0;
    int error = 0;

    (void)test_begin("queue");
    (void)state;
    options.write_queue_max = 4096;
    loop = loop_begin(&options);
    int reader = plain_unix("bound");
    struct sockaddr_un to = unix_name("bound", &size);
    unix_open(&sender, loop, NULL);
    while (!error && count++ < 10000)
        error = rondo_datagram_send(sender.datagram, NULL, 0, (struct sockaddr *)&to, size);
    CHECK_EQUAL(error, -ENOBUFS);
    CHECK(rondo_datagram_send_queued(sender.datagram) <= 4096);
    CHECK_EQUAL(rondo_datagram_abort(sender.datagram), 0);
    WAIT_UNTIL(atomic_load(&sender.closed) == 1, 5000);
    CHECK_EQUAL(atomic_load(&sender.closed_error), -ECANCELED);
    close(reader);
    loop_end(loop);
}

/* ---- ends ---- */

enum ending { ENDING_CLOSE, ENDING_ABORT, ENDING_DRAIN, ENDING_DRAIN_LATE, ENDING_STOP, ENDINGS };

/* The socket or its loop ends while datagrams wait for room: what was queued is sent, or what was
 * lent ends with -ECANCELED, each once, before the closed callback. */
static void ends_without_room(void **state)
{
    (void)state;
    for (int ending = 0; ending < ENDINGS; ending++) {
        static const char *const names[] = {"close", "abort", "drain", "late drain", "stop"};
        bool is_sent = ending == ENDING_CLOSE || ending == ENDING_DRAIN;
        struct recorder sender = {0};
        struct lent lent = {0};
        uint64_t number;
        socklen_t size;

        begin(names[ending]);
        int reader = plain_unix("ends");
        struct sockaddr_un to = unix_name("ends", &size);
        unix_open(&sender, loop, NULL);
        uint64_t count = fill_peer(&sender, &to, size);
        struct rondo_datagram_message message = {
            .data = "lent", .size = 4, .to = (struct sockaddr *)&to, .to_size = size};
        CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&lent)), 0);
        if (ending == ENDING_CLOSE)
            CHECK_EQUAL(rondo_datagram_close(sender.datagram), 0);
        if (ending == ENDING_ABORT)
            CHECK_EQUAL(rondo_datagram_abort(sender.datagram), 0);
        if (ending == ENDING_DRAIN)
            CHECK_EQUAL(rondo_loop_drain(loop, 10000 * MS), 0);
        if (ending == ENDING_DRAIN_LATE)
            CHECK_EQUAL(rondo_loop_drain(loop, 20 * MS), 0);
        if (ending == ENDING_STOP)
            CHECK_EQUAL(rondo_loop_stop(loop), 0);
        for (uint64_t i = 0; is_sent && i < count; i++) {
            CHECK_EQUAL(plain_receive(reader, &number, sizeof(number)), sizeof(number));
            CHECK_EQUAL(number, i);
        }
        lent_wait(&lent, is_sent ? 4 : -ECANCELED);
        WAIT_UNTIL(atomic_load(&sender.closed) == 1, 5000);
        CHECK_EQUAL(atomic_load(&sender.closed_error), is_sent ? 0 : -ECANCELED);
        (void)rondo_loop_drain(loop, 10000 * MS);
        CHECK_EQUAL(rondo_loop_wait(loop), ending == ENDING_DRAIN_LATE ? -ETIMEDOUT : 0);
        rondo_loop_free(loop);
        close(reader);
        CHECK_EQUAL(count_descriptors(), descriptors_before);
    }
}

/* What was received before a drain is delivered; a loop that stops takes sockets that never ran. */
static void a_loop_ends_with_sockets(void **state)
{
    struct recorder recorder = {0};
    struct recorder late = {0};

    (void)state;
    (void)test_begin("loop ends");
    descriptors_before = count_descriptors();
    CHECK_EQUAL(rondo_loop_create(NULL, &loop), 0);
    udp_open(&recorder, loop, "127.0.0.1", NULL);
    rondo_loop_free(loop); /* It never ran. */
    CHECK_EQUAL(atomic_load(&recorder.closed), 1);
    CHECK_EQUAL(atomic_load(&recorder.closed_error), -ECANCELED);

    loop = loop_begin(NULL);
    CHECK_EQUAL(rondo_loop_stop(loop), 0);
    CHECK_EQUAL(rondo_loop_wait(loop), 0);
    CHECK_EQUAL(rondo_datagram_create(loop, "127.0.0.1", 0, NULL, &recorder_handlers, &late,
                                      &late.datagram),
                -ESHUTDOWN);
    rondo_loop_free(loop);
    CHECK_EQUAL(atomic_load(&late.closed), 0);
    CHECK_EQUAL(count_descriptors(), descriptors_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_creations),
        cmocka_unit_test(bad_sends),
        cmocka_unit_test(nobody_listens),
        cmocka_unit_test(unix_peers_that_are_not_there),
        cmocka_unit_test(too_large_for_the_kernel),
        cmocka_unit_test(segmentation_is_refused),
        cmocka_unit_test(deadlines_and_cancels_without_room),
        cmocka_unit_test(the_next_receiver_has_room),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(ends_without_room),
        cmocka_unit_test(a_loop_ends_with_sockets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
