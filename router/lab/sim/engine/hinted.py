"""A simulated fleet whose replicas are released and woken by the product's own hints.

`router.app.scaling.looks.Scaling` looks on every 5 s, as in a gateway, and
`router.app.scaling.hints.endpoint_hints` says which endpoints are wanted: what a webhook, a command
or KEDA is told. Whoever scales the fleet acts on it here at once:

- One that is wanted and released wakes; it takes requests from the first look on at which it is
  awake.
- One that was not wanted for a while is sent nobody from then on, ends what it has, and sleeps from
  the first look on at which it has nothing. Nothing is lost with it. One that is wanted again
  meanwhile goes all the same, and is woken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from router.app.scaling.hints import endpoint_hints
from router.app.scaling.looks import LOOK_S, Scaling
from router.core import kernel_rows as k
from router.core.columns import Snapshot, build_snapshot
from router.core.deferral.needs import WaitingNeeds
from router.core.wake_times import WakeTimes
from router.lab.sim.engine import gateway as gw
from router.lab.sim.engine import loop
from router.lab.sim.engine import state as s
from router.lab.sim.engine.build import Site
from router.lab.sim.simulation import Autoscaling, Simulation
from router.model import Policy

__all__ = ["LOOK_S", "HintedFleet", "Needs", "nothing_waits"]

Needs: TypeAlias = Callable[[float], WaitingNeeds]
"""What the plan of deferred work needs at a moment, unix s."""


def nothing_waits(now: float) -> WaitingNeeds:
    """Where no work is deferred."""
    return WaitingNeeds()


@dataclass(slots=True)
class _Endpoint:
    """``is_open``: requests may be sent there, as far as gateways know."""

    batch: float = 0.0
    is_open: bool = False

    def serves(self, model: tuple[str, str]) -> bool:
        """Whichever model."""
        return self.is_open


class _Board(NamedTuple):
    seats: Mapping[str, _Endpoint]


class _View(NamedTuple):
    snapshot: Snapshot
    board: _Board


@dataclass(slots=True)
class _SimulatedClock:
    """``at_s``: seconds since ``start``, unix s."""

    start: float
    at_s: float = 0.0

    def now(self) -> float:
        return self.start + self.at_s

    def monotonic(self) -> float:
        return self.at_s


@dataclass(slots=True)
class _Leaving:
    """By endpoint. ``unwanted_since``: seconds since the start. ``draining``: it is sent nobody."""

    unwanted_since: dict[int, float] = field(default_factory=dict)
    draining: set[int] = field(default_factory=set)


class HintedFleet:
    """Of one run."""

    def __init__(
        self, simulation: Simulation, scaling: Autoscaling, policy: Policy, site: Site, needs: Needs
    ) -> None:
        self._simulation, self._policy, self._site = simulation, policy, site
        self._release_after_s = scaling.release_after_s
        self._clock = _SimulatedClock(simulation.start)
        self._seats = {name: _Endpoint() for name in site.endpoints}
        self._view = _View(self._snapshot(simulation.start), _Board(MappingProxyType(self._seats)))
        self._scaling = Scaling(
            lambda: self._view,
            self._clock,
            WakeTimes(scaling.wake_s),
            lambda: needs(self._clock.now()),
        )
        self._wanted: frozenset[str] = frozenset()
        self._leaving = _Leaving()

    def update(self, at_s: float) -> None:
        """The grids are seen anew, ``at_s`` after the start."""
        self._view = self._view._replace(snapshot=self._snapshot(self._simulation.start + at_s))

    def look(self, world: s.World, at_s: float) -> None:
        """Hints as of ``at_s``, and what is done by them."""
        self._clock.at_s = at_s
        states, total = world.plant.states, world.gates.total
        starts, replicas = world.gates.endpoint_starts, world.gates.endpoint_replicas
        # All replicas of an endpoint are released and woken together, and go down together.
        firsts = {e: int(replicas[at]) for e, at in enumerate(starts[:-1].tolist())
                  if at < starts[e + 1]}  # fmt: skip
        for e, r in firsts.items():
            seat = self._seats[self._site.endpoints[e]]
            seat.batch = float(total[e, gw.TOTAL])
            seat.is_open = self._is_open(e, states[r])
        self._scaling.look()
        wanted = self._hinted()
        for e, r in firsts.items():
            name = self._site.endpoints[e]
            self._act(world, e, int(states[r, s.STATE]), name in wanted, at_s)
            self._tell(world, e, self._is_open(e, states[r]))

    def _snapshot(self, now: float) -> Snapshot:
        simulation = self._simulation
        return build_snapshot(
            self._site.layout, self._policy, simulation.signal.view(now), simulation.annual_means,
            now, 1,
        )  # fmt: skip

    def _hinted(self) -> frozenset[str]:
        demands = self._scaling.demands(with_hours=False)
        counts = {(one.model, one.region): one.wanted for one in demands}
        found = endpoint_hints(self._view, counts, self._wanted)
        self._wanted = frozenset(one.name for one in found if one.wanted)
        return self._wanted

    def _is_open(self, e: int, state: s.Ints) -> bool:
        """Gateways know of an outage once it is noticed."""
        is_there = int(state[s.STATE]) in (s.UP, s.DOWN) and not state[s.NOTICED]
        return is_there and e not in self._leaving.draining

    def _act(self, world: s.World, e: int, state: int, is_wanted: bool, at_s: float) -> None:
        leaving = self._leaving
        if is_wanted:
            leaving.unwanted_since.pop(e, None)
            if state == s.ASLEEP:
                loop.scale(world, e, True, at_s)
        elif at_s - leaving.unwanted_since.setdefault(e, at_s) >= self._release_after_s:
            leaving.draining.add(e)
        if state != s.UP:
            leaving.draining.discard(e)
        elif e in leaving.draining and not world.gates.total[e, gw.TOTAL]:
            loop.scale(world, e, False, at_s)
            leaving.draining.discard(e)

    def _tell(self, world: s.World, e: int, is_open: bool) -> None:
        """Gateways send requests there, or none."""
        gates = world.gates
        cells = gates.cells[gates.cell_starts[e] : gates.cell_starts[e + 1]]
        gates.live[:, cells[:, 0], k.ELIGIBLE, cells[:, 1]] = float(is_open)
