"""The counters and histograms of the gateway; its gauges are beside it in gauges.py.

Recording is on the hot path, so label children are looked up once and kept. Units are in the
names; energy is IT energy (GPU and host) at its attributional share, grams count facility energy.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

import router
from router.contract import Verdict
from router.core.reports import Doubt
from router.errors import ConfigError
from router.model import Fleet, Provenance, Receipt
from router.telemetry.budgets import BudgetMetrics
from router.telemetry.calibration import CalibrationMetrics
from router.telemetry.carbon import CarbonMetrics
from router.telemetry.deferral import DeferralMetrics
from router.telemetry.discovery import DiscoveryMetrics
from router.telemetry.exposition import DIRECTORY_VARIABLE, shares_files
from router.telemetry.fleet_loads import FleetLoadMetrics
from router.telemetry.gauges import FleetGauges
from router.telemetry.labels import LabelGuard, error_reasons
from router.telemetry.ledger import LedgerMetrics
from router.telemetry.otlp.counts import OtlpMetrics
from router.telemetry.scaling import ScalingMetrics
from router.telemetry.state_store import StoreMetrics
from router.telemetry.tracing.metrics import SpanMetrics
from router.telemetry.trust import TrustMetrics
from router.telemetry.view import FleetView

_DECISION_S = (5e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 6.4e-4, 1.3e-3, 5e-3, 2e-2)
_ADDED_S = (2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 1.5e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 5e-2, 0.2, 1.0)
# A bound at 1 tells the share of requests that took longer than predicted: at a policy quantile
# of 0.95 that share should be 5 %.
_RATIO = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

# The kind of an intensity that no source knows; such requests have no grams either.
UNKNOWN = "unknown"
# The code of every request that was answered, whichever protocol it came by.
_ANSWERED = "OK"

# What `Readiness.status` may be.
READINESS = ("ready", "degraded", "not_ready")

_Add = Callable[[float], None]


def _counter(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Counter:
    return Counter(f"carbon_router_{name}", text, labels, registry=registry)


class _Row(NamedTuple):
    """The counters that one kind of finished request adds to."""

    requests: _Add
    unaccounted: _Add
    energy_j: _Add
    gco2e: _Add
    saved_gco2e: _Add
    excess_gco2e: _Add


class Metrics:
    """The gateway's metrics on one registry; build it once a process. ``codes``: with which its
    fronts answer requests that fail.

    Raises ConfigError when ``workers`` > 1 and this process does not share its figures.
    """

    def __init__(
        self, registry: CollectorRegistry, workers: int = 1, codes: Iterable[str] = ()
    ) -> None:
        if workers > 1 and not shares_files():
            raise ConfigError(
                "metrics",
                [("server.workers", f"set {DIRECTORY_VARIABLE} before a worker process starts")],
            )
        # One more series per counter, of no use to a scraper that keeps history itself.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._models = LabelGuard()
        self._regions = LabelGuard([""])
        self._aliases = LabelGuard()
        self._codes = LabelGuard(codes)
        self._reasons = LabelGuard(error_reasons())
        self._tasks = LabelGuard()
        self._endpoints = LabelGuard(limit=20_000)
        self._rows: dict[tuple[str, str, str, str, bool], _Row] = {}
        self._unanswered: dict[tuple[str, str, str], _Add] = {}
        self._refusals: dict[str, _Add] = {}
        self._again: dict[tuple[str, str], _Add] = {}
        self._count_answers(registry)
        self._count_judged(registry)
        self._count_kept_budgets(registry)
        self._count_faults(registry)
        self._count_figures(registry)
        self._build_histograms(registry)
        self._gauges = FleetGauges(registry)
        self._tasks_now = Gauge(
            "carbon_router_tasks",
            "Tasks of the event loop, all workers' together: of what is under way, and a few that "
            "stay. A number that grows in calm is a leak.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._readiness = Gauge(
            "carbon_router_readiness",
            "Worker processes by what /readyz of them says: ready, degraded, or not_ready, which "
            "takes no new requests.",
            ["status"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._reloaded_at = Gauge(
            "carbon_router_last_reload_timestamp_seconds",
            "When a reload last ended with this outcome; the latest of all workers.",
            ["outcome"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        Gauge(
            "carbon_router_build_info",
            "1, of the version that runs and the Python that it runs on.",
            ["version", "python"],
            multiprocess_mode="livemax",
            registry=registry,
        ).labels(router.__version__, platform.python_version()).set(1.0)
        self.carbon = CarbonMetrics(registry)
        self.trust = TrustMetrics(registry)
        self.discovery = DiscoveryMetrics(registry)
        self.store = StoreMetrics(registry)
        self.fleet_loads = FleetLoadMetrics(registry)
        self.budgets = BudgetMetrics(registry)
        self.ledger = LedgerMetrics(registry)
        self.deferral = DeferralMetrics(registry)
        self.scaling = ScalingMetrics(registry)
        self.calibration = CalibrationMetrics(registry)
        self.spans = SpanMetrics(registry)
        self.otlp = OtlpMetrics(registry)

    def _count_answers(self, registry: CollectorRegistry) -> None:
        counter = partial(_counter, registry)
        self._requests = counter(
            "requests_total",
            "Requests by gRPC code; region is empty where none answered.",
            "region", "model", "code",
        )  # fmt: skip
        self._refused = counter(
            "refused_total", "Requests refused before any endpoint was asked.", "reason"
        )
        self._asked_again = counter(
            "client_retries_total",
            "Of the requests in carbon_router_requests_total, those that a client says it asked "
            "before.",
            "model", "code",
        )  # fmt: skip
        self._energy = counter(
            "energy_joules_total",
            "IT energy (GPU and host) of answered requests; kind says how it is known.",
            "region", "model", "kind",
        )  # fmt: skip
        self._grams = counter(
            "gco2e_grams_total",
            "Emissions of answered requests at facility energy; kind is of the grid intensity, "
            "energy_kind of the joules.",
            "region", "model", "kind", "energy_kind",
        )  # fmt: skip
        self._saved = counter(
            "saved_gco2e_grams_total",
            "Grams by which these requests would have emitted more where latency-first would have "
            "sent them, at the same load and for the joules that they took; the net saving is this "
            "minus carbon_router_excess_gco2e_grams_total, and its share that over itself plus "
            "carbon_router_gco2e_grams_total.",
            "region", "model", "kind",
        )  # fmt: skip
        self._excess = counter(
            "excess_gco2e_grams_total",
            "Grams by which these requests would have emitted less where latency-first would have "
            "sent them; counted as the savings are.",
            "region", "model", "kind",
        )  # fmt: skip
        self._unaccounted = counter(
            "unaccounted_requests_total",
            "Answered requests whose joules or grams are not known; missing from those totals.",
            "region", "model",
        )  # fmt: skip

    def _count_judged(self, registry: CollectorRegistry) -> None:
        self._judged = _counter(
            registry,
            "judged_answers_total",
            "Answers that the judge of an alias was asked about, by what it said: accepted, "
            "not_accepted, none.",
            "alias", "verdict",
        )  # fmt: skip

    def _count_kept_budgets(self, registry: CollectorRegistry) -> None:
        kept = _counter(
            registry,
            "latency_budget_total",
            "Answered requests whose caller set a latency budget, by quantity (time to the first "
            "token, or to the end) and by whether the measured one kept to it: met, missed.",
            "quantity", "outcome",
        )  # fmt: skip
        # From 0: so that a share of both is known as soon as there is one of either.
        self._ttft_kept, self._e2e_kept = (
            (kept.labels(quantity, "met").inc, kept.labels(quantity, "missed").inc)
            for quantity in ("ttft", "e2e")
        )

    def _hold_to_budget(self, receipt: Receipt) -> None:
        budget = receipt.request.budget
        for kept, limit_ms, took_ms in (
            (self._ttft_kept, budget.ttft_ms, receipt.ttft_ms),
            (self._e2e_kept, budget.e2e_ms, receipt.e2e_ms),
        ):
            if limit_ms < math.inf and took_ms > 0.0:
                kept[took_ms > limit_ms](1.0)

    def _count_faults(self, registry: CollectorRegistry) -> None:
        counter = partial(_counter, registry)
        self._ejections = counter(
            "ejections_total", "Endpoints taken out, for whatever cause.", "endpoint"
        )
        self._retries = counter("retries_total", "Retries by the failure that caused it.", "reason")
        self._restarts = counter(
            "background_restarts_total", "Background tasks that died and were restarted.", "task"
        )
        self._scrape_failures = counter(
            "load_scrape_failures_total", "Load scrapes without a usable answer.", "endpoint"
        )
        self._logged = counter(
            "request_log_rows_total", "Rows of log.requests: written, or lost.", "outcome"
        )
        self._receipts_shared = counter(
            "receipts_shared_total",
            "Receipts on their way to where other gateways find them: stored, or lost.",
            "outcome",
        )
        self._reloads = counter(
            "reloads_total", "Reloads of the configuration, by process and outcome.", "outcome"
        )
        # From 0: of a series that appears with its first event Prometheus sees no increase.
        for outcome in ("applied", "refused"):
            self._reloads.labels(outcome)

    def _count_figures(self, registry: CollectorRegistry) -> None:
        """What callers and servers said that could not be used."""
        counter = partial(_counter, registry)
        self._ignored = counter(
            "ignored_claims_total",
            "Answered requests with a count of tokens that routing could not use.",
            "claim",
        )
        self._samples_dropped = counter(
            "load_samples_dropped_total",
            "Samples of backends' metrics pages that could not be used; the others were.",
            "endpoint",
        )
        self._orca_malformed = counter(
            "orca_malformed_total", "Unusable load reports in backend trailers."
        )
        doubted = counter(
            "reported_figures_ignored_total",
            "Figures that servers reported of a request and that its run cannot bear out, by "
            "reason; estimates took their place.",
            "reason",
        )
        self._doubted = {doubt: doubted.labels(doubt).inc for doubt in Doubt}

    def _build_histograms(self, registry: CollectorRegistry) -> None:
        self._decision = Histogram(
            "carbon_router_decision_seconds",
            "Time until it is decided where a request goes first, waits for a place included.",
            buckets=_DECISION_S,
            registry=registry,
        )
        self._added = Histogram(
            "carbon_router_added_latency_seconds",
            "Time until a request left for who answered it, attempts that failed included.",
            buckets=_ADDED_S,
            registry=registry,
        )
        ratio = Histogram(
            "carbon_router_predicted_over_actual",
            "Latency predicted at the policy's quantile over the measured one.",
            ["quantity"],
            buckets=_RATIO,
            registry=registry,
        )
        self._ttft_ratio = ratio.labels("ttft")
        self._e2e_ratio = ratio.labels("e2e")

    def know(self, fleet: Fleet) -> None:
        """Let this fleet's names become labels; anything else is ``other``."""
        self._models.learn(model.name for endpoint in fleet.endpoints for model in endpoint.models)
        # Callers name a model or an alias, and it is told of either.
        self._models.learn(fleet.aliases)
        self._aliases.learn(fleet.aliases)
        self._regions.learn(fleet.regions)
        self._endpoints.learn(endpoint.name for endpoint in fleet.endpoints)

    def finished(
        self, receipt: Receipt, added_latency_s: float = math.nan, trace_id: str = ""
    ) -> None:
        """Count one answered request; NaN figures are left out and counted as unaccounted.
        ``trace_id``: that is kept of it, "" where none is."""
        for claim in receipt.request.ignored:
            self._ignored.labels(claim).inc()
        if receipt.request.client_retries:
            self.asked_again(receipt.request.model, _ANSWERED)
        decision = receipt.decision
        intensity = decision.intensity
        key = (
            receipt.region,
            receipt.request.model,
            receipt.energy_kind,
            UNKNOWN if intensity is None else intensity.kind,
            decision.endpoint.emulated,
        )
        row = self._rows.get(key) or self._row(key)
        row.requests(1.0)
        energy_known = 0.0 <= receipt.energy_j < math.inf
        if energy_known:
            row.energy_j(receipt.energy_j)
        grams_known = 0.0 <= receipt.gco2e < math.inf
        if grams_known:
            row.gco2e(receipt.gco2e)
        if not (energy_known and grams_known):
            row.unaccounted(1.0)
        saved = saved_g(receipt)
        if 0.0 < saved < math.inf:
            row.saved_gco2e(saved)
        elif -math.inf < saved < 0.0:
            row.excess_gco2e(-saved)
        self._hold_to_budget(receipt)
        for doubt in receipt.doubts:
            self._doubted[Doubt(doubt)]()
        exemplar = {"trace_id": trace_id} if trace_id else None
        told = decision.latency
        if receipt.ttft_ms > 0.0 and 0.0 < told.ttft_ms < math.inf:
            self._ttft_ratio.observe(told.ttft_ms / receipt.ttft_ms, exemplar)
        if receipt.e2e_ms > 0.0 and 0.0 < told.e2e_ms < math.inf:
            self._e2e_ratio.observe(told.e2e_ms / receipt.e2e_ms, exemplar)
        if added_latency_s >= 0.0:
            self._added.observe(added_latency_s, exemplar)

    def decided(self, seconds: float, trace_id: str = "") -> None:
        """Take in how long one decision took."""
        self._decision.observe(seconds, {"trace_id": trace_id} if trace_id else None)

    def refused(self, model: str, code: str, reason: str) -> None:
        """Count a request that no endpoint was asked for: refused, or wrong."""
        self.failed("", model, code)
        add = self._refusals.get(reason)
        if add is None:
            label = self._reasons(reason)
            add = self._refusals[label] = self._refused.labels(label).inc
        add(1.0)

    def failed(self, region: str, model: str, code: str) -> None:
        """Count a request without an answer; ``region``: the last one asked, "" when none."""
        add = self._unanswered.get((region, model, code))
        if add is None:
            labels = (self._regions(region), self._models(model), self._codes(code))
            add = self._unanswered[labels] = self._requests.labels(*labels).inc
        add(1.0)

    def asked_again(self, model: str, code: str) -> None:
        """Count a request, answered or not, that its client asked before."""
        add = self._again.get((model, code))
        if add is None:
            code = code if code == _ANSWERED else self._codes(code)
            labels = (self._models(model), code)
            add = self._again[labels] = self._asked_again.labels(*labels).inc
        add(1.0)

    def retried(self, reason: str) -> None:
        """Count one retry, by the ``reason`` of the error that caused it."""
        self._retries.labels(self._reasons(reason)).inc()

    def ejected(self, endpoint: str) -> None:
        """Count one endpoint that was taken out."""
        self._ejections.labels(self._endpoints(endpoint)).inc()

    def judged(self, alias: str, verdict: Verdict) -> None:
        """Count one answer of an alias that was to be judged."""
        self._judged.labels(self._aliases(alias), verdict).inc()

    def restarted(self, task: str) -> None:
        """Count one background task that died and was started again."""
        self._tasks.learn([task])
        self._restarts.labels(self._tasks(task)).inc()

    def reloaded(self, outcome: str, at: float) -> None:
        """Count one reload that was ``applied`` or ``refused`` at ``at``, unix s."""
        self._reloads.labels(outcome).inc()
        self._reloaded_at.labels(outcome).set(at)

    def scrape_failed(self, endpoint: str) -> None:
        """Count one load scrape without a usable answer."""
        self._scrape_failures.labels(self._endpoints(endpoint)).inc()

    def samples_dropped(self, endpoint: str, samples: int) -> None:
        """Count the samples of one page that could not be used."""
        self._samples_dropped.labels(self._endpoints(endpoint)).inc(samples)

    def logged(self, written: int, lost: int) -> None:
        """Count rows of the file of requests."""
        self._logged.labels("written").inc(written)
        self._logged.labels("lost").inc(lost)

    def receipts_shared(self, outcome: str, receipts: int) -> None:
        """Count receipts that were ``stored`` for other gateways, or ``lost`` on their way."""
        self._receipts_shared.labels(outcome).inc(receipts)

    def orca_malformed(self) -> None:
        """Count one unusable load report in a backend's trailers."""
        self._orca_malformed.inc()

    def show(self, view: FleetView) -> None:
        """Set the fleet's gauges. Called before each scrape, and now and then in each worker."""
        self._gauges.show(view)
        self.budgets.show()

    def show_readiness(self, status: str) -> None:
        """Set what this process says of itself: one of `READINESS`; called as often."""
        for one in READINESS:
            self._readiness.labels(one).set(float(one == status))

    def show_tasks(self, count: int) -> None:
        """Set how many tasks the event loop has; called as often."""
        self._tasks_now.set(count)

    def _row(self, key: tuple[str, str, str, str, bool]) -> _Row:
        region, model = self._regions(key[0]), self._models(key[1])
        energy_kind, intensity_kind, emulated = key[2:]
        # A prediction is at best an estimate, whatever the joules turned out to be.
        predicted = Provenance.EMULATED if emulated else Provenance.ESTIMATED
        row = _Row(
            self._requests.labels(region, model, _ANSWERED).inc,
            self._unaccounted.labels(region, model).inc,
            self._energy.labels(region, model, energy_kind).inc,
            self._grams.labels(region, model, intensity_kind, energy_kind).inc,
            self._saved.labels(region, model, predicted).inc,
            self._excess.labels(region, model, predicted).inc,
        )
        # Only names that are labels as they stand: the cache is as bounded as the series are.
        if (region, model) == key[:2]:
            self._rows[key] = row
        return row


def saved_g(receipt: Receipt) -> float:
    """What was predicted to be saved, for the joules that it took in the end; NaN if unknown."""
    predicted = receipt.predicted
    if not predicted.energy_j > 0.0:
        return math.nan
    took = receipt.energy_j / predicted.energy_j
    return (predicted.latency_first_gco2e - predicted.gco2e) * took
