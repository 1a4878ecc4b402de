"""What a comparison came to, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from router.lab.calibration.figures import Check, HostTiming, Loopback, Row
from router.lab.replay.timed import Period
from router.unknown_figures import plain_values


class FleetFigures(NamedTuple):
    """What the whole fleet drew, facility energy, idle replicas kept on until the end."""

    busy_j: float
    idle_j: float
    busy_g: float
    idle_g: float


class Side(NamedTuple):
    """One side beyond its answers. ``refused``: requests without an answer, by reason."""

    refused: Mapping[str, int]
    fleet: FleetFigures


@dataclass(frozen=True, slots=True)
class Comparison:
    """Live against simulated. ``draws``: of near-ties, simulated; that of the middle grams is
    compared. ``path``: what the loopback adds, which the simulation is given; ``unaware``: the
    checks of one that is not.

    ``receipts_gco2e``: grams as the gateway said at once; ``known_off_g_per_kwh``: most by which
    what the gateway knew of a grid differs from the scenario's signal. ``shortcomings``: what
    keeps a difference from being blamed on the simulation. ``notes``: what was compressed and
    left out.
    """

    scenario: str
    policy: str
    period: Period
    offered: int
    draws: int
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    unaware: tuple[Check, ...]
    path: Loopback
    live: Side
    simulated: Side
    receipts_gco2e: float
    known_off_g_per_kwh: float
    machine: HostTiming
    shortcomings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``within`` | ``outside`` | ``inconclusive``: not within, but for what stands in
        ``shortcomings``.
        """
        if self.offered and all(check.ok for check in self.checks):
            return "within"
        return "inconclusive" if self.shortcomings else "outside"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines; figures that are not known are null."""
    period, machine = comparison.period, comparison.machine
    document = {
        "scenario": comparison.scenario,
        "policy": comparison.policy,
        "live": "real gateway and callers, emulated model servers, on loopback",
        "simulated": "compiled simulation of the same requests",
        "verdict": comparison.verdict,
        "carbon_start_unix_s": period.carbon_start,
        "carbon_speed": period.speed,
        "seconds": period.seconds,
        "offered": comparison.offered,
        "draws": comparison.draws,
        "regions": [
            {
                "name": row.name,
                "live": row.live._asdict(),
                "simulated": row.simulated._asdict(),
                "simulated_share_range": list(row.share_range),
            }
            for row in comparison.rows
        ],
        "loopback": {
            "probes": comparison.path.probes,
            "added_ms_p50": comparison.path.p50_ms,
            "added_ms_p95": comparison.path.p95_ms,
            "simulated_path_delay_ms": comparison.path.delay_ms,
        },
        "checks": [{**check._asdict(), "ok": check.ok} for check in comparison.checks],
        "checks_without_path_delay": [
            {**check._asdict(), "ok": check.ok} for check in comparison.unaware
        ],
        "refused": {
            "live": dict(comparison.live.refused),
            "simulated": dict(comparison.simulated.refused),
        },
        "fleet": {
            "live": comparison.live.fleet._asdict(),
            "simulated": comparison.simulated.fleet._asdict(),
        },
        "receipts_gco2e": comparison.receipts_gco2e,
        "known_off_g_per_kwh": comparison.known_off_g_per_kwh,
        "machine": {
            "callers_lag_ms": dict(zip(("p50", "p95", "p99"), machine.callers_lag_ms, strict=True)),
            "servers_lag_ms": dict(zip(("p50", "p95", "p99"), machine.servers_lag_ms, strict=True)),
            "cpu": dict(machine.cpu),
        },
        "shortcomings": list(comparison.shortcomings),
        "notes": list(comparison.notes),
    }
    found: dict[str, Any] = plain_values(document)
    return found
