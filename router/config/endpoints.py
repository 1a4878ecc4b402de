"""``endpoints:`` as pydantic models: addressable model servers, and what they serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from router.config.fields import Address, Name, NameOrEmpty, Strict, Url, split_remote
from router.config.meters import MeterSchema
from router.config.tls import CredentialsSchema, EndpointTlsSchema

Engine = Literal["triton", "vllm", "nim", "sglang", "llamacpp", "trtllm", "tgi"]
Protocol = Literal["oip", "openai"]


class ServedSchema(Strict):
    """One model on one endpoint."""

    name: Name = Field(description="as callers name it")
    profile: Name = Field(description="energy and latency, shipped or from `profiles`")
    version: NameOrEmpty = Field(default="", description="empty: any version")
    context_tokens: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="input plus output limit; a shorter one that the server states holds instead; "
        "left out: what the server states, else none",
    )
    prefix_cache_tokens: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="tokens of prompts that this server keeps for others that begin alike; left "
        "out: as the profile says, 0 in those shipped",
    )


class MetricsSchema(Strict):
    """Where an endpoint tells its load."""

    url: Url = Field(description="Prometheus text, such as http://127.0.0.1:8002/metrics")
    engine: Engine = Field(description="whose metric names to read")


class EndpointSchema(Strict):
    """One addressable model server."""

    name: Name = Field(description="unique")
    region: Name = Field(description="a key of `regions`")
    address: Address = Field(
        description="host:port; https:// or grpcs:// before it: over TLS, http:// or grpc://: not"
    )
    protocol: Protocol = Field(
        default="oip",
        description="spoken there: gRPC Open Inference Protocol v2, or OpenAI's and Anthropic's "
        "HTTP",
    )
    models: list[ServedSchema] = Field(min_length=1, description="what it serves")
    max_in_flight: int = Field(ge=1, le=1_000_000, description="requests at once, at most")
    metrics: MetricsSchema | None = Field(
        default=None, description="left out: own in-flight counts, and load that answers tell"
    )
    meter: MeterSchema | None = Field(
        default=None, description="what counts its joules; left out: nothing does"
    )
    tls: EndpointTlsSchema | None = Field(
        default=None, description="over TLS, and how; left out: as `backends` and address say"
    )
    credentials: CredentialsSchema | None = Field(
        default=None, description="the key that it gets; left out: as `backends` says"
    )
    emulated: bool = Field(
        default=False, description="its energy and latency are not real hardware"
    )

    @property
    def host_port(self) -> str:
        """Its address without a scheme."""
        return split_remote(self.address)[1]

    def is_secure(self, by_default: bool) -> bool:
        """Whether it is reached over TLS. ``by_default``: where neither key nor address says."""
        scheme = split_remote(self.address)[0]
        if scheme:
            return scheme in ("https", "grpcs")
        return by_default or self.tls is not None
