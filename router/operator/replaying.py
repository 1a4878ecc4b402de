"""What `replay` does: kept decisions taken again, by their own policy and by another.

First order only: the board is as each decision saw it, whatever another policy would have sent
where by then; carbon budgets say what they said; expected lengths, latency factors and premiums
are those of the policy that was in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from router.config.loading import parse_policy
from router.config.policy import PolicySchema
from router.core.answered import answer_of, differences
from router.core.columns import Snapshot
from router.core.explanation import Explanation
from router.core.policy_effect import Effects, PolicyEffect
from router.core.seen import Answered, DecisionKind, decide_again, explain_again
from router.errors import ConfigError, DataError, MixedBasisError, RequestError
from router.ledger.decisions.code_version import code_version
from router.ledger.decisions.documents import KeptSnapshot
from router.ledger.decisions.reading import DecisionRead
from router.ledger.decisions.rows import DecisionRow
from router.model import Policy, Signal

# Of each version, decisions that are named.
_MOST_EXAMPLES: Final = 5


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
    effects = Effects()
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
            now = decide_again(row.seen, other.on(kept))
            effects.add(row.seen, row.probability, kept.snapshot, again, now)
    found.codes = list(codes.values())
    if other is not None:
        found.effect = effects.of(other.chosen, tuple(other.notes))
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
