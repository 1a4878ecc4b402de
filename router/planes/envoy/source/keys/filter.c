/* Towards one server, once for each attempt: its key in place of whatever the caller has, and nothing
 * of that key in what comes back. Envoy calls these functions. */
#include <stdlib.h>

#include "../client_keys.h"
#include "keys.h"

#define MAX_HEADERS 512
/* It cannot be reached by this key: 502 and UNAVAILABLE, which another server may do better than. */
#define BAD_GATEWAY LITERAL("502")
#define UNAVAILABLE LITERAL("14")
/* What stands for the address of the gateway's own process, which has a new one whenever it starts; as
 * in router/planes/envoy/keys_file.py. */
#define NATIVE LITERAL("native")

/* `is_native`: towards the gateway's own process, which judges callers by their own credentials, and
 * by its key that it is this Envoy that carries them. */
typedef struct {
    const keys_file_t *file;
    bool is_native;
} towards_t;

/* `key`: a copy of what was sent, which the answer is not to tell; 0 where there was none. */
typedef struct {
    const towards_t *towards;
    char *key;
    bool is_denied;
} attempt_t;

const char *ON(program_init)(void) { return ABI_VERSION; }

void *ON(http_filter_config_new)(void *envoy, span_t name, span_t path) {
    (void)envoy;
    char file[1024];
    keep(file, sizeof file, path);
    towards_t *towards = calloc(1, sizeof *towards);
    if (!towards || CALLBACK(is_validation_mode)()) return towards;
    towards->is_native = same(name, LITERAL("native"));
    towards->file = keys_open(file);
    if (towards->file) return towards;
    free(towards);
    return 0;
}

void ON(http_filter_config_destroy)(void *towards) { free(towards); }

void *ON(http_filter_new)(void *towards, envoy_t envoy) {
    (void)envoy;
    attempt_t *attempt = calloc(1, sizeof *attempt);
    if (attempt) attempt->towards = towards;
    return attempt;
}

void ON(http_filter_destroy)(void *attempt) {
    free(((attempt_t *)attempt)->key);
    free(attempt);
}

typedef bool is_wanted_t(span_t key, span_t value, const void *with);

/* Without those that are `is_wanted`; false where there are too many to be looked at. */
static bool remove_headers(envoy_t envoy, int where, is_wanted_t *is_wanted, const void *with) {
    header_t headers[MAX_HEADERS];
    size_t count = CALLBACK(http_get_headers_size)(envoy, where);
    if (count > MAX_HEADERS || !CALLBACK(http_get_headers)(envoy, where, headers)) return false;
    for (size_t i = 0; i < count;) {
        span_t key = {headers[i].key, headers[i].key_length};
        char name[256];
        if (!is_wanted(key, (span_t){headers[i].value, headers[i].value_length}, with)) {
            i++;
            continue;
        }
        if (key.length >= sizeof name || !key.length || *key.at == ':') return false;
        keep(name, sizeof name, key);
        CALLBACK(http_set_header)(envoy, where, span_of(name), (span_t){0, 0});
        /* What `headers` says of those behind this one has gone with it. */
        size_t left = CALLBACK(http_get_headers_size)(envoy, where);
        if (left >= count || !CALLBACK(http_get_headers)(envoy, where, headers)) return false;
        count = left;
    }
    return true;
}

static bool is_callers(span_t key, span_t value, const void *own) {
    (void)value;
    return is_client_key(key) || same(key, *(const span_t *)own);
}

static bool tells(span_t key, span_t value, const void *secret) {
    (void)key;
    const char *text = secret;
    return memmem(value.at, value.length, text, strlen(text)) != 0;
}

/* As `EndpointKey.field` has it, without the word before it. */
static char *bare(span_t value) {
    const char *space = memchr(value.at, ' ', value.length);
    return strndup(space ? space + 1 : value.at, value.length - (space ? (size_t)(space + 1 - value.at) : 0));
}

int ON(http_filter_request_headers)(envoy_t envoy, void *of, bool is_end) {
    (void)is_end;
    attempt_t *attempt = of;
    span_t address = NATIVE;
    server_key_t key;
    bool is_known = attempt->towards->is_native ||
                    CALLBACK(http_filter_get_attribute_string)(envoy, ATTRIBUTE_UPSTREAM_ADDRESS,
                                                               &address);
    if (!is_known || !keys_find(attempt->towards->file, address, &key))
        return HEADERS_CONTINUE;
    if (!attempt->towards->is_native) {
        if (!remove_headers(envoy, REQUEST_HEADERS, is_callers, &key.header))
            return HEADERS_CONTINUE; /* nothing is sent of ours beside a caller's own */
        attempt->key = bare(key.value);
    }
    CALLBACK(http_set_header)(envoy, REQUEST_HEADERS, key.header, key.value);
    return HEADERS_CONTINUE;
}

static bool has(envoy_t envoy, int where, span_t key, const char *one, const char *other) {
    span_t value;
    size_t count;
    return CALLBACK(http_get_header)(envoy, where, key, &value, 0, &count) &&
           (same(value, span_of(one)) || same(value, span_of(other)));
}

/* UNAUTHENTICATED and PERMISSION_DENIED are of our key, and no caller's business. */
static void hide_denial(envoy_t envoy, int where) {
    if (!has(envoy, where, LITERAL("grpc-status"), "16", "7")) return;
    CALLBACK(http_set_header)(envoy, where, LITERAL("grpc-status"), UNAVAILABLE);
    CALLBACK(http_set_header)(envoy, where, LITERAL("grpc-message"),
                              LITERAL("the server refuses the key that it is sent"));
}

int ON(http_filter_response_headers)(envoy_t envoy, void *of, bool is_end) {
    (void)is_end;
    attempt_t *attempt = of;
    if (!attempt->key) return HEADERS_CONTINUE;
    remove_headers(envoy, RESPONSE_HEADERS, tells, attempt->key);
    hide_denial(envoy, RESPONSE_HEADERS);
    attempt->is_denied = has(envoy, RESPONSE_HEADERS, LITERAL(":status"), "401", "403");
    if (attempt->is_denied) {
        CALLBACK(http_set_header)(envoy, RESPONSE_HEADERS, LITERAL(":status"), BAD_GATEWAY);
        CALLBACK(http_set_header)(envoy, RESPONSE_HEADERS, LITERAL("www-authenticate"),
                                  (span_t){0, 0});
        CALLBACK(http_set_header)(envoy, RESPONSE_HEADERS, LITERAL("content-length"),
                                  (span_t){0, 0});
    }
    return HEADERS_CONTINUE;
}

int ON(http_filter_response_body)(envoy_t envoy, void *of, bool is_end) {
    (void)is_end;
    const attempt_t *attempt = of;
    if (attempt->is_denied)
        CALLBACK(http_drain_body)(envoy, RECEIVED_RESPONSE,
                                  CALLBACK(http_get_body_size)(envoy, RECEIVED_RESPONSE));
    return BODY_CONTINUE;
}

int ON(http_filter_response_trailers)(envoy_t envoy, void *of) {
    const attempt_t *attempt = of;
    if (attempt->key) {
        remove_headers(envoy, RESPONSE_TRAILERS, tells, attempt->key);
        hide_denial(envoy, RESPONSE_TRAILERS);
    }
    return TRAILERS_CONTINUE;
}

int ON(http_filter_request_body)(envoy_t envoy, void *of, bool is_end) {
    (void)envoy, (void)of, (void)is_end;
    return BODY_CONTINUE;
}

int ON(http_filter_request_trailers)(envoy_t envoy, void *of) {
    (void)envoy, (void)of;
    return TRAILERS_CONTINUE;
}

void ON(http_filter_stream_complete)(envoy_t envoy, void *of) { (void)envoy, (void)of; }

int ON(http_filter_local_reply)(envoy_t envoy, void *of, uint32_t code, span_t details,
                                bool is_reset) {
    (void)envoy, (void)of, (void)code, (void)details, (void)is_reset;
    return 0;
}

void ON(http_filter_http_callout_done)(envoy_t envoy, void *of, uint64_t id, int result,
                                       void *headers, size_t header_count, span_t *chunks,
                                       size_t count) {
    (void)envoy, (void)of, (void)id, (void)result, (void)headers, (void)header_count;
    (void)chunks, (void)count;
}
