"""What another policy would have done with the same requests, by their first decisions.

Weighted by the odds at which each decision was kept, so that figures are of all requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.accounting import predict
from router.core.columns import Snapshot
from router.core.energy import Crowd
from router.core.seen import Answered, DecisionInput
from router.model import Decision

_NOWHERE: Final = -1


class Share(NamedTuple):
    """A share of requests, and its 95 % interval for that only some decisions were kept."""

    share: float
    low: float
    high: float


class Effect(NamedTuple):
    """What another policy would have done with some requests; ``then``: as it was.

    ``requests``: about so many; ``elsewhere``: of those, another endpoint; ``refused_*``: so many.
    ``grams_*`` and ``energy_*_j``: predicted, attributional, of the ``compared`` requests that go
    somewhere by both and whose intensity is known; ``ttft_*_ms``: predicted, at the policy's
    quantile: the median and the 95 % quantile of those.
    """

    name: str
    requests: float
    elsewhere: Share
    refused_then: float
    refused_now: float
    compared: float
    grams_then: float
    grams_now: float
    energy_then_j: float
    energy_now_j: float
    ttft_then_ms: tuple[float, float]
    ttft_now_ms: tuple[float, float]


class RegionEffect(NamedTuple):
    """Requests that go to a region, and their predicted grams."""

    region: str
    requests_then: float
    requests_now: float
    grams_then: float
    grams_now: float


@dataclass(frozen=True, slots=True)
class PolicyEffect:
    """Of requests' first decisions. ``notes``: what else has to be known to read it."""

    policy: str
    total: Effect
    models: tuple[Effect, ...]
    regions: tuple[RegionEffect, ...]
    notes: tuple[str, ...]


class _Codes:
    """Small numbers for names."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))


class Effects:
    """What two policies did with the same requests, as columns."""

    def __init__(self) -> None:
        self._models, self._regions = _Codes(), _Codes()
        self._codes: list[tuple[int, int, int, bool]] = []
        self._figures: list[tuple[float, ...]] = []

    def add(
        self,
        seen: DecisionInput,
        probability: float,
        snapshot: Snapshot,
        then: Answered,
        now: Answered,
    ) -> None:
        """One first decision, taken on ``snapshot`` and kept with this ``probability``."""
        before, after = then.decision, now.decision
        moves = _place(before) != _place(after)
        self._codes.append(
            (
                self._models.of(seen.request.model),
                _NOWHERE if before is None else self._regions.of(before.endpoint.region),
                _NOWHERE if after is None else self._regions.of(after.endpoint.region),
                moves and before is not None and after is not None,
            )
        )
        self._figures.append(
            (
                1.0 / probability,
                *_predicted(seen, snapshot, before),
                *_predicted(seen, snapshot, after),
                math.nan if before is None else before.ttft_ms,
                math.nan if after is None else after.ttft_ms,
            )
        )

    def of(self, policy: str, notes: Sequence[str]) -> PolicyEffect:
        """``policy``: its name; ``notes``: see `PolicyEffect`."""
        codes = np.array(self._codes, np.int64).reshape(-1, 4)
        figures = np.array(self._figures).reshape(-1, 7)
        everyone = np.ones(len(codes), np.bool_)
        models = tuple(
            _effect(name, codes, figures, codes[:, 0] == code)
            for name, code in sorted(self._models.names.items())
        )
        unknown = ~np.isfinite(figures[:, [2, 4]]).all(axis=1) & (codes[:, 1:3] >= 0).all(axis=1)
        notes = list(notes)
        if unknown.any():
            share = figures[unknown, 0].sum() / figures[:, 0].sum()
            notes.append(f"{share:.1%} of requests are in no sum of grams: intensity is unknown")
        return PolicyEffect(
            policy,
            _effect("all", codes, figures, everyone),
            models,
            tuple(
                _region_effect(name, code, codes, figures)
                for name, code in sorted(self._regions.names.items())
            ),
            tuple(notes),
        )


def _predicted(
    seen: DecisionInput, snapshot: Snapshot, decision: Decision | None
) -> tuple[float, float]:
    """(IT joules, grams) that its receipt is predicted to say, at the load that it saw; NaN."""
    if decision is None:
        return math.nan, math.nan
    candidates = snapshot.layout.find(seen.request.model, seen.request.version)
    row = candidates.row_of(decision.endpoint, decision.served)
    live = seen.live
    crowd = Crowd(
        float(live[k.BATCH, row]) + 1.0,
        float(live[k.PROMPTS_MS, row]),
        float(live[k.CACHED_TOKENS, row]) + decision.burden.cached_tokens,
    )
    regions = snapshot.layout.fleet.regions
    found = predict(decision, seen.expected, crowd, seen.network_j, regions)
    return found.energy_j, found.gco2e


def _place(decision: Decision | None) -> tuple[str, str, str] | None:
    if decision is None:
        return None
    return decision.endpoint.name, decision.served.name, decision.served.version


def _effect(
    name: str, codes: NDArray[np.int64], figures: NDArray[np.float64], mine: NDArray[np.bool_]
) -> Effect:
    codes, figures = codes[mine], figures[mine]
    weights = figures[:, 0]
    served = (codes[:, 1:3] >= 0).all(axis=1)
    known = served & np.isfinite(figures[:, 1:5]).all(axis=1)
    sums = (weights[known, None] * figures[known, 1:5]).sum(axis=0)
    return Effect(
        name,
        float(weights.sum()),
        _share(codes[:, 3] != 0, weights),
        float(weights[codes[:, 1] == _NOWHERE].sum()),
        float(weights[codes[:, 2] == _NOWHERE].sum()),
        float(weights[known].sum()),
        float(sums[1]),
        float(sums[3]),
        float(sums[0]),
        float(sums[2]),
        _quantiles(figures[served, 5], weights[served]),
        _quantiles(figures[served, 6], weights[served]),
    )


def _region_effect(
    name: str, code: int, codes: NDArray[np.int64], figures: NDArray[np.float64]
) -> RegionEffect:
    then, now = codes[:, 1] == code, codes[:, 2] == code
    weights = figures[:, 0]
    return RegionEffect(
        name,
        float(weights[then].sum()),
        float(weights[now].sum()),
        float(np.nansum(weights[then] * figures[then, 2])),
        float(np.nansum(weights[now] * figures[now, 4])),
    )


def _share(chosen: NDArray[np.bool_], weights: NDArray[np.float64]) -> Share:
    """Of a Poisson sample: each was kept by itself, with probability 1 / weight."""
    total = weights.sum()
    if not total > 0.0:
        return Share(math.nan, math.nan, math.nan)
    share = float(weights[chosen].sum() / total)
    variance = (weights * (weights - 1.0) * (chosen - share) ** 2).sum() / total**2
    reach = 1.96 * math.sqrt(variance)
    return Share(share, max(0.0, share - reach), min(1.0, share + reach))


def _quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], at: Sequence[float] = (0.5, 0.95)
) -> tuple[float, float]:
    """The least values with so much of the weight at or below them; NaN of none."""
    if not len(values):
        return math.nan, math.nan
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array(at) * reached[-1])
    median, high = values[order][np.minimum(places, len(values) - 1)]
    return float(median), float(high)
