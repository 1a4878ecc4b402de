/* A server's answer on its way to the caller: whose it is, what it says of itself, its receipt. */
#include <math.h>
#include <stdio.h>

#include "request.h"

#define MAX_CHUNKS 256
/* As gRPC has a status that it does not know. */
#define GRPC_UNKNOWN 2

/* The newest of the generation that it was decided by, where rows mean what the decision says of
 * them; but the model lies elsewhere. */
static const table_t *table_now(request_t *r) {
    const view_t *view = view_now(r);
    if (view) r->decision.written_s = view->table->written_s;
    const table_t *table = r->copy->table;
    r->decision.model = (const model_t *)in_table(table, table->models_at) + r->model;
    return table;
}

/* EnvoyHost and receipt follow whoever served it. */
static void follow(request_t *r, const table_t *table) {
    span_t address;
    uint64_t attempts = 1;
    decision_t *d = &r->decision;
    if (CALLBACK(http_filter_get_attribute_int)(r->envoy, ATTRIBUTE_UPSTREAM_ATTEMPTS, &attempts))
        r->times.attempts = (uint32_t)attempts;
    if (!CALLBACK(http_filter_get_attribute_string)(r->envoy, ATTRIBUTE_UPSTREAM_ADDRESS, &address))
        return;
    const int64_t *seat_of = in_table(table, d->model->seats_at);
    const endpoint_t *endpoints = in_table(table, table->endpoints_at);
    /* Of several at one address it is the one whose turn it was. */
    int turn = attempts > 0 && attempts <= (uint64_t)d->tried ? (int)attempts - 1 : 0;
    for (int i = 0; i < d->tried; i++) {
        int64_t row = d->founds[(turn + i) % d->tried].row, seat = seat_of[row];
        if (!same(address, text_in(table, endpoints[seat].address))) continue;
        if (seat != d->seat) {
            hold(r->front->shared, d->seat, -1);
            hold(r->front->shared, seat, 1);
            d->seat = seat;
            d->found = d->founds[(turn + i) % d->tried];
        }
        return;
    }
}

/* `otherwise` for what is no number of at most four digits. */
static int number_of(span_t text, int otherwise) {
    int value = 0;
    if (!text.length || text.length > 4) return otherwise;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') return otherwise;
        value = value * 10 + (text.at[i] - '0');
    }
    return value;
}

static bool begins(span_t text, span_t with) {
    return text.length >= with.length && !memcmp(text.at, with.at, with.length);
}

/* Names of ours in any spelling, as router/reserved_names.py: many take `x_carbon` for the same. */
static bool is_reserved(span_t key) {
    static const char name[] = "x-carbon";
    const size_t length = sizeof name - 1;
    if (key.length < length || *key.at != 'x') return false;
    for (size_t i = 0; i < key.length && i <= length; i++) {
        char c = key.at[i] == '_' || key.at[i] == '.' ? '-' : key.at[i];
        if (c != (i < length ? name[i] : '-')) return false;
    }
    return true;
}

/* When to ask again is said of a gateway that may have others, which the server knows nothing of. */
static bool is_theirs(span_t key) {
    return is_reserved(key) || begins(key, LITERAL("endpoint-load-metrics")) ||
           same(key, LITERAL("grpc-retry-pushback-ms"));
}

/* What an answer says of itself. `is_last`: of headers with nothing behind them, and trailers. */
static void read_header(request_t *r, span_t key, span_t value, bool is_last) {
    if (same(key, LITERAL(":status"))) r->status = number_of(value, 0);
    else if (is_last && same(key, LITERAL("grpc-status")))
        r->grpc_status = number_of(value, GRPC_UNKNOWN);
    else if (same(key, LITERAL("endpoint-load-metrics"))) keep(r->report, sizeof r->report, value);
}

/* Receipts of a router further up would pass for ours; a report of load is about the server, and a
 * balancer in front would take it for ours: these are taken out. Of Envoy's own words nothing is. */
static void take_headers(request_t *r, int where, bool is_last) {
    header_t headers[MAX_HEADERS];
    size_t count = CALLBACK(http_get_headers_size)(r->envoy, where);
    if (count > MAX_HEADERS || !CALLBACK(http_get_headers)(r->envoy, where, headers)) return;
    for (size_t i = 0; i < count;) {
        span_t key = {headers[i].key, headers[i].key_length};
        read_header(r, key, (span_t){headers[i].value, headers[i].value_length}, is_last);
        char name[256];
        if (r->is_local || !is_theirs(key) || key.length >= sizeof name) {
            i++;
            continue;
        }
        keep(name, sizeof name, key);
        CALLBACK(http_set_header)(r->envoy, where, span_of(name), (span_t){0, 0});
        /* All of that name are gone, and with them what `headers` says of those behind this one. */
        size_t left = CALLBACK(http_get_headers_size)(r->envoy, where);
        if (left >= count || !CALLBACK(http_get_headers)(r->envoy, where, headers)) return;
        count = left;
    }
}

typedef struct {
    envoy_t envoy;
    int where;
} into_t;

static void put(void *into, const char *key, span_t value) {
    const into_t *to = into;
    CALLBACK(http_set_header)(to->envoy, to->where, span_of(key), value);
}

int ON(http_filter_response_headers)(envoy_t envoy, void *request, bool is_end) {
    request_t *r = request;
    char text[1024];
    if (r->decision.seat < 0) return HEADERS_CONTINUE;
    const table_t *table = table_now(r);
    follow(r, table);
    take_headers(r, RESPONSE_HEADERS, is_end && !r->front->is_http);
    if (r->front->is_http) {
        into_t into = {envoy, RESPONSE_HEADERS};
        put(&into, "x-carbon",
            receipt_field(table, &r->decision, &r->times, false, monotonic_s(), text, sizeof text));
    } else if (is_end) {
        into_t into = {envoy, RESPONSE_HEADERS};
        put(&into, "x-carbon-decision-id",
            decision_id(table, &r->decision, text, sizeof text));
        snprintf(text, sizeof text, "%u", r->times.attempts);
        put(&into, "x-carbon-attempts", span_of(text));
    }
    if (is_end) r->is_whole = true;
    return HEADERS_CONTINUE;
}

static void keep_tail(request_t *r, span_t chunk) {
    if (chunk.length >= MAX_TAIL) {
        memcpy(r->tail, chunk.at + chunk.length - MAX_TAIL, MAX_TAIL);
        r->tail_length = MAX_TAIL;
        return;
    }
    size_t kept = r->tail_length;
    if (kept + chunk.length > MAX_TAIL) {
        kept = MAX_TAIL - chunk.length;
        memmove(r->tail, r->tail + r->tail_length - kept, kept);
    }
    memcpy(r->tail + kept, chunk.at, chunk.length);
    r->tail_length = kept + chunk.length;
}

int ON(http_filter_response_body)(envoy_t envoy, void *request, bool is_end) {
    request_t *r = request;
    if (r->decision.seat < 0) return BODY_CONTINUE;
    if (is_end) r->is_whole = true;
    bool is_first = isnan(r->first_byte_s);
    if (!is_first && !r->front->is_http) return BODY_CONTINUE;
    size_t count = CALLBACK(http_get_body_chunks_size)(envoy, RECEIVED_RESPONSE);
    if (count && is_first) r->first_byte_s = monotonic_s();
    if (r->front->is_http && count && count <= MAX_CHUNKS) {
        span_t chunks[MAX_CHUNKS];
        if (CALLBACK(http_get_body_chunks)(envoy, RECEIVED_RESPONSE, chunks))
            for (size_t i = 0; i < count; i++) keep_tail(r, chunks[i]);
    }
    return BODY_CONTINUE;
}

int ON(http_filter_response_trailers)(envoy_t envoy, void *request) {
    request_t *r = request;
    if (r->decision.seat < 0) return TRAILERS_CONTINUE;
    r->is_whole = true;
    if (r->front->is_http) return TRAILERS_CONTINUE;
    const table_t *table = table_now(r);
    take_headers(r, RESPONSE_TRAILERS, true);
    r->times.ended_s = monotonic_s();
    into_t into = {envoy, RESPONSE_TRAILERS};
    char text[1024];
    if (r->caller.wants_full || (table->full_receipts && !r->caller.wants_compact))
        receipt_whole(table, &r->decision, &r->times, put, &into);
    else
        put(&into, "x-carbon",
            receipt_field(table, &r->decision, &r->times, true, r->times.ended_s, text,
                          sizeof text));
    return TRAILERS_CONTINUE;
}
