/* A request on its way in: its headers and body are read, it is decided and sent on. Envoy calls
 * these functions. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "request.h"

#define INFER "/inference.GRPCInferenceService/ModelInfer"
#define CHAT "/v1/chat/completions"
/* Where Envoy's override_host policy looks; as in router/planes/envoy/bootstrap.py. */
#define NATIVE LITERAL("x-native-plane")
#define METADATA LITERAL("carbon_router")
#define METADATA_KEY LITERAL("endpoints")
/* How often a request may move, where it does not say otherwise; likewise. */
#define ROUTE_RETRIES 2
#define RETRIES LITERAL("x-envoy-max-retries")

const char *ON(program_init)(void) { return ABI_VERSION; }

/* Lines, as texts one behind the other; 0 for none. */
static char *lines_of(span_t text) {
    char *lines = text.length ? malloc(text.length + 2) : 0;
    if (!lines) return 0;
    for (size_t i = 0; i < text.length; i++) lines[i] = text.at[i] == '\n' ? 0 : text.at[i];
    lines[text.length] = lines[text.length + 1] = 0;
    return lines;
}

static void free_front(front_t *front) {
    free(front->names);
    free(front);
}

/* `setting`: a line with the path of the table, then one for each of `front_t.names`. */
void *ON(http_filter_config_new)(void *envoy, span_t name, span_t setting) {
    (void)envoy;
    char file[1024];
    const char *stop = memchr(setting.at, '\n', setting.length);
    span_t path = {setting.at, stop ? (size_t)(stop - setting.at) : setting.length};
    keep(file, sizeof file, path);
    front_t *front = calloc(1, sizeof *front);
    if (!front) return 0;
    front->is_http = same(name, LITERAL("openai"));
    if (stop) front->names = lines_of((span_t){stop + 1, setting.length - path.length - 1});
    if (CALLBACK(is_validation_mode)()) return front;
    front->shared = shared_open(file);
    size_t length = strlen(file);
    snprintf(file + length, sizeof file - length, ".known");
    front->known = known_open(file);
    if (front->shared && front->known) return front;
    fprintf(stderr, "carbon-router: %s is no table of this module's version\n", file);
    free_front(front);
    return 0;
}

void ON(http_filter_config_destroy)(void *front) { free_front(front); }

void *ON(http_filter_new)(void *front, envoy_t envoy) {
    request_t *r = malloc(sizeof *r);
    if (!r) return 0;
    memset(r, 0, offsetof(request_t, request_id));
    *r->request_id = *r->details = *r->report = 0;
    r->envoy = envoy;
    r->front = front;
    r->times = (times_t){.started_s = monotonic_s(), .departed_s = NAN, .ended_s = NAN};
    r->first_byte_s = NAN;
    r->times.ruling = &r->ruling;
    memset(r->known.accounts, -1, sizeof r->known.accounts);
    r->caller.is_http = r->front->is_http;
    /* As of a request that says nothing. */
    r->caller.ttft_ms = r->caller.tpot_ms = r->caller.e2e_ms = INFINITY;
    r->body.input_tokens = NAN;
    r->body.max_output_tokens = INFINITY;
    r->grpc_status = -1;
    r->model = NO_MODEL;
    r->decision.seat = r->first_seat = -1;
    r->caller.jurisdictions = r->known.use = -1;
    return r;
}

static int64_t hosts_of(void *envoy) {
    size_t total = 0, healthy = 0, degraded = 0;
    if (!CALLBACK(http_get_cluster_host_count)(envoy, 0, &total, &healthy, &degraded)) return -1;
    return (int64_t)total;
}

const view_t *view_now(const request_t *r) {
    return shared_view(r->front->shared, r->front->is_http, hosts_of, r->envoy);
}

/* What routes go by. `is_marked`: says that it is the gateway's own process's, which is ours to say. */
typedef struct {
    span_t path, method, host;
    bool is_marked, says_retries; /* how often it may move, which is ours to say as well */
} line_t;

static span_t header(envoy_t envoy, span_t key) {
    span_t value = {0, 0};
    size_t count;
    if (!CALLBACK(http_get_header)(envoy, REQUEST_HEADERS, key, &value, 0, &count))
        return (span_t){0, 0};
    return value;
}

/* Looked for among all at once: to ask Envoy for one takes as long as to ask it for all. */
static line_t line_of(const header_t *headers, size_t count) {
    line_t line = {{0, 0}, {0, 0}, {0, 0}, false, false};
    for (size_t i = 0; i < count; i++) {
        span_t key = {headers[i].key, headers[i].key_length};
        span_t value = {headers[i].value, headers[i].value_length};
        if (same(key, LITERAL(":path"))) line.path = value;
        else if (same(key, LITERAL(":method"))) line.method = value;
        else if (same(key, LITERAL(":authority"))) line.host = value;
        else if (same(key, NATIVE)) line.is_marked = true;
        else if (same(key, RETRIES)) line.says_retries = true;
    }
    return line;
}

/* Whether the name that a call has for this host is one that nobody else could have. Any other is the
 * gateway's own process's to judge. */
static bool is_own_name(span_t host, const front_t *front) {
    uint64_t asks = __atomic_load_n(&front->known->asks, __ATOMIC_ACQUIRE);
    /* No page of a stranger's has a credential. */
    if (!front->names || asks & ASKS_WHO) return true;
    for (size_t i = host.length; i--;)
        if (host.at[i] == ':') {
            host.length = i;
            break;
        }
    for (const char *name = front->names; *name; name += strlen(name) + 1)
        if (same(host, span_of(name))) return true;
    return false;
}

/* As the routes of router/planes/envoy/bootstrap.py: all else is the gateway's own process's. */
static bool is_decided_here(span_t path, const front_t *front) {
    const char *query = path.length ? memchr(path.at, '?', path.length) : 0;
    if (query) path.length = (size_t)(query - path.at);
    return same(path, front->is_http ? LITERAL(CHAT) : LITERAL(INFER));
}

/* What its path does not tell: the gateway's own process serves it. */
static bool hand_over(request_t *r) {
    CALLBACK(http_set_header)(r->envoy, REQUEST_HEADERS, NATIVE, LITERAL("1"));
    CALLBACK(http_clear_route_cache)(r->envoy);
    if (r->use) use_undo(r->use); /* there it is counted */
    r->use = 0;
    r->is_decided = r->is_passed = true;
    r->caller.refused = NOT_REFUSED; /* if it is, there */
    return true;
}

int ON(http_filter_request_headers)(envoy_t envoy, void *request, bool is_end) {
    request_t *r = request;
    header_t headers[MAX_HEADERS];
    size_t count = CALLBACK(http_get_headers_size)(envoy, REQUEST_HEADERS);
    bool is_read =
        count <= MAX_HEADERS && CALLBACK(http_get_headers)(envoy, REQUEST_HEADERS, headers);
    line_t line = line_of(headers, is_read ? count : 0);
    if (!is_read) line.path = header(envoy, LITERAL(":path"));
    if (!is_decided_here(line.path, r->front)) {
        r->is_passed = r->is_decided = true;
        return HEADERS_CONTINUE;
    }
    r->says_retries = line.says_retries;
    if (line.is_marked) {
        /* Whoever calls has no say in that. */
        CALLBACK(http_set_header)(envoy, REQUEST_HEADERS, NATIVE, (span_t){0, 0});
        CALLBACK(http_clear_route_cache)(envoy);
        count = CALLBACK(http_get_headers_size)(envoy, REQUEST_HEADERS);
        is_read = CALLBACK(http_get_headers)(envoy, REQUEST_HEADERS, headers);
        line = line_of(headers, is_read ? count : 0);
    }
    const view_t *view = view_now(r);
    if (!view) {
        caller_refuse(&r->caller, NOT_STARTED, "the gateway has not written its table yet");
    } else if (!is_read) {
        caller_refuse(&r->caller, INVALID_METADATA, "more than %d headers", MAX_HEADERS);
    } else {
        /* Of one that is refused at once, too: records are read by it. */
        r->generation = view->table->generation;
        caller_read(&r->caller, headers, count, view->table->margin_ms,
                    view->table->max_budget_ms);
        if (r->front->is_http && (r->caller.wants_full || r->caller.wants_compact))
            r->caller.passes_on = true; /* these are of gRPC */
        if (r->caller.passes_on || !is_own_name(line.host, r->front) ||
            !same(line.method, LITERAL("POST"))) {
            hand_over(r);
            return HEADERS_CONTINUE;
        }
        if (!r->front->is_http && !r->caller.is_grpc)
            caller_refuse(&r->caller, MALFORMED, "this address speaks gRPC");
        if (is_end) caller_refuse(&r->caller, MALFORMED, "the request has no body");
        identify(r, headers, count);
    }
    if (r->caller.refused && !r->is_asking) send_refusal(r);
    return HEADERS_STOP; /* which model is asked is in the body */
}

static void send_to(request_t *r, const table_t *table) {
    const decision_t *d = &r->decision;
    const int64_t *seat_of = in_table(table, d->model->seats_at);
    const endpoint_t *endpoints = in_table(table, table->endpoints_at);
    char list[MAX_ATTEMPTS * 64];
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
    if (named - 1 == ROUTE_RETRIES && !r->says_retries) return;
    char moves = (char)('0' + (named > 1 ? named - 1 : 0));
    CALLBACK(http_set_header)(r->envoy, REQUEST_HEADERS, RETRIES, (span_t){&moves, 1});
}

static void scan(request_t *r, span_t body) {
    r->payload_bytes = (double)body.length;
    if (r->front->is_http) {
        scan_chat(&r->body, body);
    } else if (body.length < 5) {
        r->body.error = "one message is expected";
    } else if (body.at[0]) {
        r->is_passed = true; /* compressed */
    } else {
        const unsigned char *size = (const unsigned char *)body.at + 1;
        size_t length = (size_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
        if (length != body.length - 5) r->body.error = "one message is expected";
        else scan_oip(&r->body, (span_t){body.at + 5, length});
        r->payload_bytes = (double)length;
    }
    keep(r->request_id, sizeof r->request_id, r->body.request_id);
    if (r->body.error) caller_refuse(&r->caller, MALFORMED, "%s", r->body.error);
    r->is_passed |= r->body.passes_on && !r->body.error;
}

/* What the table says of the model, and of whoever asks for it. */
static bool is_passed_on(const request_t *r, const table_t *t) {
    const model_t *model = r->decision.model;
    return (model && model->is_passed) || (r->front->is_http && tells_energy(t, r->caller.tenant));
}

/* All of the body is there: decide. False where it was refused. */
static bool depart(request_t *r, span_t body) {
    scan(r, body);
    /* The same table for all that follows: the copy is this worker's own until it asks again. */
    const view_t *view = view_now(r);
    if (!view) caller_refuse(&r->caller, NOT_STARTED, "the gateway is writing its table");
    else r->decision.model = model_named(view->table, r->body.model, r->body.version);
    if (!r->caller.refused && (r->is_passed || is_passed_on(r, view->table))) return hand_over(r);
    drop_secrets(r);
    if (!r->caller.refused && !known_may_use(&r->known, r->body.model))
        caller_refuse(&r->caller, NOT_PERMITTED, "model: the credential is not for '%.*s'",
                      (int)(r->body.model.length < 64 ? r->body.model.length : 64),
                      r->body.model.at);
    bool is_sent = !r->caller.refused && decide(&r->decision, &r->caller, &r->body, r->payload_bytes,
                                                r->front->is_http, r->front->shared, view) &&
                   reserve_tokens(r) && claim_grams(r, view);
    /* Others have no columns. */
    if (r->decision.model && r->decision.model->n)
        r->model = (uint32_t)(r->decision.model -
                              (const model_t *)in_table(view->table, view->table->models_at));
    if (view) r->generation = view->table->generation;
    if (is_sent) {
        r->is_decided = true;
        copy_keep(r->copy = view->copy);
        r->first_seat = r->decision.seat;
        r->times.departed_s = r->decision.asked.now_s; /* microseconds ago */
        send_to(r, view->table);
        leave_record(r, DEPARTED);
        return true;
    }
    send_refusal(r);
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

bool whole_body(request_t *r) {
    span_t only;
    if (!r->is_buffered && CALLBACK(http_get_body_chunks_size)(r->envoy, RECEIVED_REQUEST) == 1 &&
        CALLBACK(http_get_body_chunks)(r->envoy, RECEIVED_REQUEST, &only))
        return depart(r, only);
    size_t buffered = CALLBACK(http_get_body_size)(r->envoy, BUFFERED_REQUEST);
    size_t received = CALLBACK(http_get_body_size)(r->envoy, RECEIVED_REQUEST);
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
    if (r->is_asking) {
        r->has_all = is_end;
        r->is_buffered = true;
        return BODY_STOP_AND_BUFFER;
    }
    if (r->caller.refused) return BODY_STOP_NO_BUFFER;
    if (r->is_decided) return BODY_CONTINUE;
    if (!is_end) {
        r->is_buffered = true;
        return BODY_STOP_AND_BUFFER;
    }
    return whole_body(r) ? BODY_CONTINUE : BODY_STOP_NO_BUFFER;
}

int ON(http_filter_request_trailers)(envoy_t envoy, void *request) {
    (void)envoy;
    request_t *r = request;
    if (r->is_asking) r->has_all = true;
    if (r->is_asking || r->caller.refused) return TRAILERS_STOP;
    if (r->is_decided) return TRAILERS_CONTINUE;
    return whole_body(r) ? TRAILERS_CONTINUE : TRAILERS_STOP;
}
