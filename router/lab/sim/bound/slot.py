"""One slot of the bound as a linear programme: groups of requests flow to pools of replicas.

The amounts of a group (`router.lab.sim.bound.demand.AMOUNTS`) may each be split among pools in
their own way. No assignment of whole requests can do more, so it is a relaxation; it is what lets
requests of different lengths stand in one group. Of replicas that somebody must be on at some
moment whole ones are awake, however little they have to do (`AtLeast`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.extras import need
from router.lab.sim.bound.demand import (
    AMOUNTS,
    CACHED,
    INPUT,
    INPUT2,
    LATER,
    REQUESTS,
    Codes,
    Floats,
    Pool,
)
from router.units import J_PER_KWH

# What is left undone costs more than anything that could be done.
UNDONE = 1e4


class Terms(NamedTuple):
    """Coefficients of one model in one slot; g groups, p pools, a amounts.

    ``may`` (g, p): where a group may go. ``seconds`` (g, p, a): replica seconds per unit;
    ``tokens_j`` (g, p, a): IT joules per unit beside those of ``base_w``. ``base_w``, ``idle_w``,
    ``kwh_per_j`` (p,), the last with PUE; ``capacity_s`` (p,): replica seconds on offer.
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
        seconds = np.zeros((*runs.shape, AMOUNTS))
        joules = np.zeros((*runs.shape, AMOUNTS))
        for place, pool in enumerate(pools):
            physics, here = pool.physics, may[:, place]
            work_s = physics.tpot_base_s / runs[here, place] + physics.tpot_s_per_sequence
            joules[here, place, REQUESTS] = physics.j_per_token
            if physics.one_unit:
                seconds[here, place, REQUESTS] = work_s
                continue
            prompt_s = np.zeros(AMOUNTS)
            prompt_s[REQUESTS] = physics.prefill_s_per_piece
            prompt_s[INPUT] = physics.prefill_s_per_token
            prompt_s[INPUT2] = physics.prefill_s_per_token2
            seconds[here, place] = prompt_s
            joules[here, place] += (physics.prefill_w - physics.base_w) * prompt_s
            # The first token comes of the iteration that reads the prompt's end.
            seconds[here, place, LATER] = work_s
            joules[here, place, LATER] = physics.j_per_token
            seconds[here, place, CACHED] = physics.tpot_s_per_cached_token
        return cls(
            may,
            seconds,
            joules,
            np.array([pool.physics.base_w for pool in pools]),
            np.array([pool.physics.idle_w for pool in pools]),
            np.array([pool.pue / J_PER_KWH for pool in pools]),
            capacity_s,
            now_g,
            late_g,
            possible,
        )

    def joules(self, awake_w: float) -> Floats:
        """IT joules per unit (g, p, a).

        ``awake_w`` 1: all of ``base_w``; 0: only what it has above ``idle_w``.
        """
        return self.seconds * self.watts(awake_w)[:, None] + self.tokens_j

    def watts(self, awake_w: float) -> Floats:
        """What an awake replica draws of that without work, W (pools,)."""
        return self.base_w - (1.0 - awake_w) * self.idle_w


class AtLeast(NamedTuple):
    """Replicas of ``pools`` (pools,) are awake for ``awake_s`` seconds in all, at the least."""

    pools: NDArray[np.bool_]
    awake_s: float


class Solution(NamedTuple):
    """``seconds`` (pools,): replica seconds awake; ``joules``: facility energy, J."""

    grams: float
    joules: float
    seconds: Floats
    unserved_s: float


def solve(
    terms: Terms,
    early: Floats,
    late: Floats,
    awake_w: float,
    at_least: Sequence[AtLeast] = (),
) -> Solution:
    """The least grams for the amounts (g, a) of a slot.

    ``late`` requests may end after the slot: they take no capacity of it, and the cleanest hour
    that they can reach counts. ``at_least``: how long replicas are awake for ``early`` alone.
    """
    pools = len(terms.base_w)
    joules = terms.joules(awake_w)
    total = Solution(0.0, 0.0, np.zeros(pools), 0.0)
    if late.any():
        total = _cheapest(terms, joules, late, terms.late_g)
    if not early.any():
        return total
    free = _cheapest(terms, joules, early, terms.now_g)
    short = any(free.seconds[one.pools].sum() < one.awake_s for one in at_least)
    if short or not (free.seconds <= terms.capacity_s).all():
        free = _programme(terms, joules, early, terms.watts(awake_w), at_least)
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


class Shares(NamedTuple):
    """A slot's variables: the share of each amount that goes to each pool, and what is undone.

    Of share i: ``row``, the amount it is part of; ``pool``; ``need_s``, the replica seconds and
    ``need_j``, the facility joules of all of that amount there; ``grams`` of those. ``dearest``
    and ``most_s`` (rows,): the most that each amount may cost, and take.
    """

    row: Codes
    pool: Codes
    need_s: Floats
    need_j: Floats
    grams: Floats
    dearest: Floats
    most_s: Floats

    @classmethod
    def of(cls, terms: Terms, joules: Floats, amounts: Floats) -> Shares:
        """``joules`` (g, p, a): IT joules per unit that a share is to pay for."""
        joules, seconds, amounts = _merged(terms, joules, amounts)
        weighs = (seconds > 0.0).any(axis=(0, 1)) | (joules > 0.0).any(axis=(0, 1))
        joules, seconds, amounts = joules[:, :, weighs], seconds[:, :, weighs], amounts[:, weighs]
        groups, _, columns = seconds.shape
        wanted = np.flatnonzero(amounts.ravel() > 0.0)
        row_of = np.full(groups * columns, -1)
        row_of[wanted] = np.arange(len(wanted))
        group, pool, column = np.nonzero(terms.may[:, :, None] & (amounts > 0.0)[:, None, :])
        row = row_of[group * columns + column]
        amount = amounts[group, column]
        need_s = seconds[group, pool, column] * amount
        need_j = joules[group, pool, column] * amount * terms.kwh_per_j[pool] * J_PER_KWH
        grams = need_j / J_PER_KWH * terms.now_g[pool]
        dearest, most_s = np.zeros(len(wanted)), np.zeros(len(wanted))
        np.maximum.at(dearest, row, grams)
        np.maximum.at(most_s, row, need_s)
        return cls(row, pool, need_s, need_j, grams, dearest, most_s)


def _programme(
    terms: Terms, joules: Floats, amounts: Floats, watts: Floats, at_least: Sequence[AtLeast]
) -> Solution:
    """The least grams within capacity, by HiGHS; variables are shares of each amount, and seconds
    that replicas are awake beyond what the shares need.
    """
    optimize, sparse = scipy_parts()
    shares = Shares.of(terms, joules, amounts)
    n, rows, pools = len(shares.row), len(shares.dearest), len(watts)
    # Where waking costs less than nothing more of it must not pay.
    more_j = np.maximum(watts, 0.0) * terms.kwh_per_j * J_PER_KWH
    more_g = more_j / J_PER_KWH * terms.now_g
    scale = float(shares.grams.max()) or 1.0
    each = sparse.csr_array(
        (np.ones(n + rows), (np.append(shares.row, np.arange(rows)), np.arange(n + rows))),
        shape=(rows, n + rows + pools),
    )
    awake = sparse.csr_array(
        (
            np.append(shares.need_s, np.ones(pools)),
            (np.append(shares.pool, np.arange(pools)),
             np.append(np.arange(n), n + rows + np.arange(pools))),
        ),
        shape=(pools, n + rows + pools),
    )  # fmt: skip
    needed = np.array([one.pools for one in at_least], np.float64).reshape(-1, pools)
    room_s = needed @ terms.capacity_s
    needed_s = np.minimum([one.awake_s for one in at_least], room_s * (1.0 - 1e-9))
    found = optimize.linprog(
        np.concatenate(
            (shares.grams / scale, UNDONE * (shares.dearest / scale + 1e-6), more_g / scale)
        ),
        A_ub=sparse.vstack((awake, -sparse.csr_array(needed) @ awake)) if at_least else awake,
        b_ub=np.append(terms.capacity_s, -needed_s),
        A_eq=each,
        b_eq=np.ones(rows),
        bounds=(0.0, None),
        method="highs",
    )
    if found.status != 0:
        raise ArithmeticError(f"the bound's linear programme was not solved: {found.message}")
    share, undone, more_s = np.split(found.x, (n, n + rows))
    return Solution(
        float(shares.grams @ share + more_g @ more_s),
        float(shares.need_j @ share + more_j @ more_s),
        np.bincount(shares.pool, shares.need_s * share, minlength=pools) + more_s,
        float(shares.most_s @ undone),
    )


def _merged(terms: Terms, joules: Floats, amounts: Floats) -> tuple[Floats, Floats, Floats]:
    """A prompt's amounts as one, its time where it may run, where all pools read prompts alike: to
    save variables. So are cached tokens with the later ones where they take no time.
    """
    seconds, may = terms.seconds, terms.may
    prompts = [REQUESTS, INPUT, INPUT2]
    first = seconds[may][:1, prompts].ravel(), joules[may][:1, prompts].ravel()
    for mine, found in zip(first, (seconds, joules), strict=True):
        if not np.allclose(found[may][:, prompts], mine, rtol=1e-12, atol=0.0):
            return joules, seconds, amounts
    if not first[0].any():
        return joules, seconds, amounts
    whole = amounts[:, prompts] @ first[0]
    whole_j = amounts[:, prompts] @ first[1]
    # Joules are the same for every second of a group's prompts, whatever they are made of.
    per_s = np.divide(whole_j, whole, out=np.zeros_like(whole), where=whole > 0.0)
    columns = [REQUESTS, LATER, CACHED]
    merged_s, merged_j = seconds[:, :, columns].copy(), joules[:, :, columns].copy()
    merged_s[:, :, 0] = may
    merged_j[:, :, 0] = per_s[:, None] * may
    return merged_j, merged_s, np.column_stack((whole, amounts[:, LATER], amounts[:, CACHED]))


def scipy_parts() -> tuple[Any, Any]:
    """scipy's optimize and sparse; raises ConfigError where they are not installed."""
    with need("sim", "the bound", file="carbon-router bound"):
        from scipy import optimize, sparse
    return optimize, sparse
