/* What the gateway's process and Envoy share: one file that both have mapped.
 *
 * The gateway writes tables, whole, into two slots by turns; Envoy's workers keep count of their
 * requests and leave records of them. Nobody waits for anybody: x86-64 shows writes in their order,
 * and what was changed while it was read is told by its sequence number. The same layout is in
 * router/planes/envoy/layout.py. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel.h"

#define SHARED_MAGIC 0x3252434e4f425243ull
#define MAX_RUNGS 4
#define MAX_NAME 128
#define MAX_TAIL 1024
#define MAX_REPORT 512
#define MAX_RESIDENCY 512
#define NO_MODEL UINT32_MAX
#define MAX_BUDGETS 32
#define MAX_GREENS 2

/* Bytes of the table that it is in. */
typedef struct {
    uint32_t at, length;
} text_t;

typedef struct {
    uint64_t magic, records, record_bytes, records_at, seats, seats_at, slot_bytes, slots_at[2];
    uint64_t newest;  /* number of the last whole table, which is in slot `newest & 1`; 0: none */
    uint64_t head;    /* records ever begun */
    uint64_t decided; /* decisions ever taken */
    uint64_t taken;   /* records that the gateway, whichever process, has taken in */
    uint64_t used;    /* of the seats: so many ever had an endpoint */
    uint64_t sights, sight_bytes, sights_at, sight_head; /* of `sight_t`, as of records */
} shared_t;

/* One endpoint, on a cache line of its own. */
typedef struct {
    int64_t in_flight, turns;
    uint64_t unused[6];
} seat_t;

typedef struct {
    text_t name;
    int64_t value;
} named_t;

/* `intensity`: what the receipt says of the grid, as text; `g_per_kwh` NaN where nobody knows. */
typedef struct {
    text_t name, grid_zone, flags, intensity[6], shown_g;
    double pue, g_per_kwh, observed_at;
} region_t;

/* A seat's, and nameless where that has none. One that is no candidate of any model leaves: it is
 * sent nothing more, and what it has ends there. */
typedef struct {
    text_t name, address;
    uint32_t region, on_trial, is_http, unused;
} endpoint_t;

/* What a request takes on one candidate: as `predict_run` of router/core/energy.py has it, with the
 * cached tokens of those that are there. */
typedef struct {
    double awake_w, token_j, prefill_w;
    double tpot_base_ms, tpot_ms_per_sequence, tpot_ms_per_cached_token, max_batch;
    double prefill_ms_per_piece, prefill_ms_per_token, prefill_ms_per_token2, cached_tokens;
} run_t;

/* `is_passed`: only the gateway's own process decides of it, and of names that stand for several; such
 * a one may have no candidates. `task_j`: joules of a request by candidate, where it serves tasks; `kinds`: how they are known,
 * as in ENERGY_KINDS of layout.py. `longest`: context of any. */
typedef struct {
    text_t name, version;
    uint32_t is_http, is_task, is_passed, unused;
    int64_t n, rows, regions;
    uint64_t table_at, live_at, labels_at, starts_at, seats_at, task_j_at, runs_at, kinds_at;
    uint64_t accounts_at; /* rows by budget, -1 for none */
    /* As they are without requests of Envoy's. `known`: of `others` those of this gateway, and of
     * those that share its store; `allotted`: requests that Envoy may have there; `caps`: of
     * their pace. */
    uint64_t others_at, awake_at, eligible_at, known_at, allotted_at, caps_at;
    double input_tokens, output_tokens, output_tokens_quantile, longest;
    double bytes_per_token, template_tokens;
} model_t;

/* A carbon budget. `account`: row of the fleet's, -1 where it is per tenant or model. */
enum { SHEDS, GOES_GREENEST, WARNS, DEFERS }; /* the last: as the first, but for what is deferred */
typedef struct {
    text_t name;
    uint32_t action, is_shadow;
    int64_t account;
    double limit_g;
} budget_t;
/* The live columns that a decision was taken by, for the gateway to keep, and the caller's own list
 * of where it may run. `stamp`: as a record's. */
typedef struct {
    uint64_t stamp, n;
    char residency[MAX_RESIDENCY];
    double live[]; /* (K_LIVE_ROWS, n) */
} sight_t;

/* `written_s`: monotonic; `now`: of the clock that dates intensities, `speed` times as fast. Masks
 * of jurisdictions as router/core/layout.py has them; `unlisted` 0: tenants without an entry are
 * refused, else their mask. `values` of origins: rows of the table after the hours. Places of
 * models and rows of candidates mean the same in all tables of one `generation` (`rows`: of its
 * digest), by which a worker decides once it has as many `hosts`, of gRPC's and of HTTP's, and in
 * any case some time after `since_s`. `snapshot`: that its carbon data are of. Sights are left of a
 * share of decisions, `seen_share`, and where that is above 0 of all refusals. */
typedef struct {
    uint64_t begun, done, bytes, generation, rows, hosts[2];
    uint64_t snapshot;
    double since_s, seen_share;
    double written_s, now, speed, hour_ends_at, j_per_byte, margin_ms, max_budget_ms, retry_s;
    int64_t residency, unlisted;
    int64_t default_origin; /* row, -1: none */
    uint64_t models, models_at, origins, origins_at, places, places_at, tenants, tenants_at;
    uint64_t regions, regions_at, endpoints, endpoints_at, rungs, rungs_at, attempts;
    uint64_t full_receipts; /* over gRPC, to whoever does not say */
    uint64_t budgets, budgets_at, greens, greens_at; /* parameters of those who have none left */
    uint64_t energy, energy_at; /* tenants whose answers tell it */
    double day_ends_s;                               /* of budgets, monotonic */
    text_t identity, policy, relaxed[MAX_RUNGS], green_relaxed[MAX_GREENS];
} table_t;

enum { DEPARTED = 1, ENDED, REFUSED };

/* What became of a request. `stamp`: its number plus one, written last. Times monotonic, s, NaN of
 * what was not. `seat`: that served it, `first_seat`: that it was sent to. Texts have ends, and are
 * seldom long. Names are in it where it departed or was refused, what became of it where that is
 * over. */
typedef struct {
    uint64_t stamp;
    uint32_t kind, model, rung, reason;
    uint64_t decision, generation, snapshot;
    uint64_t sight; /* its number plus one; 0: none was left */
    double draw;
    int64_t hour, seat, first_seat;
    question_t asked;
    found_t found;
    double started_s, departed_s, first_byte_s, ended_s;
    double input_tokens, max_output_tokens, prompt_bytes, payload_bytes;
    int32_t status, grpc_status;
    uint32_t attempts, is_http, streams, explicit_budget;
    uint32_t tail_length, cut_short;
    int64_t use; /* row of what its principal uses, -1: none */
    double reserved_tokens;
    int64_t ask_ug;                /* reserved of carbon budgets */
    uint32_t claimed, exhausted; /* bits by budget */
    uint32_t is_greenest, unused; /* whether grams alone decided */
    char tenant[MAX_NAME], origin[MAX_NAME], request_id[MAX_NAME], details[MAX_NAME];
    char report[MAX_REPORT];
    char tail[MAX_TAIL];
} record_t;

/* Maps the file; its head, or 0 where it is none of ours. */
shared_t *shared_open(const char *path);
seat_t *shared_seats(shared_t *shared);
/* A place for a record, in which is what was there before: all of it but the stamp is to be written,
 * which `shared_finish` adds. */
record_t *shared_begin(shared_t *shared, uint64_t *number);
void shared_finish(record_t *record, uint64_t number);

/* A worker's own copy of the newest table of one generation. */
typedef struct {
    const table_t *table;
    char *bytes;
    uint64_t number, generation, room;
    uint64_t requests; /* that were decided by it */
    bool is_left;      /* there is one of a later generation */
} copy_t;

/* What is decided by, and what decisions need room for. */
typedef struct {
    copy_t *copy;
    const table_t *table;
    double *scratch, *cached, *terms;
    int64_t *reasons;
} view_t;

/* How many hosts this worker of Envoy's has to send to; below 0 where it cannot tell. */
typedef int64_t host_count_t(void *of);
/* Of a front, `is_http` or not; 0 where there is no table. Holds until the worker asks again. */
const view_t *shared_view(shared_t *shared, bool is_http, host_count_t *hosts, void *of);
/* A request was decided by it, and ends by it whatever tables come meanwhile; it has ended. */
void copy_keep(copy_t *copy);
void copy_leave(copy_t *copy);
double monotonic_s(void);
static inline const void *in_table(const table_t *table, uint64_t at) {
    return (const char *)table + at;
}
