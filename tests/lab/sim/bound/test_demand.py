import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.core.latency import PACE_TOKENS
from router.lab.sim.bound.demand import largest_batch, pools_of
from router.model import UNLIMITED, Budget
from tests import factories as f
from tests.lab.sim.bound.cases import fleet, profile

limits_ms = st.just(UNLIMITED) | st.floats(1.0, 5000.0)
budgets = st.builds(Budget, ttft_ms=limits_ms, tpot_ms=limits_ms, e2e_ms=limits_ms)


def meets(pool, budget, rtt_s, n_in, n_out, batch, slack):
    """Whether a request that runs beside ``batch`` - 1 others, who read no prompt meanwhile, keeps
    its budgets. The first token comes of the iteration that reads its prompt.
    """
    physics = pool.physics
    prompt_s = physics.prefill_s_per_piece + physics.prefill_s_per_token * n_in
    prompt_s += physics.prefill_s_per_token2 * n_in**2 / 2.0
    ttft_s = rtt_s + physics.prefill_base_s + physics.tpot_base_s + prompt_s
    tpot_s = physics.tpot_base_s + physics.tpot_s_per_sequence * batch
    later_s = (n_out - 1) * tpot_s
    # A pace is over so many tokens at the least.
    pace_s = later_s / max(n_out - 1, PACE_TOKENS - 1)
    took_s = (ttft_s, pace_s, ttft_s + later_s)
    return all(1e3 * s <= limit * slack for s, limit in zip(took_s, budget[:3], strict=True))


@given(
    budgets, st.floats(0.0, 0.3), st.integers(1, 2000), st.integers(1, 1000),
    st.sampled_from([0.0, 0.1, 2.0]), st.integers(1, 80), st.sampled_from([0.0, 1e-4]),
)  # fmt: skip
def test_the_largest_batch_keeps_the_budgets_and_a_larger_one_does_not(
    budget, rtt_s, n_in, n_out, slope_ms, max_in_flight, square_ms
):
    one = profile(
        tpot_ms_per_sequence=slope_ms, prefill_ms_per_piece=2.0, prefill_ms_per_token2=square_ms
    )
    (pool,) = pools_of(fleet({"a": 1}, one=one, max_in_flight=max_in_flight), "m")
    request = pool, budget, rtt_s, n_in, n_out
    batch = largest_batch(*request)
    if batch == 0.0:
        assert not meets(*request, 1.0, 1.0 - 1e-6)
        return
    assert 1.0 <= batch <= pool.batch
    assert meets(*request, batch, 1.0 + 1e-6)
    if batch < pool.batch:
        assert not meets(*request, 1.001 * batch + 1e-6, 1.0)


def test_a_pool_is_the_alike_replicas_of_a_region():
    made = fleet({"b": 2, "a": 1}, max_in_flight=100)
    slower = f.served(profile(tpot_base_ms=20.0), "m")
    made = replace(made, endpoints=(*made.endpoints, f.endpoint("odd", "b", slower)))
    pools = pools_of(made, "m")
    assert [pool.endpoints for pool in pools] == [("a-0",), ("b-0", "b-1"), ("odd",)]
    assert [pool.region for pool in pools] == ["a", "b", "b"]
    # 64 at once, and what a gateway lets in besides waits.
    assert [(pool.batch, pool.queue) for pool in pools] == [(64, 36), (64, 36), (64, 0)]
    assert pools_of(made, "other") == []


def test_a_task_has_no_tokens():
    made = fleet({"a": 1}, one=f.task_profile(), max_in_flight=4)
    (pool,) = pools_of(made, "m")
    # 800 ms alone, 100 ms more for each beside it.
    for e2e_ms, batch in ((799.0, 0.0), (800.0, 1.0), (1000.0, 3.0), (math.inf, 4.0)):
        found = largest_batch(pool, Budget(e2e_ms=e2e_ms), 0.0, 1.0, 1.0)
        assert math.isclose(found, batch, rel_tol=1e-6)
