/* Stands where Envoy does, for tests that call the module's own C from Python. */
#include "caller.h"
#include "decide.h"
#include "scan.h"
#include "shared.h"

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
    flags[1] = found.has_sequence;
    keep(model, room, found.model);
    return found.error;
}

/* Of one header: budgets into `figures`; the reason it is refused for. */
SHOWN const char *host_caller(const char *key, const char *value, double *figures, char *names) {
    caller_t caller = {0};
    header_t header = {key, strlen(key), value, strlen(value)};
    caller_read(&caller, &header, 1, 5.0, 3.6e6);
    figures[0] = caller.ttft_ms;
    figures[1] = caller.tpot_ms;
    figures[2] = caller.e2e_ms;
    memcpy(names, caller.origin, MAX_NAME);
    return REFUSALS[caller.refused].reason;
}

SHOWN const char *host_refusal(int which, int *codes) {
    if (which >= REASONS) return 0;
    codes[0] = REFUSALS[which].grpc;
    codes[1] = REFUSALS[which].http;
    return REFUSALS[which].reason;
}
