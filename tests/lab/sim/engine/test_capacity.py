"""The load of a scenario counts prompts: what the fleet is said to serve is what replicas serve."""

import math

import pytest

from router.lab.sim.engine.run import simulate
from router.lab.sim.scenario.loading import load
from router.lab.sim.traffic.generate import RequestKind
from router.lab.sim.traffic.resolve import capacity_rps
from router.lab.sim.traffic.tables import constant_lengths
from router.model import Budget
from tests.lab.sim import worlds as w
from tests.lab.sim.scenarios import DELETE, scenario

# Of the last ones nine tenths of the time go into prompts: it is they that fill a replica.
LENGTHS = [(1000, 100), (100, 400), (4000, 80)]
WARM_UP_S, END_S = 300.0, 1200.0


def run(folder, n_in, n_out, share):
    """Three replicas of 64 places; (share answered, requests/s answered over what the fleet is said
    to serve, share of the time busy)."""
    changes = {
        "workload/generate/day": "flat", "workload/generate/burstiness": {"cv": 0.0},
        "workload/generate/week": [1] * 7, "duration": END_S, "warm_up": WARM_UP_S,
        "workload/generate/classes": [
            {"model": "m", "input_tokens": n_in, "output_tokens": n_out}
        ],
        "endpoints/0/max_in_flight": 64, "endpoints/1/max_in_flight": 64,
        "origins": {"x": {"rtt_ms": {"a": 0, "b": 0}}, "y": {"rtt_ms": {"a": 0, "b": 0}}},
    }  # fmt: skip
    lengths = constant_lengths(n_in), constant_lengths(n_out)
    kind = RequestKind("m", 1.0, *lengths, Budget(), (("", 1.0),), frozenset(), math.inf)
    most = capacity_rps(load(scenario(folder, changes)).simulation.fleet, (kind,))
    if share > 1.0:
        changes["workload/generate/mean_rps"] = share * most
    else:
        changes |= {"workload/generate/mean_rps": DELETE, "workload/generate/load": share}
    found = load(scenario(folder, changes), policies=("least-loaded",)).simulation
    kept = w.Kept()
    outcome = simulate(found, found.policies[0], kept)
    ended = kept.rows()["end_s"]
    per_s = ((ended > WARM_UP_S) & (ended <= END_S)).sum() / (END_S - WARM_UP_S)
    minutes = [minute["active"].mean() for minute in kept.minutes if minute["minute_s"][0] >= 300]
    return outcome.completed / outcome.offered, per_s / most, sum(minutes) / len(minutes)


@pytest.mark.parametrize(("n_in", "n_out"), LENGTHS)
@pytest.mark.parametrize("share", [0.8, 1.0, 1.5])
def test_a_load_of_1_is_what_replicas_serve_when_they_are_just_full(tmp_path, n_in, n_out, share):
    """At 0.8 nearly all are answered, at 1.5 what makes up 1; at 1 some places are free at times,
    and at others a few requests too many.
    """
    answered, served, busy = run(tmp_path, n_in, n_out, share)
    if share > 1.0:
        # A place that is left waits for the next request, and for the running iteration to end.
        assert 0.95 < served < 1.02
        assert busy > 0.999
    elif share == 1.0:
        assert answered > 0.93 and served > 0.93
        assert busy > 0.99
    else:
        assert answered > 0.99
        # A few thousand requests: they vary by one or two hundredths.
        assert served == pytest.approx(0.8, abs=0.04)
