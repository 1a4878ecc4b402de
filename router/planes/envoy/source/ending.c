/* A request ends, however it does: its place is given back, and a record is left. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "request.h"

/* Of one that ended the gateway has it from when it departed. */
static void write_asked(record_t *record, const request_t *r) {
    strcpy(record->tenant, r->caller.tenant);
    strcpy(record->origin, r->caller.origin);
    strcpy(record->request_id, r->request_id);
}

static void write_ended(record_t *record, const request_t *r) {
    strcpy(record->details, r->details);
    strcpy(record->report, r->report);
    record->tail_length = (uint32_t)r->tail_length;
    memcpy(record->tail, r->tail, r->tail_length);
}

void leave_record(request_t *r, uint32_t kind) {
    uint64_t number;
    record_t *record = shared_begin(r->front->shared, &number);
    const decision_t *d = &r->decision;
    record->kind = kind;
    record->model = r->model;
    record->rung = d->rung;
    record->reason = r->caller.refused;
    record->decision = d->decision;
    record->generation = r->generation;
    record->snapshot = d->snapshot;
    record->sight = d->sight;
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
    record->use = r->known.use;
    record->reserved_tokens = r->reserved_tokens;
    record->ask_ug = r->ruling.ask_ug;
    record->claimed = r->ruling.claimed;
    record->exhausted = r->ruling.exhausted;
    record->is_greenest = d->is_greenest;
    record->unused = 0;
    record->tail_length = 0;
    if (kind != ENDED) write_asked(record, r);
    if (kind != DEPARTED) write_ended(record, r);
    shared_finish(record, number);
}

void leave_use(request_t *r) {
    if (r->use) use_leave(r->use);
    r->use = 0;
}

static void leave(request_t *r) {
    leave_use(r);
    if (r->has_left || r->decision.seat < 0) return;
    r->has_left = true;
    hold(r->front->shared, r->decision.seat, -1);
    if (isnan(r->times.ended_s)) r->times.ended_s = monotonic_s();
    span_t details;
    if (!*r->details && CALLBACK(http_filter_get_attribute_string)(
                            r->envoy, ATTRIBUTE_RESPONSE_CODE_DETAILS, &details))
        keep(r->details, sizeof r->details, details);
    leave_record(r, ENDED);
    copy_leave(r->copy);
}

int ON(http_filter_local_reply)(envoy_t envoy, void *request, uint32_t code, span_t details,
                                bool is_reset) {
    (void)envoy, (void)is_reset;
    request_t *r = request;
    r->is_local = true;
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
    leave_use(r);
    free(r->known.models);
    free(r);
}
