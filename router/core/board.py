"""The live columns of the cost kernel, and the seats (one an endpoint) that keep them true.

Everything else a decision reads is an immutable snapshot; this is the one thing that changes with
every request. A seat outlives snapshots and reloads, so a lease always gives back to the right
endpoint.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel as k
from router.core.health import Cause, Health, State
from router.core.latency import RatioTracker, WaitTracker
from router.core.layout import Layout
from router.core.outlier import Avoidance, OutlierEjection
from router.model import Load

if TYPE_CHECKING:
    from router.core.lease import Lease

# Failures so far apart are not of one trouble.
_TROUBLE_S = 5.0

# (name, version) of a model as an endpoint declares it.
ModelKey: TypeAlias = tuple[str, str]

# That others keep an endpoint awake is believed for so many readings of its load after it had a
# request of this gateway: a server that merely claims to be busy attracts nobody.
BELIEVED_FOR = 10

# An endpoint that looks slow gets no requests, and without requests it would look slow for ever.
# So when nothing was learned of it for QUIET_S, its profile is believed again: half of the excess
# is forgotten every HALF_LIFE_S, until a request goes there and tells. While it is slow indeed that
# is about one request a minute.
QUIET_S = 60.0
HALF_LIFE_S = 60.0
_RELAX_EVERY_S = 1.0
_RELAX_KEEPS = 0.5 ** (_RELAX_EVERY_S / HALF_LIFE_S)
# A prefill by which delay and factor of a wait are compared with those of the prior, ms.
_USUAL_PREFILL_MS = 100.0


class Factors(NamedTuple):
    """How wrong the latency model is, at the policy's quantile: factors, and a delay of TTFT."""

    ttft: float
    tpot: float
    delay_ms: float


def prior_factors(z: float) -> Factors:
    """Before any outcome, at the quantile whose standard normal deviate is ``z``."""
    delay_ms, ttft = WaitTracker(z).errors()
    return Factors(ttft, RatioTracker().factor(z), delay_ms)


def foreign_requests(load: Load, own: int, max_in_flight: int) -> float:
    """Requests of others on an endpoint, by what it says of itself: 0 .. ``max_in_flight``.

    What it counts includes the ``own`` of this gateway, which are known better here. A gauge that
    its engine lacks is NaN and counts nothing. Beyond the cap more is no fuller than full.
    """
    told = sum(count for count in (load.running, load.queued) if count > 0.0)
    return min(max(0.0, told - own), float(max_in_flight))


class _Cell(NamedTuple):
    """A column of a model's live columns that belongs to a seat."""

    live: NDArray[np.float64]
    row: int
    outlier: OutlierEjection


class Seat:
    """Live state of one endpoint: requests in flight, health, latency error, turns.

    ``signs``: raised by every sign of life that its requests see. ``leases``: those in flight,
    oldest first. ``outliers``: by model, as the endpoint declares it.
    """

    __slots__ = (
        "_caps", "_cells", "_factors", "_others", "_peer_cap", "_prior", "_quiet_since", "_shown",
        "_unused", "_z", "health", "in_flight", "leases", "name", "outliers", "peak", "peers",
        "signs", "tpot_ratio", "turns", "wait",
    )  # fmt: skip

    def __init__(self, name: str, health: HealthSettings) -> None:
        self.name = name
        self.health = Health(health)
        self.outliers: dict[ModelKey, OutlierEjection] = {}
        self.leases: dict[Lease, None] = {}
        self.signs = 0
        self.wait = WaitTracker()
        self.tpot_ratio = RatioTracker()
        self.in_flight = 0
        self.turns = 0
        self.peak = 0
        self.peers = 0
        self._peer_cap = math.inf
        self._shown: Callable[[int, float], None] | None = None
        self._others = 0.0
        self._unused = BELIEVED_FOR
        self._quiet_since = math.nan
        self._z = 0.0
        self._factors = self._prior = Factors(1.0, 1.0, 0.0)
        self._caps: list[float] = []
        self._cells: list[_Cell] = []

    @property
    def state(self) -> State:
        """Of the server; where that is healthy, of the best of its models."""
        if self.health.state is not State.HEALTHY or not self.outliers:
            return self.health.state
        states = {o.state if o.ready else State.EJECTED for o in self.outliers.values()}
        return next(s for s in (State.HEALTHY, State.PROBING, State.EJECTED) if s in states)

    @property
    def cause(self) -> Cause:
        """Why it takes no traffic, or less than others."""
        if self.health.cause is not Cause.NONE or self.state is State.HEALTHY:
            return self.health.cause
        ready = any(outlier.ready for outlier in self.outliers.values())
        return Cause.OUTLIER if ready else Cause.NOT_READY

    def serves_any_version(self, name: str) -> bool:
        """Whether it is in service for a model of this name."""
        return any(self.serves(model) for model in self.outliers if model[0] == name)

    def serves(self, model: ModelKey) -> bool:
        """Whether it is in service for a model; one that is busy for a moment is."""
        outlier = self.outliers[model]
        return self.health.is_there and outlier.ready and outlier.state is not State.EJECTED

    @property
    def batch(self) -> float:
        """Requests on the endpoint, as far as this gateway knows: of this process, of the other
        workers, and foreign ones."""
        return self.in_flight + self.peers + self._others

    @property
    def factors(self) -> Factors:
        """The latency model's errors at the policy's quantile, as last published."""
        return self._factors

    @property
    def longest_run_s(self) -> float:
        """The longest run that was predicted for a request in flight; 0 when there is none."""
        return max((lease.run_s for lease in self.leases), default=0.0)

    def take(self, batch_cap: float) -> None:
        """One more request; ``batch_cap`` is the concurrency that its own budget tolerates."""
        self.in_flight += 1
        self.turns += 1
        self._unused = 0
        self.peak = max(self.peak, self.in_flight)
        if batch_cap < math.inf:
            insort(self._caps, batch_cap)
        self.publish_load()

    def give_back(self, batch_cap: float) -> None:
        """One request less; the counterpart of `take`, with the same ``batch_cap``."""
        self.in_flight -= 1
        if batch_cap < math.inf:
            del self._caps[bisect_left(self._caps, batch_cap)]
        self.publish_load()

    def set_others(self, others: float) -> None:
        """Requests that others have there, once a reading; 0 when nobody says."""
        self._others = others
        self._unused += 1
        self.publish_load()

    def set_peers(self, in_flight: int, batch_cap: float = math.inf) -> None:
        """Requests that this gateway's other workers have there, counted as surely as its own, and
        the least concurrency that one of their budgets tolerates."""
        self.peers = in_flight
        self._peer_cap = batch_cap
        self.publish_load()

    def show_to(self, shown: Callable[[int, float], None] | None) -> None:
        """Tell ``shown`` (in flight, batch cap) of this process at each change; None: nobody."""
        self._shown = shown
        self.publish_load()

    def publish_load(self) -> None:
        """Write batch, cap, turns and eligibility into every model's live columns."""
        batch = self.in_flight + self.peers + self._others
        cap = self._caps[0] if self._caps else math.inf
        if self._shown is not None:
            self._shown(self.in_flight, cap)
            cap = min(cap, self._peer_cap)
        admits = self.health.admits(self.in_flight)
        # The other workers of this gateway are known as surely as its own requests are.
        own = self.in_flight + self.peers
        believed = self._others >= 1.0 and self._unused <= BELIEVED_FOR
        awake = 1.0 if own or believed else 0.0
        for live, row, outlier in self._cells:
            live[k.BATCH, row] = batch
            live[k.OWN, row] = own
            live[k.AWAKE, row] = awake
            live[k.BATCH_CAP, row] = cap
            live[k.TURNS, row] = self.turns
            live[k.ELIGIBLE, row] = 1.0 if admits and outlier.admits else 0.0

    def publish_latency(self) -> None:
        """Something was learned: write the model's errors at the policy's quantile into every
        model's live columns."""
        self._quiet_since = math.nan
        self._publish_errors()

    def relax(self, now: float) -> None:
        """Once every _RELAX_EVERY_S: forget some of what makes a quiet endpoint look slow."""
        if not self._quiet_since <= now:
            self._quiet_since = now
        if now - self._quiet_since < QUIET_S:
            return
        factors, prior = self._factors, self._prior
        wait_ms = factors.delay_ms + factors.ttft * _USUAL_PREFILL_MS
        slow_to_begin = wait_ms > prior.ttft * _USUAL_PREFILL_MS
        slow_to_go_on = factors.tpot > prior.tpot
        if slow_to_begin:
            self.wait.relax(_RELAX_KEEPS)
        if slow_to_go_on:
            self.tpot_ratio.relax(_RELAX_KEEPS)
        if slow_to_begin or slow_to_go_on:
            self._publish_errors()

    def _publish_errors(self) -> None:
        delay_ms, ttft = self.wait.errors()
        factors = Factors(ttft, self.tpot_ratio.factor(self._z), delay_ms)
        self._factors = factors
        for live, row, _ in self._cells:
            live[k.TTFT_FACTOR, row] = factors.ttft
            live[k.TPOT_FACTOR, row] = factors.tpot
            live[k.TTFT_DELAY, row] = factors.delay_ms

    def settle(self, cells: list[_Cell], z: float) -> None:
        """Move to other columns (a reload); everything known is written there at once."""
        self._cells = cells
        self._z, self._prior = z, prior_factors(z)
        self.wait.aim(z)
        self.publish_load()
        self.publish_latency()


class Board:
    """Live columns of every model of a layout, and a seat per endpoint.

    ``z``: standard normal deviate of the policy's quantile. ``previous``: the board of the layout
    before a reload, whose seats are taken over by name.
    """

    def __init__(
        self,
        layout: Layout,
        settings: HealthSettings,
        z: float,
        previous: Board | None = None,
    ) -> None:
        self.layout = layout
        self.avoidance: Avoidance = previous.avoidance if previous else Avoidance()
        self._settings = settings
        self._relax_at = -math.inf
        old = previous.seats if previous else {}
        names = [endpoint.name for endpoint in layout.fleet.endpoints]
        self.seats: Mapping[str, Seat] = {
            name: old.get(name) or Seat(name, settings) for name in names
        }
        self._servers: dict[str, list[tuple[Seat, OutlierEjection]]] = {}
        self._live: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._tell_models(layout, settings)
        cells: dict[str, list[_Cell]] = {name: [] for name in names}
        for key, candidates in layout.candidates.items():
            live = np.zeros((k.LIVE_ROWS, len(candidates.endpoints)))
            self._live[key] = live
            for row, endpoint in enumerate(candidates.endpoints):
                served = candidates.served[row]
                outlier = self.seats[endpoint.name].outliers[served.name, served.version]
                cells[endpoint.name].append(_Cell(live, row, outlier))
        for name, seat in self.seats.items():
            seat.health.adopt(settings)
            seat.settle(cells[name], z)
        for name, seat in old.items():
            if name not in self.seats:
                seat.show_to(None)
                seat.settle([], z)

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        """Live columns (LIVE_ROWS, n) of a model's candidates; the kernel's own, do not write."""
        return self._live[model, version]

    def strike(
        self, seat: Seat, model: ModelKey, now: float, departed: float, caller: str, proven: bool
    ) -> bool:
        """The failure of a request that left at ``departed`` is the endpoint's; True when this
        ejects it. See `router.core.outlier`.
        """
        outlier = seat.outliers.get(model)
        if outlier is None or outlier.is_stale(departed):
            return False
        broken = outlier.strike(now, caller, proven)
        if not self._has_other(seat, model[0]):
            return False
        if outlier.should_eject(now) and (proven or self._may_eject(model[0])):
            outlier.eject(now)
            seat.publish_load()
            return True
        if broken:
            self.avoidance.add(model[0], caller, seat.name, outlier.avoided_until(now))
        return False

    def recall(self, model: str, now: float, failed: str = "") -> bool:
        """Where no server of a model but the ``failed`` one is in service, those that are out as
        outliers are tried again before their time; whether there were any.
        """
        servers = self._servers.get(model, ())
        if any(seat.name != failed and seat.serves_any_version(model) for seat, _ in servers):
            return False
        recalled = False
        for seat, outlier in servers:
            if seat.health.is_there and outlier.ready and outlier.recall(now):
                seat.publish_load()
                recalled = True
        return recalled

    def troubled(self, model: str, now: float) -> bool:
        """Whether most servers of a model failed of late: the fleet's trouble, not one server's."""
        there = [seat for seat, _ in self._servers.get(model, ()) if seat.health.is_there]
        failed = sum(seat.health.had_event(now - _TROUBLE_S) for seat in there)
        return 2 * failed > len(there)

    def rest(self, seat: Seat, now: float, retry_after_s: float | None) -> None:
        """An endpoint pushed back. Where all that serve a model rest, none does."""
        seat.health.mark_busy(now, retry_after_s)
        for model in {name for name, _ in seat.outliers}:
            serving = [
                one for one, _ in self._servers.get(model, ()) if one.serves_any_version(model)
            ]
            if all(one.health.busy for one in serving):
                for one in serving:
                    one.health.end_rest()
                    one.publish_load()
        seat.publish_load()

    def tick(self, now: float) -> None:
        """Let marks expire, notice who is quiet, and let those that nothing was learned of for long
        be believed again. Cheap: most seats have nothing to tell, and once a second is enough.
        """
        if now >= self._relax_at:
            self._relax_at = now + _RELAX_EVERY_S
            for seat in self.seats.values():
                seat.relax(now)
        for seat in self.seats.values():
            health = seat.health
            pending = not health.settled
            health.watch(now, seat.in_flight, seat.turns, seat.signs)
            for outlier in seat.outliers.values():
                pending |= outlier.tick(now)
            if pending:
                seat.publish_load()
        self.avoidance.tick(now)

    def _tell_models(self, layout: Layout, settings: HealthSettings) -> None:
        for endpoint in layout.fleet.endpoints:
            seat = self.seats[endpoint.name]
            before = seat.outliers
            seat.outliers = {}
            for served in endpoint.models:
                key = (served.name, served.version)
                outlier = before.get(key) or OutlierEjection(settings)
                outlier.adopt(settings)
                seat.outliers[key] = outlier
                self._servers.setdefault(served.name, []).append((seat, outlier))

    def _has_other(self, seat: Seat, model: str) -> bool:
        """Whether requests of the model have anywhere else to go."""
        return any(
            one.health.is_there and outlier.ready and outlier.state is not State.EJECTED
            for one, outlier in self._servers[model]
            if one is not seat
        )

    def _may_eject(self, model: str) -> bool:
        """Whether one more may be out on unproven failures."""
        reachable = [outlier for seat, outlier in self._servers[model] if seat.health.is_there]
        out = sum(outlier.state is State.EJECTED for outlier in reachable)
        return out + 1 <= self._settings.max_ejected_fraction * len(reachable)
