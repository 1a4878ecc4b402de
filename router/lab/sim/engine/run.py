"""Simulate one policy over a `Simulation` with the compiled engine.

    outcome = simulate(simulation, policy)

Compiled stretches end where something rare happens: a new carbon view, an outage's turn, an hour's
end, a minute's row. Everything is a function of the simulation, the policy and the seed; neither
the size of the chunks nor the presence of a sink changes a figure.

Otherwise than in a live gateway: the gateway sits with the caller, so that it sees the whole round
trip; every answer of a token profile is streamed; requests state their input tokens, and made-up
ones no limit on output tokens; no tenant is forgotten; every gateway starts from the priors; a poll
reads all endpoints at one moment, at an even cadence; a request that an outage costs is not tried
again, and health follows the outage's notice instead of counting failures; nobody hangs up, no
deadline passes, and a deferrable request runs at once; a prompt counts as kept where it went once
it is sent, not once that server begins to answer; replicas that are idle may be released, which
gateways are told, and woken ahead as they say (`router.core.waking`): what that takes is no part of
any request's energy, it is the fleet's. Or they are released and woken by the gateway's own hints
(`router.lab.sim.engine.hinted`).
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.errors import TraceError
from router.lab.sim.engine import loop
from router.lab.sim.engine import state as s
from router.lab.sim.engine.account import BATCH, BUSY, FleetMeter
from router.lab.sim.engine.build import Site, build_world, grow, survey, widen
from router.lab.sim.engine.carbon import CarbonViews
from router.lab.sim.engine.floors import with_floors
from router.lab.sim.engine.hinted import LOOK_S, HintedFleet, Needs, nothing_waits
from router.lab.sim.histogram import Histogram
from router.lab.sim.result import (
    REASONS,
    MinuteSink,
    PolicyResult,
    PromptTokens,
    RegionSums,
    RowNames,
    Sink,
    VariantCount,
    by_rung,
)
from router.lab.sim.simulation import Outage, ScaledBy, Simulation
from router.lab.sim.traffic.columns import Names, Traffic, unchained
from router.lab.sim.traffic_shift import TrafficShifts
from router.model import Policy
from router.units import HOUR_S, MINUTE_S

_SLOTS = 4096
_ROWS = 65_536

Progress = Callable[[float], None]


class Learning(NamedTuple):
    """How a gateway digests what finished: so many at once, and whatever there is every ``tick_s``
    (`router.app`'s own figures). (1, inf): each at once.
    """

    digest_every: int = 64
    tick_s: float = 0.1


GATEWAY = Learning()


def simulate(
    simulation: Simulation,
    policy: Policy,
    sink: Sink | None = None,
    progress: Progress | None = None,
    learning: Learning = GATEWAY,
    minutes: MinuteSink | None = None,
    needs: Needs = nothing_waits,
) -> PolicyResult:
    """One policy over the scenario, until its last request is answered.

    ``needs``: of deferred work that was planned, for whoever scales the fleet by hints.

    ``minutes``: takes the rows of replicas in the place of ``sink``; they cost next to nothing,
    rows of requests a tenth of the time. ``progress``: told the share of the scenario's duration
    that is done. Raises TraceError for a grid zone without actual intensity, UnknownModelError,
    InvalidMetadataError, MixedBasisError.
    """
    floored = with_floors(simulation, policy)
    return _Run(floored, policy, (sink, minutes or sink), progress, learning, needs).run()


def make_ready(simulation: Simulation, policy: Policy) -> None:
    """Have the compiled engine at hand. The first time ever it is compiled, some 20 s; it is kept
    for every process after that. Raises as `simulate` does.
    """
    world = build_world(simulation, policy, survey(simulation), (1, 0, 1))
    loop.run(world, _Codes(simulation).nobody(), 0.0, False, np.uint64(0))


def row_names(simulation: Simulation) -> RowNames:
    """What the codes in a sink's rows stand for."""
    fleet, names = simulation.fleet, simulation.workload.names
    endpoints = tuple(endpoint.name for endpoint in fleet.endpoints)
    return RowNames(names.origins, names.models, tuple(fleet.regions), endpoints)


class _Turn(NamedTuple):
    """Something rare at ``at_s``; ``order`` and ``serial`` settle what comes first."""

    at_s: float
    order: int
    serial: int
    act: Callable[[float], None]


class _Run:
    def __init__(
        self,
        simulation: Simulation,
        policy: Policy,
        sinks: tuple[Sink | None, MinuteSink | None],
        progress: Progress | None,
        learning: Learning,
        needs: Needs,
    ) -> None:
        self._simulation = simulation
        self._policy = policy
        self._sink, self._minutes = sinks
        self._progress = progress
        self._site: Site = survey(simulation)
        rows = _ROWS if self._sink else 0
        self._world = build_world(
            simulation, policy, self._site, (_SLOTS, rows, learning.digest_every)
        )
        require_actual(simulation, self._world.plant)
        self._world.scalars[s.TICK] = learning.tick_s
        self._world.gates.ticks[:] = learning.tick_s
        self._seed = _seed(simulation, policy)
        self._meter = FleetMeter(simulation, self._world.plant)
        self._minute = self._meter.read(0.0)
        self._views = CarbonViews(simulation, policy, self._site)
        self._updates = 0
        scaling = simulation.autoscaling
        self._hinted: HintedFleet | None = None
        if scaling and scaling.by is ScaledBy.HINTS:
            self._hinted = HintedFleet(simulation, scaling, policy, self._site, needs)
        self._moved = TrafficShifts()
        self._places = {name: e for e, name in enumerate(self._site.endpoints)}
        self._outages_on: Counter[tuple[str, bool]] = Counter()
        self._codes = _Codes(simulation)
        names = simulation.workload.names
        self._asked = np.array(names.asked, np.int64) if names.asked else None

    def run(self) -> PolicyResult:
        turns = self._turns()
        turn = next(turns)
        for traffic in self._simulation.workload.chunks():
            arrivals = self._codes.arrivals(traffic)
            longest = int(np.diff(arrivals.chain_starts).max(initial=0))
            self._world = widen(self._world, longest)
            self._world.registers[s.CURSOR] = 0
            while self._advance(arrivals, turn.at_s, final=False) != loop.CHUNK_DONE:
                turn.act(turn.at_s)
                turn = next(turns)
        nobody = self._codes.nobody()
        self._world.registers[s.CURSOR] = 0
        duration_s = self._simulation.duration_s
        while self._world.registers[s.IN_FLIGHT] or turn.at_s <= duration_s:
            if self._advance(nobody, turn.at_s, final=True) == loop.REACHED:
                turn.act(turn.at_s)
                turn = next(turns)
                continue
            if turn.at_s > duration_s and not self._world.registers[s.IN_FLIGHT]:
                break
            turn.act(turn.at_s)
            turn = next(turns)
        self._meter.book(max(duration_s, float(self._world.plant.replicas[:, s.NOW].max())))
        self._flush()
        self._moves(duration_s)
        return self._outcome()

    def _advance(self, arrivals: s.Arrivals, until_s: float, *, final: bool) -> int:
        """Run compiled until something other than a lack of room stops it."""
        while True:
            why: int = loop.run(self._world, arrivals, until_s, final, self._seed)
            if why == loop.SLOTS_FULL:
                self._world = grow(self._world)
            elif why == loop.ROWS_FULL:
                self._flush()
            else:
                return why

    def _turns(self) -> Iterator[_Turn]:
        """Everything rare, in order of time, without end."""
        simulation = self._simulation
        start, duration_s = simulation.start, simulation.duration_s
        updates = (_Turn(at_s, 2, i, self._update) for i, at_s in enumerate(self._views.at_s))
        stretch_s = min(HOUR_S, simulation.actual.step_s)
        stretches = _every(stretch_s, stretch_s - start % stretch_s, math.inf, 0, self._meter.book)
        spans = sorted(
            _Turn(at_s, 0, 0, self._meter.book) for at_s in {simulation.warm_up_s, duration_s}
        )
        sources = [updates, stretches, iter(spans), iter(self._outages())]
        if self._minutes:
            sources.append(_every(MINUTE_S, MINUTE_S, duration_s, 0, self._write_minute))
        if self._hinted:
            sources.append(_every(LOOK_S, 0.0, math.inf, 3, self._look))
        return heapq.merge(*sources, key=lambda turn: turn[:3])

    def _outages(self) -> list[_Turn]:
        turns = []
        for outage in self._simulation.outages:
            for at_s, what in _story(outage):
                turns.append(_Turn(at_s, 1, what, partial(self._befall, outage.endpoints, what)))
        return sorted(turns, key=lambda turn: turn[:3])

    def _befall(self, endpoints: frozenset[str], what: int, at_s: float) -> None:
        begins = what in (loop.GOES_DOWN, loop.DOWN_IS_NOTICED)
        noticed = what in (loop.DOWN_IS_NOTICED, loop.UP_IS_NOTICED)
        places = set()
        for name in endpoints:
            # Outages may overlap: the first to begin and the last to end count.
            before = self._outages_on[name, noticed]
            self._outages_on[name, noticed] += 1 if begins else -1
            if before == (0 if begins else 1):
                places.add(self._places[name])
        for r, endpoint in enumerate(self._world.plant.states[:, s.ENDPOINT].tolist()):
            if endpoint in places:
                while not loop.befall(self._world, r, what, at_s):
                    self._flush()

    def _update(self, at_s: float) -> None:
        """A new carbon view comes into force."""
        self._views.show(self._world, self._updates)
        self._updates += 1
        if self._updates > 1:
            self._moves(at_s)
            if self._hinted:
                self._hinted.update(at_s)
        if self._progress:
            self._progress(min(1.0, at_s / self._simulation.duration_s))

    def _look(self, at_s: float) -> None:
        assert self._hinted is not None
        self._hinted.look(self._world, at_s)

    def _moves(self, at_s: float) -> None:
        """Close an interval between updates: which share of its traffic went elsewhere."""
        counts = self._world.tally.moves.astype(np.float64)
        self._world.tally.moves[:] = 0
        self._moved.close(counts, at_s)

    def _write_minute(self, at_s: float) -> None:
        assert self._minutes is not None
        now = self._meter.read(at_s)
        gone, self._minute = now - self._minute, now
        states, replicas = self._world.plant.states, self._site.replicas
        self._minutes.replicas({
            "minute_s": np.full(len(replicas), at_s - MINUTE_S),
            "endpoint": states[:, s.ENDPOINT].copy(),
            "model": np.array([model for _, _, _, model in replicas], np.int64),
            "batch": gone[BATCH] / MINUTE_S,
            "power_w": self._meter.power_w(gone, MINUTE_S),
            "active": gone[BUSY] / MINUTE_S,
        })  # fmt: skip

    def _flush(self) -> None:
        count = int(self._world.registers[s.ROWS])
        if self._sink is None or not count:
            return
        tally = self._world.tally
        columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        for at, name in enumerate(s.ROW_INTS):
            columns[name] = tally.row_ints[:count, at].copy()
        if self._asked is not None:
            columns["model"] = self._asked[columns["model"]]
        for at, name in enumerate(s.ROW_FLOATS):
            columns[name] = tally.row_floats[:count, at].copy()
        self._world.registers[s.ROWS] = 0
        self._sink.requests(columns)

    def _outcome(self) -> PolicyResult:
        tally, gates = self._world.tally, self._world.gates
        offered = int(tally.offered[0])
        sums = tally.sums
        fleet, hours = self._meter.accounts()
        reasons = dict(zip(REASONS, tally.reasons.tolist(), strict=True))
        failed = reasons.pop(REASONS[s.FAULT])
        limits = np.array([e.max_in_flight for e in self._simulation.fleet.endpoints])
        return PolicyResult(
            policy=self._policy.name,
            regions=self._site.regions,
            offered=offered,
            completed=int(sums[:, s.SUM_COMPLETED].sum()),
            refused={reason: count for reason, count in reasons.items() if count},
            failed=failed,
            met=float(sums[:, s.SUM_MET].sum()) / offered if offered else math.nan,
            ttft_ms=Histogram(tally.latencies[0]),
            e2e_ms=Histogram(tally.latencies[1]),
            tpot_ms=Histogram(tally.latencies[2]),
            by_region=RegionSums(*(sums[:, at].copy() for at in range(s.SUM_MET))),
            prompts=PromptTokens(
                float(sums[:, s.SUM_INPUT].sum()), float(sums[:, s.SUM_CACHED].sum())
            ),
            hourly_requests=tally.hours,
            fleet=fleet,
            fleet_hours=hours,
            moved=self._moved.found,
            peak_over_cap=float((gates.total[:, 1] / limits - 1.0).max()),
            relaxed=by_rung(self._policy.ladder, tally.relaxed.tolist()),
            variants=self._variants(),
        )

    def _variants(self) -> tuple[VariantCount, ...]:
        fleet, names = self._simulation.fleet, self._simulation.workload.names
        answered = self._world.tally.answered
        served = {r: name for (_, name, _), r in self._site.place.items()}
        asked = names.asked or range(len(names.models))
        found: dict[tuple[int, str], VariantCount] = {}
        for m, first in enumerate(asked):
            model = names.models[first]
            if model not in fleet.aliases:
                continue
            for variant in fleet.aliases[model].variants:
                mine = [r for r, name in served.items() if name == variant.model]
                one = VariantCount(
                    model, variant.model, variant.quality, int(answered[m, mine].sum())
                )
                before = found.get((first, variant.model))
                more = before.completed if before else 0
                found[first, variant.model] = one._replace(completed=one.completed + more)
        return tuple(found.values())


class _Codes:
    """Traffic as the engine reads it: checked, so that no code can lead outside an array."""

    def __init__(self, simulation: Simulation) -> None:
        self._names: Names = simulation.workload.names
        self._last_s = 0.0

    def arrivals(self, traffic: Traffic) -> s.Arrivals:
        names = self._names
        for what, codes, known in (
            ("origin", traffic.origin, len(names.origins)),
            ("model", traffic.model, len(names.models)),
            ("tenant", traffic.tenant, len(names.tenants)),
            ("residency", traffic.residency, len(names.residencies)),
        ):
            if codes.min() < 0 or codes.max() >= known:
                raise TraceError(f"workload: {what} codes must lie in 0 .. {known - 1}")
        if traffic.input_tokens.min() < 0 or traffic.output_tokens.min() < 1:
            raise TraceError("workload: needs input_tokens >= 0 and output_tokens >= 1")
        if traffic.max_output_tokens.min() < 1:
            raise TraceError("workload: needs max_output_tokens >= 1")
        if not (np.diff(traffic.arrival_s, prepend=self._last_s) >= 0.0).all():
            raise TraceError("workload: arrival_s must rise from 0; sort the requests by arrival")
        self._last_s = float(traffic.arrival_s[-1])
        chains = traffic.chains or unchained(len(traffic))
        return s.Arrivals(
            traffic.arrival_s, traffic.origin, traffic.model, traffic.tenant,
            traffic.residency, traffic.input_tokens, traffic.output_tokens,
            traffic.ttft_budget_ms, traffic.tpot_budget_ms, traffic.e2e_budget_ms,
            traffic.max_output_tokens, chains.starts, chains.keys,
        )  # fmt: skip

    def nobody(self) -> s.Arrivals:
        none, codes = np.empty(0), np.empty(0, np.int32)
        chains = unchained(0)
        return s.Arrivals(
            none, codes, codes, codes, codes, codes, codes, none, none, none, codes,
            chains.starts, chains.keys,
        )  # fmt: skip


def _every(
    step_s: float, first_s: float, until_s: float, order: int, act: Callable[[float], None]
) -> Iterator[_Turn]:
    count = 0
    while first_s + count * step_s <= until_s:
        yield _Turn(first_s + count * step_s, order, 0, act)
        count += 1


def _story(outage: Outage) -> list[tuple[float, int]]:
    return [
        (outage.start_s, loop.GOES_DOWN),
        (outage.start_s + outage.noticed_after_s, loop.DOWN_IS_NOTICED),
        (outage.end_s, loop.COMES_UP),
        (outage.end_s + outage.noticed_after_s, loop.UP_IS_NOTICED),
    ]


def _seed(simulation: Simulation, policy: Policy) -> np.uint64:
    text = f"{simulation.seed}/{policy.name}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))


def require_actual(simulation: Simulation, plant: s.Plant) -> None:
    """Raises TraceError where the intensity of a replica's grid zone is not known throughout."""
    table = simulation.actual
    begin = simulation.start - table.start
    first = math.floor(begin / table.step_s)
    last = math.ceil((begin + simulation.duration_s) / table.step_s - 1e-9)
    if first < 0 or last > len(table.g_per_kwh):
        raise TraceError(
            f"{table.name}: does not cover the whole scenario; it needs rows from its start to "
            f"{simulation.duration_s:g} s later"
        )
    for column in sorted(set(plant.states[:, s.ZONE].tolist())):
        gaps = np.flatnonzero(np.isnan(table.g_per_kwh[first:last, column]))
        if gaps.size:
            raise TraceError(
                f"{table.name}: column {table.grid_zones[column]}: no value in slot "
                f"{first + int(gaps[0]) + 1} of the scenario's span; fill the gap or move the span"
            )
