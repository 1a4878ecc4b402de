"""Which decisions are kept for the record, with all that they saw.

A share of them by chance, and all that refuse a request or follow a failure. Chance is drawn in
gaps: a decision that is not kept costs a count. What is kept costs the loop a copy of the live
columns; whoever is handed it writes it down elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from router.contract import Rng
from router.core.board import Board
from router.core.carbon_budgets import Judge
from router.core.columns import Snapshot
from router.core.lengths import Expected
from router.core.pipeline import Decided, decide
from router.core.seen import Answered, DecisionKind, Draws, KeptDecision, Rulings, Sight, saw
from router.errors import RefusedError
from router.model import Request

# Who takes what is kept; must not block, and never raises.
Keep = Callable[[KeptDecision], None]


class Recorder:
    """Says which decisions to look at, and hands on those that stood."""

    def __init__(self, keep: Keep, share: float, rng: Rng) -> None:
        """``share``: of decisions, kept by chance, 0 to 1; ``rng``: of its own, so that what is
        kept has no bearing on what is decided."""
        self._keep = keep
        self._rng = rng
        self._left = 0
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
        if not self._left or tried:
            if not self._left:
                self._left = self._gap()
            rng = draws = Draws(rng)
        if judge is not None:
            judge = rulings = Rulings(judge)
        refusal: RefusedError | None = None
        try:
            decided = decide(
                request, snapshot, board, expected, now, rng, network_j, tried, pinned, judge,
                monotonic,
            )  # fmt: skip
            if draws is None:
                return decided
        except RefusedError as error:
            refusal = error
        # Nothing has changed since: what is read now is what was decided by.
        seen = saw(
            request, snapshot, board, expected, now, monotonic, network_j, tuple(tried), pinned,
            () if draws is None else draws.given, () if rulings is None else rulings.given,
        )  # fmt: skip
        if refusal is not None:
            refusal.sight = Sight(snapshot, seen, Answered(None, refusal.reason), 1.0)
            raise refusal
        probability = 1.0 if tried else self.share
        answered = Answered(decided.decision, "")
        return decided._replace(sight=Sight(snapshot, seen, answered, probability))

    def stood(self, sight: object, decision_id: str, attempt: int = 1) -> None:
        """The decision was acted on. ``sight``: as the decision came with it, None of one that
        nobody looked at."""
        if isinstance(sight, Sight):
            kind = DecisionKind.FIRST if attempt == 1 else DecisionKind.MOVED
            self._keep(KeptDecision(decision_id, kind, attempt, sight))

    def refused(self, error: RefusedError, decision_id: str = "", attempt: int = 1) -> None:
        """A request was told ``error``; once. What refuses without a decision is not kept."""
        sight, error.sight = error.sight, None
        self.stood(sight, decision_id, attempt)

    def _gap(self) -> int:
        """Decisions until the next that chance keeps, that one counted; below 0 for none."""
        if not self.share > 0.0:
            return -1
        if self.share >= 1.0:
            return 1
        return 1 + math.floor(math.log1p(-self._rng.random()) / math.log1p(-self.share))
