"""Carbon sources in the metrics: calls and how they ended, and what each source is good for now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from router.core.learned import SkillLearned
from router.telemetry.gauges import SeriesGauge
from router.telemetry.labels import LabelGuard, error_reasons

# How a call ended, where not by an error of the tree.
ANSWERED, CANCELLED = "answered", "cancelled"
# As `router.carbon.providers.rows.Fault`.
ROW_FAULTS = ("malformed", "out_of_range", "contradicted", "misplaced")


# As `router.carbon.polling.election.Part`.
POLLER_PARTS = ("leads", "follows", "alone")


# Of the leads that errors are learned at (`router.carbon.chain.combine.LEADS_H`), those shown.
SHOWN_LEADS_H = (1, 24)


class AttemptView(Protocol):
    """One source asked for one grid zone; ``age_s`` None where it gave nothing."""

    @property
    def source(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def age_s(self) -> float | None: ...


class RowsView(Protocol):
    """Rows of an answer that could not be used, for one reason."""

    @property
    def fault(self) -> str:
        """One of ROW_FAULTS."""
        ...

    @property
    def rows(self) -> int:
        """How many."""
        ...


class CarbonMetrics:
    """On one registry. Labels are names from the operator's file and reasons of the error tree."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sources = LabelGuard()
        self._outcomes = LabelGuard((*error_reasons(), ANSWERED, CANCELLED))
        self._calls = Counter(
            "carbon_router_carbon_calls_total",
            "Calls of live carbon providers by outcome: answered, or the reason of the failure; "
            "call_budget_spent was not made.",
            ("source", "outcome"),
            registry=registry,
        )
        self._faults = LabelGuard()
        self._faults.learn(ROW_FAULTS)
        self._dropped = Counter(
            "carbon_router_carbon_rows_dropped_total",
            "Rows of live providers' answers that could not be used, by fault; the other rows were "
            "used.",
            ("source", "fault"),
            registry=registry,
        )
        self._used = SeriesGauge(
            registry,
            "carbon_router_carbon_source_used",
            "1 where a source's last answer for a grid zone can be used, 0 where it failed.",
            "livemin",
            ("grid_zone", "source"),
        )
        self._age = SeriesGauge(
            registry,
            "carbon_router_carbon_source_age_seconds",
            "Age of what a source last told of a grid zone; +Inf where it told nothing.",
            "livemax",
            ("grid_zone", "source"),
        )

        self._pollers = SeriesGauge(
            registry,
            "carbon_router_carbon_pollers",
            "Processes of this gateway by what they do for a live provider whose calls gateways "
            "share: leads (calls it for all), follows, or alone (calls it for itself).",
            "livesum",
            ("source", "part"),
        )

        self._errors = SeriesGauge(
            registry,
            "carbon_router_forecast_error_g_per_kwh",
            "Mean absolute error of a grid zone's forecasts in hours observed since, gCO2e/kWh: of "
            "the published one, this gateway's own, and what decisions used, mixed of both.",
            "livemostrecent",
            ("grid_zone", "forecast", "lead_hours"),
        )

    def know(self, sources: Iterable[str]) -> None:
        """Let these names become labels; anything else is ``other``."""
        self._sources.learn(sources)

    def called(self, source: str, reason: str, seconds: float) -> None:
        """Count one call; ``reason`` of the `ProviderError` it ended with, "" when answered."""
        labels = (self._sources(source), self._outcomes(reason or ANSWERED))
        self._calls.labels(*labels).inc()

    def dropped(self, source: str, rows: RowsView) -> None:
        """Count the rows of one answer that were dropped for one reason."""
        self._dropped.labels(self._sources(source), self._faults(rows.fault)).inc(rows.rows)

    def divided(self, parts: Mapping[str, str]) -> None:
        """Set what this process does for each source."""
        self._pollers.show(
            {
                (self._sources(name), part): float(part == own)
                for name, own in parts.items()
                for part in POLLER_PARTS
            }
        )

    def show(self, attempts: Mapping[str, Iterable[AttemptView]]) -> None:
        """Set both gauges to the last refresh, per grid zone."""
        used: dict[tuple[str, ...], float] = {}
        ages_s: dict[tuple[str, ...], float] = {}
        for zone, asked in attempts.items():
            for attempt in asked:
                used[zone, attempt.source] = float(attempt.ok)
                ages_s[zone, attempt.source] = math.inf if attempt.age_s is None else attempt.age_s
        self._used.show(used)
        self._age.show(ages_s)

    def show_errors(self, learned: Iterable[SkillLearned], leads_h: Sequence[int]) -> None:
        """Set the errors met so far; ``leads_h``: of their places."""
        shown: dict[tuple[str, ...], float] = {}
        for one in learned:
            for lead_h, (seen, *errors) in zip(leads_h, one.errors, strict=True):
                if seen and lead_h in SHOWN_LEADS_H:
                    for name, error in zip(("published", "own", "used"), errors, strict=True):
                        shown[one.grid_zone, name, str(lead_h)] = error
        self._errors.show(shown)
