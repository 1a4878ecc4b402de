/* Where a request goes: question, kernel, ladder, place. Nothing here knows Envoy. */
#pragma once
#include "caller.h"
#include "scan.h"
#include "shared.h"

#define MAX_ATTEMPTS 4

typedef struct {
    const model_t *model;
    question_t asked;
    found_t found;
    uint32_t rung;
    uint64_t decision;
    double draw;
    int64_t hour; /* since 1970, UTC */
    int64_t seat;
    double written_s; /* when the newest table was, whichever it was decided by */
    uint64_t sight, snapshot; /* as of record_t */
    bool origin_unknown, is_greenest; /* grams alone decided: `rung` is of `greens` */
    found_t founds[MAX_ATTEMPTS]; /* what was chosen, then whom to try after it */
    int tried;
} decision_t;

/* In the clock of intensities, by a table that may be old. */
double dated_s(const table_t *table, double now_s);
span_t text_in(const table_t *table, text_t text);

/* In any version where there is none of its own; 0 for none. */
const model_t *model_named(const table_t *table, span_t name, span_t version);
/* Whether answers to a tenant tell their energy, which is not done here. */
bool tells_energy(const table_t *table, const char *tenant);
/* `decision->model` is there. Takes a place on the chosen endpoint. Where it cannot: `caller` says why, and no place is taken.
 */
bool decide(decision_t *decision, caller_t *caller, const scanned_t *body, double payload_bytes,
            bool is_http, shared_t *shared, const view_t *view);
/* Decides anew, by grams alone; the place that `decide` took is given back. */
bool decide_greenest(decision_t *decision, caller_t *caller, span_t model, shared_t *shared,
                     const view_t *view);
/* Grams that a request may emit at the most there, in whole micrograms: as `most_g` of
 * router/core/emitted.py, among the requests of this moment, itself included. */
int64_t most_ug(const table_t *table, const decision_t *decision, shared_t *shared);
/* One request more there (or `by` -1: less). */
int64_t hold(shared_t *shared, int64_t seat, int by);
