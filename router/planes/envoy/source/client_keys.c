#include "client_keys.h"

/* Any of three marks between words, and -bin. */
static bool is_spelling(span_t key, const char *name) {
    if (key.length > 4 && !memcmp(key.at + key.length - 4, "-bin", 4)) key.length -= 4;
    if (key.length != strlen(name)) return false;
    for (size_t i = 0; i < key.length; i++)
        if (key.at[i] != name[i] && !(name[i] == '-' && (key.at[i] == '_' || key.at[i] == '.')))
            return false;
    return true;
}

bool is_client_key(span_t key) {
    static const char *const names[] = {"authorization", "x-api-key", "api-key", "x-goog-api-key",
                                        "proxy-authorization"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_spelling(key, names[i])) return true;
    return false;
}
