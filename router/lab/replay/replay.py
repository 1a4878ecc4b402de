"""The same requests, replicas and carbon under a policy, in virtual time: what would have been.

Drives ``router.core`` unchanged (columns, board, pipeline, lease, lengths) with replicas of
``router.lab.replay.replica`` as the machines. The gateway sits with the caller: half the round trip
goes by before a request reaches its replica, the other half before the answer is back, and only
then is the lease closed. Wall seconds run from 0; the carbon clock is `Period.carbon_time`.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from router.config.settings import HealthSettings
from router.core.accounting import Run as Served
from router.core.board import Board
from router.core.columns import Snapshot, build_snapshot, mean_over
from router.core.energy import Crowd
from router.core.latency import z_of
from router.core.layout import Layout
from router.core.learning import prediction_of, teach_latency
from router.core.lease import Lease
from router.core.lengths import Expected, LengthModel
from router.core.pipeline import decide
from router.core.prefix_index import PrefixIndex
from router.core.prefixes import CHUNK_TOKENS, NO_KEYS
from router.errors import RefusedError
from router.lab.replay.records import FleetEnergy, Record, RecordedRun, meets
from router.lab.replay.replica import Ended, Replica
from router.lab.replay.timed import Period, TimedRequest
from router.model import (
    Decision,
    Fleet,
    Forecast,
    Intensity,
    Outcome,
    Policy,
    Request,
    TaskProfile,
)
from router.units import grams


class CarbonView(NamedTuple):
    """What a router knows of the grid from wall second ``at_s`` on, by grid zone."""

    at_s: float
    forecasts: Mapping[str, Forecast]


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """Everything that is the same for every policy.

    ``views``: in order, the first at or before the first request. ``actual``: the intensity that
    grams are counted at, by grid zone, over the whole period and its tail. ``path_delay_ms``: by
    region, what a round trip takes beyond the RTT that routers know. ``block_tokens``: in a block
    of what prompts begin with.
    """

    fleet: Fleet
    requests: Sequence[TimedRequest]
    period: Period
    views: Sequence[CarbonView]
    annual_means: Mapping[str, Intensity]
    actual: Mapping[str, Forecast]
    health: HealthSettings
    path_delay_ms: Mapping[str, float] = field(default_factory=dict)
    block_tokens: float = CHUNK_TOKENS


def replay(scenario: Scenario, policy: Policy, seed: int = 0) -> RecordedRun:
    """Every request of ``scenario`` under ``policy``; the same seed gives the same run."""
    return _Replay(scenario, policy, random.Random(f"{seed}/{policy.name}")).run()


class _Sent(NamedTuple):
    """A prompt that went to candidate ``row``, which ought to have had ``cached_tokens`` of it."""

    prefixes: PrefixIndex
    row: int
    cached_tokens: float


class _InFlight(NamedTuple):
    serial: int
    timed: TimedRequest
    decision: Decision
    lease: Lease
    half_rtt_s: float
    sent: _Sent | None = None


class _Replay:
    def __init__(self, scenario: Scenario, policy: Policy, rng: random.Random) -> None:
        self._scenario = scenario
        self._policy = policy
        self._rng = rng
        fleet = scenario.fleet
        self._layout = Layout(fleet)
        self._board = Board(
            self._layout,
            scenario.health,
            z_of(policy.quantile),
            tpot_z=z_of(policy.tpot_quantile),
            block_tokens=scenario.block_tokens,
        )
        self._lengths = LengthModel(fleet.priors, policy.quantile)
        self._snapshot: Snapshot | None = None
        self._machines = _Machines(scenario)
        self._in_flight: dict[int, _InFlight] = {}
        self._records: list[Record] = []
        self._refused: Counter[str] = Counter()
        # (time, order within one moment, serial, what to do then)
        self._events: list[tuple[float, int, int, Callable[[float], None]]] = []
        self._serial = 0

    def run(self) -> RecordedRun:
        scenario, machines = self._scenario, self._machines
        for view in scenario.views:
            # A new view counts before the requests of its moment.
            self._at(view.at_s, partial(self._refresh, view), order=0)
        for at_s in scenario.period.boundaries():
            self._at(at_s, machines.settle)
        for serial, timed in enumerate(scenario.requests):
            self._at(timed.at_s, partial(self._arrive, serial, timed))
        while True:
            due, machine_due = self._events[0][0] if self._events else math.inf, machines.next_at()
            if machine_due == due == math.inf:
                break
            if machine_due <= due:
                for ended in machines.advance():
                    flight = self._in_flight[_serial(ended)]
                    self._at(ended.at + flight.half_rtt_s, partial(self._answer, ended))
            else:
                at_s, _, _, act = heapq.heappop(self._events)
                act(at_s)
        records = tuple(sorted(self._records, key=lambda record: record.serial))
        offered = len(scenario.requests)
        return RecordedRun(
            self._policy.name, offered, records, dict(self._refused), machines.close()
        )

    def _at(self, at_s: float, act: Callable[[float], None], order: int = 1) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at_s, order, self._serial, act))

    def _refresh(self, view: CarbonView, _: float) -> None:
        now = self._scenario.period.carbon_time(view.at_s)
        version = self._snapshot.version + 1 if self._snapshot else 1
        self._snapshot = build_snapshot(
            self._layout, self._policy, view.forecasts, self._scenario.annual_means, now, version
        )

    def _arrive(self, serial: int, timed: TimedRequest, at_s: float) -> None:
        request = timed.request
        expected = self._lengths.expect(
            request.model, request.tenant, request.input_tokens, request.max_output_tokens
        )
        if self._snapshot is None:
            raise ValueError("the first carbon view must not be later than the first request")
        now = self._scenario.period.carbon_time(at_s)
        try:
            decided = decide(request, self._snapshot, self._board, expected, now, self._rng)
        except RefusedError as error:
            self._refused[error.reason] += 1
            return
        decision = decided.decision
        if decided.need is not None:
            decided.need.teach(self._board)
        seat = self._board.seats[decision.endpoint.name]
        lease = Lease(seat, decision.burden, now=now)
        path_ms = self._scenario.path_delay_ms.get(decision.endpoint.region, 0.0)
        half_rtt_s = decision.rtt_ms / 2e3 + path_ms / 1e3 / 2.0
        flight = _InFlight(
            serial, timed, decision, lease, half_rtt_s, self._send(request, decision, expected)
        )
        self._in_flight[serial] = flight
        self._at(at_s + flight.half_rtt_s, partial(self._machines.admit, flight))

    def _send(self, request: Request, decision: Decision, expected: Expected) -> _Sent | None:
        """Note that the replica will have read the prompt, where it keeps any."""
        known = self._board.prefixes_of(request, decision.endpoint.name, decision.served)
        if known is None or request.prefix is None:
            return None
        prefixes, row = known
        seat = self._board.seats[decision.endpoint.name]
        ours = seat.in_flight / seat.batch
        tokens = prefixes.depart(row, request.prefix, expected.input_tokens, ours)
        return _Sent(prefixes, row, tokens)

    def _answer(self, ended: Ended, at_s: float) -> None:
        flight = self._in_flight.pop(_serial(ended))
        crowd = flight.lease.crowd()
        flight.lease.close(Outcome.SUCCEEDED)
        timed, decision = flight.timed, flight.decision
        request = timed.request
        e2e_ms = (at_s - timed.at_s) * 1e3
        ttft_ms = (ended.first_token_at + flight.half_rtt_s - timed.at_s) * 1e3
        self._learn(flight, ended, crowd, ttft_ms, e2e_ms)
        region = self._scenario.fleet.regions[decision.endpoint.region]
        g_per_kwh = self._machines.mean_g_per_kwh(region.grid_zone, ended.started_at, ended.at)
        gco2e = grams(ended.energy_j * region.pue, g_per_kwh)
        met = meets(request.budget, ttft_ms, e2e_ms, ended.output_tokens)
        record = Record(
            flight.serial, timed.label, request.origin, region.name, decision.endpoint.name,
            timed.at_s, ttft_ms, e2e_ms, ended.output_tokens, ended.energy_j,
            ended.marginal_energy_j, gco2e, met,
        )  # fmt: skip
        self._records.append(record)

    def _learn(
        self, flight: _InFlight, ended: Ended, crowd: Crowd, ttft_ms: float, e2e_ms: float
    ) -> None:
        """What a gateway learns of a success; a unary answer does not tell its TTFT."""
        tells = flight.timed.streamed or isinstance(flight.decision.served.profile, TaskProfile)
        seen_ttft_ms = ttft_ms if tells else math.nan
        served = Served(0, crowd, seen_ttft_ms, e2e_ms, flight.decision.rtt_ms)
        prediction = prediction_of(flight.decision, crowd, flight.lease.crowd_at_start.batch)
        teach_latency(flight.lease.seat, prediction, served, ended.output_tokens)
        request = flight.timed.request
        if flight.sent is not None:
            prefixes, row, tokens = flight.sent
            prefixes.report(row, tokens, ended.cached_tokens, exact=True)
        self._lengths.observe(
            request.model, request.tenant, request.input_tokens, ended.output_tokens
        )


def _serial(ended: Ended) -> int:
    assert isinstance(ended.key, int)
    return ended.key


class _Machines:
    """Every replica of the fleet and its energy account, hour by hour of the carbon clock."""

    def __init__(self, scenario: Scenario) -> None:
        self._period = scenario.period
        self._actual = scenario.actual
        self._regions = scenario.fleet.regions
        self._replicas: list[Replica] = []
        self._region_of: list[str] = []
        self._place: dict[tuple[str, str], int] = {}
        for endpoint in scenario.fleet.endpoints:
            for served in endpoint.models:
                self._place[endpoint.name, served.name] = len(self._replicas)
                self._replicas.append(Replica(served.profile, 0.0, scenario.block_tokens))
                self._region_of.append(endpoint.region)
        self._stamps = [0] * len(self._replicas)
        self._due: list[tuple[float, int, int]] = []
        self._booked = [(0.0, 0.0)] * len(self._replicas)
        self._settled_at = 0.0
        self._busy_j = self._idle_j = self._busy_g = self._idle_g = 0.0

    def admit(self, flight: _InFlight, at_s: float) -> None:
        """The request reaches its replica."""
        place = self._place[flight.decision.endpoint.name, flight.timed.request.model]
        request = flight.timed.request
        chain = NO_KEYS if request.prefix is None else request.prefix.keys
        self._replicas[place].admit(
            at_s, flight.serial, request.input_tokens, flight.timed.output_tokens, chain=chain
        )
        self._schedule(place)

    def next_at(self) -> float:
        """When some replica has news; inf when all are idle."""
        while self._due and self._due[0][1] != self._stamps[self._due[0][2]]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def advance(self) -> list[Ended]:
        """Advance the replica whose news is due first; the requests that ended."""
        at_s, _, place = heapq.heappop(self._due)
        events = self._replicas[place].advance(at_s)
        self._schedule(place)
        return [event for event in events if isinstance(event, Ended)]

    def mean_g_per_kwh(self, grid_zone: str, start_s: float, end_s: float) -> float:
        """The intensity that really was, over a run given in wall seconds."""
        start, end = self._period.carbon_time(start_s), self._period.carbon_time(end_s)
        return mean_over(self._actual[grid_zone], start, end - start)

    def settle(self, at_s: float) -> None:
        """Book the energy since the last settlement, all of it in one hour of the carbon clock."""
        self._book(at_s, idle=True)

    def close(self) -> FleetEnergy:
        """The account, once every request has ended.

        The tail after the period is booked at its mean intensity; idle draw no longer counts.
        """
        self._book(max(replica.now for replica in self._replicas), idle=False)
        return FleetEnergy(self._busy_j, self._idle_j, self._busy_g, self._idle_g)

    def _book(self, until_s: float, *, idle: bool) -> None:
        if until_s <= self._settled_at:
            return
        for place, replica in enumerate(self._replicas):
            replica.settle(until_s)
            region = self._regions[self._region_of[place]]
            idle_j = replica.idle_energy_j * region.pue
            busy_j = replica.energy_j * region.pue - idle_j
            before_busy_j, before_idle_j = self._booked[place]
            self._booked[place] = (busy_j, idle_j)
            mean = self.mean_g_per_kwh(region.grid_zone, self._settled_at, until_s)
            self._busy_j += busy_j - before_busy_j
            self._busy_g += grams(busy_j - before_busy_j, mean)
            if idle:
                self._idle_j += idle_j - before_idle_j
                self._idle_g += grams(idle_j - before_idle_j, mean)
        self._settled_at = until_s

    def _schedule(self, place: int) -> None:
        self._stamps[place] += 1
        due = self._replicas[place].next_event_at()
        if due < math.inf:
            heapq.heappush(self._due, (due, self._stamps[place], place))
