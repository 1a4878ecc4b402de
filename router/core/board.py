"""The live columns of the cost kernel, and the seats (one an endpoint) that keep them true.

Everything else a decision reads is an immutable snapshot; this is the one thing that changes with
every request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from router.config.settings import HealthSettings
from router.core import kernel as k
from router.core.health import State
from router.core.layout import Layout
from router.core.outlier import Avoidance, OutlierEjection
from router.core.seat import RELAX_EVERY_S, Cell, ModelKey, Seat

# Failures so far apart are not of one trouble.
_TROUBLE_S = 5.0


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
        # Models that everybody who serves them had pushed back for, and nobody answered since.
        self._overloaded: set[str] = set()
        old = previous.seats if previous else {}
        names = [endpoint.name for endpoint in layout.fleet.endpoints]
        self.seats: Mapping[str, Seat] = {
            name: old.get(name) or Seat(name, settings) for name in names
        }
        self._servers: dict[str, list[tuple[Seat, OutlierEjection]]] = {}
        self._live: dict[tuple[str, str], NDArray[np.float64]] = {}
        self._tell_models(layout, settings)
        cells: dict[str, list[Cell]] = {name: [] for name in names}
        for key, candidates in layout.candidates.items():
            live = np.zeros((k.LIVE_ROWS, len(candidates.endpoints)))
            self._live[key] = live
            for row, endpoint in enumerate(candidates.endpoints):
                served = candidates.served[row]
                outlier = self.seats[endpoint.name].outliers[served.name, served.version]
                cells[endpoint.name].append(Cell(live, row, outlier))
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

    def is_last(self, seat: Seat) -> bool:
        """Whether it is in service for a model that nobody else is in service for."""
        return any(
            seat.serves_any_version(model) and not self._has_other(seat, model)
            for model in {name for name, _ in seat.outliers}
        )

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

    def readmit(self, seat: Seat, now: float) -> None:
        """Where requests of a model have nowhere else to go, a server that is ready comes back at
        once, however often it was out.
        """
        if seat.health.held_back and not all(self._has_other(seat, m) for m, _ in seat.outliers):
            seat.health.readmit(now)
            seat.publish_load()

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
                self._overloaded.add(model)
                _end_rests(serving)
        seat.publish_load()

    def answer(self, model: str) -> None:
        """A request was answered: where everybody had pushed back, that is over for all of them."""
        if model in self._overloaded:
            self._overloaded.remove(model)
            _end_rests([seat for seat, _ in self._servers.get(model, ()) if seat.health.busy])

    def tick(self, now: float) -> None:
        """Let marks expire, notice who is quiet, and let those that nothing was learned of for long
        be believed again. Cheap: most seats have nothing to tell, and once a second is enough.
        """
        if now >= self._relax_at:
            self._relax_at = now + RELAX_EVERY_S
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
            one.serves_any_version(model)
            for one, _ in self._servers.get(model, ())
            if one is not seat
        )

    def _may_eject(self, model: str) -> bool:
        """Whether one more may be out on unproven failures."""
        reachable = [outlier for seat, outlier in self._servers[model] if seat.health.is_there]
        out = sum(outlier.state is State.EJECTED for outlier in reachable)
        return out + 1 <= self._settings.max_ejected_fraction * len(reachable)


def _end_rests(seats: Iterable[Seat]) -> None:
    for seat in seats:
        seat.health.end_rest()
        seat.publish_load()
