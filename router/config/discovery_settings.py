"""``discovery:`` as values: places where endpoints are found, and what is taken of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from router.model import Endpoint

if TYPE_CHECKING:
    from router.config.settings import EndpointAccess


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A watched file. ``look_s``: between two looks at it."""

    file: Path
    look_s: float

    def __str__(self) -> str:
        return f"file {self.file}, looked at every {self.look_s:g} s"


@dataclass(frozen=True, slots=True)
class KubernetesPlace:
    """EndpointSlices of ``service``, or pods of ``inference_pool``: one of them, the other "".

    ``port``: of the service, by name or number, "" for its first. ``nodes``: whether nodes say
    where they are. ``kubeconfig``: None inside a pod; ``context``: "" for the file's current one.
    """

    namespace: str
    service: str
    inference_pool: str
    port: str
    nodes: bool
    kubeconfig: Path | None
    context: str

    def __str__(self) -> str:
        what = f"Service {self.service}" if self.service else f"InferencePool {self.inference_pool}"
        who = f"by {self.kubeconfig}" if self.kubeconfig else "as the pod's service account"
        where = "zone and region of nodes" if self.nodes else "zone of EndpointSlices alone"
        return f"watches Kubernetes {what} in {self.namespace} {who}, with {where}"


@dataclass(frozen=True, slots=True)
class DnsPlace:
    """SRV records of ``record``. ``nameservers``: each ``host:port``, none for those of the host;
    an answer counts for its TTL, from ``least_s`` to ``most_s``."""

    record: str
    nameservers: tuple[str, ...]
    least_s: float
    most_s: float

    def __str__(self) -> str:
        by = ", ".join(self.nameservers) or "the host's nameservers"
        ttl = f"{self.least_s:g} to {self.most_s:g} s"
        return f"SRV records of {self.record} by {by}, again after their TTL, {ttl}"


Place: TypeAlias = FilePlace | KubernetesPlace | DnsPlace


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """One place. ``template``: an endpoint without name, region and address; ``metrics_port``: 0
    for that of the address, ``metrics_path``: "" where no page is read; ``access``: how each is
    reached. ``region``: of what does not say, "" where that is left out; ``regions``: what
    ``region_labels`` say, to a region.
    """

    name: str
    place: Place
    template: Endpoint
    access: EndpointAccess
    metrics_port: int
    metrics_path: str
    region: str
    regions: Mapping[str, str]
    region_labels: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    max_endpoints: int
