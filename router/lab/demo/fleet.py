"""The demo's fleet, demand and configuration file: five US regions, two models, one real day.

Real: hourly grid intensity (EIA-930, 14 May 2022), round-trip times (between the nearest Azure
regions), power and latency of the model servers (ML.ENERGY). Made up: how many replicas stand
where, who asks for what, and the servers themselves, which are emulated.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from router.lab.loopback.live import LEAD_S
from router.lab.replay.timed import OriginDemand, Period, TimedRequest, TrafficClass, generate
from router.model import Budget, LengthPrior, Request
from router.units import DAY_S, HOUR_S

DAY_START = 1652511600.0  # 2022-05-14T07:00Z, midnight in California
REFRESH_S = 0.5
STREAM_EVERY = 16  # tokens per streamed response
PUE = 1.185
PUE_SOURCE = "Azure fleet average (Cloud Carbon Footprint)"

SMALL, LARGE = "llama-3.1-8b", "llama-3.1-405b"
SMALL_PROFILE, LARGE_PROFILE = "llama-3.1-8b@1xh100", "llama-3.1-405b@8xh100"


@dataclass(frozen=True, slots=True)
class Place:
    """A region of the demo: its grid zone, the Azure region whose RTTs it has, its replicas."""

    name: str
    grid_zone: str
    azure: str
    small: int
    large: int


PLACES = (
    Place("california", "US-CAL-CISO", "westus", 3, 2),
    Place("texas", "US-TEX-ERCO", "southcentralus", 3, 2),
    Place("iowa", "US-MIDW-MISO", "centralus", 3, 2),
    Place("west-virginia", "US-MIDA-PJM", "eastus", 3, 2),
    Place("new-york", "US-NY-NYIS", "canadacentral", 3, 2),
)
SMALL_IN_FLIGHT = 20
LARGE_IN_FLIGHT = 6

# Azure region and demand of each origin; summer time, shares by population served.
ORIGINS = {
    "us-west": ("westus", OriginDemand("us-west", -7.0, 0.3)),
    "us-south": ("southcentralus", OriginDemand("us-south", -5.0, 0.2)),
    "us-central": ("northcentralus", OriginDemand("us-central", -5.0, 0.15)),
    "us-east": ("eastus", OriginDemand("us-east", -4.0, 0.35)),
}
MODELS = {
    SMALL: {"input_tokens": 180, "output_tokens": 180, "output_tokens_p95": 400},
    LARGE: {"input_tokens": 180, "output_tokens": 70, "output_tokens_p95": 140},
}
# A streamed answer shows its time to first token; the others come in one piece.
VOICE, CHAT, EXPERT, SAME = "8b voice", "8b chat", "405b expert", "same question"
CLASSES = (
    TrafficClass(
        VOICE, SMALL, 0.15, Budget(ttft_ms=76.0, tpot_ms=20.0, explicit=True), 512, streamed=True
    ),
    TrafficClass(CHAT, SMALL, 0.78, Budget(e2e_ms=10_000.0, explicit=True), 512),
    TrafficClass(EXPERT, LARGE, 0.07, Budget(e2e_ms=15_000.0, explicit=True), 192),
)
SAME_TOKENS = 200
MEAN_RPS = 80.0


def traffic(priors: Mapping[str, LengthPrior], over: Period, seed: int) -> list[TimedRequest]:
    """The day's requests: Poisson, and the same question once an hour from every origin."""
    origins = [origin for _, origin in ORIGINS.values()]
    drawn = generate(origins, CLASSES, priors, over, MEAN_RPS, random.Random(seed))
    hour_s = HOUR_S / over.speed
    asked = [
        TimedRequest(
            (hour + (number + 0.5) / len(origins)) * hour_s,
            Request(
                SMALL,
                request_id=f"same-{hour}-{origin.name}",
                origin=origin.name,
                budget=CLASSES[1].budget,
                input_tokens=float(MODELS[SMALL]["input_tokens"]),
                max_output_tokens=512.0,
            ),
            SAME_TOKENS,
            SAME,
            streamed=False,
        )
        for hour in range(int(over.seconds / hour_s))
        for number, origin in enumerate(origins)
    ]
    return sorted([*drawn, *asked], key=lambda timed: timed.at_s)


def period(seconds: float) -> Period:
    """One day of the carbon clock in ``seconds`` of wall time."""
    return Period(seconds, DAY_START, DAY_S / seconds)


def endpoint_count() -> int:
    """How many endpoints the fleet has."""
    return sum(place.small + place.large for place in PLACES)


def document(
    ports: Sequence[int], listen: int, admin: int, metrics: int, seconds: float
) -> dict[str, Any]:
    """The configuration as plain values. ``ports``: one an endpoint; ``metrics``: all of them."""
    rtt, over = rtt_table(), period(seconds)
    free = iter(ports)
    endpoints = []
    for place in PLACES:
        kinds = (
            ("8b", SMALL, SMALL_PROFILE, place.small, SMALL_IN_FLIGHT),
            ("405b", LARGE, LARGE_PROFILE, place.large, LARGE_IN_FLIGHT),
        )
        for tag, model, profile, count, in_flight in kinds:
            for number in range(count):
                name = f"{place.name}-{tag}-{number}"
                endpoints.append(
                    {
                        "name": name,
                        "region": place.name,
                        "address": f"127.0.0.1:{next(free)}",
                        "models": [{"name": model, "profile": profile, "context_tokens": 8192}],
                        "max_in_flight": in_flight,
                        "metrics": {
                            "url": f"http://127.0.0.1:{metrics}/{name}/metrics",
                            "engine": "vllm",
                        },
                        "emulated": True,
                    }
                )
    return {
        "version": 1,
        "server": {"listen": f"127.0.0.1:{listen}", "admin": f"127.0.0.1:{admin}", "drain_s": 5},
        "policy": "carbon-first",
        "clock": {"start": stamp(DAY_START - LEAD_S * over.speed), "speed": over.speed},
        "carbon": {
            "refresh_s": REFRESH_S,
            "sources": [
                {"kind": "trace", "file": "grid.csv", "value_kind": "measured"},
                {"kind": "climatology"},
                {"kind": "static"},
            ],
        },
        "load": {"scrape_s": 2.0},
        "origins": {
            name: {"rtt_ms": {place.name: rtt[azure][place.azure] for place in PLACES}}
            for name, (azure, _) in ORIGINS.items()
        },
        "default_origin": "us-east",
        "regions": {
            place.name: {
                "grid_zone": place.grid_zone,
                "pue": PUE,
                "pue_source": PUE_SOURCE,
                "residency": ["us"],
            }
            for place in PLACES
        },
        "models": MODELS,
        "endpoints": endpoints,
    }


def write(out: Path, values: Mapping[str, Any]) -> Path:
    """Write the configuration and the grid table that it names into ``out``; the former's path."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "grid.csv").write_text(shipped("demo_grid.csv"), encoding="utf-8")
    path = out / "demo.yaml"
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    path.write_text(f"# Written by `carbon-router demo`. Every endpoint is emulated.\n{text}")
    return path


def stamp(unix_s: float) -> str:
    """A time as configurations have it."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat()


def rtt_table() -> dict[str, dict[str, float]]:
    """Round trips between Azure regions, ms."""
    rows = csv.DictReader(shipped("rtt_azure_ms.csv").splitlines())
    return {
        row["from_region"]: {
            name: float(value) for name, value in row.items() if name != "from_region" and value
        }
        for row in rows
    }


def shipped(name: str) -> str:
    """The text of a table that the package brings."""
    return (resources.files("router") / "data" / name).read_text(encoding="utf-8")
