"""A constrained hybrid: venomez-viper/Carbon-Aware-Scheduling-for-Multi-Region-AI-Inference.

Five regions, four places of users, three models with latency objectives, a week of 200 requests an
hour, intensities made up by a formula. Its four policies are told to the gateway's own kernel here:
Latency-First and Carbon-First are the shipped policies of those names, Hybrid is a pair of weights,
and Constrained Hybrid is carbon-first with the latency objective as the caller's budget.

Everything that it reads is made from the parameters below, which are the study's own; no file is
needed. The repository states no licence: its method is re-implemented, none of its code is used.
"""

from __future__ import annotations

import math
import random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.latency import Z95
from router.lab.replicate.inputs import Floats
from router.lab.replicate.kernel_sites import KernelSites, shipped_policy, weighted_policy
from router.lab.replicate.paper import PaperTable, Replication, paper_row
from router.model import Policy

REGIONS: Final = ("US-East", "US-West", "EU-West", "EU-North", "Singapore")
USERS: Final = ("US-East", "US-West", "EU", "Asia")
_USER_SHARES: Final = (0.40, 0.20, 0.25, 0.15)
# From users (rows) to regions.
_RTT_MS: Final = (
    (5, 65, 85, 95, 230),
    (65, 5, 145, 155, 170),
    (85, 145, 10, 25, 165),
    (230, 170, 165, 175, 5),
)
_BASE_G_PER_KWH: Final = (323, 79, 276, 25, 367)
_LEAST_G_PER_KWH: Final = 5.0
_SWING: Final = 0.2
_NOISE: Final = 0.1
# By model: share of requests, mean and deviation of the inference time, latency objective, ms.
_MODEL_SHARES: Final = (0.60, 0.30, 0.10)
_INFERENCE_MS: Final = ((18.0, 4.0), (60.0, 12.0), (12.0, 3.0))
_OBJECTIVE_MS: Final = (100.0, 150.0, 80.0)
_JITTER_SD_MS: Final = 3.0
_JITTER_ALLOWANCE_MS: Final = 9.0
# Latency and intensity as the Hybrid policy scales them to 0..1.
_RTT_SPAN_MS: Final = (5.0, 230.0)
_G_SPAN: Final = (5.0, 450.0)
SEED: Final = 42
HOURS: Final = 168
REQUESTS_AN_HOUR: Final = 200

_README: Final = {
    "Latency-First": (37.5, 79.5, 0.00, 268.7, 0.0),
    "Carbon-First": (132.7, 225.3, 71.31, 24.9, 90.7),
    "Hybrid 0.2": (102.9, 200.8, 51.45, 35.6, 86.8),
    "Hybrid 0.3": (102.6, 200.6, 51.25, 35.7, 86.7),
    "Hybrid 0.5": (82.1, 193.2, 20.31, 70.5, 73.8),
    "Hybrid 0.7": (45.9, 92.6, 0.32, 182.5, 32.1),
    "Constrained Hybrid": (62.3, 129.3, 0.00, 121.5, 54.8),
}
_FILE: Final = {
    "Latency-First": (37.5, 79.5, 0.0, 268.7, 0.0, 13419, 6739, 8435, 0, 5007),
    "Carbon-First": (132.7, 225.9, 71.11, 24.9, 90.7, 0, 0, 0, 33600, 0),
    "Hybrid 0.2": (102.9, 201.3, 51.37, 35.6, 86.8, 0, 6673, 0, 26927, 0),
    "Hybrid 0.3": (102.6, 201.2, 51.02, 35.7, 86.7, 0, 6739, 0, 26861, 0),
    "Hybrid 0.5": (82.1, 193.2, 20.37, 70.5, 73.8, 0, 15813, 0, 15339, 2448),
    "Hybrid 0.7": (46.0, 92.8, 0.32, 182.5, 32.1, 10840, 9318, 0, 8435, 5007),
    "Constrained Hybrid": (62.4, 129.3, 0.0, 121.1, 54.9, 1848, 17800, 0, 8945, 5007),
}
_CONSTRAINED: Final = "Constrained Hybrid"
_COLUMNS: Final = ("mean ms", "p95 ms", "late, %", "g/kWh", "below Latency-First, %")
_DIGITS: Final = (1, 1, 2, 1, 1)
_SOURCE: Final = "venomez-viper/Carbon-Aware-Scheduling-for-Multi-Region-AI-Inference, "


class HybridWorkload(NamedTuple):
    """``g_per_kwh`` (hours, regions); by request (n,): its ``hour``, ``user`` and ``model``."""

    g_per_kwh: Floats
    hour: NDArray[np.int64]
    user: NDArray[np.int64]
    model: NDArray[np.int64]


class HybridTimes(NamedTuple):
    """By request (n,), ms: time of the inference, and what the network adds to the round trip."""

    inference_ms: Floats
    jitter_ms: Floats


class HybridOutcome(NamedTuple):
    """One policy's figures, in the order of the published table, and requests by region."""

    mean_ms: float
    p95_ms: float
    violations_pct: float
    g_per_kwh: float
    regions: tuple[int, ...]


def make_workload(
    hours: int = HOURS, requests_an_hour: int = REQUESTS_AN_HOUR, seed: int = SEED
) -> HybridWorkload:
    """Intensities and requests, drawn as the study draws them (numpy's legacy generator)."""
    draws = np.random.RandomState(seed)
    of_day = np.arange(hours) % 24
    daily = 1.0 + _SWING * np.sin(2.0 * np.pi * (of_day - 6) / 24.0)
    grids = []
    for base in _BASE_G_PER_KWH:
        noise = draws.uniform(1.0 - _NOISE, 1.0 + _NOISE, size=hours)
        grids.append(np.maximum(_LEAST_G_PER_KWH, base * daily * noise))
    draws = np.random.RandomState(seed)
    total = hours * requests_an_hour
    return HybridWorkload(
        np.stack(grids, axis=1),
        np.repeat(np.arange(hours), requests_an_hour),
        draws.choice(len(USERS), size=total, p=_USER_SHARES),
        draws.choice(len(_MODEL_SHARES), size=total, p=_MODEL_SHARES),
    )


def draw_times(workload: HybridWorkload, rng: np.random.Generator) -> HybridTimes:
    """The times of every request, drawn from ``rng`` by turns as the study does."""
    normal = rng.standard_normal((len(workload.hour), 2))
    mean_ms, sd_ms = np.array(_INFERENCE_MS)[workload.model].T
    return HybridTimes(
        np.maximum(1.0, mean_ms + sd_ms * normal[:, 0]),
        np.maximum(0.0, _JITTER_SD_MS * normal[:, 1]),
    )


def known_limits_ms(workload: HybridWorkload, times: HybridTimes) -> Floats:
    """What a request's objective leaves for the round trip (n,): the inference's own time and an
    allowance for jitter taken off, as the study's constrained policy does.
    """
    objective_ms = np.array(_OBJECTIVE_MS)[workload.model]
    return np.asarray(objective_ms - times.inference_ms - _JITTER_ALLOWANCE_MS)


def predicted_limits_ms(workload: HybridWorkload) -> Floats:
    """The same (n,) where nobody knows the inference's time: its 95 % quantile by model instead."""
    mean_ms, sd_ms = np.array(_INFERENCE_MS).T
    left_ms = np.array(_OBJECTIVE_MS) - (mean_ms + Z95 * sd_ms) - _JITTER_ALLOWANCE_MS
    return np.asarray(left_ms[workload.model])


def route(
    workload: HybridWorkload, times: HybridTimes, policy: Policy, limits_ms: Floats | None = None
) -> HybridOutcome:
    """Every request decided by the kernel. ``limits_ms`` (n,): of each round trip; None: none."""
    rtt_ms = np.array(_RTT_MS, np.float64)
    sites = KernelSites(REGIONS, USERS, rtt_ms, policy)
    rng = random.Random(SEED)
    chosen = np.empty(len(workload.hour), np.int64)
    limits = [math.inf] * len(chosen) if limits_ms is None else limits_ms.tolist()
    now = -1
    rows = zip(workload.hour.tolist(), workload.user.tolist(), limits, strict=True)
    for place, (hour, user, limit_ms) in enumerate(rows):
        if hour != now:
            now = hour
            sites.start_hour(hour, workload.g_per_kwh[hour])
        chosen[place] = sites.choose(USERS[user], rng, limit_ms)
    latency_ms = rtt_ms[workload.user, chosen] + times.inference_ms + times.jitter_ms
    objective_ms = np.array(_OBJECTIVE_MS)[workload.model]
    return HybridOutcome(
        float(latency_ms.mean()),
        float(np.percentile(latency_ms, 95)),
        float(100.0 * (latency_ms > objective_ms).mean()),
        float(workload.g_per_kwh[workload.hour, chosen].mean()),
        tuple(np.bincount(chosen, minlength=len(REGIONS)).tolist()),
    )


def policies() -> dict[str, Policy]:
    """The study's policies by the names of its table, in the gateway's terms."""
    found = {
        "Latency-First": shipped_policy("latency-first"),
        "Carbon-First": shipped_policy("carbon-first"),
    }
    for alpha in (0.2, 0.3, 0.5, 0.7):
        per_g = (1.0 - alpha) / (_G_SPAN[1] - _G_SPAN[0])
        per_ms = alpha / (_RTT_SPAN_MS[1] - _RTT_SPAN_MS[0])
        found[f"Hybrid {alpha:g}"] = weighted_policy(per_g, per_ms)
    found[_CONSTRAINED] = shipped_policy("carbon-first")
    return found


def study() -> Replication:
    """The table of the study's README, that of its file of results, and one of our own."""
    workload = make_workload()
    times = draw_times(workload, np.random.default_rng(SEED))
    alike = {name: _routed(workload, times, name) for name in policies()}
    rng = np.random.default_rng(SEED)
    anew = {name: _routed(workload, draw_times(workload, rng), name) for name in policies()}
    return Replication(
        "hybrid",
        "Carbon-Aware Scheduling for Multi-Region AI Inference: its policies by this kernel",
        (_readme_table(alike), _file_table(anew), _own_table(workload, times, alike)),
    )


def _routed(workload: HybridWorkload, times: HybridTimes, name: str) -> HybridOutcome:
    limits_ms = known_limits_ms(workload, times) if name == _CONSTRAINED else None
    return route(workload, times, policies()[name], limits_ms)


def _readme_table(outcomes: dict[str, HybridOutcome]) -> PaperTable:
    return PaperTable(
        "A week, every policy with the same inference times",
        "ms, %, g/kWh",
        _SOURCE + "README.md",
        "policy",
        _COLUMNS,
        tuple(
            paper_row(name, _README[name], _figures(outcome, outcomes), _DIGITS)
            for name, outcome in outcomes.items()
        ),
        (
            "the constrained policy knows each inference time before it runs, as in the study",
            "its README's table by model belongs to the draws of the next table, not to these",
        ),
    )


def _file_table(outcomes: dict[str, HybridOutcome]) -> PaperTable:
    return PaperTable(
        "The same week, inference times drawn anew for every policy",
        "ms, %, g/kWh, requests",
        _SOURCE + "outputs/tables/simulation_results.csv",
        "policy",
        (*_COLUMNS, *REGIONS),
        tuple(
            paper_row(
                name,
                _FILE[name],
                (*_figures(outcome, outcomes), *outcome.regions),
                (*_DIGITS, *[0] * len(REGIONS)),
            )
            for name, outcome in outcomes.items()
        ),
    )


def _own_table(
    workload: HybridWorkload, times: HybridTimes, outcomes: dict[str, HybridOutcome]
) -> PaperTable:
    policy = shipped_policy("carbon-first")
    predicted = route(workload, times, policy, predicted_limits_ms(workload))
    return PaperTable(
        "Not in the study: the inference time is not known in advance",
        "ms, %, g/kWh",
        "",
        "policy",
        _COLUMNS,
        tuple(
            paper_row(label, [math.nan] * len(_DIGITS), _figures(outcome, outcomes), _DIGITS)
            for label, outcome in (
                ("carbon-first, own time known", outcomes[_CONSTRAINED]),
                ("carbon-first, 95 % quantile of its model", predicted),
            )
        ),
    )


def _figures(outcome: HybridOutcome, outcomes: dict[str, HybridOutcome]) -> tuple[float, ...]:
    # The study works its percentage out of intensities that it has rounded already.
    first_g = round(outcomes["Latency-First"].g_per_kwh, 1)
    below_pct = 100.0 * (1.0 - round(outcome.g_per_kwh, 1) / first_g)
    return (*outcome[:4], below_pct)
