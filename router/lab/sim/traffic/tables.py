"""Demand as tables: how long requests are, and when they come. Named ones ship with the package.

``workload_lengths.csv`` and ``workload_shapes.csv`` in ``router/data`` (sources in its README) are
computed from real traces by tools/build_workloads.py. Input and output lengths are drawn
independently: the traces' joint distribution is not published.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.config.problems import unknown
from router.lab.replay.lengths import LogNormal
from router.model import LengthPrior

INPUT, OUTPUT = "input_tokens", "output_tokens"
# A draw is an index into so many equally likely lengths: exact quantiles, one memory access.
STEPS: Final = 65536
_MIDDLES = (np.arange(STEPS) + 0.5) / STEPS
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Lengths = NDArray[np.int32]
"""Shape (STEPS,): tokens at equally spaced probabilities, rising."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Demand over the local day (24) and week (7, from Monday), each of mean 1.

    ``burst_cv``: standard deviation over mean of the rate around it, in ``burst_window_s``.
    """

    hours: tuple[float, ...]
    days: tuple[float, ...]
    burst_cv: float
    burst_window_s: float


FLAT: Final = Shape((1.0,) * 24, (1.0,) * 7, 0.0, 60.0)


@dataclass(frozen=True, slots=True)
class Preset:
    """What `preset` stands for: a shape's name, a lengths table's name, and bursts."""

    shape: str
    lengths: str
    burst_cv: float
    burst_window_s: float


# Bursts of the Azure trace: counts per minute over one hour, Poisson noise taken off (0.213).
PRESETS: Final = {
    "chat": Preset("servegen-m-large", "servegen-m-large", 0.14, 600.0),
    "chat-small": Preset("servegen-m-small", "servegen-m-small", 0.23, 600.0),
    "reasoning": Preset("servegen-m-large", "servegen-deepseek-r1", 0.14, 600.0),
    "azure-chat": Preset("wiki", "azure-2023-conv", 0.21, 60.0),
}


@cache
def shapes() -> Mapping[str, Shape]:
    """The shipped shapes by name, and ``flat``."""
    found = {"flat": FLAT}
    for row in _rows("workload_shapes.csv"):
        hours = tuple(float(row[f"h{hour:02d}"]) for hour in range(24))
        days = tuple(float(row[day]) for day in _DAYS)
        spread, window_s = float(row["burst_cv"]), float(row["burst_window_s"])
        found[row["name"]] = Shape(hours, days, spread, window_s)
    return found


@cache
def length_tables() -> Mapping[str, Mapping[str, Mapping[float, float]]]:
    """The shipped quantiles: name to INPUT and OUTPUT to probability to tokens."""
    found: dict[str, dict[str, dict[float, float]]] = {}
    for row in _rows("workload_lengths.csv"):
        quantiles = {
            float(key[1:]) / 100.0: float(value)
            for key, value in row.items()
            if key.startswith("p") and key[1:].replace(".", "").isdigit()
        }
        quantiles[1.0] = float(row["max"])
        found.setdefault(row["name"], {})[row["field"]] = quantiles
    return found


def shape_named(name: str) -> Shape:
    """A shipped shape. Raises ValueError naming the nearest ones."""
    if name not in shapes():
        raise ValueError(unknown("shape", name, shapes()))
    return shapes()[name]


def lengths_named(name: str, field: str) -> Lengths:
    """A shipped table, INPUT or OUTPUT. Raises ValueError naming the nearest ones."""
    if name not in length_tables():
        raise ValueError(unknown("lengths table", name, length_tables()))
    return lengths_of_quantiles(length_tables()[name][field])


def lengths_of_quantiles(quantiles: Mapping[float, float]) -> Lengths:
    """Log-linear between the given quantiles, constant outside. Raises ValueError unless they
    rise and their probabilities lie in 0..1.
    """
    points = sorted(quantiles.items())
    probabilities = [probability for probability, _ in points]
    tokens = [value for _, value in points]
    if not all(0.0 <= probability <= 1.0 for probability in probabilities):
        raise ValueError("a quantile's probability lies between 0 and 1")
    if tokens != sorted(tokens):
        raise ValueError("lengths must not fall as their probability rises")
    return _whole(np.exp(np.interp(_MIDDLES, probabilities, np.log(tokens))))


def lengths_of_log_normal(mean: float, p95: float) -> Lengths:
    """The log-normal with this mean and 95th percentile of tokens."""
    from statistics import NormalDist

    mu, sigma = LogNormal.of(LengthPrior(mean, mean, p95))
    unit = NormalDist()
    # A coarse grid of the normal quantile, dense at both ends: the exact one takes a while.
    ends = np.concatenate((_MIDDLES[:256], _MIDDLES[256:-256:64], _MIDDLES[-256:]))
    z = np.array([unit.inv_cdf(p) for p in ends.tolist()])
    return _whole(np.exp(mu + sigma * np.interp(_MIDDLES, ends, z)))


def constant_lengths(tokens: float) -> Lengths:
    """Always the same."""
    return _whole(np.full(STEPS, tokens))


def cut(lengths: Lengths, longest: float) -> Lengths:
    """``lengths`` with everything above ``longest`` cut to it."""
    return np.minimum(lengths, np.int32(longest))


def normalised(values: Sequence[float]) -> tuple[float, ...]:
    """``values`` at a mean of 1. Raises ValueError when all are 0."""
    mean = sum(values) / len(values)
    if mean <= 0.0:
        raise ValueError("all values are 0, so nothing would ever arrive")
    return tuple(value / mean for value in values)


def _whole(tokens: NDArray[np.float64]) -> Lengths:
    return np.maximum(1.0, np.rint(tokens)).astype(np.int32)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("router.data").joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
