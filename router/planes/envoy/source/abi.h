/* The part of Envoy 1.40's interface for dynamic modules that is used here, written from the
 * documentation of its abi.h. Callbacks are Envoy's; functions `envoy_dynamic_module_on_*` ours. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What `on_program_init` answers; Envoy refuses to load a module of another one. */
#define ABI_VERSION "v0.2.0"

typedef void *envoy_t; /* Envoy's side of one request */
typedef struct {
    const char *at;
    size_t length;
} span_t; /* both envoy_buffer and module_buffer */
typedef struct {
    const char *key;
    size_t key_length;
    const char *value;
    size_t value_length;
} header_t; /* module_http_header */

enum { REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS };
enum { RECEIVED_REQUEST, BUFFERED_REQUEST, RECEIVED_RESPONSE, BUFFERED_RESPONSE };
enum { HEADERS_CONTINUE, HEADERS_STOP };
enum { BODY_CONTINUE, BODY_STOP_AND_BUFFER, BODY_STOP_AND_WATERMARK, BODY_STOP_NO_BUFFER };
enum { TRAILERS_CONTINUE, TRAILERS_STOP };
enum {
    ATTRIBUTE_RESPONSE_CODE_DETAILS = 16,
    ATTRIBUTE_SOURCE_ADDRESS = 24,
    ATTRIBUTE_UPSTREAM_ADDRESS = 41,
    ATTRIBUTE_UPSTREAM_ATTEMPTS = 53
};

#define CALLBACK(name) envoy_dynamic_module_callback_##name
#define ON(name) __attribute__((visibility("default"))) envoy_dynamic_module_on_##name

extern bool CALLBACK(http_get_header)(envoy_t, int where, span_t key, span_t *value, size_t index,
                                      size_t *count);
extern size_t CALLBACK(http_get_headers_size)(envoy_t, int where);
extern bool CALLBACK(http_get_headers)(envoy_t, int where, header_t *all);
/* After a change of what its route is chosen by. */
extern void CALLBACK(http_clear_route_cache)(envoy_t);
/* With a null value: removes it. */
extern bool CALLBACK(http_set_header)(envoy_t, int where, span_t key, span_t value);
extern void CALLBACK(http_set_dynamic_metadata_string)(envoy_t, span_t space, span_t key,
                                                       span_t value);
extern size_t CALLBACK(http_get_body_chunks_size)(envoy_t, int which);
extern bool CALLBACK(http_get_body_chunks)(envoy_t, int which, span_t *chunks);
extern size_t CALLBACK(http_get_body_size)(envoy_t, int which);
/* Takes so many bytes out of its beginning. */
extern bool CALLBACK(http_drain_body)(envoy_t, int which, size_t bytes);
extern void CALLBACK(http_send_response)(envoy_t, uint32_t status, header_t *headers, size_t count,
                                         span_t body, span_t details);
extern bool CALLBACK(http_filter_get_attribute_string)(envoy_t, int attribute, span_t *value);
extern bool CALLBACK(http_filter_get_attribute_int)(envoy_t, int attribute, uint64_t *value);
/* Asks another server beside; 0 where it is on its way. */
extern int CALLBACK(http_filter_http_callout)(envoy_t, uint64_t *id, span_t cluster,
                                              header_t *headers, size_t count, span_t body,
                                              uint64_t timeout_ms);
extern void CALLBACK(http_filter_continue_decoding)(envoy_t);
/* Of the route's cluster, as this worker has it. */
extern bool CALLBACK(http_get_cluster_host_count)(envoy_t, uint32_t priority, size_t *total,
                                                  size_t *healthy, size_t *degraded);
extern bool CALLBACK(is_validation_mode)(void);
