/* Stands where Envoy does, for tests that call the module's own C from Python. */
#include "caller.h"
#include "decide.h"
#include "keys/keys.h"
#include "known.h"
#include "misspelt.h"
#include "patterns.h"
#include "scan.h"
#include "shared.h"
#include "written.h"

#include <stdlib.h>

#define SHOWN __attribute__((visibility("default")))

SHOWN void host_choose(found_t *found, const columns_t *columns, double *params,
                       const question_t *asked, double draw) {
    kernel_choose(found, columns, params, asked, draw);
}

SHOWN int64_t host_obstacle(const columns_t *columns, double *params, const question_t *asked,
                            double *terms, int64_t *reasons) {
    return kernel_obstacle(columns, params, asked, terms, reasons);
}

/* Sizes and a late offset of each struct that router/planes/envoy/layout.py has, too. */
SHOWN void host_layout(uint64_t *into) {
    uint64_t sizes[] = {
        sizeof(text_t), sizeof(shared_t), sizeof(seat_t), sizeof(named_t), sizeof(region_t),
        sizeof(endpoint_t), sizeof(model_t), sizeof(table_t), sizeof(question_t), sizeof(found_t),
        sizeof(record_t), sizeof(sight_t), offsetof(shared_t, sight_head), offsetof(region_t, observed_at),
        offsetof(model_t, template_tokens), offsetof(table_t, relaxed), offsetof(table_t, attempts),
        offsetof(record_t, found), offsetof(record_t, status), offsetof(record_t, cut_short),
        offsetof(record_t, tail),
        sizeof(known_file_t), sizeof(known_entry_t), sizeof(use_t), sizeof(account_t),
        sizeof(budget_t), sizeof(run_t), offsetof(record_t, is_greenest), offsetof(table_t, green_relaxed), offsetof(known_entry_t, text),
        offsetof(use_t, peak), offsetof(record_t, reserved_tokens), offsetof(known_file_t, looked_s),
    };
    memcpy(into, sizes, sizeof sizes);
}

/* Of a body: counts into `figures`, flags into `flags`, the model into `model`; what is wrong. */
SHOWN const char *host_scan(int is_chat, const char *body, size_t length, double *figures,
                            int *flags, char *model, size_t room) {
    scanned_t found;
    (is_chat ? scan_chat : scan_oip)(&found, (span_t){body, length});
    figures[0] = found.input_tokens;
    figures[1] = found.max_output_tokens;
    figures[2] = found.prompt_bytes;
    flags[0] = found.streams;
    flags[1] = found.passes_on;
    keep(model, room, found.model);
    return found.error;
}

SHOWN int host_is_misspelt(const char *key, size_t length) {
    return is_misspelt((span_t){key, length});
}

/* Of one header: budgets into `figures`; the reason it is refused for, "passed on" where it is. */
SHOWN const char *host_caller(const char *key, const char *value, double *figures, char *names) {
    caller_t caller = {0};
    header_t header = {key, strlen(key), value, strlen(value)};
    caller_read(&caller, &header, 1, 5.0, 3.6e6);
    figures[0] = caller.ttft_ms;
    figures[1] = caller.tpot_ms;
    figures[2] = caller.e2e_ms;
    memcpy(names, caller.origin, MAX_NAME);
    return caller.passes_on ? "passed on" : REFUSALS[caller.refused].reason;
}

SHOWN int host_pattern_is_of(const char *pattern, size_t length, const char *name, size_t size) {
    return pattern_is_of((span_t){pattern, length}, (span_t){name, size});
}

SHOWN size_t host_decimal(double value, int places, char *into, size_t room) {
    written_t text = {into, room, 0};
    write_decimal(&text, value, places);
    return text.used;
}

SHOWN const char *host_refusal(int which, int *codes) {
    if (which >= REASONS) return 0;
    codes[0] = REFUSALS[which].grpc;
    codes[1] = REFUSALS[which].http;
    return REFUSALS[which].reason;
}

SHOWN void host_sha256(const char *bytes, size_t length, size_t at, uint8_t *digest) {
    sha256_t hash;
    sha256_begin(&hash);
    sha256_put(&hash, bytes, at);
    sha256_put(&hash, bytes + at, length - at);
    sha256_end(&hash, digest);
}

/* Of one header: what a call with it is known by; whether that says who calls. */
SHOWN int host_digest(const char *key, const char *value, int with_credentials, uint8_t *digest) {
    header_t header = {key, strlen(key), value, strlen(value)};
    bool is_credential;
    known_digest(digest, &is_credential, &header, 1, with_credentials);
    return is_credential;
}

SHOWN int host_is_secret(const char *key, const char *value) {
    return known_is_secret(span_of(key), span_of(value));
}

SHOWN const void *host_keys(const char *path) { return keys_open(path); }

/* Of the server at `address`: header and value into `texts`; whether it has any. */
SHOWN int host_key(const void *file, const char *address, char *texts, size_t room) {
    server_key_t found;
    if (!keys_find(file, span_of(address), &found)) return 0;
    keep(texts, room, found.header);
    keep(texts + room, room, found.value);
    return 1;
}

/* A file with two slots of `words` behind a table's head, for the two that follow. */
SHOWN void *host_slots(uint64_t words) {
    uint64_t bytes = sizeof(table_t) + words * sizeof(uint64_t);
    shared_t *shared = calloc(1, sizeof *shared + 2 * bytes);
    shared->slot_bytes = bytes;
    shared->slots_at[0] = sizeof *shared, shared->slots_at[1] = sizeof *shared + bytes;
    return shared;
}

/* As the gateway does, without a pause: three tables of each generation, whose number is all that
 * they hold. */
SHOWN void host_write_tables(shared_t *shared, uint64_t words, uint64_t tables) {
    for (uint64_t n = 1; n <= tables; n++) {
        table_t *table = (table_t *)((char *)shared + shared->slots_at[n & 1]);
        uint64_t *said = (uint64_t *)(table + 1);
        __atomic_store_n(&table->begun, n, __ATOMIC_SEQ_CST);
        table->bytes = shared->slot_bytes, table->generation = 1 + n / 3, table->since_s = -1e9;
        for (uint64_t i = 0; i < words; i++)
            __atomic_store_n(said + i, table->generation, __ATOMIC_RELAXED);
        __atomic_store_n(&table->done, n, __ATOMIC_RELEASE);
        __atomic_store_n(&shared->newest, n, __ATOMIC_RELEASE);
    }
}

static int64_t as_many(void *of) { return (void)of, 0; }

static bool is_of(const copy_t *copy, uint64_t generation, uint64_t words) {
    const uint64_t *said = (const uint64_t *)(copy->table + 1);
    for (uint64_t i = 0; i < words; i++)
        if (said[i] != generation) return false;
    return copy->generation == generation;
}

/* As a worker that has some requests under way: how often a table was none, or that of a request
 * became another generation's. */
SHOWN uint64_t host_read_tables(shared_t *shared, uint64_t words, uint64_t last) {
    enum { UNDER_WAY = 16 };
    struct {
        copy_t *copy;
        uint64_t generation;
    } held[UNDER_WAY] = {{0, 0}};
    uint64_t wrong = 0;
    for (uint64_t i = 0, at = 0; i < UNDER_WAY || shared->newest < last; at = ++i % UNDER_WAY) {
        const view_t *view = shared_view(shared, false, as_many, 0);
        if (held[at].copy) {
            wrong += !is_of(held[at].copy, held[at].generation, words);
            copy_leave(held[at].copy);
            held[at].copy = 0;
        }
        if (!view) continue;
        wrong += !is_of(view->copy, view->table->generation, words);
        held[at].copy = view->copy, held[at].generation = view->table->generation;
        copy_keep(view->copy);
    }
    return wrong;
}

SHOWN void *host_known(const char *path) { return known_open(path); }

/* Who is known by `digest`: tenant and origin into `names`, the rest into `figures`; whether
 * anybody is, and whether they may use `model`. */
SHOWN int host_find(void *file, const uint8_t *digest, double now_s, char *names, int64_t *figures,
                    const char *model) {
    caller_t caller = {0};
    known_t known = {.use = -1};
    if (!known_find(file, digest, now_s, &caller, &known)) return -1;
    memcpy(names, caller.tenant, MAX_NAME);
    memcpy(names + MAX_NAME, caller.origin, MAX_NAME);
    figures[0] = caller.jurisdictions;
    figures[1] = known.use;
    int may = known_may_use(&known, span_of(model));
    free(known.models);
    return may;
}

SHOWN int host_known_holds(void *file, double now_s) { return known_holds(file, now_s); }

SHOWN int host_use_begin(void *file, int64_t row, int64_t now_ns, double *wait_s) {
    return use_begin(known_use(file, row), now_ns, wait_s);
}
SHOWN int host_use_reserve(void *file, int64_t row, double tokens, int64_t now_ns,
                           double *wait_s) {
    return use_reserve(known_use(file, row), tokens, now_ns, wait_s);
}
SHOWN void host_use_leave(void *file, int64_t row) { use_leave(known_use(file, row)); }
SHOWN void host_use_undo(void *file, int64_t row) { use_undo(known_use(file, row)); }
SHOWN void host_use_give_back(void *file, int64_t row, double tokens) {
    use_give_back(known_use(file, row), tokens);
}

/* Claims `ask_ug` of the account in `row` under `table`'s one budget; whether it was let in. */
SHOWN int host_claim(void *file, int64_t row, const void *table, int64_t ask_ug, int *is_held) {
    ruling_t ruling = {.accounts = {known_account(file, row)}, .ask_ug = ask_ug};
    budgets_judge(&ruling, table);
    bool is_in = !ruling.refusing && budgets_claim(&ruling, table);
    *is_held = ruling.is_held;
    return is_in;
}

/* Grams that a request may emit, in micrograms: of one candidate of a token profile. */
SHOWN int64_t host_most_ug(const run_t *run, const double *asked, double g_per_kwh, double pue) {
    struct {
        table_t table;
        endpoint_t endpoint;
        region_t region;
        run_t run;
        double task_j, others;
    } here = {.endpoint = {.region = 0}, .region = {.pue = pue, .g_per_kwh = g_per_kwh},
              .run = *run, .others = asked[4]};
    here.table.endpoints_at = (uint64_t)((char *)&here.endpoint - (char *)&here);
    here.table.regions_at = (uint64_t)((char *)&here.region - (char *)&here);
    model_t model = {.runs_at = (uint64_t)((char *)&here.run - (char *)&here),
                     .task_j_at = (uint64_t)((char *)&here.task_j - (char *)&here),
                     .others_at = (uint64_t)((char *)&here.others - (char *)&here)};
    struct {
        shared_t shared;
        seat_t seat;
    } counts = {.seat = {.in_flight = 1}};
    counts.shared.seats_at = (uint64_t)((char *)&counts.seat - (char *)&counts);
    decision_t decision = {.model = &model,
                           .asked = {.input_tokens = asked[0], .output_tokens = asked[1],
                                     .output_tokens_quantile = asked[2], .network_j = asked[3]}};
    return most_ug(&here.table, &decision, &counts.shared);
}
