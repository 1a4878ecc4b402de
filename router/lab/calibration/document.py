"""A simulation and a policy as the configuration file that the live gateway and emulator read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

import yaml

from router.carbon.tables.table import TraceTable
from router.config.rtt import MAX_RTT_MS
from router.lab.calibration.live_sample import LiveSample
from router.lab.calibration.signal_table import as_csv
from router.lab.loopback.children import free_ports
from router.lab.loopback.live import LEAD_S
from router.lab.sim.simulation import Simulation
from router.model import Endpoint, Policy, Profile, TokenProfile

_TABLE = "known.csv"
_REFRESH_S = 5.0
_SCRAPE_S = 2.0


def write(
    simulation: Simulation, policy: Policy, chosen: LiveSample, known: TraceTable, out: Path
) -> Path:
    """Write the configuration and the table that it names into ``out``; the former's path."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _TABLE).write_text(as_csv(known), encoding="utf-8")
    ports = free_ports(len(chosen.endpoints) + 3)
    text = yaml.safe_dump(
        document(simulation, policy, chosen, ports), sort_keys=False, allow_unicode=True
    )
    path = out / "live.yaml"
    path.write_text(f"# Every endpoint is emulated.\n{text}", encoding="utf-8")
    return path


def document(
    simulation: Simulation, policy: Policy, chosen: LiveSample, ports: Sequence[int]
) -> dict[str, Any]:
    """The configuration as plain values. ``ports``: listen, admin, metrics, one an endpoint."""
    fleet, period, signal = simulation.fleet, chosen.period, simulation.carbon_signal
    listen, admin, metrics, *free = ports
    profiles = _Profiles()
    endpoints = [
        _endpoint(endpoint, port, metrics, profiles)
        for endpoint, port in zip(chosen.endpoints, free, strict=True)
    ]
    origins = {timed.request.origin for timed in chosen.requests} | {fleet.default_origin}
    means = {zone: mean.g_per_kwh for zone, mean in simulation.annual_means.items()}
    return {
        "version": 1,
        "server": {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}", "drain_s": 5},
        "policy": policy_document(policy),
        "clock": {"start": period.carbon_start - LEAD_S * period.speed, "speed": period.speed},
        "carbon": {
            "basis": str(signal.basis),
            "factors": str(signal.factors),
            "refresh_s": _REFRESH_S,
            "sources": [
                {"kind": "trace", "file": _TABLE, "value_kind": "forecast"},
                {"kind": "static", "g_per_kwh": means},
            ],
        },
        "load": {"scrape_s": _SCRAPE_S},
        "health": asdict(simulation.health),
        "network": {"kwh_per_gb": simulation.network_kwh_per_gb},
        "origins": {
            # A configuration has no regions out of reach: as far away as any may be.
            name: {"rtt_ms": {region: min(ms, MAX_RTT_MS) for region, ms in row.items()}}
            for name, row in fleet.rtt_ms.items()
            if name in origins
        },
        "default_origin": fleet.default_origin,
        "regions": {
            name: {
                "grid_zone": region.grid_zone,
                "pue": region.pue,
                "pue_source": region.pue_source,
                "residency": sorted(region.residency),
            }
            for name, region in fleet.regions.items()
        },
        "models": {
            name: {**asdict(prior), **_held(fleet.residency.models.get(name))}
            for name, prior in fleet.priors.items()
            if name not in fleet.aliases
        },
        "endpoints": endpoints,
        "profiles": profiles.found,
    }


def policy_document(policy: Policy) -> dict[str, Any]:
    """A policy as its file has it; limits that are not set are left out."""
    return {field.name: value for field in fields(policy)
            if (value := _plain(getattr(policy, field.name))) is not None}  # fmt: skip


def _plain(value: Any) -> Any:
    """Plain YAML values; None where nothing is limited."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and math.isinf(value):
        return None
    if hasattr(value, "_asdict"):
        parts = {name: _plain(part) for name, part in value._asdict().items()}
        # A policy's budget is never the caller's own.
        return {k: part for k, part in parts.items() if part is not None and k != "explicit"}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, frozenset):
        return sorted(value) or None
    return value


def _held(residency: frozenset[str] | None) -> dict[str, list[str]]:
    return {"residency": sorted(residency)} if residency else {}


# Of a calibrated profile alone.
_ABSENT_WHERE_EMPTY: Final = ("calibrated_on", "as_of")


class _Profiles:
    """Profiles under names that no shipped one has."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._names: dict[Profile, str] = {}

    def name(self, profile: Profile) -> str:
        if profile not in self._names:
            name = f"{profile.name}/{len(self._names)}"
            self._names[profile] = name
            kind = "token" if isinstance(profile, TokenProfile) else "task"
            values = {
                key: _plain(value)
                for key, value in asdict(profile).items()
                if key not in _ABSENT_WHERE_EMPTY or value
            }
            del values["name"]
            self.found[name] = {"kind": kind, **values}
        return self._names[profile]


def _endpoint(
    endpoint: Endpoint, port: int, metrics: int, profiles: _Profiles
) -> Mapping[str, Any]:
    return {
        "name": endpoint.name,
        "region": endpoint.region,
        "address": f"127.0.0.1:{port}",
        "models": [
            {
                "name": served.name,
                "profile": profiles.name(served.profile),
                "version": served.version,
                "context_tokens": _plain(served.context_tokens),
            }
            for served in endpoint.models
        ],
        "max_in_flight": endpoint.max_in_flight,
        "metrics": {
            "url": f"http://127.0.0.1:{metrics}/{endpoint.name}/metrics",
            "engine": "vllm",
        },
        "emulated": True,
    }
