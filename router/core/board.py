"""The live columns of the cost kernel, and the seats (one an endpoint) that keep them true.

Everything else a decision reads is an immutable snapshot; this is the one thing that changes with
every request. A seat outlives snapshots and reloads, so a lease always gives back to the right
endpoint.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel as k
from router.core.health import Health, State
from router.core.latency import RatioTracker, WaitTracker
from router.core.layout import Layout


class Factors(NamedTuple):
    """How wrong the latency model is, at the policy's quantile: factors, and a delay of TTFT."""

    ttft: float
    tpot: float
    delay_ms: float


class Seat:
    """Live state of one endpoint: requests in flight, health, latency error, turns."""

    __slots__ = (
        "_caps", "_cells", "_factors", "_others", "_peer_cap", "_shown", "_z",
        "health", "in_flight", "name", "peak", "peers", "tpot_ratio", "turns", "wait",
    )  # fmt: skip

    def __init__(self, name: str, health: HealthSettings) -> None:
        self.name = name
        self.health = Health(health)
        self.wait = WaitTracker()
        self.tpot_ratio = RatioTracker()
        self.in_flight = 0
        self.turns = 0
        self.peak = 0
        self.peers = 0
        self._peer_cap = math.inf
        self._shown: Callable[[int, float], None] | None = None
        self._others = 0.0
        self._z = 0.0
        self._factors = Factors(1.0, 1.0, 0.0)
        self._caps: list[float] = []
        self._cells: list[tuple[NDArray[np.float64], int]] = []

    @property
    def batch(self) -> float:
        """Requests on the endpoint, as far as this gateway knows: of this process, of the other
        workers, and foreign ones."""
        return self.in_flight + self.peers + self._others

    @property
    def factors(self) -> Factors:
        """The latency model's errors at the policy's quantile, as last published."""
        return self._factors

    def take(self, batch_cap: float) -> None:
        """One more request; ``batch_cap`` is the concurrency that its own budget tolerates."""
        self.in_flight += 1
        self.turns += 1
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
        """Requests that other gateways or callers have there (0 when nobody says)."""
        self._others = others
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
        eligible = 1.0 if self.health.admits(self.in_flight) else 0.0
        for live, row in self._cells:
            live[k.BATCH, row] = batch
            live[k.BATCH_CAP, row] = cap
            live[k.TURNS, row] = self.turns
            live[k.ELIGIBLE, row] = eligible

    def publish_latency(self) -> None:
        """Write the model's errors at the policy's quantile into every model's live columns."""
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
        self._z = z
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
                seat.show_to(None)
                seat.settle([], z)

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        """Live columns (LIVE_ROWS, n) of a model's candidates; the kernel's own, do not write."""
        return self._live[model, version]

    def may_eject(self) -> bool:
        """Whether the fleet can spare one more endpoint."""
        out = sum(seat.health.state is State.EJECTED for seat in self.seats.values())
        return out + 1 <= self._max_ejected * len(self.seats)

    def tick(self, now: float) -> None:
        """Let busy marks and ejections expire. Cheap: only unsettled seats are touched."""
        for seat in self.seats.values():
            if not seat.health.settled:
                seat.health.tick(now)
                seat.publish_load()
