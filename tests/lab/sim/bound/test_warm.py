"""What of prompts has to be read at the least."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.sim.bound.demand import pools_of
from router.lab.sim.bound.run import bound
from router.lab.sim.bound.warm import SharedPrompts
from router.lab.sim.engine.run import simulate
from router.lab.sim.traffic.chained import chains_of
from router.lab.sim.traffic.columns import COLUMNS, Traffic
from tests.lab.sim.bound.cases import HOUR, ask, fleet, policy, profile, simulation

KEEPS = pools_of(fleet({"a": 1}, one=profile(prefix_cache_tokens=1)), "m")
KEEPS_NONE = pools_of(fleet({"a": 1}), "m")


def traffic(blocks, tokens):
    columns = {name: np.zeros(len(blocks)) for name in COLUMNS}
    columns["input_tokens"] = np.array(tokens)
    return Traffic(**columns, chains=chains_of(blocks))


def cached(pools, *chunks):
    """Of all prompts of a workload of these chunks."""
    names = SimpleNamespace(block_tokens=32)
    of = SimpleNamespace(workload=SimpleNamespace(names=names, chunks=lambda: chunks))
    shared = SharedPrompts(of, 0, pools)
    return [shared.cached(one, np.arange(len(one))).tolist() for one in chunks]


def test_what_others_begin_with_may_be_there_and_the_last_token_never():
    one = traffic([[1, 2], [1, 2, 3], [4], [1, 2]], [70, 100, 40, 64])
    assert cached(KEEPS, one) == [[64.0, 64.0, 0.0, 63.0]]


def test_another_chunk_has_others():
    one, other = traffic([[1, 2, 3]], [100]), traffic([[1, 2, 4]], [100])
    assert cached(KEEPS, one) == [[0.0]]
    assert cached(KEEPS, one, other) == [[64.0], [64.0]]


def test_where_nobody_keeps_prompts_all_is_read():
    one = traffic([[1, 2], [1, 2]], [70, 70])
    assert cached(KEEPS_NONE, one) == [[0.0, 0.0]]
    unknown = Traffic(**{name: getattr(one, name) for name in COLUMNS})
    assert cached(KEEPS, unknown) == [[0.0, 0.0]]


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=20))
def test_what_is_read_comes_to_what_is_in_one_prompt_alone(blocks):
    one = traffic(blocks, [32 * len(names) + 1 for names in blocks])
    read = one.input_tokens - np.array(cached(KEEPS, one)[0])
    begun = Counter(tuple(names[: place + 1]) for names in blocks for place in range(len(names)))
    alone = sum(count == 1 for count in begun.values())
    assert read.sum() == 32 * alone + len(blocks)


@pytest.mark.parametrize(("n_out", "far_ms"), [(50, 900.0), (20, 900.0), (50, 500.0), (20, 100.0)])
def test_who_comes_first_to_the_gateway_need_not_be_read_first(n_out, far_ms):
    """The prompt from far away is sent first and there last, so that the near one is read."""
    one = profile(
        tpot_base_ms=15.0, tpot_ms_per_sequence=0.1, prefill_base_ms=0.0, prefill_ms_per_token=1.0,
        prefix_cache_tokens=100_000, host_awake_w=200.0,
    )  # fmt: skip
    rtt_ms = {"near": {"x": 0.0}, "far": {"x": far_ms}}
    asked = [ask(1.0, 2000, n_out, "far"), ask(1.01, 2000, n_out, "near")]
    of = simulation(
        asked, fleet({"x": 1}, one=one, max_in_flight=8, rtt_ms=rtt_ms), {"Z-x": [400.0, 400.0]},
        policy(), duration_s=HOUR, blocks=[list(range(62))] * 2, block_tokens=32,
    )  # fmt: skip
    found, run = bound(of, of.policies[0], whole=True), simulate(of, of.policies[0])
    assert run.completed == 2
    assert found.busy_g <= found.whole_busy_g <= run.gco2e
    assert found.fleet_g <= found.whole_fleet_g <= run.fleet.total_g
