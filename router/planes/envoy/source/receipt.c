#include "receipt.h"
#include "written.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define J_PER_KWH 3.6e6
/* A table that old is flagged: the gateway's process, which writes several a second, has ended. */
#define OLD_TABLE_S 10.0

typedef struct {
    put_t *put;
    void *to;
} told_t;

static void tell(const told_t *told, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void tell(const told_t *told, const char *key, const char *format, ...) {
    char text[256];
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(text, sizeof text, format, rest);
    va_end(rest);
    if (length > 0) told->put(told->to, key, span_of(text));
}

/* A figure that is not known has no key. */
static void figure(const told_t *told, const char *key, const char *format, double value) {
    char text[64];
#pragma clang diagnostic ignored "-Wformat-nonliteral"
    if (isfinite(value) && snprintf(text, sizeof text, format, value) > 0)
        told->put(told->to, key, span_of(text));
}

static void word(const told_t *told, const char *key, span_t text) {
    if (text.length) told->put(told->to, key, text);
}

static void write_id(written_t *into, const table_t *t, const decision_t *d) {
    write_text(into, text_in(t, t->identity));
    uint64_t numbers[] = {d->decision, (uint64_t)(d->draw * 0x1p48), (uint64_t)d->hour};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        write_text(into, LITERAL("-"));
        write_hex(into, numbers[i]);
    }
}

span_t decision_id(const table_t *t, const decision_t *d, char *into, size_t room) {
    written_t id = {into, room, 0};
    write_id(&id, t, d);
    return written_text(&id);
}

static const endpoint_t *endpoint_at(const table_t *t, int64_t seat) {
    return (const endpoint_t *)in_table(t, t->endpoints_at) + seat;
}

static const region_t *region_of(const table_t *t, const endpoint_t *endpoint) {
    return (const region_t *)in_table(t, t->regions_at) + endpoint->region;
}

static double grams(const table_t *t, const decision_t *d, int64_t row, int64_t seat) {
    const region_t *region = region_of(t, endpoint_at(t, seat));
    double joules = ((const double *)in_table(t, d->model->task_j_at))[row];
    return (joules * region->pue + d->asked.network_j) / J_PER_KWH * region->g_per_kwh;
}

static const char *energy_kind(const table_t *t, const decision_t *d, int64_t row) {
    static const char *kinds[] = {"calibrated", "profile", "estimated", "emulated"};
    return kinds[((const int64_t *)in_table(t, d->model->kinds_at))[row]];
}

static void tell_energy(const told_t *told, const table_t *t, const decision_t *d, int64_t row) {
    const endpoint_t *endpoint = endpoint_at(t, d->seat);
    const region_t *region = region_of(t, endpoint);
    double joules = ((const double *)in_table(t, d->model->task_j_at))[row];
    figure(told, "x-carbon-energy-j", "%.6g", joules);
    word(told, "x-carbon-energy-kind", span_of(energy_kind(t, d, row)));
    figure(told, "x-carbon-marginal-energy-j", "%.6g", joules);
    figure(told, "x-carbon-facility-energy-j", "%.6g", joules * region->pue + d->asked.network_j);
    figure(told, "x-carbon-gco2e", "%.6g", grams(t, d, row, d->seat));
}

static void tell_grid(const told_t *told, const table_t *t, const region_t *region, double now) {
    static const char *keys[] = {
        "x-carbon-g-per-kwh",  "x-carbon-g-per-kwh-interval", "x-carbon-basis",
        "x-carbon-factors",    "x-carbon-intensity-kind",     "x-carbon-intensity-source",
    };
    if (isnan(region->g_per_kwh)) return;
    for (int i = 0; i < 6; i++) word(told, keys[i], text_in(t, region->intensity[i]));
    figure(told, "x-carbon-intensity-age-s", "%.0f", fmax(0.0, now - region->observed_at));
}

static span_t relaxed_of(const table_t *t, const decision_t *d) {
    return text_in(t, d->is_greenest ? t->green_relaxed[d->rung] : t->relaxed[d->rung]);
}

/* What the decision was taken in spite of, `between` each two. */
static void write_flags(written_t *into, const table_t *t, const decision_t *d,
                        const ruling_t *ruling, double age_s, span_t between) {
    span_t said[6];
    int count = 0;
    if (d->origin_unknown) said[count++] = LITERAL("origin_unknown");
    said[count] = text_in(t, region_of(t, endpoint_at(t, d->seat))->flags);
    if (said[count].length) count++;
    if (d->is_greenest) said[count++] = LITERAL("greenest_only");
    if (ruling->is_enforced) said[count++] = LITERAL("carbon_budget_exhausted");
    if (ruling->is_shadowed) said[count++] = LITERAL("carbon_budget_shadow");
    if (age_s > OLD_TABLE_S) said[count++] = LITERAL("table_old");
    for (int i = 0; i < count; i++) {
        if (i) write_text(into, between);
        write_text(into, said[i]);
    }
}

void receipt_whole(const table_t *t, const decision_t *d, const times_t *times, put_t *put,
                   void *to) {
    told_t told = {put, to};
    const endpoint_t *endpoint = endpoint_at(t, d->seat);
    const region_t *region = region_of(t, endpoint);
    const int64_t *seat_of = in_table(t, d->model->seats_at);
    int64_t row = d->found.row, first = d->found.first_row;
    char id[160];
    word(&told, "x-carbon-decision-id", decision_id(t, d, id, sizeof id));
    word(&told, "x-carbon-policy", text_in(t, t->policy));
    word(&told, "x-carbon-region", text_in(t, region->name));
    word(&told, "x-carbon-grid-zone", text_in(t, region->grid_zone));
    word(&told, "x-carbon-endpoint", text_in(t, endpoint->name));
    word(&told, "x-carbon-accounting", LITERAL("attributional"));
    if (d->model->is_task) tell_energy(&told, t, d, row);
    figure(&told, "x-carbon-predicted-ttft-ms", "%.1f", d->found.ttft_ms);
    if (!d->model->is_task)
        figure(&told, "x-carbon-predicted-tpot-ms", "%.2f", d->found.tpot_ms);
    figure(&told, "x-carbon-predicted-e2e-ms", "%.1f", d->found.e2e_ms);
    double e2e_ms = (times->ended_s - times->started_s) * 1e3;
    if (d->model->is_task) figure(&told, "x-carbon-actual-ttft-ms", "%.1f", e2e_ms);
    figure(&told, "x-carbon-actual-e2e-ms", "%.1f", e2e_ms);
    if (d->model->is_task)
        figure(&told, "x-carbon-predicted-gco2e", "%.6g", grams(t, d, row, d->seat));
    word(&told, "x-carbon-latency-first-endpoint",
         text_in(t, endpoint_at(t, seat_of[first])->name));
    if (d->model->is_task)
        figure(&told, "x-carbon-latency-first-gco2e", "%.6g", grams(t, d, first, seat_of[first]));
    if (times->attempts > 1) tell(&told, "x-carbon-attempts", "%u", times->attempts);
    double now_s = monotonic_s(), age_s = now_s - d->written_s;
    tell_grid(&told, t, region, dated_s(t, now_s));
    char said[160];
    written_t flags = {said, sizeof said, 0};
    write_flags(&flags, t, d, times->ruling, age_s, LITERAL(","));
    word(&told, "x-carbon-flags", written_text(&flags));
    if (age_s > OLD_TABLE_S) tell(&told, "x-carbon-table-age-s", "%.0f", age_s);
    word(&told, "x-carbon-relaxed", relaxed_of(t, d));
    double left = 0.0;
    const budget_t *budget = budgets_tightest(times->ruling, t, &left);
    if (budget) {
        span_t name = text_in(t, budget->name);
        tell(&told, "x-carbon-budget", "name=%.*s; left=%.4f", (int)name.length, name.at, left);
    }
}

static void write_quoted(written_t *into, span_t key, span_t text) {
    write_text(into, key);
    write_text(into, LITERAL("=\""));
    size_t from = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] != '"' && text.at[i] != '\\') continue;
        write_text(into, (span_t){text.at + from, i - from});
        write_text(into, LITERAL("\\"));
        from = i;
    }
    write_text(into, (span_t){text.at + from, text.length - from});
    write_text(into, LITERAL("\""));
}

static void write_pair(written_t *into, span_t key, span_t text) {
    write_text(into, key);
    write_text(into, text);
}

static void write_figure(written_t *into, span_t key, double value, int places) {
    write_text(into, key);
    write_decimal(into, value, places);
}

static void write_relaxed(written_t *into, span_t relaxed) {
    if (!relaxed.length) return;
    char words[128];
    keep(words, sizeof words, relaxed);
    for (char *c = words; *c; c++)
        if (*c == ',') *c = ' ';
    write_quoted(into, LITERAL(", relaxed"), span_of(words));
}

span_t receipt_field(const table_t *t, const decision_t *d, const times_t *times, bool is_whole,
                     double now_s, char *into, size_t room) {
    const endpoint_t *endpoint = endpoint_at(t, d->seat);
    const region_t *region = region_of(t, endpoint);
    written_t field = {into, room, 0};
    char id[160], said[160];
    write_quoted(&field, LITERAL("id"), decision_id(t, d, id, sizeof id));
    write_quoted(&field, LITERAL(", region"), text_in(t, region->name));
    write_quoted(&field, LITERAL(", endpoint"), text_in(t, endpoint->name));
    if (!isnan(region->g_per_kwh)) {
        write_pair(&field, LITERAL(", g_per_kwh="), text_in(t, region->shown_g));
        write_pair(&field, LITERAL(", kind="), text_in(t, region->intensity[4]));
        write_pair(&field, LITERAL(", basis="), text_in(t, region->intensity[2]));
    }
    double grams_there = d->model->is_task ? grams(t, d, d->found.row, d->seat) : NAN;
    if (is_whole && isfinite(grams_there)) {
        double joules = ((const double *)in_table(t, d->model->task_j_at))[d->found.row];
        write_figure(&field, LITERAL(", gco2e="), grams_there, 9);
        write_figure(&field, LITERAL(", energy_j="), joules, 3);
        write_pair(&field, LITERAL(", energy_kind="), span_of(energy_kind(t, d, d->found.row)));
    }
    if (is_whole && times->attempts > 1) {
        write_text(&field, LITERAL(", attempts="));
        write_count(&field, times->attempts);
    }
    double left = 0.0;
    if (budgets_tightest(times->ruling, t, &left))
        write_figure(&field, LITERAL(", budget_left="), left, 3);
    write_relaxed(&field, relaxed_of(t, d));
    written_t flags = {said, sizeof said, 0};
    write_flags(&flags, t, d, times->ruling, now_s - d->written_s, LITERAL(", "));
    if (flags.used) write_pair(&field, LITERAL(", "), written_text(&flags));
    return written_text(&field);
}
