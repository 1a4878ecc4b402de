import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from router.errors import InvalidMetadataError, TraceError, UnknownModelError
from router.lab.sim.engine import loop
from router.lab.sim.engine.run import make_ready, row_names, simulate
from router.lab.sim.simulation import Autoscaling, Gateways, Outage
from router.lab.sim.traffic.columns import Names
from router.model import Budget, Spread, Weights
from tests import factories as f
from tests.lab.sim import worlds as w

GREEN = f.policy(name="green", near_tie=0.0, spread=Spread.PACK)
TWO = {"grid-a": 400.0, "grid-b": 50.0}
# Region b, where it is green, is 20 ms from "here".
RTT_S = 0.020
# A prompt of 100 tokens is read in an iteration that nobody decodes in; then each token takes one
# of a sequence alone. What goes by before the prompt's iteration is on no GPU.
BASE_S, PROMPT_S, ALONE_S = 0.006, 0.05e-3 * 100, 0.006 + 0.004
BEFORE_S = 0.050
FIRST_S = BEFORE_S + BASE_S + PROMPT_S


def gpu_s(tokens=50):
    return BASE_S + PROMPT_S + (tokens - 1) * ALONE_S


def fleet(**changes):
    return w.fleet(("a", w.SMALL, "m"), ("b", w.SMALL, "m"), **changes)


def one(at_s, tokens=50, budget=None):
    return (at_s, 0, 0, 0, 0, 100, tokens, budget or Budget())


def run(rows, the_policy=GREEN, values=TWO, the_fleet=None, **changes):
    kept = w.Kept()
    simulation = w.simulation(the_fleet or fleet(), rows, values, **changes)
    return simulate(simulation, the_policy, kept), kept.rows()


def test_one_request_takes_its_round_trip_its_prompt_and_its_tokens():
    outcome, rows = run([one(1.0)])
    run_s = BEFORE_S + gpu_s()
    assert rows["ttft_s"][0] == pytest.approx(RTT_S + FIRST_S)
    assert rows["start_s"][0] == pytest.approx(1.0 + RTT_S / 2 + BEFORE_S)
    assert rows["end_s"][0] == pytest.approx(1.0 + RTT_S + run_s)
    energy_j = 1.3 * (477 * (gpu_s() - PROMPT_S) + 665 * PROMPT_S + 0.024 * 50)
    assert rows["energy_j_attributional"][0] == pytest.approx(energy_j)
    prompt_j = 1.3 * (477 * BASE_S + 665 * PROMPT_S)
    assert rows["prompt_energy_j_attributional"][0] == pytest.approx(prompt_j)
    assert outcome.prompt_energy_j == pytest.approx(prompt_j)
    saved_w = 1.3 * (477 - 90)
    marginal_j = saved_w * gpu_s() + 1.3 * ((665 - 477) * PROMPT_S + 0.024 * 50)
    assert rows["energy_j_marginal"][0] == pytest.approx(marginal_j)
    assert rows["g_per_kwh"][0] == 50.0
    assert rows["gco2e_attributional"][0] == pytest.approx(energy_j * 1.2 / 3.6e6 * 50.0)
    assert outcome.energy_j == pytest.approx(energy_j)
    assert outcome.e2e_ms.quantile(0.5) == pytest.approx(1e3 * (RTT_S + run_s), rel=0.002)
    assert outcome.shares() == {"a": 0.0, "b": 1.0}


def test_what_a_token_took_is_counted_of_those_with_more_than_one():
    """(end-to-end - TTFT) / (tokens - 1): of 50, and of 26 beside another; of one there is none."""
    outcome, rows = run([one(1.0), one(30.0, tokens=1), one(60.0, 26), one(60.0, 26)])
    assert outcome.completed == 4 and outcome.tpot_ms.counts.sum() == 3
    tpot_ms = (rows["end_s"] - rows["arrival_s"] - rows["ttft_s"])[[0, 2, 3]] * 1e3 / [49, 25, 25]
    # The prompt of the last one is read while the other makes its second token; the last token of
    # the last one comes when the other has left.
    wanted = [10.0, (10.0 + 5.0 + 24 * 14.0) / 25, (24 * 14.0 + 10.0) / 25]
    assert tpot_ms.tolist() == pytest.approx(wanted)
    for quantile, ms in zip((0.1, 0.9, 0.5), wanted, strict=True):
        assert outcome.tpot_ms.quantile(quantile) == pytest.approx(ms, rel=0.002)


def test_the_network_counts_in_grams():
    _, without = run([one(1.0)])
    _, rows = run([one(1.0)], network_kwh_per_gb=0.5)
    carried_j = 100 * 4.0 / 1e9 * 0.5 * 3.6e6
    more = rows["gco2e_attributional"][0] - without["gco2e_attributional"][0]
    assert more == pytest.approx(carried_j / 3.6e6 * 50.0)


def test_grams_follow_the_hours():
    """The run crosses from 100 to 300 g/kWh."""
    values = {"grid-a": 900.0, "grid-b": [100.0, 300.0, 300.0]}
    _, rows = run([one(3599.7)], values=values, duration_s=7200.0)
    begin, end = 3599.7 + RTT_S / 2 + BEFORE_S, rows["end_s"][0] - RTT_S / 2
    first = (3600.0 - begin) / (end - begin)
    assert rows["g_per_kwh"][0] == pytest.approx(100.0 * first + 300.0 * (1.0 - first))


def test_a_new_view_moves_the_traffic_and_says_how_much():
    values = {"grid-a": [400.0, 50.0, 400.0], "grid-b": [50.0, 400.0, 50.0]}
    rows = [one(60.0 * i + 1.0) for i in range(180)]
    outcome, got = run(rows, values=values, duration_s=10_800.0)
    assert list(np.flatnonzero(np.diff(got["region"])) + 1) == [60, 120]
    assert outcome.moved == ((3600.0, 1.0), (7200.0, 1.0))
    assert outcome.hourly_requests.tolist() == [[0, 60], [60, 0], [0, 60]]


def test_a_steady_grid_moves_nothing():
    outcome, _ = run([one(60.0 * i + 1.0) for i in range(180)], duration_s=10_800.0)
    assert [share for _, share in outcome.moved] == [0.0, 0.0]


def test_the_warm_up_is_routed_but_not_counted():
    outcome, rows = run([one(1.0), one(100.0)], warm_up_s=60.0)
    assert outcome.offered == outcome.completed == 1
    assert rows["request"].tolist() == [1]
    idle_s = 540.0
    assert outcome.fleet.idle_j == pytest.approx(idle_s * 90 * 1.3 * (1.1 + 1.2), rel=0.01)


def test_full_endpoints_shed_and_say_so():
    rows = [one(1.0 + i / 1000) for i in range(5)]
    outcome, got = run(rows, the_fleet=fleet(max_in_flight=1))
    assert outcome.refused == {"shed": 3}
    assert outcome.met == pytest.approx(0.4)
    names = row_names(w.simulation(fleet(), rows, TWO))
    assert [names.shed_reasons[code] for code in got["shed_reason"]] == ["", "", *["shed"] * 3]
    assert got["region"].tolist()[2:] == [-1, -1, -1]
    assert np.isnan(got["end_s"][2:]).all()


class TestOutage:
    OUTAGE = Outage(frozenset({"b-1"}), 100.0, 300.0, 20.0)

    def run(self, *times, **changes):
        rows = [one(at_s, tokens=500) for at_s in times]
        return run(rows, outages=(self.OUTAGE,), **changes)

    def test_what_ran_and_what_was_sent_there_unnoticed_is_lost(self):
        outcome, rows = self.run(50.0, 98.0, 110.0, 130.0, 310.0, 330.0)
        assert outcome.failed == 2
        assert outcome.completed == 4
        assert outcome.offered == 6
        assert rows["shed_reason"].tolist() == [0, 6, 6, 0, 0, 0]
        # Before it is noticed, while it is known, before its return is noticed, and after.
        assert rows["region"].tolist() == [1, 1, 1, 0, 0, 1]
        assert outcome.met == pytest.approx(4 / 6)

    def test_a_place_is_held_until_the_loss_is_noticed(self):
        tight = fleet(max_in_flight=1)
        outcome, rows = self.run(99.0, 110.0, 111.0, 340.0, the_fleet=tight)
        assert rows["region"].tolist() == [1, 0, -1, 1]
        assert outcome.refused == {"shed": 1}
        assert outcome.failed == 1

    def test_a_replica_that_is_down_draws_nothing(self):
        down, _ = self.run(400.0)
        up, _ = run([one(400.0, tokens=500)])
        spared_j = 200.0 * 90 * 1.3 * 1.2
        assert up.fleet.idle_j - down.fleet.idle_j == pytest.approx(spared_j)
        assert down.fleet.spared_j == pytest.approx(spared_j)

    def test_outages_may_touch_and_overlap(self):
        spans = [(100.0, 200.0), (200.0, 300.0), (150.0, 250.0)]
        outages = tuple(replace(self.OUTAGE, start_s=a, end_s=b) for a, b in spans)
        times = (130.0, 205.0, 225.0, 275.0, 310.0, 330.0)
        _, rows = run([one(at_s) for at_s in times], outages=outages)
        assert rows["region"].tolist() == [0, 0, 0, 0, 0, 1]

    def test_nobody_left(self):
        both = replace(self.OUTAGE, endpoints=frozenset({"a-0", "b-1"}))
        outcome, _ = run([one(150.0)], outages=(both,))
        assert outcome.refused == {"no_feasible_endpoint": 1}

    def test_what_is_on_the_wire_when_it_is_noticed_is_lost_too(self):
        at_once = replace(self.OUTAGE, noticed_after_s=0.0)
        outcome, _ = run([one(99.995)], outages=(at_once,))
        assert outcome.failed == 1


class TestAutoscaling:
    SCALING = Autoscaling(release_after_s=30.0, wake_s=5.0, wake_w=700.0)

    def test_an_idle_replica_is_released_and_woken(self):
        outcome, rows = run([one(10.0), one(20.0), one(200.0)], autoscaling=self.SCALING)
        waited_s = rows["ttft_s"] - RTT_S - FIRST_S
        assert waited_s.tolist() == pytest.approx([0.0, 0.0, 5.0], abs=1e-9)
        assert outcome.fleet.wake_j == pytest.approx(5.0 * 700.0 * 1.2)
        idle_a_s = 30.0
        idle_b_s = 20.0 + RTT_S / 2 + BEFORE_S - gpu_s() + 30.0 + 30.0
        expected = 90 * 1.3 * (1.1 * idle_a_s + 1.2 * idle_b_s)
        assert outcome.fleet.idle_j == pytest.approx(expected)

    def test_savings_are_what_the_fleet_no_longer_draws(self):
        rows = [one(100.0 * i + 1.0) for i in range(6)]
        kept_on, _ = run(rows)
        scaled, _ = run(rows, autoscaling=self.SCALING)
        assert scaled.fleet.busy_j == pytest.approx(kept_on.fleet.busy_j)
        saved_j = kept_on.fleet.idle_j - scaled.fleet.idle_j
        # While it wakes, a replica does not idle either.
        waking_idle_j = 5 * 5.0 * 90 * 1.3 * 1.2
        assert scaled.fleet.spared_j + waking_idle_j == pytest.approx(saved_j)
        assert scaled.fleet.total_j < kept_on.fleet.total_j
        assert kept_on.fleet.spared_j == kept_on.fleet.wake_j == 0.0

    def test_those_who_come_while_it_wakes_wait_too(self):
        _, rows = run([one(100.0), one(102.0)], autoscaling=self.SCALING)
        assert rows["start_s"].tolist() == pytest.approx([105.0 + RTT_S / 2 + BEFORE_S] * 2)

    IN_TIME = Budget(ttft_ms=1000.0, explicit=True)

    def test_who_cannot_wait_is_sent_where_somebody_is_awake(self):
        """Region a is dirtier, and all that is awake; one request in four keeps it so."""
        often = [one(5.0 * i + 1.0, tokens=3, budget=self.IN_TIME) for i in range(60)]
        outcome, rows = run(often, autoscaling=self.SCALING)
        assert outcome.met == 1.0
        assert (rows["ttft_s"] < 1.0).all()

    def test_a_spare_is_kept_awake_and_the_next_is_woken_once_it_is_taken(self):
        """For a minute b has room for all, then a takes what b has none for: c wakes meanwhile."""
        wide = f.token_profile("wide", max_batch=24, tpot_ms_per_sequence=0.05)
        three = w.fleet(*[(name, wide, "m") for name in "abc"], max_in_flight=24)
        few = [one(1.0 + 2.0 * i, tokens=2000, budget=self.IN_TIME) for i in range(30)]
        more = [one(61.0 + 0.5 * i, tokens=2000, budget=self.IN_TIME) for i in range(60)]
        grids = {**TWO, "grid-c": 800.0}
        for rows, taken, woken in ((few, {1}, 0), (few + more, {0, 1}, 1)):
            outcome, found = run(rows, values=grids, the_fleet=three, autoscaling=self.SCALING)
            assert outcome.completed == len(rows)
            assert set(found["region"].tolist()) == taken
            assert (found["ttft_s"] < 1.0).all()
            assert outcome.fleet.wake_j == pytest.approx(woken * 5.0 * 700.0 * 1.3)

    def test_where_all_sleep_a_request_wakes_and_those_after_it_are_served(self):
        late = [one(100.0 + i, tokens=3, budget=self.IN_TIME) for i in range(20)]
        outcome, rows = run(late, autoscaling=self.SCALING)
        served = rows["shed_reason"] == 0
        # It takes 5 s; then somebody is on b, and a is woken as its spare.
        assert served.tolist() == [False] * 5 + [True] * 15
        assert (rows["ttft_s"][served] < 1.0).all()
        assert outcome.fleet.wake_j == pytest.approx(5.0 * 700.0 * (1.1 + 1.2))

    def test_who_waited_for_it_to_wake_teaches_nothing_of_how_slow_it_is(self):
        """Whoever has no budget waits; who has one is served there as before right after."""
        rows = [one(100.0), *[one(106.0 + i, tokens=3, budget=self.IN_TIME) for i in range(10)]]
        outcome, found = run(rows, autoscaling=self.SCALING)
        assert outcome.completed == len(rows)
        assert set(found["region"].tolist()) == {1}


def crowd(count=600, rate=100.0):
    rng = np.random.default_rng(2)
    return [one(at_s, tokens=40) for at_s in 1.0 + np.cumsum(rng.exponential(1 / rate, count))]


class TestGateways:
    """Three green and three dirty replicas of 8 places each; b takes about 50 requests/s."""

    def run(self, count, staleness_s, exchange_s=0.0, **changes):
        many = w.fleet(*[(region, w.SMALL, "m") for region in "aaabbb"], max_in_flight=8)
        gateways = Gateways(count, staleness_s, exchange_s=exchange_s)
        return run(crowd(), the_fleet=many, gateways=gateways, **changes)[0]

    def test_exact_views_never_push_an_endpoint_over_its_cap(self):
        assert self.run(4, 0.0).peak_over_cap == 0.0

    def test_stale_views_do(self):
        stale = self.run(4, 1.0)
        assert stale.peak_over_cap > 0.2
        assert stale.completed + sum(stale.refused.values()) == 600

    def test_a_single_gateway_knows_its_own_at_once(self):
        alone, stale = self.run(1, 0.0), self.run(1, 1.0)
        assert stale.peak_over_cap == alone.peak_over_cap == 0.0
        assert np.array_equal(stale.by_region.gco2e, alone.by_region.gco2e)

    def test_through_a_store_no_endpoint_goes_over_its_cap_and_nothing_is_lost(self):
        alone = self.run(1, 0.0)
        # Of 48 places and three times the requests that they carry, what division leaves unused.
        for count, least in ((2, 0.95), (4, 0.95), (16, 0.9)):
            shared = self.run(count, 0.0, exchange_s=0.075)
            assert shared.peak_over_cap <= 0.0
            assert shared.completed + sum(shared.refused.values()) == 600
            assert shared.completed >= least * alone.completed

    def test_through_a_store_green_room_is_used_as_by_one_gateway(self):
        alone, shared = self.run(1, 0.0), self.run(4, 0.0, exchange_s=0.075)
        green, of_all = shared.by_region.completed[1], alone.by_region.completed[1]
        assert green >= 0.95 * of_all

    def test_turns_are_counted_by_each_gateway_for_itself(self):
        turns = f.policy(name="turns", weights=Weights(per_turn=1.0))
        outcome = self.run(2, 0.0, the_policy=turns)
        assert abs(outcome.by_region.completed[0] - outcome.by_region.completed[1]) <= 40


def test_minutes_add_up_to_what_the_fleet_drew():
    kept = w.Kept()
    simulation = w.simulation(fleet(), [one(20.0 * i + 1.0) for i in range(29)], TWO)
    outcome = simulate(simulation, GREEN, kept)
    assert len(kept.minutes) == 10
    assert [minute["minute_s"][0] for minute in kept.minutes] == [60.0 * i for i in range(10)]
    watts = sum(minute["power_w"] for minute in kept.minutes)
    whole_j = 60.0 * (watts @ np.array([1.1, 1.2]))
    assert whole_j == pytest.approx(outcome.fleet.total_j)
    active = sum(minute["active"] for minute in kept.minutes)
    assert active[0] == 0.0
    assert active[1] * 60.0 == pytest.approx(29 * gpu_s(), rel=1e-9)
    assert kept.minutes[0]["batch"][1] == pytest.approx(kept.minutes[0]["active"][1])


def test_progress_is_told_at_every_update():
    told = []
    simulation = w.simulation(fleet(), [one(1.0)], TWO, duration_s=10_800.0)
    simulate(simulation, GREEN, progress=told.append)
    assert told == pytest.approx([0.0, 1 / 3, 2 / 3])


class TestRefusals:
    def test_actual_intensity_must_have_no_gap(self):
        values = {"grid-a": [1.0, 2.0, 3.0], "grid-b": [1.0, math.nan, 3.0]}
        simulation = w.simulation(fleet(), [one(1.0)], values, duration_s=7200.0)
        with pytest.raises(TraceError, match="column grid-b: no value in slot 2"):
            simulate(simulation, GREEN)

    def test_actual_intensity_must_cover_the_scenario(self):
        simulation = w.simulation(fleet(), [one(1.0)], TWO, duration_s=20_000.0)
        with pytest.raises(TraceError, match="does not cover the whole scenario"):
            simulate(simulation, GREEN)

    def test_actual_intensity_must_know_every_grid_zone(self):
        simulation = w.simulation(fleet(), [one(1.0)], TWO)
        table = replace(simulation.actual, grid_zones=("grid-a", "elsewhere"))
        with pytest.raises(TraceError, match="grid zone 'grid-b' of region 'b'"):
            simulate(replace(simulation, actual=table), GREEN)

    def test_an_origin_without_round_trips(self):
        simulation = w.simulation(fleet(), [one(1.0)], TWO)
        simulation.workload.names = Names(("mars",), ("m",), ("",), (frozenset(),))
        unrouted = replace(simulation, fleet=replace(simulation.fleet, default_origin=""))
        with pytest.raises(InvalidMetadataError, match=r"'mars'.*known origins: here, there"):
            simulate(unrouted, GREEN)

    def test_a_model_that_nobody_serves(self):
        with pytest.raises(UnknownModelError):
            run([one(1.0)], models=("other",))

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({1: 9}, "origin codes must lie in 0 .. 1"),
            ({2: -1}, "model codes must lie in 0 .. 0"),
            ({3: 1}, "tenant codes"),
            ({4: 1}, "residency codes"),
            ({6: 0}, "output_tokens >= 1"),
            ({0: 0.5}, "sort the requests by arrival"),
        ],
    )
    def test_traffic_that_would_lead_outside_the_arrays(self, change, text):
        row = list(one(2.0))
        for column, value in change.items():
            row[column] = value
        with pytest.raises(TraceError, match=text):
            run([one(1.0), tuple(row)])


def test_the_command_line_does_not_load_the_engine():
    code = "import sys, router.cli; sys.exit('router.lab.sim.engine.loop' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_rows_of_replicas_alone_are_those_of_a_sink():
    sink, minutes = w.Kept(), w.Kept()
    simulation = w.simulation(fleet(), [one(1.0), one(70.0)], TWO)
    simulate(simulation, GREEN, sink)
    alone = simulate(simulation, GREEN, minutes=minutes)
    assert alone.offered == 2 and not minutes.parts
    assert len(sink.minutes) == len(minutes.minutes) > 0
    for mine, other in zip(sink.minutes, minutes.minutes, strict=True):
        assert all(np.array_equal(mine[name], other[name]) for name in mine)


def test_the_engine_is_compiled_once_for_whatever_it_is_given():
    simulation = w.simulation(fleet(), [one(1.0)], TWO)
    make_ready(simulation, GREEN)
    before = len(loop.run.signatures)
    run([one(1.0), one(2.0)])
    simulate(simulation, GREEN)
    assert len(loop.run.signatures) == before
