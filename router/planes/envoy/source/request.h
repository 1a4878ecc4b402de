/* One request between Envoy's events, which come on one of its workers. */
#pragma once
#include "receipt.h"

#define MAX_HEADERS 512

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
    copy_t *copy; /* that it was decided by */
    uint64_t generation;
    uint32_t model;
    int status, grpc_status;
    bool is_decided, is_passed, is_whole, has_left; /* passed: to the gateway's own process */
    char request_id[MAX_NAME], details[MAX_NAME], report[MAX_REPORT], tail[MAX_TAIL];
    size_t tail_length;
} request_t;

/* The newest table that this worker may decide by. */
const view_t *view_now(const request_t *r);
/* Answer it here, with why (`caller.refused`). */
void send_refusal(request_t *r);
/* Tell the gateway of it: DEPARTED, REFUSED or ENDED. */
void leave_record(request_t *r, uint32_t kind);
