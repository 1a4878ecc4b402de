"""The mean of what holds step by step, such as a grid's intensity, over a run."""

from __future__ import annotations

import math

from router.core.jit import entry


@entry("f8(f8[:], f8, f8, f8)")
def mean_of_steps(values, step_s, begin_s, end_s):  # type: ignore[no-untyped-def]
    """Mean of ``values`` (n,), of ``step_s`` each, from ``begin_s`` to ``end_s`` after the first
    one begins. The first also holds before it, the last one ever after, at ``end_s`` inf too.
    """
    last = values.size - 1
    slot = max(math.floor(min(begin_s / step_s, float(last))), -1)
    if end_s <= step_s * (slot + 1) or slot >= last or not begin_s < end_s:
        return values[max(slot, 0)]
    if end_s == math.inf:
        return values[last]
    total, at = 0.0, begin_s
    while at < end_s and slot < last:
        # Counted, not computed from `at`: rounding must not find the same step twice.
        edge = max(at, min(end_s, step_s * (slot + 1)))
        total += values[max(slot, 0)] * (edge - at)
        at = edge
        slot += 1
    return total / (end_s - begin_s) + values[last] * ((end_s - at) / (end_s - begin_s))
