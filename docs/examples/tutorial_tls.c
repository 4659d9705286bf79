#include <rondo/rondo.h>
#include <rondo/tls.h>
#include <stdio.h>
#include <stdlib.h>

static rondo_tls_config *config;

static void on_established(rondo_tls *tls, void *ctx)
{
    struct rondo_tls_info info = RONDO_TLS_INFO_INIT;

    (void)ctx;
    if (rondo_tls_info(tls, &info) == 0)
        printf("%s, %s, protocol %s%s\n", info.version, info.cipher, info.alpn ? info.alpn : "none",
               info.resumed ? ", resumed" : "");
}

static void on_read(rondo_tls *tls, const void *data, size_t size, void *ctx)
{
    (void)ctx;
    if (rondo_tls_write(tls, data, size) != 0)
        rondo_tls_abort(tls);
}

static void on_closed(rondo_tls *tls, int error, void *ctx)
{
    (void)ctx;
    if (error)
        printf("%s: %s\n", rondo_error_name(error), rondo_tls_error_text(tls));
}

static const struct rondo_tls_handlers on_tls = {
    .size = sizeof(on_tls),
    .established = on_established,
    .read = on_read,
    .closed = on_closed,
};

static void on_accepted(rondo_listener *listener, rondo_stream *stream, void *ctx)
{
    (void)listener;
    if (rondo_tls_start(stream, config, NULL, &on_tls, ctx, NULL) != 0)
        rondo_stream_abort(stream);
}

static const struct rondo_listener_handlers on_listener = {
    .size = sizeof(on_listener),
    .accepted = on_accepted,
};

int main(int argc, char **argv)
{
    struct rondo_tls_config_options options = RONDO_TLS_CONFIG_OPTIONS_INIT;
    rondo_loop *loop = NULL;

    if (argc != 4)
        return fprintf(stderr, "Usage: tutorial_tls CERTIFICATE KEY PORT\n"), 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    options.certificate_file = argv[1];
    options.key_file = argv[2];
    options.alpn = "echo";
    if (rondo_tls_config_create_server(&options, &config) != 0)
        return fprintf(stderr, "tls: %s\n", rondo_tls_error_text(NULL)), 1;
    if (rondo_loop_create(NULL, &loop) != 0 ||
        rondo_listener_create(loop, "127.0.0.1", (uint16_t)strtoul(argv[3], NULL, 10), NULL,
                              &on_listener, NULL, NULL) != 0)
        return fprintf(stderr, "tls: %s\n", rondo_error_text()), 1;
    return rondo_loop_run(loop) == 0 ? 0 : 1;
}
