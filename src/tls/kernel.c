/* Whether the kernel could encrypt (kTLS). Any thread. */
#include "rondo/tls.h"

#include "text.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <string.h>

/* The protocols that can be put on top of TCP; asking a socket would load a module. */
#define ULP_FILE "/proc/sys/net/ipv4/tcp_available_ulp"

TLS_PUBLIC int rondo_tls_kernel(const char **ret_reason)
{
    char names[256] = "";
    BIO *file = BIO_new_file(ULP_FILE, "r");
    int count = file ? BIO_read(file, names, sizeof(names) - 2) : 0;
    const char *reason = "the kernel has no TLS (module tls, CONFIG_TLS): workers encrypt";

    BIO_free(file);
    ERR_clear_error();
    if (count > 0)
        names[strcspn(names, "\n")] = ' ';
    for (const char *at = names; (at = strstr(at, "tls ")); at++) {
        if (at == names || at[-1] == ' ')
            reason = "the kernel has TLS, this version of rondo does not use it: workers encrypt";
    }
    if (ret_reason)
        *ret_reason = reason;
    return 0;
}
