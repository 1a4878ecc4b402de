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

Work that may wait may run in any slot up to its deadline, and requests for several names may want
the same replicas (aliases): then slots, or names, are one programme, as
`router.lab.sim.bound.horizon` has it.

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
from router.lab.sim.bound.demand import AMOUNTS, Floats, Grouping, pools_of_all
from router.lab.sim.bound.horizon import SlotWork, solve_horizon
from router.lab.sim.bound.presence import Presence
from router.lab.sim.bound.slot import AtLeast, Solution, Terms, solve
from router.lab.sim.simulation import Simulation
from router.model import Policy
from router.units import HOUR_S, J_PER_KWH

PRECISION: Final = 0.01
# Replica seconds that there are after the end: more than any work takes.
_ENDLESS_S: Final = 1e12


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The least that the work of a scenario could have emitted; see the module.

    ``requests``: those that are bounded, warm-up left out. ``impossible``: of them, those whose
    limits no replica can meet even when idle; they are left out. ``overloaded_slots``: slots in
    which not everything fits; ``unserved``: the share of the replica seconds wanted that did not.
    Grams of such a run are of what fits, and bound nothing that serves another part of the work.
    ``busy_j`` is the energy of the plan that emits ``busy_g``, not the least energy.
    ``fleet_g`` is NaN where autoscaling releases idle replicas, and where two names have some of
    their replicas in common that are alike and others not.
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
    plan.let_wait()
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
        try:
            self._pools, self._places = pools_of_all(self._groupings)
            overlap = False
        except ValueError:
            # Each name with all of them for itself.
            self._pools = [pool for grouping in self._groupings for pool in grouping.pools]
            ends = np.cumsum([len(grouping.pools) for grouping in self._groupings])
            self._places = np.split(np.arange(len(self._pools)), ends[:-1])
            overlap = True
        shared = len(self._pools) < sum(len(grouping.pools) for grouping in self._groupings)
        self._jointly = shared or simulation.defers
        self._flows: list[SlotWork] = []
        self._whole = whole
        # Nothing is sure of who is there while others wait, or serve another name.
        self._presences = (
            [Presence(grouping, simulation) for grouping in self._groupings]
            if whole and not self._jointly
            else []
        )
        self.arrivals = ArrivalsBySlot(simulation, self._groupings, self._presences, self.edges)
        self._columns = {zone: i for i, zone in enumerate(simulation.actual.grid_zones)}
        self._released = simulation.autoscaling is not None or overlap
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
            if self._jointly:
                self._put_off(arrived.slot, code, terms, *served)
                continue
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
        if self._jointly and not self._simulation.defers:
            self._solve_flows()

    def _put_off(self, slot: int, code: int, terms: Terms, early: Floats, late: Floats) -> None:
        """What may end after its slot takes none of its capacity; the rest is a flow."""
        nothing = np.zeros_like(early)
        least = solve(terms, nothing, late, awake_w=1.0)
        self._take(slot, code, least)
        if not self._released:
            self._saved_g += solve(terms, nothing, late, awake_w=0.0).grams
        if early.any():
            self._flows.append(SlotWork(slot, (slot, code), terms, early, self._places[code]))

    def let_wait(self) -> None:
        """Take in what may wait, all slots at once."""
        if not self._simulation.defers:
            return
        for code, grouping in enumerate(self._groupings):
            cohorts = self.arrivals.cohorts(code)
            if not cohorts:
                continue
            groups = len(grouping.batches)
            for slot in range(len(self.edges)):
                mine = [at for at, one in enumerate(cohorts) if one.first <= slot <= one.last]
                begin_s, end_s = self._span(slot)
                if not mine or begin_s >= end_s:
                    continue
                nobody = np.zeros((groups, AMOUNTS))
                whole = Amounts(nobody, nobody, min(end_s, _ENDLESS_S), 0.0, ())
                terms = self._terms(grouping, whole, begin_s, end_s)
                if end_s == math.inf:
                    terms = terms._replace(now_g=terms.late_g)
                for at in mine:
                    amounts = np.zeros((groups, AMOUNTS))
                    amounts[: len(cohorts[at].amounts)] = cohorts[at].amounts
                    self._flows.append(
                        SlotWork(slot, (code, "waits", at), terms, amounts[terms.possible],
                             self._places[code])
                    )  # fmt: skip
            possible = np.any(np.array(grouping.batches) > 0.0, axis=1)
            for one in cohorts:
                lost = one.amounts[~possible[: len(one.amounts)], 0]
                self._impossible += round(float(lost.sum()))
        self._solve_flows()

    def _span(self, slot: int) -> tuple[float, float]:
        """Seconds of a slot in which what counts may run; after the last slot all time is."""
        if slot == len(self.edges) - 1:
            return float(self.edges[-1]), math.inf
        begin_s = max(float(self.edges[slot]), self._simulation.warm_up_s)
        return begin_s, float(self.edges[slot + 1])

    def _solve_flows(self) -> None:
        flows, self._flows = self._flows, []
        if not flows:
            return
        first, last = min(one.slot for one in flows), max(one.slot for one in flows)
        capacity_s = np.array(
            [self._capacity_s(*self._span(slot)) for slot in range(first, last + 1)]
        )
        flows = [one._replace(slot=one.slot - first) for one in flows]
        least = solve_horizon(flows, capacity_s, awake_w=1.0)
        for at in range(len(capacity_s)):
            self._slot_g[min(first + at, len(self._slot_g) - 1)] += least.slot_g[at]
        self._busy_j += float(least.slot_j.sum())
        self._unserved_s += least.unserved_s
        self._wanted_s += least.unserved_s + float(least.seconds.sum())
        self._overloaded += least.unserved_s > 1e-9 * max(1.0, float(least.seconds.sum()))
        for pool, seconds in zip(self._pools, least.seconds.sum(axis=0).tolist(), strict=True):
            self._region_s[pool.region] += seconds
        if not self._released:
            self._saved_g += float(solve_horizon(flows, capacity_s, awake_w=0.0).slot_g.sum())

    def _capacity_s(self, begin_s: float, end_s: float) -> Floats:
        if end_s == math.inf:
            return np.full(len(self._pools), _ENDLESS_S)
        if begin_s >= end_s:
            return np.zeros(len(self._pools))
        up_s = [[self._up_s(name, begin_s, end_s) for name in one.endpoints] for one in self._pools]
        return np.array([math.fsum(each) for each in up_s])

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
        fleet_g = whole_fleet_g = whole_busy_g = math.nan
        if self._whole:
            whole_busy_g = self._whole_busy_g if self._presences else busy_g
        if not self._released:
            idle_g = self._idle_g()
            fleet_g = self._saved_g + idle_g
            if self._whole:
                whole_fleet_g = fleet_g
            if self._presences:
                whole_fleet_g = self._whole_saved_g + idle_g
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
            whole_busy_g=whole_busy_g,
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
            for pool in self._pools:
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
