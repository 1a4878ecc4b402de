"""The law of the pace, beside exact replicas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.replay.replica import Ended, Replica
from router.lab.sim.bound.demand import amounts_of, pools_of
from router.lab.sim.bound.moments import Sample
from router.lab.sim.bound.pace import FREE, TokenMix, batches_of, kept_batch
from tests import factories as f
from tests.lab.sim.bound.cases import fleet, profile

pytest.importorskip("scipy")

ONE = profile(
    tpot_base_ms=15.0, tpot_ms_per_sequence=0.1, tpot_ms_per_cached_token=3e-5,
    prefill_ms_per_token=0.085, max_batch=256, max_batched_tokens=8192,
)  # fmt: skip
(POOL,) = pools_of(fleet({"a": 1}, one=ONE, max_in_flight=256), "m")


def asked(count, seed=3):
    """Chats: prompts of about 750 tokens, answers of about 210, widely spread."""
    rng = np.random.default_rng(seed)
    n_in = np.ceil(rng.lognormal(6.1, 1.0, count)).clip(1, 8000)
    n_out = np.ceil(rng.lognormal(5.0, 0.8, count)).clip(32, 2000)
    return Sample(np.zeros(count, np.int64), n_in, n_out, np.zeros(count))


def mix_of(sample):
    units = amounts_of(sample.input_tokens, sample.output_tokens)
    return TokenMix.of(POOL.physics, np.array([unit.sum() for unit in units]))


def paces_of(sample, batch):
    """Of requests on an exact replica that always holds so many, s; the first are left out."""
    replica, ended, now = Replica(ONE, 0.0), [], 0.0
    for key in range(batch):
        now += 0.1
        replica.admit(now, key, sample.input_tokens[key], sample.output_tokens[key])
    key = batch
    while key < len(sample.group):
        now = max(now, replica.next_event_at())
        for event in replica.advance(now):
            if isinstance(event, Ended) and key < len(sample.group):
                ended.append(event)
                replica.admit(now, key, sample.input_tokens[key], sample.output_tokens[key])
                key += 1
    later = np.array([one.output_tokens - 1 for one in ended[2 * batch :]])
    took = np.array([one.at - one.first_token_at for one in ended[2 * batch :]])
    return later, took


def test_the_pace_is_that_of_an_exact_replica():
    sample = asked(3000)
    mix = mix_of(sample)
    for batch in (40, 120):
        later, took = paces_of(sample, batch)
        law_s = POOL.physics.tpot_s(batch, batch * mix.cached) + batch * mix.prompts_s
        assert took.sum() / later.sum() == pytest.approx(law_s, rel=0.04)
        (found,) = batches_of([POOL], np.array([[law_s]]), [mix])
        assert found == pytest.approx([batch])


def test_so_many_keep_their_pace_as_are_promised():
    sample = asked(10_000)
    mix, tolerated = mix_of(sample), np.full(10_000, 0.080)
    batch = kept_batch(POOL, sample, tolerated, mix, 0.95)
    later, took = paces_of(sample, round(batch))
    assert float((took / later <= 0.080).mean()) == pytest.approx(0.95, abs=0.02)
    # Fewer than on the mean, more than for who promises more.
    (mean,) = batches_of([POOL], np.array([[0.080]]), [mix])
    assert kept_batch(POOL, sample, tolerated, mix, 0.99) < batch < mean[0]


@given(st.floats(0.02, 0.3), st.floats(0.1, 0.999))
@settings(deadline=None)
def test_a_shorter_pace_or_a_higher_promise_never_holds_more(pace_s, kept):
    sample, mix = asked(300), mix_of(asked(300))
    found = [
        kept_batch(POOL, sample, np.full(300, pace), mix, share)
        for pace, share in ((pace_s, kept), (pace_s * 0.9, kept), (pace_s, kept * 0.9))
    ]
    assert 1.0 <= found[1] <= found[0] + 1e-6 and found[0] <= found[2] + 1e-6


def test_what_has_no_pace_fills_the_pool():
    sample = asked(100)
    none = np.full(100, np.inf)
    assert kept_batch(POOL, sample, none, mix_of(sample), 0.99) == 256.0
    assert kept_batch(POOL, sample, np.zeros(100), mix_of(sample), 0.99) == 256.0
    paces_s = np.array([[np.inf], [0.0], [1e-9]])
    assert batches_of([POOL], paces_s, [FREE]).tolist() == [[256.0], [0.0], [1.0]]
    (task,) = pools_of(fleet({"a": 1}, one=f.task_profile(), max_in_flight=4), "m")
    assert TokenMix.of(task.physics, np.ones(5)) == FREE
    assert kept_batch(task, sample, np.full(100, 0.1), FREE, 0.99) == task.batch
