"""Energy and latency profiles: the schema of ``router/data/profiles.yaml`` and of `profiles:`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from router.config.fields import Name, Strict, Text, parse_day_or_time
from router.model import Profile, PromptOrder, Provenance, TaskProfile, TokenProfile

PromptOrderName = Literal["fcfs", "slot"]
ProvenanceName = Literal["measured", "calibrated", "estimated", "emulated"]

_WATTS = 1_000_000
_MS = 3_600_000
_PROVENANCE: Any = Field(
    default="estimated",
    description="how the figures came to be: `measured` on such hardware, `calibrated` on the "
    "meter of the endpoint `calibrated_on`, `estimated`, or `emulated`",
)
_CALIBRATED_ON: Any = Field(
    default=None,
    description="endpoint whose meter they were fitted to; at any other they count as `measured`",
)
_AS_OF: Any = Field(default=None, description="until when that was read, a time in UTC or a day")
# YAML makes a date of a day, and a time of some times.
AsOf = Annotated[
    str, BeforeValidator(lambda value: value.isoformat() if isinstance(value, date) else value)
]
_BASIS = ("provenance", "calibrated_on", "as_of")
_SOURCE: Any = Field(default="operator", description="where the figures come from")


class TokenProfileSchema(Strict):
    """A language model under continuous batching; see ``router.model.TokenProfile``."""

    kind: Literal["token"] = Field(description="selects this kind")
    idle_w: float = Field(ge=0, le=_WATTS, description="GPU draw of a loaded, idle replica, W")
    base_w: float = Field(ge=0.01, le=_WATTS, description="power at 0 tokens/s while running, W")
    w_per_token_s: float = Field(ge=0, le=1000, description="W per output token/s")
    tpot_base_ms: float = Field(
        ge=0.001, le=_MS, description="an iteration's time without sequences or prompts, ms"
    )
    tpot_ms_per_sequence: float = Field(
        ge=0, le=_MS, description="added by each sequence that decodes, ms"
    )
    tpot_ms_per_cached_token: float = Field(
        default=0.0, ge=0, le=_MS, description="added by each cached token of those sequences, ms"
    )
    prefill_base_ms: float = Field(
        ge=0, le=_MS, description="of any prompt, before its first iteration and on no GPU, ms"
    )
    prefill_ms_per_piece: float = Field(
        default=0.0, ge=0, le=_MS, description="added to an iteration by each piece of a prompt, ms"
    )
    prefill_ms_per_token: float = Field(
        ge=0, le=_MS, description="added to an iteration by each input token, ms"
    )
    prefill_ms_per_token2: float = Field(
        default=0.0,
        ge=0,
        le=_MS,
        description="added for each input token and each token of its prompt before it, ms",
    )
    max_batched_tokens: int = Field(
        default=8192,
        ge=2,
        le=10_000_000,
        description="tokens that one iteration takes at most, one of each decoding sequence "
        "and the rest of prompts (vLLM's `max_num_batched_tokens`)",
    )
    prompt_order: PromptOrderName = Field(
        default="fcfs",
        description="whose prompt is read first: `fcfs` as they came (vLLM), or `slot` that of "
        "the lowest slot (llama.cpp)",
    )
    prefill_w: float = Field(
        ge=0.01,
        le=_WATTS,
        description="GPU power while prompts are read, W; near the cards' power limits, of which "
        "0.95 is a fair estimate",
    )
    prefill_w_low: float | None = Field(
        default=None, ge=0.01, le=_WATTS, description="lower end of where `prefill_w` lies, W"
    )
    prefill_w_high: float | None = Field(
        default=None, ge=0.01, le=_WATTS, description="upper end, W"
    )
    max_batch: int = Field(ge=1, le=100_000, description="sequences that run at once; more queue")
    target_batch: int = Field(ge=1, le=100_000, description="load that prices long-run energy")
    host_fraction: float = Field(
        ge=0, le=5, description="host draw that follows the GPUs', as a fraction of their energy"
    )
    host_awake_w: float = Field(
        default=0.0, ge=0, le=_WATTS, description="host draw beside that while requests run, W"
    )
    host_idle_w: float = Field(
        default=0.0, ge=0, le=_WATTS, description="the same while none runs, W"
    )
    prefix_cache_tokens: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000,
        description="tokens of prompts that the server keeps for others that begin alike (vLLM's "
        "prefix caching: about its KV cache less what runs there); 0: none",
    )
    prefix_block: int = Field(
        default=16,
        ge=1,
        le=1_000_000,
        description="they are kept in blocks of so many tokens, of which the last of a prompt is "
        "always read anew (vLLM's `block_size`)",
    )
    provenance: ProvenanceName = _PROVENANCE
    calibrated_on: Name | None = _CALIBRATED_ON
    as_of: AsOf | None = _AS_OF
    source: Text = _SOURCE

    @model_validator(mode="after")
    def _consistent(self) -> TokenProfileSchema:
        _check_calibration(self)
        if self.target_batch > self.max_batch:
            raise ValueError(
                f"target_batch ({self.target_batch}) must not exceed max_batch ({self.max_batch})"
            )
        if self.max_batched_tokens <= self.max_batch:
            raise ValueError(
                f"max_batched_tokens ({self.max_batched_tokens}) must exceed max_batch "
                f"({self.max_batch}): with every sequence decoding no prompt would ever be read"
            )
        for lower, upper, why in (
            ("idle_w", "base_w", "a running replica draws at least what an idle one does"),
            ("base_w", "prefill_w", "reading prompts takes at least what waiting for memory does"),
            ("host_idle_w", "host_awake_w", "a host at work draws at least what an idle one does"),
            ("prefill_w_low", "prefill_w", "it is the lower end of its range"),
            ("prefill_w", "prefill_w_high", "it is the upper end of its range"),
        ):
            low, high = getattr(self, lower), getattr(self, upper)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{lower} ({low:g}) must not exceed {upper} ({high:g}): {why}")
        return self

    def build(self, name: str) -> TokenProfile:
        """The profile as the core reads it."""
        fields = self.model_dump(exclude={"kind", "prompt_order", *_BASIS})
        for end in ("prefill_w_low", "prefill_w_high"):
            if fields[end] is None:
                fields[end] = self.prefill_w
        return TokenProfile(
            name=name,
            prompt_order=PromptOrder(self.prompt_order),
            **_basis(self),
            **fields,
        )


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
    provenance: ProvenanceName = _PROVENANCE
    calibrated_on: Name | None = _CALIBRATED_ON
    as_of: AsOf | None = _AS_OF
    source: Text = _SOURCE

    @model_validator(mode="after")
    def _consistent(self) -> TaskProfileSchema:
        _check_calibration(self)
        return self

    def build(self, name: str) -> TaskProfile:
        """The profile as the core reads it."""
        fields = self.model_dump(exclude={"kind", *_BASIS})
        return TaskProfile(name=name, **_basis(self), **fields)


def _check_calibration(schema: TokenProfileSchema | TaskProfileSchema) -> None:
    """Raises ValueError where it does not say what it was calibrated on, and when."""
    if schema.as_of is not None:
        parse_day_or_time(schema.as_of)
    if schema.provenance == "calibrated":
        lacking = [name for name in ("calibrated_on", "as_of") if getattr(schema, name) is None]
        if lacking:
            raise ValueError(
                f"provenance: calibrated needs {' and '.join(lacking)}, as `carbon-router "
                "calibrate` writes them; write measured for figures of other machines of its kind"
            )
    elif schema.calibrated_on is not None:
        raise ValueError(
            f"calibrated_on is of profiles that are calibrated, and this one is {schema.provenance}"
        )


def _basis(schema: TokenProfileSchema | TaskProfileSchema) -> dict[str, Any]:
    return {
        "provenance": Provenance(schema.provenance),
        "calibrated_on": schema.calibrated_on or "",
        "as_of": schema.as_of or "",
    }


def calibrated_name(former: str, endpoint: str) -> str:
    """Of a profile that was fitted to ``endpoint``, which had ``former``: such as
    ``llama-3.1-8b:west-0@1xh100``. Reports read the hardware off its end."""
    model, at, hardware = former.rpartition("@")
    return f"{model}:{endpoint}@{hardware}" if at else f"{former}:{endpoint}"


def name_before_calibration(name: str) -> str:
    """The ``former`` of `calibrated_name`; ``name`` where it is none."""
    model, at, hardware = name.rpartition("@")
    if not at:
        return name.partition(":")[0]
    return f"{model.partition(':')[0]}@{hardware}"


ProfileSchema = Annotated[TokenProfileSchema | TaskProfileSchema, Field(discriminator="kind")]


class ProfilesFile(Strict):
    """A file of profiles by name."""

    profiles: dict[Name, ProfileSchema] = Field(min_length=1)


def build_profiles(schemas: dict[str, ProfileSchema]) -> dict[str, Profile]:
    """Profiles by name."""
    return {name: schema.build(name) for name, schema in schemas.items()}
