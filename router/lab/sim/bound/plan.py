"""Plans of whole replicas beside the bound: what of the distance to it is physics. All estimated.

Each knows everything in advance and chooses, at every moment anew, how many replicas are awake and
what they work on. One after the other takes away a freedom that the bound has and no router:

* ``whole``: whole replicas, and the work of every moment done at that moment;
* ``mixed``: and prompts are read in the iterations of the answers beside them, so that a replica
  holds no more requests than keep their pace on the mean;
* ``kept``: and no more than of which `KEPT` keep their pace when prompts come by chance.

None is a bound: a clairvoyant might let work wait for a replica to fill, or choose which prompts
come beside which answers. ``docs/bound.md`` says what is known of that.

Moments are a sample, evened so that their mean is the work of the hour. What is estimated from them
is the difference to the bound: at each hour the mean over its moments of a plan's grams, less the
grams of the linear programme of their mean work, which is never negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from router.lab.sim.bound.demand import Floats
from router.lab.sim.bound.integers import Moment, quiet_stdout, solve_moment
from router.lab.sim.bound.moments import WorkRates, moments_of, work_at
from router.lab.sim.bound.pace import FREE, TokenMix, batches_of, kept_batch
from router.lab.sim.bound.run import slot_edges
from router.lab.sim.bound.slot import Terms, solve
from router.lab.sim.simulation import Simulation
from router.model import Policy
from router.units import HOUR_S

EACH_HOUR: Final = 6
KEPT: Final = 0.99
"""A run that keeps fewer requests within their budgets is not held against the bound."""
KINDS: Final = ("whole", "mixed", "kept")


@dataclass(frozen=True, slots=True)
class WholePlan:
    """``busy_above_g`` and ``fleet_above_g``: grams above `Bound.busy_g` and ``fleet_g``, the
    latter NaN where idle replicas are released; ``*_error_g``: standard error of the sample of
    moments, NaN of fewer than three an hour. ``gap``: by how much grams could be less with whole
    replicas, as a share of them, at the most (what the solver left open). ``unserved``: share of
    the replica seconds wanted that did not fit; grams are without it. ``awake``: replicas, on the
    mean.
    """

    busy_above_g: float
    fleet_above_g: float
    busy_error_g: float
    fleet_error_g: float
    gap: float
    unserved: float
    awake: float


@dataclass(frozen=True, slots=True)
class Plans:
    """Of one policy's limits; ``moments``: how many were planned."""

    policy: str
    moments: int
    whole: WholePlan
    mixed: WholePlan
    kept: WholePlan


class _Account:
    """Of one kind of plan: grams above the bound, in one convention."""

    def __init__(self) -> None:
        self.above_g = self.variance_g2 = 0.0

    def add(self, above_g: Floats, work_s: Floats, span_s: float) -> None:
        """Over a span. ``above_g`` (moments,): grams a second above those of the bound's programme
        for their mean work; ``work_s``: of each moment. That grams go with work is known, and the
        mean of both is what is compared: only what is beside that line errs.
        """
        self.above_g += float(above_g.mean()) * span_s
        count = len(above_g)
        if count <= 2:
            self.variance_g2 = math.nan
        else:
            line = np.column_stack((np.ones(count), work_s))
            fitted = line @ np.linalg.lstsq(line, above_g, rcond=None)[0]
            variance = float(((above_g - fitted) ** 2).sum()) / (count - 2)
            self.variance_g2 += variance / count * span_s**2


class _Kind:
    """Sums over hours and models of one kind of plan."""

    def __init__(self) -> None:
        self.busy, self.fleet = _Account(), _Account()
        self.planned_g = self.open_g = self.undone_s = self.wanted_s = self.awake_s = 0.0

    def plan(self, span_s: float, *, released: bool) -> WholePlan:
        return WholePlan(
            busy_above_g=self.busy.above_g,
            fleet_above_g=math.nan if released else self.fleet.above_g,
            busy_error_g=math.sqrt(self.busy.variance_g2),
            fleet_error_g=math.nan if released else math.sqrt(self.fleet.variance_g2),
            gap=self.open_g / self.planned_g if self.planned_g else 0.0,
            unserved=self.undone_s / self.wanted_s if self.wanted_s else 0.0,
            awake=self.awake_s / span_s if span_s else 0.0,
        )


def plans(
    simulation: Simulation,
    policy: Policy,
    each_hour: int = EACH_HOUR,
    progress: Callable[[float], None] = lambda _: None,
) -> Plans:
    """Plans for the work of a scenario under the latency limits of ``policy``.

    ``each_hour``: moments that are planned of each hour, or part of one. Raises ConfigError
    without scipy.
    """
    edges = slot_edges(simulation.start, simulation.duration_s, HOUR_S)
    at_s = moments_of(simulation, edges, each_hour)
    work = work_at(simulation, policy, at_s, edges, lambda share: progress(share / 5.0))
    kinds = {name: _Kind() for name in KINDS}
    hours = np.searchsorted(edges, at_s, side="right") - 1
    jobs = [(of_model, hour) for of_model in work for hour in np.unique(hours).tolist()]
    for done, (of_model, hour) in enumerate(jobs):
        span_s = edges[hour + 1] - max(edges[hour], simulation.warm_up_s)
        with quiet_stdout():
            rates = of_model.evened(hours == hour, hour, span_s)
            _Hour(simulation, of_model, at_s[hours == hour], rates).add(kinds, span_s)
        progress(0.2 + 0.8 * (done + 1) / len(jobs))
    span_s = simulation.duration_s - simulation.warm_up_s
    released = simulation.autoscaling is not None
    found = {name: kind.plan(span_s, released=released) for name, kind in kinds.items()}
    return Plans(policy.name, len(at_s), found["whole"], found["mixed"], found["kept"])


class _Case(NamedTuple):
    """One kind of plan in an hour: how many requests each group may run beside in each pool, the
    coefficients of that, and the groups' amounts at each moment, a second.
    """

    batches: Floats
    terms: Terms
    rates: Floats


class _Hour:
    """One model's moments of one hour; ``rates`` (moments, groups, AMOUNTS)."""

    def __init__(
        self, simulation: Simulation, work: WorkRates, at_s: Floats, rates: Floats
    ) -> None:
        self._work = work
        self._released = simulation.autoscaling is not None
        self._at_s = at_s
        self._rates = rates
        self._pools = work.grouping.pools
        actual = simulation.actual
        row = math.floor((simulation.start + self._at_s[0] - actual.start) / HOUR_S + 1e-9)
        column = {zone: at for at, zone in enumerate(actual.grid_zones)}
        values = actual.g_per_kwh[min(max(row, 0), len(actual.g_per_kwh) - 1)]
        self._g_per_kwh = values[[column[pool.grid_zone] for pool in self._pools]]
        down = [(outage.endpoints, outage.start_s, outage.end_s) for outage in simulation.outages]
        self._up = np.array([
            [sum(not any(name in names and first <= moment < last for names, first, last in down)
                 for name in pool.endpoints) for pool in self._pools]
            for moment in self._at_s.tolist()
        ], np.float64).reshape(len(self._at_s), len(self._pools))  # fmt: skip

    def add(self, kinds: dict[str, _Kind], span_s: float) -> None:
        """WholePlan the hour's moments into the sums of each kind."""
        if not self._rates.any():
            return
        cases = self._cases()
        for awake_w in (1.0,) if self._released else (1.0, 0.0):
            least_g = self._least_g(cases["whole"], awake_w)
            known: dict[bytes, list[Moment]] = {}
            for name, case in cases.items():
                # Where no pace is a limit, kinds do not differ.
                key = case.batches.tobytes()
                if key not in known:
                    known[key] = self._planned(case, awake_w)
                self._add(kinds[name], case, known[key], awake_w, least_g, span_s)

    def _least_g(self, case: _Case, awake_w: float) -> float:
        """Of the bound's programme, for the mean work of the moments: grams a second."""
        terms = case.terms._replace(capacity_s=self._up.mean(axis=0))
        mean = case.rates.mean(axis=0)
        return solve(terms, mean, np.zeros_like(mean), awake_w).grams

    def _planned(self, case: _Case, awake_w: float) -> list[Moment]:
        return [
            solve_moment(case.terms._replace(capacity_s=up), rates, awake_w)
            for up, rates in zip(self._up, case.rates, strict=True)
        ]

    def _add(
        self,
        kind: _Kind,
        case: _Case,
        planned: Sequence[Moment],
        awake_w: float,
        least_g: float,
        span_s: float,
    ) -> None:
        grams = np.array([one.grams for one in planned])
        seconds = np.where(case.terms.may[:, :, None], case.terms.seconds, np.inf).min(axis=1)
        work_s = (case.rates * seconds).sum(axis=(1, 2))
        (kind.busy if awake_w else kind.fleet).add(grams - least_g, work_s, span_s)
        if not awake_w:
            return
        each_s = span_s / len(planned)
        kind.planned_g += float(grams.sum()) * each_s
        kind.open_g += sum(one.grams - one.least_grams for one in planned) * each_s
        kind.undone_s += sum(one.undone_s for one in planned) * each_s
        kind.wanted_s += float(work_s.sum()) * each_s
        kind.awake_s += sum(float(one.replicas.sum()) for one in planned) * each_s

    def _cases(self) -> dict[str, _Case]:
        """Coefficients by kind; the load is the mix of the whole hour in every replica."""
        grouping, pools = self._work.grouping, self._pools
        paces_s = np.array(grouping.batches).reshape(-1, len(pools))[: self._rates.shape[1]]
        total = self._rates.sum(axis=(0, 1))
        mixes = [TokenMix.of(pool.physics, total) for pool in pools]
        free = batches_of(pools, paces_s, [FREE] * len(pools))
        mixed = batches_of(pools, paces_s, mixes)
        sample = self._work.sample
        most = np.array([
            kept_batch(pool, sample, paces_s[sample.group, place], mixes[place], KEPT)
            for place, pool in enumerate(pools)
        ])  # fmt: skip
        kept = np.where(mixed > 0.0, np.minimum(mixed, most), 0.0)
        return {
            name: self._case(batches)
            for name, batches in zip(KINDS, (free, mixed, kept), strict=True)
        }

    def _case(self, batches: Floats) -> _Case:
        """Groups that may run alike are one."""
        distinct, which = np.unique(batches, axis=0, return_inverse=True)
        same = np.eye(len(distinct))[:, which.ravel()]
        rates = np.einsum("dg,mga->mda", same, self._rates)
        none = np.zeros(len(self._pools))
        terms = Terms.of(self._pools, distinct, none, self._g_per_kwh, self._g_per_kwh)
        return _Case(batches, terms, rates[:, terms.possible])
