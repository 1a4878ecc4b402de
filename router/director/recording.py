"""Which decisions are kept, with all that they saw: for the record, and for who looks on.

A share of them by chance, and all that refuse a request, that an endpoint failed, or that follow
such a failure. Which decisions will fail nobody knows when they are taken: the record watches all,
at the cost of a copy of the live columns, until their request is answered or fails, while what is
watched has room. Whoever is handed what is kept writes it down elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

from router.contract import Rng
from router.core.board import Board
from router.core.budget_rulings import Judge
from router.core.columns import Snapshot
from router.core.lengths import Expected
from router.core.pipeline import Decided, decide
from router.core.question import Question, asked_anew, of_every_variant
from router.core.seen import (
    Answered,
    DecisionInput,
    DecisionKind,
    Draws,
    KeptDecision,
    Rulings,
    Sight,
    saw,
)
from router.errors import RefusedError
from router.model import Request

# Who takes what is kept; must not block, and never raises.
Keep = Callable[[KeptDecision], None]


class Certain(NamedTuple):
    """Of decisions that refuse, fail, or follow a failure: all are kept up to so many.
    ``watched_bytes``: columns of those that may fail yet; 0: of those that do none is certain."""

    per_s: float
    at_once: float
    watched_bytes: int = 0


# Watched: 10,000 requests under way among 9 endpoints each.
OF_THE_RECORD: Final = Certain(50.0, 500.0, 16 * 2**20)


class _Chosen(NamedTuple):
    """A decision that ``by`` is to keep if it stands; ``others``: who beside keeps it, or None.
    ``watched``: of one that ``by`` keeps only if it fails, the parts of its `Sight`, which costs
    more to put together than to copy its columns; empty of any other."""

    by: Recorder
    sight: Sight | None
    others: object
    watched: tuple[Any, ...] = ()


# Of `_Chosen.watched`.
_LIVE: Final = 4


def _sight_of(watched: tuple[Any, ...]) -> Sight:
    """Of one that failed."""
    snapshot, decision, request, expected, live, cached, at, monotonic, network_j, *rest = watched
    pinned, draws, rulings = rest
    seen = DecisionInput(
        request, expected, live, cached, at, monotonic, network_j, (), pinned, draws, rulings
    )
    return Sight(snapshot, seen, Answered(decision, ""), 1.0, True)


class Recorder:
    """Says which decisions to look at, and hands on those that stood.

    A fleet that refuses everybody refuses thousands a second: beyond ``certain``, kept for what
    they are, chance takes its share of those as well.
    """

    def __init__(
        self,
        keep: Keep,
        share: float,
        rng: Rng,
        certain: Certain = OF_THE_RECORD,
        beside: Recorder | None = None,
    ) -> None:
        """``share``: of decisions, kept by chance, 0 to 1; ``rng``: of its own, so that what is
        kept has no bearing on what is decided. ``beside``: that keeps others, by its own share."""
        self._keep = keep
        self._rng = rng
        self._beside = beside
        self._decide = decide if beside is None else beside.decide
        self._left = 0
        self._most = certain
        # Of those kept for what they are: how many more at once, and since when that is so.
        self._certain = certain.at_once
        self._certain_at = -math.inf
        self._watched_bytes = 0
        self.share = share
        self.adopt(share)

    def adopt(self, share: float) -> None:
        """From now on another share."""
        self.share = share
        self._left = self._gap()

    def decide(
        self,
        request: Request,
        snapshot: Snapshot,
        board: Board,
        expected: Expected,
        now: float,
        rng: Rng,
        network_j: float,
        tried: Collection[str],
        pinned: str,
        judge: Judge | None,
        monotonic: float,
    ) -> Decided:
        """As `pipeline.decide`, which see; what is to be kept comes with its sight, the refusal's
        too."""
        draws: Draws | None = None
        rulings: Rulings | None = None
        self._left -= 1
        is_chosen = not self._left
        if is_chosen:
            self._left = self._gap()
        is_watched = not tried and self._watched_bytes < self._most.watched_bytes
        if is_chosen or tried or is_watched:
            rng = draws = Draws(rng)
        if judge is not None:
            judge = rulings = Rulings(judge)
        refusal: RefusedError | None = None
        question: Question | None = None
        try:
            decided = self._decide(
                request, snapshot, board, expected, now, rng, network_j, tried, pinned, judge,
                monotonic,
            )  # fmt: skip
            if draws is None:
                return decided
            question = decided.question
            if request.least_quality and question is not None:
                question = asked_anew(question, of_every_variant(request), snapshot, board, now)
        except RefusedError as error:
            refusal, is_watched = error, False
        is_certain = bool(tried or refusal) and self._has_room(monotonic)
        if not (is_chosen or is_certain or is_watched):
            if refusal is not None:
                raise refusal
            return decided
        # Nothing has changed since: what is read now is what was decided by.
        if question is not None and draws is not None and not (is_chosen or is_certain):
            columns, cached = question.columns, question.cached
            model = columns.candidates
            parts = (
                snapshot, decided.decision, request, expected,
                board.live(model.model, model.version).copy(),
                None if cached is columns.uncached else cached.copy(), now, monotonic, network_j,
                pinned, draws.given, () if rulings is None else rulings.given,
            )  # fmt: skip
            return decided.seen_by(_Chosen(self, None, decided.sight, parts))
        seen = saw(
            request, snapshot, board, expected, now, monotonic, network_j, tuple(tried), pinned,
            () if draws is None else draws.given, () if rulings is None else rulings.given,
            question,
        )  # fmt: skip
        probability = 1.0 if is_certain else self.share
        if refusal is not None:
            answered = Answered(None, refusal.reason)
            sight = Sight(snapshot, seen, answered, probability)
            refusal.sight = _Chosen(self, sight, refusal.sight)
            raise refusal
        sight = Sight(snapshot, seen, Answered(decided.decision, ""), probability, is_watched)
        return decided.seen_by(_Chosen(self, sight, decided.sight))

    @property
    def most_share(self) -> float:
        """Of decisions, the greatest share that anybody keeps by chance."""
        return max(self.share, 0.0 if self._beside is None else self._beside.most_share)

    def offer(self, kept: KeptDecision, share: float, now: float) -> None:
        """A decision that was taken elsewhere, and looked at with the probability ``share``, no
        less than `most_share`; ``now``: monotonic s."""
        by: Recorder | None = self
        while by is not None:
            if kept.sight.answered.decision is None and by._has_room(now):
                by._take(kept._replace(sight=kept.sight._replace(probability=1.0)))
            elif by._rng.random() * share < by.share:
                by._take(kept._replace(sight=kept.sight._replace(probability=by.share)))
            by = by._beside

    def departed(self, sight: object, decision_id: str) -> None:
        """A request's first decision was acted on; `ended` is to follow, once. ``sight``: as the
        decision came with it, None of one that nobody looked at."""
        while isinstance(sight, _Chosen):
            by, seen, others, watched = sight
            if watched:
                by._watched_bytes += watched[_LIVE].nbytes
            elif seen is not None and seen.is_watched:
                by._watched_bytes += seen.seen.live.nbytes
            elif seen is not None:
                by._take(KeptDecision(decision_id, DecisionKind.FIRST, 1, seen))
            sight = others

    def ended(self, sight: object, decision_id: str, has_failed: bool, now: float) -> None:
        """What came of a request's first decision is known; ``now``: monotonic s."""
        while isinstance(sight, _Chosen):
            by, seen, sight, watched = sight
            if watched:
                by._watched_bytes -= watched[_LIVE].nbytes
                if not (has_failed and by._has_room(now)):
                    continue
                seen = _sight_of(watched)
            elif seen is None or not seen.is_watched:
                continue
            else:
                by._watched_bytes -= seen.seen.live.nbytes
                # Though chance has kept it: it would have been without.
                if has_failed and by._has_room(now):
                    seen = seen._replace(probability=1.0)
            by._take(KeptDecision(decision_id, DecisionKind.FIRST, 1, seen))

    def stood(self, sight: object, decision_id: str, attempt: int = 1) -> None:
        """Another decision was acted on, or refused: see `departed`."""
        kind = DecisionKind.FIRST if attempt == 1 else DecisionKind.MOVED
        while isinstance(sight, _Chosen):
            if sight.sight is not None:
                sight.by._take(KeptDecision(decision_id, kind, attempt, sight.sight))
            sight = sight.others

    def refused(self, error: RefusedError, decision_id: str = "", attempt: int = 1) -> None:
        """A request was told ``error``; once. What refuses without a decision is not kept."""
        sight, error.sight = error.sight, None
        self.stood(sight, decision_id, attempt)

    def _take(self, kept: KeptDecision) -> None:
        if kept.sight.probability == 1.0:
            self._certain = max(0.0, self._certain - 1.0)
        self._keep(kept)

    def _has_room(self, now: float) -> bool:
        """Whether one more may be kept for what it is."""
        gone_s = max(0.0, now - self._certain_at)
        self._certain_at = now
        most = self._most
        self._certain = min(self._certain + gone_s * most.per_s, most.at_once)
        return self._certain >= 1.0

    def _gap(self) -> int:
        """Decisions until the next that chance keeps, that one counted; below 0 for none."""
        if not self.share > 0.0:
            return -1
        if self.share >= 1.0:
            return 1
        return 1 + math.floor(math.log1p(-self._rng.random()) / math.log1p(-self.share))
