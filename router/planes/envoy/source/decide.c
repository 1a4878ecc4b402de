#include "decide.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* As router/director/dispatcher.py: each that another worker takes leaves an endpoint fuller. */
#define MAX_CLAIMS 16
#define DRAW_BITS 48
/* As router/core/seat.py: a pace that no iteration keeps. */
#define NO_PLACE_MS (-1.0)
/* As router/core/accounting.py and router/core/emitted.py. */
#define ENERGY_HIGH 1.5
#define UNKNOWN_G_PER_KWH 1000.0
#define J_PER_KWH 3.6e6
/* What is no number of grams is as much as nobody has. */
#define MOST_G 1e12

double dated_s(const table_t *table, double now_s) {
    return table->now + (now_s - table->written_s) * table->speed;
}

span_t text_in(const table_t *table, text_t text) {
    return (span_t){in_table(table, text.at), text.length};
}

/* xorshift64*, in [0, 1): spreads near-ties, and makes ids that are not to be counted up. */
static double uniform(void) {
    static _Thread_local uint64_t state;
    if (!state) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        state = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec ^ (uintptr_t)&state) | 1;
    }
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (double)((state * 0x2545F4914F6CDD1Dull) >> (64 - DRAW_BITS)) /
           (double)(1ull << DRAW_BITS);
}

const model_t *model_named(const table_t *table, span_t name, span_t version) {
    const model_t *models = in_table(table, table->models_at), *unnamed = 0;
    for (uint64_t i = 0; i < table->models; i++) {
        if (!same(name, text_in(table, models[i].name))) continue;
        span_t other = text_in(table, models[i].version);
        if (same(version, other)) return models + i;
        if (same(other, LITERAL("*"))) unnamed = models + i;
    }
    return unnamed;
}

static const named_t *named(const table_t *table, uint64_t count, uint64_t at, span_t name) {
    const named_t *all = in_table(table, at);
    for (uint64_t i = 0; i < count; i++)
        if (same(name, text_in(table, all[i].name))) return all + i;
    return 0;
}

bool tells_energy(const table_t *table, const char *tenant) {
    uint64_t count = table->energy;
    return count && (named(table, count, table->energy_at, LITERAL("*")) ||
                     named(table, count, table->energy_at, span_of(tenant)));
}

static bool same_but_for_case(span_t one, span_t other) {
    return one.length == other.length && !strncasecmp(one.at, other.at, one.length);
}

/* Bits of where the request may run by its own list; no name of it known: nowhere. */
static int64_t residency_of(const table_t *table, const char *list) {
    int64_t mask = 0;
    const named_t *places = in_table(table, table->places_at);
    while (*list) {
        list += strspn(list, ", ");
        size_t length = strcspn(list, ",");
        span_t name = {list, length};
        while (name.length && name.at[name.length - 1] == ' ') name.length--;
        for (uint64_t i = 0; i < table->places; i++)
            if (same_but_for_case(name, text_in(table, places[i].name))) mask |= places[i].value;
        list += length;
    }
    return mask;
}

/* As Dispatcher.expect: what is learned, the caller's own figures, what a context has room for. */
static void expect(question_t *asked, const model_t *model, const scanned_t *body) {
    double input = body->input_tokens, mean = model->output_tokens;
    double most = model->output_tokens_quantile;
    bool is_stated = !isnan(input);
    if (!is_stated) input = model->input_tokens;
    if (!is_stated && body->prompt_bytes > 0.0)
        input = body->prompt_bytes / model->bytes_per_token + model->template_tokens;
    mean = fmin(mean, body->max_output_tokens), most = fmin(most, body->max_output_tokens);
    if (input + most > model->longest) {
        if (!is_stated)
            input = fmax(1.0, fmin(input, fmax(model->longest - most, model->longest / 2.0)));
        double room = fmax(1.0, model->longest - input);
        mean = fmin(mean, room), most = fmin(most, room);
    }
    asked->input_tokens = input;
    asked->output_tokens = mean;
    asked->output_tokens_quantile = most;
}

static bool ask(decision_t *d, caller_t *caller, const scanned_t *body, double payload_bytes,
                const table_t *table) {
    question_t *asked = &d->asked;
    span_t origin = span_of(caller->origin), tenant = span_of(caller->tenant);
    const named_t *from = named(table, table->origins, table->origins_at, origin);
    asked->rtt_row = from ? from->value : table->default_origin;
    d->origin_unknown = !from && origin.length;
    if (asked->rtt_row < 0) {
        caller_refuse(caller, INVALID_METADATA,
                      "x-origin '%s' has no RTT table and no default_origin is set",
                      caller->origin);
        return false;
    }
    asked->residency = table->residency & caller->jurisdictions;
    if (*caller->residency) asked->residency &= residency_of(table, caller->residency);
    const named_t *held = named(table, table->tenants, table->tenants_at, tenant);
    if (!held && !table->unlisted) {
        caller_refuse(caller, INVALID_METADATA,
                      "x-tenant: %s; only tenants that the operator lists are served",
                      *caller->tenant ? "it is not a tenant of this gateway" : "missing");
        return false;
    }
    asked->residency &= held ? held->value : table->unlisted;
    expect(asked, d->model, body);
    asked->network_j = payload_bytes * table->j_per_byte;
    asked->ttft_ms = caller->ttft_ms;
    asked->tpot_ms = caller->tpot_ms;
    asked->e2e_ms = caller->e2e_ms;
    asked->now_s = monotonic_s();
    double now = dated_s(table, asked->now_s);
    asked->slot_left_s = table->hour_ends_at - now;
    d->hour = now > 0.0 ? (int64_t)(now / 3600.0) : 0;
    return true;
}

/* The columns of a model with Envoy's requests of this moment on them. */
static columns_t columns_of(const view_t *view, const model_t *model, const seat_t *seats) {
    const table_t *t = view->table;
    int64_t n = model->n;
    columns_t c = {n, model->rows, model->regions, (double *)in_table(t, model->table_at),
                   (double *)in_table(t, model->live_at), (int64_t *)in_table(t, model->labels_at),
                   (int64_t *)in_table(t, model->starts_at), view->cached, view->scratch};
    const int64_t *seat_of = in_table(t, model->seats_at);
    const double *others = in_table(t, model->others_at), *awake = in_table(t, model->awake_at);
    const double *eligible = in_table(t, model->eligible_at), *known = in_table(t, model->known_at);
    const double *allotted = in_table(t, model->allotted_at), *caps = in_table(t, model->caps_at);
    const endpoint_t *endpoints = in_table(t, t->endpoints_at);
    for (int64_t i = 0; i < n; i++) {
        const seat_t *seat = seats + seat_of[i];
        double own = (double)__atomic_load_n(&seat->in_flight, __ATOMIC_RELAXED);
        double batch = own + others[i];
        c.live[K_PACE_CAP_MS * n + i] = own >= allotted[i] ? NO_PLACE_MS : caps[i];
        own += known[i];
        bool full_trial = endpoints[seat_of[i]].on_trial && own > 0.0;
        c.live[K_BATCH * n + i] = batch;
        c.live[K_OWN * n + i] = own;
        c.live[K_AWAKE * n + i] = own > 0.0 ? 1.0 : awake[i];
        c.live[K_FOREIGN * n + i] = (batch - own) / (batch > 1.0 ? batch : 1.0);
        c.live[K_PER_PLACE * n + i] = 1.0 / (batch + 1.0);
        c.live[K_TURNS * n + i] = (double)__atomic_load_n(&seat->turns, __ATOMIC_RELAXED);
        c.live[K_ELIGIBLE * n + i] = full_trial ? 0.0 : eligible[i];
    }
    return c;
}

static void leave_out(const columns_t *c, const int64_t *seat_of, int64_t seat) {
    for (int64_t i = 0; i < c->n; i++)
        if (seat_of[i] == seat) c->live[K_ELIGIBLE * c->n + i] = 0.0;
}

/* Nobody in a region of those that are tried before. */
static void leave_regions_out(const decision_t *d, const columns_t *c, const table_t *t) {
    const int64_t *seat_of = in_table(t, d->model->seats_at);
    const endpoint_t *endpoints = in_table(t, t->endpoints_at);
    for (int k = 0; k < d->tried; k++) {
        uint32_t region = endpoints[seat_of[d->founds[k].row]].region;
        for (int64_t i = 0; i < c->n; i++)
            if (endpoints[seat_of[i]].region == region) c->live[K_ELIGIBLE * c->n + i] = 0.0;
    }
}

/* Whom to try after the chosen one, as next_choice does: after two that failed somebody in another
 * region, since neighbours may share what is wrong; within the budgets, else late. */
static void plan_moves(decision_t *d, const columns_t *c, double *params, const view_t *view) {
    const table_t *t = view->table;
    const int64_t *seat_of = in_table(t, d->model->seats_at);
    double *eligible = c->live + K_ELIGIBLE * c->n;
    size_t bytes = sizeof *eligible * (size_t)c->n;
    question_t asked = d->asked;
    found_t found;
    d->founds[0] = d->found;
    d->tried = 1;
    while (d->tried < MAX_ATTEMPTS && (uint64_t)d->tried < t->attempts) {
        leave_out(c, seat_of, seat_of[d->founds[d->tried - 1].row]);
        found.row = -1;
        if (d->tried > 1) {
            memcpy(view->terms, eligible, bytes);
            leave_regions_out(d, c, t);
            kernel_choose(&found, c, params, &asked, uniform());
            memcpy(eligible, view->terms, bytes);
        }
        if (found.row < 0) kernel_choose(&found, c, params, &asked, uniform());
        if (found.row < 0) {
            asked.ttft_ms = asked.tpot_ms = asked.e2e_ms = INFINITY;
            kernel_choose(&found, c, params, &asked, uniform());
        }
        if (found.row < 0) return;
        d->founds[d->tried++] = found;
    }
}

static void refuse(caller_t *caller, int64_t why, span_t model) {
    static const struct {
        int64_t why;
        reason_t reason;
        const char *text;
    } known[] = {
        {K_FULL, SHED, "every endpoint that could serve '%.*s' is at its concurrency cap"},
        {K_UNHEALTHY, NOTHING_FEASIBLE, "no healthy endpoint serves '%.*s' now"},
        {K_NOT_FINITE, NOTHING_FEASIBLE, "no endpoint of '%.*s' has finite predictions"},
        {K_E2E_BUDGET, BUDGET_IMPOSSIBLE, "no endpoint of '%.*s' meets the end-to-end budget"},
        {K_TPOT_BUDGET, BUDGET_IMPOSSIBLE, "no endpoint of '%.*s' meets the TPOT budget"},
        {K_TTFT_BUDGET, BUDGET_IMPOSSIBLE, "no endpoint of '%.*s' meets the TTFT budget"},
        {K_CARBON_BUDGET, POLICY_EXCLUDES, "every endpoint of '%.*s' exceeds the policy's carbon "
                                           "budget"},
        {K_CARBON_UNKNOWN, POLICY_EXCLUDES, "every endpoint of '%.*s' lies in a grid zone whose "
                                            "carbon intensity is unknown or stale"},
        {K_CONTEXT, POLICY_EXCLUDES, "every endpoint of '%.*s' has too short a context"},
        {K_RESIDENCY, RESIDENCY, "no endpoint of '%.*s' lies where this request may run"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].why == why) {
            int length = model.length < MAX_NAME ? (int)model.length : MAX_NAME;
            /* Formats are those above, of one name each. */
#pragma clang diagnostic ignored "-Wformat-nonliteral"
            caller_refuse(caller, known[i].reason, known[i].text, length, model.at);
        }
}

static uint64_t leave_sight(shared_t *shared, const columns_t *c, const caller_t *caller) {
    size_t size = sizeof(double) * K_LIVE_ROWS * (size_t)c->n;
    if (sizeof(sight_t) + size > shared->sight_bytes) return 0;
    uint64_t number = __atomic_fetch_add(&shared->sight_head, 1, __ATOMIC_RELAXED);
    sight_t *sight = (sight_t *)((char *)shared + shared->sights_at +
                                 number % shared->sights * shared->sight_bytes);
    __atomic_store_n(&sight->stamp, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    sight->n = (uint64_t)c->n;
    strcpy(sight->residency, caller->residency);
    memcpy(sight->live, c->live, size);
    __atomic_store_n(&sight->stamp, number + 1, __ATOMIC_RELEASE);
    return number + 1;
}

int64_t hold(shared_t *shared, int64_t seat, int by) {
    seat_t *there = shared_seats(shared) + seat;
    if (by > 0) __atomic_fetch_add(&there->turns, 1, __ATOMIC_RELAXED);
    return __atomic_add_fetch(&there->in_flight, by, __ATOMIC_RELAXED);
}

/* Takes a place by the first of `count` sets of parameters by which anything is feasible. */
static bool place(decision_t *d, caller_t *caller, span_t model, double *rungs, uint64_t count,
                  shared_t *shared, const view_t *view) {
    const table_t *t = view->table;
    const int64_t *seat_of = in_table(t, d->model->seats_at);
    double *params = rungs;
    for (int claims = 0; claims < MAX_CLAIMS; claims++) {
        columns_t c = columns_of(view, d->model, shared_seats(shared));
        d->found.row = -1;
        for (d->rung = 0; d->rung < count; d->rung++) {
            params = rungs + d->rung * K_PARAMS;
            kernel_choose(&d->found, &c, params, &d->asked, d->draw);
            if (d->found.row >= 0) break;
        }
        if (d->found.row < 0) {
            if (t->seen_share > 0.0) d->sight = leave_sight(shared, &c, caller);
            refuse(caller, kernel_obstacle(&c, params, &d->asked, view->terms, view->reasons),
                   model);
            return false;
        }
        int64_t row = d->found.row;
        d->seat = seat_of[row];
        double others = ((const double *)in_table(t, d->model->others_at))[row];
        double allotted = ((const double *)in_table(t, d->model->allotted_at))[row];
        double there = (double)hold(shared, d->seat, 1);
        if (there + others <= c.table[K_MAX_IN_FLIGHT * c.n + row] && there <= allotted) {
            if (t->seen_share > 0.0 && uniform() < t->seen_share)
                d->sight = leave_sight(shared, &c, caller);
            plan_moves(d, &c, params, view);
            return true;
        }
        hold(shared, d->seat, -1); /* another worker took the last place meanwhile */
        d->seat = -1;
    }
    caller_refuse(caller, SHED, "other requests took every place meanwhile");
    return false;
}

bool decide(decision_t *d, caller_t *caller, const scanned_t *body, double payload_bytes,
            bool is_http, shared_t *shared, const view_t *view) {
    const table_t *t = view->table;
    if (d->model && !d->model->n) {
        caller_refuse(caller, NOTHING_FEASIBLE, "no endpoint of model '%.*s' has been found so far",
                      (int)(body->model.length < MAX_NAME ? body->model.length : MAX_NAME),
                      body->model.at);
        return false;
    }
    if (!d->model || d->model->is_http != is_http) {
        caller_refuse(caller, UNKNOWN_MODEL, "no endpoint serves model '%.*s' over this protocol",
                      (int)(body->model.length < MAX_NAME ? body->model.length : MAX_NAME),
                      body->model.at);
        return false;
    }
    if (!ask(d, caller, body, payload_bytes, t)) return false;
    d->draw = uniform();
    d->snapshot = t->snapshot;
    if (!place(d, caller, body->model, (double *)in_table(t, t->rungs_at), t->rungs, shared, view))
        return false;
    d->decision = __atomic_add_fetch(&shared->decided, 1, __ATOMIC_RELAXED);
    return true;
}

bool decide_greenest(decision_t *d, caller_t *caller, span_t model, shared_t *shared,
                     const view_t *view) {
    const table_t *t = view->table;
    size_t bytes = sizeof(double) * (size_t)d->model->n;
    double *premiums = (double *)in_table(t, d->model->live_at) + K_PREMIUM * d->model->n;
    double *kept = malloc(bytes);
    hold(shared, d->seat, -1);
    d->seat = -1;
    if (!kept) {
        caller_refuse(caller, SHED, "no memory is left to decide by grams alone");
        return false;
    }
    /* Room has no price for who has no grams left; this table is the worker's own copy. */
    memcpy(kept, premiums, bytes);
    memset(premiums, 0, bytes);
    d->is_greenest = true;
    bool is_placed = place(d, caller, model, (double *)in_table(t, t->greens_at), t->greens, shared,
                           view);
    memcpy(premiums, kept, bytes);
    free(kept);
    d->sight = 0; /* it tells of one decision, and these were two */
    return is_placed;
}

/* As `predict_run`, of a long answer. */
static double run_j(const run_t *run, const question_t *asked, double batch) {
    double n = fmax(asked->output_tokens, asked->output_tokens_quantile);
    batch = fmax(batch, 1.0);
    double running = fmin(batch, run->max_batch);
    double decode_ms = run->tpot_base_ms + run->tpot_ms_per_sequence * running +
                       run->tpot_ms_per_cached_token * run->cached_tokens * running / batch;
    double share_j = run->awake_w * n * decode_ms / 1e3 / running;
    double read = asked->input_tokens;
    double per_token = run->prefill_ms_per_token + run->prefill_ms_per_token2 * read / 2.0;
    double prompt_ms = run->prefill_ms_per_piece + per_token * read;
    return share_j + run->token_j * n + run->prefill_w * prompt_ms / 1e3;
}

int64_t most_ug(const table_t *t, const decision_t *d, shared_t *shared) {
    int64_t row = d->found.row;
    const endpoint_t *endpoint = (const endpoint_t *)in_table(t, t->endpoints_at) + d->seat;
    const region_t *region = (const region_t *)in_table(t, t->regions_at) + endpoint->region;
    double joules = ((const double *)in_table(t, d->model->task_j_at))[row];
    if (!d->model->is_task) {
        const run_t *run = (const run_t *)in_table(t, d->model->runs_at) + row;
        const seat_t *seat = shared_seats(shared) + d->seat;
        double own = (double)__atomic_load_n(&seat->in_flight, __ATOMIC_RELAXED);
        double others = ((const double *)in_table(t, d->model->others_at))[row];
        joules = ENERGY_HIGH * run_j(run, &d->asked, own + others);
    }
    double g_per_kwh = isfinite(region->g_per_kwh) ? region->g_per_kwh : UNKNOWN_G_PER_KWH;
    double grams = (joules * region->pue + d->asked.network_j) / J_PER_KWH * g_per_kwh;
    return grams >= 0.0 && grams < MOST_G ? (int64_t)ceil(grams * 1e6) : (int64_t)(MOST_G * 1e6);
}
