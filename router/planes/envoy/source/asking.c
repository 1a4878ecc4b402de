/* Whose call it is: looked up, or asked of the gateway's process while the call waits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "request.h"

/* As router/planes/envoy/bootstrap.py calls it, and router/planes/envoy/callers.py answers. */
#define CLUSTER LITERAL("carbon_router_who")
#define PATH "/who"
#define ASK_MS 2000
#define MAX_ANSWER 512
#define NS_PER_S 1e9

static void deny(request_t *r, reason_t reason, const char *text) {
    /* Before anything else that may be wrong. */
    r->caller.refused = NOT_REFUSED;
    caller_refuse(&r->caller, reason, "%s", text);
}

static int64_t now_ns(void) { return (int64_t)(monotonic_s() * NS_PER_S); }

static void refuse_used(request_t *r, used_t used, double wait_s) {
    static const char *const kinds[] = {"", "requests", "tokens", "concurrency"};
    const use_t *use = r->use;
    r->caller.retry_ms = (uint32_t)fmin(ceil(wait_s * 1e3), 4e9);
    if (used == REQUESTS_USED)
        caller_refuse(&r->caller, RATE_LIMITED, "%g requests a second is this principal's limit",
                      use->per_s);
    else if (used == TOKENS_USED)
        caller_refuse(&r->caller, RATE_LIMITED, "%g tokens a minute is this principal's limit",
                      use->tokens_per_min);
    else
        caller_refuse(&r->caller, RATE_LIMITED, "%lld requests at once is this principal's limit",
                      (long long)use->most_at_once);
    snprintf(r->details, sizeof r->details, "%s", kinds[used]);
}

static void begin_use(request_t *r) {
    use_t *use = known_use(r->front->known, r->known.use);
    double wait_s = 0.0;
    if (!use || r->caller.refused) return;
    r->use = use;
    used_t used = use_begin(use, now_ns(), &wait_s);
    if (used == WITHIN) return;
    refuse_used(r, used, wait_s);
    r->use = 0;
}

bool reserve_tokens(request_t *r) {
    double wait_s = 0.0, answer = r->decision.asked.output_tokens;
    if (!r->use) return true;
    double tokens = r->decision.asked.input_tokens + fmin(answer, r->body.max_output_tokens);
    used_t used = use_reserve(r->use, tokens, now_ns(), &wait_s);
    if (used == WITHIN) {
        r->reserved_tokens = tokens;
        return true;
    }
    refuse_used(r, used, wait_s);
    r->decision.sight = 0;
    hold(r->front->shared, r->decision.seat, -1);
    r->decision.seat = -1;
    return false;
}

static bool find(request_t *r) {
    return known_find(r->front->known, r->digest, monotonic_s(), &r->caller, &r->known);
}

static void ask(request_t *r, const header_t *headers, size_t count, bool with_credentials) {
    char *question = malloc(MAX_ASKED);
    span_t peer = {0, 0};
    uint64_t id;
    char digits[2 * DIGEST_BYTES + 1];
    header_t head[] = {
        {":method", 7, "POST", 4},
        {":path", 5, PATH, sizeof PATH - 1},
        {":authority", 10, "carbon-router", 13},
        {"x-front", 7, r->front->is_http ? "openai" : "oip", r->front->is_http ? 6 : 3},
        {"x-digest", 8, digits, 2 * DIGEST_BYTES},
        {"x-peer", 6, "", 0},
    };
    for (int i = 0; i < DIGEST_BYTES; i++)
        snprintf(digits + 2 * i, sizeof digits - 2 * (size_t)i, "%02x", r->digest[i]);
    if (CALLBACK(http_filter_get_attribute_string)(r->envoy, ATTRIBUTE_SOURCE_ADDRESS, &peer))
        head[5].value = peer.at, head[5].value_length = peer.length;
    size_t length = question ? known_question(headers, count, with_credentials, question) : 0;
    if (length > MAX_ASKED)
        deny(r, UNAUTHENTICATED, "what says whose call this is is too long");
    else if (!question || CALLBACK(http_filter_http_callout)(
                              r->envoy, &id, CLUSTER, head, sizeof head / sizeof *head,
                              (span_t){question, length}, ASK_MS))
        deny(r, IDENTITY_UNAVAILABLE, "whose call this is cannot be asked just now");
    else
        r->is_asking = true;
    free(question);
}

void drop_secrets(request_t *r) {
    header_t headers[MAX_HEADERS];
    if (!(__atomic_load_n(&r->front->known->asks, __ATOMIC_ACQUIRE) & ASKS_WHO)) return;
    char name[256];
    size_t count = CALLBACK(http_get_headers_size)(r->envoy, REQUEST_HEADERS);
    if (count > MAX_HEADERS || !CALLBACK(http_get_headers)(r->envoy, REQUEST_HEADERS, headers))
        return;
    for (size_t i = 0; i < count;) {
        span_t key = {headers[i].key, headers[i].key_length};
        if (!known_is_secret(key, (span_t){headers[i].value, headers[i].value_length})) {
            i++;
            continue;
        }
        if (key.length >= sizeof name || (key.length && *key.at == ':')) {
            caller_refuse(&r->caller, INVALID_METADATA, "a key stands where none can be taken out");
            return;
        }
        keep(name, sizeof name, key);
        CALLBACK(http_set_header)(r->envoy, REQUEST_HEADERS, span_of(name), (span_t){0, 0});
        size_t left = CALLBACK(http_get_headers_size)(r->envoy, REQUEST_HEADERS);
        if (left >= count || !CALLBACK(http_get_headers)(r->envoy, REQUEST_HEADERS, headers))
            return;
        count = left;
    }
}

void identify(request_t *r, const header_t *headers, size_t count) {
    const known_file_t *file = r->front->known;
    uint64_t asks = __atomic_load_n(&file->asks, __ATOMIC_ACQUIRE);
    bool is_credential = false, of_strangers = asks & ASKS_WHO;
    if (!asks) return;
    known_digest(r->digest, &is_credential, headers, count, of_strangers);
    if (of_strangers && !is_credential)
        deny(r, UNAUTHENTICATED,
             "no credential: send `authorization: Bearer KEY`, or `x-api-key: KEY`");
    else if ((!of_strangers || known_holds(file, r->times.started_s)) && find(r))
        begin_use(r);
    else
        ask(r, headers, count, of_strangers); /* where nobody is, nobody is let in */
}

/* "REASON MS TEXT": why it is refused, and when to ask again; REASON 0: it is known now. */
static void take_answer(request_t *r, const span_t *chunks, size_t count) {
    char text[MAX_ANSWER], *at = text;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = chunks[i].length < sizeof text - 1 - used ? chunks[i].length
                                                             : sizeof text - 1 - used;
        if (n) memcpy(text + used, chunks[i].at, n);
        used += n;
    }
    text[used] = 0;
    unsigned long reason = used ? strtoul(at, &at, 10) : REASONS;
    if (at == text) reason = REASONS; /* no word of the gateway's */
    unsigned long retry_ms = strtoul(at, &at, 10);
    if (!reason) {
        if (find(r)) begin_use(r);
        else deny(r, IDENTITY_UNAVAILABLE, "whose call this is was known a moment ago: ask again");
    } else if (reason >= REASONS) {
        deny(r, IDENTITY_UNAVAILABLE, "whose call this is cannot be told just now");
    } else {
        deny(r, (reason_t)reason, *at == ' ' ? at + 1 : at);
        r->caller.retry_ms = retry_ms < UINT32_MAX ? (uint32_t)retry_ms : UINT32_MAX;
        r->is_told = true;
    }
}

void ON(http_filter_http_callout_done)(envoy_t envoy, void *request, uint64_t id, int result,
                                       void *headers, size_t header_count, span_t *chunks,
                                       size_t count) {
    (void)id, (void)headers, (void)header_count;
    request_t *r = request;
    if (!r->is_asking) return;
    r->is_asking = false;
    take_answer(r, chunks, result ? 0 : count);
    if (r->caller.refused) send_refusal(r);
    else if (r->has_all && whole_body(r)) CALLBACK(http_filter_continue_decoding)(envoy);
}
