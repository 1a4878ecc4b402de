/* One request between Envoy's events: its headers and body are read, it is decided and sent on; its
 * answer gets the receipt; when it ends, however it does, its place is given back and a record is
 * left. Envoy calls these functions, each request's on one worker. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "abi.h"
#include "receipt.h"

#define MAX_CHUNKS 256
#define MAX_HEADERS 512
#define OIP "/inference.GRPCInferenceService/"
/* As gRPC has a status that it does not know. */
#define GRPC_UNKNOWN 2
#define CHAT "/v1/chat/completions"
/* Where Envoy's override_host policy looks; as in router/planes/envoy/bootstrap.py. */
#define METADATA LITERAL("carbon_router")
#define METADATA_KEY LITERAL("endpoints")

typedef struct {
    shared_t *shared;
    bool is_http;
} front_t;

typedef struct {
    envoy_t envoy;
    const front_t *front;
    caller_t caller;
    decision_t decision;
    scanned_t body;
    times_t times;
    double payload_bytes, first_byte_s;
    int64_t first_seat;
    uint32_t model;
    int status, grpc_status;
    bool is_decided, is_whole, has_left;
    char request_id[MAX_NAME], details[MAX_NAME], report[MAX_REPORT], tail[MAX_TAIL];
    size_t tail_length;
} request_t;

const char *ON(program_init)(void) { return ABI_VERSION; }

/* ---- the request ---- */

void *ON(http_filter_config_new)(void *envoy, span_t name, span_t path) {
    (void)envoy;
    char file[1024];
    keep(file, sizeof file, path);
    front_t *front = calloc(1, sizeof *front);
    front->is_http = same(name, LITERAL("openai"));
    if (CALLBACK(is_validation_mode)()) return front;
    front->shared = shared_open(file);
    if (front->shared) return front;
    fprintf(stderr, "carbon-router: %s is no table of this module's version\n", file);
    free(front);
    return 0;
}

void ON(http_filter_config_destroy)(void *front) { free(front); }

void *ON(http_filter_new)(void *front, envoy_t envoy) {
    request_t *r = calloc(1, sizeof *r);
    r->envoy = envoy;
    r->front = front;
    r->times = (times_t){.started_s = monotonic_s(), .departed_s = NAN, .ended_s = NAN};
    r->first_byte_s = NAN;
    /* As of a request that says nothing. */
    r->caller.ttft_ms = r->caller.tpot_ms = r->caller.e2e_ms = INFINITY;
    r->body.input_tokens = NAN;
    r->body.max_output_tokens = INFINITY;
    r->grpc_status = -1;
    r->model = NO_MODEL;
    r->decision.seat = r->first_seat = -1;
    return r;
}

static void leave_record(request_t *r, uint32_t kind) {
    uint64_t number;
    record_t *record = shared_begin(r->front->shared, &number);
    const decision_t *d = &r->decision;
    record->kind = kind;
    record->model = r->model;
    record->rung = d->rung;
    record->reason = r->caller.refused;
    record->decision = d->decision;
    record->draw = d->draw;
    record->hour = d->hour;
    record->seat = d->seat;
    record->first_seat = r->first_seat;
    record->asked = d->asked;
    /* Of one refused before it was asked, too. */
    record->asked.ttft_ms = r->caller.ttft_ms;
    record->asked.tpot_ms = r->caller.tpot_ms;
    record->asked.e2e_ms = r->caller.e2e_ms;
    record->found = d->found;
    record->started_s = r->times.started_s;
    record->departed_s = r->times.departed_s;
    record->first_byte_s = r->first_byte_s;
    record->ended_s = r->times.ended_s;
    record->input_tokens = r->body.input_tokens;
    record->max_output_tokens = r->body.max_output_tokens;
    record->prompt_bytes = r->body.prompt_bytes;
    record->payload_bytes = r->payload_bytes;
    record->status = r->status;
    record->grpc_status = r->grpc_status;
    record->attempts = r->times.attempts;
    record->is_http = r->front->is_http;
    record->streams = r->body.streams;
    record->explicit_budget = r->caller.explicit_budget;
    record->cut_short = !r->is_whole;
    strcpy(record->tenant, r->caller.tenant);
    strcpy(record->origin, r->caller.origin);
    strcpy(record->request_id, r->request_id);
    strcpy(record->details, r->details);
    strcpy(record->report, r->report);
    record->tail_length = (uint32_t)r->tail_length;
    memcpy(record->tail, r->tail, r->tail_length);
    shared_finish(record, number);
}

/* A body that says it in the shape of the API. */
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

static void refuse(request_t *r) {
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

static void check_method(request_t *r, span_t path) {
    span_t asked = {path.at, path.length};
    const char *query = memchr(path.at, '?', path.length);
    if (query) asked.length = (size_t)(query - path.at);
    int shown = asked.length < 100 ? (int)asked.length : 100;
    if (r->front->is_http) {
        if (!same(asked, LITERAL(CHAT)))
            caller_refuse(&r->caller, UNKNOWN_METHOD,
                          "%.*s is not served by Envoy's plane; " CHAT " is", shown, asked.at);
        return;
    }
    if (same(asked, LITERAL(OIP "ModelInfer"))) return;
    bool is_known = asked.length > sizeof OIP - 1 && !memcmp(asked.at, OIP, sizeof OIP - 1);
    caller_refuse(&r->caller, is_known ? UNSUPPORTED_METHOD : UNKNOWN_METHOD,
                  "%.*s is not served by Envoy's plane; ModelInfer is", shown, asked.at);
}

int ON(http_filter_request_headers)(envoy_t envoy, void *request, bool is_end) {
    request_t *r = request;
    header_t headers[MAX_HEADERS];
    span_t path = {0, 0};
    const view_t *view = shared_view(r->front->shared);
    size_t count = CALLBACK(http_get_headers_size)(envoy, REQUEST_HEADERS);
    if (!view) {
        caller_refuse(&r->caller, NOT_STARTED, "the gateway has not written its table yet");
    } else if (count > MAX_HEADERS || !CALLBACK(http_get_headers)(envoy, REQUEST_HEADERS, headers)) {
        caller_refuse(&r->caller, INVALID_METADATA, "more than %d headers", MAX_HEADERS);
    } else {
        CALLBACK(http_get_header)(envoy, REQUEST_HEADERS, LITERAL(":path"), &path, 0, &count);
        count = CALLBACK(http_get_headers_size)(envoy, REQUEST_HEADERS);
        check_method(r, path);
        caller_read(&r->caller, headers, count, view->table->margin_ms,
                    view->table->max_budget_ms);
        if (!r->front->is_http && !r->caller.is_grpc)
            caller_refuse(&r->caller, MALFORMED, "this address speaks gRPC");
        if (is_end) caller_refuse(&r->caller, MALFORMED, "the request has no body");
    }
    if (r->caller.refused) refuse(r);
    return HEADERS_STOP; /* which model is asked is in the body */
}

static void send_to(request_t *r, const table_t *table) {
    const decision_t *d = &r->decision;
    const int64_t *seat_of = in_table(table, d->model->seats_at);
    const endpoint_t *endpoints = in_table(table, table->endpoints_at);
    char list[MAX_ATTEMPTS * 64], moves[16];
    size_t used = 0;
    int named = 0;
    for (int i = 0; i < d->tried; i++, named++) {
        span_t address = text_in(table, endpoints[seat_of[d->founds[i].row]].address);
        /* Whole or not at all: an address cut short could be another server's. */
        if (address.length + 1 > sizeof list - used) break;
        if (i) list[used++] = ',';
        memcpy(list + used, address.at, address.length);
        used += address.length;
    }
    CALLBACK(http_set_dynamic_metadata_string)(r->envoy, METADATA, METADATA_KEY,
                                               (span_t){list, used});
    snprintf(moves, sizeof moves, "%d", named > 1 ? named - 1 : 0);
    CALLBACK(http_set_header)(r->envoy, REQUEST_HEADERS, LITERAL("x-envoy-max-retries"),
                              span_of(moves));
}

static void scan(request_t *r, span_t body) {
    r->payload_bytes = (double)body.length;
    if (r->front->is_http) {
        scan_chat(&r->body, body);
    } else if (body.length < 5 || body.at[0]) {
        r->body.error = "one message is expected, not compressed";
    } else {
        const unsigned char *size = (const unsigned char *)body.at + 1;
        size_t length = (size_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
        if (length != body.length - 5) r->body.error = "one message is expected";
        else scan_oip(&r->body, (span_t){body.at + 5, length});
        r->payload_bytes = (double)length;
    }
    keep(r->request_id, sizeof r->request_id, r->body.request_id);
    if (r->body.error) caller_refuse(&r->caller, MALFORMED, "%s", r->body.error);
    else if (r->body.has_sequence)
        caller_refuse(&r->caller, UNSUPPORTED_METHOD,
                      "sequences (sequence_id) are not served by Envoy's plane");
}

/* All of the body is there: decide. False where it was refused. */
static bool depart(request_t *r, span_t body) {
    scan(r, body);
    /* The same table for all that follows: the copy is this worker's own until it asks again. */
    const view_t *view = shared_view(r->front->shared);
    bool is_sent = !r->caller.refused && decide(&r->decision, &r->caller, &r->body, r->payload_bytes,
                                                r->front->is_http, r->front->shared, view);
    const model_t *models = in_table(view->table, view->table->models_at);
    if (r->decision.model) r->model = (uint32_t)(r->decision.model - models);
    if (is_sent) {
        r->is_decided = true;
        r->first_seat = r->decision.seat;
        r->times.departed_s = monotonic_s();
        send_to(r, view->table);
        leave_record(r, DEPARTED);
        return true;
    }
    refuse(r);
    return false;
}

/* What is there of one side of the body, behind `at`; the bytes. */
static size_t body_part(envoy_t envoy, int which, char *at, size_t room) {
    size_t count = CALLBACK(http_get_body_chunks_size)(envoy, which), length = 0;
    /* A large body comes in thousands of pieces, too many for the stack. */
    span_t *chunks = count ? malloc(count * sizeof *chunks) : 0;
    if (chunks && CALLBACK(http_get_body_chunks)(envoy, which, chunks))
        for (size_t i = 0; i < count && chunks[i].length <= room - length; i++) {
            memcpy(at + length, chunks[i].at, chunks[i].length);
            length += chunks[i].length;
        }
    free(chunks);
    return length;
}

static bool whole_body(request_t *r) {
    span_t only;
    size_t buffered = CALLBACK(http_get_body_size)(r->envoy, BUFFERED_REQUEST);
    size_t received = CALLBACK(http_get_body_size)(r->envoy, RECEIVED_REQUEST);
    if (!buffered && CALLBACK(http_get_body_chunks_size)(r->envoy, RECEIVED_REQUEST) == 1 &&
        CALLBACK(http_get_body_chunks)(r->envoy, RECEIVED_REQUEST, &only))
        return depart(r, only);
    char *joined = malloc(buffered + received + 1);
    size_t length = 0;
    if (joined) {
        length = body_part(r->envoy, BUFFERED_REQUEST, joined, buffered + received);
        length += body_part(r->envoy, RECEIVED_REQUEST, joined + length,
                            buffered + received - length);
    }
    bool sent = depart(r, (span_t){joined ? joined : "", length});
    r->body.model = r->body.version = r->body.request_id = (span_t){0, 0};
    free(joined);
    return sent;
}

int ON(http_filter_request_body)(envoy_t envoy, void *request, bool is_end) {
    (void)envoy;
    request_t *r = request;
    if (r->caller.refused) return BODY_STOP_NO_BUFFER;
    if (r->is_decided) return BODY_CONTINUE;
    if (!is_end) return BODY_STOP_AND_BUFFER;
    return whole_body(r) ? BODY_CONTINUE : BODY_STOP_NO_BUFFER;
}

int ON(http_filter_request_trailers)(envoy_t envoy, void *request) {
    (void)envoy;
    request_t *r = request;
    if (r->caller.refused) return TRAILERS_STOP;
    if (r->is_decided) return TRAILERS_CONTINUE;
    return whole_body(r) ? TRAILERS_CONTINUE : TRAILERS_STOP;
}

/* ---- the answer ---- */

/* A table may have gone since it was decided: what the decision says of rows still holds, since
 * rows are of the fleet, which stays; but the model lies elsewhere. */
static const table_t *table_now(request_t *r) {
    const view_t *view = shared_view(r->front->shared);
    if (!view) return 0;
    r->decision.model = (const model_t *)in_table(view->table, view->table->models_at) + r->model;
    return view->table;
}

/* Place and receipt follow whoever served it. */
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
    for (int i = 0; i < d->tried; i++) {
        int64_t seat = seat_of[d->founds[i].row];
        if (!same(address, text_in(table, endpoints[seat].address))) continue;
        if (seat != d->seat) {
            hold(r->front->shared, d->seat, -1);
            hold(r->front->shared, seat, 1);
            d->seat = seat;
            d->found = d->founds[i];
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

static void read_grpc_status(request_t *r, int where) {
    span_t value;
    size_t count;
    if (CALLBACK(http_get_header)(r->envoy, where, LITERAL("grpc-status"), &value, 0, &count))
        r->grpc_status = number_of(value, GRPC_UNKNOWN);
}

static bool begins(span_t text, span_t with) {
    return text.length >= with.length && !memcmp(text.at, with.at, with.length);
}

/* Receipts of a router further up would pass for ours; a report of load is about the server, and a
 * balancer in front would take it for ours. */
static void drop_theirs(request_t *r, int where) {
    header_t headers[MAX_HEADERS];
    size_t count = CALLBACK(http_get_headers_size)(r->envoy, where);
    if (count > MAX_HEADERS || !CALLBACK(http_get_headers)(r->envoy, where, headers)) return;
    for (size_t i = 0; i < count;) {
        span_t key = {headers[i].key, headers[i].key_length};
        if (same(key, LITERAL("endpoint-load-metrics")))
            keep(r->report, sizeof r->report, (span_t){headers[i].value, headers[i].value_length});
        char name[256];
        if ((!begins(key, LITERAL("x-carbon")) && !begins(key, LITERAL("endpoint-load-metrics"))) ||
            key.length >= sizeof name) {
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
    span_t value;
    size_t count;
    char text[1024];
    if (r->decision.seat < 0) return HEADERS_CONTINUE;
    const table_t *table = table_now(r);
    follow(r, table);
    if (CALLBACK(http_get_header)(envoy, RESPONSE_HEADERS, LITERAL(":status"), &value, 0, &count))
        r->status = number_of(value, 0);
    drop_theirs(r, RESPONSE_HEADERS);
    if (r->front->is_http) {
        CALLBACK(http_set_header)(envoy, RESPONSE_HEADERS, LITERAL("x-carbon"),
                                  receipt_field(table, &r->decision, 0, text, sizeof text));
    } else if (is_end) {
        read_grpc_status(r, RESPONSE_HEADERS);
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
    size_t count = CALLBACK(http_get_body_chunks_size)(envoy, RECEIVED_RESPONSE);
    if (count && isnan(r->first_byte_s)) r->first_byte_s = monotonic_s();
    if (r->front->is_http && count && count <= MAX_CHUNKS) {
        span_t chunks[MAX_CHUNKS];
        if (CALLBACK(http_get_body_chunks)(envoy, RECEIVED_RESPONSE, chunks))
            for (size_t i = 0; i < count; i++) keep_tail(r, chunks[i]);
    }
    if (is_end) r->is_whole = true;
    return BODY_CONTINUE;
}

int ON(http_filter_response_trailers)(envoy_t envoy, void *request) {
    request_t *r = request;
    if (r->decision.seat < 0) return TRAILERS_CONTINUE;
    r->is_whole = true;
    if (r->front->is_http) return TRAILERS_CONTINUE;
    const table_t *table = table_now(r);
    read_grpc_status(r, RESPONSE_TRAILERS);
    drop_theirs(r, RESPONSE_TRAILERS);
    r->times.ended_s = monotonic_s();
    into_t into = {envoy, RESPONSE_TRAILERS};
    char text[1024];
    if (r->caller.wants_full || (table->full_receipts && !r->caller.wants_compact))
        receipt_whole(table, &r->decision, &r->times, put, &into);
    else
        put(&into, "x-carbon",
            receipt_field(table, &r->decision, &r->times, text, sizeof text));
    return TRAILERS_CONTINUE;
}

/* ---- the end ---- */

static void leave(request_t *r) {
    if (r->has_left || r->decision.seat < 0) return;
    r->has_left = true;
    hold(r->front->shared, r->decision.seat, -1);
    if (isnan(r->times.ended_s)) r->times.ended_s = monotonic_s();
    span_t details;
    if (!*r->details && CALLBACK(http_filter_get_attribute_string)(
                            r->envoy, ATTRIBUTE_RESPONSE_CODE_DETAILS, &details))
        keep(r->details, sizeof r->details, details);
    leave_record(r, ENDED);
}

int ON(http_filter_local_reply)(envoy_t envoy, void *request, uint32_t code, span_t details,
                                bool is_reset) {
    (void)envoy, (void)is_reset;
    request_t *r = request;
    r->status = (int)code;
    keep(r->details, sizeof r->details, details);
    return 0;
}

void ON(http_filter_stream_complete)(envoy_t envoy, void *request) {
    (void)envoy;
    leave(request);
}

void ON(http_filter_destroy)(void *request) {
    request_t *r = request;
    if (!r->has_left && r->decision.seat >= 0) {
        /* Envoy's side of it is gone: nothing is asked any more. */
        snprintf(r->details, sizeof r->details, "destroyed");
        leave(r);
    }
    free(r);
}

/* ---- what Envoy wants to find, and nobody here uses ---- */

void ON(http_filter_http_callout_done)(envoy_t e, void *r, uint64_t id, int result, void *h,
                                       size_t n, span_t *b, size_t k) {
    (void)e, (void)r, (void)id, (void)result, (void)h, (void)n, (void)b, (void)k;
}
void ON(http_filter_scheduled)(envoy_t e, void *r, uint64_t id) { (void)e, (void)r, (void)id; }
void ON(http_filter_downstream_above_write_buffer_high_watermark)(envoy_t e, void *r) {
    (void)e, (void)r;
}
void ON(http_filter_downstream_below_write_buffer_low_watermark)(envoy_t e, void *r) {
    (void)e, (void)r;
}
void ON(http_filter_http_stream_headers)(envoy_t e, void *r, uint64_t s, void *h, size_t n,
                                         bool end) {
    (void)e, (void)r, (void)s, (void)h, (void)n, (void)end;
}
void ON(http_filter_http_stream_data)(envoy_t e, void *r, uint64_t s, const span_t *d, size_t n,
                                      bool end) {
    (void)e, (void)r, (void)s, (void)d, (void)n, (void)end;
}
void ON(http_filter_http_stream_trailers)(envoy_t e, void *r, uint64_t s, void *h, size_t n) {
    (void)e, (void)r, (void)s, (void)h, (void)n;
}
void ON(http_filter_http_stream_complete)(envoy_t e, void *r, uint64_t s) {
    (void)e, (void)r, (void)s;
}
void ON(http_filter_http_stream_reset)(envoy_t e, void *r, uint64_t s, int why) {
    (void)e, (void)r, (void)s, (void)why;
}
