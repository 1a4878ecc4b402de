"""The table in force and the hosts that Envoy has, changed in such an order that nothing is lost.

Who comes is a host of Envoy's before a table names it; who goes is named by no table, and has
nothing under way, before it is a host no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from router.config.settings import CarbonBudget
from router.contract import Clock
from router.core.columns import Snapshot
from router.director import Dispatcher, View
from router.errors import EnvoyPlaneError
from router.model import Endpoint
from router.planes.envoy.envoy_process import EnvoyProcess
from router.planes.envoy.hosts import HostFiles
from router.planes.envoy.image import Generation, TableImage, TableTerms, key_of
from router.planes.envoy.layout import PROTOCOLS
from router.planes.envoy.names import HostNames
from router.planes.envoy.seats import EnvoyHost, Seats
from router.planes.envoy.shared_file import SharedFile

# Records of older generations were read, or overwritten, long ago.
_KEPT: Final = 64
_SNAPSHOTS: Final = 16
_LOOK_S: Final = 0.02
_KNOWN_S: Final = 10.0

_log = logging.getLogger(__name__)


class _KeptKey(NamedTuple):
    view: View
    budgets: Sequence[CarbonBudget]
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
        way: Callable[[Endpoint], str],
    ) -> None:
        """``way``: how an endpoint is reached, as of `tls.way_of`."""
        self._dispatcher = dispatcher
        self._clock = clock
        self._names = names
        self._process = process
        self._hosts = hosts
        self._terms = terms
        self._way = way
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
            self._write_hosts()
            self._install(view, self._places(view), before.generation, before.since_s)
            self._seats.keep(
                [place for place, _ in self._seats if place in self._places(view)], now
            )
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
            await self._show_hosts()
            image = self._image or image
            self._renew(image, image.view)

    async def look_up(self) -> None:
        """Ask for the host names among endpoints."""
        if await self._names.look(self._addresses()):
            self._keys = None

    async def _move(self, view: View, number: int) -> None:
        places, began = self._places(view), self._clock.monotonic()
        self._seats.admit(places, began)
        if self._file is not None:
            self._file.head.used = self._seats.used
        await self._show_hosts()
        now = self._clock.monotonic()
        self._seats.keep(places, now)
        self._install(view, places, number, now)
        took_s = self._clock.monotonic() - began
        _log.info("Envoy's endpoints", extra={"endpoints": len(places), "took_s": took_s})

    async def _show_hosts(self) -> None:
        """Until Envoy has all that have seats."""
        self._write_hosts()
        if not self._process.is_alive():
            # It reads them as it starts.
            return
        for _ in range(int(_KNOWN_S / _LOOK_S)):
            if await self._process.knows(self._hosts.versions):
                return
            await asyncio.sleep(_LOOK_S)
        raise EnvoyPlaneError(f"Envoy did not take its hosts in within {_KNOWN_S:g} s")

    def _write_hosts(self) -> None:
        try:
            self._hosts.write(place for place, _ in self._seats)
        except OSError as error:
            raise EnvoyPlaneError(f"Envoy's hosts could not be written: {error}") from error

    def _renew(self, image: TableImage, view: View) -> None:
        """Of the same generation."""
        self._install(
            view, self._places(view), image.generation.number, image.generation.since_s
        )  # fmt: skip

    def _install(
        self, view: View, places: Sequence[EnvoyHost], number: int, since_s: float
    ) -> None:
        seats = {place.name: self._seats.of(place) for place in places}
        counts = self._hosts.counts()
        generation = Generation(
            number, self._key_of(view, places), since_s, seats,
            (counts.get(PROTOCOLS[0], 0), counts.get(PROTOCOLS[1], 0)),
        )  # fmt: skip
        self._image = TableImage(self._dispatcher, view, self._terms, generation, self._seats)
        self.views[number] = view
        self.snapshots[view.snapshot.version] = view.snapshot
        while len(self.snapshots) > _SNAPSHOTS:
            del self.snapshots[next(iter(self.snapshots))]
        for old in [one for one in self.views if one <= number - _KEPT]:
            del self.views[old]

    def _places(self, view: View) -> list[EnvoyHost]:
        """Those that Envoy can be told of: it knows them apart by their addresses alone."""
        found: dict[str, EnvoyHost] = {}
        for one in view.snapshot.layout.fleet.endpoints:
            address = self._names.address(one.address)
            if address:
                self._hosts.ways[address] = self._way(one)
                found.setdefault(address, EnvoyHost(one.name, one.protocol, address))
        return list(found.values())

    def _key(self, view: View) -> int:
        kept, budgets = self._keys, self._dispatcher.budgets.budgets
        if kept is None or kept.view is not view or kept.budgets is not budgets:
            kept = self._keys = _KeptKey(view, budgets, self._key_of(view, self._places(view)))
        return kept.key

    def _key_of(self, view: View, places: Sequence[EnvoyHost]) -> int:
        return key_of(view, places, [one.name for one in self._dispatcher.budgets.budgets])

    def _addresses(self) -> list[str]:
        return [one.address for one in self._dispatcher.view.snapshot.layout.fleet.endpoints]
