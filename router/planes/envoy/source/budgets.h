/* Carbon budgets of requests: claimed here, over all workers, of what the gateway has granted.
 *
 * The gateway says how many micrograms of an account were ever granted, workers how many were ever
 * claimed: who finds too few left between the two is refused, and no two can claim the same. */
#pragma once
#include "decide.h"

/* On a cache line of its own. The gateway writes all but `claimed_ug`. `left_ug`: that is not spent;
 * `left`: of the limit, neither spent nor reserved. */
typedef struct {
    uint64_t key;
    int64_t granted_ug, left_ug;
    double left;
    int64_t claimed_ug, unused[3];
} account_t;

/* What one request claims. `accounts` by budget, 0 for none. */
typedef struct {
    account_t *accounts[MAX_BUDGETS];
    int64_t ask_ug;
    uint32_t claimed, exhausted; /* bits of budgets: of which it is, that had nothing left for it */
    bool is_shadowed, is_enforced;
    const budget_t *refusing; /* why it is not let in; 0 where it is */
    bool is_held;             /* not now, but the day has room */
} ruling_t;

/* What budgets say of a request that may emit `ruling->ask_ug`; claims nothing. */
void budgets_judge(ruling_t *ruling, const table_t *table);
/* Whether one of them has it go where it emits least. */
bool budgets_go_greenest(const ruling_t *ruling, const table_t *table);
/* Claims it; false where another request took what was left meanwhile. */
bool budgets_claim(ruling_t *ruling, const table_t *table);
/* The one of which least is left; 0 for none. */
const budget_t *budgets_tightest(const ruling_t *ruling, const table_t *table, double *left);
