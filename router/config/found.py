"""What discovery found -> endpoints of the fleet: bounded before it steers anything."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from router.config.discovery_settings import DiscoverySettings
from router.config.fields import is_name, join_address, split_address
from router.config.settings import Config
from router.model import Endpoint, Fleet, FoundEndpoint

MAX_NAME: Final = 128
MAX_ADDRESS: Final = 262
MAX_LABEL: Final = 128
# Nobody looks at more of them, whatever a place says.
MAX_FOUND: Final = 20_000
# What resolvers take for an IPv4 address, as inet_aton does: 2852039166, 0xa9.0xfea9fe.
_NUMERIC_HOST = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")


class LeftOut(NamedTuple):
    """One that was found and is not routed to. ``name``: as far as it can be shown."""

    place: str
    name: str
    why: str


class Merged(NamedTuple):
    """``config``: with all that was found and may steer; ``left_out``: the rest."""

    config: Config
    left_out: tuple[LeftOut, ...]


class _Unusable(Exception):
    """Why one is left out."""


def merge(base: Config, found: Mapping[str, Sequence[FoundEndpoint]]) -> Merged:
    """``base`` with what each place found, by its name; whoever stands in the file comes first.

    The order of what a place says changes nothing. An address counts once, however it is written.
    """
    endpoints = list(base.fleet.endpoints)
    names = {one.name for one in endpoints}
    addresses = {join_address(*_split(one.address)) for one in endpoints}
    access = dict(base.settings.access)
    left_out: list[LeftOut] = []
    for place in base.settings.discovery:
        room = place.max_endpoints
        told = sorted(found.get(place.name, ()), key=lambda one: (one.name, one.address))
        for one in told[:MAX_FOUND]:
            try:
                endpoint = _endpoint(one, place, base.fleet)
                if endpoint.name in names:
                    raise _Unusable("another has this name")
                if endpoint.address in addresses:
                    raise _Unusable(f"another has the address {endpoint.address}")
                if not room:
                    raise _Unusable(f"there are {place.max_endpoints} already (max_endpoints)")
            except _Unusable as unusable:
                left_out.append(LeftOut(place.name, _shown(one.name), str(unusable)))
                continue
            room -= 1
            names.add(endpoint.name)
            addresses.add(endpoint.address)
            endpoints.append(endpoint)
            if place.access.tls is not None or place.access.credentials is not None:
                access[endpoint.address] = place.access
        why = f"the place tells of over {MAX_FOUND}"
        left_out += (LeftOut(place.name, _shown(one.name), why) for one in told[MAX_FOUND:])
    fleet = replace(base.fleet, endpoints=tuple(endpoints))
    settings = replace(base.settings, access=access)
    return Merged(replace(base, fleet=fleet, settings=settings), tuple(left_out))


def with_stand_ins(fleet: Fleet, places: Sequence[DiscoverySettings]) -> Fleet:
    """``fleet`` with one endpoint of each place in each region, any of which what is found may
    name: what can be said of them before any was found."""
    stand_ins = (
        replace(place.template, name=f"{place.name}/*", region=region)
        for place in places
        for region in fleet.regions
    )
    return replace(fleet, endpoints=(*fleet.endpoints, *stand_ins))


def _endpoint(one: FoundEndpoint, place: DiscoverySettings, fleet: Fleet) -> Endpoint:
    """Raises _Unusable."""
    name = f"{place.name}/{one.name}"
    if len(name) > MAX_NAME or not is_name(one.name):
        raise _Unusable(
            f"its name is no usable one: at most {MAX_NAME} ASCII letters, digits and . _ : @ / + -"
        )
    host, port = _address(one.address, place)
    return replace(
        place.template,
        name=name,
        region=_region(one, place, fleet),
        address=join_address(host, port),
        metrics_url=_metrics_url(host, port, place),
    )


def _address(address: str, place: DiscoverySettings) -> tuple[str, int]:
    if len(address) > MAX_ADDRESS:
        raise _Unusable("its address is too long")
    try:
        host, port = _split(address)
    except ValueError:
        raise _Unusable("its address is not host:port") from None
    if port == 0:
        raise _Unusable("its port is 0")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if place.networks:
            raise _Unusable("its address is a name, not an IP address of networks") from None
        if _NUMERIC_HOST.fullmatch(host):
            raise _Unusable("its address is neither a name nor written as an IP address") from None
        return host, port
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        raise _Unusable(f"{ip} is no address of a server")
    if place.networks and not any(ip in network for network in place.networks):
        raise _Unusable(f"{ip} lies in none of networks")
    return host, port


def _split(address: str) -> tuple[str, int]:
    """Host and port, the host as all write it: in lower case, and an IPv4 address that is mapped
    into IPv6 as that one. Raises ValueError."""
    host, port = split_address(address)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host.lower(), port
    return str((isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped) or ip), port


def _region(one: FoundEndpoint, place: DiscoverySettings, fleet: Fleet) -> str:
    said = [one.region, *(one.labels.get(label, "") for label in place.region_labels)]
    for value in said:
        region = place.regions.get(value, value)
        if region in fleet.regions:
            return region
    if place.region:
        return place.region
    told = ", ".join(_shown(value) for value in said if value)
    raise _Unusable(
        f"it says {told}, which regions maps to none" if told else "it does not say where it is"
    )


def _metrics_url(host: str, port: int, place: DiscoverySettings) -> str:
    if not place.metrics_path:
        return ""
    return f"http://{join_address(host, place.metrics_port or port)}{place.metrics_path}"


def _shown(text: str) -> str:
    return repr(text[:MAX_LABEL])
