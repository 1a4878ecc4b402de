/* One request between Envoy's events, which come on one of its workers. */
#pragma once
#include "known.h"
#include "receipt.h"

#define MAX_HEADERS 512

/* `names`: that a call may have for this host, each with an end and one more behind the last; 0 where
 * it may have any. */
typedef struct {
    shared_t *shared;
    known_file_t *known;
    bool is_http;
    char *names;
} front_t;

typedef struct {
    envoy_t envoy;
    const front_t *front;
    caller_t caller;
    known_t known;
    use_t *use;             /* that it is counted in, 0 for none */
    double reserved_tokens; /* there */
    ruling_t ruling;
    uint8_t digest[DIGEST_BYTES];
    decision_t decision;
    scanned_t body;
    times_t times;
    double payload_bytes, first_byte_s;
    int64_t first_seat;
    copy_t *copy; /* that it was decided by */
    uint64_t generation;
    uint32_t model;
    int status, grpc_status;
    bool is_asking, has_all; /* of whom it is, and has come meanwhile */
    bool is_buffered;        /* Envoy may hold some of its body */
    bool says_retries;       /* the caller does */
    bool is_local;           /* Envoy itself answers it */
    bool is_told;            /* the gateway knows why it is refused */
    bool is_decided, is_passed, is_whole, has_left; /* passed: to the gateway's own process */
    size_t tail_length;
    /* Texts, of which there is nothing yet but their ends. */
    char request_id[MAX_NAME], details[MAX_NAME], report[MAX_REPORT], tail[MAX_TAIL];
} request_t;

/* The newest table that this worker may decide by. */
const view_t *view_now(const request_t *r);
/* Answer it here, with why (`caller.refused`). */
void send_refusal(request_t *r);
/* Whose call it is: known, refused, or asked for (`is_asking`). */
void identify(request_t *r, const header_t *headers, size_t count);
/* Credentials end here: no server is told. */
void drop_secrets(request_t *r);
/* All of the body is there: decide. False where it was refused. */
bool whole_body(request_t *r);
/* So many tokens are expected of it; false where it is refused for them. */
bool reserve_tokens(request_t *r);
/* Claims what it may emit of carbon budgets; false where it is refused for them. */
bool claim_grams(request_t *r, const view_t *view);
/* It is counted no more. */
void leave_use(request_t *r);
/* Tell the gateway of it: DEPARTED, REFUSED or ENDED. */
void leave_record(request_t *r, uint32_t kind);
