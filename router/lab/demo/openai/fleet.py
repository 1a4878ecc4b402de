"""The scene's configuration and questions: three regions of the demo, a llama.cpp server in each.

Real: the servers, the model and its answers, the HTTP, every latency; hourly grid intensity
(EIA-930, 14 and 15 May 2022) and round-trip times (between the nearest Azure regions), though added
here by a relay. Assumed: the profile, so joules and grams are estimates, and where the regions are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from router.lab.demo import fleet as demo_fleet
from router.lab.loopback.live import LEAD_S
from router.lab.loopback.llama_server import ALIAS, CONTEXT_TOKENS, SLOTS
from router.lab.replay.timed import Period
from router.units import DAY_S

# Of these California is the greenest by day, New York at night; the caller is nearest to Texas.
# From 4 in the afternoon in California: the greenest changes after 2 hours and after 13, and at
# two thirds is California again.
START = 1652569200.0  # 2022-05-14T23:00Z
GRID_SOURCE = "14 and 15 May 2022, EIA-930, hourly"
PLACES = tuple(
    place for place in demo_fleet.PLACES if place.name in ("california", "texas", "new-york")
)
ORIGIN, ORIGIN_AZURE = "us-south", "southcentralus"
PROFILE = "smollm2-135m@1-core"
PROFILE_SOURCE = "assumed: watts of one core of a server, times as on a virtual machine"
TTFT_BUDGET_MS = 2_000.0
MAX_TOKENS = 24
MEAN_RPS = 0.7
# At what share of the period the greenest server is killed; and questions, by wall seconds from
# then, that see to it that the kill meets one that streams and two that wait.
KILL_AT = 2.0 / 3.0
AROUND_KILL_S = (-0.7, 0.0, 0.0)

SYSTEM = "Answer in one short sentence."
QUESTIONS = (
    "Why is the sky blue?",
    "What does a power grid do?",
    "Name a use of the wind.",
    "What is a photon?",
    "Why do leaves fall in autumn?",
    "What is the capital of France?",
    "How does a kettle boil water?",
    "What is a watt?",
)


class ChatQuestion(NamedTuple):
    """``at_s``: asked so many wall seconds after the start."""

    at_s: float
    text: str


class Ports(NamedTuple):
    """Loopback ports. ``servers``: of the regions' relays; ``llama``: of llama.cpp behind them."""

    servers: Sequence[int]
    llama: Sequence[int]
    listen: int
    admin: int
    http: int

    @classmethod
    def of(cls, free: Sequence[int]) -> Ports:
        """``free``: `PORTS` of them."""
        count = len(PLACES)
        return cls(free[:count], free[count : 2 * count], *free[2 * count :])


PORTS = 2 * len(PLACES) + 3


def period(seconds: float) -> Period:
    """One day of the carbon clock in ``seconds`` of wall time."""
    return Period(seconds, START, DAY_S / seconds)


def questions(seconds: float, seed: int) -> list[ChatQuestion]:
    """Poisson, at a rate that one core bears, and those around the kill."""
    rng = random.Random(seed)
    times_s = [max(0.0, KILL_AT * seconds + more_s) for more_s in AROUND_KILL_S]
    at_s = rng.expovariate(MEAN_RPS)
    while at_s < seconds:
        times_s.append(at_s)
        at_s += rng.expovariate(MEAN_RPS)
    return [
        ChatQuestion(at_s, QUESTIONS[number % len(QUESTIONS)])
        for number, at_s in enumerate(sorted(times_s))
    ]


def rtt_ms(region: str) -> float:
    """Round trip between the caller and a region."""
    azure = {place.name: place.azure for place in PLACES}
    return demo_fleet.rtt_table()[ORIGIN_AZURE][azure[region]]


def document(ports: Ports, over: Period) -> dict[str, Any]:
    """The configuration as plain values."""
    names = [place.name for place in PLACES]
    return {
        "version": 1,
        "server": {
            "listen": f"127.0.0.1:{ports.listen}",
            "admin": f"127.0.0.1:{ports.admin}",
            "http": f"127.0.0.1:{ports.http}",
            "drain_s": 5,
        },
        "policy": "carbon-first",
        "clock": {
            "start": demo_fleet.stamp(over.carbon_start - LEAD_S * over.speed),
            "speed": over.speed,
        },
        "carbon": {
            "refresh_s": demo_fleet.REFRESH_S,
            "sources": [
                {"kind": "trace", "file": "grid.csv", "value_kind": "measured"},
                {"kind": "climatology"},
                {"kind": "static"},
            ],
        },
        "load": {"scrape_s": 2.0},
        "origins": {ORIGIN: {"rtt_ms": {name: rtt_ms(name) for name in names}}},
        "default_origin": ORIGIN,
        "regions": {
            place.name: {
                "grid_zone": place.grid_zone,
                "pue": demo_fleet.PUE,
                "pue_source": demo_fleet.PUE_SOURCE,
            }
            for place in PLACES
        },
        "models": {
            ALIAS: {
                "input_tokens": 35,
                "output_tokens": 0.8 * MAX_TOKENS,
                "output_tokens_p95": MAX_TOKENS,
            }
        },
        "profiles": {PROFILE: profile()},
        "endpoints": [
            _endpoint(name, port) for name, port in zip(names, ports.servers, strict=True)
        ],
    }


def _endpoint(region: str, port: int) -> dict[str, Any]:
    context_tokens = CONTEXT_TOKENS // SLOTS
    return {
        "name": f"llama-{region}",
        "region": region,
        "address": f"127.0.0.1:{port}",
        "protocol": "openai",
        "models": [{"name": ALIAS, "profile": PROFILE, "context_tokens": context_tokens}],
        "max_in_flight": 4 * SLOTS,
        "metrics": {"url": f"http://127.0.0.1:{port}/metrics", "engine": "llamacpp"},
    }


def profile() -> dict[str, Any]:
    """One core that runs the model, as tests/real saw it; nobody measured its watts."""
    return {
        "kind": "token",
        "idle_w": 1.0,
        "base_w": 8.0,
        "w_per_token_s": 0.01,
        "tpot_base_ms": 17.0,
        "tpot_ms_per_sequence": 3.0,
        "prefill_base_ms": 2.0,
        "prefill_ms_per_token": 6.0,
        "max_batched_tokens": 2048,
        "prompt_order": "slot",
        "prefill_w": 9.0,
        "max_batch": SLOTS,
        "target_batch": SLOTS,
        "host_fraction": 0.2,
        "prefix_cache_tokens": 1024,
        "source": PROFILE_SOURCE,
    }


def write(out: Path, ports: Ports, over: Period) -> Path:
    """Write the configuration and the grid table that it names into ``out``; the former's path."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "grid.csv").write_text(demo_fleet.shipped("demo_grid.csv"), encoding="utf-8")
    path = out / "openai.yaml"
    text = yaml.safe_dump(document(ports, over), sort_keys=False, allow_unicode=True, width=100)
    path.write_text(f"# Written by `carbon-router demo --openai`.\n{text}")
    return path
