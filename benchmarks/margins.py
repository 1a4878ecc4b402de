"""How soon a margin holds as often as its quantile says, by what kinds of errors predictions have.

Made-up logs of what came over what was predicted, of several endpoints each, given to a margin as
``router.core.margins`` has it and to what was weighed instead: a step a miss (as it was before),
and an empirical quantile of the last hundred with such steps upon it.

    python -m benchmarks.margins            # a minute; percent within of the first so many answers
"""

from __future__ import annotations

import argparse
import math
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from rich.console import Console
from rich.table import Table

from router.core.latency import Z95, miss_of
from router.core.margins import LEAST, MOST, Margin

FIRST: Final = (100, 200, 400, 1000)
_MISSED: Final = miss_of(Z95)


class Tracker(Protocol):
    """``log``: by which a prediction is moved."""

    log: float

    def take(self, error: float) -> None:
        """The log of what came over what was predicted."""


class Now:
    """`router.core.margins`."""

    def __init__(self) -> None:
        self._margin, self.log = Margin(Z95), 0.0

    def take(self, error: float) -> None:
        self._margin.learn(error, self.log, error > self.log, _MISSED)
        self.log = self._margin.log


class Steps:
    """As it was before: a fixed step, and a new beginning once predictions are learned."""

    def __init__(self) -> None:
        self.log, self._seen = 0.0, 0

    def take(self, error: float) -> None:
        self._seen += 1
        log = self.log + 0.03 * ((error > self.log) - _MISSED)
        self.log = 0.0 if self._seen == 60 else min(max(log, LEAST), MOST)


class Window:
    """The empirical quantile of the last ``size``, and a tenth of the spread above it as a step."""

    def __init__(self, size: int = 100) -> None:
        self.log, self._size, self._step = 0.0, size, 0.0
        self._last: deque[float] = deque()
        self._ordered: list[float] = []

    def take(self, error: float) -> None:
        spread = self._quantile(0.95) - self._quantile(0.5) if len(self._last) > 4 else 0.2
        self._step += 0.1 * max(spread, 0.02) * ((error > self.log) - _MISSED)
        self._last.append(error)
        insort(self._ordered, error)
        if len(self._last) > self._size:
            del self._ordered[bisect_left(self._ordered, self._last.popleft())]
        self.log = min(max(self._quantile(1.0 - _MISSED) + self._step, LEAST), MOST)

    def _quantile(self, share: float) -> float:
        place = share * (len(self._ordered) + 1) - 1.0
        low = min(max(int(place), 0), len(self._ordered) - 1)
        high = min(low + 1, len(self._ordered) - 1)
        within = min(max(place - low, 0.0), 1.0)
        return self._ordered[low] + within * (self._ordered[high] - self._ordered[low])


def levels(rng: random.Random, mean_length: float, sd: float) -> Iterator[float]:
    """A level that changes at once, for stretches of exponential length."""
    while True:
        level = rng.gauss(0.0, sd)
        for _ in range(max(1, round(rng.expovariate(1.0 / mean_length)))):
            yield level + rng.gauss(0.0, 0.25)


def walk(rng: random.Random) -> Iterator[float]:
    """An autoregressive level."""
    level = 0.0
    while True:
        level = 0.97 * level + rng.gauss(0.0, 0.15)
        yield level + rng.gauss(0.0, 0.2)


def each(of: Callable[[random.Random, int], float]) -> Callable[[random.Random], Iterator[float]]:
    """An error of each answer's number alone."""

    def errors(rng: random.Random) -> Iterator[float]:
        at = 0
        while True:
            yield of(rng, at)
            at += 1

    return errors


def learned_from(factor: float) -> Callable[[random.Random], Iterator[float]]:
    """A profile so many times too short, of which predictions learn 5 % of what is left with each
    answer."""
    return each(lambda rng, at: math.log(factor) * 0.95**at + rng.gauss(-0.3 * Z95, 0.3))


KINDS: Final[Mapping[str, Callable[[random.Random], Iterator[float]]]] = {
    "log-normal, sd 0.2, as predicted": each(lambda rng, _: rng.gauss(-0.2 * Z95, 0.2)),
    "log-normal, sd 0.6, as predicted": each(lambda rng, _: rng.gauss(-0.6 * Z95, 0.6)),
    "told 8 x too large": each(lambda rng, _: rng.gauss(-math.log(8.0), 0.3)),
    "told 5 x too small": each(lambda rng, _: rng.gauss(math.log(5.0), 0.3)),
    "profile 10 x too short, learned": learned_from(10.0),
    "profile 10 x too long, learned": learned_from(0.1),
    "log exponential": each(lambda rng, _: 0.7 * rng.expovariate(1.0) - 1.5),
    "Student's t, 2 degrees": each(
        lambda rng, _: 0.2 * rng.gauss(0.0, 1.0) / math.sqrt(max(rng.expovariate(1.0), 1e-3))
    ),
    "3 % of them 6 x as long": each(
        lambda rng, _: rng.gauss(1.5 if rng.random() < 0.03 else -0.3, 0.2)
    ),
    "8 % of them 6 x as long": each(
        lambda rng, _: rng.gauss(1.5 if rng.random() < 0.08 else -0.3, 0.2)
    ),
    "skewed to short": each(lambda rng, _: rng.gauss(-0.8 * rng.expovariate(1.0), 0.05)),
    "another level for 20, sd 0.7": lambda rng: levels(rng, 20.0, 0.7),
    "another level for 60, sd 0.7": lambda rng: levels(rng, 60.0, 0.7),
    "another level for 200, sd 0.5": lambda rng: levels(rng, 200.0, 0.5),
    "autoregressive, 0.97": walk,
    "load by turns, 150 each": each(
        lambda rng, at: rng.gauss(1.0, 0.5) if at // 150 % 2 else rng.gauss(-0.5, 0.15)
    ),
    "longer by 0.3 % each": each(lambda rng, at: 0.003 * min(at, 1000) - 2.0 + rng.gauss(0, 0.25)),
    "shorter by 0.3 % each": each(lambda rng, at: 2.0 - 0.003 * min(at, 1000) + rng.gauss(0, 0.25)),
}
TRACKERS: Final[Mapping[str, Callable[[], Tracker]]] = {
    "now": Now, "a step a miss": Steps, "last 100": Window,
}  # fmt: skip


def shares(
    tracker: Callable[[], Tracker],
    errors: Callable[[random.Random], Iterator[float]],
    endpoints: int,
) -> tuple[float, ...]:
    """Percent within, of the first so many answers of all endpoints."""
    within = [0] * len(FIRST)
    for seed in range(endpoints):
        one = tracker()
        for at, error in enumerate(islice(errors(random.Random(seed)), FIRST[-1])):
            for place, first in enumerate(FIRST):
                within[place] += at < first and error <= one.log
            one.take(error)
    return tuple(100.0 * w / (first * endpoints) for w, first in zip(within, FIRST, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=10, help="of each kind")
    wanted = parser.parse_args()
    table = Table(title=f"percent within, of the first {', '.join(map(str, FIRST))} answers")
    table.add_column("errors")
    for name in TRACKERS:
        table.add_column(name)
    found = {
        kind: {name: shares(one, errors, wanted.endpoints) for name, one in TRACKERS.items()}
        for kind, errors in KINDS.items()
    }
    for kind, by_tracker in found.items():
        table.add_row(kind, *(", ".join(f"{x:.1f}" for x in row) for row in by_tracker.values()))
    table.add_section()
    for name, pick in (("least", min), ("most", max)):
        rows = (
            [pick(by[one][place] for by in found.values()) for place in range(len(FIRST))]
            for one in TRACKERS
        )
        table.add_row(name, *(", ".join(f"{x:.1f}" for x in row) for row in rows))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
