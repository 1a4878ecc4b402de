"""Host names of endpoints as the IP addresses that Envoy sends to: one each, for as long as the
name stands for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from router.backends.names import Resolve
from router.config.addresses import as_envoy_writes, ip_and_port
from router.config.fields import join_address, split_address

EVERY_S: Final = 3.0
_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


class HostNames:
    """``resolve``: how a name is asked for."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._found: dict[str, str] = {}

    def address(self, address: str) -> str:
        """``ip:port`` as Envoy writes it; "" of a name that was never resolved."""
        if ip_and_port(address) is not None:
            return as_envoy_writes(address)
        host, port = split_address(address)
        ip = self._found.get(host)
        return as_envoy_writes(join_address(ip, port)) if ip else ""

    async def look(self, addresses: Collection[str]) -> bool:
        """Ask for the names among ``addresses`` once; whether one of them is elsewhere now. One
        that cannot be resolved stays where it was."""
        names = {split_address(one)[0] for one in addresses if ip_and_port(one) is None}
        for gone in self._found.keys() - names:
            del self._found[gone]
        before = dict(self._found)
        await asyncio.gather(*map(self._ask, sorted(names)))
        return before != self._found

    async def _ask(self, name: str) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = list(await self._resolve(name))
        except (OSError, UnicodeError) as error:
            if name not in self._found:
                _log.warning("an endpoint's name is not known: %s: %s", name, error)
            return
        # Of many it is the same as before while it is among them.
        if found and self._found.get(name) not in found:
            self._found[name] = found[0]
            _log.info("an endpoint's name stands for", extra={"host": name, "ip": found[0]})
