/* What the module reads of requests, tried on bytes that nobody meant, under sanitizers.
 * test_fuzz.py builds and runs it. With clang's -fsanitize=fuzzer instead of -DINPUTS it is guided
 * by coverage. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "keys/keys.h"
#include "known.h"
#include "patterns.h"
#include "scan.h"
#include "written.h"

#define MAX_INPUT 2048
#define HEADERS 24

static void must(bool is_true, const char *what) {
    if (is_true) return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static bool is_ended(const char *text, size_t room) { return memchr(text, 0, room) != 0; }

static void check_body(bool is_chat, span_t body) {
    scanned_t found;
    (is_chat ? scan_chat : scan_oip)(&found, body);
    must(found.error || found.model.length || found.passes_on, "a body is refused, or names a model");
    must(isnan(found.input_tokens) || found.input_tokens >= 1.0, "prompts have tokens");
    must(found.error || found.max_output_tokens >= 1.0, "answers have tokens");
    must(found.prompt_bytes >= 0.0 && found.prompt_bytes <= (double)body.length,
         "a prompt is part of its body");
    span_t said[] = {found.model, found.version, found.request_id};
    volatile char last;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        /* Whoever reads past the body, or a span outside it, is stopped by the sanitizer. */
        for (size_t at = 0; at < said[i].length; at++) last = said[i].at[at];
    (void)last;
}

/* Lines of `key:value`. */
static void check_headers(span_t text) {
    static const char *keys[] = {
        "x-ttft-budget-ms", "x-tpot-budget-ms", "x-latency-budget-ms", "x-origin", "x-tenant",
        "x-residency", "grpc-timeout", "x-carbon-receipt", "content-type", "x-carbon-grams",
        "authorization", "x-api-key", "x-forwarded-client-cert", "x_api_key-bin", "x-resdency",
    };
    header_t headers[HEADERS];
    size_t count = 0;
    for (const char *at = text.at, *end = at + text.length; at < end && count < HEADERS; count++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        const char *colon = memchr(at, ':', (size_t)(stop - at));
        const char *value = colon ? colon + 1 : at + 1;
        const char *key = keys[*(const unsigned char *)at % (sizeof keys / sizeof *keys)];
        headers[count] = colon && at < colon
                             ? (header_t){at, (size_t)(colon - at), value, (size_t)(stop - value)}
                             : (header_t){key, strlen(key), value,
                                          value < stop ? (size_t)(stop - value) : 0};
        at = stop + 1;
    }
    uint8_t digest[DIGEST_BYTES];
    bool is_credential, with = count & 1;
    char *question = malloc(MAX_ASKED);
    known_digest(digest, &is_credential, headers, count, with);
    must(known_question(headers, count, with, question) <= MAX_ASKED, "few headers are asked with");
    free(question);
    for (size_t i = 0; i < count; i++)
        known_is_secret((span_t){headers[i].key, headers[i].key_length},
                        (span_t){headers[i].value, headers[i].value_length});
    caller_t caller = {0};
    caller_read(&caller, headers, count, 5.0, 3.6e6);
    double budgets[] = {caller.ttft_ms, caller.tpot_ms, caller.e2e_ms};
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++)
        must(budgets[i] >= 0.0, "budgets are times");
    must(is_ended(caller.origin, sizeof caller.origin) &&
             is_ended(caller.tenant, sizeof caller.tenant) &&
             is_ended(caller.residency, sizeof caller.residency) &&
             is_ended(caller.error, sizeof caller.error),
         "texts end");
    for (const char *c = caller.error; *c; c++)
        must(*c >= ' ' && *c <= '~', "what goes into a header is printable");
}

/* An entry as a writer that has gone mad might leave it: texts of any length, or none. */
static void check_entry(span_t text) {
    known_file_t *file = calloc(1, sizeof *file + KNOWN_WAYS * sizeof(known_entry_t));
    known_entry_t *entry = (known_entry_t *)(file + 1);
    file->sets = 1, file->entries_at = sizeof *file;
    size_t n = text.length < sizeof *entry ? text.length : sizeof *entry;
    memcpy((char *)entry + sizeof *entry - n, text.at, n);
    if (text.length > 1) entry->text_bytes = (uint32_t)(unsigned char)text.at[0] << 3;
    if (text.length > 2) entry->patterns = (unsigned char)text.at[1];
    entry->stamp = entry->generation = 0, entry->until_s = 1.0;
    uint8_t digest[DIGEST_BYTES];
    memcpy(digest, entry->digest, sizeof digest);
    caller_t caller = {0};
    known_t known = {0};
    if (known_find(file, digest, 0.0, &caller, &known)) {
        must(is_ended(caller.origin, sizeof caller.origin) &&
                 is_ended(caller.tenant, sizeof caller.tenant),
             "names of an entry end");
        known_may_use(&known, LITERAL("model"));
    }
    free(known.models);
    free(file);
}

/* A pattern and a name, each of its own size; and receipts' numbers. */
static void check_pattern(span_t text) {
    size_t half = text.length / 2 < 64 ? text.length / 2 : 64, rest = text.length - half;
    if (rest > 512) rest = 512;
    char *pattern = malloc(half + 1), *name = malloc(rest + 1), said[48];
    memcpy(pattern, text.at, half);
    memcpy(name, text.at + half, rest);
    pattern_is_of((span_t){pattern, half}, (span_t){name, rest});
    must(pattern_is_of(LITERAL("*"), (span_t){name, rest}), "a star is of every name");
    double value = 0.0;
    memcpy(&value, text.at, half < sizeof value ? half : sizeof value);
    written_t into = {said, sizeof said, 0};
    write_hex(&into, (uint64_t)rest);
    write_decimal(&into, value, (int)(rest % 10));
    must(into.used <= sizeof said, "what has no room is cut off");
    free(pattern);
    free(name);
}

/* Keys of servers as a writer that has gone mad might leave them. */
static void check_keys(span_t text) {
    static uint64_t number;
    keys_file_t *file = malloc(sizeof *file + text.length);
    *file = (keys_file_t){KEYS_MAGIC, text.length, number + 1, number + 1, text.length};
    number++;
    memcpy(file + 1, text.at, text.length);
    server_key_t found;
    volatile char last = 0;
    size_t half = text.length / 2;
    if (keys_find(file, (span_t){text.at, half}, &found))
        for (size_t at = 0; at < found.value.length; at++) last = found.value.at[at];
    if (keys_find(file, (span_t){"127.0.0.1:1", 11}, &found))
        for (size_t at = 0; at < found.header.length; at++) last = found.header.at[at];
    (void)last;
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    /* Of its own size, so that one byte too far is seen. */
    char *bytes = malloc(size);
    memcpy(bytes, data, size);
    span_t text = {bytes + 1, size - 1};
    switch (*data % 6) {
    case 0: check_body(true, text); break;
    case 1: check_body(false, text); break;
    case 2: check_headers(text); break;
    case 3: check_entry(text); break;
    case 4: check_keys(text); break;
    default: check_pattern(text);
    }
    free(bytes);
    return 0;
}

#ifdef INPUTS
#define SEED(kind, text) {kind text, sizeof(kind text) - 1}

static const struct {
    const char *at;
    size_t length;
} SEEDS[] = {
    SEED("\0", "{\"model\":\"m\",\"stream\":true,\"max_tokens\":64,\"n\":2,\"messages\":[{\"role\":"
               "\"user\",\"content\":\"why \\\"is\\\" it\"}]}"),
    SEED("\0", "{\"model\":\"meta\\/llama\",\"messages\":[{\"content\":[{\"type\":\"image_url\"},"
               "{\"type\":\"input_audio\"},{\"type\":\"text\"}]}],\"max_completion_tokens\":1e3}"),
    SEED("\0", " {\"a\":[[[{\"b\":null}]]],\"stream\":null,\"model\":\"x\"} "),
    SEED("\1", "\x0a\x01m\x12\x01" "2\x1a\x02id\x22\x12\x0a\x0amax_tokens\x12\x04\x10\xc0\x84\x3d"
               "\x3a\x03" "abc"),
    SEED("\1", "\x0a\x05model\x22\x18\x0a\x0c" "input_tokens\x12\x09\x21\0\0\0\0\0\0\x59\x40\x22"
               "\x10\x0a\x0bsequence_id\x12\x02\x10\x07"),
    SEED("\2", "x-ttft-budget-ms:250\nx-tenant:acme\nx-residency:eu, us\ngrpc-timeout:250m\n"
               "content-type:application/grpc\n"),
    SEED("\2", "authorization:Bearer crk_abcdefghij23_x\nx-forwarded-client-cert:Hash=00;Cert=x\n"),
    SEED("\4", "127.0.0.1:1\0authorization\0Bearer k\0" "127.0.0.2:1\0x-api-key\0k\0"),
    SEED("\3", "\x20\x02" "acme\0home\0llama-*\0[a-z]?\0"),
    SEED("\5", "[!a-c]*?[b-a!-z]\xc3\xa9[^x]--abcdefgh\xc3\xa9xyz"),
    SEED("\5", "*[]-a]*[[:alpha:]]*[\\d]\xf0\x9f\x98\x80" "aaaa]]]]\\\\\xf0\x9f\x98\x80"),
    SEED("\2", "x-residancy:eu\nx-deadline-s:5\nx-energi-data:1\nx_origins:a\nx-min-quality:1\n"),
    SEED("\0", "{\"model\":\"m\",\"service_tier\":\"flex\",\"vllm_xargs\":{\"agentic_context\":{"
               "\"deadline_seconds\":9}},\"inference_geo\":\"eu\",\"priority\":1}"),
    SEED("\2", "x-latency-budget-ms: 1e3 \nx-origin:eu-1\nx-carbon-receipt:full\nx-carbon-g:1\n"),
};
static const char *const WORDS[] = {
    "\"model\":", "{", "}", "[", "]", "\"", "\\", "\\\"", ",", ":", "null", "true", "1e999", "-1",
    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x0a\x01m", "\x22", "\"type\":\"image", "\n",
    "x-tenant:", "grpc-timeout:99999999H", ";base64,", "nan", "0x1p9", "\xc3\xa9", "\x12", "%",
    "[!", "[a-z]", "*",
};

static uint64_t state = 0x9e3779b97f4a7c15u;
static size_t below(size_t n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return n ? (size_t)(state % n) : 0;
}

/* One change; the new length. */
static size_t mutate(char *text, size_t length) {
    size_t at = 1 + below(length - 1), n = 1 + below(8);
    switch (below(6)) {
    case 0: text[at] = (char)below(256); return length;
    case 1: text[at] = (char)(text[at] ^ (1 << below(8))); return length;
    case 2: return at + 1;
    case 3: /* out */
        if (at + n >= length) return length;
        memmove(text + at, text + at + n, length - at - n);
        return length - n;
    case 4: { /* a word in */
        const char *word = WORDS[below(sizeof WORDS / sizeof *WORDS)];
        n = strlen(word);
        if (length + n > MAX_INPUT) return length;
        memmove(text + at + n, text + at, length - at);
        memcpy(text + at, word, n);
        return length + n;
    }
    default: /* a part twice */
        n = 1 + below(length - at);
        if (length + n > MAX_INPUT) return length;
        memmove(text + at + n, text + at, length - at);
        return length + n;
    }
}

int main(void) {
    char text[MAX_INPUT];
    size_t length = 0;
    for (long i = 0; i < INPUTS; i++) {
        /* Changes pile up on one seed for a while. */
        if (i % 32 == 0 || length < 2) {
            size_t which = below(sizeof SEEDS / sizeof *SEEDS);
            memcpy(text, SEEDS[which].at, length = SEEDS[which].length);
        }
        length = mutate(text, length);
        LLVMFuzzerTestOneInput((const uint8_t *)text, length);
    }
    printf("%ld inputs\n", (long)INPUTS);
    return 0;
}
#endif
