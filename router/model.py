"""Frozen values that every room speaks in. Times are unix seconds UTC; no I/O, no clock.

Values on the hot path are NamedTuples (cheap to build); values built at refresh or load time are
frozen dataclasses, validated at construction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from router.errors import DataError, MixedBasisError
from router.units import grams

if TYPE_CHECKING:
    # What everything reads stays quick to import.
    import numpy as np
    from numpy.typing import NDArray

UNLIMITED = math.inf


class Basis(StrEnum):
    """Which question an intensity answers: attribution (average) or consequence (marginal)."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Factors(StrEnum):
    """Which emissions the factors count; NONE where the signal defines its own (MOER)."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    NONE = "none"


class Kind(StrEnum):
    """How a carbon intensity came to be, from the best known to the least."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    CLIMATOLOGY = "climatology"
    ANNUAL_MEAN = "annual_mean"


class Provenance(StrEnum):
    """How an energy or latency figure came to be, from the best known to the least.

    Of joules: MEASURED of this request, by its server; by a profile that was CALIBRATED on its
    endpoint's meter; by a PROFILE that was measured on such hardware; ESTIMATED by one that was
    not, or of a run that was cut short; EMULATED where there is no real machine. A profile itself
    is never PROFILE.
    """

    MEASURED = "measured"
    CALIBRATED = "calibrated"
    PROFILE = "profile"
    ESTIMATED = "estimated"
    EMULATED = "emulated"


class TokensKind(StrEnum):
    """How a count of output tokens came to be, from the best known to the least.

    REPORTED by the server; COUNTED messages of a stream; ESTIMATED from the answer's bytes, which
    its time bears out; ASSUMED from its time alone.
    """

    REPORTED = "reported"
    COUNTED = "counted"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"


class CachedKind(StrEnum):
    """How it is known what of a prompt was cached: the server REPORTED it, or it was EXPECTED."""

    REPORTED = "reported"
    EXPECTED = "expected"


class Signal(NamedTuple):
    """What makes two intensities comparable: same basis and same factors."""

    basis: Basis
    factors: Factors


@dataclass(frozen=True, slots=True)
class Intensity:
    """Carbon intensity of one grid zone over one slot, gCO2e/kWh, with where it came from.

    ``low``/``high`` bound a 90 % interval. ``observed_at``: when the value was known (end of the
    slot it was measured in, or issue time of a forecast). ``expires_at``: after this it is stale.
    Raises DataError when the value is not a finite number >= 0 inside its interval.
    """

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    signal: Signal
    kind: Kind
    source: str
    observed_at: float
    expires_at: float

    def __post_init__(self) -> None:
        ordered = 0.0 <= self.low_g_per_kwh <= self.g_per_kwh <= self.high_g_per_kwh
        if not (ordered and math.isfinite(self.high_g_per_kwh)):
            raise DataError(
                f"intensity from {self.source} must satisfy 0 <= low <= value <= high < inf, got "
                f"{self.low_g_per_kwh} <= {self.g_per_kwh} <= {self.high_g_per_kwh} g/kWh"
            )

    def age_s(self, now: float) -> float:
        """Seconds since the value was known; 0 for a value issued ahead of ``now``."""
        return max(0.0, now - self.observed_at)


def require_same_signal(*values: Intensity) -> Signal:
    """The one signal that all ``values`` share; raises MixedBasisError when they differ."""
    signals = {value.signal for value in values}
    if len(signals) != 1:
        seen = ", ".join(
            sorted(f"{v.signal.basis}/{v.signal.factors} from {v.source}" for v in values)
        )
        raise MixedBasisError(f"intensities of different bases cannot be compared: {seen}")
    return signals.pop()


@dataclass(frozen=True, slots=True)
class Forecast:
    """Intensity of one grid zone over consecutive equal slots, oldest first, never empty."""

    grid_zone: str
    start: float
    step_s: float
    slots: tuple[Intensity, ...]

    def __post_init__(self) -> None:
        if not self.slots or self.step_s <= 0:
            raise DataError(f"forecast for {self.grid_zone} needs at least one slot of length > 0")
        require_same_signal(*self.slots)

    def at(self, when: float) -> Intensity:
        """The slot that covers ``when``; the first or last one outside the covered span."""
        index = int((when - self.start) // self.step_s)
        return self.slots[min(max(index, 0), len(self.slots) - 1)]


class PromptOrder(StrEnum):
    """Whose prompt is read first when several wait: as they came (vLLM), or that of the lowest
    slot number (llama.cpp).
    """

    FCFS = "fcfs"
    SLOT = "slot"


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """A replica under continuous batching with chunked prefill (SCIENCE, sections 1 and 1b).

    An iteration that carries b decoding sequences with C cached tokens in all, and pieces of
    prompts, lasts

        ``tpot_base_ms`` + ``tpot_ms_per_sequence`` * b + ``tpot_ms_per_cached_token`` * C
        + for each piece ``prefill_ms_per_piece`` + ``prefill_ms_per_token`` * k
                         + ``prefill_ms_per_token2`` * k * (p + k / 2)

    ms: k tokens of a piece, p tokens of its prompt that are cached already. Pieces fill
    ``max_batched_tokens`` - b tokens, in ``prompt_order``; ``prefill_base_ms`` goes by before a
    prompt's first iteration, on no GPU.

    Power P = ``base_w`` + ``w_per_token_s`` * (output tokens/s) while at least one sequence runs,
    ``prefill_w`` in the time that prompts take of an iteration, ``idle_w`` when none runs.
    ``prefill_w_low``, ``prefill_w_high``: where that lies.

    The host draws ``host_awake_w`` or ``host_idle_w`` beside, and ``host_fraction`` of GPU energy.
    ``target_batch`` is the load the replica is meant to run at: it prices long-run energy.

    Of prompts that were read, ``prefix_cache_tokens`` are kept, in blocks of ``prefix_block``: a
    prompt that begins as one of them did is spared as many. 0: the server keeps none.

    ``calibrated_on``: the endpoint whose meter it was fitted to; ``as_of``: until when that was
    read, UTC.
    """

    name: str
    idle_w: float
    base_w: float
    w_per_token_s: float
    tpot_base_ms: float
    tpot_ms_per_sequence: float
    prefill_base_ms: float
    prefill_ms_per_token: float
    prefill_w: float
    max_batch: int
    target_batch: int
    host_fraction: float
    provenance: Provenance
    source: str
    tpot_ms_per_cached_token: float = 0.0
    prefill_ms_per_piece: float = 0.0
    prefill_ms_per_token2: float = 0.0
    prefill_w_low: float = math.nan
    prefill_w_high: float = math.nan
    max_batched_tokens: int = 8192
    prompt_order: PromptOrder = PromptOrder.FCFS
    host_awake_w: float = 0.0
    host_idle_w: float = 0.0
    prefix_cache_tokens: int = 0
    prefix_block: int = 16
    calibrated_on: str = ""
    as_of: str = ""

    def tpot_ms(self, batch: float, cached_tokens: float = 0.0, prompts_ms: float = 0.0) -> float:
        """Mean time per output token at ``batch`` decoding sequences, ms.

        ``cached_tokens``: of all of them together; ``prompts_ms``: what prompts take of an
        iteration on the mean.
        """
        decode_ms = self.tpot_base_ms + self.tpot_ms_per_sequence * batch
        return decode_ms + self.tpot_ms_per_cached_token * cached_tokens + prompts_ms

    def prompt_ms(self, input_tokens: float, cached_tokens: float = 0.0) -> float:
        """What reading a prompt in one piece adds to its iteration, ms; ``cached_tokens``: of its
        beginning, which are not read again."""
        read = input_tokens - cached_tokens
        before = cached_tokens + read / 2.0
        per_token = self.prefill_ms_per_token + self.prefill_ms_per_token2 * before
        return self.prefill_ms_per_piece + per_token * read

    def lone_ttft_ms(self, input_tokens: float, cached_tokens: float = 0.0) -> float:
        """Time to the first token on an idle replica, round trip apart, ms."""
        prompt_ms = self.prompt_ms(input_tokens, cached_tokens)
        return self.prefill_base_ms + self.tpot_base_ms + prompt_ms


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """A backend that is no language model: fixed energy and time per request.

    A request takes ``service_ms`` + ``service_ms_per_in_flight`` * (others in flight); beyond
    ``max_batch`` requests queue. ``energy_j`` is GPU (or device) energy of one request.
    ``calibrated_on``, ``as_of``: as of `TokenProfile`.
    """

    name: str
    energy_j: float
    service_ms: float
    service_ms_per_in_flight: float
    max_batch: int
    host_fraction: float
    provenance: Provenance
    source: str
    calibrated_on: str = ""
    as_of: str = ""


Profile = TokenProfile | TaskProfile


@dataclass(frozen=True, slots=True)
class Region:
    """Where part of the fleet runs: its grid zone, its PUE and the jurisdictions it lies in."""

    name: str
    grid_zone: str
    pue: float
    pue_source: str
    residency: frozenset[str]

    def lies_in(self, jurisdictions: frozenset[str]) -> bool:
        """Whether it lies in one of ``jurisdictions``; an empty set stands for anywhere."""
        return not jurisdictions or not jurisdictions.isdisjoint(self.residency)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model on one endpoint. ``version`` empty: any. ``context_tokens`` inf: no limit."""

    name: str
    version: str
    profile: Profile
    context_tokens: float


class CalibrationTimes(NamedTuple):
    """A profile is fitted to a meter as it runs: a reading ``every_s``, a fit ``refit_s``."""

    every_s: float
    refit_s: float


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """What counts the joules of an endpoint. ``kind``: of `router.load.energy_meter.METERS`.

    ``labels``: by name the values that samples of this endpoint have; none: all on the page are.
    ``adds_watts``: where nothing counts joules, its watts are read often, and added up.
    ``covers_host``: CPU and DRAM are in it. ``calibration``: None where the gateway fits nothing.
    """

    url: str
    kind: str
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    adds_watts: bool = False
    covers_host: bool = False
    calibration: CalibrationTimes | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One addressable model server. ``address``: host:port, where ``protocol`` is spoken.

    ``emulated``: its energy and latency are not real hardware. ``meter``: None where nothing counts
    its joules.
    """

    name: str
    region: str
    address: str
    protocol: str
    models: tuple[ServedModel, ...]
    max_in_flight: int
    metrics_url: str
    engine: str
    emulated: bool
    meter: EnergyMeter | None = None

    def provenance_of(self, profile: Profile) -> Provenance:
        """How the figures of ``profile`` are known of this very endpoint: what was calibrated on
        another was measured on such hardware."""
        if self.emulated:
            return Provenance.EMULATED
        is_others = profile.calibrated_on != self.name
        if profile.provenance is Provenance.CALIBRATED and is_others:
            return Provenance.MEASURED
        return profile.provenance

    def kind_by(self, profile: Profile) -> Provenance:
        """How joules are known that ``profile`` says of a run here."""
        provenance = self.provenance_of(profile)
        return Provenance.PROFILE if provenance is Provenance.MEASURED else provenance


class FoundEndpoint(NamedTuple):
    """A model server as discovery found it, checked by nobody. ``region``: "" where it says none;
    ``labels``: what else it says, such as topology labels of its node."""

    name: str
    address: str
    region: str = ""
    labels: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LengthPrior:
    """What to expect of a model's requests before any was seen, in tokens (1 for tensors)."""

    input_tokens: float
    output_tokens: float
    output_tokens_p95: float


@dataclass(frozen=True, slots=True)
class ResidencyRules:
    """The operator's own limits: jurisdictions by model and by tenant, none of the sets empty.

    ``serves_unlisted``: whether a tenant that is not in ``tenants`` is served where any is.
    """

    models: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tenants: Mapping[str, frozenset[str]] = field(default_factory=dict)
    serves_unlisted: bool = False


class Variant(NamedTuple):
    """A model that an alias may stand for. ``quality``: its score by the alias's source, above 0
    and up to 1."""

    model: str
    quality: float


class QualityFloors(NamedTuple):
    """What qualities an alias is served with: of ``each`` request at the least, and in the
    ``mean`` over the alias's window; 0 where there is no such floor."""

    each: float = 0.0
    mean: float = 0.0


_NO_FLOORS: Final = QualityFloors()


class RulesJudge(NamedTuple):
    """Goes by what can be read off an answer. ``phrases``: none of which it may hold."""

    phrases: tuple[str, ...] = ()


class HttpJudge(NamedTuple):
    """A service that is asked about each answer, and has ``timeout_s`` to say."""

    url: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for any of several models. ``variants``: from the least quality to the
    best, one at the least; ``source``: who scored them, and by what.

    ``floors``: of tenants that are not in ``tenants``. ``window_s``: over which a mean is kept.
    ``judge``: of whether an answer is good enough, or a better variant is asked; None: it is.
    """

    name: str
    variants: tuple[Variant, ...]
    source: str
    floors: QualityFloors = _NO_FLOORS
    tenants: Mapping[str, QualityFloors] = field(default_factory=dict)
    window_s: float = 86_400.0
    judge: RulesJudge | HttpJudge | None = None

    def floors_of(self, tenant: str) -> QualityFloors:
        """What is agreed with one tenant."""
        return self.tenants.get(tenant, self.floors)

    def quality_of(self, model: str) -> float:
        """Of one of its variants; NaN of another model."""
        return next((one.quality for one in self.variants if one.model == model), math.nan)

    def above(self, quality: float) -> float:
        """The quality of the next better variant; NaN where none is better."""
        return next((one.quality for one in self.variants if one.quality > quality), math.nan)

    def rank(self, floor: float) -> int:
        """The first of its variants that reaches ``floor``; as many as there are where none
        does."""
        return next(
            (place for place, one in enumerate(self.variants) if one.quality >= floor),
            len(self.variants),
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that can be routed to. ``rtt_ms[origin][region]`` is complete for every pair.

    ``default_origin``: stands in for an origin that the table does not know; "" when none.
    ``gateway_origin``: the origin at which this gateway itself sits; "" when it is the caller's.
    """

    regions: dict[str, Region]
    endpoints: tuple[Endpoint, ...]
    priors: dict[str, LengthPrior]
    rtt_ms: dict[str, dict[str, float]]
    default_origin: str
    gateway_origin: str
    residency: ResidencyRules = ResidencyRules()
    aliases: Mapping[str, Alias] = field(default_factory=dict)

    def models_of(self, name: str) -> tuple[str, ...]:
        """The models that ``name`` may stand for: an alias's variants, or itself."""
        alias = self.aliases.get(name)
        return (name,) if alias is None else tuple(one.model for one in alias.variants)


class Budget(NamedTuple):
    """Latency limits in ms, inf where unbounded. ``explicit``: the caller set at least one."""

    ttft_ms: float = UNLIMITED
    tpot_ms: float = UNLIMITED
    e2e_ms: float = UNLIMITED
    explicit: bool = False


class Prefix(NamedTuple):
    """What a prompt begins with: the ``keys`` of its blocks of ``block_tokens`` each, in order, as
    `router.core.prefixes` chains them."""

    keys: NDArray[np.int64]
    block_tokens: float


class RunAtOnce(NamedTuple):
    """Of a request that waited ``waited_s``: where it would have run when it came, at the intensity
    that was known then, of which ``kind`` and ``basis`` say what that was."""

    waited_s: float
    region: str
    g_per_kwh: float
    kind: str
    basis: str
    pue: float


class Request(NamedTuple):
    """What routing needs of one inference request. Token counts are NaN where unknown.

    ``sequence_start``, ``sequence_end``: whether it begins, or ends, a stateful sequence.
    ``ignored``: flags of what the caller said and routing cannot use (`router.core.claims`).
    ``prefix``: what its prompt begins with, None where nobody looked. ``prompt_bytes``: of its
    text, from which its tokens can be estimated; 0 where that is not known. ``client_retries``:
    how often its client asked before, as it says. ``sequence_owner``: whose ``sequence_id`` that
    is: another's of the same text is another sequence.
    ``run_at_once``: what it would have been without waiting, None where it did not wait.
    ``can_wait_until``: unix s, until when one that is deferred may still be put off; NaN of others.
    ``quality_floor``: the least quality of a variant, where ``model`` is an alias, that its caller
    takes; ``agreed_floor``: that the operator and its tenant agreed on, which gives way where a
    carbon budget says so; 0: any.
    """

    model: str
    version: str = ""
    request_id: str = ""
    sequence_id: str = ""
    origin: str = ""
    tenant: str = ""
    residency: frozenset[str] = frozenset()
    budget: Budget = Budget()
    input_tokens: float = math.nan
    max_output_tokens: float = UNLIMITED
    payload_bytes: int = 0
    sequence_start: bool = False
    sequence_end: bool = False
    ignored: tuple[str, ...] = ()
    prefix: Prefix | None = None
    prompt_bytes: int = 0
    client_retries: int = 0
    sequence_owner: str = ""
    run_at_once: RunAtOnce | None = None
    quality_floor: float = 0.0
    agreed_floor: float = 0.0
    can_wait_until: float = math.nan

    @property
    def least_quality(self) -> float:
        """By both floors; 0 where any will do."""
        return max(self.quality_floor, self.agreed_floor)

    @property
    def receipt_owner(self) -> str:
        """Who is told its receipt: its tenant, or without one whoever called alone, whose name
        begins with a space as no tenant's does; "" where nobody is asked who calls."""
        return self.tenant or self.sequence_owner.partition("\0")[0]


class Weights(NamedTuple):
    """The score's terms: cost = sum of weight * term, each in its own unit."""

    per_gco2e: float = 0.0
    per_ttft_ms: float = 0.0
    per_e2e_ms: float = 0.0
    per_load: float = 0.0
    per_turn: float = 0.0


class Energy(StrEnum):
    """Which joules decide: priced at the load a replica is meant for, or short-run marginal."""

    LONG_RUN = "long_run"
    SHORT_RUN = "short_run"


class Spread(StrEnum):
    """Inside a near-tie: fill the fullest replica, or take the emptiest."""

    PACK = "pack"
    SPREAD = "spread"


class Relax(StrEnum):
    """One rung of the fallback ladder: the constraint dropped when nothing is feasible."""

    CARBON = "carbon"
    POLICY_LATENCY = "policy_latency"


# Which of the policy's latency budgets a rung drops; what else one drops is in `core.rungs`.
DROPPED_BUDGETS: Final[Mapping[Relax, tuple[str, ...]]] = {
    Relax.POLICY_LATENCY: ("ttft_ms", "tpot_ms", "e2e_ms"),
}


class StaleCarbon(StrEnum):
    """What to do with a grid zone whose best intensity is stale or mere climatology."""

    USE_FLAGGED = "use_flagged"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class Policy:
    """An operator's policy as values; every field is documented in policies/README.md."""

    name: str
    weights: Weights
    energy: Energy
    annual_mean: bool
    signal: Signal
    near_tie: float
    spread: Spread
    pack_until: float
    quantile: float
    tpot_quantile: float
    budget: Budget
    max_gco2e: float
    max_g_per_kwh: float
    ladder: tuple[Relax, ...]
    stale_carbon: StaleCarbon
    stale_after_s: float
    wake_share: float = 0.0
    scarcity: float = 0.0
    residency: frozenset[str] = frozenset()
    pack_within: float = 0.0


class Load(NamedTuple):
    """What a model server says of itself. ``observed_at``: when it was read; ``healthy``: False
    where it says that it cannot serve."""

    running: float
    queued: float
    kv_fraction: float
    observed_at: float
    healthy: bool = True


class Alternative(NamedTuple):
    """An endpoint that a request did not go to. ``g_per_kwh``: averaged over its predicted run;
    ``cached_tokens``: of its prompt, as expected there."""

    endpoint: Endpoint
    served: ServedModel
    g_per_kwh: float
    cached_tokens: float = 0.0


class OtherVariant(NamedTuple):
    """A variant that a request was not served by. ``place``: where it would have cost least, None
    where nothing that serves it was feasible."""

    model: str
    quality: float
    place: Alternative | None


class ChosenVariant(NamedTuple):
    """Which variant of an ``alias`` a request is served by. ``floor``: the least quality that it
    had to have, 0 for any; ``others``: those of the alias that it is not served by."""

    alias: str
    model: str
    quality: float
    floor: float
    others: tuple[OtherVariant, ...]


class Burden(NamedTuple):
    """What one request adds to a replica while it is there, and what it bears there itself.

    ``prompt_ms``: what reading its prompt takes of iterations; ``pace_ms``: that over its output
    tokens, so what it adds to every iteration on the mean; ``cached_tokens``: on the mean over its
    run; ``pace_cap_ms``: the mean iteration beyond which it would break a budget of its own, inf
    for none; ``paced_ms``: what reading its prompt takes at the pace that answers there tolerate.
    """

    prompt_ms: float
    pace_ms: float
    cached_tokens: float
    pace_cap_ms: float
    paced_ms: float = 0.0

    @property
    def pace_ms2(self) -> float:
        """The square of its prompt's time over its output tokens."""
        return self.prompt_ms * self.pace_ms


UNBURDENED = Burden(0.0, 0.0, 0.0, math.inf)


class ToldLatency(NamedTuple):
    """What callers are told of a request's latency, ms: each of these holds as often as the
    policy's ``quantile`` says (`router.core.margins`). ``tpot_ms``: of a pace over 31 gaps at the
    least; ``waits``: others had to end before it began."""

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    waits: bool = False


class Decision(NamedTuple):
    """Where one request goes and why. Latencies are predicted at the policy's quantile, at the load
    that there was; what callers are told of them is ``latency``.

    ``energy_j`` is IT energy (GPU and host) as the policy prices it, and ``gco2e`` what follows
    with PUE and network: prices to choose by. What a request is predicted to be receipted with is
    ``Receipt.predicted``.
    ``run_g_per_kwh`` is the intensity averaged over the predicted run. ``latency_first_*``: what
    the nearest feasible endpoint would have done (the counterfactual).
    ``prefill_ms`` and ``queue_ms``: of the time to the first token, by the latency model alone,
    what the request takes itself and what it waits for on the mean.
    ``intensity`` is None (and grams NaN) only when no source knows the grid zone and the ladder
    dropped the carbon constraint. ``relaxed``: rungs of the ladder that were taken.
    ``cached_tokens``: of its prompt, expected not to be read there. ``variant``: None where its
    model is no alias.
    """

    endpoint: Endpoint
    served: ServedModel
    intensity: Intensity | None
    run_g_per_kwh: float
    rtt_ms: float
    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    energy_j: float
    gco2e: float
    latency_first_endpoint: str
    latency_first_gco2e: float
    prefill_ms: float
    queue_ms: float
    burden: Burden
    relaxed: tuple[Relax, ...]
    flags: tuple[str, ...]
    latency_first: Alternative | None = None
    cached_tokens: float = 0.0
    told: ToldLatency | None = None
    variant: ChosenVariant | None = None

    @property
    def latency(self) -> ToldLatency:
        """What is told, which is what was decided by where nothing else is known."""
        return self.told or ToldLatency(self.ttft_ms, self.tpot_ms, self.e2e_ms)


class Outcome(StrEnum):
    """How a lease ended. IGNORED says nothing about the endpoint (client abort, 4xx)."""

    SUCCEEDED = "succeeded"
    IGNORED = "ignored"
    DROPPED = "dropped"


class RowOutcome(StrEnum):
    """How an attempt, or a request, ended. All but ``MOVED`` end the request."""

    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    # It failed here, or its answer was not accepted, and it went on elsewhere.
    MOVED = "moved"


class Predicted(NamedTuple):
    """What a request was predicted to be receipted with, attributional as the receipt is, at the
    load that it met: IT joules, grams, and the grams of the same request, at the same load, on the
    endpoint that latency-first would have taken. NaN where not known. ``variants_gco2e``: likewise
    with each of `ChosenVariant.others`.
    """

    energy_j: float
    gco2e: float
    latency_first_gco2e: float
    variants_gco2e: tuple[float, ...] = ()


UNPREDICTED = Predicted(math.nan, math.nan, math.nan)


class BudgetStanding(NamedTuple):
    """Of a carbon budget: the share of its day's limit that is left, 0 to 1."""

    name: str
    left: float


class Receipt(NamedTuple):
    """What one answered request emitted; both energies, GPU plus host, before and after PUE.

    ``energy_j`` is attributional IT energy (GPU and host); ``facility_energy_j`` includes PUE;
    ``gco2e`` counts facility energy at the intensity of the run. ``ttft_ms`` and ``e2e_ms`` are
    measured at the gateway. NaN where not known.

    ``marginal``: marginal intensity of the hour in which the run began, None where none is asked
    for or known; ``marginal_gco2e``: facility energy at it, an estimate of what the request caused,
    never to be added to ``gco2e``.

    ``output_tokens`` lies between ``tokens_low`` and ``tokens_high``, ``energy_j`` between
    ``energy_low_j`` and ``energy_high_j``; ``prompt_energy_j`` of it took reading the prompt, an
    estimate by the profile where ``energy_j`` is measured. Bounds that are NaN are not known or
    not needed.
    ``doubts``: what the server reported and was not believed, by reason. ``cached_tokens``: of the
    prompt, not read because they were cached; ``input_tokens``: of all of it, as the server says.
    ``carbon_budget``: of those that it falls under the one with least left, None where there is
    none. ``g_per_kwh``: mean over the run, ``pue`` of the region and ``network_j`` of the payload:
    what the grams are made of. ``run_s``: of the attempt that ended here. ``lost_gco2e``: of the
    others, whose answers its caller did not get: not part of ``gco2e``.
    """

    decision_id: str
    request: Request
    decision: Decision
    policy: str
    region: str
    grid_zone: str
    attempts: int
    output_tokens: float
    energy_j: float
    energy_kind: Provenance
    marginal_energy_j: float
    facility_energy_j: float
    gco2e: float
    ttft_ms: float
    e2e_ms: float
    finished_at: float
    marginal: Intensity | None = None
    marginal_gco2e: float = math.nan
    tokens_kind: TokensKind = TokensKind.REPORTED
    tokens_low: float = math.nan
    tokens_high: float = math.nan
    energy_low_j: float = math.nan
    energy_high_j: float = math.nan
    predicted: Predicted = UNPREDICTED
    doubts: tuple[str, ...] = ()
    prompt_energy_j: float = math.nan
    cached_tokens: float = 0.0
    cached_kind: CachedKind = CachedKind.EXPECTED
    input_tokens: float = math.nan
    carbon_budget: BudgetStanding | None = None
    g_per_kwh: float = math.nan
    pue: float = math.nan
    network_j: float = math.nan
    run_s: float = math.nan
    lost_gco2e: float = 0.0

    @property
    def at_once_gco2e(self) -> float:
        """What the same joules would have emitted where, and when, it would have run had it not
        waited; NaN where it did not, or that is not known."""
        told = self.request.run_at_once
        if told is None:
            return math.nan
        return grams(self.energy_j * told.pue + self.network_j, told.g_per_kwh)
