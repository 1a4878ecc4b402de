/* Refusals, in the shape of the API that was called. */
#include <stdio.h>

#include "request.h"

static int refusal_body(const request_t *r, const refusal_t *how, char *into, size_t room) {
    char message[256];
    size_t n = 0;
    for (const char *c = r->caller.error; *c && n < sizeof message - 1; c++)
        message[n++] = *c == '"' || *c == '\\' ? '\'' : *c;
    message[n] = 0;
    const char *kind = how->http == 403   ? "permission_error"
                       : how->http == 429 ? "rate_limit_error"
                       : how->http == 504 ? "timeout"
                       : how->http >= 500 ? "server_error"
                                          : "invalid_request_error";
    return snprintf(into, room,
                    "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                    message, kind, how->reason);
}

static void add(header_t *headers, size_t *n, const char *key, const char *value) {
    headers[(*n)++] = (header_t){key, strlen(key), value, strlen(value)};
}

/* As gRPC has grpc-message: clients decode what a percent sign is before (PROTOCOL-HTTP2). */
static void encode_percents(const char *text, char *into, size_t room) {
    size_t n = 0;
    for (const char *c = text; *c && n + 4 <= room; c++) {
        into[n++] = *c;
        if (*c == '%') into[n++] = '2', into[n++] = '5';
    }
    into[n] = 0;
}

void send_refusal(request_t *r) {
    const refusal_t *how = REFUSALS + r->caller.refused;
    r->is_decided = true;
    r->times.ended_s = monotonic_s();
    header_t headers[6];
    size_t n = 0;
    char code[16], body[640], message[3 * sizeof r->caller.error];
    add(headers, &n, "x-carbon-reason", how->reason);
    if (r->front->is_http) {
        add(headers, &n, "content-type", "application/json");
        if (how->again) add(headers, &n, "retry-after", "1");
        else if (how->http >= 403) add(headers, &n, "x-should-retry", "false");
        int length = refusal_body(r, how, body, sizeof body);
        r->status = how->http;
        leave_record(r, REFUSED);
        CALLBACK(http_send_response)(r->envoy, how->http, headers, n, (span_t){body, length},
                                     span_of(how->reason));
        return;
    }
    snprintf(code, sizeof code, "%d", how->grpc);
    add(headers, &n, "content-type", "application/grpc");
    add(headers, &n, "grpc-status", code);
    encode_percents(r->caller.error, message, sizeof message);
    add(headers, &n, "grpc-message", message);
    if (how->again) add(headers, &n, "grpc-retry-pushback-ms", "1000");
    r->grpc_status = how->grpc;
    leave_record(r, REFUSED);
    CALLBACK(http_send_response)(r->envoy, 200, headers, n, (span_t){0, 0}, span_of(how->reason));
}
