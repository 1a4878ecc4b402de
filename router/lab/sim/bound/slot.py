"""One slot of the bound as a linear programme: groups of requests flow to pools of replicas.

The amounts of a group (requests, input tokens, output tokens) may each be split among pools in
their own way. No assignment of whole requests can do more, so it is a relaxation; it is what lets
requests of different lengths stand in one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.extras import need
from router.lab.sim.bound.demand import Floats, Pool
from router.units import J_PER_KWH

# What is left undone costs more than anything that could be done.
_UNDONE = 1e4


class Terms(NamedTuple):
    """Coefficients of one model in one slot; g groups, p pools, a = 3 amounts.

    ``may`` (g, p): where a group may go. ``seconds`` (g, p, a): replica seconds per unit;
    ``tokens_j`` (g, p, a): joules of GPU per unit beside them. ``base_w``, ``idle_w``,
    ``kwh_per_j`` (p,), the last with host and PUE; ``capacity_s`` (p,): replica seconds on offer.
    ``now_g`` and ``late_g`` (p,): g/kWh for requests that end in the slot, and for those that may
    end later. ``possible`` (all groups,): may go somewhere; g counts those alone.
    """

    may: NDArray[np.bool_]
    seconds: Floats
    tokens_j: Floats
    base_w: Floats
    idle_w: Floats
    kwh_per_j: Floats
    capacity_s: Floats
    now_g: Floats
    late_g: Floats
    possible: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        pools: Sequence[Pool],
        batches: Floats,
        capacity_s: Floats,
        now_g: Floats,
        late_g: Floats,
    ) -> Terms:
        """Coefficients for groups that may run at ``batches`` (groups, pools), 0 for not at all."""
        possible: NDArray[np.bool_] = np.any(batches > 0.0, axis=1)
        runs = batches[possible]
        may = runs > 0.0
        seconds = np.zeros((*runs.shape, 3))
        joules = np.zeros((*runs.shape, 3))
        for place, pool in enumerate(pools):
            physics, here = pool.physics, may[:, place]
            work_s = physics.tpot_base_s / runs[here, place] + physics.tpot_s_per_sequence
            work = 0 if physics.one_unit else 2
            seconds[here, place] = (
                physics.prefill_base_s / pool.batch, physics.prefill_s_per_token / pool.batch, 0.0,
            )  # fmt: skip
            seconds[here, place, work] += work_s
            joules[here, place, work] = physics.j_per_token
        return cls(
            may,
            seconds,
            joules,
            np.array([pool.physics.base_w for pool in pools]),
            np.array([pool.physics.idle_w for pool in pools]),
            np.array([(1 + p.physics.host_fraction) * p.pue / J_PER_KWH for p in pools]),
            capacity_s,
            now_g,
            late_g,
            possible,
        )

    def joules(self, awake_w: float) -> Floats:
        """GPU joules per unit (g, p, a).

        ``awake_w`` 1: all of ``base_w``; 0: only what it has above ``idle_w``.
        """
        watts = self.base_w - (1.0 - awake_w) * self.idle_w
        return self.seconds * watts[:, None] + self.tokens_j


class Solution(NamedTuple):
    """``seconds`` (pools,): replica seconds used; ``joules``: facility energy, J."""

    grams: float
    joules: float
    seconds: Floats
    unserved_s: float


def solve(terms: Terms, early: Floats, late: Floats, awake_w: float) -> Solution:
    """The least grams for the amounts (g, 3) of a slot.

    ``late`` requests may end after the slot: they take no capacity of it, and the cleanest hour
    that they can reach counts.
    """
    pools = len(terms.base_w)
    joules = terms.joules(awake_w)
    total = Solution(0.0, 0.0, np.zeros(pools), 0.0)
    if late.any():
        total = _cheapest(terms, joules, late, terms.late_g)
    if not early.any():
        return total
    free = _cheapest(terms, joules, early, terms.now_g)
    if not (free.seconds <= terms.capacity_s).all():
        free = _programme(terms, joules, early)
    return Solution(
        total.grams + free.grams,
        total.joules + free.joules,
        total.seconds + free.seconds,
        total.unserved_s + free.unserved_s,
    )


def _cheapest(terms: Terms, joules: Floats, amounts: Floats, g_per_kwh: Floats) -> Solution:
    """Every amount where it costs least, as if capacity were endless."""
    kwh_g = terms.kwh_per_j * g_per_kwh
    cost = np.where(terms.may[:, :, None], joules * kwh_g[:, None], np.inf)
    place = cost.argmin(axis=1)
    groups, columns = np.indices(place.shape)
    chosen = groups, place, columns
    seconds: Floats = np.bincount(
        place.ravel(), (terms.seconds[chosen] * amounts).ravel(), minlength=len(kwh_g)
    ).astype(np.float64)
    facility_j = joules[chosen] * amounts * (terms.kwh_per_j * J_PER_KWH)[place]
    grams = float((cost[chosen] * amounts).sum())
    return Solution(grams, float(facility_j.sum()), seconds, 0.0)


def _programme(terms: Terms, joules: Floats, amounts: Floats) -> Solution:
    """The least grams within capacity, by HiGHS; variables are shares of each amount."""
    optimize, sparse = _scipy()
    joules, seconds, amounts = _merged(terms, joules, amounts)
    weighs = (seconds > 0.0).any(axis=(0, 1)) | (joules > 0.0).any(axis=(0, 1))
    joules, seconds, amounts = joules[:, :, weighs], seconds[:, :, weighs], amounts[:, weighs]
    groups, pools, columns = seconds.shape
    wanted = np.flatnonzero(amounts.ravel() > 0.0)
    row_of = np.full(groups * columns, -1)
    row_of[wanted] = np.arange(len(wanted))
    group, pool, column = np.nonzero(terms.may[:, :, None] & (amounts > 0.0)[:, None, :])
    row = row_of[group * columns + column]
    amount = amounts[group, column]
    need_s = seconds[group, pool, column] * amount
    need_j = joules[group, pool, column] * amount * terms.kwh_per_j[pool] * J_PER_KWH
    grams = need_j / J_PER_KWH * terms.now_g[pool]
    scale = float(grams.max()) or 1.0
    n, rows = len(row), len(wanted)
    dearest = np.zeros(rows)
    np.maximum.at(dearest, row, grams)
    most_s = np.zeros(rows)
    np.maximum.at(most_s, row, need_s)
    each = sparse.csr_array(
        (np.ones(n + rows), (np.append(row, np.arange(rows)), np.arange(n + rows))),
        shape=(rows, n + rows),
    )
    used = sparse.csr_array((need_s, (pool, np.arange(n))), shape=(pools, n + rows))
    found = optimize.linprog(
        np.append(grams / scale, _UNDONE * (dearest / scale + 1e-6)),
        A_ub=used,
        b_ub=terms.capacity_s,
        A_eq=each,
        b_eq=np.ones(rows),
        bounds=(0.0, None),
        method="highs",
    )
    if found.status != 0:
        raise ArithmeticError(f"the bound's linear programme was not solved: {found.message}")
    share, undone = found.x[:n], found.x[n:]
    by_pool: Floats = np.bincount(pool, need_s * share, minlength=pools).astype(np.float64)
    return Solution(
        float(grams @ share),
        float(need_j @ share),
        by_pool,
        float(most_s @ undone),
    )


def _merged(terms: Terms, joules: Floats, amounts: Floats) -> tuple[Floats, Floats, Floats]:
    """Requests and input tokens as one amount where all pools prefill alike, to save variables."""
    seconds, may = terms.seconds, terms.may
    first, second = (seconds[:, :, column].max(initial=0.0) for column in (0, 1))
    alike = first > 0.0 and not terms.tokens_j[:, :, :2].any()
    for column, most in ((0, first), (1, second)):
        alike = alike and bool((most - seconds[:, :, column][may] <= 1e-12 * most).all())
    if not alike:
        return joules, seconds, amounts
    prefill = amounts[:, 0] + amounts[:, 1] * (second / first)
    merged = np.column_stack((prefill, amounts[:, 2]))
    return joules[:, :, (0, 2)], seconds[:, :, (0, 2)], merged


def _scipy() -> tuple[Any, Any]:
    with need("sim", "the bound", file="carbon-router bound"):
        from scipy import optimize, sparse
    return optimize, sparse
