/* numba's calling convention, once. A function takes a pointer to its result, one to what it
 * raised (never: the kernel raises nothing), then its arguments; an array is seven or nine of them:
 * who owns it, its parent, items, bytes of one, data, shape, strides. */
#include "kernel.h"

#define TAKES_1D(type) void *, void *, int64_t, int64_t, type *, int64_t, int64_t
#define TAKES_2D(type) void *, void *, int64_t, int64_t, type *, int64_t, int64_t, int64_t, int64_t
#define GIVE_1D(data, n) 0, 0, (n), 8, (data), (n), 8
#define GIVE_2D(data, rows, n) 0, 0, (rows) * (n), 8, (data), (rows), (n), (n) * 8, 8
/* REQUEST of router/core/asked.py. */
#define TAKES_REQUEST                                                                            \
    int64_t, double, double, double, double, double, double, double, int64_t, double, double,    \
        TAKES_1D(double)
#define GIVE_REQUEST(asked, columns)                                                             \
    (asked)->rtt_row, (asked)->input_tokens, (asked)->output_tokens,                             \
        (asked)->output_tokens_quantile, (asked)->network_j, (asked)->ttft_ms, (asked)->tpot_ms, \
        (asked)->e2e_ms, (asked)->residency, (asked)->slot_left_s, (asked)->now_s,               \
        GIVE_1D((columns)->cached, (columns)->n)

extern int32_t carbon_router_choose(found_t *, void **, TAKES_2D(double), TAKES_2D(double),
                                    TAKES_1D(int64_t), TAKES_1D(int64_t), TAKES_1D(double),
                                    TAKES_REQUEST, double, TAKES_2D(double));
extern int32_t carbon_router_evaluate(void **, void **, TAKES_2D(double), TAKES_2D(double),
                                      TAKES_1D(int64_t), TAKES_1D(double), TAKES_REQUEST,
                                      TAKES_2D(double), TAKES_1D(int64_t));
extern int32_t carbon_router_obstacle(int64_t *, void **, TAKES_1D(int64_t), TAKES_1D(int64_t),
                                      int64_t);

void kernel_choose(found_t *found, const columns_t *c, double *params, const question_t *asked,
                   double draw) {
    void *raised = 0;
    carbon_router_choose(found, &raised, GIVE_2D(c->table, c->rows, c->n),
                         GIVE_2D(c->live, (int64_t)K_LIVE_ROWS, c->n), GIVE_1D(c->labels, c->n),
                         GIVE_1D(c->starts, c->regions + 1),
                         GIVE_1D(params, (int64_t)K_PARAMS), GIVE_REQUEST(asked, c), draw,
                         GIVE_2D(c->scratch, (int64_t)K_SCRATCH_ROWS, c->n));
}

int64_t kernel_obstacle(const columns_t *c, double *params, const question_t *asked, double *terms,
                        int64_t *reasons) {
    void *raised = 0, *nothing = 0;
    int64_t why = K_RESIDENCY;
    carbon_router_evaluate(&nothing, &raised, GIVE_2D(c->table, c->rows, c->n),
                           GIVE_2D(c->live, (int64_t)K_LIVE_ROWS, c->n), GIVE_1D(c->labels, c->n),
                           GIVE_1D(params, (int64_t)K_PARAMS), GIVE_REQUEST(asked, c),
                           GIVE_2D(terms, c->n, (int64_t)K_EVALUATED), GIVE_1D(reasons, c->n));
    carbon_router_obstacle(&why, &raised, GIVE_1D(c->labels, c->n), GIVE_1D(reasons, c->n),
                           asked->residency);
    return why;
}
