"""Closes the channels to servers that a reload took away, once nothing runs there any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TypeAlias

from router.app.runtime import Runtime
from router.contract import Upstream
from router.core.seat import Seat
from router.model import Endpoint, Fleet

_CHECK_S = 0.1

# Protocol and address.
_Place: TypeAlias = tuple[str, str]

_log = logging.getLogger(__name__)


class Retirement:
    """One a process. Requests that were decided before a reload finish on the servers they chose;
    those get as long as requests get at a shutdown."""

    def __init__(self, upstreams: Mapping[str, Upstream], runtime: Runtime) -> None:
        """``upstreams``: by protocol."""
        self._upstreams = upstreams
        self._runtime = runtime
        self._leaving: list[frozenset[_Place]] = []

    async def see_off(self, before: Fleet, seats: Mapping[str, Seat]) -> None:
        """Wait for the requests on what is no longer in the fleet, then close its channels.

        ``before``, ``seats``: the fleet before the reload and its seats. Never raises.
        """
        stay = _places(self._runtime.config.fleet)
        gone = {_place(e): seats[e.name] for e in before.endpoints if _place(e) not in stay}
        leaving = frozenset(gone)
        self._leaving.append(leaving)
        try:
            async with asyncio.timeout(self._runtime.config.settings.server.drain_s):
                while any(seat.in_flight for seat in gone.values()):
                    await asyncio.sleep(_CHECK_S)
        except TimeoutError:
            _log.warning("requests on removed endpoints are cut off: they took too long")
        finally:
            self._leaving.remove(leaving)
        for protocol, upstream in self._upstreams.items():
            # Another reload may have brought an address back, or taken more away.
            kept = _places(self._runtime.config.fleet).union(*self._leaving)
            try:
                await upstream.backend.prune({place[1] for place in kept if place[0] == protocol})
            except Exception:
                _log.exception("channels to removed endpoints were not closed")


def _place(endpoint: Endpoint) -> _Place:
    return endpoint.protocol, endpoint.address


def _places(fleet: Fleet) -> frozenset[_Place]:
    return frozenset(map(_place, fleet.endpoints))
