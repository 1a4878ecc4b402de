"""What of the console's feed a terminal shows; whatever else comes with it is passed over.

Figures that are not known are None. A document that is not of this shape is refused as a whole.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from router.errors import DataError

Shape = TypeVar("Shape", bound=msgspec.Struct)


class FeedRegion(msgspec.Struct, frozen=True):
    """Of a fleet."""

    name: str
    zone: str


class FeedEndpoint(msgspec.Struct, frozen=True):
    """Of a fleet."""

    name: str
    region: str


class FeedFleet(msgspec.Struct, frozen=True):
    """``emulated``: none, some or all of its endpoints; ``is_all``: nothing is held back from who
    reads."""

    policy: str
    scope: str
    is_all: bool
    emulated: str
    processes: int
    regions: list[FeedRegion]
    endpoints: list[FeedEndpoint]


class FeedIntensity(msgspec.Struct, frozen=True):
    """g/kWh."""

    g: float
    kind: str
    source: str = ""
    stale: bool = False


class FeedAhead(msgspec.Struct, frozen=True):
    """g/kWh by the hour, from the current one on."""

    g: list[float]


class FeedZone(msgspec.Struct, frozen=True):
    """A grid zone."""

    now: FeedIntensity | None = None
    ahead: FeedAhead | None = None


class FeedGrid(msgspec.Struct, frozen=True):
    """By grid zone."""

    zones: dict[str, FeedZone]


class FeedRegionRate(msgspec.Struct, frozen=True):
    """A second."""

    requests_per_s: float
    gco2e_g_per_s: float


class FeedRates(msgspec.Struct, frozen=True):
    """A second, over the last ``seconds``; ``budgets_met``: a share."""

    seconds: float
    gco2e_g_per_s: float
    saved_g_per_s: float
    requests_per_s: float
    watts: float
    budgets_met: float | None
    regions: dict[str, FeedRegionRate]


class FeedSums(msgspec.Struct, frozen=True):
    """Since the gateway began; ``grams_kinds``: by kinds of intensity and of joules."""

    gco2e_g: float
    saved_g: float
    excess_g: float
    unaccounted: float
    grams_kinds: dict[str, float]


class FeedOwn(msgspec.Struct, frozen=True):
    """Of one tenant, since somebody looks on."""

    requests: int
    gco2e_g: float
    saved_g: float
    met: int
    missed: int


class FeedBudgetKept(msgspec.Struct, frozen=True):
    """Of the requests that had a latency budget; ``least_ms``: the tightest."""

    least_ms: float
    met: int
    missed: int


class FeedLatency(msgspec.Struct, frozen=True):
    """Measured, of one model; pairs: median and 95 % quantile, ms."""

    model: str
    requests: int
    ttft_ms: tuple[float, float] | None
    e2e_ms: tuple[float, float] | None
    ttft_budget: FeedBudgetKept | None
    e2e_budget: FeedBudgetKept | None


class FeedLatencies(msgspec.Struct, frozen=True):
    """Of the last ``window_s``."""

    window_s: float
    models: list[FeedLatency]


class FeedBudget(msgspec.Struct, frozen=True):
    """A carbon budget's day."""

    budget: str
    name: str | None
    limit_g: float
    spent_g: float
    left_g: float
    shadow: bool = False


class FeedReason(msgspec.Struct, frozen=True):
    """Why a gateway is not quite ready."""

    reason: str
    detail: str


class FeedStatus(msgspec.Struct, frozen=True):
    """Readiness."""

    status: str
    reasons: list[FeedReason]


class FeedSample(msgspec.Struct, frozen=True):
    """``share``: of decisions that are told of."""

    share: float


class FeedTick(msgspec.Struct, frozen=True):
    """``endpoints``: in the order of the fleet: state (0 takes traffic), requests in flight,
    whether anybody is there, why it takes no traffic."""

    at: float
    wall: float
    totals: FeedSums | None
    rates: FeedRates | None
    own: FeedOwn | None
    endpoints: list[tuple[int, float, bool, str]]
    latency: FeedLatencies
    budgets: list[FeedBudget]
    status: FeedStatus
    decisions: FeedSample


class FeedLatencyFirst(msgspec.Struct, frozen=True):
    """What latency-first would have done."""

    region: str = ""
    gco2e_g: float | None = None


class FeedReceipt(msgspec.Struct, frozen=True):
    """Of the answer that followed."""

    gco2e_g: float | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    attempts: int = 1


class FeedLimits(msgspec.Struct, frozen=True):
    """Latency budgets, ms."""

    ttft_ms: float | None = None
    e2e_ms: float | None = None


class FeedDecision(msgspec.Struct, frozen=True):
    """``at``: unix s, of the clock that dates intensities; figures predicted but for the receipt's.
    ``refusal``: "" where it chose an endpoint."""

    key: str
    id: str
    at: float
    attempt: int
    model: str
    tenant: str
    refusal: str
    budget: FeedLimits
    receipt: FeedReceipt | None = None
    endpoint: str = ""
    region: str = ""
    emulated: bool = False
    gco2e_g: float | None = None
    ttft_ms: float | None = None
    e2e_ms: float | None = None
    latency_first: FeedLatencyFirst = FeedLatencyFirst()
    relaxed: list[str] = []
    flags: list[str] = []
    variant: str = ""
    quality: float | None = None


def decoded(data: bytes, shape: type[Shape]) -> Shape:
    """Raises DataError for what is not of this ``shape``."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"the feed's {shape.__name__} cannot be read: {error}") from None


def decoded_list(data: bytes, shape: type[Shape]) -> list[Shape]:
    """Of a list of them."""
    try:
        return msgspec.json.decode(data, type=list[shape])  # type: ignore[valid-type]
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"the feed's {shape.__name__} cannot be read: {error}") from None
