/* What a request may emit: claimed of carbon budgets before it leaves. */
#include <math.h>

#include "request.h"

static void find_accounts(request_t *r, const table_t *t) {
    const budget_t *budgets = in_table(t, t->budgets_at);
    const int64_t *of_model = in_table(t, r->decision.model->accounts_at);
    for (uint64_t i = 0; i < t->budgets; i++) {
        int64_t row = budgets[i].account >= 0 ? budgets[i].account : of_model[i];
        if (row < 0) row = r->known.accounts[i];
        r->ruling.accounts[i] = known_account(r->front->known, row);
    }
}

static void refuse_grams(request_t *r, const table_t *t) {
    const budget_t *budget = r->ruling.refusing;
    span_t name = text_in(t, budget->name);
    double ask_g = (double)r->ruling.ask_ug * 1e-6, left_g = INFINITY;
    for (uint64_t i = 0; i < t->budgets; i++)
        if ((const budget_t *)in_table(t, t->budgets_at) + i == budget && r->ruling.accounts[i])
            left_g = fmax(0.0, r->ruling.accounts[i]->left * budget->limit_g);
    if (r->ruling.is_held) {
        caller_refuse(&r->caller, CARBON_BUDGET_HELD,
                      "what is left of the carbon budget '%.*s' is held by requests under way or "
                      "by other gateways, or has yet to be drawn: this one may emit %.3g g",
                      (int)name.length, name.at, ask_g);
    } else {
        caller_refuse(&r->caller, CARBON_BUDGET,
                      "the carbon budget '%.*s' has %.3g g left of %g for this UTC day, and this "
                      "request may emit %.3g g%s",
                      (int)name.length, name.at, left_g, budget->limit_g, ask_g,
                      budget->action == DEFERS
                          ? "; in a batch, or in the background, it would wait for the next"
                          : "");
        double left_s = fmax(0.0, t->day_ends_s - monotonic_s());
        r->caller.retry_ms = (uint32_t)fmin(ceil(left_s * 1e3) + 1.0, 4e9);
    }
    keep(r->details, sizeof r->details, name);
    if (r->use && r->reserved_tokens) use_give_back(r->use, r->reserved_tokens);
    r->reserved_tokens = 0.0;
    if (r->decision.seat >= 0) hold(r->front->shared, r->decision.seat, -1);
    r->decision.seat = -1;
    r->decision.sight = 0;
}

bool claim_grams(request_t *r, const view_t *view) {
    const table_t *t = view->table;
    ruling_t *ruling = &r->ruling;
    if (!t->budgets) return true;
    find_accounts(r, t);
    ruling->ask_ug = most_ug(t, &r->decision, r->front->shared);
    budgets_judge(ruling, t);
    if (!ruling->refusing && budgets_go_greenest(ruling, t)) {
        uint32_t exhausted = ruling->exhausted;
        if (!decide_greenest(&r->decision, &r->caller, r->body.model, r->front->shared, view)) {
            if (r->use && r->reserved_tokens) use_give_back(r->use, r->reserved_tokens);
            r->reserved_tokens = 0.0;
            return false;
        }
        ruling->ask_ug = most_ug(t, &r->decision, r->front->shared);
        budgets_judge(ruling, t);
        /* What led here stands, though it may fit now. */
        ruling->exhausted |= exhausted;
    }
    if (!ruling->refusing && budgets_claim(ruling, t)) return true;
    refuse_grams(r, t);
    return false;
}
