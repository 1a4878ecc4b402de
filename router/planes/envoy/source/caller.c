#include "caller.h"
#include "misspelt.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define MAX_NUMBER 32
#define MAX_TIMEOUT_DIGITS 8

/* grpc and http as router/gateway/oip/status.py and router/gateway/openai/refusal.py have them. */
const refusal_t REFUSALS[REASONS] = {
    [NOT_REFUSED] = {"", 0, 200, false},
    [MALFORMED] = {"request_malformed", 3, 400, false},
    [INVALID_METADATA] = {"metadata_invalid", 3, 400, false},
    [UNKNOWN_MODEL] = {"model_unknown", 5, 404, false},
    [SHED] = {"shed", 8, 429, true},
    [NOTHING_FEASIBLE] = {"no_feasible_endpoint", 14, 503, true},
    [RESIDENCY] = {"residency_excluded", 9, 400, false},
    [POLICY_EXCLUDES] = {"policy_excludes_all", 9, 403, false},
    [BUDGET_IMPOSSIBLE] = {"budget_impossible", 4, 504, false},
    [NOT_STARTED] = {"no_feasible_endpoint", 14, 503, true},
    [UNAUTHENTICATED] = {"unauthenticated", 16, 401, false},
    [NOT_PERMITTED] = {"not_permitted", 7, 403, false},
    [IDENTITY_UNAVAILABLE] = {"identity_unavailable", 14, 503, true},
    [RATE_LIMITED] = {"rate_limited", 8, 429, true},
    [CARBON_BUDGET] = {"carbon_budget_exhausted", 8, 429, true},
    [CARBON_BUDGET_HELD] = {"carbon_budget_held", 8, 429, true},
};

void caller_refuse(caller_t *caller, reason_t reason, const char *format, ...) {
    if (caller->refused) return; /* the first says it */
    caller->refused = reason;
    va_list rest;
    va_start(rest, format);
    vsnprintf(caller->error, sizeof caller->error, format, rest);
    va_end(rest);
    /* It goes into a header. */
    for (char *c = caller->error; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
}

static span_t stripped(span_t text) {
    while (text.length && *text.at == ' ') text.at++, text.length--;
    while (text.length && text.at[text.length - 1] == ' ') text.length--;
    return text;
}

static bool is_plain(span_t text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.at[i] < ' ' || text.at[i] > '~') return false;
    return true;
}

static void read_budget(caller_t *caller, const char *key, span_t text, double *budget_ms,
                        double max_ms) {
    char digits[MAX_NUMBER + 1], *end = digits;
    double value = NAN;
    if (text.length && text.length <= MAX_NUMBER) {
        keep(digits, sizeof digits, text);
        /* Decimal alone: neither hexadecimal nor infinity. */
        if (strspn(digits, "0123456789+-.eE") == text.length) value = strtod(digits, &end);
    }
    if (*end || !(value > 0.0 && value <= max_ms)) {
        caller_refuse(caller, INVALID_METADATA,
                      "%s: give a number of milliseconds above 0 and up to %.0f", key, max_ms);
        return;
    }
    caller->explicit_budget = true;
    if (value < *budget_ms) *budget_ms = value;
}

static void read_name(caller_t *caller, const char *key, span_t text, char *into, size_t room) {
    if (text.length >= room) {
        caller->passes_on = true; /* there is one character more room natively */
    } else if (*into && !same(text, span_of(into))) {
        caller_refuse(caller, INVALID_METADATA, "%s: given twice, with different values", key);
    } else {
        keep(into, room, text);
    }
}

/* gRPC's own, such as 250m: up to eight digits and a unit (PROTOCOL-HTTP2: Timeout). */
static void read_timeout(caller_t *caller, span_t text, double margin_ms) {
    static const char units[] = "HMSmun";
    static const double in_ms[] = {3.6e6, 6e4, 1e3, 1.0, 1e-3, 1e-6};
    char digits[MAX_TIMEOUT_DIGITS + 1];
    if (text.length < 2 || text.length > sizeof digits) return;
    const char *unit = strchr(units, text.at[text.length - 1]);
    keep(digits, sizeof digits, (span_t){text.at, text.length - 1});
    if (!unit || !*unit || strspn(digits, "0123456789") != text.length - 1) return;
    double left_ms = strtod(digits, 0) * in_ms[unit - units] - margin_ms;
    caller->explicit_budget = true;
    if (left_ms < caller->e2e_ms) caller->e2e_ms = left_ms > 0.0 ? left_ms : 0.0;
}

/* How the receipt is told. */
static void read_receipt(caller_t *caller, span_t form) {
    bool full = form.length == 4 && !strncasecmp(form.at, "full", 4);
    bool compact = form.length == 7 && !strncasecmp(form.at, "compact", 7);
    if (!full && !compact)
        caller_refuse(caller, INVALID_METADATA, "x-carbon-receipt: say full or compact");
    else if ((full && caller->wants_compact) || (compact && caller->wants_full))
        caller_refuse(caller, INVALID_METADATA,
                      "x-carbon-receipt: given twice, with different values");
    caller->wants_full |= full;
    caller->wants_compact |= compact;
}

/* What is understood here of other headers is that they are not: to wait, a variant's quality, joules
 * in the answer, a compressed body, and what is nearly one of ours. */
static bool passes_on(span_t key, span_t value) {
    if (same(key, LITERAL("content-encoding"))) return !same(value, LITERAL("identity"));
    return same(key, LITERAL("x-deadline-s")) || same(key, LITERAL("x-quality-floor")) ||
           same(key, LITERAL("x-energy-data")) || is_misspelt(key);
}

void caller_read(caller_t *caller, const header_t *headers, size_t count, double margin_ms,
                 double max_ms) {
    caller->ttft_ms = caller->tpot_ms = caller->e2e_ms = INFINITY;
    for (size_t i = 0; i < count; i++) {
        span_t key = {headers[i].key, headers[i].key_length};
        span_t value = {headers[i].value, headers[i].value_length};
        if (!caller->is_http && same(key, LITERAL("grpc-timeout"))) read_timeout(caller, value, margin_ms);
        if (same(key, LITERAL("content-type")))
            caller->is_grpc = value.length >= 16 && !memcmp(value.at, "application/grpc", 16);
        span_t text = stripped(value);
        bool ours = true;
        if (same(key, LITERAL("x-carbon-receipt")))
            read_receipt(caller, text), ours = false;
        else if (same(key, LITERAL("x-ttft-budget-ms")))
            read_budget(caller, "x-ttft-budget-ms", text, &caller->ttft_ms, max_ms);
        else if (same(key, LITERAL("x-tpot-budget-ms")))
            read_budget(caller, "x-tpot-budget-ms", text, &caller->tpot_ms, max_ms);
        else if (same(key, LITERAL("x-latency-budget-ms")))
            read_budget(caller, "x-latency-budget-ms", text, &caller->e2e_ms, max_ms);
        else if (same(key, LITERAL("x-origin")))
            read_name(caller, "x-origin", text, caller->origin, sizeof caller->origin);
        else if (same(key, LITERAL("x-tenant")))
            read_name(caller, "x-tenant", text, caller->tenant, sizeof caller->tenant);
        else if (same(key, LITERAL("x-residency"))) {
            /* Those that both lists name: of such the gateway's own process makes one. */
            caller->passes_on |= *caller->residency && !same(text, span_of(caller->residency));
            read_name(caller, "x-residency", text, caller->residency, sizeof caller->residency);
            if (strspn(caller->residency, ", ") == strlen(caller->residency))
                caller_refuse(caller, INVALID_METADATA,
                              "x-residency: names no jurisdiction; leave it out for any");
        } else {
            ours = false;
            caller->passes_on |= passes_on(key, value);
        }
        if (ours && !is_plain(value))
            caller_refuse(caller, INVALID_METADATA, "%.*s: use printable ASCII", (int)key.length,
                          key.at);
    }
}
