"""What is kept of objects of the API server, and the endpoints that they come to. Pure.

Fields are those of discovery.k8s.io/v1 EndpointSlice, v1 Pod and Node, and
inference.networking.k8s.io/v1 InferencePool; what is not as these have it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from router.config.discovery import REGION_LABEL, ZONE_LABEL
from router.config.fields import join_address
from router.model import FoundEndpoint

_MAX_LABELS: Final = 64
_MAX_PORTS: Final = 8
_IP_FIRST: Final = {"IPv4": 0, "IPv6": 1}


class SliceEndpoint(NamedTuple):
    """One of a slice. ``family``: order in which those of one name count."""

    name: str
    host: str
    port: int
    node: str
    zone: str
    family: int


class PodPlace(NamedTuple):
    """A pod that is ready."""

    name: str
    host: str
    node: str
    labels: Mapping[str, str]


class PoolSpec(NamedTuple):
    """``selector``: of its pods, as a query has it; ``ports``: of each, one server behind each."""

    selector: str
    ports: tuple[int, ...]


Labels = Mapping[str, str]


def slice_endpoints(
    port: str,
) -> Callable[[Mapping[str, Any]], tuple[SliceEndpoint, ...] | None]:
    """What keeps the ready endpoints of a slice; ``port``: name or number, "" for the first."""

    def keep(item: Mapping[str, Any]) -> tuple[SliceEndpoint, ...] | None:
        number = _port(_listed(item.get("ports")), port)
        family = _IP_FIRST.get(str(item.get("addressType")), 2)
        if number is None:
            return None
        found = []
        for one in _listed(item.get("endpoints")):
            conditions, addresses = _mapped(one.get("conditions")), one.get("addresses")
            # Unknown counts as ready, as the API says.
            if conditions.get("ready", True) is False or conditions.get("terminating") is True:
                continue
            if not isinstance(addresses, list) or not addresses:
                continue
            host = _text(addresses[0])
            name = _text(_mapped(one.get("targetRef")).get("name")) or host
            node, zone = _text(one.get("nodeName")), _text(one.get("zone"))
            found.append(SliceEndpoint(name, host, number, node, zone, family))
        return tuple(found)

    return keep


def keep_pool(item: Mapping[str, Any]) -> PoolSpec | None:
    """An InferencePool, None where it selects nothing."""
    spec = _mapped(item.get("spec"))
    wanted = _mapped(_mapped(spec.get("selector")).get("matchLabels"))
    listed = (_number(one.get("number")) for one in _listed(spec.get("targetPorts")))
    ports = tuple(one for one in listed if one)[:_MAX_PORTS]
    if not wanted or not ports:
        return None
    selector = ",".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    return PoolSpec(selector, ports)


def keep_pod(item: Mapping[str, Any]) -> PodPlace | None:
    """A pod that is ready and stays."""
    about, status = _mapped(item.get("metadata")), _mapped(item.get("status"))
    ready = any(
        one.get("type") == "Ready" and one.get("status") == "True"
        for one in _listed(status.get("conditions"))
    )
    host = _text(status.get("podIP"))
    if not ready or not host or about.get("deletionTimestamp"):
        return None
    node = _text(_mapped(item.get("spec")).get("nodeName"))
    return PodPlace(_text(about.get("name")), host, node, _labels(item))


def keep_node(item: Mapping[str, Any]) -> Labels:
    """Where a node is."""
    labels = _labels(item)
    return {key: labels[key] for key in (ZONE_LABEL, REGION_LABEL) if key in labels}


def of_slices(
    slices: Iterable[tuple[SliceEndpoint, ...]], nodes: Mapping[str, Labels]
) -> list[FoundEndpoint]:
    """Endpoints of a service: each pod once, though two slices may have it."""
    found: dict[str, SliceEndpoint] = {}
    for one in (one for listed in slices for one in listed):
        before = found.get(one.name)
        if before is None or (one.family, one.host) < (before.family, before.host):
            found[one.name] = one
    return [
        FoundEndpoint(
            one.name,
            join_address(one.host, one.port),
            "",
            {**nodes.get(one.node, {}), **({ZONE_LABEL: one.zone} if one.zone else {})},
        )
        for one in found.values()
    ]


def of_pods(
    pods: Iterable[PodPlace], ports: tuple[int, ...], nodes: Mapping[str, Labels]
) -> list[FoundEndpoint]:
    """Endpoints of a pool: one for each port of each pod."""
    return [
        FoundEndpoint(
            pod.name if len(ports) == 1 else f"{pod.name}:{port}",
            join_address(pod.host, port),
            "",
            {**pod.labels, **nodes.get(pod.node, {})},
        )
        for pod in pods
        for port in ports
    ]


def _port(ports: list[Mapping[str, Any]], wanted: str) -> int | None:
    for one in ports:
        number = _number(one.get("port"))
        if number and wanted in ("", str(number), one.get("name")):
            return number
    return None


def _number(port: Any) -> int:
    """0 of what is none."""
    is_one = isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536
    return int(port) if is_one else 0


def _labels(item: Mapping[str, Any]) -> dict[str, str]:
    labels = _mapped(_mapped(item.get("metadata")).get("labels"))
    pairs = [(key, value) for key, value in labels.items() if isinstance(value, str)]
    # Where it is counts, whatever else there is.
    pairs.sort(key=lambda pair: pair[0] not in (ZONE_LABEL, REGION_LABEL))
    return dict(pairs[:_MAX_LABELS])


def _mapped(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
