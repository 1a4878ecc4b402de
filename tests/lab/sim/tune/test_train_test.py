import pickle

import numpy as np
import pytest

from router.errors import ConfigError
from router.lab.sim.engine.run import simulate
from router.lab.sim.scenario.loading import load
from router.lab.sim.simulation import Outage
from router.lab.sim.tune import train_test
from router.lab.sim.tune.train_test import precompute, split, window
from tests.lab.sim import worlds as w
from tests.lab.sim.engine.test_run import TWO, fleet, one
from tests.lab.sim.scenarios import scenario


def requests(simulation):
    return np.concatenate([traffic.arrival_s for traffic in simulation.workload.chunks()])


def hours(count, **changes):
    rows = [one(600.0 * i + 1.0) for i in range(6 * count)]
    return w.simulation(fleet(), rows, TWO, duration_s=3600.0 * count, hours=count + 1, **changes)


def test_every_request_is_in_one_span_at_its_own_time():
    whole = hours(5, chunk=7)
    train, test = split(whole, 0.6)
    assert (train.duration_s, test.duration_s) == (10_800.0, 7_200.0)
    assert (train.start, test.start) == (whole.start, whole.start + 10_800.0)
    apart = np.concatenate([requests(train), requests(test) + 10_800.0])
    assert apart.tolist() == requests(whole).tolist()
    assert requests(test)[0] == 1.0
    # A second pass, from memory.
    assert requests(test).tolist() == (apart[18:] - 10_800.0).tolist()


def test_a_large_span_is_not_kept(monkeypatch):
    monkeypatch.setattr(train_test, "KEPT_ROWS", 10)
    train, _ = split(hours(5, chunk=7), 0.6)
    first = requests(train)
    assert train.workload._kept is None
    assert requests(train).tolist() == first.tolist()


@pytest.mark.parametrize(
    ("count", "share", "train_h"),
    [
        *[(5, 0.5, 3), (5, 0.01, 1), (5, 0.99, 4), (24, 0.6, 14), (47, 0.6, 28)],
        # Whole days where there are two: both spans see every hour of the day.
        *[(48, 0.6, 24), (60, 0.6, 24), (72, 0.6, 48), (72, 0.99, 48), (240, 0.6, 144)],
    ],
)
def test_spans_meet_at_full_hours(count, share, train_h):
    train, test = split(hours(count), share)
    assert train.duration_s == 3600.0 * train_h
    assert train.duration_s + test.duration_s == 3600.0 * count


def test_short_scenarios_are_cut_where_asked():
    train, test = split(hours(1), 0.25)
    assert (train.duration_s, test.duration_s) == (900.0, 2700.0)


def test_a_span_within_the_warm_up_is_refused():
    with pytest.raises(ConfigError, match="--train-share: spans of 900 s and 2700 s"):
        split(hours(1, warm_up_s=900.0), 0.25)


def test_outages_fall_into_their_span():
    def down(begin_s, end_s):
        return Outage(frozenset({"b-1"}), begin_s, end_s, 5.0)

    whole = hours(4, outages=(down(100.0, 200.0), down(7000.0, 7400.0), down(8000.0, 9000.0)))
    train, test = split(whole, 0.5)
    assert [(o.start_s, o.end_s) for o in train.outages] == [(100.0, 200.0), (7000.0, 7400.0)]
    assert [(o.start_s, o.end_s) for o in test.outages] == [(0.0, 200.0), (800.0, 1800.0)]


def test_the_grid_is_that_of_the_later_hours():
    values = {"grid-a": [400.0, 50.0, 50.0], "grid-b": [50.0, 400.0, 400.0]}
    rows = [one(600.0 * i + 1.0) for i in range(12)]
    whole = w.simulation(fleet(), rows, values, duration_s=7200.0)
    policy = w.f.policy(name="green", near_tie=0.0)
    later = simulate(window(whole, 3600.0, 7200.0), policy)
    assert later.shares() == {"a": 1.0, "b": 0.0}
    assert later.offered == 6


@pytest.mark.parametrize("kind", ["perfect", "persistence", "forecaster"])
def test_spans_travel_with_what_the_signal_tells(tmp_path, kind):
    whole = load(scenario(tmp_path, {"signal": {"kind": kind}})).simulation
    spans = split(whole, 0.5)
    precompute(whole.signal, spans)
    arrived = pickle.loads(pickle.dumps(spans))
    policy = whole.policies[0]
    for here, there in zip(spans, arrived, strict=True):
        # The copy first: it must not need what only the original can look up.
        assert simulate(there, policy).gco2e == simulate(here, policy).gco2e
