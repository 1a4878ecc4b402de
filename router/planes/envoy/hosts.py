"""Whom Envoy can send to: a file for each of its clusters, which it follows (EDS by file)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.config.addresses import ip_and_port
from router.config.fields import split_address
from router.planes.envoy.seats import EnvoyHost
from router.planes.envoy.tls import way_metadata

_ASSIGNMENT: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def hosts_file(folder: Path, protocol: str) -> Path:
    """Where those of one cluster are."""
    return folder / f"hosts-{protocol}.json"


class _Told(NamedTuple):
    """``address``: of a host, ``ip:port``; ``way``: as `HostFiles.ways`; ``name``: likewise."""

    address: str
    way: str
    name: str


class HostFiles:
    """Of clusters by protocol, in ``folder``."""

    def __init__(self, folder: Path, protocols: Sequence[str]) -> None:
        self._folder = folder
        self._hosts: dict[str, list[_Told]] = {one: [] for one in protocols}
        # How each address is reached, where that is not in plaintext (`tls.Reach.way`), and what
        # requests there call it.
        self.ways: dict[str, tuple[str, str]] = {}
        # There, whoever comes and goes.
        self.stay: Sequence[EnvoyHost] = ()
        # By protocol: what Envoy says of the hosts that it has taken in, once it has these.
        self.versions: dict[str, str] = {}

    def counts(self) -> Mapping[str, int]:
        """How many there are, by protocol."""
        return {protocol: len(hosts) for protocol, hosts in self._hosts.items()}

    def write(self, places: Iterable[EnvoyHost]) -> None:
        """All that there are from now on. Raises OSError."""
        found: dict[str, set[str]] = {protocol: set() for protocol in self._hosts}
        for place in (*places, *self.stay):
            if place.protocol in found:
                found[place.protocol].add(place.address)
        for protocol, addresses in found.items():
            hosts = [_Told(one, *self.ways.get(one, ("", ""))) for one in sorted(addresses)]
            if self._hosts[protocol] != hosts or protocol not in self.versions:
                self.versions[protocol] = self._write(protocol, hosts)
                self._hosts[protocol] = hosts

    def _write(self, protocol: str, hosts: Sequence[_Told]) -> str:
        found = [_host(one) for one in hosts]
        version = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
        assignment = {
            "@type": _ASSIGNMENT,
            "cluster_name": protocol,
            "endpoints": [{"lb_endpoints": found}],
        }
        path = hosts_file(self._folder, protocol)
        written = path.with_suffix(".new")
        written.write_text(json.dumps({"version_info": version, "resources": [assignment]}))
        # Envoy looks when a file takes the place of another.
        written.replace(path)
        return version


def authority_of(address: str, is_tls: bool) -> str:
    """What a request calls the server at ``address``, the fleet's own ``host:port``: without a port
    that the scheme has anyhow (RFC 9110, 4.2.3)."""
    host, port = split_address(address)
    host = f"[{host}]" if ":" in host else host
    return host if port == (443 if is_tls else 80) else f"{host}:{port}"


def _host(told: _Told) -> dict[str, Any]:
    host, port = ip_and_port(told.address) or split_address(told.address)
    where: dict[str, Any] = {
        "address": {"socket_address": {"address": host, "port_value": port}},
    }
    if told.name:
        # Several servers may be behind one address, and be told apart by it.
        where["hostname"] = told.name
    return {"endpoint": where, **way_metadata(told.way)}
