"""Savings split into their causes, as plain values for ``summary.json`` and the demo.

Compared are grams per completed request, so that work which was refused or lost saves nothing: of
the whole fleet (consequential) and of the requests (attributional). Every key is explained in
docs/simulate.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from router.lab.study.causes import (
    PolicyChain,
    PolicyVariant,
    SavingCause,
    interval,
    intervals,
    shares,
)

# Runs whose completed share and SLO attainment differ by no more than this did the same work.
EQUAL_WORK: Final = 0.001
NO_ALIASES: Final = "no aliases in this scenario"
CHOSEN_IN_BOTH: Final = "the baseline chooses among variants, too"
NOT_CONFIGURED: Final = "no autoscaling in this scenario"
IN_BOTH: Final = "the baseline releases idle replicas, too"
NOTHING_WAITS: Final = "nothing may wait in this scenario"
AT_ONCE: Final = ", at once"
WAITING: Final = ", waiting"
KEPT_ON: Final = ", idle replicas kept on"
BEST_ONLY: Final = ", best variants only"


class SplitFigures(NamedTuple):
    """What of a run a split needs. Grams per completed request: ``fleet_g`` of the whole fleet,
    idle replicas included, ``own_g`` attributional. ``tpot_*_ms``: time per output token.
    ``quality``: mean of requests for aliases. NaN where nothing was completed.
    """

    fleet_g: float
    own_g: float
    completed_share: float
    met: float
    tpot_p50_ms: float
    tpot_p95_ms: float
    quality: float = math.nan


class SplitRuns(NamedTuple):
    """``of``: figures of a variant under the seed with this number, from 0 to ``seeds`` - 1;
    ``scaled``: idle replicas are released in this scenario; ``sized``: it has aliases;
    ``deferred``: some of its requests may wait."""

    of: Callable[[PolicyVariant, int], SplitFigures]
    seeds: int
    scaled: bool
    sized: bool = False
    deferred: bool = False


_KINDS: Final[Mapping[str, Callable[[SplitFigures], float]]] = {
    "consequential": lambda figures: figures.fleet_g,
    "attributional": lambda figures: figures.own_g,
}


def split(chains: Iterable[PolicyChain], runs: SplitRuns) -> dict[str, Any]:
    """By baseline, what the asked policy of ``chains`` saves against it, by cause and order.

    Means over seeds with their intervals; steps, TPOT and equality of work are of the first seed.
    """
    found: dict[str, Any] = {}
    for chain in chains:
        against = found.setdefault(_name(chain.baseline, chain, runs), _whole(chain, runs))
        by_kind = {kind: intervals(chain, _by_seed(kind, runs)) for kind in _KINDS}
        against[str(chain.order)] = {
            str(cause): {kind: by_cause[cause]._asdict() for kind, by_cause in by_kind.items()}
            for cause in SavingCause
        } | {"steps": _steps(chain, runs)}
    return found


def _name(variant: PolicyVariant, chain: PolicyChain, runs: SplitRuns) -> str:
    """A policy's name, that its idle replicas are kept on where others release them, that it takes
    the best variants where others choose, and whether what may wait waits where one would take it
    for the other: no baseline waits, and the policy that was asked for does."""
    name = variant.policy.name + (KEPT_ON if runs.scaled and not variant.releases else "")
    name += BEST_ONLY if runs.sized and not variant.chooses else ""
    asked = variant.policy == chain.asked.policy
    if runs.deferred and variant.waits != asked:
        name += WAITING if variant.waits else AT_ONCE
    return name


def _by_seed(kind: str, runs: SplitRuns) -> list[Callable[[PolicyVariant], float]]:
    def grams(seed: int, variant: PolicyVariant) -> float:
        return _KINDS[kind](runs.of(variant, seed))

    return [partial(grams, seed) for seed in range(runs.seeds)]


def _whole(chain: PolicyChain, runs: SplitRuns) -> dict[str, Any]:
    baseline, asked = runs.of(chain.baseline, 0), runs.of(chain.asked, 0)
    absent = {}
    if chain.baseline.waits == chain.asked.waits:
        absent[str(SavingCause.WAITING)] = NOTHING_WAITS
    if chain.baseline.chooses == chain.asked.chooses:
        absent[str(SavingCause.WHICH_MODEL)] = CHOSEN_IN_BOTH if runs.sized else NO_ALIASES
    if chain.baseline.releases == chain.asked.releases:
        absent[str(SavingCause.SCALE_DOWN)] = IN_BOTH if runs.scaled else NOT_CONFIGURED
    totals = {
        kind: interval([math.fsum(shares(chain, grams).values()) for grams in _by_seed(kind, runs)])
        for kind in _KINDS
    }
    return {
        "total": {kind: found._asdict() for kind, found in totals.items()},
        "absent": absent,
        "equal_work": equal_work(baseline, asked),
        "tpot_ms_of_baseline": _pace(baseline),
        "tpot_ms": _pace(asked),
        "quality_of_baseline": baseline.quality,
        "quality": asked.quality,
    }


def _steps(chain: PolicyChain, runs: SplitRuns) -> list[dict[str, Any]]:
    """Each with its share of the baseline's grams, NaN where the baseline has none."""
    found = []
    for step in chain.steps:
        whole, before, after = (
            runs.of(variant, 0) for variant in (chain.baseline, step.before, step.after)
        )
        found.append({
            "cause": str(step.cause),
            "from": _name(step.before, chain, runs),
            "to": _name(step.after, chain, runs),
            **{
                kind: (grams(before) - grams(after)) / grams(whole) if grams(whole) > 0.0
                else math.nan
                for kind, grams in _KINDS.items()
            },
            "tpot_ms_before": _pace(before),
            "tpot_ms_after": _pace(after),
            "quality_before": before.quality,
            "quality_after": after.quality,
            "equal_work": equal_work(before, after),
        })  # fmt: skip
    return found


def equal_work(one: SplitFigures, other: SplitFigures) -> bool:
    """Whether both completed the same share of the requests and met as many budgets, within 0.1
    point. Flows have no budgets met (NaN), which is no difference.
    """
    apart = abs(one.completed_share - other.completed_share), abs(one.met - other.met)
    return not any(difference > EQUAL_WORK for difference in apart)


def _pace(figures: SplitFigures) -> dict[str, float]:
    return {"p50": figures.tpot_p50_ms, "p95": figures.tpot_p95_ms}
