/* The headers of a call that routing reads: as router/gateway/caller.py. */
#pragma once
#include "shared.h"
#include "text.h"

/* Why a request is refused: index of REFUSALS. */
typedef enum {
    NOT_REFUSED,
    MALFORMED,
    INVALID_METADATA,
    UNKNOWN_MODEL,
    SHED,
    NOTHING_FEASIBLE,
    RESIDENCY,
    POLICY_EXCLUDES,
    BUDGET_IMPOSSIBLE,
    NOT_STARTED,
    UNAUTHENTICATED,
    NOT_PERMITTED,
    IDENTITY_UNAVAILABLE,
    RATE_LIMITED,
    CARBON_BUDGET,
    CARBON_BUDGET_HELD,
    REASONS
} reason_t;

typedef struct {
    const char *reason;
    int grpc, http;
    bool again; /* worth asking again soon */
} refusal_t;
extern const refusal_t REFUSALS[REASONS];

typedef struct {
    double ttft_ms, tpot_ms, e2e_ms;
    bool explicit_budget, is_grpc, wants_full, wants_compact; /* receipts */
    bool is_http;   /* as it came, before anything is read: deadlines are of gRPC */
    bool passes_on; /* what it says only the gateway's own process understands, or refuses */
    int64_t jurisdictions; /* where its principal's requests may run */
    uint32_t retry_ms;     /* when to ask again, where that is known; 0: in a second */
    char origin[MAX_NAME], tenant[MAX_NAME], residency[MAX_RESIDENCY];
    reason_t refused;
    char error[256]; /* for the caller, where it is refused */
} caller_t;

/* `margin_ms`: kept of a deadline; `max_budget_ms`: the greatest budget. */
void caller_read(caller_t *caller, const header_t *headers, size_t count, double margin_ms,
                 double max_budget_ms);
void caller_refuse(caller_t *caller, reason_t reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
