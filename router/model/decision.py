"""Where a request goes, what that is predicted to take, and what was passed over."""

from __future__ import annotations

import math
from typing import NamedTuple

from router.model.fleet import Endpoint, ServedModel
from router.model.intensity import Intensity
from router.model.policy import Relax


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
