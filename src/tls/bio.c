/* The BIO of a connection; see bio.h. In its strand. */
#include "bio.h"

#include "connection.h"

#include <openssl/err.h>

#include <string.h>

enum { CHUNK_CAPACITY_MIN = 512, KEPT_CAPACITY_MIN = 4096 };

/* ---- input ---- */

size_t input_left(const struct input *input)
{
    return input->kept_size - input->kept_start + input->size;
}

void input_clear(struct input *input)
{
    OPENSSL_free(input->kept);
    *input = (struct input){0};
}

bool input_keep(struct input *input)
{
    size_t left = input->kept_size - input->kept_start;

    if (input->size == 0) {
        if (left == 0)
            input_clear(input);
        return true;
    }
    if (left + input->size > input->kept_capacity) {
        size_t capacity = (left + input->size) * 2;
        if (capacity < KEPT_CAPACITY_MIN)
            capacity = KEPT_CAPACITY_MIN;
        unsigned char *grown = OPENSSL_malloc(capacity);
        if (!grown)
            return false;
        if (left > 0)
            memcpy(grown, input->kept + input->kept_start, left);
        OPENSSL_free(input->kept);
        input->kept = grown;
        input->kept_capacity = capacity;
    } else if (input->kept_start > 0) {
        memmove(input->kept, input->kept + input->kept_start, left);
    }
    memcpy(input->kept + left, input->data, input->size);
    input->kept_start = 0;
    input->kept_size = left + input->size;
    input->data = NULL;
    input->size = 0;
    return true;
}

static size_t input_read(struct input *input, void *buffer, size_t size)
{
    size_t left = input->kept_size - input->kept_start;

    if (left > 0) {
        if (size > left)
            size = left;
        memcpy(buffer, input->kept + input->kept_start, size);
        input->kept_start += size;
        return size;
    }
    if (size > input->size)
        size = input->size;
    if (size == 0)
        return 0;
    memcpy(buffer, input->data, size);
    input->data += size;
    input->size -= size;
    return size;
}

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *buffer, size_t size, size_t *ret_size)
{
    struct rondo_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *ret_size = input_read(&tls->input, buffer, size);
    if (*ret_size > 0)
        return 1;
    BIO_set_retry_read(bio);
    return 0;
}

/* Room for @size more bytes in the chunk: false, if there is no memory. */
static bool chunk_reserve(struct rondo_tls *tls, size_t size)
{
    struct chunk *chunk = tls->out;
    size_t used = chunk ? chunk->size : 0;

    if (chunk && size <= chunk->capacity - used)
        return true;
    size_t capacity = used + size;
    /* A second record in a chunk means that more will follow. */
    if (chunk)
        capacity *= 2;
    if (capacity < CHUNK_CAPACITY_MIN)
        capacity = CHUNK_CAPACITY_MIN;
    chunk = OPENSSL_realloc(chunk, sizeof(*chunk) + capacity);
    if (!chunk)
        return false;
    if (!tls->out)
        *chunk = (struct chunk){.tls = tls};
    chunk->capacity = capacity;
    tls->out = chunk;
    return true;
}

static int bio_write(BIO *bio, const char *data, size_t size, size_t *ret_size)
{
    struct rondo_tls *tls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!chunk_reserve(tls, size)) {
        ERR_raise(ERR_LIB_BIO, ERR_R_MALLOC_FAILURE);
        return -1;
    }
    memcpy(tls->out->bytes + tls->out->size, data, size);
    tls->out->size += size;
    *ret_size = size;
    return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *bio_method_create(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "rondo stream");

    if (!method || !BIO_meth_set_read_ex(method, bio_read) ||
        !BIO_meth_set_write_ex(method, bio_write) || !BIO_meth_set_ctrl(method, bio_ctrl)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}
