from __future__ import annotations

import math
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.lab.study.workload_totals import CountedWorkload, WorkloadTotals
from router.model import Budget
from tests.lab.sim import worlds as w

limit = st.sampled_from([math.inf, 100.0, 250.0])
requests = st.lists(st.tuples(st.floats(0.0, 600.0), st.integers(1, 99), limit, limit), max_size=40)


def counted(rows: list[Any], warm_up_s: float = 0.0, chunk: int = 7) -> CountedWorkload:
    simulation = w.simulation(
        w.fleet(("a", w.SMALL, "m")), rows, {"grid-a": 1.0}, warm_up_s=warm_up_s, chunk=chunk
    )
    return CountedWorkload(simulation)


@given(requests, st.sampled_from([0.0, 300.0]))
def test_what_is_counted_is_what_flowed_by_after_the_warm_up(
    asked: list[tuple[float, int, float, float]], warm_up_s: float
) -> None:
    rows = [
        (at_s, 0, 0, 0, 0, n, 2 * n, Budget(ttft_ms=ttft_ms, e2e_ms=e2e_ms))
        for at_s, n, ttft_ms, e2e_ms in sorted(asked)
    ]
    workload = counted(rows, warm_up_s)
    # Twice: a bound goes over its requests more than once.
    passes = [sum(len(chunk) for chunk in workload.chunks()) for _ in range(2)]
    assert passes == [len(rows)] * 2
    kept = [row for row in rows if row[0] >= warm_up_s]
    tokens = sum(row[5] for row in kept)
    budgets = {
        name: dict(Counter(found for row in kept if (found := getattr(row[7], name)) < math.inf))
        for name in ("ttft_ms", "tpot_ms", "e2e_ms")
    }
    assert workload.totals() == WorkloadTotals(len(kept), tokens, 2 * tokens, budgets)


def test_of_many_budgets_the_most_frequent_are_told() -> None:
    often = [Budget(ttft_ms=float(ms)) for ms in range(1, 10) for _ in range(ms)]
    workload = counted([(float(at), 0, 0, 0, 0, 1, 1, one) for at, one in enumerate(often)])
    list(workload.chunks())
    assert workload.totals().budgets["ttft_ms"] == {float(ms): ms for ms in range(4, 10)}
