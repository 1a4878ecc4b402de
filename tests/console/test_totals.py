"""What the console begins with is what a scraper reads, sum by sum."""

import pytest
from prometheus_client import CollectorRegistry

from router.console.totals import (
    ANSWERED,
    EXCESS,
    FAMILIES,
    GRAMS,
    JOULES,
    KEPT,
    REFUSED,
    REQUESTS,
    SAVED,
    UNACCOUNTED,
    WINDOW_S,
    Rates,
    Totals,
    totals_document,
    totals_of,
)
from router.model import Budget, Predicted, Request
from router.telemetry.exposition import exposition, samples
from router.telemetry.metrics import Metrics
from tests.gateway.support import decision, receipt


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    metrics = Metrics(registry, codes=["OK", "UNAVAILABLE"])
    metrics._models.learn(["llama"])
    metrics._regions.learn(["west", "east"])
    return metrics


def told(metrics):
    limits = Budget(ttft_ms=80.0, e2e_ms=2000.0, explicit=True)
    metrics.finished(receipt(request=Request("llama", budget=limits)))
    metrics.finished(receipt(region="east", predicted=Predicted(210.0, 0.03, 0.01)))
    metrics.finished(
        receipt(gco2e=float("nan"), energy_j=float("nan"), predicted=Predicted(*[float("nan")] * 3))
    )
    metrics.finished(receipt(decision=decision(intensity=None)))
    metrics.refused("llama", "UNAVAILABLE", "shed")


def page_sums(registry, name):
    """Of one family, by the text of the page alone."""
    page, _ = exposition(registry)
    lines = [one for one in page.decode().splitlines() if one.startswith(name + "{")]
    return sum(float(one.rsplit(" ", 1)[1]) for one in lines)


def test_every_sum_is_that_of_the_page(registry, metrics):
    told(metrics)
    found = totals_of(samples(registry, FAMILIES))
    assert found.gco2e_g == pytest.approx(page_sums(registry, GRAMS), rel=1e-12)
    assert found.saved_g == pytest.approx(page_sums(registry, SAVED), rel=1e-12)
    assert found.excess_g == pytest.approx(page_sums(registry, EXCESS), rel=1e-12)
    assert found.energy_j == pytest.approx(page_sums(registry, JOULES), rel=1e-12)
    assert found.unaccounted == page_sums(registry, UNACCOUNTED) == 1.0
    assert sum(found.requests.values()) == page_sums(registry, REQUESTS) == 5.0
    assert sum(found.refused.values()) == page_sums(registry, REFUSED) == 1.0
    kept = sum(sum(one.values()) for one in found.budgets.values())
    assert kept == page_sums(registry, KEPT) == 2.0
    assert found.budgets == {
        "ttft": {"met": 0.0, "missed": 1.0},
        "e2e": {"met": 1.0, "missed": 0.0},
    }
    # What is of a region adds up to all, and how figures are known to the figures.
    assert sum(one.gco2e_g for one in found.regions.values()) == pytest.approx(found.gco2e_g)
    assert sum(found.grams_kinds.values()) == pytest.approx(found.gco2e_g)
    assert sum(found.joules_kinds.values()) == pytest.approx(found.energy_j)
    assert found.regions["east"].excess_g > 0.0 == found.regions["east"].saved_g


def test_nothing_yet_is_nothing(registry, metrics):
    found = totals_of(samples(registry, FAMILIES))
    assert (found.gco2e_g, found.answered, found.refused) == (0.0, 0.0, {})
    assert totals_document(found)["requests"] == {}


def grown(grams, answered):
    return Totals(gco2e_g=grams, requests={ANSWERED: answered})


def test_rates_are_over_the_last_while():
    rates = Rates()
    assert rates.take(100.0, grown(0.0, 0.0)) is None
    for second in range(1, 31):
        found = rates.take(100.0 + second, grown(2.0 * second, 5.0 * second))
    assert found["gco2e_g_per_s"] == pytest.approx(2.0)
    assert found["requests_per_s"] == pytest.approx(5.0)
    assert found["seconds"] == pytest.approx(WINDOW_S)
    assert found["budgets_met"] is None
    # It stops, and after the window there is nothing left of it.
    for second in range(31, 45):
        found = rates.take(100.0 + second, grown(60.0, 150.0))
    assert found["gco2e_g_per_s"] == 0.0
    # What came to pass while nobody looked is no rate.
    assert rates.take(1000.0, grown(1e6, 1e6)) is None


def test_what_is_saved_is_net():
    rates = Rates()
    rates.take(0.0, Totals(saved_g=1.0, excess_g=1.0))
    found = rates.take(2.0, Totals(saved_g=2.0, excess_g=4.0))
    assert found["saved_g_per_s"] == pytest.approx(-1.0)
