"""Whole replicas at one moment as a mixed-integer programme: how many are awake in each pool.

Amounts are a second's worth, and replicas are awake or not: one that has work for half of its time
draws for all of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from router.lab.sim.bound.demand import Floats
from router.lab.sim.bound.slot import Shares, Terms, scipy_parts

# What is left undone costs more than anything that could be done.
_UNDONE = 1e4
# Not a limit of time: the same scenario gives the same figures on every machine.
_NODES = 5000
_REL_GAP = 1e-4


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Nothing reaches stdout meanwhile: HiGHS prints a line there, now and then, that cannot be
    turned off, and a program that reads our JSON would read it too.
    """
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError):
        # There is none.
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        # What C has not written yet would come out later.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


class Moment(NamedTuple):
    """A second of a moment, as planned. ``replicas`` (pools,): awake; ``undone_s``: replica seconds
    of work that did not fit; ``least_grams``: no plan with whole replicas has less.
    """

    grams: float
    least_grams: float
    replicas: Floats
    undone_s: float


def solve_moment(terms: Terms, amounts: Floats, awake_w: float) -> Moment:
    """The least grams a second for amounts (g, a) a second. ``terms.capacity_s``: replicas that are
    up. ``awake_w`` as of `Terms.joules`.
    """
    pools = len(terms.base_w)
    if not amounts.any():
        return Moment(0.0, 0.0, np.zeros(pools), 0.0)
    optimize, sparse = scipy_parts()
    shares = Shares.of(terms, terms.tokens_j, amounts)
    n, rows = len(shares.row), len(shares.dearest)
    awake_g = np.maximum(terms.watts(awake_w), 0.0) * terms.kwh_per_j * terms.now_g
    undone_g = _UNDONE * (shares.dearest + shares.most_s * max(float(awake_g.max()), 1e-12))
    cost = np.concatenate((shares.grams, undone_g, awake_g))
    scale = float(np.concatenate((shares.grams, awake_g)).max()) or 1.0
    each = sparse.csr_array(
        (np.ones(n + rows), (np.append(shares.row, np.arange(rows)), np.arange(n + rows))),
        shape=(rows, n + rows + pools),
    )
    used = sparse.csr_array(
        (
            np.append(shares.need_s, -np.ones(pools)),
            (np.append(shares.pool, np.arange(pools)),
             np.append(np.arange(n), n + rows + np.arange(pools))),
        ),
        shape=(pools, n + rows + pools),
    )  # fmt: skip
    constraints = [
        optimize.LinearConstraint(each, 1.0, 1.0),
        optimize.LinearConstraint(used, -np.inf, 0.0),
    ]
    # What is dear beyond measure makes the programme hard to solve: first without.
    for most_undone in (0.0, np.inf):
        most = np.concatenate((np.full(n, np.inf), np.full(rows, most_undone), terms.capacity_s))
        found = optimize.milp(
            cost / scale,
            integrality=np.repeat([0, 1], [n + rows, pools]),
            bounds=optimize.Bounds(0.0, most),
            constraints=constraints,
            # Its presolve takes longer than it saves.
            options={"node_limit": _NODES, "mip_rel_gap": _REL_GAP, "presolve": False},
        )
        if found.x is not None:
            break
    if found.x is None:
        raise ArithmeticError(f"a moment's whole replicas were not found: {found.message}")
    return _read(found, shares, awake_g, cost, scale)


def _read(found: Any, shares: Shares, awake_g: Floats, cost: Floats, scale: float) -> Moment:
    n, pools = len(shares.row), len(awake_g)
    share, undone, replicas = np.split(found.x, (n, len(found.x) - pools))
    replicas = np.round(replicas)
    grams = float(shares.grams @ share + awake_g @ replicas)
    # Of the programme's own objective, what is undone included: its grams are not in the plan.
    missing = max(0.0, float(cost @ found.x) - float(found.mip_dual_bound) * scale)
    return Moment(grams, max(0.0, grams - missing), replicas, float(shares.most_s @ undone))
