import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.replay.replica import Ended, Replica
from router.lab.sim.bound.demand import Grouping
from router.lab.sim.bound.presence import Presence, Stays, whole_replicas_s
from router.lab.sim.simulation import Autoscaling
from router.model import Budget
from tests.factories import policy
from tests.lab.sim.bound.cases import PROMPTS, ask, fleet, profile, simulation

pytest.importorskip("scipy")

POLICY = policy()
FLAT = {"Z-clean": [100.0, 100.0], "Z-dirty": [400.0, 400.0]}
RTT = {"me": {"clean": 80.0, "dirty": 10.0}}


def stays_of(requests, the_fleet, **changes):
    """Of the requests of a simulation, and the presence that they are of."""
    of = simulation(requests, the_fleet, FLAT, POLICY, **changes)
    grouping = Grouping("m", the_fleet, of.workload.names, POLICY, 0.01)
    presence = Presence(grouping, of)
    found = []
    for traffic in of.workload.chunks():
        rows = np.arange(len(traffic))
        found.append(presence.stays(traffic, rows, grouping.groups(traffic, rows)))
    return presence, [Stays(*map(np.concatenate, zip(*found, strict=True)))]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=30), st.integers(1, 5))
def test_whole_replicas_are_counted_moment_by_moment(stays, most):
    begin = np.array([float(at) for at, _ in stays])
    end = np.array([float(at + takes) for at, takes in stays])
    found = whole_replicas_s(begin, end, most)
    there = [sum(at <= moment < at + takes for at, takes in stays) for moment in range(50)]
    assert found == pytest.approx(sum(-(-count // most) for count in there))


@given(PROMPTS, st.integers(1, 5000), st.integers(1, 200))
@settings(deadline=None)
def test_alone_on_the_only_replica_it_is_there_for_all_of_its_stay(prompts, n_in, n_out):
    one = profile(**prompts)
    the_fleet = fleet({"clean": 1}, one=one, rtt_ms={"me": {"clean": 80.0}})
    _, (stays,) = stays_of([ask(5.0, n_in, n_out)], the_fleet)
    replica = Replica(one, 0.0)
    replica.admit(5.04, 0, n_in, n_out)
    (ended,) = [event for event in replica.advance(1e6) if isinstance(event, Ended)]
    assert stays.from_s[0] == pytest.approx(ended.started_at)
    # More pieces take longer than the one that is counted with.
    assert stays.until_s[0] <= ended.at + 1e-9
    if n_in <= one.max_batched_tokens:
        assert stays.until_s[0] == pytest.approx(ended.at)


def test_where_it_may_go_anywhere_only_what_is_common_to_all_is_sure():
    _, (stays,) = stays_of([ask(5.0, 100, 50)], fleet({"clean": 1, "dirty": 1}, rtt_ms=RTT))
    # 20 ms until the prompt is looked at, 20 ms that read it, 49 tokens of 10.5 ms.
    assert stays.from_s[0] == pytest.approx(5.0 + 0.040 + 0.020)
    assert stays.until_s[0] == pytest.approx(5.0 + 0.005 + 0.020 + 0.020 + 49 * 0.0105)
    near = ask(5.0, 100, 50, budget=Budget(ttft_ms=100.0))
    _, (stays,) = stays_of([near], fleet({"clean": 1, "dirty": 1}, rtt_ms=RTT))
    assert stays.from_s[0] == pytest.approx(5.0 + 0.005 + 0.020)


def test_waking_up_comes_before_the_stay_and_does_not_lengthen_it():
    scaled = Autoscaling(60.0, 0.3, 300.0)
    requests, the_fleet = [ask(5.0, 100, 50)], fleet({"clean": 1, "dirty": 1}, rtt_ms=RTT)
    _, (stays,) = stays_of(requests, the_fleet)
    _, (later,) = stays_of(requests, the_fleet, autoscaling=scaled)
    assert later.from_s[0] == pytest.approx(stays.from_s[0] + 0.3)
    assert later.until_s[0] == pytest.approx(stays.until_s[0])


def test_who_can_only_go_to_one_region_needs_replicas_of_that_region():
    """Six who must be near for half a second, four a replica; six more who may go anywhere."""
    near = [ask(5.0, budget=Budget(ttft_ms=100.0)) for _ in range(6)]
    anywhere = [ask(5.0, n_out=100) for _ in range(6)]
    the_fleet = fleet({"clean": 2, "dirty": 2}, rtt_ms=RTT)
    presence, stays = stays_of([*near, *anywhere], the_fleet)
    found = {
        tuple(one.pools.tolist()): one.awake_s
        for one in presence.at_least(stays, 0.0, 60.0, np.zeros(2))
    }
    stay_s = 0.020 + 49 * 0.0105
    # Together they are twelve, three replicas full, from when the slower way is over on.
    both_s, all_s = stay_s - 0.035, 0.020 + 99 * 0.0105 - 0.035
    assert found[(False, True)] == pytest.approx(2 * stay_s)
    assert found[(True, True)] == pytest.approx(2 * 0.035 + 3 * both_s + 2 * (all_s - both_s))
    # Within a part of the time, and where others need them for longer anyway.
    (part,) = [one for one in presence.at_least(stays, 5.1, 5.2, np.zeros(2)) if one.pools.all()]
    assert part.awake_s == pytest.approx(3 * 0.1)
    assert presence.at_least(stays, 0.0, 60.0, np.full(2, 1e3)) == []
    assert presence.at_least(stays, 60.0, 0.0, np.zeros(2)) == []


def test_nobody_is_sure_to_be_anywhere_where_ways_differ_by_more_than_the_answer_takes():
    far = {"me": {"clean": 2000.0, "dirty": 10.0}}
    presence, (stays,) = stays_of([ask(5.0, 100, 5)], fleet({"clean": 1, "dirty": 1}, rtt_ms=far))
    assert stays.until_s[0] < stays.from_s[0]
    assert presence.at_least([stays], 0.0, 60.0, np.zeros(1)) == []
