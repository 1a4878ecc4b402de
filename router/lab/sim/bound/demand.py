"""What the bound needs of requests and replicas: pools, and requests sorted by what limits them.

A *pool* is the replicas of one model in one region that are alike. A *group* holds the requests of
one model that may run at the same batches: in each pool the largest one at which they can still
meet their budgets there, or 0 where they cannot. Everything is rounded in the requests' favour, so
that the bound stays one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.burden import context_tokens
from router.core.latency import PACE_TOKENS
from router.core.rungs import budget_of, rungs_of
from router.lab.replay.physics import Physics
from router.lab.sim.traffic.columns import Names, Traffic
from router.model import UNLIMITED, Budget, Fleet, Policy

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

# Width of the classes that requests are sorted into: a budget is taken up to 0.2 % too long, input
# and output up to 10 % and 0.5 % too short, and only where a budget depends on them.
_BUDGET_STEP: Final = math.log(1.002)
_INPUT_STEP: Final = math.log(1.10)
_OUTPUT_STEP: Final = math.log(1.005)
_BITS: Final = 13


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Alike replicas of one model in one region. ``batch``: the most that one may run at once;
    ``queue``: the most that may wait there besides. ``served``: (endpoint, model) of each.
    """

    region: str
    grid_zone: str
    residency: frozenset[str]
    pue: float
    physics: Physics
    batch: int
    queue: int
    served: tuple[tuple[str, str], ...]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """A name for each replica."""
        return tuple(name for name, _ in self.served)


def pools_of(fleet: Fleet, model: str) -> list[Pool]:
    """The pools that serve ``model``, of an alias any variant that reaches the lowest floor of each
    request that anybody has agreed on, where it may run, in order of region."""
    found: dict[tuple[str, Physics, int], list[tuple[str, str]]] = {}
    alias = fleet.aliases.get(model)
    names = {model}
    if alias is not None:
        floor = min(one.each for one in (alias.floors, *alias.tenants.values()))
        names = {one.model for one in alias.variants if one.quality >= floor}
    for endpoint in fleet.endpoints:
        for served in endpoint.models:
            may = fleet.residency.models.get(served.name, frozenset())
            if served.name in names and fleet.regions[endpoint.region].lies_in(may):
                key = endpoint.region, Physics.of(served.profile), endpoint.max_in_flight
                found.setdefault(key, []).append((endpoint.name, served.name))
    return [
        _pool(fleet, *key, tuple(mine))
        for key, mine in sorted(found.items(), key=lambda item: item[0][0])
    ]


def pools_of_all(groupings: Sequence[Grouping]) -> tuple[list[Pool], list[Codes]]:
    """Every pool once, and the places of those of each grouping among them. Raises ValueError where
    two have some replicas in common and others not."""
    places: dict[tuple[tuple[str, str], ...], int] = {}
    found: list[Pool] = []
    mine = []
    for grouping in groupings:
        for pool in grouping.pools:
            if pool.served not in places:
                places[pool.served] = len(found)
                found.append(pool)
        mine.append(np.array([places[pool.served] for pool in grouping.pools], np.int64))
    replicas = [one for pool in found for one in pool.served]
    if len(replicas) > len(set(replicas)):
        raise ValueError("pools overlap")
    return found, mine


def _pool(
    fleet: Fleet,
    name: str,
    physics: Physics,
    in_flight: int,
    served: tuple[tuple[str, str], ...],
) -> Pool:
    region = fleet.regions[name]
    batch = min(in_flight, physics.max_batch)
    queue = in_flight - batch
    where = region.name, region.grid_zone, region.residency, region.pue
    return Pool(*where, physics, batch, queue, served)


# What is counted of a group: requests, input tokens that are read, half of what the squares of the
# prompts' lengths gain by them, output tokens after the first, and those times the tokens that
# their sequence has cached on the mean.
REQUESTS, INPUT, INPUT2, LATER, CACHED, AMOUNTS = range(6)


def amounts_of(
    input_tokens: Floats, output_tokens: Floats, warm: Floats | float = 0.0
) -> list[Floats]:
    """The amounts of single requests, columns as of AMOUNTS. ``warm``: input tokens that need not
    be read."""
    later = output_tokens - 1.0
    context = input_tokens + context_tokens(0.0, 1.0) * output_tokens
    return [
        np.ones_like(input_tokens), input_tokens - warm, (input_tokens**2 - warm**2) / 2.0, later,
        later * context,
    ]  # fmt: skip


class _Ids:
    """Dense numbers for keys that turn up."""

    def __init__(self) -> None:
        self._ids: dict[int, int] = {}
        self.keys: list[int] = []

    def of(self, keys: Codes) -> Codes:
        unique, inverse = np.unique(keys, return_inverse=True)
        mine = []
        for key in unique.tolist():
            if key not in self._ids:
                self._ids[key] = len(self.keys)
                self.keys.append(key)
            mine.append(self._ids[key])
        return np.array(mine, np.int64)[inverse]


class Grouping:
    """Sorts the requests of one model into groups; groups are found as requests come.

    ``batches`` (groups, pools): the largest batch at which a group may run in each pool, 0 where
    its budgets cannot be met. A group without any pool is impossible.
    """

    def __init__(
        self, model: str, fleet: Fleet, names: Names, policy: Policy, precision: float
    ) -> None:
        self.pools = pools_of(fleet, model)
        self.batches: list[tuple[float, ...]] = []
        self._precision = precision
        self._names = names
        self._policy = policy
        self._rungs = rungs_of(policy)
        rtt = [[fleet.rtt_ms[o][pool.region] for pool in self.pools] for o in names.origins]
        self._rtt_s = np.array(rtt).reshape(len(names.origins), len(self.pools)) / 1e3
        self._kinds = sorted({(pool.physics, pool.batch, pool.queue) for pool in self.pools})
        self._budgets = _Ids()
        self._cells = _Ids()
        self._group_of_cell: list[int] = []
        self._group_ids: dict[tuple[float, ...], int] = {}

    def groups(self, traffic: Traffic, rows: Codes, warm: Floats | float = 0.0) -> Codes:
        """The group of each of ``rows`` of ``traffic``, of whose prompts ``warm`` tokens need not
        be read."""
        budget = self._budgets.of(_budget_keys(traffic, rows, self._policy.budget))
        n_in, n_out = traffic.input_tokens[rows] - warm, traffic.output_tokens[rows]
        limits = [budget_of(_budget(key), self._rungs[0]) for key in self._budgets.keys]
        in_counts = np.array([min(b.ttft_ms, b.e2e_ms) < UNLIMITED for b in limits])[budget]
        out_counts = np.array([b.e2e_ms < UNLIMITED for b in limits])[budget]
        # Of one token there is no pace, of few an easy one.
        paced = np.array([b.tpot_ms < UNLIMITED for b in limits])[budget]
        told = np.where(out_counts, n_out, np.where(paced, np.minimum(n_out, PACE_TOKENS + 1), 1))
        in_class = np.where(in_counts, np.log(n_in) / _INPUT_STEP + 1e-9, 0.0).astype(np.int64)
        out_class = (np.log(told) / _OUTPUT_STEP + 1e-9).astype(np.int64)
        place = traffic.origin[rows] * len(self._names.residencies) + traffic.residency[rows]
        # 8 and 12 bits for lengths (10 million tokens: classes 169 and 3231), 16 for the place.
        keys = ((budget << 16 | place) << 8 | in_class) << 12 | out_class
        cells = self._cells.of(keys)
        for key in self._cells.keys[len(self._group_of_cell) :]:
            self._group_of_cell.append(self._group(key))
        return np.array(self._group_of_cell, np.int64)[cells]

    def longest_s(self, traffic: Traffic, rows: Codes) -> Floats:
        """The longest that each request can be on its way to or on any replica, s."""
        n_in, n_out = traffic.input_tokens[rows], traffic.output_tokens[rows]
        longest = np.zeros(len(rows))
        for physics, batch, queue in self._kinds:
            run_s = self._longest_run_s(physics, batch, n_in, n_out)
            if queue:
                # In turn: whole rounds of the longest run before its own.
                run_s += math.ceil(queue / batch) * float(run_s.max(initial=0.0))
            longest = np.maximum(longest, run_s)
        within_reach_s = np.where(np.isfinite(self._rtt_s), self._rtt_s, 0.0)
        way_s = (within_reach_s.max(axis=1, initial=0.0) / 2.0)[traffic.origin[rows]]
        e2e_ms = np.where(
            traffic.e2e_budget_ms[rows] < UNLIMITED,
            traffic.e2e_budget_ms[rows],
            self._policy.budget.e2e_ms,
        )
        at_most: Floats = np.minimum(longest + way_s, e2e_ms / 1e3)
        return at_most

    @staticmethod
    def _longest_run_s(
        physics: Physics, batch: int, n_in: NDArray[np.int32], n_out: NDArray[np.int32]
    ) -> Floats:
        """In a full batch. What prompts take of its iterations is a matter of chance: twice what
        these requests' own would.
        """
        if physics.one_unit:
            return np.full(len(n_in), physics.tpot_s(batch))
        prompt_s = physics.prompts_s(n_in)
        context = float(np.mean(n_in + context_tokens(0.0, 1.0) * n_out)) if len(n_in) else 0.0
        share = float(prompt_s.sum()) / max(1.0, float(n_out.sum()))
        pace_s = physics.tpot_s(batch, batch * context) + 2.0 * batch * share
        return np.asarray(physics.prefill_base_s + prompt_s + (n_out + 2.0) * pace_s, np.float64)

    def _group(self, key: int) -> int:
        out_class, in_class, place = key & 4095, key >> 12 & 255, key >> 20 & 65535
        own = _budget(self._budgets.keys[key >> 36])
        origin, residency = divmod(place, len(self._names.residencies))
        allowed = self._names.residencies[residency]
        shortest = math.exp(in_class * _INPUT_STEP), math.exp(out_class * _OUTPUT_STEP)
        for params in self._rungs:
            row = self._row(budget_of(own, params), origin, allowed, *shortest)
            if any(row):
                break
        group = self._group_ids.setdefault(row, len(self.batches))
        if group == len(self.batches):
            self.batches.append(row)
        return group

    def _row(
        self, budget: Budget, origin: int, allowed: frozenset[str], n_in: float, n_out: float
    ) -> tuple[float, ...]:
        rtt_s = self._rtt_s[origin].tolist()
        mine = self._policy.residency
        return tuple(
            self._limit(pool, budget, rtt, n_in, n_out)
            if (not allowed or allowed & pool.residency) and (not mine or mine & pool.residency)
            else 0.0
            for pool, rtt in zip(self.pools, rtt_s, strict=True)
        )

    def _limit(self, pool: Pool, budget: Budget, rtt_s: float, n_in: float, n_out: float) -> float:
        """What a group's row holds of a pool; 0 where its budget cannot be met there."""
        return self._step(pool, largest_batch(pool, budget, rtt_s, n_in, n_out))

    def _step(self, pool: Pool, batch: float) -> float:
        """``batch`` up to where a token's share of the replica is a whole number of steps above
        that at the pool's own batch, each a factor of 1 + ``precision``; 0 stays 0.
        """
        physics = pool.physics
        if batch in (0.0, pool.batch) or physics.tpot_base_s <= 0.0:
            return min(batch, 1.0) * pool.batch
        least = physics.tpot_base_s / pool.batch + physics.tpot_s_per_sequence
        share = physics.tpot_base_s / batch + physics.tpot_s_per_sequence
        steps = math.floor(math.log(share / least) / math.log1p(self._precision) + 1e-9)
        if steps == 0:
            return float(pool.batch)
        rounded = least * (1.0 + self._precision) ** steps
        return physics.tpot_base_s / (rounded - physics.tpot_s_per_sequence)


def largest_batch(pool: Pool, budget: Budget, rtt_s: float, n_in: float, n_out: float) -> float:
    """The largest mean batch at which a request meets its budget in a pool, at least 1; 0 if none.

    Nobody waits, no other prompt is read meanwhile, and of TPOT the mean over the answer counts,
    which is then affine in the batch.
    """
    pace_s, physics = tolerated_pace_s(pool, budget, rtt_s, n_in, n_out), pool.physics
    if pace_s == 0.0:
        return 0.0
    slope_s = physics.tpot_s_per_sequence
    free = math.inf if slope_s == 0.0 else (pace_s - physics.tpot_base_s) / slope_s
    return max(1.0, min(float(pool.batch), free))


def tolerated_pace_s(pool: Pool, budget: Budget, rtt_s: float, n_in: float, n_out: float) -> float:
    """The longest mean iteration at which a request meets its budget in a pool: inf where it has
    none that counts, 0 where no pace that the pool can keep is short enough.
    """
    physics = pool.physics
    if rtt_s == math.inf:
        return 0.0
    pace_s = budget.tpot_ms / 1e3
    if physics.one_unit:
        pace_s = min(budget.ttft_ms, budget.e2e_ms) / 1e3 - rtt_s
    else:
        ttft_s = rtt_s + physics.prefill_base_s + physics.tpot_base_s + physics.prompt_s(n_in)
        if max(ttft_s / budget.ttft_ms, ttft_s / budget.e2e_ms) * 1e3 > 1.0 + 1e-9:
            return 0.0
        if n_out <= 1.0:
            return math.inf
        pace_s *= max(1.0, (PACE_TOKENS - 1.0) / (n_out - 1.0))
        pace_s = min(pace_s, (budget.e2e_ms / 1e3 - ttft_s) / (n_out - 1.0))
    return 0.0 if pace_s * (1.0 + 1e-9) < physics.tpot_s(1) else pace_s


def _budget_keys(traffic: Traffic, rows: Codes, fallback: Budget) -> Codes:
    """Three classes of 13 bits: 0 for none, else the next step up on a grid of 0.2 %."""
    key = np.zeros(len(rows), np.int64)
    for column in (traffic.ttft_budget_ms, traffic.tpot_budget_ms, traffic.e2e_budget_ms):
        limits = column[rows]
        if len(rows) and (limits == limits[0]).all():
            limits = limits[:1]
        bounded = limits < UNLIMITED
        # From a millisecond on: shorter budgets cannot be met anyway.
        steps = np.ceil(np.log(np.where(bounded, limits, 1.0)) / _BUDGET_STEP - 1e-6)
        code = np.where(bounded, np.clip(steps, 0, (1 << _BITS) - 3) + 1, 0).astype(np.int64)
        # Beyond what 13 bits hold (3.5 hours) a budget counts as none.
        key = key << _BITS | np.where(steps > (1 << _BITS) - 3, 0, code)
    return key


def _budget(key: int) -> Budget:
    mask = (1 << _BITS) - 1
    codes = (key >> 2 * _BITS & mask, key >> _BITS & mask, key & mask)
    ttft_ms, tpot_ms, e2e_ms = (
        math.exp((code - 1) * _BUDGET_STEP) * (1.0 + 1e-8) if code else UNLIMITED for code in codes
    )
    return Budget(ttft_ms, tpot_ms, e2e_ms)
