"""Energy and latency profiles: the schema of ``router/data/profiles.yaml`` and of `profiles:`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from router.config.fields import Name, Strict, Text
from router.model import Profile, Provenance, TaskProfile, TokenProfile

ProvenanceName = Literal["measured", "estimated", "emulated"]

_WATTS = 1_000_000
_MS = 3_600_000


class TokenProfileSchema(Strict):
    """A language model under continuous batching; see ``router.model.TokenProfile``."""

    kind: Literal["token"] = Field(description="selects this kind")
    idle_w: float = Field(ge=0, le=_WATTS, description="GPU draw of a loaded, idle replica, W")
    base_w: float = Field(ge=0.01, le=_WATTS, description="power at 0 tokens/s while running, W")
    w_per_token_s: float = Field(ge=0, le=1000, description="W per output token/s")
    tpot_base_ms: float = Field(
        ge=0.001, le=_MS, description="time per output token at batch 0, ms"
    )
    tpot_ms_per_sequence: float = Field(ge=0, le=_MS, description="added by each sequence, ms")
    prefill_base_ms: float = Field(ge=0, le=_MS, description="of any prompt, ms")
    prefill_ms_per_token: float = Field(ge=0, le=_MS, description="added by each input token, ms")
    max_batch: int = Field(ge=1, le=100_000, description="sequences that run at once; more queue")
    target_batch: int = Field(ge=1, le=100_000, description="load that prices long-run energy")
    host_fraction: float = Field(ge=0, le=5, description="CPU and DRAM over GPU energy")
    provenance: ProvenanceName = Field(
        default="estimated", description="how the figures came to be"
    )
    source: Text = Field(default="operator", description="where the figures come from")

    @model_validator(mode="after")
    def _consistent(self) -> TokenProfileSchema:
        if self.target_batch > self.max_batch:
            raise ValueError(
                f"target_batch ({self.target_batch}) must not exceed max_batch ({self.max_batch})"
            )
        if self.idle_w > self.base_w:
            raise ValueError(
                f"idle_w ({self.idle_w:g}) must not exceed base_w ({self.base_w:g}): a running "
                "replica draws at least what an idle one does"
            )
        return self

    def build(self, name: str) -> TokenProfile:
        """The profile as the core reads it."""
        fields = self.model_dump(exclude={"kind", "provenance"})
        return TokenProfile(name=name, provenance=Provenance(self.provenance), **fields)


class TaskProfileSchema(Strict):
    """Any other backend: energy and time per request; see ``router.model.TaskProfile``."""

    kind: Literal["task"] = Field(description="selects this kind")
    energy_j: float = Field(ge=1e-6, le=1e9, description="device energy of one request, J")
    service_ms: float = Field(ge=0.001, le=_MS, description="time of one request alone, ms")
    service_ms_per_in_flight: float = Field(
        default=0.0, ge=0, le=_MS, description="added by each other request in flight, ms"
    )
    max_batch: int = Field(ge=1, le=100_000, description="requests that run at once; more queue")
    host_fraction: float = Field(
        ge=0, le=5, description="CPU and DRAM over device energy; 0 when energy_j includes them"
    )
    provenance: ProvenanceName = Field(
        default="estimated", description="how the figures came to be"
    )
    source: Text = Field(default="operator", description="where the figures come from")

    def build(self, name: str) -> TaskProfile:
        """The profile as the core reads it."""
        fields = self.model_dump(exclude={"kind", "provenance"})
        return TaskProfile(name=name, provenance=Provenance(self.provenance), **fields)


ProfileSchema = Annotated[TokenProfileSchema | TaskProfileSchema, Field(discriminator="kind")]


class ProfilesFile(Strict):
    """A file of profiles by name."""

    profiles: dict[Name, ProfileSchema] = Field(min_length=1)


def build_profiles(schemas: dict[str, ProfileSchema]) -> dict[str, Profile]:
    """Profiles by name."""
    return {name: schema.build(name) for name, schema in schemas.items()}
