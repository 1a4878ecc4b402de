#include "limits.h"

#define S 1e9
#define MINUTE_S 60.0
/* What is more would not fit a count of nanoseconds. */
#define MOST_NS 9.2e17

static double least(double one, double other) { return one < other ? one : other; }

/* Takes `amount` of a bucket that holds `burst` and gains `per_s`, or says how long to wait. What
 * is more than it holds is taken when it is full. */
static bool take(int64_t *full_ns, double amount, double per_s, double burst, int64_t now_ns,
                 double *wait_s) {
    double wanted_s = least(amount, burst) / per_s, burst_s = burst / per_s;
    int64_t cost_ns = (int64_t)least(amount / per_s * S, MOST_NS);
    int64_t before = __atomic_load_n(full_ns, __ATOMIC_RELAXED);
    for (;;) {
        int64_t from = before > now_ns ? before : now_ns;
        double held_s = burst_s - (double)(from - now_ns) / S;
        /* A nanosecond is what sums are off by. */
        if (held_s + 1e-9 < wanted_s) {
            *wait_s = wanted_s - held_s;
            return false;
        }
        if (__atomic_compare_exchange_n(full_ns, &before, from + cost_ns, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return true;
    }
}

/* What the gateway settled since the last time, by whoever comes first. */
static void take_owed(use_t *use) {
    int64_t owed = __atomic_load_n(&use->owed_ns, __ATOMIC_ACQUIRE);
    int64_t taken = __atomic_load_n(&use->taken_ns, __ATOMIC_RELAXED);
    if (owed == taken || !__atomic_compare_exchange_n(&use->taken_ns, &taken, owed, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    int64_t more = owed - taken, at = __atomic_load_n(&use->owed_at_ns, __ATOMIC_RELAXED);
    int64_t before = __atomic_load_n(&use->tokens_full_ns, __ATOMIC_RELAXED), after;
    do after = more > 0 && before < at ? at + more : before + more;
    while (!__atomic_compare_exchange_n(&use->tokens_full_ns, &before, after, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

used_t use_begin(use_t *use, int64_t now_ns, double *wait_s) {
    __atomic_fetch_add(&use->asked, 1, __ATOMIC_RELAXED);
    int64_t most = __atomic_load_n(&use->most_at_once, __ATOMIC_RELAXED);
    int64_t passed = __atomic_load_n(&use->passed_at_once, __ATOMIC_RELAXED);
    int64_t there = __atomic_load_n(&use->at_once, __ATOMIC_RELAXED);
    do
        if (most >= 0 && there + passed >= most) {
            __atomic_fetch_add(&use->refused_at_once, 1, __ATOMIC_RELAXED);
            *wait_s = 1.0;
            return PLACES_USED;
        }
    while (!__atomic_compare_exchange_n(&use->at_once, &there, there + 1, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    uint64_t peak = __atomic_load_n(&use->peak, __ATOMIC_RELAXED);
    while ((int64_t)peak <= there &&
           !__atomic_compare_exchange_n(&use->peak, &peak, (uint64_t)there + 1, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    double per_s = use->per_s, burst = use->burst;
    if (per_s > 0.0 && !take(&use->requests_full_ns, 1.0, per_s, burst, now_ns, wait_s)) {
        use_leave(use);
        return REQUESTS_USED;
    }
    return WITHIN;
}

used_t use_reserve(use_t *use, double tokens, int64_t now_ns, double *wait_s) {
    double most = use->tokens_per_min;
    if (!(most > 0.0)) return WITHIN;
    __atomic_fetch_add(&use->asked_tokens, (uint64_t)least(tokens, 1e15), __ATOMIC_RELAXED);
    take_owed(use);
    return take(&use->tokens_full_ns, tokens, most / MINUTE_S, most, now_ns, wait_s) ? WITHIN
                                                                                     : TOKENS_USED;
}

void use_give_back(use_t *use, double tokens) {
    double most = use->tokens_per_min;
    if (!(most > 0.0)) return;
    int64_t back = (int64_t)least(tokens / most * MINUTE_S * S, MOST_NS);
    __atomic_fetch_sub(&use->tokens_full_ns, back, __ATOMIC_RELAXED);
}

void use_leave(use_t *use) { __atomic_fetch_sub(&use->at_once, 1, __ATOMIC_RELAXED); }

void use_undo(use_t *use) {
    double per_s = use->per_s;
    __atomic_fetch_sub(&use->asked, 1, __ATOMIC_RELAXED);
    if (per_s > 0.0)
        __atomic_fetch_sub(&use->requests_full_ns, (int64_t)least(S / per_s, MOST_NS),
                           __ATOMIC_RELAXED);
    use_leave(use);
}
