#include "budgets.h"

static const budget_t *budget_at(const table_t *t, uint64_t i) {
    return (const budget_t *)in_table(t, t->budgets_at) + i;
}

static bool refuses(const budget_t *budget) {
    return (budget->action == SHEDS || budget->action == DEFERS) && !budget->is_shadow;
}

static int64_t load(const int64_t *cell) { return __atomic_load_n(cell, __ATOMIC_RELAXED); }

void budgets_judge(ruling_t *r, const table_t *t) {
    r->refusing = 0;
    r->is_held = false;
    for (uint64_t i = 0; i < t->budgets; i++) {
        const account_t *account = r->accounts[i];
        const budget_t *budget = budget_at(t, i);
        if (!account || load(&account->claimed_ug) + r->ask_ug <= load(&account->granted_ug))
            continue;
        bool is_exhausted = r->ask_ug > load(&account->left_ug);
        if (is_exhausted) {
            r->exhausted |= 1u << i;
            if (budget->is_shadow) r->is_shadowed = true;
            else r->is_enforced = true;
        }
        if (!refuses(budget)) continue;
        /* One that is exhausted before one that is held. */
        if (!r->refusing || (r->is_held && is_exhausted)) {
            r->refusing = budget;
            r->is_held = !is_exhausted;
        }
    }
}

bool budgets_go_greenest(const ruling_t *r, const table_t *t) {
    for (uint64_t i = 0; i < t->budgets; i++) {
        const budget_t *budget = budget_at(t, i);
        if (r->exhausted >> i & 1 && budget->action == GOES_GREENEST && !budget->is_shadow)
            return true;
    }
    return false;
}

/* Of an account that refuses no more than is granted, of any other whatever is asked. */
static bool claim(account_t *account, int64_t ask_ug, bool is_limit) {
    int64_t before = load(&account->claimed_ug);
    do
        if (is_limit && before + ask_ug > load(&account->granted_ug)) return false;
    while (!__atomic_compare_exchange_n(&account->claimed_ug, &before, before + ask_ug, true,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
}

bool budgets_claim(ruling_t *r, const table_t *t) {
    for (uint64_t i = 0; i < t->budgets; i++) {
        if (!r->accounts[i]) continue;
        if (claim(r->accounts[i], r->ask_ug, refuses(budget_at(t, i)))) {
            r->claimed |= 1u << i;
            continue;
        }
        r->refusing = budget_at(t, i);
        r->is_held = true;
        r->claimed = 0;
        while (i--)
            if (r->accounts[i])
                __atomic_fetch_sub(&r->accounts[i]->claimed_ug, r->ask_ug, __ATOMIC_RELAXED);
        return false;
    }
    return true;
}

const budget_t *budgets_tightest(const ruling_t *r, const table_t *t, double *left) {
    const budget_t *found = 0;
    for (uint64_t i = 0; i < t->budgets; i++) {
        const account_t *account = r->accounts[i];
        if (!account || (found && account->left >= *left)) continue;
        found = budget_at(t, i);
        *left = account->left;
    }
    return found;
}
