#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "scan.h"

#define MAX_DEPTH 512
#define MAX_DIGITS 64

typedef struct {
    const char *at, *end;
} reader_t;

static void skip_space(reader_t *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n'))
        r->at++;
}

static bool take(reader_t *r, char wanted) {
    skip_space(r);
    if (r->at >= r->end || *r->at != wanted) return false;
    r->at++;
    return true;
}

/* What is between the quotes, escapes as they stand. */
static bool string(reader_t *r, span_t *inside) {
    if (!take(r, '"')) return false;
    const char *start = r->at;
    while (r->at < r->end && *r->at != '"') r->at += *r->at == '\\' ? 2 : 1;
    if (r->at >= r->end) return false;
    *inside = (span_t){start, (size_t)(r->at++ - start)};
    return true;
}

/* Any value, brackets balanced; whether it is right inside is for the server to say. */
static bool value(reader_t *r, span_t *whole) {
    skip_space(r);
    const char *start = r->at;
    int depth = 0;
    span_t inside;
    while (r->at < r->end) {
        char c = *r->at;
        if (c == '"') {
            if (!string(r, &inside)) return false;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH) return false;
            r->at++;
        } else if (c == '}' || c == ']') {
            if (!depth) break;
            depth--, r->at++;
        } else if (!depth && (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n')) {
            break;
        } else {
            r->at++;
            continue;
        }
        if (!depth) break;
    }
    *whole = (span_t){start, (size_t)(r->at - start)};
    return whole->length && !depth;
}

static double number_of(span_t text) {
    char digits[MAX_DIGITS], *end;
    if (!text.length || text.length >= sizeof digits) return NAN;
    keep(digits, sizeof digits, text);
    double found = strtod(digits, &end);
    return *end ? NAN : found;
}

/* A model's name where no more than quotes, backslashes and slashes are escaped, as PHP does. */
static bool plain(scanned_t *found, span_t text) {
    size_t n = 0;
    for (size_t i = 0; i < text.length && n < sizeof found->decoded; i++) {
        char c = text.at[i];
        if (c == '\\') {
            c = text.at[++i];
            if (c != '"' && c != '\\' && c != '/') return false;
        }
        found->decoded[n++] = c;
    }
    found->model = (span_t){found->decoded, n};
    return n < sizeof found->decoded;
}

/* Whether a prompt holds pictures, sound or files, whose tokens are not in its bytes. */
static bool has_more_than_text(span_t prompt) {
    if (memmem(prompt.at, prompt.length, ";base64,", 8)) return true;
    static const char *kinds[] = {"image", "audio", "video", "file", "document"};
    reader_t r = {prompt.at, prompt.at + prompt.length};
    while ((r.at = memmem(r.at, r.end - r.at, "\"type\"", 6))) {
        r.at += 6;
        reader_t after = r;
        if (!take(&after, ':') || !take(&after, '"')) continue;
        span_t kind = {after.at, (size_t)(after.end - after.at)};
        if (kind.length > 6 && !memcmp(kind.at, "input_", 6)) kind.at += 6, kind.length -= 6;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (kind.length >= strlen(kinds[i]) && !memcmp(kind.at, kinds[i], strlen(kinds[i])))
                return true;
    }
    return false;
}

/* Whether a field asks for what is not done here: to wait, to go on from what a server holds, to be
 * served in one place, or before others. */
static bool passes_on(span_t key, span_t raw) {
    static const char *const others[] = {"inference_geo", "previous_response_id", "conversation",
                                         "priority"};
    if (same(key, LITERAL("service_tier"))) return same(raw, LITERAL("\"flex\""));
    if (same(key, LITERAL("vllm_xargs")))
        return memmem(raw.at, raw.length, "deadline_seconds", 16) ||
               memchr(raw.at, '\\', raw.length);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (same(key, span_of(others[i]))) return !same(raw, LITERAL("null"));
    return false;
}

static const char *read_field(scanned_t *found, span_t key, span_t raw, double *choices) {
    if (memchr(key.at, '\\', key.length)) {
        found->passes_on = true;
    } else if (same(key, LITERAL("model"))) {
        if (found->model.at) return "model: given twice";
        if (raw.length < 3 || *raw.at != '"') return "model: missing; say which model is meant";
        /* It is the gateway's own process that reads names with escapes, and refuses long ones. */
        if (!plain(found, (span_t){raw.at + 1, raw.length - 2})) found->passes_on = true;
    } else if (same(key, LITERAL("stream"))) {
        found->streams = same(raw, LITERAL("true"));
        if (!found->streams && !same(raw, LITERAL("false")) && !same(raw, LITERAL("null")))
            return "stream: give true or false";
    } else if ((key.length == 5 && !strncasecmp(key.at, "model", 5)) ||
               (key.length == 6 && !strncasecmp(key.at, "stream", 6))) {
        return "the body: write the names of its fields in small letters";
    } else if (same(key, LITERAL("max_tokens")) || same(key, LITERAL("max_completion_tokens"))) {
        double count = number_of(raw);
        if (count > 0.0 && count < found->max_output_tokens) found->max_output_tokens = count;
    } else if (same(key, LITERAL("n"))) {
        *choices = number_of(raw);
    } else if (same(key, LITERAL("messages")) && !same(raw, LITERAL("null"))) {
        found->prompt_bytes = has_more_than_text(raw) ? 0.0 : (double)raw.length;
    } else if (passes_on(key, raw)) {
        found->passes_on = true;
    }
    return 0;
}

void scan_chat(scanned_t *found, span_t body) {
    *found = (scanned_t){.input_tokens = NAN, .max_output_tokens = INFINITY};
    reader_t r = {body.at, body.at + body.length};
    double choices = NAN;
    bool more = take(&r, '{');
    if (!more) found->error = "the body is no JSON object";
    if (more && take(&r, '}')) more = false;
    while (more) {
        span_t key, raw;
        if (!string(&r, &key) || !take(&r, ':') || !value(&r, &raw)) {
            found->error = "the body is no JSON";
            return;
        }
        found->error = read_field(found, key, raw, &choices);
        if (found->error) return;
        if (take(&r, ',')) continue;
        more = false;
        if (!take(&r, '}')) found->error = "the body is no JSON";
    }
    skip_space(&r);
    if (!found->error && r.at != r.end) found->error = "the body is no JSON: something follows it";
    if (!found->error && !found->model.length && !found->passes_on)
        found->error = "model: missing; say which model is meant";
    if (choices > 1.0) found->max_output_tokens *= choices;
    if (isnan(scan_tokens(found->max_output_tokens))) found->max_output_tokens = INFINITY;
}
