/* Where OpenSSL reads and writes: the bytes that the stream received, and the chunk to be sent.
 *
 * In the strand of the connection. Received bytes are read where they lie; the ones left over when
 * a callback of the stream returns are kept. A chunk is lent to the stream when it is sent.
 */
#ifndef RONDO_TLS_BIO_H
#define RONDO_TLS_BIO_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>

struct rondo_tls;

/* Ciphertext on its way out. */
struct chunk {
    struct rondo_tls *tls;
    size_t size;
    size_t capacity;
    size_t plain_size; /* bytes of the user in it */
    unsigned char bytes[];
};

/* Ciphertext that came in. */
struct input {
    const unsigned char *data; /* of the stream, valid in its callback */
    size_t size;
    unsigned char *kept; /* came before it */
    size_t kept_size;
    size_t kept_start; /* bytes of it read already */
    size_t kept_capacity;
};

/* The bytes not read yet. */
size_t input_left(const struct input *input);

/* Keep what is left of the stream's bytes: false, if there is no memory. */
bool input_keep(struct input *input);

/* Forget it all. */
void input_clear(struct input *input);

/* A method whose BIOs carry a connection as their data, or NULL. */
BIO_METHOD *bio_method_create(void);

#endif
