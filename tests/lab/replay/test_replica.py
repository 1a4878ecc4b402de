import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.lab.replay.replica import Ended, Replica, Tokens
from tests import factories as f
from tests.lab.replay.naive_replica import NaiveReplica


def token_profile(**changes):
    values = {
        "idle_w": 80.0, "tpot_base_ms": 6.2, "tpot_ms_per_sequence": 0.081, "prefill_base_ms": 12.0,
    }  # fmt: skip
    return f.token_profile(**{**values, **changes})


TASK = f.task_profile(energy_j=200.0, service_ms=500.0, host_fraction=0.3)


def drain(replica):
    events = []
    while (at := replica.next_event_at()) < math.inf:
        events += replica.advance(at)
    return events


def ended(events):
    return {e.key: e for e in events if isinstance(e, Ended)}


def test_one_request_alone_follows_the_formulas():
    p = token_profile()
    replica = Replica(p, start=100.0)
    replica.admit(101.0, "a", 200, 150)
    first, last = drain(replica)
    tpot_s = (6.2 + 0.081) / 1e3
    assert first == Tokens("a", pytest.approx(101.0 + 0.022), 1)
    assert last.at == pytest.approx(101.022 + 150 * tpot_s)
    run_s = 0.022 + 150 * tpot_s
    assert last.gpu_energy_j == pytest.approx(477 * run_s + 0.024 * 150)
    assert last.energy_j == pytest.approx(last.gpu_energy_j * 1.3)
    # Alone, everything above idle is its own doing.
    assert last.gpu_marginal_energy_j == pytest.approx((477 - 80) * run_s + 0.024 * 150)
    assert replica.gpu_energy_j == pytest.approx(last.gpu_energy_j + 80.0 * 1.0)
    assert replica.gpu_idle_energy_j == pytest.approx(80.0)
    assert (replica.busy_s, replica.idle_s) == pytest.approx((run_s, 1.0))


def test_a_steady_batch_costs_the_measured_joules_per_token():
    """SCIENCE section 1: 8B on one H100, J/token at batch 8 -> 64 -> 256."""
    for batch, j_per_token in ((8, 0.455), (64, 0.119), (256, 0.077)):
        replica = Replica(token_profile(prefill_base_ms=0.0, prefill_ms_per_token=0.0), 0.0)
        for key in range(batch):
            replica.admit(0.0, key, 100, 300)
        one = ended(drain(replica))[0]
        assert one.gpu_energy_j / 300 == pytest.approx(j_per_token, rel=0.1)


def test_the_ninth_request_waits_for_a_slot_in_order():
    replica = Replica(token_profile(max_batch=2), 0.0)
    for key in "abc":
        replica.admit(0.0, key, 0, 10 if key != "b" else 50)
    assert (replica.running, replica.queued) == (2, 1)
    done = ended(drain(replica))
    assert done["c"].started_at == done["a"].at
    assert done["c"].first_token_at == pytest.approx(done["a"].at + 0.012)


def test_token_milestones_follow_the_clock():
    replica = Replica(token_profile(), 0.0)
    replica.admit(0.0, "a", 0, 50, stream_every=16)
    events = drain(replica)
    assert [e.made for e in events[:-1]] == [1, 16, 32, 48]
    tpot_s = (6.2 + 0.081) / 1e3
    for event in events[1:-1]:
        assert event.at == pytest.approx(0.012 + event.made * tpot_s)
    replica.admit(replica.now, "b", 0, 4, stream_every=1)
    assert [e.made for e in drain(replica)[:-1]] == [1, 2, 3]
    replica.admit(replica.now, "c", 0, 1, stream_every=1)
    assert [type(e) for e in drain(replica)] == [Tokens, Ended]


def test_marginal_energy_is_the_difference_that_a_request_makes():
    """Exact for two overlapping sequences: total with it - total without it."""
    p = token_profile(prefill_base_ms=0.0, prefill_ms_per_token=0.0)
    for gap_s, mine, other in ((0.0, 100, 100), (0.3, 100, 80), (0.3, 40, 200), (0.5, 300, 20)):
        both = Replica(p, 0.0)
        both.admit(0.0, "mine", 0, mine)
        both.admit(gap_s, "other", 0, other)
        record = ended(drain(both))["mine"]
        both.advance(20.0)
        without = Replica(p, 0.0)
        without.admit(gap_s, "other", 0, other)
        without.advance(20.0)
        difference_j = both.gpu_energy_j - without.gpu_energy_j
        assert record.gpu_marginal_energy_j == pytest.approx(difference_j, rel=1e-9)


def total_and_records(p, arrivals, left_out):
    replica = Replica(p, 0.0)
    for i, (at, n) in enumerate(arrivals):
        if i != left_out:
            replica.admit(at, i, 100, n)
    events = replica.advance(60.0)
    return replica.gpu_energy_j, ended(events)


def test_marginal_energy_is_close_in_a_crowd_that_drains():
    p = token_profile()
    arrivals = [(0.0, 50 + 5 * i) for i in range(32)]
    total_j, records = total_and_records(p, arrivals, None)
    for i in (0, 15, 31):
        difference_j = total_j - total_and_records(p, arrivals, i)[0]
        assert records[i].gpu_marginal_energy_j == pytest.approx(difference_j, rel=0.25)


def test_marginal_energy_is_bounded_in_a_crowd_that_goes_on():
    """Later arrivals absorb the delay: the true difference lies between the two bounds."""
    p = token_profile()
    arrivals = [(0.05 * i, 30 + (37 * i) % 200) for i in range(200)]
    total_j, records = total_and_records(p, arrivals, None)
    for i in (40, 90, 150):
        difference_j = total_j - total_and_records(p, arrivals, i)[0]
        record = records[i]
        own_j = p.w_per_token_s * record.output_tokens
        assert own_j * 0.99 <= difference_j <= record.gpu_marginal_energy_j
        assert record.gpu_marginal_energy_j < 0.5 * record.gpu_energy_j


def test_cancel_frees_the_slot_and_charges_what_was_used():
    replica = Replica(token_profile(max_batch=1), 0.0)
    replica.admit(0.0, "a", 0, 1000)
    replica.admit(0.0, "b", 0, 10)
    replica.admit(0.0, "c", 0, 10)
    gone = replica.cancel(1.0, "b")
    assert (gone.finished, gone.output_tokens, gone.energy_j) == (False, 0.0, 0.0)
    assert math.isnan(gone.started_at)
    half = replica.cancel(1.0, "a")
    assert half.output_tokens == pytest.approx((1.0 - 0.012) / 0.006281)
    assert half.gpu_energy_j == pytest.approx(477 + 0.024 * half.output_tokens)
    assert replica.cancel(1.0, "a") is None
    done = ended(drain(replica))
    assert done["c"].started_at == 1.0
    assert replica.running == replica.queued == 0


def test_a_task_takes_its_energy_and_slows_with_company():
    replica = Replica(TASK, 0.0)
    replica.admit(0.0, 1, 0, 1)
    (alone,) = drain(replica)
    assert alone.at == pytest.approx(0.5)
    assert alone.first_token_at == alone.at
    assert alone.energy_j == alone.marginal_energy_j == pytest.approx(260.0)
    for key in range(5):
        replica.admit(replica.now, key, 0, 7)
    start = replica.now
    done = ended(drain(replica))
    assert done[0].at - start == pytest.approx(0.8)
    assert done[4].at - start == pytest.approx(1.3)
    assert replica.gpu_energy_j == pytest.approx(6 * 200.0)


def test_bad_requests_and_time_travel_are_refused():
    replica = Replica(token_profile(), 5.0)
    replica.admit(5.0, "a", 1, 1)
    for bad in ((math.nan, 1), (-1, 1), (1, 0), (1, math.nan), (1, math.inf)):
        with pytest.raises(ValueError, match="output_tokens"):
            replica.admit(5.0, "b", *bad)
    with pytest.raises(ValueError, match="already in flight"):
        replica.admit(5.0, "a", 1, 1)
    with pytest.raises(ValueError, match="time went back"):
        replica.advance(4.0)


ops = st.lists(
    st.tuples(
        st.floats(0.0, 1.5),  # gap to the next operation, s
        st.integers(0, 400),  # input tokens
        st.integers(1, 120),  # output tokens
        st.integers(0, 9),  # 0, 1: cancel instead
        st.integers(0, 20),  # which to cancel
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(ops=ops, max_batch=st.integers(1, 6), start=st.sampled_from([0.0, 1.65e9]))
def test_agrees_with_the_slow_twin(ops, max_batch, start):
    p = token_profile(max_batch=max_batch)
    fast, slow = Replica(p, start), NaiveReplica(p, start)
    now, records, events = start, {}, []
    for key, (gap_s, n_in, n_out, kind, which) in enumerate(ops):
        now += gap_s
        if kind <= 1 and key:
            victim = which % key
            if any(s.key == victim for s in slow.all):
                record = fast.cancel(now, victim)
                slow.cancel(now, victim)
                if record is not None:
                    records[victim] = record
        else:
            fast.admit(now, key, n_in, n_out, stream_every=which)
            slow.admit(now, key, n_in, n_out)
    assert fast.queued == len(slow.waiting())
    assert fast.running == len(slow.slots())
    events = fast.advance(now) + drain(fast)
    slow.advance(fast.now + 1e-3)
    fast.advance(fast.now + 1e-3)
    records |= ended(events)
    assert [e.at for e in events] == sorted(e.at for e in events)
    # Unix times resolve to 2.4e-7 s, and every event may add one rounding.
    tolerance = 1e-9 if start == 0.0 else 5e-5
    assert set(records) == {s.key for s in slow.all}
    for twin in slow.all:
        record = records[twin.key]
        assert record.finished == twin.finished
        assert record.at == pytest.approx(twin.ended_at, rel=0, abs=tolerance)
        near = {"rel": 1e-6, "abs": 1e3 * tolerance, "nan_ok": True}
        assert record.first_token_at == pytest.approx(
            twin.first_token_at, rel=0, abs=tolerance, nan_ok=True
        )
        assert record.output_tokens == pytest.approx(twin.output_tokens, **near)
        assert record.gpu_energy_j == pytest.approx(twin.gpu_j, **near)
        assert record.gpu_marginal_energy_j == pytest.approx(twin.marginal_j, **near)
    assert fast.gpu_energy_j == pytest.approx(slow.energy_j, rel=1e-6, abs=1e3 * tolerance)
    # Attribution is complete: the shares add up to what the replica drew while awake.
    awake_j = fast.gpu_energy_j - fast.gpu_idle_energy_j
    shares_j = sum(record.gpu_energy_j for record in records.values())
    assert shares_j == pytest.approx(awake_j, rel=1e-6, abs=1e-6)
