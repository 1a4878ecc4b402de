"""How many replicas of a model a region should have: what runs there, and what could.

A hint to whoever starts and stops replicas. Requests are moved by decisions; this only says where
room for them is of use. Where a region is full and dirtier ones serve what it could not take, that
is wanted here; where it has room and they serve all the same, they do so for a reason (budgets,
residency, a sequence), and nothing is wanted for it. What a region has no replicas for, room to
grow among it, is wanted in the next cleanest ones as well: they are to be awake before it is full.
Work that waits gets the replicas that its
plan counts on. What nobody uses is wanted nowhere, but for one replica of each model, where it is
cleanest; while nobody serves there, in the next cleanest as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

# Beyond what runs: so much more is to find room before new replicas have started.
HEADROOM: Final = 0.25
# From this share of its room on a region counts as full.
_FULL: Final = 0.8
# Regions nearer to each other in grams are alike: nothing is moved between them.
_ALIKE: Final = 1.1
# One look multiplies replicas by no more, so that a wrong one costs little.
_MOST_GROWTH: Final = 2.0
# Regions that are asked for the one replica of a model that nobody serves.
_MOST_SPARES: Final = 3
MOST_REPLICAS: Final = 10_000


class RegionLoad(NamedTuple):
    """Of one model in one region.

    ``busy``: requests there at once, at the peak of a while; ``replicas``: that take traffic now;
    ``per_replica``: requests that one is meant to run; ``g_per_output``: gCO2e of a token or a
    task, on the mean of the next while, NaN where unknown; ``is_shunned``: it had idle replicas for
    a while, and dirtier regions served all the same; ``waiting``: places that the plan of deferred
    work needs there beside; ``known``: replicas that there are, released ones among them;
    ``deferred``: of ``busy``, those that had waited.
    """

    busy: float
    replicas: int
    per_replica: float
    g_per_output: float
    is_shunned: bool = False
    waiting: float = 0.0
    known: int = 0
    deferred: float = 0.0

    @property
    def is_full(self) -> bool:
        """Whether it has no room to speak of."""
        return self.busy >= _FULL * self.replicas * self.per_replica


def dirtier(load: RegionLoad, than: RegionLoad) -> bool:
    """Whether a token takes clearly more grams there; of what is unknown nothing is clear."""
    return load.g_per_output > _ALIKE * than.g_per_output


def wanted_replicas(region: str, loads: Mapping[str, RegionLoad]) -> int:
    """Of one model in ``region``, one of those in ``loads``."""
    own = loads[region]
    need = own.busy
    if own.is_full and not (own.is_shunned and own.replicas == 0):
        need += sum(one.busy for one in loads.values() if dirtier(one, own))
    need = max(need * (1.0 + HEADROOM), _with_overflow(region, loads))
    replicas = math.ceil(need / own.per_replica)
    replicas = min(replicas, int(_MOST_GROWTH * own.replicas) + 1, MOST_REPLICAS)
    return max(replicas, _with_waiting(own), int(region in _spares_in(loads)))


def _with_overflow(region: str, loads: Mapping[str, RegionLoad]) -> float:
    """Requests there, room to grow, and what of both cleaner regions have no replicas for."""
    left = 0.0
    for name in sorted(loads, key=lambda name: _cleanest_first(name, loads)):
        one = loads[name]
        whole = left + one.busy * (1.0 + HEADROOM)
        if name == region:
            return whole
        # Servers may run more than they are meant to.
        left = max(0.0, whole - max(one.busy, max(one.known, one.replicas) * one.per_replica))
    return left


def _cleanest_first(name: str, loads: Mapping[str, RegionLoad]) -> tuple[float, int, str]:
    load = loads[name]
    grams = load.g_per_output if math.isfinite(load.g_per_output) else math.inf
    return grams, -load.replicas, name


def _with_waiting(own: RegionLoad) -> int:
    """What waits may fill what is kept free for others: it begins when they have begun, and where
    what had waited before ends."""
    if own.waiting <= 0.0:
        return 0
    others = max(0.0, own.busy - own.deferred)
    together = math.ceil((others + max(own.deferred, own.waiting)) / own.per_replica)
    return min(together, max(own.known, own.replicas), MOST_REPLICAS)


def _spares_in(loads: Mapping[str, RegionLoad]) -> list[str]:
    """Where one replica stays whatever happens, so that a request finds somebody: where it is
    cleanest and, as long as nobody serves there, as where a region is out or replicas wake, where
    it is next cleanest."""
    order = sorted(loads, key=lambda name: _cleanest_first(name, loads))[:_MOST_SPARES]
    serving = [place for place, name in enumerate(order) if loads[name].replicas]
    return order[: serving[0] + 1] if serving else order
