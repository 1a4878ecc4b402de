"""The table in force and the hosts that Envoy has, changed in such an order that nothing is lost.

Who comes is a host of Envoy's before a table names it; who goes is named by no table, and has
nothing under way, before it is a host no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from router.config.settings import CarbonBudget
from router.contract import Clock
from router.core.columns import Snapshot
from router.director import Dispatcher, View
from router.errors import EnvoyPlaneError
from router.model import Endpoint
from router.planes.envoy.envoy_process import EnvoyProcess
from router.planes.envoy.hosts import HostFiles, authority_of
from router.planes.envoy.image import Generation, TableImage, TableTerms, key_of
from router.planes.envoy.layout import PROTOCOLS
from router.planes.envoy.names import HostNames
from router.planes.envoy.seats import EnvoyHost, Seats
from router.planes.envoy.shared_file import SharedFile
from router.planes.envoy.tls import Reach

# Records of older generations were read, or overwritten, long ago.
_KEPT: Final = 64
_SNAPSHOTS: Final = 16
_LOOK_S: Final = 0.02
_KNOWN_S: Final = 10.0

_log = logging.getLogger(__name__)


class _Reached(NamedTuple):
    """``without``: names of those that it cannot reach. ``ways``: by address, and the name that a
    request has for the host there; ``keyed``: likewise, the fleet's own addresses of those that are
    sent a key."""

    places: list[EnvoyHost]
    ways: dict[str, tuple[Reach, str]]
    without: set[str]
    keyed: dict[str, str]


class _KeptKey(NamedTuple):
    view: View
    budgets: Sequence[CarbonBudget]
    reached: _Reached
    key: int


class Generations:
    """Of one plane. ``views``: of the last generations, by number, the newest of each."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: Clock,
        names: HostNames,
        process: EnvoyProcess,
        hosts: HostFiles,
        terms: TableTerms,
        reach: Callable[[Endpoint], Reach | None],
    ) -> None:
        """``reach``: how an endpoint is reached, None where it is not."""
        self._dispatcher = dispatcher
        self._clock = clock
        self._names = names
        self._process = process
        self._hosts = hosts
        self._terms = terms
        self._reach = reach
        self._file: SharedFile | None = None
        self._image: TableImage | None = None
        self._keys: _KeptKey | None = None
        self.views: dict[int, View] = {}
        # The last ones, by version.
        self.snapshots: dict[int, Snapshot] = {}

    async def begin(self, file: SharedFile, longest_s: float) -> None:
        """Lay out the first table in ``file``, on from where that is: the hosts of an Envoy that
        runs change with it. Raises EnvoyPlaneError."""
        self._seats = Seats(file.head.seats, longest_s)
        self._file, before = file, file.table
        await self._names.look(self._addresses())
        now = self._clock.monotonic()
        if before is not None:
            self._seats.restore(file.places(), file.head.used, now)
        view = self._dispatcher.view
        if before is not None and before.rows == self._key(view):
            # What was decided by the process before this one is of the same generation.
            reached = self._reached(view)
            self._write_hosts(reached)
            self._install(view, reached, before.generation, before.since_s)
            places = frozenset(reached.places)
            self._seats.keep([place for place, _ in self._seats if place in places], now)
        else:
            await self._move(view, before.generation + 1 if before is not None else 1)

    def image(self) -> TableImage:
        """The table of this moment, but for what `TableImage.update` writes."""
        view, image = self._dispatcher.view, self._image
        if image is None:
            raise EnvoyPlaneError("there is no table yet")
        is_same = image.view is view and image.budgets is self._dispatcher.budgets.budgets
        if not is_same and self._key(view) == image.generation.key:
            # Of the same endpoints under the same policy: carbon data alone are others.
            self._renew(image, view)
        return self._image or image

    async def follow(self) -> None:
        """Put in force whoever came or went since the last time. Raises EnvoyPlaneError, and goes
        on as before."""
        image, file, view = self._image, self._file, self._dispatcher.view
        if image is None or file is None:
            return
        if self._key(view) != image.generation.key:
            await self._move(view, image.generation.number + 1)
        elif self._seats.retire(lambda seat: file.seats[seat].in_flight, self._clock.monotonic()):
            await self._show_hosts(self._reached(view))
            image = self._image or image
            self._renew(image, image.view)

    async def look_up(self) -> None:
        """Ask for the host names among endpoints."""
        if await self._names.look(self._addresses()):
            self._keys = None

    async def _move(self, view: View, number: int) -> None:
        reached, began = self._reached(view), self._clock.monotonic()
        places = reached.places
        self._seats.admit(places, began)
        if self._file is not None:
            self._file.head.used = self._seats.used
        await self._show_hosts(reached)
        now = self._clock.monotonic()
        self._seats.keep(places, now)
        self._install(view, reached, number, now)
        took_s = self._clock.monotonic() - began
        _log.info("Envoy's endpoints", extra={"endpoints": len(places), "took_s": took_s})

    async def _show_hosts(self, reached: _Reached) -> None:
        """Until Envoy has all that have seats."""
        self._write_hosts(reached)
        if not self._process.is_alive():
            # It reads them as it starts.
            return
        for _ in range(int(_KNOWN_S / _LOOK_S)):
            if await self._process.knows(self._hosts.versions):
                return
            await asyncio.sleep(_LOOK_S)
        raise EnvoyPlaneError(f"Envoy did not take its hosts in within {_KNOWN_S:g} s")

    def _write_hosts(self, reached: _Reached) -> None:
        self._hosts.ways |= {at: (reach.way, name) for at, (reach, name) in reached.ways.items()}
        try:
            self._hosts.write(place for place, _ in self._seats)
        except OSError as error:
            raise EnvoyPlaneError(f"Envoy's hosts could not be written: {error}") from error

    def _renew(self, image: TableImage, view: View) -> None:
        """Of the same generation."""
        generation = image.generation
        self._install(view, self._reached(view), generation.number, generation.since_s)

    def _install(self, view: View, reached: _Reached, number: int, since_s: float) -> None:
        seats = {place.name: self._seats.of(place) for place in reached.places}
        counts = self._hosts.counts()
        generation = Generation(
            number, self._key_of(view, reached), since_s, seats,
            (counts.get(PROTOCOLS[0], 0), counts.get(PROTOCOLS[1], 0)),
            frozenset(reached.without),
        )  # fmt: skip
        self._image = TableImage(self._dispatcher, view, self._terms, generation, self._seats)
        self.views[number] = view
        self.snapshots[view.snapshot.version] = view.snapshot
        while len(self.snapshots) > _SNAPSHOTS:
            del self.snapshots[next(iter(self.snapshots))]
        for old in [one for one in self.views if one <= number - _KEPT]:
            del self.views[old]

    def _reached(self, view: View) -> _Reached:
        """Whom Envoy can be told of."""
        found = _Reached([], {}, set(), {})
        for one in view.snapshot.layout.fleet.endpoints:
            address, reach = self._names.address(one.address), self._reach(one)
            name = one.address if reach is None else authority_of(one.address, bool(reach.way))
            # A host of Envoy's is reached in one way and called by one name, whichever endpoint
            # there is meant.
            if reach is None or found.ways.get(address, (reach, name)) != (reach, name):
                found.without.add(one.name)
            elif address:
                found.ways[address] = reach, name
                found.places.append(EnvoyHost(one.name, one.protocol, address))
                if reach.credentials is not None:
                    found.keyed[address] = one.address
        return found

    def addresses(self) -> Mapping[str, str]:
        """Of those that are sent a key: as Envoy has them, and as the fleet does."""
        return self._kept(self._dispatcher.view).reached.keyed

    def _key(self, view: View) -> int:
        return self._kept(view).key

    def _kept(self, view: View) -> _KeptKey:
        kept, budgets = self._keys, self._dispatcher.budgets.budgets
        if kept is None or kept.view is not view or kept.budgets is not budgets:
            reached = self._reached(view)
            kept = _KeptKey(view, budgets, reached, self._key_of(view, reached))
            self._keys = kept
        return kept

    def _key_of(self, view: View, reached: _Reached) -> int:
        places = [(place, *_told(reached.ways[place.address])) for place in reached.places]
        return key_of(view, places, [one.name for one in self._dispatcher.budgets.budgets])

    def _addresses(self) -> list[str]:
        return [one.address for one in self._dispatcher.view.snapshot.layout.fleet.endpoints]


def _told(way: tuple[Reach, str]) -> tuple[str, str]:
    return way[0].way, way[1]
