#include <math.h>
#include <stdlib.h>

#include "scan.h"

#define MAX_FIELDS 4096
#define MAX_TOKENS 1e8

typedef struct {
    const unsigned char *at, *end;
    bool broken;
} reader_t;

typedef struct {
    uint64_t number, wire, value; /* of a varint or of eight bytes */
    span_t bytes;
} field_t;

double scan_tokens(double value) { return value >= 1.0 && value <= MAX_TOKENS ? value : NAN; }

static uint64_t varint(reader_t *r) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (r->at >= r->end) break;
        unsigned char byte = *r->at++;
        if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    r->broken = true;
    return 0;
}

/* False at the end, and where the message is broken. */
static bool next_field(reader_t *r, field_t *field) {
    if (r->at >= r->end || r->broken) return false;
    uint64_t tag = varint(r), length = 0;
    *field = (field_t){.number = tag >> 3, .wire = tag & 7};
    switch (field->wire) {
    case 0: field->value = varint(r); break;
    case 1: length = 8; break;
    case 2: length = varint(r); break;
    case 5: length = 4; break;
    default: r->broken = true; /* groups, long deprecated, are of no use to anybody here */
    }
    if (!field->number || length > (uint64_t)(r->end - r->at)) r->broken = true;
    if (r->broken) return false;
    field->bytes = (span_t){(const char *)r->at, length};
    if (field->wire == 1) memcpy(&field->value, r->at, 8);
    r->at += length;
    return true;
}

static reader_t reader_of(span_t bytes) {
    return (reader_t){(const unsigned char *)bytes.at, (const unsigned char *)bytes.at + bytes.length,
                      false};
}

/* A positive number that an InferParameter holds, else NaN. */
static double number_of(span_t parameter) {
    reader_t r = reader_of(parameter);
    field_t field;
    double value = NAN, held;
    while (next_field(&r, &field)) {
        if (field.number == 2 && field.wire == 0) value = (double)(int64_t)field.value;
        else if (field.number == 5 && field.wire == 0) value = (double)field.value;
        else if (field.number == 4 && field.wire == 1) memcpy(&held, &field.value, 8), value = held;
        else value = NAN;
    }
    return value > 0.0 && value < INFINITY ? value : NAN;
}

/* Whether an InferParameter holds an id: an integer but 0, or text. */
static bool is_id(span_t parameter) {
    reader_t r = reader_of(parameter);
    field_t field;
    bool found = false;
    while (next_field(&r, &field))
        found = field.wire == 0 ? field.value && field.number != 1
                                : field.number == 3 && field.bytes.length;
    return found;
}

static bool read_parameter(scanned_t *found, span_t entry) {
    reader_t r = reader_of(entry);
    field_t field;
    span_t name = {0, 0}, value = {0, 0};
    while (next_field(&r, &field)) {
        if (field.number == 1 && field.wire == 2) name = field.bytes;
        if (field.number == 2 && field.wire == 2) value = field.bytes;
    }
    if (r.broken) return false;
    if (same(name, LITERAL("max_tokens")) || same(name, LITERAL("max_output_tokens")) ||
        same(name, LITERAL("max_new_tokens"))) {
        double count = number_of(value);
        if (count < found->max_output_tokens) found->max_output_tokens = count;
    } else if (same(name, LITERAL("input_tokens")) || same(name, LITERAL("prompt_tokens"))) {
        double count = number_of(value);
        if (count > found->input_tokens || isnan(found->input_tokens)) found->input_tokens = count;
    } else if (same(name, LITERAL("deadline-s")) ||
               (same(name, LITERAL("sequence_id")) && is_id(value))) {
        found->passes_on = true;
    }
    return true;
}

void scan_oip(scanned_t *found, span_t body) {
    *found = (scanned_t){.input_tokens = NAN, .max_output_tokens = INFINITY};
    reader_t r = reader_of(body);
    field_t field;
    int fields = 0;
    while (next_field(&r, &field)) {
        if (++fields > MAX_FIELDS) {
            found->error = "ModelInferRequest: more than 4096 top-level fields";
            return;
        }
        if (field.wire != 2) continue;
        if (field.number == 1) found->model = field.bytes;
        else if (field.number == 2) found->version = field.bytes;
        else if (field.number == 3) found->request_id = field.bytes;
        else if (field.number == 4 && !read_parameter(found, field.bytes)) r.broken = true;
    }
    if (r.broken) found->error = "ModelInferRequest: it is malformed";
    else if (!found->model.length)
        found->error = "ModelInferRequest.model_name is empty: say which model the request is for";
    if (isnan(scan_tokens(found->input_tokens))) found->input_tokens = NAN;
    if (isnan(scan_tokens(found->max_output_tokens))) found->max_output_tokens = INFINITY;
}
