"""What is counted, under which labels, and that callers cannot invent series."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from router.core.reports import Doubt
from router.errors import ConfigError
from router.model import Alias, Fleet, Kind, Predicted, Provenance, Receipt, Variant
from router.telemetry.exposition import exposition, new_registry
from router.telemetry.metrics import Metrics
from router.telemetry.view import FleetView


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry, fleet: Fleet) -> Metrics:
    built = Metrics(registry, codes=("NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "OK"))
    built.know(fleet)
    return built


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"carbon_router_{name}", labels)


def series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect())


def test_a_finished_request_is_counted_with_its_energy_and_grams(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    for _ in range(3):
        metrics.finished(receipt, added_latency_s=0.0007)
    where = {"region": "west", "model": "llama"}
    assert value(registry, "requests_total", code="OK", **where) == 3.0
    assert value(registry, "energy_joules_total", kind="measured", **where) == 360.0
    grams = value(registry, "gco2e_grams_total", kind="measured", energy_kind="measured", **where)
    assert grams == pytest.approx(1.8)
    # A quarter of a gram was predicted for 60 J a request, and 120 J it took.
    assert value(registry, "saved_gco2e_grams_total", kind="estimated", **where) == 1.5
    assert value(registry, "excess_gco2e_grams_total", kind="estimated", **where) == 0.0
    assert value(registry, "unaccounted_requests_total", **where) == 0.0
    assert value(registry, "added_latency_seconds_bucket", le="0.0006") == 0.0
    assert value(registry, "added_latency_seconds_bucket", le="0.0008") == 3.0


def test_what_a_client_asks_again_is_counted_beside(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    again = receipt._replace(request=receipt.request._replace(client_retries=1))
    for one in (receipt, again, again):
        metrics.finished(one)
    metrics.asked_again("invented", "UNAVAILABLE")
    metrics.asked_again("llama", "I'M A TEAPOT")
    assert value(registry, "requests_total", region="west", model="llama", code="OK") == 3.0
    assert value(registry, "client_retries_total", model="llama", code="OK") == 2.0
    assert value(registry, "client_retries_total", model="other", code="UNAVAILABLE") == 1.0
    assert value(registry, "client_retries_total", model="llama", code="other") == 1.0


def test_predicted_over_actual_is_a_ratio_with_a_bound_at_one(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    metrics.finished(receipt)
    name = "predicted_over_actual"
    assert value(registry, f"{name}_sum", quantity="ttft") == 1.5
    assert value(registry, f"{name}_sum", quantity="e2e") == 0.8
    assert value(registry, f"{name}_bucket", quantity="ttft", le="1.0") == 0.0
    assert value(registry, f"{name}_bucket", quantity="e2e", le="1.0") == 1.0
    assert value(registry, "added_latency_seconds_count") == 0.0


def test_a_dirtier_choice_than_latency_first_is_excess_not_negative_saving(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    metrics.finished(receipt._replace(predicted=Predicted(120.0, 1.0, 0.75)))
    where = {"region": "west", "model": "llama", "kind": "estimated"}
    assert value(registry, "saved_gco2e_grams_total", **where) == 0.0
    assert value(registry, "excess_gco2e_grams_total", **where) == 0.25


def test_the_share_that_was_saved_is_a_ratio_of_two_counters(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    """Half of what latency-first would have emitted, whatever the joules turned out to be."""
    for energy_j in (30.0, 60.0, 600.0):
        grams = 0.5 * energy_j / 60.0
        metrics.finished(
            receipt._replace(energy_j=energy_j, gco2e=grams, predicted=Predicted(60.0, 0.5, 1.0))
        )
    where = {"region": "west", "model": "llama", "kind": "estimated"}
    saved_g = value(registry, "saved_gco2e_grams_total", **where)
    labels = {**where, "kind": "measured", "energy_kind": "measured"}
    grams_g = value(registry, "gco2e_grams_total", **labels)
    assert saved_g is not None and grams_g is not None
    assert saved_g / (saved_g + grams_g) == pytest.approx(0.5)


def test_figures_that_were_not_believed_are_counted_by_reason(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    metrics.finished(receipt._replace(doubts=(Doubt.ENERGY_HIGH, Doubt.TOKENS_HIGH)))
    metrics.finished(receipt._replace(doubts=(Doubt.ENERGY_HIGH,)))
    name = "reported_figures_ignored_total"
    assert value(registry, name, reason="report_energy_too_high") == 2.0
    assert value(registry, name, reason="report_tokens_too_high") == 1.0
    assert value(registry, name, reason="report_malformed") == 0.0


def test_what_is_emulated_says_so(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    emulated = replace(receipt.decision.endpoint, emulated=True)
    metrics.finished(
        receipt._replace(
            energy_kind=Provenance.EMULATED,
            decision=receipt.decision._replace(endpoint=emulated),
        )
    )
    where = {"region": "west", "model": "llama"}
    assert value(registry, "energy_joules_total", kind="emulated", **where) == 120.0
    assert value(
        registry, "gco2e_grams_total", kind="measured", energy_kind="emulated", **where
    ) == pytest.approx(0.6)
    assert value(registry, "saved_gco2e_grams_total", kind="emulated", **where) == 0.5


def test_unknown_energy_or_grams_are_flagged_and_never_added_as_zero(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    where = {"region": "west", "model": "llama"}
    metrics.finished(receipt._replace(energy_j=math.nan, gco2e=math.nan))
    metrics.finished(receipt._replace(gco2e=math.inf))
    dark = receipt.decision._replace(intensity=None, gco2e=math.nan)
    metrics.finished(receipt._replace(gco2e=math.nan, decision=dark))
    assert value(registry, "requests_total", code="OK", **where) == 3.0
    assert value(registry, "unaccounted_requests_total", **where) == 3.0
    assert value(registry, "energy_joules_total", kind="measured", **where) == 240.0
    for kind in ("measured", "unknown"):
        labels = {"kind": kind, "energy_kind": "measured", **where}
        assert value(registry, "gco2e_grams_total", **labels) == 0.0


figures = st.floats(allow_nan=True, allow_infinity=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[figures] * 11))
def test_no_receipt_can_poison_a_total(
    receipt: Receipt, fleet: Fleet, drawn: tuple[float, ...]
) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.know(fleet)
    energy, grams, ttft, e2e, chosen, latency_first, ttft_p, e2e_p, added, marginal, joules = drawn
    metrics.finished(
        receipt._replace(
            energy_j=energy, gco2e=grams, ttft_ms=ttft, e2e_ms=e2e, marginal_energy_j=marginal,
            decision=receipt.decision._replace(ttft_ms=ttft_p, e2e_ms=e2e_p),
            predicted=Predicted(joules, chosen, latency_first),
        ),
        added,
    )  # fmt: skip
    where = {"region": "west", "model": "llama"}
    assert value(registry, "requests_total", code="OK", **where) == 1.0
    for metric in registry.collect():
        for sample in metric.samples:
            assert sample.value >= 0.0, sample
            if metric.type == "counter":
                assert math.isfinite(sample.value), sample


def test_refused_and_failed_requests(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.refused("llama", "RESOURCE_EXHAUSTED", "shed")
    metrics.refused("llama", "RESOURCE_EXHAUSTED", "shed")
    metrics.failed("west", "llama", "UNAVAILABLE")
    assert value(registry, "refused_total", reason="shed") == 2.0
    assert (
        value(registry, "requests_total", region="", model="llama", code="RESOURCE_EXHAUSTED")
        == 2.0
    )
    assert (
        value(registry, "requests_total", region="west", model="llama", code="UNAVAILABLE") == 1.0
    )


def test_names_that_callers_invent_never_become_labels(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    metrics.refused("invented", "NOT_FOUND", "model_unknown")
    metrics.refused("llama", "NO_SUCH_CODE", "no_such_reason")
    metrics.failed("nowhere", "llama", "OK")
    metrics.finished(receipt._replace(request=receipt.request._replace(model="invented")))
    metrics.retried("no_such_reason")
    metrics.ejected("nobody")
    metrics.scrape_failed("nobody")
    before = series(registry)
    for number in range(500):
        odd = f"x{number}"
        metrics.refused(odd, odd, odd)
        metrics.failed(odd, odd, odd)
        metrics.finished(receipt._replace(request=receipt.request._replace(model=odd)))
        metrics.retried(odd)
        metrics.ejected(odd)
        metrics.scrape_failed(odd)
    # (region "", model other, code other) and (other, other, other) are the only new pairs.
    assert series(registry) <= before + 2
    assert len(metrics._rows) + len(metrics._unanswered) + len(metrics._refusals) < 20
    assert value(registry, "refused_total", reason="other") == 501.0


def test_names_stay_known_across_a_reload(
    registry: CollectorRegistry, metrics: Metrics, fleet: Fleet, receipt: Receipt
) -> None:
    metrics.know(Fleet({}, (), {}, {}, "", ""))
    metrics.finished(receipt)
    where = {"region": "west", "model": "llama", "code": "OK"}
    assert value(registry, "requests_total", **where) == 1.0


def test_an_alias_is_a_name_that_is_known(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    alias = Alias("chat", (Variant("llama", 0.5),), "made up")
    metrics.know(Fleet({}, (), {}, {}, "", "", aliases={"chat": alias}))
    metrics.finished(receipt._replace(request=receipt.request._replace(model="chat")))
    where = {"region": "west", "model": "chat", "code": "OK"}
    assert value(registry, "requests_total", **where) == 1.0


def test_background_and_health_events(
    registry: CollectorRegistry, metrics: Metrics, fleet: Fleet
) -> None:
    metrics.retried("upstream_fault")
    metrics.ejected("west-0")
    metrics.restarted("carbon refresh")
    metrics.scrape_failed("west-0")
    metrics.orca_malformed()
    metrics.decided(9e-6)
    assert value(registry, "retries_total", reason="upstream_fault") == 1.0
    assert value(registry, "ejections_total", endpoint="west-0") == 1.0
    assert value(registry, "background_restarts_total", task="carbon refresh") == 1.0
    assert value(registry, "load_scrape_failures_total", endpoint="west-0") == 1.0
    assert value(registry, "orca_malformed_total") == 1.0
    assert value(registry, "decision_seconds_bucket", le="1e-05") == 1.0


def test_several_workers_need_shared_files() -> None:
    with pytest.raises(ConfigError, match="PROMETHEUS_MULTIPROC_DIR"):
        Metrics(CollectorRegistry(), workers=2)


@pytest.mark.parametrize("kind", list(Kind))
def test_grams_say_the_kind_of_the_intensity(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt, kind: Kind
) -> None:
    assert receipt.decision.intensity is not None
    known = replace(receipt.decision.intensity, kind=kind)
    metrics.finished(receipt._replace(decision=receipt.decision._replace(intensity=known)))
    labels = {"region": "west", "model": "llama", "energy_kind": "measured", "kind": kind.value}
    assert value(registry, "gco2e_grams_total", **labels) == pytest.approx(0.6)


def test_promtool_finds_nothing_to_complain_of(
    fleet: Fleet, receipt: Receipt, view: FleetView
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("LOUD: promtool is not on PATH, the exposition was not linted")
    registry = new_registry()
    metrics = Metrics(registry)
    metrics.know(fleet)
    metrics.finished(receipt, 0.001)
    metrics.refused("llama", "NOT_FOUND", "model_unknown")
    metrics.restarted("carbon")
    metrics.ejected("west-0")
    metrics.retried("upstream_fault")
    metrics.scrape_failed("west-0")
    metrics.show(view)
    page, _ = exposition(registry)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_counts_that_routing_could_not_use_are_counted(
    registry: CollectorRegistry, metrics: Metrics, receipt: Receipt
) -> None:
    odd = receipt.request._replace(ignored=("input_tokens_ignored",))
    metrics.finished(receipt._replace(request=odd))
    metrics.finished(receipt)
    assert value(registry, "ignored_claims_total", claim="input_tokens_ignored") == 1.0


def test_reloads_are_counted_and_dated_by_outcome() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    total, last = "carbon_router_reloads_total", "carbon_router_last_reload_timestamp_seconds"
    assert registry.get_sample_value(total, {"outcome": "refused"}) == 0.0
    metrics.reloaded("refused", 100.0)
    metrics.reloaded("applied", 200.0)
    metrics.reloaded("applied", 300.0)
    assert registry.get_sample_value(total, {"outcome": "applied"}) == 2.0
    assert registry.get_sample_value(total, {"outcome": "refused"}) == 1.0
    assert registry.get_sample_value(last, {"outcome": "applied"}) == 300.0
    assert registry.get_sample_value(last, {"outcome": "refused"}) == 100.0
