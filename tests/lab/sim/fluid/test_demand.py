from __future__ import annotations

import math

from router.lab.sim.fluid.demand import edges_of, gather
from router.lab.sim.simulation import Outage
from tests.lab.sim import worlds as w
from tests.lab.sim.fluid.six_grids import scenario


def test_flows_hold_every_request() -> None:
    demand = gather(scenario(), 300.0)
    chunks = list(scenario().workload.chunks())
    sums = [math.fsum(float(getattr(slot, at).sum()) for slot in demand.slots) for at in
            ("requests", "input_tokens", "output_tokens")]  # fmt: skip
    assert sums == [
        sum(len(chunk) for chunk in chunks),
        sum(int(chunk.input_tokens.sum()) for chunk in chunks),
        sum(int(chunk.output_tokens.sum()) for chunk in chunks),
    ]


def test_slots_end_wherever_something_changes() -> None:
    """At full hours, with the warm-up, and where an outage begins, ends or is noticed."""
    outage = Outage(frozenset({"a-0"}), 500.0, 4000.0, 20.0)
    of = w.simulation(
        w.fleet(("a", w.SMALL, "m")), [], {"grid-a": 100.0}, duration_s=7000.0, warm_up_s=60.0,
        outages=(outage,),
    )  # fmt: skip
    edges = [0.0, 60.0, 500.0, 520.0, 3600.0, 4000.0, 4020.0, 7000.0]
    assert edges_of(of, 3600.0).tolist() == edges
    halves = edges_of(of, 1800.0).tolist()
    assert halves == sorted({*edges, 1800.0, 5400.0})
