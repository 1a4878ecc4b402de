/* The cost kernel that numba compiled (router/core), as C calls it. */
#pragma once
#include <stdint.h>

#include "kernel_rows.h"

/* What `choose` returns: router/core/kernel.py says what each is. */
typedef struct {
    int64_t row;
    double ttft_ms, tpot_ms, e2e_ms, energy_j, run_s, prompt_ms, prefill_ms, queue_ms;
    int64_t first_row;
    double first_energy_j, first_run_s, pace_cap_ms, paced_ms;
} found_t;

/* One model's columns: of `n` candidates, `rows` of the table, `regions` ranges of candidates. */
typedef struct {
    int64_t n, rows, regions;
    double *table;   /* (rows, n) */
    double *live;    /* (K_LIVE_ROWS, n) */
    int64_t *labels; /* (n,) */
    int64_t *starts; /* (regions + 1,) */
    double *cached;  /* (n,) */
    double *scratch; /* (K_SCRATCH_ROWS, n), written */
} columns_t;

/* A request in the kernel's terms: router/core/question.py, in the same order. */
typedef struct {
    int64_t rtt_row;
    double input_tokens, output_tokens, output_tokens_quantile, network_j;
    double ttft_ms, tpot_ms, e2e_ms;
    int64_t residency;
    double slot_left_s, now_s;
} question_t;

/* `params`: of a rung of the policy's ladder, (K_PARAMS,); `draw`: uniform in [0, 1). */
void kernel_choose(found_t *found, const columns_t *columns, double *params,
                   const question_t *asked, double draw);

/* Why nothing was feasible under `params`, a reason of router/core/kernel_rows.py. `terms`: room
 * for (n, K_EVALUATED), `reasons`: for (n,). */
int64_t kernel_obstacle(const columns_t *columns, double *params, const question_t *asked,
                        double *terms, int64_t *reasons);
