"""The clairvoyant lower bound: the least grams that any router could have emitted for this work.

One linear programme per slot (at most an hour, never across the hour) and model, with perfect
knowledge of demand and intensity: the requests that arrive in the slot flow to pools of replicas,
which are switched on in fractions. ``docs/bound.md`` derives every coefficient and says why each
simplification can only lower the result. In short, with B the largest batch at which a request may
run in a pool, it costs at least

    replica seconds  s = prompt + (n_out - 1) * (tpot_base / B + tpot_slope + tpot_cached * cached)
    joules           (base_w * s + (prefill_w - base_w) * prompt + w_per_token_s * n_out) * PUE

whatever else runs beside it, and a pool offers its replicas times the slot's length of s.

Two totals are bounded, in facility energy and at the intensity of the hour in which it is drawn:

* ``busy_g``: of replicas while they hold at least one request (base_w included), which is what
  attributional grams of all requests add up to; and with idle replicas released, the fleet's grams
  without its wake-ups;
* ``fleet_g``: of all replicas, idle ones drawing ``idle_w`` until the end of the period.

With ``whole`` both are bounded once more, by replicas that are awake as a whole for whoever must be
on one (`router.lab.sim.bound.presence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.bound.arrivals import Amounts, ArrivalsBySlot, SlotArrivals
from router.lab.sim.bound.demand import Floats, Grouping, share_replicas
from router.lab.sim.bound.presence import Presence
from router.lab.sim.bound.slot import AtLeast, Solution, Terms, solve
from router.lab.sim.simulation import Simulation
from router.model import Policy
from router.units import HOUR_S, J_PER_KWH

PRECISION: Final = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The least that the work of a scenario could have emitted; see the module.

    ``requests``: those that are bounded, warm-up left out. ``impossible``: of them, those whose
    limits no replica can meet even when idle; they are left out. ``overloaded_slots``: slots in
    which not everything fits; ``unserved``: the share of the replica seconds wanted that did not.
    Grams of such a run are of what fits, and bound nothing that serves another part of the work.
    ``busy_j`` is the energy of the plan that emits ``busy_g``, not the least energy.
    ``fleet_g`` is NaN where autoscaling releases idle replicas, and where the same replicas serve
    requests of several names (aliases): ``busy_g`` bounds those, with all of them for each name.
    ``slot_start_s`` (slots,): since the start; ``slot_g``: busy grams by slot. ``share``: of the
    replica seconds of that plan, by region. ``whole_busy_g`` and ``whole_fleet_g``: the same, with
    whole replicas; never less, NaN where not asked for.
    """

    policy: str
    requests: int
    impossible: int
    overloaded_slots: int
    unserved: float
    busy_j: float
    busy_g: float
    fleet_g: float
    slot_start_s: Floats
    slot_g: Floats
    share: dict[str, float]
    whole_busy_g: float = math.nan
    whole_fleet_g: float = math.nan


def regret(grams: float, bound_g: float) -> float:
    """Grams over the bound, less 1; NaN without a bound above 0."""
    return grams / bound_g - 1.0 if bound_g > 0.0 else math.nan


def bound(
    simulation: Simulation,
    policy: Policy,
    slot_s: float = HOUR_S,
    precision: float = PRECISION,
    progress: Callable[[float], None] = lambda _: None,
    *,
    whole: bool = False,
) -> Bound:
    """The bound of a scenario under the latency limits of ``policy``.

    ``slot_s``: longest slot, at most an hour; shorter ones see bursts within the hour.
    ``precision``: relative steps in which the share of a replica that a budget costs is rounded
    down; finer is tighter and slower. ``progress`` is called with the share of the period that is
    done. ``whole``: with whole replicas besides. Raises ConfigError without scipy.
    """
    plan = _Plan(simulation, policy, slot_s, precision, whole)
    for arrived in plan.arrivals.slots():
        plan.add(arrived)
        progress(arrived.slot / max(1, len(plan.edges) - 1))
    progress(1.0)
    return plan.result()


class _Plan:
    def __init__(
        self,
        simulation: Simulation,
        policy: Policy,
        slot_s: float,
        precision: float,
        whole: bool,
    ) -> None:
        self._simulation = simulation
        self._policy = policy
        names = simulation.workload.names
        self.edges = slot_edges(simulation.start, simulation.duration_s, slot_s)
        self._groupings = [
            Grouping(model, simulation.fleet, names, policy, precision) for model in names.models
        ]
        self._presences = (
            [Presence(grouping, simulation) for grouping in self._groupings] if whole else []
        )
        self.arrivals = ArrivalsBySlot(simulation, self._groupings, self._presences, self.edges)
        self._columns = {zone: i for i, zone in enumerate(simulation.actual.grid_zones)}
        self._released = simulation.autoscaling is not None or share_replicas(self._groupings)
        self._slot_g = np.zeros(len(self.edges) - 1)
        self._busy_j = self._saved_g = self._wanted_s = self._unserved_s = 0.0
        self._whole_busy_g = self._whole_saved_g = 0.0
        self._impossible = self._overloaded = 0
        self._region_s: dict[str, float] = dict.fromkeys(simulation.fleet.regions, 0.0)

    def add(self, arrived: SlotArrivals) -> None:
        """Solve one slot and take its figures into the totals."""
        # What is counted arrives after the warm-up: no room before it serves any of that.
        begin_s = max(float(self.edges[arrived.slot]), self._simulation.warm_up_s)
        end_s = float(self.edges[arrived.slot + 1])
        overloaded = False
        for code, amounts in arrived.amounts.items():
            terms = self._terms(self._groupings[code], amounts, begin_s, end_s)
            possible = terms.possible
            served = amounts.early[possible], amounts.late[possible]
            whole = amounts.early + amounts.late
            self._impossible += round(float(whole[~possible, 0].sum()))
            least = solve(terms, *served, awake_w=1.0)
            overloaded |= least.unserved_s > 1e-9 * max(1.0, least.seconds.sum())
            self._take(arrived.slot, code, least)
            if not self._released:
                # Idle draw is there anyway: what is saved is only what waking adds to it.
                self._saved_g += solve(terms, *served, awake_w=0.0).grams
            if self._presences:
                wholes = self._at_least(code, amounts, terms, begin_s, end_s)
                self._whole_busy_g += solve(terms, *served, 1.0, wholes).grams
                self._whole_saved_g += solve(terms, *served, 0.0, wholes).grams
        self._overloaded += overloaded

    def _at_least(
        self, code: int, amounts: Amounts, terms: Terms, begin_s: float, end_s: float
    ) -> list[AtLeast]:
        """How long replicas are awake for requests of the slot alone: at moments when nobody else
        may be there, neither who came before it nor who may stay beyond it.
        """
        begin_s = max(begin_s, amounts.clear_s)
        end_s = min(end_s, amounts.late_from_s)
        least_s = np.where(terms.may[:, :, None], terms.seconds, np.inf).min(axis=1)
        busy_s = np.zeros(len(amounts.early))
        busy_s[terms.possible] = (least_s * amounts.early[terms.possible]).sum(axis=1)
        return self._presences[code].at_least(amounts.stays, begin_s, end_s, busy_s)

    def _take(self, slot: int, code: int, least: Solution) -> None:
        self._slot_g[slot] += least.grams
        self._busy_j += least.joules
        self._unserved_s += least.unserved_s
        self._wanted_s += least.unserved_s + float(least.seconds.sum())
        for pool, seconds in zip(self._groupings[code].pools, least.seconds.tolist(), strict=True):
            self._region_s[pool.region] += seconds

    def _terms(self, grouping: Grouping, amounts: Amounts, begin_s: float, end_s: float) -> Terms:
        pools = grouping.pools
        hour = self._hour(begin_s)
        # A late request may draw its energy in any hour until the last of them may have ended.
        last = max(
            hour, min(self._hour(amounts.last_s), len(self._simulation.actual.g_per_kwh) - 1)
        )
        values = self._simulation.actual.g_per_kwh[hour : last + 1]
        places = [self._columns[pool.grid_zone] for pool in pools]
        available = [
            sum(self._up_s(name, begin_s, end_s) for name in pool.endpoints) for pool in pools
        ]
        return Terms.of(
            pools,
            np.array(grouping.batches[: len(amounts.early)]).reshape(-1, len(pools)),
            np.array(available),
            values[0, places],
            values[:, places].min(axis=0),
        )

    def _hour(self, at_s: float) -> int:
        """Row of the intensity table at ``at_s`` seconds since the start; its last one holds."""
        actual = self._simulation.actual
        row = math.floor((self._simulation.start + at_s - actual.start) / HOUR_S + 1e-9)
        return min(max(row, 0), len(actual.g_per_kwh) - 1)

    def _up_s(self, endpoint: str, begin_s: float, end_s: float) -> float:
        """How long an endpoint is up within a slot. Overlapping outages count once."""
        spans = sorted(
            (max(begin_s, outage.start_s), min(end_s, outage.end_s))
            for outage in self._simulation.outages
            if endpoint in outage.endpoints
        )
        up_s, at_s = end_s - begin_s, begin_s
        for first_s, last_s in spans:
            up_s -= max(0.0, last_s - max(at_s, first_s))
            at_s = max(at_s, last_s)
        return up_s

    def result(self) -> Bound:
        """The totals."""
        busy_g = float(self._slot_g.sum())
        seconds = math.fsum(self._region_s.values())
        fleet_g = whole_fleet_g = math.nan
        if not self._released:
            idle_g = self._idle_g()
            fleet_g = self._saved_g + idle_g
            whole_fleet_g = self._whole_saved_g + idle_g if self._presences else math.nan
        return Bound(
            policy=self._policy.name,
            requests=self.arrivals.requests,
            impossible=self._impossible,
            overloaded_slots=self._overloaded,
            unserved=self._unserved_s / self._wanted_s if self._wanted_s else 0.0,
            busy_j=self._busy_j,
            busy_g=busy_g,
            fleet_g=fleet_g,
            slot_start_s=self.edges[:-1],
            slot_g=self._slot_g,
            share={
                region: value / seconds if seconds else 0.0
                for region, value in self._region_s.items()
            },
            whole_busy_g=self._whole_busy_g if self._presences else math.nan,
            whole_fleet_g=whole_fleet_g,
        )

    def _idle_g(self) -> float:
        """Grams of every replica drawing ``idle_w`` while it is up, from warm-up to the end."""
        simulation = self._simulation
        total = 0.0
        hours = slot_edges(simulation.start, simulation.duration_s, HOUR_S)
        for begin_s, end_s in zip(hours[:-1].tolist(), hours[1:].tolist(), strict=True):
            begin_s = max(begin_s, simulation.warm_up_s)
            if begin_s >= end_s:
                continue
            values = simulation.actual.g_per_kwh[self._hour(begin_s)]
            for grouping in self._groupings:
                for pool in grouping.pools:
                    idle_w = pool.physics.idle_w * pool.pue
                    up_s = sum(self._up_s(name, begin_s, end_s) for name in pool.endpoints)
                    total += up_s * idle_w / J_PER_KWH * values[self._columns[pool.grid_zone]]
        return float(total)


def slot_edges(start: float, duration_s: float, slot_s: float) -> NDArray[np.float64]:
    """Edges of the slots, s since ``start``: every full hour, and every ``slot_s`` between."""
    first = math.floor(start / HOUR_S)
    last = math.ceil((start + duration_s) / HOUR_S)
    hours = HOUR_S * np.arange(first, last + 1) - start
    parts = max(1, math.ceil(HOUR_S / slot_s - 1e-9))
    inner = hours[:-1, None] + HOUR_S / parts * np.arange(parts)
    edges = np.append(inner.ravel(), hours[-1])
    inside = edges[(edges > 0.0) & (edges < duration_s)]
    return np.concatenate(([0.0], inside, [duration_s]))
