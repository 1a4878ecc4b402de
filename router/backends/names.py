"""Follows the host names of endpoints when they move to other IP addresses.

gRPC asks for a name when it connects, and then stays with the server as long as that lives. So
names are asked for every few seconds here, and whoever holds the connections is told of a move.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeAlias

from router.contract import Backend, Clock

_EVERY_S: Final = 3.0
_NAMES_PER_S: Final = 100.0
_TIMEOUT_S: Final = 5.0
# Of a name that stands for many servers, some resolvers tell other ones each time.
_SETTLE_S: Final = 30.0
_THREADS: Final = 4

_log = logging.getLogger(__name__)

# Host name -> its IP addresses in order of preference; raises OSError.
Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]


class _Known(NamedTuple):
    hosts: tuple[str, ...]
    since: float


class NameWatch:
    """One a process. ``resolve``: how a name is asked for."""

    def __init__(self, resolve: Resolve, backends: Collection[Backend], clock: Clock) -> None:
        self._resolve = resolve
        self._backends = backends
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def run(self, addresses: Callable[[], Collection[str]]) -> None:
        """Follow the names among ``addresses``, each ``host:port``, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                names = [one for one in addresses() if is_name(one)]
                for address, hosts in await self.look(names):
                    _log.info("endpoint moved", extra={"address": address, "hosts": list(hosts)})
                    for backend in self._backends:
                        group.create_task(backend.redirect(address, hosts), name="redirect")
                await asyncio.sleep(max(_EVERY_S, len(names) / _NAMES_PER_S))

    async def look(self, addresses: Collection[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Ask for every name once; those that have moved, with where they are now.

        A name that cannot be resolved has not moved.
        """
        for address in self._known.keys() - set(addresses):
            del self._known[address]
        hosts = {address.rpartition(":")[0] for address in addresses}
        answers = dict(zip(hosts, await asyncio.gather(*map(self._ask, hosts)), strict=True))
        now = self._clock.monotonic()
        moves = []
        for address in addresses:
            found = answers[address.rpartition(":")[0]]
            known = self._known.get(address)
            if not found:
                continue
            if known is None:
                self._known[address] = _Known(found, now)
            elif has_moved(known.hosts, found, now - known.since):
                self._known[address] = _Known(found, now)
                moves.append((address, found))
        return moves

    async def _ask(self, host: str) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return tuple(await self._resolve(host))
        except (OSError, UnicodeError):
            return ()


def is_name(address: str) -> bool:
    """Whether ``host:port`` has a name in it, which may move, rather than an IP address."""
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return True
    return False


def has_moved(known: Sequence[str], found: Sequence[str], since_s: float) -> bool:
    """Whether connections to ``known`` are to be made anew, ``since_s`` after the last time.

    At once when none of them is left; when some are, only now and then: which one is connected to
    is not known, and it may be one that stays. Additions are no reason.
    """
    left = set(known) & set(found)
    return not left or (len(left) < len(set(known)) and since_s >= _SETTLE_S)


class SystemResolver:
    """The host's own resolver, in threads of its own: one that hangs holds nothing else up."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "names")

    async def __call__(self, host: str) -> Sequence[str]:
        """Raises OSError when there is no answer."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _lookup, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Ask for nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]
