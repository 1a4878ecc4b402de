from __future__ import annotations

import math

from router.lab.sim.fluid.demand import gather
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
