/* Stands where Envoy does, for tests that call the module's own C from Python. */
#include "kernel.h"

#define SHOWN __attribute__((visibility("default")))

SHOWN void host_choose(found_t *found, const columns_t *columns, double *params,
                       const question_t *asked, double draw) {
    kernel_choose(found, columns, params, asked, draw);
}

SHOWN int64_t host_obstacle(const columns_t *columns, double *params, const question_t *asked,
                            double *terms, int64_t *reasons) {
    return kernel_obstacle(columns, params, asked, terms, reasons);
}
