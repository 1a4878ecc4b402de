/* Refusals, in the shape of the API that was called. */
#include <stdio.h>

#include "request.h"

static int refusal_body(const request_t *r, const refusal_t *how, char *into, size_t room) {
    char message[256];
    size_t n = 0;
    for (const char *c = r->caller.error; *c && n < sizeof message - 1; c++)
        message[n++] = *c == '"' || *c == '\\' ? '\'' : *c;
    message[n] = 0;
    /* As OpenAI calls them. */
    const char *code = how->http == 401                   ? "invalid_api_key"
                       : r->caller.refused == RESIDENCY ? "data_residency_mismatch"
                                                          : how->reason;
    const char *kind = how->http == 401   ? "authentication_error"
                       : how->http == 403   ? "permission_error"
                       : how->http == 429 ? "rate_limit_error"
                       : how->http == 504 ? "timeout"
                       : how->http >= 500 ? "server_error"
                                          : "invalid_request_error";
    return snprintf(into, room,
                    "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                    message, kind, code);
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
    header_t headers[8];
    size_t n = 0;
    char code[16], seconds[16], milliseconds[16], body[640], message[3 * sizeof r->caller.error];
    uint32_t retry_ms = r->caller.retry_ms ? r->caller.retry_ms : 1000;
    snprintf(seconds, sizeof seconds, "%u", retry_ms / 1000 + (retry_ms % 1000 ? 1 : 0));
    snprintf(milliseconds, sizeof milliseconds, "%u", retry_ms);
    add(headers, &n, "x-carbon-reason", how->reason);
    if (r->front->is_http) {
        add(headers, &n, "content-type", "application/json");
        if (how->http == 401) add(headers, &n, "www-authenticate", "Bearer realm=\"carbon-router\"");
        if (how->again) add(headers, &n, "retry-after", seconds);
        if (how->again) add(headers, &n, "retry-after-ms", milliseconds);
        /* SDKs ask again after seconds; this is until the day ends. */
        if (r->caller.refused == CARBON_BUDGET) add(headers, &n, "x-should-retry", "false");
        if (!how->again && how->http >= 403 && r->caller.refused != NOT_PERMITTED)
            add(headers, &n, "x-should-retry", "false");
        int length = refusal_body(r, how, body, sizeof body);
        r->status = how->http;
        if (!r->is_told) leave_record(r, REFUSED);
        CALLBACK(http_send_response)(r->envoy, how->http, headers, n, (span_t){body, length},
                                     span_of(how->reason));
        return;
    }
    snprintf(code, sizeof code, "%d", how->grpc);
    add(headers, &n, "content-type", "application/grpc");
    add(headers, &n, "grpc-status", code);
    encode_percents(r->caller.error, message, sizeof message);
    add(headers, &n, "grpc-message", message);
    if (r->caller.refused == CARBON_BUDGET) {
        add(headers, &n, "grpc-retry-pushback-ms", "-1");
        add(headers, &n, "x-carbon-retry-after-s", seconds);
    } else if (how->again) {
        add(headers, &n, "grpc-retry-pushback-ms", milliseconds);
    }
    r->grpc_status = how->grpc;
    if (!r->is_told) leave_record(r, REFUSED);
    CALLBACK(http_send_response)(r->envoy, 200, headers, n, (span_t){0, 0}, span_of(how->reason));
}
