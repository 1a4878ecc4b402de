"""What stands in the way of a request that nothing is feasible for, and the error that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from router.core import kernel_rows as k
from router.core.jit import entry
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    RefusedError,
    ResidencyError,
    ShedError,
)

# The error that tells of each obstacle, which are reasons of the kernel.
ERRORS: Final[Mapping[int, type[RefusedError]]] = {
    k.FULL: ShedError,
    k.E2E_BUDGET: BudgetImpossibleError,
    k.TPOT_BUDGET: BudgetImpossibleError,
    k.TTFT_BUDGET: BudgetImpossibleError,
    k.UNHEALTHY: NothingFeasibleError,
    k.NOT_FINITE: NothingFeasibleError,
    k.CARBON_BUDGET: PolicyExcludesError,
    k.CARBON_UNKNOWN: PolicyExcludesError,
    k.CONTEXT: PolicyExcludesError,
    k.RESIDENCY: ResidencyError,
}
# From the candidates that came closest to those that never could have served.
_IN_ORDER = np.array(tuple(ERRORS), np.int64)


@entry("i8(i8[::1], i8[::1], i8)")
def obstacle(labels, reasons, residency):  # type: ignore[no-untyped-def]
    """The reason of the candidates that came closest, a key of ERRORS.

    ``labels`` and ``reasons`` (n,) as the kernel has them. An endpoint that is out stands in the
    way where the request may run, and nowhere else.
    """
    seen = 0
    for row in range(reasons.size):
        if reasons[row] != k.UNHEALTHY or (labels[row] & residency) != 0:
            seen |= 1 << reasons[row]
    for reason in _IN_ORDER:
        if seen & (1 << reason):
            return reason
    return np.int64(k.RESIDENCY)
