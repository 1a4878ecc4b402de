"""The live columns of the cost kernel, and the seats (one an endpoint) that keep them true.

Everything else a decision reads is an immutable snapshot; this is the one thing that changes with
every request. A seat outlives snapshots and reloads, so a lease always gives back to the right
endpoint.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel as k
from router.core.health import Health, State
from router.core.latency import RatioTracker, WaitTracker
from router.core.layout import Layout
from router.model import Load

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


class Seat:
    """Live state of one endpoint: requests in flight, health, latency error, turns."""

    __slots__ = (
        "_caps", "_cells", "_factors", "_others", "_prior", "_quiet_since", "_unused", "_z",
        "health", "in_flight", "name", "peak", "tpot_ratio", "turns", "wait",
    )  # fmt: skip

    def __init__(self, name: str, health: HealthSettings) -> None:
        self.name = name
        self.health = Health(health)
        self.wait = WaitTracker()
        self.tpot_ratio = RatioTracker()
        self.in_flight = 0
        self.turns = 0
        self.peak = 0
        self._others = 0.0
        self._unused = BELIEVED_FOR
        self._quiet_since = math.nan
        self._z = 0.0
        self._factors = self._prior = Factors(1.0, 1.0, 0.0)
        self._caps: list[float] = []
        self._cells: list[tuple[NDArray[np.float64], int]] = []

    @property
    def batch(self) -> float:
        """Requests on the endpoint, as far as this gateway knows: its own and foreign ones."""
        return self.in_flight + self._others

    @property
    def factors(self) -> Factors:
        """The latency model's errors at the policy's quantile, as last published."""
        return self._factors

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

    def publish_load(self) -> None:
        """Write batch, cap, turns and eligibility into every model's live columns."""
        batch = self.in_flight + self._others
        cap = self._caps[0] if self._caps else math.inf
        eligible = 1.0 if self.health.admits(self.in_flight) else 0.0
        believed = self._others >= 1.0 and self._unused <= BELIEVED_FOR
        awake = 1.0 if self.in_flight or believed else 0.0
        for live, row in self._cells:
            live[k.BATCH, row] = batch
            live[k.OWN, row] = self.in_flight
            live[k.AWAKE, row] = awake
            live[k.BATCH_CAP, row] = cap
            live[k.TURNS, row] = self.turns
            live[k.ELIGIBLE, row] = eligible

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
        for live, row in self._cells:
            live[k.TTFT_FACTOR, row] = factors.ttft
            live[k.TPOT_FACTOR, row] = factors.tpot
            live[k.TTFT_DELAY, row] = factors.delay_ms

    def settle(self, cells: list[tuple[NDArray[np.float64], int]], z: float) -> None:
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
        self._max_ejected = settings.max_ejected_fraction
        self._relax_at = -math.inf
        old = previous.seats if previous else {}
        names = [endpoint.name for endpoint in layout.fleet.endpoints]
        self.seats: Mapping[str, Seat] = {
            name: old.get(name) or Seat(name, settings) for name in names
        }
        self._live: dict[tuple[str, str], NDArray[np.float64]] = {}
        cells: dict[str, list[tuple[NDArray[np.float64], int]]] = {name: [] for name in names}
        for key, candidates in layout.candidates.items():
            live = np.zeros((k.LIVE_ROWS, len(candidates.endpoints)))
            self._live[key] = live
            for row, endpoint in enumerate(candidates.endpoints):
                cells[endpoint.name].append((live, row))
        for name, seat in self.seats.items():
            seat.health.adopt(settings)
            seat.settle(cells[name], z)
        for name, seat in old.items():
            if name not in self.seats:
                seat.settle([], z)

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        """Live columns (LIVE_ROWS, n) of a model's candidates; the kernel's own, do not write."""
        return self._live[model, version]

    def may_eject(self) -> bool:
        """Whether the fleet can spare one more endpoint."""
        out = sum(seat.health.state is State.EJECTED for seat in self.seats.values())
        return out + 1 <= self._max_ejected * len(self.seats)

    def tick(self, now: float) -> None:
        """Let busy marks and ejections expire, and quiet endpoints be believed again.

        Cheap: but for once a second, only unsettled seats are touched.
        """
        if now >= self._relax_at:
            self._relax_at = now + _RELAX_EVERY_S
            for seat in self.seats.values():
                seat.relax(now)
        for seat in self.seats.values():
            if not seat.health.settled:
                seat.health.tick(now)
                seat.publish_load()
