/* What routing reads of a request's body; the body travels as it came. */
#pragma once
#include "text.h"

/* Counts: NaN or inf where none is given. `passes_on`: it asks for what only the gateway's own process
 * does, or is written as only that reads it. `error`: what is wrong with the body, 0 for nothing. */
typedef struct {
    span_t model, version, request_id;
    double input_tokens, max_output_tokens, prompt_bytes;
    bool streams, passes_on;
    const char *error;
    char decoded[256];
} scanned_t;

/* A serialized ModelInferRequest: as router/gateway/oip/wire.py. */
void scan_oip(scanned_t *found, span_t body);
/* The JSON object of a chat completion: as router/gateway/openai/fields.py. */
void scan_chat(scanned_t *found, span_t body);
/* A count of tokens that can be one, else NaN: as router/core/claims.py. */
double scan_tokens(double value);
