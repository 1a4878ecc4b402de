/* What one principal uses, over all workers: as router/identity/limits.py, in memory that they
 * share.
 *
 * A bucket is the moment at which it will be full: whoever takes moves that on by as long as what
 * it takes needs to come in. One word, so that each take is one exchange, and nobody refills. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Of one principal, on cache lines of its own. What the gateway writes: `key`, rates (0: no limit),
 * `most_at_once` (below 0: no limit), `passed_at_once`: requests of it that are passed on, and in
 * `owed_ns` what answers took beyond what was reserved, all together, the last of it at `owed_at_ns`.
 * The workers': the rest; of the buckets what is passed on takes, too. */
typedef struct {
    uint64_t key;
    double per_s, burst, tokens_per_min;
    int64_t most_at_once, owed_ns, owed_at_ns, passed_at_once;
    int64_t requests_full_ns, tokens_full_ns, taken_ns, at_once;
    uint64_t asked, asked_tokens, refused_at_once, peak;
} use_t;

typedef enum { WITHIN, REQUESTS_USED, TOKENS_USED, PLACES_USED } used_t;

/* One more request, which `use_leave` ends where it is within. `wait_s`: until it would be. */
used_t use_begin(use_t *use, int64_t now_ns, double *wait_s);
/* So many tokens are expected of it. */
used_t use_reserve(use_t *use, double tokens, int64_t now_ns, double *wait_s);
/* It was refused: nothing was used of them. */
void use_give_back(use_t *use, double tokens);
void use_leave(use_t *use);
/* It is counted elsewhere, from the beginning: as if it had never been here. */
void use_undo(use_t *use);
