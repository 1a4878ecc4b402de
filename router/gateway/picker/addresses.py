"""Endpoints by the addresses that a proxy knows them by: ``ip:port``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from router.config.addresses import as_envoy_writes, ip_and_port
from router.model import Fleet


class FleetAddresses:
    """Of one fleet. ``nameless``: whether some of its endpoints are known by a host name alone,
    which no proxy can be sent to."""

    def __init__(self, fleet: Fleet) -> None:
        self._by_address: dict[str, str] = {}
        self._by_host: dict[str, set[str]] = defaultdict(set)
        self._addresses: dict[str, str] = {}
        for one in fleet.endpoints:
            found = ip_and_port(one.address)
            if found is None:
                continue
            address = as_envoy_writes(one.address)
            self._by_address[address] = one.name
            self._by_host[found[0]].add(one.name)
            self._addresses[one.name] = address
        self.nameless = len(self._addresses) < len(fleet.endpoints)

    def of(self, endpoint: str) -> str:
        """``ip:port``, or ``[ipv6]:port``."""
        return self._addresses[endpoint]

    def endpoint(self, address: str) -> str:
        """The name of the endpoint at ``ip:port``; "" of none."""
        try:
            return self._by_address.get(as_envoy_writes(address.strip()), "")
        except ValueError:
            return ""

    def among(self, subset: Collection[str] | None) -> frozenset[str] | None:
        """Names of the endpoints that a proxy may be sent to: all of them, which may be None, or
        those of ``subset``, ``ip:port`` or an IP address each."""
        if subset is None:
            return frozenset(self._addresses) if self.nameless else None
        found: set[str] = set()
        for one in subset:
            address = one.strip()
            name = self.endpoint(address)
            if name:
                found.add(name)
            else:
                found |= self._by_host.get(address.strip("[]"), set())
        return frozenset(found)
