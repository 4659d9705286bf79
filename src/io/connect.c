/* Connecting streams: by name, by address, to a Unix socket; see rondo/stream.h.
 *
 *   by name: look-up on the blocking pool --returned--> race --> stream
 *   by address: ------------------------------------------^
 *
 * The public functions: any thread. job_*: a thread of the blocking pool. release: a worker. The
 * rest: the lane's thread; the race and the stream are on the same lane.
 */
#include "rondo/stream.h"

#include "error.h"
#include "eyeballs.h"
#include "operation.h"
#include "resolve.h"
#include "stream.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define DELAY_MIN_NS (10 * NS_PER_MS)
#define DELAY_MAX_NS (10 * NS_PER_SECOND)

/* A look-up that is lost while the resolver hangs outlives the operation. */
struct name_job {
    struct blocking_job job;
    struct operation *operation;
    struct addrinfo hints;
    struct resolve_outcome outcome;
    uint16_t port;
    char host[NI_MAXHOST];
};

struct connect {
    struct operation base;
    struct hub *hub;
    struct race *race;
    struct name_job *job; /* NULL: none, or it is lost */
    struct rondo_stream *stream;
    bool racing;
};

RONDO_STATIC_ASSERT(sizeof(struct connect) <= OPERATION_SIZE);

/* ---- the look-up ---- */

static void job_free(struct name_job *job)
{
    if (job)
        sys.release(job->outcome.addresses);
    sys.release(job);
}

static void job_run(struct blocking_job *base)
{
    struct name_job *job = container_of(base, struct name_job, job);

    job->outcome = resolve_now(job->host, NULL, &job->hints);
}

static void job_finished(struct blocking_job *base, bool lost)
{
    struct name_job *job = container_of(base, struct name_job, job);

    if (lost)
        job_free(job);
    else
        operation_return(job->operation);
}

static void set_port(struct address *address, uint16_t port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;

    v4->sin_port = htons(port); /* IPv6 has it at the same place. */
}

/* The addresses that were found become the attempts of the race. */
static int attempts_fill(struct race *race, const struct name_job *job)
{
    const struct rondo_addresses *found = job->outcome.addresses;
    uint32_t count = found->count;
    int families[EYEBALLS_ATTEMPTS_MAX] = {0};
    uint32_t order[EYEBALLS_ATTEMPTS_MAX];

    if (count > EYEBALLS_ATTEMPTS_MAX)
        count = EYEBALLS_ATTEMPTS_MAX;
    for (uint32_t i = 0; i < count; i++)
        families[i] = found->list[i].storage.ss_family;
    eyeballs_order(families, count, order);
    race->attempts = race_attempts_create(count);
    if (!race->attempts)
        return -ENOMEM;
    race->count = count;
    for (uint32_t i = 0; i < count; i++) {
        race->attempts[i].address = found->list[order[i]];
        set_port(&race->attempts[i].address, job->port);
    }
    return 0;
}

/* ---- the race, on the lane ---- */

static void race_ended(struct lane *lane, struct race *race, int error, int fd)
{
    struct connect *self = race->owner;

    if (!error) {
        self->stream = stream_create(lane, fd, self->hub->write_queue_max);
        if (!self->stream) {
            (void)sys.close(fd);
            error = -ENOMEM;
        }
    }
    if (self->stream) {
        strand_ref(&self->stream->strand); /* The loop may end it before done has run. */
        self->base.result.stream = self->stream;
        /* A lane that drains would reset what is not started, and done has yet to start it. The
         * inbox publishes the flag. */
        (void)or_acq_rel(&self->stream->flags, STREAM_NEW);
        lane_ask(lane, &self->stream->request);
    }
    operation_end(lane, &self->base, error);
}

static void begin_race(struct lane *lane, struct connect *self)
{
    struct life *life = self->hub->life;

    /* Relaxed: a limit, not an order. */
    if (load_relaxed(&life->connections) >= life->connections_max) {
        operation_end(lane, &self->base, -ENOBUFS);
        return;
    }
    self->racing = true;
    self->race->ended = race_ended;
    self->race->owner = self;
    race_begin(lane, self->race);
}

static void connect_start(struct lane *lane, struct operation *operation)
{
    struct connect *self = (struct connect *)operation;
    int error = 0;

    if (!self->job)
        begin_race(lane, self);
    else
        error = blocking_push(self->hub->blocking, &self->job->job);
    if (error)
        operation_end(lane, operation, error);
}

static void connect_cancel(struct lane *lane, struct operation *operation)
{
    struct connect *self = (struct connect *)operation;
    struct blocking *pool = self->hub->blocking;

    if (self->racing) {
        race_cancel(lane, self->race);
    } else if (blocking_remove(pool, &self->job->job)) {
        operation_end(lane, operation, -ECANCELED);
    } else if (blocking_lose(pool, &self->job->job)) {
        self->job = NULL;
        operation_end(lane, operation, -ECANCELED);
    }
}

/* After the look-up, and once more for each change until the race has ended. */
static void connect_returned(struct lane *lane, struct operation *operation)
{
    struct connect *self = (struct connect *)operation;
    bool cancelled = operation_is_cancelled(operation);
    int error;

    if (self->racing) {
        if (cancelled)
            race_cancel(lane, self->race);
        return;
    }
    if (cancelled) {
        operation_end(lane, operation, -ECANCELED);
        return;
    }
    error = self->job->outcome.value;
    if (error) {
        resolve_fill(&operation->result, &self->job->outcome);
        operation_end(lane, operation, error);
        return;
    }
    error = attempts_fill(self->race, self->job);
    if (error)
        operation_end(lane, operation, error);
    else
        begin_race(lane, self);
}

static void race_free(struct race *race)
{
    if (race)
        sys.release(race->attempts);
    sys.release(race);
}

static void connect_release(struct operation *operation)
{
    struct connect *self = (struct connect *)operation;

    race_free(self->race);
    job_free(self->job);
    if (!self->stream)
        return;
    /* Pairs with stream_advance(): from now on a drain treats it as any other. */
    (void)and_acq_rel(&self->stream->flags, ~(uint32_t)STREAM_NEW);
    (void)stream_ask(self->stream, 0);
    strand_unref(&self->stream->strand);
}

static const struct operation_kind connect_kind = {
    .name = "connect",
    .start = connect_start,
    .cancel = connect_cancel,
    .returned = connect_returned,
    .release = connect_release,
};

/* ---- any thread ---- */

static const struct rondo_connect_options defaults = RONDO_CONNECT_OPTIONS_INIT;

static int check_source(const struct rondo_connect_options *options, struct address *ret_source)
{
    int error;

    *ret_source = (struct address){0};
    if (!options->source_host) {
        if (options->source_port)
            return error_set(-EINVAL, "source_port: it needs a source_host, such as 0.0.0.0");
        return 0;
    }
    error = address_parse(options->source_host, options->source_port, ret_source);
    if (!error && options->family != AF_UNSPEC && options->family != ret_source->storage.ss_family)
        return error_set(-EAFNOSUPPORT, "source_host is not of the family that is asked for");
    return error;
}

static int check(rondo_loop *loop, const struct rondo_connect_options *options,
                 struct address *ret_source, struct hub **ret_hub)
{
    int error = hub_of(loop, ret_hub);

    if (error == -EINVAL)
        return error_set(-EINVAL, "loop is NULL");
    if (error)
        return error;
    if (options->size != sizeof(*options))
        return error_set(-EINVAL, "size of the connect options: start from "
                                  "RONDO_CONNECT_OPTIONS_INIT");
    if (options->family != AF_UNSPEC && options->family != AF_INET && options->family != AF_INET6)
        return error_set(-EAFNOSUPPORT, "family: %d is none of AF_UNSPEC, AF_INET and AF_INET6",
                         options->family);
    if (options->attempt_delay_ns < DELAY_MIN_NS || options->attempt_delay_ns > DELAY_MAX_NS)
        return error_set(-EINVAL, "attempt_delay_ns: not between 10 ms and 10 s");
    return check_source(options, ret_source);
}

/* The family that addresses must have. */
static int family_wanted(const struct rondo_connect_options *options, const struct address *source)
{
    return source->size > 0 ? source->storage.ss_family : options->family;
}

static struct race *race_create(const struct rondo_connect_options *options,
                                const struct address *source)
{
    struct race *race = sys.alloc(sizeof(*race));

    if (!race)
        return NULL;
    race->settings.source = *source;
    race->settings.nodelay = options->nodelay;
    race->delay_ns = options->attempt_delay_ns;
    return race;
}

/* Takes @race and @job over; each may be NULL for want of memory, @job also when there is none. */
static int submit(struct hub *hub, struct race *race, struct name_job *job,
                  const struct rondo_request *request)
{
    struct operation *operation;
    int error = race
                    ? operation_create(&connect_kind, hub, hub_lane(hub), NULL, request, &operation)
                    : error_set(-ENOMEM, "no memory for a connection");

    if (error) {
        race_free(race);
        job_free(job);
        return error;
    }
    struct connect *self = (struct connect *)operation;
    self->hub = hub;
    self->race = race;
    self->job = job;
    if (job)
        job->operation = operation;
    operation_submit(operation);
    return 0;
}

static int submit_address(struct hub *hub, const struct rondo_connect_options *options,
                          const struct address *source, const struct address *address,
                          const struct rondo_request *request)
{
    int family = address->storage.ss_family;
    int wanted = family_wanted(options, source);
    struct race *race;

    if (family == AF_UNIX ? source->size > 0 : wanted != AF_UNSPEC && wanted != family)
        return error_set(-EAFNOSUPPORT,
                         "the address is not of the family that source_host or family ask for");
    race = race_create(options, source);
    if (race)
        race->attempts = race_attempts_create(1);
    if (!race || !race->attempts) {
        race_free(race);
        return error_set(-ENOMEM, "no memory for a connection");
    }
    race->count = 1;
    race->attempts[0].address = *address;
    return submit(hub, race, NULL, request);
}

static int submit_name(struct hub *hub, const struct rondo_connect_options *options,
                       const struct address *source, const char *host, uint16_t port,
                       const struct rondo_request *request)
{
    struct name_job *job = sys.alloc(sizeof(*job));

    if (!job)
        return error_set(-ENOMEM, "no memory for a look-up");
    job->job.class = BLOCKING_LOOKUP;
    job->job.run = job_run;
    job->job.finished = job_finished;
    job->hints.ai_family = family_wanted(options, source);
    job->hints.ai_socktype = SOCK_STREAM;
    job->hints.ai_protocol = IPPROTO_TCP;
    job->port = port;
    (void)snprintf(job->host, sizeof(job->host), "%s", host);
    return submit(hub, race_create(options, source), job, request);
}

RONDO_PUBLIC int rondo_stream_connect(rondo_loop *loop, const char *host, uint16_t port,
                                      const struct rondo_connect_options *options,
                                      const struct rondo_request *request)
{
    struct address source;
    struct address address;
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, &source, &hub);
    if (!error && !host)
        error = error_set(-EINVAL, "host is NULL");
    if (!error)
        error = resolve_check_host(host);
    if (!error && port == 0)
        error = error_set(-EINVAL, "port: 0 is not a port to connect to");
    if (error)
        return error;
    if (address_parse(host, port, &address) == 0)
        return submit_address(hub, options, &source, &address, request);
    return submit_name(hub, options, &source, host, port, request);
}

RONDO_PUBLIC int rondo_stream_connect_address(rondo_loop *loop, const struct sockaddr *address,
                                              socklen_t size,
                                              const struct rondo_connect_options *options,
                                              const struct rondo_request *request)
{
    struct address source;
    struct address copy;
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, &source, &hub);
    if (!error)
        error = address_copy(address, size, &copy);
    if (error)
        return error;
    /* IPv6 has its port at the same place. */
    if (copy.storage.ss_family != AF_UNIX && ((struct sockaddr_in *)&copy.storage)->sin_port == 0)
        return error_set(-EINVAL, "port: 0 is not a port to connect to");
    return submit_address(hub, options, &source, &copy, request);
}

RONDO_PUBLIC int rondo_stream_connect_unix(rondo_loop *loop, const char *path,
                                           const struct rondo_connect_options *options,
                                           const struct rondo_request *request)
{
    struct address source;
    struct address address;
    struct hub *hub;
    int error;

    options = options ? options : &defaults;
    error = check(loop, options, &source, &hub);
    if (!error && !path)
        error = error_set(-EINVAL, "path is NULL");
    if (!error)
        error = address_unix(path, &address);
    return error ? error : submit_address(hub, options, &source, &address, request);
}
