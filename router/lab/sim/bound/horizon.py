"""Many slots of the bound as one linear programme: work that may wait flows to any of its slots.

Of requests that run at once a slot's amounts go to the pools of that slot, as in
`router.lab.sim.bound.slot`. Those of a request that may wait may go to every slot from the one in
which it comes to the one of its deadline, each in its own way: wherever such a request runs, what
it takes in a slot is part of what goes there. All draw on the same replica seconds; so do requests
for several names that the same replicas serve.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from router.lab.sim.bound.demand import Codes, Floats
from router.lab.sim.bound.slot import UNDONE, Shares, Terms, scipy_parts


class SlotWork(NamedTuple):
    """Requests of one name that may run in ``slot``. ``rows``: whose amounts these are; flows of
    the same rows share them. ``amounts`` (groups, AMOUNTS): of groups that ``terms`` has.
    ``pools`` (pools,): places of its pools among all.
    """

    slot: int
    rows: Hashable
    terms: Terms
    amounts: Floats
    pools: Codes


class HorizonSolution(NamedTuple):
    """``slot_g``, ``slot_j`` (slots,): facility grams and joules; ``seconds`` (slots, pools):
    replica seconds awake; ``unserved_s``: those that did not fit."""

    slot_g: Floats
    slot_j: Floats
    seconds: Floats
    unserved_s: float


def solve_horizon(flows: Sequence[SlotWork], capacity_s: Floats, awake_w: float) -> HorizonSolution:
    """The least grams of all ``flows``. ``capacity_s`` (slots, pools): replica seconds on offer;
    ``awake_w``: as `router.lab.sim.bound.slot.solve`.
    """
    slots, pools = capacity_s.shape
    nothing = HorizonSolution(np.zeros(slots), np.zeros(slots), np.zeros((slots, pools)), 0.0)
    parts = [Shares.of(one.terms, one.terms.joules(awake_w), one.amounts) for one in flows]
    firsts, rows = _firsts(flows, parts)
    if not rows:
        return nothing
    optimize, sparse = scipy_parts()
    row = np.concatenate(
        [part.row + firsts[one.rows] for one, part in zip(flows, parts, strict=True)]
    )
    place = np.concatenate(
        [one.slot * pools + one.pools[part.pool] for one, part in zip(flows, parts, strict=True)]
    )
    need_s = np.concatenate([part.need_s for part in parts])
    grams = np.concatenate([part.grams for part in parts])
    n = len(row)
    dearest, most_s = np.zeros(rows), np.zeros(rows)
    np.maximum.at(dearest, row, grams)
    np.maximum.at(most_s, row, need_s)
    scale = float(grams.max(initial=0.0)) or 1.0
    each = sparse.csr_array(
        (np.ones(n + rows), (np.append(row, np.arange(rows)), np.arange(n + rows))),
        shape=(rows, n + rows),
    )
    awake = sparse.csr_array((need_s, (place, np.arange(n))), shape=(slots * pools, n + rows))
    found = optimize.linprog(
        np.append(grams / scale, UNDONE * (dearest / scale + 1e-6)),
        A_ub=awake, b_ub=capacity_s.ravel(), A_eq=each, b_eq=np.ones(rows), bounds=(0.0, None),
        method="highs",
    )  # fmt: skip
    if found.status != 0:
        raise ArithmeticError(f"the bound's linear programme was not solved: {found.message}")
    share, undone = found.x[:n], found.x[n:]
    need_j = np.concatenate([part.need_j for part in parts])
    slot = place // pools
    return HorizonSolution(
        _sums(slot, grams * share, slots),
        _sums(slot, need_j * share, slots),
        _sums(place, need_s * share, slots * pools).reshape(slots, pools),
        float(most_s @ undone),
    )


def _sums(place: Codes, values: Floats, count: int) -> Floats:
    return np.bincount(place, values, minlength=count).astype(np.float64)


def _firsts(
    flows: Sequence[SlotWork], parts: Sequence[Shares]
) -> tuple[Mapping[Hashable, int], int]:
    """Where the rows of each begin, and how many there are."""
    firsts: dict[Hashable, int] = {}
    rows = 0
    for one, part in zip(flows, parts, strict=True):
        if one.rows not in firsts:
            firsts[one.rows] = rows
            rows += len(part.dearest)
    return firsts, rows
