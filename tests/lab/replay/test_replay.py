import math
import random
from dataclasses import replace

import pytest

from router.lab.replay.replay import CarbonView, Scenario, replay
from router.lab.replay.timed import OriginDemand, Period, TimedRequest, TrafficClass, generate
from router.model import Budget, LengthPrior, Request, Spread, Weights
from tests import factories as f
from tests.factories import START

PERIOD = Period(20.0, START, 1440.0)
PROFILE = f.token_profile("m@gpu", prefill_ms_per_token=0.0, max_batch=64, target_batch=32)
PUE = 1.2


def hours(zone, *values):
    return f.forecast(zone, *values, start=START, observed_at=START, expires_at=math.inf)


def fleet(replicas=2, max_in_flight=8):
    places = {"clean": replicas, "home": replicas}
    return f.fleet(
        *f.replicas(places, f.served(PROFILE, "m"), max_in_flight=max_in_flight),
        regions=[f.region(name, pue=PUE, grid_zone=f"Z-{name.upper()}") for name in places],
        rtt_ms={"me": {"clean": 60.0, "home": 2.0}},
        default_origin="me",
        priors={"m": LengthPrior(100.0, 60.0, 120.0)},
    )


def policy(name="carbon-first", **changes):
    values = {"near_tie": 0.01, "spread": Spread.PACK, "stale_after_s": math.inf}
    return f.policy(name=name, **{**values, **changes})


LATENCY_FIRST = policy("latency-first", weights=Weights(per_e2e_ms=1.0), spread=Spread.SPREAD)


def scenario(requests, **changes):
    known = {"Z-CLEAN": hours("Z-CLEAN", 50.0), "Z-HOME": hours("Z-HOME", 400.0)}
    values = {
        "fleet": fleet(), "requests": requests, "period": PERIOD,
        "views": [CarbonView(0.0, known)], "annual_means": {}, "actual": known,
        "health": f.health_settings(),
    }  # fmt: skip
    return Scenario(**{**values, **changes})


ANY = Budget()


def one(at_s=1.0, tokens=100, budget=ANY):
    request = Request("m", origin="me", input_tokens=100.0, budget=budget, max_output_tokens=512.0)
    return TimedRequest(at_s, request, tokens, "chat", streamed=False)


def many(rps=20.0, seed=3):
    classes = [TrafficClass("chat", "m", 1.0, Budget(), 512)]
    origins = [OriginDemand("me", -7.0, 1.0)]
    priors = fleet().priors
    return generate(origins, classes, priors, PERIOD, rps, random.Random(seed))


def test_one_request_takes_its_round_trip_its_prefill_and_its_tokens():
    run = replay(scenario([one()]), policy())
    (record,) = run.records
    assert record.region == "clean"
    # 10 ms before its first iteration, which takes 6 ms; one with its sequence takes 6.1.
    assert record.ttft_ms == pytest.approx(60.0 + 10.0 + 6.0)
    assert record.e2e_ms == pytest.approx(record.ttft_ms + 99 * 6.1)
    run_s = 0.006 + 99 * 0.0061
    energy_j = 1.3 * (477 * run_s + 0.024 * 100)
    assert record.energy_j == pytest.approx(energy_j)
    assert record.gco2e == pytest.approx(energy_j * PUE / 3.6e6 * 50.0)
    assert run.fleet.busy_j == pytest.approx(energy_j * PUE)
    idle_s = 4 * PERIOD.seconds - run_s
    assert run.fleet.idle_j == pytest.approx(90.0 * idle_s * 1.3 * PUE)


def test_policies_differ_over_the_same_requests():
    requests = many()
    green = replay(scenario(requests), policy())
    near = replay(scenario(requests), LATENCY_FIRST)
    assert green.shares()["clean"] > 0.9
    assert near.shares()["home"] > 0.9
    assert len(green.records) == len(near.records) == green.offered == len(requests)
    assert green.summary().gco2e < 0.3 * near.summary().gco2e
    assert green.fleet.total_g < near.fleet.total_g
    assert near.summary().ttft_p50_ms < green.summary().ttft_p50_ms


def test_the_same_seed_gives_the_same_run():
    requests = many()
    assert replay(scenario(requests), policy(), seed=4) == replay(
        scenario(requests), policy(), seed=4
    )


@pytest.mark.parametrize("which", [policy(), LATENCY_FIRST])
def test_the_account_is_complete(which):
    """What the requests are charged is what the replicas drew while awake."""
    run = replay(scenario(many(60.0)), which)
    charged_j = sum(record.energy_j for record in run.records)
    assert charged_j * PUE == pytest.approx(run.fleet.busy_j, rel=1e-9)


def test_grams_are_counted_at_what_was_not_at_what_was_thought():
    wrong = {"Z-CLEAN": hours("Z-CLEAN", 500.0), "Z-HOME": hours("Z-HOME", 40.0)}
    run = replay(scenario([one()], views=[CarbonView(0.0, wrong)]), policy())
    (record,) = run.records
    assert record.region == "home"
    assert record.gco2e == pytest.approx(record.energy_j * PUE / 3.6e6 * 400.0)
    assert run.fleet.busy_g == pytest.approx(record.gco2e)


def test_grams_follow_the_hours_of_the_carbon_clock():
    """2.5 s of wall time are an hour of this clock: the run crosses from 100 to 300 g/kWh."""
    actual = {"Z-CLEAN": hours("Z-CLEAN", 100.0, 300.0), "Z-HOME": hours("Z-HOME", 999.0)}
    run = replay(scenario([one(at_s=2.16)], actual=actual), policy())
    (record,) = run.records
    start_s = 2.16 + 0.03 + 0.010
    first = (2.5 - start_s) / (0.006 + 99 * 0.0061)
    mean = 100.0 * first + 300.0 * (1.0 - first)
    assert record.gco2e == pytest.approx(record.energy_j * PUE / 3.6e6 * mean)


def test_a_new_view_moves_the_traffic():
    before = {"Z-CLEAN": hours("Z-CLEAN", 50.0), "Z-HOME": hours("Z-HOME", 400.0)}
    after = {"Z-CLEAN": hours("Z-CLEAN", 400.0), "Z-HOME": hours("Z-HOME", 50.0)}
    views = [CarbonView(0.0, before), CarbonView(10.0, after)]
    run = replay(scenario([one(9.9), one(10.0)], views=views), policy())
    assert [record.region for record in run.records] == ["clean", "home"]


def test_a_full_fleet_sheds_and_says_so():
    small = fleet(replicas=1, max_in_flight=1)
    run = replay(scenario([one(1.0 + i / 100) for i in range(5)], fleet=small), policy())
    assert len(run.records) == 2
    assert run.refused == {"shed": 3}
    assert run.summary().met == pytest.approx(0.4)


def test_a_budget_keeps_a_request_near():
    run = replay(scenario([one(budget=Budget(ttft_ms=50.0)), one()]), policy())
    assert [record.region for record in run.records] == ["home", "clean"]
    assert all(record.met for record in run.records)


def test_a_late_first_view_is_an_error():
    late = replace(scenario([one(1.0)]), views=[CarbonView(2.0, {})])
    with pytest.raises(ValueError, match="first carbon view"):
        replay(late, policy())
