"""Closes the channels to servers that a reload took away, once nothing runs there any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from router.app.runtime import Runtime
from router.core.seat import Seat
from router.model import Fleet

_CHECK_S = 0.1

_log = logging.getLogger(__name__)


class Channels(Protocol):
    """The transport, as far as it is needed here."""

    async def prune(self, addresses: Collection[str]) -> None:
        """Close the channels to every address that is not among ``addresses``, at once."""
        ...


class Retirement:
    """One a process. Requests that were decided before a reload finish on the servers they chose;
    those get as long as requests get at a shutdown."""

    def __init__(self, channels: Channels, runtime: Runtime) -> None:
        self._channels = channels
        self._runtime = runtime
        self._leaving: list[frozenset[str]] = []

    async def see_off(self, before: Fleet, seats: Mapping[str, Seat]) -> None:
        """Wait for the requests on what is no longer in the fleet, then close its channels.

        ``before``, ``seats``: the fleet before the reload and its seats. Never raises.
        """
        stay = self._addresses()
        gone = {e.address: seats[e.name] for e in before.endpoints if e.address not in stay}
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
        try:
            # Another reload may have brought an address back, or taken more away.
            await self._channels.prune(self._addresses().union(*self._leaving))
        except Exception:
            _log.exception("channels to removed endpoints were not closed")

    def _addresses(self) -> frozenset[str]:
        return frozenset(endpoint.address for endpoint in self._runtime.config.fleet.endpoints)
