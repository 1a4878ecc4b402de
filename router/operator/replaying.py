"""What `replay` does: kept decisions taken again, by their own policy and by another.

First order only: the board is as each decision saw it, whatever another policy would have sent
where by then; carbon budgets say what they said; expected lengths, latency factors and premiums
are those of the policy that was in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.config.loading import parse_policy
from router.config.policy import PolicySchema
from router.core import kernel_rows as k
from router.core.accounting import predict
from router.core.answered import answer_of, differences
from router.core.columns import Snapshot
from router.core.energy import Crowd
from router.core.explanation import Explanation
from router.core.seen import Answered, DecisionInput, DecisionKind, decide_again, explain_again
from router.errors import ConfigError, DataError, MixedBasisError, RequestError
from router.ledger.decisions.code_version import code_version
from router.ledger.decisions.documents import KeptSnapshot
from router.ledger.decisions.reading import DecisionRead
from router.ledger.decisions.rows import DecisionRow
from router.model import Decision, Policy, Signal

# Of each version, decisions that are named.
_MOST_EXAMPLES: Final = 5
_NOWHERE: Final = -1


class Otherwise(NamedTuple):
    """A decision that this code takes otherwise: in ``what``."""

    decision_id: str
    at: float
    what: tuple[str, ...]


@dataclass(slots=True)
class CodeTally:
    """Decisions of one version of the code. ``otherwise``: of them, those that this one takes
    otherwise; ``elsewhere``: that go to another endpoint, or are refused, or no longer.
    ``columns_otherwise``: that were taken on columns that this code builds otherwise."""

    code: str
    decisions: int = 0
    otherwise: int = 0
    elsewhere: int = 0
    columns_otherwise: int = 0
    examples: list[Otherwise] = field(default_factory=list)

    @property
    def is_this(self) -> bool:
        """Whether this code took them."""
        return self.code == code_version()


@dataclass(slots=True)
class Replay:
    """``requests``: that the kept decisions stand for; ``unreplayable``: kept ones whose snapshot
    is not there, or of other candidates; ``first``, ``last``: unix s, NaN of none. ``effect``: of
    the other policy, None where none was asked for."""

    decisions: int = 0
    requests: float = 0.0
    unreplayable: int = 0
    first: float = math.nan
    last: float = math.nan
    policies: list[str] = field(default_factory=list)
    codes: list[CodeTally] = field(default_factory=list)
    effect: PolicyEffect | None = None

    @property
    def is_void(self) -> bool:
        """Whether decisions are there, and none of them could be taken again."""
        return 0 < self.decisions == self.unreplayable

    @property
    def is_exact(self) -> bool:
        """Whether this code takes all that it took just as it did; of nothing that is not known."""
        return not self.is_void and not any(
            one.is_this and (one.otherwise or one.columns_otherwise) for one in self.codes
        )


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


class ToldDecision(NamedTuple):
    """One decision with its terms. ``otherwise``: what this code takes otherwise."""

    row: DecisionRow
    explanation: Explanation
    otherwise: tuple[str, ...]


class OtherPolicy:
    """A policy file or a shipped one, laid over kept snapshots. Raises ConfigError."""

    def __init__(self, chosen: str) -> None:
        self._schema: PolicySchema
        self._schema, self._name = parse_policy(chosen, Path())
        self._built: dict[int, tuple[KeptSnapshot, Snapshot]] = {}
        self.chosen = chosen
        self.notes: dict[str, None] = {}

    def policy(self, signal: Signal) -> Policy:
        """``signal``: of the data by which was decided."""
        return self._schema.build(self._name, signal)

    def on(self, kept: KeptSnapshot) -> Snapshot:
        """Raises ConfigError where it wants carbon data of another basis than were kept."""
        known = self._built.get(id(kept))
        if known is not None:
            return known[1]
        then = kept.snapshot.policy
        policy = self.policy(then.signal)
        if policy.signal != then.signal:
            self._refuse(policy, then)
        try:
            built = kept.by(policy)
        except MixedBasisError:
            self._refuse(policy, then)
        if (policy.quantile, policy.tpot_quantile) != (then.quantile, then.tpot_quantile):
            self.notes[
                f"latencies stay at the quantiles of {then.name} ({then.quantile:g}, "
                f"{then.tpot_quantile:g}), not at this policy's ({policy.quantile:g}, "
                f"{policy.tpot_quantile:g}): what was learned is kept for those alone"
            ] = None
        while len(self._built) >= 64:
            del self._built[next(iter(self._built))]
        self._built[id(kept)] = kept, built
        return built

    def _refuse(self, policy: Policy, then: Policy) -> None:
        wanted, had = policy.signal, then.signal
        text = (
            f"wants {wanted.basis}/{wanted.factors}, and these decisions were taken by "
            f"{had.basis}/{had.factors}: no other carbon data were kept"
        )
        raise ConfigError(self.chosen, [("signal", text)])


def replay(
    reads: Iterable[DecisionRead], other: OtherPolicy | None = None, model: str = ""
) -> Replay:
    """Take all of ``reads`` again; ``model``: only its requests. Raises DataError for files that
    cannot be read, ConfigError for a policy that does not fit."""
    found = Replay()
    codes: dict[str, CodeTally] = {}
    effects = _Effects()
    for row, kept in reads:
        if model and row.seen.request.model != model:
            continue
        found.decisions += 1
        if row.kind is DecisionKind.FIRST:
            found.requests += 1.0 / row.probability
        found.first = min(row.seen.at, found.first) if found.decisions > 1 else row.seen.at
        found.last = max(row.seen.at, found.last) if found.decisions > 1 else row.seen.at
        again = _again(row, kept)
        if again is None or kept is None:
            found.unreplayable += 1
            continue
        if row.policy not in found.policies:
            found.policies.append(row.policy)
        tally = codes.setdefault(row.code, CodeTally(row.code))
        _compare(tally, row, kept, again)
        if other is not None and row.kind is DecisionKind.FIRST:
            effects.add(row, kept.snapshot, again, decide_again(row.seen, other.on(kept)))
    found.codes = list(codes.values())
    if other is not None:
        found.effect = effects.of(other)
    return found


def tell(reads: Iterable[DecisionRead], decision_id: str) -> list[ToldDecision]:
    """Every kept decision of a request, with all terms of its candidates. Raises DataError where
    there is none, or it cannot be taken again."""
    told = []
    for row, kept in reads:
        if row.decision_id != decision_id:
            continue
        again = _again(row, kept)
        if again is None or kept is None:
            raise DataError(f"{decision_id}: its snapshot is not in the ledger")
        then = differences(row.answer, answer_of(again))
        told.append(ToldDecision(row, explain_again(row.seen, kept.snapshot), then))
    if not told:
        text = "no such decision was kept: a share is, by chance, and all that refuse or follow"
        raise DataError(f"{decision_id}: {text} a failure")
    return told


def _again(row: DecisionRow, kept: KeptSnapshot | None) -> Answered | None:
    """None where it cannot be."""
    if kept is None:
        return None
    try:
        return decide_again(row.seen, kept.snapshot)
    except (RequestError, ValueError):
        return None


def _compare(tally: CodeTally, row: DecisionRow, kept: KeptSnapshot, again: Answered) -> None:
    tally.decisions += 1
    tally.columns_otherwise += not kept.is_same
    answer = answer_of(again)
    what = differences(row.answer, answer)
    if not what:
        return
    tally.otherwise += 1
    tally.elsewhere += (answer.refusal, answer.endpoint, answer.version) != (
        row.answer.refusal,
        row.answer.endpoint,
        row.answer.version,
    )
    if len(tally.examples) < _MOST_EXAMPLES:
        tally.examples.append(Otherwise(row.decision_id, row.seen.at, what))


def _predicted(
    seen: DecisionInput, snapshot: Snapshot, decision: Decision | None
) -> tuple[float, float]:
    """(IT joules, grams) that its receipt is predicted to say, at the load that it saw; NaN."""
    if decision is None:
        return math.nan, math.nan
    candidates = snapshot.layout.find(seen.request.model, seen.request.version)
    row = next(
        row
        for row in candidates.rows[decision.endpoint.name]
        if candidates.served[row].version == decision.served.version
    )
    live = seen.live
    crowd = Crowd(
        float(live[k.BATCH, row]) + 1.0,
        float(live[k.PROMPTS_MS, row]),
        float(live[k.CACHED_TOKENS, row]) + decision.burden.cached_tokens,
    )
    regions = snapshot.layout.fleet.regions
    found = predict(decision, seen.expected, crowd, seen.network_j, regions)
    return found.energy_j, found.gco2e


class _Codes:
    """Small numbers for names."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))


class _Effects:
    """What two policies did with the same requests, as columns."""

    def __init__(self) -> None:
        self._models, self._regions = _Codes(), _Codes()
        self._codes: list[tuple[int, int, int, bool]] = []
        self._figures: list[tuple[float, ...]] = []

    def add(self, row: DecisionRow, snapshot: Snapshot, then: Answered, now: Answered) -> None:
        before, after = then.decision, now.decision
        moves = _place(before) != _place(after)
        self._codes.append(
            (
                self._models.of(row.seen.request.model),
                _NOWHERE if before is None else self._regions.of(before.endpoint.region),
                _NOWHERE if after is None else self._regions.of(after.endpoint.region),
                moves and before is not None and after is not None,
            )
        )
        self._figures.append(
            (
                1.0 / row.probability,
                *_predicted(row.seen, snapshot, before),
                *_predicted(row.seen, snapshot, after),
                math.nan if before is None else before.ttft_ms,
                math.nan if after is None else after.ttft_ms,
            )
        )

    def of(self, other: OtherPolicy) -> PolicyEffect:
        codes = np.array(self._codes, np.int64).reshape(-1, 4)
        figures = np.array(self._figures).reshape(-1, 7)
        everyone = np.ones(len(codes), np.bool_)
        models = tuple(
            _effect(name, codes, figures, codes[:, 0] == code)
            for name, code in sorted(self._models.names.items())
        )
        unknown = ~np.isfinite(figures[:, [2, 4]]).all(axis=1) & (codes[:, 1:3] >= 0).all(axis=1)
        notes = list(other.notes)
        if unknown.any():
            share = figures[unknown, 0].sum() / figures[:, 0].sum()
            notes.append(f"{share:.1%} of requests are in no sum of grams: intensity is unknown")
        return PolicyEffect(
            other.chosen,
            _effect("all", codes, figures, everyone),
            models,
            tuple(
                _region_effect(name, code, codes, figures)
                for name, code in sorted(self._regions.names.items())
            ),
            tuple(notes),
        )


def _place(decision: Decision | None) -> tuple[str, str] | None:
    return None if decision is None else (decision.endpoint.name, decision.served.version)


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
