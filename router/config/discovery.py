"""``discovery:`` as pydantic models: where endpoints are found that come and go, and what is taken
of each."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from router.config.endpoints import Engine, Protocol, ServedSchema
from router.config.fields import Name, NameOrEmpty, PathText, Strict, split_address
from router.config.tls import CredentialsSchema, EndpointTlsSchema

# Well-known labels of Kubernetes' nodes, the narrower first.
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
REGION_LABEL: Final = "topology.kubernetes.io/region"
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{text!r} is not a label's name, such as {ZONE_LABEL}")
    return text


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}; write a network such as 10.0.0.0/8 or fd00::/8") from None
    return text


def _nameserver(text: str) -> str:
    host, _ = split_address(text)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address with a port, such as 10.0.0.2:53"
        ) from None
    return text


Label = Annotated[str, Field(min_length=1, max_length=317), AfterValidator(_label)]
Network = Annotated[str, Field(max_length=64), AfterValidator(_network)]
DnsName = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?$", max_length=253)
]
Nameserver = Annotated[str, Field(max_length=64), AfterValidator(_nameserver)]
KubernetesName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
# A port's name is a DNS label, as the API server has it.
ServicePort = (
    Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")] | Annotated[int, Field(ge=1, le=65535)]
)
MetricsPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]*$", max_length=256)]


class FoundMetricsSchema(Strict):
    """Where a found endpoint tells its load: on its own host, over HTTP."""

    engine: Engine = Field(description="whose metric names to read")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="left out: that of its address"
    )
    path: MetricsPath = Field(default="/metrics", description="of the page")


class TemplateSchema(Strict):
    """What is taken of each endpoint that is found; where it is found says only its name, its
    address and its region."""

    protocol: Protocol = Field(default="oip", description="as of an endpoint")
    models: list[ServedSchema] = Field(min_length=1, description="what each serves")
    max_in_flight: int = Field(ge=1, le=1_000_000, description="requests at once at each, at most")
    metrics: FoundMetricsSchema | None = Field(
        default=None, description="left out: own in-flight counts, and load that answers tell"
    )
    tls: EndpointTlsSchema | None = Field(
        default=None, description="over TLS, and how; left out: as `backends` says"
    )
    credentials: CredentialsSchema | None = Field(
        default=None,
        description="the key that each gets, whoever is found; left out: as `backends` says",
    )
    emulated: bool = Field(
        default=False, description="their energy and latency are not real hardware"
    )


class DiscoveryBase(Strict):
    """What every place has where endpoints are found."""

    if TYPE_CHECKING:
        kind: str

    name: Name = Field(
        max_length=48, description="unique; names of what is found begin with it and a slash"
    )
    template: TemplateSchema = Field(description="what is taken of each")
    region: NameOrEmpty = Field(
        default="", description="of what does not say where it is; empty: that is left out"
    )
    regions: dict[Label, Name] = Field(
        default_factory=dict,
        max_length=1024,
        description="what a label says, such as us-west1-b, to a key of `regions`; a key of "
        "`regions` needs no mention",
    )
    region_labels: list[Label] = Field(
        default_factory=lambda: [ZONE_LABEL, REGION_LABEL],
        min_length=1,
        max_length=8,
        description="labels that say where it is; the first that is known counts",
    )
    networks: list[Network] = Field(
        default_factory=list,
        max_length=64,
        description="that found IP addresses must lie in, and names may not stand for others; "
        "empty: any but link-local, multicast and unspecified ones",
    )
    max_endpoints: int = Field(
        default=256, ge=1, le=10_000, description="more are left out, the last by name"
    )


class FileDiscoverySchema(DiscoveryBase):
    """A watched file, YAML or JSON: a list of endpoints, or `endpoints:` with one, as llm-d's file
    discovery has it."""

    kind: Literal["file"] = Field(description="selects this place")
    # Not `file`, as the kind: a problem of it would be told as one of every key.
    path: PathText = Field(description="of the file, relative to the configuration; 1 MiB at most")
    look_s: float = Field(default=1.0, ge=0.05, le=3600, description="between two looks at it, s")


class KubernetesDiscoverySchema(DiscoveryBase):
    """Ready endpoints of a Service (its EndpointSlices), or ready pods of an InferencePool of the
    Gateway API Inference Extension, watched. Needs the extra `kubernetes`."""

    kind: Literal["kubernetes"] = Field(description="selects this place")
    namespace: KubernetesName = Field(description="of the Service or InferencePool")
    service: KubernetesName | None = Field(default=None, description="this, or inference_pool")
    inference_pool: KubernetesName | None = Field(
        default=None, description="each port of each of its pods is an endpoint"
    )
    port: ServicePort | None = Field(
        default=None, description="of the Service, name or number; left out: the first"
    )
    nodes: bool = Field(
        default=True,
        description="read nodes' labels for region and zone; without it EndpointSlices say the "
        "zone",
    )
    kubeconfig: PathText | None = Field(
        default=None, description="relative to the configuration file; left out: inside a pod"
    )
    context: str = Field(default="", max_length=253, description="of the kubeconfig")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.service is None) == (self.inference_pool is None):
            raise ValueError("give service or inference_pool, one of them")
        if self.port is not None and self.service is None:
            raise ValueError("port is of a service; an InferencePool names its own")
        if self.context and self.kubeconfig is None:
            raise ValueError("context is of a kubeconfig; give that")
        return self


class DnsDiscoverySchema(DiscoveryBase):
    """SRV records of a name, whose targets are host names. Needs the extra `dns`."""

    kind: Literal["dns"] = Field(description="selects this place")
    record: DnsName = Field(description="such as _http._tcp.vllm.example; asked for as it stands")
    nameservers: list[Nameserver] = Field(
        default_factory=list,
        max_length=8,
        description="host:port of each, an IP address; empty: those of the host",
    )
    least_s: float = Field(
        default=5.0, ge=1, le=3600, description="a shorter TTL counts as this, s"
    )
    most_s: float = Field(default=300.0, ge=1, le=86_400, description="a longer TTL as this, s")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.region:
            raise ValueError("needs region: a record does not say where its servers are")
        if self.networks:
            raise ValueError("networks are for IP addresses, and records name hosts; drop them")
        if self.most_s < self.least_s:
            raise ValueError(f"most_s ({self.most_s:g}) is less than least_s ({self.least_s:g})")
        return self


DiscoverySchema: TypeAlias = Annotated[
    FileDiscoverySchema | KubernetesDiscoverySchema | DnsDiscoverySchema,
    Field(discriminator="kind"),
]
