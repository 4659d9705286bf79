/* Goal: what a datagram socket promises when all goes well: each datagram by itself, whole or
 * marked as cut, in order, with its sender; connected mode, multicast, Unix names, descriptors,
 * pauses.
 * Method: plain sockets play the peer, so that what the kernel joined or cut is seen from outside.
 */
#include "datagram_peer.h"

#include <net/if.h>

static rondo_loop *loop;

static void begin(const char *name)
{
    (void)test_begin(name);
    loop = loop_begin(NULL);
}

/* ---- UDP ---- */

static void echo_keeps_bytes_order_and_sizes(void **state)
{
    enum { COUNT = 2000, WINDOW = 50, SIZE_MAX_BYTES = 1472 };
    struct recorder echo = {.received = echo_received};
    struct sockaddr_in client_address;
    uint8_t data[SIZE_MAX_BYTES + 1];

    (void)state;
    begin("echo");
    udp_open(&echo, loop, "127.0.0.1", NULL);
    struct sockaddr_in server = udp_address(echo.datagram);
    int client = plain_udp(&client_address);
    for (uint64_t sent = 0, back = 0; back < COUNT;) {
        while (sent < COUNT && sent - back < WINDOW) {
            size_t size = sent * 37 % (SIZE_MAX_BYTES + 1); /* also 0 */
            fill_bytes(data, size, sent++);
            plain_send(client, data, size, TO(server));
        }
        size_t size = plain_receive(client, data, sizeof(data));
        CHECK_EQUAL(size, back * 37 % (SIZE_MAX_BYTES + 1));
        CHECK(bytes_are(data, size, back++));
    }
    WAIT_UNTIL(atomic_load(&echo.count) == COUNT, 5000); /* counted after the answer */
    CHECK_EQUAL(atomic_load(&echo.errors), 0);
    recorder_close(&echo);
    close(client);
    loop_end(loop);
}

static void keep_message(struct recorder *recorder, const struct rondo_message *message)
{
    struct rondo_message *kept = recorder->ctx;

    *kept = *message;
    kept->data = malloc(message->size + 1);
    memcpy((void *)(uintptr_t)kept->data, message->data, message->size);
}

static void the_largest_is_whole_and_a_larger_one_is_cut(void **state)
{
    enum { LARGEST = 65507, LARGER = 100000 };
    static uint8_t data[LARGER];
    struct rondo_message kept = {0};
    struct recorder udp = {.received = keep_message, .ctx = &kept};
    struct recorder local = {.received = keep_message, .ctx = &kept};
    struct sockaddr_in client_address;
    char path[64];
    socklen_t size;

    (void)state;
    begin("truncated");
    udp_open(&udp, loop, "127.0.0.1", NULL);
    struct sockaddr_in server = udp_address(udp.datagram);
    int client = plain_udp(&client_address);
    fill_bytes(data, sizeof(data), 1);
    plain_send(client, data, LARGEST, TO(server));
    WAIT_UNTIL(atomic_load(&udp.count) == 1, 5000);
    CHECK_EQUAL(kept.size, LARGEST);
    CHECK_EQUAL(kept.real_size, LARGEST);
    CHECK(!kept.truncated && bytes_are(kept.data, kept.size, 1));
    free((void *)(uintptr_t)kept.data);

    unix_open(&local, loop, unix_path("cut", path, sizeof(path)));
    struct sockaddr_un to = unix_name("cut", &size);
    int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    plain_send(sender, data, LARGER, (const struct sockaddr *)&to, size);
    WAIT_UNTIL(atomic_load(&local.count) == 1, 5000);
    CHECK(kept.truncated && !kept.from);
    CHECK_EQUAL(kept.real_size, LARGER);
    CHECK(kept.size >= 65535 && kept.size < LARGER);
    CHECK(bytes_are(kept.data, kept.size, 1));
    free((void *)(uintptr_t)kept.data);
    close(sender);
    close(client);
    loop_end(loop);
    CHECK_EQUAL(atomic_load(&local.closed), 1);
}

/* A batch of equal sizes with a shorter one behind, then of other sizes: what arrives is what was
 * sent. */
static void a_batch_arrives_as_separate_datagrams(void **state)
{
    enum { EQUAL = 100, COUNT = EQUAL + 5 };
    static uint8_t data[COUNT][200];
    struct rondo_datagram_message messages[COUNT] = {0};
    struct recorder sender = {0};
    struct sockaddr_in address;
    uint8_t got[256];

    (void)state;
    begin("gso");
    udp_open(&sender, loop, "127.0.0.1", NULL);
    int receiver = plain_udp(&address);
    for (uint32_t i = 0; i < COUNT; i++) {
        static const size_t rest[5] = {37, 0, 200, 100, 100};
        messages[i].size = i < EQUAL ? 100 : rest[i - EQUAL];
        fill_bytes(data[i], messages[i].size, i);
        messages[i].data = data[i];
        messages[i].to = (const struct sockaddr *)&address;
        messages[i].to_size = sizeof(address);
    }
    uint64_t before = loop_stats(loop).submissions;
    CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, messages, COUNT), COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(plain_receive(receiver, got, sizeof(got)), messages[i].size);
        CHECK(bytes_are(got, messages[i].size, i));
    }
    WAIT_UNTIL(loop_stats(loop).datagrams_sent == COUNT, 5000);
    CHECK_EQUAL(loop_stats(loop).segmentations_refused, 0);
    CHECK_EQUAL(loop_stats(loop).bytes_sent, EQUAL * 100 + 37 + 0 + 200 + 100 + 100);
    /* They went out together: far fewer submissions than datagrams. */
    CHECK(loop_stats(loop).submissions - before < COUNT / 2);
    recorder_close(&sender);
    close(receiver);
    loop_end(loop);
}

static void check_segments(struct recorder *recorder, const struct rondo_message *message)
{
    uint64_t number = atomic_load(&recorder->count);

    CHECK_EQUAL(message->size, number % 11 == 10 ? 50 : 100);
    CHECK_EQUAL(message->real_size, message->size);
    CHECK(bytes_are(message->data, message->size, number));
    CHECK(!message->truncated && message->from_size == sizeof(struct sockaddr_in));
}

/* The peer sends eleven datagrams as one (GSO): with and without GRO they come one by one. */
static void what_the_kernel_joins_is_split(void **state)
{
    enum { ROUNDS = 20, SEGMENT = 100, SIZE = 10 * SEGMENT + 50 };

    (void)state;
    for (int gro = 0; gro < 2; gro++) {
        struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
        struct recorder receiver = {.received = check_segments};
        struct sockaddr_in address;
        uint8_t data[SIZE];
        int segment = SEGMENT;

        begin("gro");
        options.gro = gro;
        udp_open(&receiver, loop, "127.0.0.1", &options);
        struct sockaddr_in server = udp_address(receiver.datagram);
        int sender = plain_udp(&address);
        CHECK_EQUAL(setsockopt(sender, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
        for (uint64_t round = 0; round < ROUNDS; round++) {
            for (uint64_t i = 0; i < 11; i++)
                fill_bytes(data + i * SEGMENT, i < 10 ? SEGMENT : 50, round * 11 + i);
            plain_send(sender, data, SIZE, TO(server));
            WAIT_UNTIL(atomic_load(&receiver.count) == (round + 1) * 11, 5000);
        }
        CHECK_EQUAL(atomic_load(&receiver.bytes), ROUNDS * SIZE);
        /* With GRO the kernel did join them, so this test does test the splitting. */
        CHECK_EQUAL(loop_stats(loop).datagrams_received, gro ? ROUNDS : ROUNDS * 11);
        close(sender);
        loop_end(loop);
    }
}

static void connected_mode(void **state)
{
    struct recorder udp = {0};
    struct sockaddr_in friend_address;
    struct sockaddr_in stranger_address;
    struct sockaddr_storage peer;
    char byte;

    (void)state;
    begin("connected");
    udp_open(&udp, loop, "127.0.0.1", NULL);
    struct sockaddr_in own = udp_address(udp.datagram);
    int friend = plain_udp(&friend_address);
    int stranger = plain_udp(&stranger_address);
    CHECK_EQUAL(rondo_datagram_peer_address(udp.datagram, &peer), -ENOTCONN);
    CHECK_EQUAL(rondo_datagram_send(udp.datagram, "x", 1, NULL, 0), -EDESTADDRREQ);
    CHECK_EQUAL(rondo_datagram_connect(udp.datagram, TO(friend_address)), 0);
    CHECK_EQUAL(rondo_datagram_peer_address(udp.datagram, &peer), 0);
    CHECK_EQUAL(((struct sockaddr_in *)&peer)->sin_port, friend_address.sin_port);
    CHECK_EQUAL(rondo_datagram_send(udp.datagram, "x", 1, NULL, 0), 0);
    CHECK_EQUAL(plain_receive(friend, &byte, 1), 1);
    /* The stranger's comes first and is not received; the friend's is. */
    plain_send(stranger, "bad", 3, TO(own));
    plain_send(friend, "goodness", 8, TO(own));
    WAIT_UNTIL(atomic_load(&udp.count) > 0, 5000);
    CHECK_EQUAL(atomic_load(&udp.bytes), 8);

    /* Another peer, and none: the port stays. */
    CHECK_EQUAL(rondo_datagram_connect(udp.datagram, TO(stranger_address)), 0);
    CHECK_EQUAL(rondo_datagram_send(udp.datagram, "y", 1, NULL, 0), 0);
    CHECK_EQUAL(plain_receive(stranger, &byte, 1), 1);
    CHECK_EQUAL(rondo_datagram_disconnect(udp.datagram), 0);
    CHECK_EQUAL(rondo_datagram_send(udp.datagram, "x", 1, NULL, 0), -EDESTADDRREQ);
    CHECK_EQUAL(udp_address(udp.datagram).sin_port, own.sin_port);
    plain_send(friend, "good", 4, TO(own));
    plain_send(stranger, "good", 4, TO(own));
    WAIT_UNTIL(atomic_load(&udp.count) == 3, 5000);
    close(friend);
    close(stranger);
    loop_end(loop);
}

static void multicast_v4(void **state)
{
    static const char group[] = "239.255.41.17";
    struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
    struct recorder member = {0};
    struct sockaddr_in address;
    struct ip_mreqn leave_by = {.imr_ifindex = (int)if_nametoindex("lo")};

    (void)state;
    begin("multicast 4");
    options.reuse_port = true;
    udp_open(&member, loop, "0.0.0.0", &options);
    rondo_datagram *datagram = member.datagram;
    struct sockaddr_in to = udp_address(datagram);
    CHECK_EQUAL(inet_pton(AF_INET, group, &to.sin_addr), 1);
    int sender = plain_udp(&address);
    CHECK_EQUAL(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &leave_by, sizeof(leave_by)), 0);

    CHECK_EQUAL(rondo_datagram_join(datagram, group, "lo", NULL), 0);
    CHECK_EQUAL(rondo_datagram_join(datagram, group, "lo", NULL), -EADDRINUSE);
    plain_send(sender, "one", 3, TO(to));
    WAIT_UNTIL(atomic_load(&member.count) == 1, 5000);
    /* Its own datagrams come to it as well. */
    CHECK_EQUAL(rondo_datagram_set_multicast_interface(datagram, "lo"), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_loop(datagram, true), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_ttl(datagram, 0), 0);
    CHECK_EQUAL(rondo_datagram_send(datagram, "two", 3, TO(to)), 0);
    WAIT_UNTIL(atomic_load(&member.count) == 2, 5000);
    CHECK_EQUAL(rondo_datagram_leave(datagram, group, "lo", NULL), 0);
    CHECK_EQUAL(rondo_datagram_leave(datagram, group, "lo", NULL), -EADDRNOTAVAIL);

    /* One source only: the group's datagram of another is not received, the direct one is. */
    CHECK_EQUAL(rondo_datagram_join(datagram, group, "lo", "127.0.0.2"), 0);
    plain_send(sender, "other", 5, TO(to));
    struct sockaddr_in direct = udp_address(datagram);
    direct.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    plain_send(sender, "direct", 6, TO(direct));
    WAIT_UNTIL(atomic_load(&member.count) == 3, 5000);
    CHECK_EQUAL(atomic_load(&member.bytes), 3 + 3 + 6);
    CHECK_EQUAL(rondo_datagram_leave(datagram, group, "lo", "127.0.0.2"), 0);

    CHECK_EQUAL(rondo_datagram_join(datagram, NULL, "lo", NULL), -EINVAL);
    CHECK_EQUAL(rondo_datagram_join(datagram, "127.0.0.1", "lo", NULL), -EINVAL);
    CHECK_EQUAL(rondo_datagram_join(datagram, "ff01::1", "lo", NULL), -EINVAL);
    CHECK_EQUAL(rondo_datagram_join(datagram, group, "no-such0", NULL), -ENODEV);
    CHECK_EQUAL(rondo_datagram_set_multicast_interface(datagram, "no-such0"), -ENODEV);
    CHECK_EQUAL(rondo_datagram_set_multicast_interface(datagram, NULL), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_ttl(datagram, 256), -EINVAL);
    close(sender);
    loop_end(loop);
}

static void multicast_v6(void **state)
{
    static const char group[] = "ff11::7261:6e64";
    struct recorder member = {0};
    struct sockaddr_storage bound;

    (void)state;
    begin("multicast 6");
    if (rondo_datagram_create(loop, "::", 0, NULL, &recorder_handlers, &member, &member.datagram) !=
        0) {
        loop_end(loop);
        skip(); /* No IPv6 here. */
    }
    rondo_datagram *datagram = member.datagram;
    CHECK_EQUAL(rondo_datagram_local_address(datagram, &bound), 0);
    struct sockaddr_in6 to = *(struct sockaddr_in6 *)&bound;
    CHECK_EQUAL(inet_pton(AF_INET6, group, &to.sin6_addr), 1);
    CHECK_EQUAL(rondo_datagram_join(datagram, group, "lo", NULL), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_interface(datagram, "lo"), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_loop(datagram, true), 0);
    CHECK_EQUAL(rondo_datagram_set_multicast_ttl(datagram, 0), 0);
    CHECK_EQUAL(rondo_datagram_send(datagram, "six", 3, TO(to)), 0);
    /* A loopback interface without a route for groups says so; membership is tested anyway. */
    WAIT_UNTIL(atomic_load(&member.count) == 1 || atomic_load(&member.error) == -ENETUNREACH, 5000);
    printf("multicast 6: %s\n", atomic_load(&member.count) ? "received" : "no route on lo");
    CHECK_EQUAL(rondo_datagram_leave(datagram, group, "lo", NULL), 0);
    CHECK_EQUAL(rondo_datagram_join(datagram, "239.1.1.1", "lo", NULL), -EINVAL);
    loop_end(loop);
}

/* ---- Unix ---- */

static void unix_names(void **state)
{
    struct recorder echo = {.received = echo_received};
    struct recorder client = {0};
    struct recorder nameless = {0};
    char directory[] = "/tmp/rondo-datagram-XXXXXX";
    char path[64];
    char name[64];

    (void)state;
    begin("unix names");
    CHECK(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/echo", directory);
    unix_open(&echo, loop, path);
    unix_open(&client, loop, unix_path("client", name, sizeof(name)));
    unix_open(&nameless, loop, NULL);

    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    /* A path to an abstract name and back, unconnected and connected. */
    CHECK_EQUAL(rondo_datagram_send(client.datagram, "ping", 4, TO(to)), 0);
    WAIT_UNTIL(atomic_load(&client.count) == 1, 5000);
    CHECK_EQUAL(rondo_datagram_connect(client.datagram, TO(to)), 0);
    CHECK_EQUAL(rondo_datagram_send(client.datagram, "pang", 4, NULL, 0), 0);
    WAIT_UNTIL(atomic_load(&client.count) == 2, 5000);
    CHECK_EQUAL(rondo_datagram_disconnect(client.datagram), 0);
    CHECK_EQUAL(rondo_datagram_send(client.datagram, "x", 1, NULL, 0), -EDESTADDRREQ);

    /* Taken, and what has no multicast. */
    CHECK_EQUAL(rondo_datagram_create_unix(loop, path, NULL, &recorder_handlers, &client,
                                           &nameless.datagram),
                -EADDRINUSE);
    CHECK_EQUAL(rondo_datagram_join(client.datagram, "239.1.1.1", NULL, NULL), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_datagram_set_multicast_ttl(client.datagram, 1), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_datagram_set_multicast_loop(client.datagram, 1), -EAFNOSUPPORT);
    CHECK_EQUAL(rondo_datagram_set_multicast_interface(client.datagram, NULL), -EAFNOSUPPORT);
    unlink(path);
    rmdir(directory);
    loop_end(loop);
    CHECK_EQUAL(atomic_load(&nameless.closed), 1);
}

/* Keeps the first descriptor of each message and leaves the others. */
static void keep_first(struct recorder *recorder, const struct rondo_message *message)
{
    _Atomic int *kept = recorder->ctx;

    CHECK_EQUAL(message->descriptor_count, 3);
    CHECK(!message->descriptors_truncated);
    for (uint32_t i = 0; i < message->descriptor_count; i++)
        CHECK(fcntl(message->descriptors[i], F_GETFD) == FD_CLOEXEC);
    atomic_store(kept, message->descriptors[0]);
    message->descriptors[0] = -1;
}

static void descriptors_travel(void **state)
{
    enum { ROUNDS = 10 };
    _Atomic int kept = -1;
    struct recorder receiver = {.received = keep_first, .ctx = &kept};
    struct recorder sender = {0};
    char name[64];
    socklen_t size;
    char byte;
    int ends[2];

    (void)state;
    begin("descriptors");
    unix_open(&receiver, loop, unix_path("fd", name, sizeof(name)));
    unix_open(&sender, loop, NULL);
    struct sockaddr_un to = unix_name("fd", &size);
    CHECK_EQUAL(pipe2(ends, O_CLOEXEC), 0);
    uint32_t before = count_descriptors();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        int passed[3] = {dup(ends[1]), dup(ends[1]), dup(ends[1])};
        struct lent lent = {0};
        struct rondo_datagram_message message = {
            .data = "d",
            .size = 1,
            .to = (const struct sockaddr *)&to,
            .to_size = size,
            .descriptors = passed,
            .descriptor_count = 3,
        };
        if (i % 2) {
            CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message, LENT(&lent)), 0);
            lent_wait(&lent, 1);
        } else {
            CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, &message, 1), 1);
        }
        for (int k = 0; k < 3; k++)
            close(passed[k]);
        WAIT_UNTIL(atomic_load(&receiver.count) == i + 1, 5000);
        /* What arrived is the pipe; the two that were not kept are closed. */
        CHECK_EQUAL(write(atomic_load(&kept), "w", 1), 1);
        CHECK_EQUAL(read(ends[0], &byte, 1), 1);
        close(atomic_load(&kept));
        WAIT_UNTIL(count_descriptors() == before, 5000);
    }
    /* A socket that closes does not keep what comes late: it is paused when they arrive. */
    CHECK_EQUAL(rondo_datagram_receive_stop(receiver.datagram), 0);
    int one[3] = {ends[1], ends[1], ends[1]};
    struct rondo_datagram_message message = {.data = "d",
                                             .size = 1,
                                             .to = (const struct sockaddr *)&to,
                                             .to_size = size,
                                             .descriptors = one,
                                             .descriptor_count = 3};
    CHECK_EQUAL(rondo_datagram_send_batch(sender.datagram, &message, 1), 1);
    recorder_close(&sender);
    recorder_close(&receiver);
    WAIT_UNTIL(count_descriptors() == before - 2, 5000);
    close(ends[0]);
    close(ends[1]);
    loop_end(loop);
}

/* ---- descriptors that exist, pauses ---- */

static void an_existing_socket_is_taken_over(void **state)
{
    struct recorder recorder = {.received = echo_received};
    int pair[2];
    char data[8];

    (void)state;
    begin("create_fd");
    /* Connected already, and not blocking: both ends see no difference. */
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    CHECK_EQUAL(rondo_datagram_create_fd(loop, pair[0], NULL, &recorder_handlers, &recorder,
                                         &recorder.datagram),
                0);
    CHECK_EQUAL(fcntl(pair[1], F_SETFL, 0), 0);
    set_patience(pair[1]);
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(send(pair[1], "abcdef", 6, 0), 6);
        CHECK_EQUAL(plain_receive(pair[1], data, sizeof(data)), 6);
    }
    /* Nothing to do, nothing done. */
    uint64_t before = loop_stats(loop).submissions;
    test_pass_time(30);
    CHECK(loop_stats(loop).submissions - before < 10);
    close(pair[1]);
    loop_end(loop);
}

static void a_pause_is_one(void **state)
{
    enum { COUNT = 20 };
    struct recorder recorder = {0};
    struct sockaddr_in address;

    (void)state;
    begin("pause");
    udp_open(&recorder, loop, "127.0.0.1", NULL);
    struct sockaddr_in server = udp_address(recorder.datagram);
    int client = plain_udp(&address);
    plain_send(client, "1", 1, TO(server));
    WAIT_UNTIL(atomic_load(&recorder.count) == 1, 5000);
    uint64_t completions = loop_stats(loop).completions;
    CHECK_EQUAL(rondo_datagram_receive_stop(recorder.datagram), 0);
    /* The end of the receive and of its cancel. */
    WAIT_UNTIL(loop_stats(loop).completions >= completions + 2, 5000);
    for (int i = 0; i < COUNT; i++)
        plain_send(client, "2", 1, TO(server));
    test_pass_time(30);
    CHECK_EQUAL(atomic_load(&recorder.count), 1);
    CHECK_EQUAL(rondo_datagram_receive_start(recorder.datagram), 0);
    WAIT_UNTIL(atomic_load(&recorder.count) == 1 + COUNT, 5000);
    close(client);
    loop_end(loop);
}

static _Atomic bool gate_open;

static void wait_at_gate(struct recorder *recorder, const struct rondo_message *message)
{
    (void)recorder;
    (void)message;
    while (!atomic_load(&gate_open))
        test_nap();
}

/* A callback that blocks holds receiving up, and not without end: the rest waits in the kernel. */
static void too_many_undelivered_pause_receiving(void **state)
{
    enum { COUNT = 600 };
    struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
    struct recorder recorder = {.received = wait_at_gate};
    struct sockaddr_in address;

    (void)state;
    begin("capped");
    atomic_store(&gate_open, false);
    options.receive_buffer_size = 4 << 20;
    udp_open(&recorder, loop, "127.0.0.1", &options);
    struct sockaddr_in server = udp_address(recorder.datagram);
    int client = plain_udp(&address);
    for (int i = 0; i < COUNT; i++)
        plain_send(client, "c", 1, TO(server));
    WAIT_UNTIL(loop_stats(loop).reads_paused == 1, 5000);
    CHECK(loop_stats(loop).datagrams_received < COUNT);
    atomic_store(&gate_open, true);
    WAIT_UNTIL(atomic_load(&recorder.count) == COUNT, 5000);
    close(client);
    loop_end(loop);
}

static void watermarks_and_the_queue(void **state)
{
    enum { COUNT = 100, SIZE = 1000 };
    static uint8_t data[SIZE];
    struct recorder sender = {0};
    char got[SIZE];
    socklen_t size;

    (void)state;
    begin("watermarks");
    int reader = plain_unix("slow");
    struct sockaddr_un to = unix_name("slow", &size);
    unix_open(&sender, loop, NULL);
    CHECK_EQUAL(rondo_datagram_set_watermarks(sender.datagram, 2000, 5000), 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        fill_bytes(data, SIZE, i);
        CHECK_EQUAL(rondo_datagram_send(sender.datagram, data, SIZE, (struct sockaddr *)&to, size),
                    0);
    }
    /* The reader takes nothing: a dozen is with the kernel, the rest waits. */
    WAIT_UNTIL(loop_stats(loop).reads_paused == 1, 5000);
    CHECK(rondo_datagram_send_queued(sender.datagram) > 5000);
    CHECK_EQUAL(atomic_load(&sender.drained), 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(plain_receive(reader, got, SIZE), SIZE);
        CHECK(bytes_are(got, SIZE, i)); /* Unix sockets keep the order. */
    }
    WAIT_UNTIL(atomic_load(&sender.drained) == 1, 5000);
    WAIT_UNTIL(rondo_datagram_send_queued(sender.datagram) == 0, 5000);
    close(reader);
    loop_end(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_keeps_bytes_order_and_sizes),
        cmocka_unit_test(the_largest_is_whole_and_a_larger_one_is_cut),
        cmocka_unit_test(a_batch_arrives_as_separate_datagrams),
        cmocka_unit_test(what_the_kernel_joins_is_split),
        cmocka_unit_test(connected_mode),
        cmocka_unit_test(multicast_v4),
        cmocka_unit_test(multicast_v6),
        cmocka_unit_test(unix_names),
        cmocka_unit_test(descriptors_travel),
        cmocka_unit_test(an_existing_socket_is_taken_over),
        cmocka_unit_test(a_pause_is_one),
        cmocka_unit_test(too_many_undelivered_pause_receiving),
        cmocka_unit_test(watermarks_and_the_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
