"""Small builders of what tests and benchmarks route with. Each takes only what its caller cares
about."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from router.config.loading import parse_policy
from router.config.schema import HealthSchema
from router.config.settings import HealthSettings
from router.core.board import Board
from router.core.columns import Snapshot, build_snapshot
from router.core.latency import z_of
from router.core.layout import Layout
from router.model import (
    Basis,
    Budget,
    Endpoint,
    Energy,
    Factors,
    Fleet,
    Forecast,
    Intensity,
    Kind,
    LengthPrior,
    Policy,
    Profile,
    Provenance,
    Region,
    Relax,
    Request,
    ServedModel,
    Signal,
    Spread,
    StaleCarbon,
    TaskProfile,
    TokenProfile,
    Weights,
)

HOUR = 3600.0
START = 1_652_511_600.0  # 2022-05-14T07:00Z, when simulated days begin
NOW = 1_700_000_000.0 // HOUR * HOUR + 600.0  # ten minutes into an hour
SIGNAL = Signal(Basis.AVERAGE, Factors.LIFECYCLE)
PRIOR = LengthPrior(100.0, 200.0, 500.0)


class Dice:
    """An `Rng` that always throws the same."""

    def __init__(self, u: float = 0.5) -> None:
        self.u = u

    def random(self) -> float:
        return self.u


def token_profile(name="llama-3.1-8b@1xh100", **changes) -> TokenProfile:
    values = {
        "idle_w": 90.0, "base_w": 477.0, "w_per_token_s": 0.024, "tpot_base_ms": 6.0,
        "tpot_ms_per_sequence": 0.1, "prefill_base_ms": 10.0, "prefill_ms_per_token": 0.05,
        "prefill_w": 665.0, "max_batch": 256, "target_batch": 64, "host_fraction": 0.3,
        "provenance": Provenance.MEASURED, "source": "test",
    }  # fmt: skip
    return TokenProfile(name=name, **{**values, **changes})


def task_profile(name="image@1xl4", **changes) -> TaskProfile:
    values = {
        "energy_j": 2282.0, "service_ms": 800.0, "service_ms_per_in_flight": 100.0,
        "max_batch": 4, "host_fraction": 0.25, "provenance": Provenance.ESTIMATED,
        "source": "test",
    }  # fmt: skip
    return TaskProfile(name=name, **{**values, **changes})


def served(
    profile: Profile | None = None, name="llama", version="", context_tokens=math.inf
) -> ServedModel:
    return ServedModel(name, version, profile or token_profile(), context_tokens)


def endpoint(name: str, region: str = "west", *models: ServedModel, **changes) -> Endpoint:
    values = {
        "address": f"127.0.0.1:{9000 + len(name)}", "protocol": "oip", "max_in_flight": 64,
        "metrics_url": "", "engine": "", "emulated": False,
    }  # fmt: skip
    return Endpoint(name, region, models=models or (served(),), **{**values, **changes})


def replicas(counts: Mapping[str, int], *models: ServedModel, **changes) -> list[Endpoint]:
    """Emulated endpoints REGION-NUMBER; ``counts``: how many in each region."""
    changes = {"emulated": True, **changes}
    return [
        endpoint(f"{name}-{number}", name, *models, **changes)
        for name, count in counts.items()
        for number in range(count)
    ]


def region(name: str, residency=(), pue: float = 1.2, grid_zone: str = "") -> Region:
    return Region(name, grid_zone or f"grid-{name}", pue, "test", frozenset(residency))


def fleet(
    *endpoints: Endpoint,
    regions: Sequence[Region] = (),
    rtt_ms: Mapping[str, Mapping[str, float]] | None = None,
    default_origin: str = "home",
    priors: Mapping[str, LengthPrior] | None = None,
) -> Fleet:
    """Regions, RTTs (10 ms more a region, by name) and priors that are not given are made up."""
    endpoints = endpoints or (endpoint("a"),)
    known = {r.name: r for r in regions}
    for one in endpoints:
        known.setdefault(one.region, region(one.region))
    ladder = {name: 10.0 * (place + 1) for place, name in enumerate(sorted(known))}
    table = {origin: dict(row) for origin, row in (rtt_ms or {"home": ladder}).items()}
    return Fleet(
        regions=known,
        endpoints=tuple(endpoints),
        priors=priors or {m.name: PRIOR for e in endpoints for m in e.models},
        rtt_ms=table,
        default_origin=default_origin,
        gateway_origin="",
    )


def policy(**changes) -> Policy:
    """Carbon first: least grams, no near-tie, no budget, no ladder."""
    values = {
        "name": "test", "weights": Weights(per_gco2e=1.0), "energy": Energy.LONG_RUN,
        "annual_mean": False, "signal": SIGNAL, "near_tie": 0.0, "spread": Spread.SPREAD,
        "pack_until": 0.9, "quantile": 0.95, "tpot_quantile": 0.95, "budget": Budget(),
        "max_gco2e": math.inf, "max_g_per_kwh": math.inf, "ladder": (),
        "stale_carbon": StaleCarbon.USE_FLAGGED, "stale_after_s": 7200.0,
    }  # fmt: skip
    return Policy(**{**values, **changes})


def shipped_policy(name: str = "carbon-first", **changes) -> Policy:
    """What policies/NAME.yaml says."""
    schema, _ = parse_policy(name, Path())
    return replace(schema.build(name, SIGNAL), **changes)


LATENCY_FIRST = Weights(per_ttft_ms=1.0)
BOTH_RUNGS = tuple(Relax)


def intensity(g_per_kwh: float, **changes) -> Intensity:
    values = {
        "low_g_per_kwh": g_per_kwh, "high_g_per_kwh": g_per_kwh, "signal": SIGNAL,
        "kind": Kind.MEASURED, "source": "test", "observed_at": NOW, "expires_at": NOW + 9e9,
    }  # fmt: skip
    return Intensity(g_per_kwh=g_per_kwh, **{**values, **changes})


def forecast(
    grid_zone: str, *g_per_kwh: float, start: float = NOW // HOUR * HOUR, step_s: float = HOUR,
    **changes,
) -> Forecast:  # fmt: skip
    slots = tuple(intensity(g, **changes) for g in g_per_kwh)
    return Forecast(grid_zone, start, step_s, slots)


def forecasts(**g_per_kwh: float | Sequence[float]) -> dict[str, Forecast]:
    """``west=300`` or ``west=(300, 200)``: hourly values of the grid zone of region ``west``."""
    rows = {n: (v,) if isinstance(v, int | float) else tuple(v) for n, v in g_per_kwh.items()}
    return {f"grid-{name}": forecast(f"grid-{name}", *row) for name, row in rows.items()}


def request(**changes) -> Request:
    values = {"model": "llama", "origin": "home"}
    return Request(**{**values, **changes})


def health_settings(**changes) -> HealthSettings:
    """Those of a configuration that says nothing of them."""
    return HealthSettings(**{**HealthSchema().model_dump(), **changes})


def snapshot(
    the_fleet: Fleet,
    the_policy: Policy | None = None,
    carbon: Mapping[str, Forecast] | None = None,
    annual_means: Mapping[str, Intensity] | None = None,
    now: float = NOW,
) -> Snapshot:
    """Left out, every grid zone has 100 g/kWh."""
    if carbon is None:
        zones = {r.grid_zone for r in the_fleet.regions.values()}
        carbon = {zone: forecast(zone, 100.0) for zone in zones}
    return build_snapshot(
        Layout(the_fleet), the_policy or policy(), carbon, annual_means or {}, now, 1
    )


def board(a_snapshot: Snapshot, **health) -> Board:
    held = a_snapshot.policy
    z, tpot_z = z_of(held.quantile), z_of(held.tpot_quantile)
    return Board(a_snapshot.layout, health_settings(**health), z, tpot_z=tpot_z)
