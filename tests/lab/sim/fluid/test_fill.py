from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import build_plant, survey
from router.lab.sim.fluid.fill import (
    CONTEXT,
    LOADS,
    PROMPT,
    PROMPT2,
    RATE,
    TOKENS,
    batch_of,
    occupancy,
)
from tests import factories as f
from tests.lab.sim import worlds as w


def plant_of(slope_s: float) -> s.Plant:
    one = w.simulation(w.fleet(("a", f.token_profile(), "m")), [], {"grid-a": 100.0})
    plant = build_plant(one, survey(one))
    plant.replicas[:, s.TPOT_SLOPE] = slope_s
    return plant


def test_without_slow_down_a_replica_is_empty_as_an_infinite_server_queue_is() -> None:
    plant, load_now = plant_of(0.0), np.zeros(LOADS)
    load_now[RATE], load_now[TOKENS] = 0.5, 2.0 / plant.replicas[0, s.TPOT_BASE]
    busy, _ = occupancy(plant, 0, load_now, 1.0)
    assert busy == pytest.approx(1.0 - math.exp(-2.0), rel=1e-6)


def loaded(plant: s.Plant, requests_s: float, n_in: float, n_out: float) -> np.ndarray:
    """Requests/s of one kind on replica 0."""
    f, load_now = plant.replicas[0], np.zeros(LOADS)
    prompt_s = f[s.PREFILL_PIECE] + n_in * (f[s.PREFILL_TOKEN] + f[s.PREFILL_TOKEN2] * n_in / 2.0)
    load_now[[RATE, TOKENS]] = requests_s, requests_s * n_out
    load_now[[PROMPT, PROMPT2]] = requests_s * prompt_s, requests_s * prompt_s**2
    load_now[CONTEXT] = requests_s * n_out * (n_in + n_out / 2.0)
    return load_now


def rich() -> s.Plant:
    plant = plant_of(1e-4)
    plant.replicas[:, s.TPOT_CACHED] = 2e-7
    plant.replicas[:, s.PREFILL_PIECE] = 1e-3
    plant.replicas[:, s.PREFILL_TOKEN2] = 1e-8
    return plant


def test_little_holds_with_slow_down_prompts_and_cached_tokens() -> None:
    """A request is there for its own share of every iteration, and for that of those it meets."""
    plant = rich()
    load_now = loaded(plant, 4.0, 1000.0, 200.0)
    batch, full = batch_of(plant, 0, load_now)
    prompt_s = 1e-3 + 1000 * 0.05e-3 + 1e-8 * 1000**2 / 2
    own_s = 200 * (1e-4 + 2e-7 * (1000 + 100)) + prompt_s
    stay_s = 200 * 0.006 + own_s * (batch + 1.0)
    assert not full and batch == pytest.approx(4.0 * stay_s)


@given(st.floats(0.1, 8.0), st.floats(1.0, 4000.0), st.floats(2.0, 300.0))
def test_a_replica_holds_what_its_queue_does_on_the_mean(
    requests_s: float, n_in: float, n_out: float
) -> None:
    """Processor sharing of Poisson arrivals: pi(n) / pi(n - 1) = L * (base + own * n) / n."""
    plant = rich()
    load_now = loaded(plant, requests_s, n_in, n_out)
    own = load_now[PROMPT] + load_now[TOKENS] * 1e-4 + load_now[CONTEXT] * 2e-7
    if own > 0.8:
        return
    weights, n = [1.0], 0
    while weights[-1] > 1e-14 * max(weights) or n < 10:
        n += 1
        weights.append(weights[-1] * (load_now[TOKENS] * 0.006 + own * n) / n)
    mean = float(np.arange(n + 1) @ weights) / math.fsum(weights)
    plant.states[:, s.MAX_BATCH] = 10 * n
    batch, _ = batch_of(plant, 0, load_now)
    assert batch == pytest.approx(mean, rel=1e-6)


def test_prompts_that_take_all_the_time_fill_a_replica() -> None:
    plant = rich()
    load_now = loaded(plant, 10.0, 2000.0, 10.0)
    assert batch_of(plant, 0, load_now) == (plant.states[0, s.MAX_BATCH], True)
