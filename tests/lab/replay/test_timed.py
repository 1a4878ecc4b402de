import random
from collections import Counter
from statistics import fmean

import pytest

from router.lab.replay.timed import OriginDemand, Period, TrafficClass, day_shape, generate
from router.model import Budget, LengthPrior

ORIGINS = [OriginDemand("west", -7.0, 0.75), OriginDemand("east", -4.0, 0.25)]
CLASSES = [
    TrafficClass("chat", "small", 0.8, Budget(e2e_ms=5000.0), 400),
    TrafficClass("expert", "large", 0.2, Budget(ttft_ms=900.0), 100),
]
PRIORS = {"small": LengthPrior(100.0, 150.0, 350.0), "large": LengthPrior(200.0, 60.0, 90.0)}
DAY = Period(60.0, 1652511600.0, 1440.0)


def make(seed=1, period=DAY):
    return generate(ORIGINS, CLASSES, PRIORS, period, 100.0, random.Random(seed))


def test_the_same_seed_gives_the_same_requests():
    assert make(1) == make(1)
    assert make(1) != make(2)


def test_rates_shares_and_order():
    requests = make()
    assert len(requests) == pytest.approx(6000, rel=0.05)
    assert [r.at_s for r in requests] == sorted(r.at_s for r in requests)
    assert requests[0].at_s >= 0.0 and requests[-1].at_s < 60.0
    origins = Counter(r.request.origin for r in requests)
    assert origins["west"] / len(requests) == pytest.approx(0.75, abs=0.03)
    labels = Counter(r.label for r in requests)
    assert labels["expert"] / len(requests) == pytest.approx(0.2, abs=0.03)
    assert len({r.request.request_id for r in requests}) == len(requests)


def test_a_request_carries_what_a_router_may_see_and_no_more():
    for timed in make():
        small = timed.label == "chat"
        assert timed.request.model == ("small" if small else "large")
        assert timed.request.budget == CLASSES[0 if small else 1].budget
        assert 1 <= timed.output_tokens <= timed.request.max_output_tokens
    drawn = [r.output_tokens for r in make() if r.label == "chat"]
    assert fmean(drawn) == pytest.approx(147.0, rel=0.05)


def test_the_day_has_its_shape():
    assert fmean(day_shape(h / 10) for h in range(240)) == pytest.approx(1.0)
    assert day_shape(15.0) == pytest.approx(1.6) and day_shape(3.0) == pytest.approx(0.4)
    busy = sum(r.at_s >= 30 for r in make() if r.request.origin == "west")
    quiet = sum(r.at_s < 30 for r in make() if r.request.origin == "west")
    # The clock starts at local midnight: its second half holds the afternoon.
    assert busy > 1.5 * quiet


def test_hours_of_the_carbon_clock_end_at_boundaries():
    assert Period(6.0, 1800.0, 1440.0).boundaries() == [1.25, 3.75, 6.0]
    assert Period(5.0, 3600.0, 1440.0).boundaries() == [2.5, 5.0]
    assert Period(5.0, 3600.0, 1440.0).carbon_time(2.5) == 7200.0
