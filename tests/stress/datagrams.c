/* Goal: datagrams under load: none is delivered twice, cut or changed, those of one socket come in
 * order, every lent send ends once, every socket closes once; also with almost no buffers and while
 * sockets close under the load.
 * Method: numbered datagrams with a checksum between many sockets of one loop, with a window small
 * enough that the kernel has no reason to drop any. */
#include "datagram_peer.h"

#include <pthread.h>

static rondo_loop *loop;

/* ---- echo between sockets of the loop ---- */

enum { CLIENTS = 8, WINDOW = 16, DATAGRAM_MAX = 1200 };

struct head {
    uint64_t client;
    uint64_t number;
    uint64_t size;
    uint64_t sum;
};

struct client {
    struct recorder recorder;
    struct sockaddr_in server;
    uint64_t id;
    uint64_t total;
    uint64_t sent;
    uint64_t answered;
    uint64_t seed;
    _Atomic bool is_done;
};

static uint64_t sum_of(const uint8_t *data, size_t size)
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 1099511628211u;
    return sum;
}

static void client_send(struct client *client)
{
    uint8_t data[DATAGRAM_MAX];

    while (client->sent < client->total && client->sent - client->answered < WINDOW) {
        /* Runs of equal sizes, so that some go out together. */
        size_t size = sizeof(struct head) + random_of(client->id, client->sent / 10) %
                                                (DATAGRAM_MAX - sizeof(struct head));
        struct head head = {client->id, client->sent++, size, 0};
        fill_bytes(data + sizeof(head), size - sizeof(head), head.number);
        head.sum = sum_of(data + sizeof(head), size - sizeof(head));
        memcpy(data, &head, sizeof(head));
        CHECK_EQUAL(rondo_datagram_send(client->recorder.datagram, data, size, TO(client->server)),
                    0);
    }
}

static void client_received(struct recorder *recorder, const struct rondo_message *message)
{
    struct client *client = recorder->ctx;
    struct head head;

    CHECK(message->size >= sizeof(head));
    memcpy(&head, message->data, sizeof(head));
    CHECK_EQUAL(head.client, client->id);
    CHECK_EQUAL(head.number, client->answered);
    CHECK_EQUAL(head.size, message->size);
    CHECK_EQUAL(head.sum, sum_of((const uint8_t *)message->data + sizeof(head),
                                 message->size - sizeof(head)));
    client->answered++;
    client_send(client);
    if (client->answered == client->total)
        atomic_store(&client->is_done, true);
}

static void client_start(void *ctx)
{
    client_send(ctx);
}

static void echo_of_many_sockets(void **state)
{
    struct rondo_datagram_options options = RONDO_DATAGRAM_OPTIONS_INIT;
    struct recorder echo = {.received = echo_received};
    static struct client clients[CLIENTS];
    uint64_t total = test_scaled(10000);

    (void)state;
    (void)test_begin("echo of many sockets");
    loop = loop_begin(NULL);
    options.receive_buffer_size = 4 << 20;
    udp_open(&echo, loop, "127.0.0.1", &options);
    memset(clients, 0, sizeof(clients));
    for (uint64_t i = 0; i < CLIENTS; i++) {
        struct client *client = &clients[i];
        client->recorder.received = client_received;
        client->recorder.ctx = client;
        client->server = udp_address(echo.datagram);
        client->id = i;
        client->total = total;
        udp_open(&client->recorder, loop, "127.0.0.1", &options);
        CHECK_EQUAL(rondo_strand_post(rondo_datagram_strand(client->recorder.datagram),
                                      client_start, client, NULL),
                    0);
    }
    for (uint64_t i = 0; i < CLIENTS; i++)
        WAIT_UNTIL(atomic_load(&clients[i].is_done), 60000);
    WAIT_UNTIL(atomic_load(&echo.count) == total * CLIENTS, 5000); /* counted after the answer */
    struct rondo_loop_stats stats = loop_stats(loop);
    CHECK_EQUAL(stats.completions_stale, 0);
    printf("echo: %lu datagrams, %lu completions\n", (unsigned long)(total * CLIENTS * 4),
           (unsigned long)stats.completions);
    loop_end(loop);
}

/* ---- almost no buffers ---- */

/* The kernel finds no buffer all the time: receiving must go on each time, and lose nothing. */
static void two_buffers(void **state)
{
    enum { WINDOW_RAW = 32 };
    struct rondo_loop_options options = RONDO_LOOP_OPTIONS_INIT;
    struct recorder echo = {.received = echo_received};
    struct sockaddr_in address;
    uint64_t count = test_scaled(100000);
    uint64_t number;

    (void)state;
    (void)test_begin("two buffers");
    options.buffers = 2;
    loop = loop_begin(&options);
    udp_open(&echo, loop, "127.0.0.1", NULL);
    struct sockaddr_in server = udp_address(echo.datagram);
    int client = plain_udp(&address);
    for (uint64_t sent = 0, back = 0; back < count; back++) {
        for (; sent < count && sent - back < WINDOW_RAW; sent++)
            plain_send(client, &sent, sizeof(sent), TO(server));
        CHECK_EQUAL(plain_receive(client, &number, sizeof(number)), sizeof(number));
        CHECK_EQUAL(number, back);
    }
    WAIT_UNTIL(atomic_load(&echo.count) == count, 5000); /* counted after the answer */
    struct rondo_loop_stats stats = loop_stats(loop);
    CHECK(stats.buffers_exhausted > 0);
    CHECK(stats.buffers <= 4); /* two for streams, two for datagrams */
    printf("two buffers: %lu times none left\n", (unsigned long)stats.buffers_exhausted);
    close(client);
    loop_end(loop);
}

/* ---- lent sends, cancels and deadlines ---- */

enum { PAIR_LENT = 2000 };

/* A Unix pair whose other end is read by bursts: sends wait, and random ones are cancelled. What
 * was not cancelled arrives, in order, and nothing else does. */
static void a_storm_of_cancels(void **state)
{
    static struct lent lents[PAIR_LENT];
    static uint64_t numbers[PAIR_LENT];
    struct recorder sender = {0};
    uint64_t seed = test_begin("cancels");
    uint64_t ends[3] = {0}; /* sent, cancelled, timed out */
    uint64_t last = 0;
    uint64_t got = 0;
    int pair[2];

    (void)state;
    memset(lents, 0, sizeof(lents));
    loop = loop_begin(NULL);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQUAL(rondo_datagram_create_fd(loop, pair[0], NULL, &recorder_handlers, &sender,
                                         &sender.datagram),
                0);
    for (uint64_t i = 0; i < PAIR_LENT; i++) {
        struct rondo_datagram_message message = {.data = &numbers[i], .size = sizeof(numbers[i])};
        uint64_t deadline_ns = random_below(&seed, 4) ? 0 : rondo_now_ns() + MS;
        numbers[i] = i + 1;
        CHECK_EQUAL(rondo_datagram_send_lent(sender.datagram, &message,
                                             LENT(&lents[i], .deadline_ns = deadline_ns)),
                    0);
        if (random_below(&seed, 4) == 0)
            (void)rondo_cancel(lents[i - random_below(&seed, i < 100 ? i + 1 : 100)].handle);
        /* Read a few now and then. */
        for (uint64_t k = random_below(&seed, 50) ? 0 : 20; k > 0; k--) {
            uint64_t number;
            if (recv(pair[1], &number, sizeof(number), MSG_DONTWAIT) != sizeof(number))
                break;
            CHECK(number > last);
            last = number;
            got++;
        }
    }
    CHECK_EQUAL(rondo_datagram_close(sender.datagram), 0);
    while (atomic_load(&sender.closed) == 0) {
        uint64_t number;
        if (recv(pair[1], &number, sizeof(number), MSG_DONTWAIT) == sizeof(number)) {
            CHECK(number > last);
            last = number;
            got++;
        } else {
            test_nap();
        }
    }
    for (uint64_t number; recv(pair[1], &number, sizeof(number), MSG_DONTWAIT) == sizeof(number);) {
        CHECK(number > last);
        last = number;
        got++;
    }
    for (uint64_t i = 0; i < PAIR_LENT; i++) {
        CHECK_EQUAL(atomic_load(&lents[i].count), 1);
        CHECK(lents[i].value == sizeof(uint64_t) || lents[i].value == -ECANCELED ||
              lents[i].value == -ETIMEDOUT);
        ends[lents[i].value > 0 ? 0 : lents[i].value == -ECANCELED ? 1 : 2]++;
    }
    printf("cancels: %lu sent, %lu cancelled, %lu timed out\n", (unsigned long)ends[0],
           (unsigned long)ends[1], (unsigned long)ends[2]);
    CHECK_EQUAL(got, ends[0]);
    CHECK(ends[0] > 0 && ends[1] > 0);
    close(pair[1]);
    loop_end(loop);
}

/* ---- closing under load ---- */

struct flood {
    _Atomic uint16_t port; /* of the socket that lives now */
    int fd;
    _Atomic bool stop;
};

static void *flood_run(void *arg)
{
    struct flood *flood = arg;
    uint8_t data[64] = {0};

    while (!atomic_load(&flood->stop)) {
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = atomic_load(&flood->port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        (void)sendto(flood->fd, data, sizeof(data), MSG_DONTWAIT, TO(to));
    }
    return NULL;
}

struct churn {
    struct recorder recorder;
    struct sockaddr_in to;
    struct lent lents[8];
    int refused;
};

/* Sends from another thread race with the close. */
static void *late_sends(void *arg)
{
    struct churn *churn = arg;
    struct rondo_datagram_message message = {.data = "lent",
                                             .size = 4,
                                             .to = (struct sockaddr *)&churn->to,
                                             .to_size = sizeof(churn->to)};

    for (int i = 0; i < 8; i++) {
        int error =
            rondo_datagram_send_lent(churn->recorder.datagram, &message, LENT(&churn->lents[i]));
        CHECK(error == 0 || error == -EBADF);
        churn->refused += error != 0;
        error = rondo_datagram_send(churn->recorder.datagram, "copy", 4, TO(churn->to));
        CHECK(error == 0 || error == -EBADF);
    }
    return NULL;
}

static void closing_under_load(void **state)
{
    uint64_t count = test_scaled(300);
    struct flood flood = {0};
    struct sockaddr_in address;
    uint64_t seed = test_begin("closing");
    pthread_t flooder;

    (void)state;
    uint32_t before = count_descriptors();
    loop = loop_begin(NULL);
    flood.fd = plain_udp(&address);
    flood.port = address.sin_port;
    CHECK_EQUAL(pthread_create(&flooder, NULL, flood_run, &flood), 0);
    for (uint64_t i = 0; i < count; i++) {
        struct churn *churn = calloc(1, sizeof(*churn));
        pthread_t sends;
        int ended = 0;
        udp_open(&churn->recorder, loop, "127.0.0.1", NULL);
        churn->to = udp_address(churn->recorder.datagram);
        atomic_store(&flood.port, churn->to.sin_port);
        rondo_datagram_ref(churn->recorder.datagram);
        CHECK_EQUAL(pthread_create(&sends, NULL, late_sends, churn), 0);
        for (uint64_t k = random_below(&seed, 3); k > 0; k--)
            sched_yield();
        bool abort = random_below(&seed, 2);
        CHECK_EQUAL((abort ? rondo_datagram_abort : rondo_datagram_close)(churn->recorder.datagram),
                    0);
        pthread_join(sends, NULL);
        WAIT_UNTIL(atomic_load(&churn->recorder.closed) == 1, 5000);
        for (int k = 0; k < 8; k++)
            ended += atomic_load(&churn->lents[k].count);
        CHECK_EQUAL(ended, 8 - churn->refused);
        CHECK_EQUAL(atomic_load(&churn->recorder.closed_error), abort ? -ECANCELED : 0);
        rondo_datagram_unref(churn->recorder.datagram);
        free(churn);
    }
    atomic_store(&flood.stop, true);
    pthread_join(flooder, NULL);
    close(flood.fd);
    loop_end(loop);
    CHECK_EQUAL(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_of_many_sockets),
        cmocka_unit_test(two_buffers),
        cmocka_unit_test(a_storm_of_cancels),
        cmocka_unit_test(closing_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
