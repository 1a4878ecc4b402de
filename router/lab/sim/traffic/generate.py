"""Made-up requests, block by block: the same seed gives the same bytes however they are cut.

Arrivals of each origin are a Poisson process whose rate follows local hour and weekday; bursts
multiply it by a gamma variable of mean 1, drawn anew in every window and for every origin. Time is
cut into blocks of whole windows; a block's draws depend on the seed and its number alone, so
memory is bounded by one block and one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.traffic.columns import NO_OUTPUT_LIMIT, Names, Traffic, joined
from router.lab.sim.traffic.tables import STEPS, Lengths
from router.lab.sim.traffic.talks import BLOCK_TOKENS, Talks, talked
from router.model import Budget
from router.units import DAY_S, HOUR_S

CHUNK_ROWS = 262_144
_BLOCK_ROWS = 131_072
_LONGEST_BLOCK_S = 86_400.0
# 1970-01-01 was a Thursday; weeks of a shape begin on Monday.
_EPOCH_WEEKDAY = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """What one origin asks for: ``rps`` is its mean over a week, ``hours`` and ``days`` have mean 1
    and are local, ``utc_offset_h`` ahead of UTC.
    """

    name: str
    rps: float
    utc_offset_h: float
    hours: tuple[float, ...]
    days: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RequestKind:
    """One kind of request. ``share`` of all; ``tenants``: (name, share); ``deadline_s`` after
    arrival, inf where it is to run now. ``talks``: those that it comes in, None where every prompt
    is one of its own; then ``input_tokens`` are those that come anew in each.
    """

    model: str
    share: float
    input_tokens: Lengths
    output_tokens: Lengths
    budget: Budget
    tenants: tuple[tuple[str, float], ...]
    residency: frozenset[str]
    deadline_s: float
    talks: Talks | None = None

    @property
    def turns(self) -> float:
        """Requests that one arrival begins, on the mean."""
        return 1.0 if self.talks is None else self.talks.turns

    @property
    def mean_input_tokens(self) -> float:
        """Of a whole prompt."""
        new = float(self.input_tokens.mean())
        if self.talks is None:
            return new
        return self.talks.mean_input_tokens(new, float(self.output_tokens.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """All that decides which requests are made. ``start``: unix seconds UTC."""

    origins: tuple[Origin, ...]
    kinds: tuple[RequestKind, ...]
    burst_cv: float
    window_s: float
    start: float
    duration_s: float
    seed: int


class Generated:
    """Requests after a recipe; a Workload."""

    def __init__(self, recipe: Recipe, chunk_rows: int = CHUNK_ROWS) -> None:
        self._recipe = recipe
        self._chunk_rows = chunk_rows
        self.names, self._codes = _names(recipe)
        self._in_talks = any(kind.talks is not None for kind in recipe.kinds)
        shares = math.fsum(kind.share for kind in recipe.kinds)
        # Of all requests, those that begin a talk or stand alone.
        self._begins = math.fsum(kind.share / kind.turns for kind in recipe.kinds) / shares
        rps = sum(origin.rps for origin in recipe.origins)
        windows = min(_BLOCK_ROWS / rps, _LONGEST_BLOCK_S) / recipe.window_s
        self._block_windows = max(1, math.floor(windows))

    def chunks(self) -> Iterator[Traffic]:
        """Every request in order of arrival; a fresh pass at every call."""
        return rechunk(self._blocks(), self._chunk_rows)

    def _blocks(self) -> Iterator[Traffic]:
        recipe = self._recipe
        block_s = self._block_windows * recipe.window_s
        later: list[Traffic] = []
        for block in range(math.ceil(recipe.duration_s / block_s)):
            rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(block,)))
            traffic = self._block(block, block * block_s, rng)
            if self._in_talks:
                # Turns of talks that began before come among those that begin now.
                whole = joined([*later, traffic])
                whole = whole.taken(np.argsort(whole.arrival_s, kind="stable"))
                ends_s = min((block + 1) * block_s, recipe.duration_s)
                now = int(np.searchsorted(whole.arrival_s, ends_s))
                traffic, later = whole.taken(slice(0, now)), [whole.taken(slice(now, len(whole)))]
            if len(traffic):
                yield traffic

    def _block(self, block: int, begins_s: float, rng: np.random.Generator) -> Traffic:
        recipe = self._recipe
        starts = begins_s + recipe.window_s * np.arange(self._block_windows)
        starts = starts[starts < recipe.duration_s]
        widths = np.minimum(recipe.window_s, recipe.duration_s - starts)
        expected = self._rates(starts + widths / 2.0) * widths[:, None]
        if recipe.burst_cv > 0.0:
            shape = recipe.burst_cv**-2
            expected *= rng.standard_gamma(shape, expected.shape) / shape
        counts = rng.poisson(expected)
        per_window = counts.sum(axis=1)
        n = int(per_window.sum())
        at = np.repeat(starts, per_window) + rng.random(n) * np.repeat(widths, per_window)
        order = _rising(at)
        codes = np.arange(counts.size, dtype=np.int32) % np.int32(len(recipe.origins))
        origin = np.repeat(codes, counts.ravel())
        return self._traffic(block, at[order], origin[order], rng)

    def _rates(self, at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests/s of each origin, shape (times, origins); hours are met at their middle."""
        recipe = self._recipe
        rates = np.empty((len(at_s), len(recipe.origins)))
        for column, origin in enumerate(recipe.origins):
            local_s = recipe.start + at_s + origin.utc_offset_h * HOUR_S
            hour = local_s / HOUR_S - 0.5
            day = np.floor(local_s / DAY_S).astype(np.int64)
            shape = np.interp(hour, np.arange(24), origin.hours, period=24.0)
            weekday = (day + _EPOCH_WEEKDAY) % 7
            rates[:, column] = origin.rps * shape * np.array(origin.days)[weekday]
        return rates * self._begins

    def _traffic(
        self,
        block: int,
        at: NDArray[np.float64],
        origin: NDArray[np.int32],
        rng: np.random.Generator,
    ) -> Traffic:
        kinds, n = self._recipe.kinds, len(at)
        kind = _draw([kind.share / kind.turns for kind in kinds], n, rng)
        n_in = rng.integers(0, STEPS, n, dtype=np.uint16)
        n_out = rng.integers(0, STEPS, n, dtype=np.uint16)
        input_tokens, output_tokens = np.empty(n, np.int32), np.empty(n, np.int32)
        tenant = np.empty(n, np.int32)
        for code, one in enumerate(kinds):
            mine: NDArray[np.intp] | slice = slice(None)
            if len(kinds) > 1:
                mine = np.flatnonzero(kind == code)
            input_tokens[mine] = one.input_tokens[n_in[mine]]
            output_tokens[mine] = one.output_tokens[n_out[mine]]
            shares = [share for _, share in one.tenants]
            drawn = _draw(shares, len(n_in[mine]), rng)
            tenant[mine] = np.array(self._codes[code].tenants, np.int32)[drawn]
        of = np.array([(codes.model, codes.residency) for codes in self._codes], np.int32)
        limits = np.array([(*one.budget[:3], one.deadline_s) for one in kinds], np.float64)
        budgets = limits[kind]
        traffic = Traffic(
            at, origin, of[kind, 0], tenant, of[kind, 1], input_tokens, output_tokens,
            np.ascontiguousarray(budgets[:, 0]), np.ascontiguousarray(budgets[:, 1]),
            np.ascontiguousarray(budgets[:, 2]), at + budgets[:, 3],
            np.full(n, NO_OUTPUT_LIMIT, np.int32),
        )  # fmt: skip
        return self._talked(block, traffic, kind, rng) if self._in_talks else traffic

    def _talked(
        self, block: int, begins: Traffic, kind: NDArray[np.int32], rng: np.random.Generator
    ) -> Traffic:
        """With all the turns of the talks that begin."""
        parts = []
        for code, one in enumerate(self._recipe.kinds):
            mine = begins.taken(np.flatnonzero(kind == code))
            if one.talks is not None:
                serial = block * len(self._recipe.kinds) + code
                lengths = one.input_tokens, one.output_tokens
                mine = talked(mine, one.talks, lengths, serial, rng)
            parts.append(mine)
        return joined(parts)


@dataclass(frozen=True, slots=True)
class _Codes:
    model: int
    residency: int
    tenants: tuple[int, ...]


def _names(recipe: Recipe) -> tuple[Names, list[_Codes]]:
    models = sorted({kind.model for kind in recipe.kinds})
    tenants = sorted({name for kind in recipe.kinds for name, _ in kind.tenants})
    allowed = {kind.residency for kind in recipe.kinds} - {frozenset()}
    residencies = (frozenset[str](), *sorted(allowed, key=sorted))
    origins = tuple(origin.name for origin in recipe.origins)
    names = Names(origins, tuple(models), tuple(tenants), residencies, BLOCK_TOKENS)
    codes = [
        _Codes(
            models.index(kind.model),
            residencies.index(kind.residency),
            tuple(tenants.index(name) for name, _ in kind.tenants),
        )
        for kind in recipe.kinds
    ]
    return names, codes


def _rising(at: NDArray[np.float64]) -> NDArray[np.intp]:
    """The stable order of times, by the quicker sort that is not stable unless two are equal."""
    order = np.argsort(at)
    rising = at[order]
    if (rising[1:] == rising[:-1]).any():
        return np.argsort(at, kind="stable")
    return order


def _draw(shares: Sequence[float], n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """``n`` indices into ``shares`` in proportion to them; one choice draws nothing."""
    if len(shares) == 1:
        return np.zeros(n, np.int32)
    edges = np.cumsum(shares) / math.fsum(shares)
    return np.searchsorted(edges[:-1], rng.random(n), side="right").astype(np.int32)


def rechunk(blocks: Iterable[Traffic], rows: int) -> Iterator[Traffic]:
    """The same requests in chunks of ``rows``, the last one shorter; none empty."""
    waiting: list[Traffic] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        if held >= rows:
            whole = joined(waiting)
            cut = held - held % rows
            for first in range(0, cut, rows):
                yield whole.taken(slice(first, first + rows))
            waiting, held = [whole.taken(slice(cut, held))], held - cut
    if held:
        yield joined(waiting)
