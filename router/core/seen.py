"""What one decision saw, and the same decision again.

`decide` is pure: whoever keeps its arguments can take it again, on the same code bit for bit, and
by another policy to see what that would have done. All of them but the live columns are values that
nobody changes; of those a copy is kept (`router.director.recording` says of which decisions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import Rng
from router.core.board import Board
from router.core.budget_rulings import Judge, Ruling
from router.core.columns import Snapshot
from router.core.explanation import Explanation, explain
from router.core.layout import Candidates, Layout
from router.core.lengths import Expected
from router.core.pipeline import decide, without_tried
from router.core.question import CachedOfPrompts, Question, of_every_variant, question_of
from router.errors import RefusedError
from router.model import Decision, Prefix, Request

# What stands for a prompt of which only what is cached where is known.
_SOME_PREFIX = Prefix(np.empty(0, np.int64), 1.0)
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Ruled(NamedTuple):
    """What carbon budgets said of a decision: ``refusal``, the reason that it was refused for, or
    ""; ``greenest``: it was to go where it emits least; ``flags``: of its decision;
    ``any_quality``: by any variant that its caller takes."""

    refusal: str
    greenest: bool
    flags: tuple[str, ...]
    any_quality: bool = False


class DecisionInput(NamedTuple):
    """The arguments of one `decide`, but for its snapshot.

    ``live`` (k.LIVE_ROWS, n): as it stood; ``cached`` (n,): tokens of the prompt that each
    candidate was expected to have, None where nothing is known of any. Of an alias both are of all
    its variants, whatever the request's floors: what the others would have cost is told. ``at``: of
    the clock that dates intensities, ``monotonic``: of that on which requests depart, s.
    ``draws``: none of a refusal, on which they have no bearing. ``rulings``: in order, None of a
    budget that has no say.
    """

    request: Request
    expected: Expected
    live: NDArray[np.float64]
    cached: NDArray[np.float64] | None
    at: float
    monotonic: float
    network_j: float
    tried: tuple[str, ...]
    pinned: str
    draws: tuple[float, ...]
    rulings: tuple[Ruled | None, ...]


class Answered(NamedTuple):
    """What came of a decision: ``decision`` or, where that is None, the reason of its refusal."""

    decision: Decision | None
    refusal: str


class Sight(NamedTuple):
    """One decision: on what, what it saw, what came of it. ``probability``: with which it would be
    kept if it were taken anew. ``is_watched``: it is certain to be, should its endpoint fail it."""

    snapshot: Snapshot
    seen: DecisionInput
    answered: Answered
    probability: float
    is_watched: bool = False


class DecisionKind(StrEnum):
    """Of a request: the first that stands, or one after an endpoint failed it."""

    FIRST = "first"
    MOVED = "moved"


class KeptDecision(NamedTuple):
    """``decision_id``: of the request; "" where it was refused at once. ``attempt``: 1, 2, ... of
    it that the decision was for."""

    decision_id: str
    kind: DecisionKind
    attempt: int
    sight: Sight


class Draws:
    """An `Rng` that remembers what it gave."""

    __slots__ = ("_rng", "given")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self.given: tuple[float, ...] = ()

    def random(self) -> float:
        """As `Rng.random`."""
        draw = self._rng.random()
        self.given = (*self.given, draw)
        return draw


class Rulings:
    """A `Judge` that remembers what it said."""

    __slots__ = ("_judge", "given")

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.given: tuple[Ruled | None, ...] = ()

    def __call__(self, decision: Decision) -> Ruling | None:
        ruling = self._judge(decision)
        self.given = (*self.given, None if ruling is None else _ruled(ruling))
        return ruling


def saw(
    request: Request,
    snapshot: Snapshot,
    board: Board,
    expected: Expected,
    at: float,
    monotonic: float,
    network_j: float,
    tried: Sequence[str],
    pinned: str,
    draws: Sequence[float],
    rulings: Sequence[Ruled | None],
    question: Question | None = None,
) -> DecisionInput:
    """What a decision with these arguments just saw, before anything changes; ``question``: that
    it answered, where it did, of an alias of all its variants."""
    if question is None:
        of_all = of_every_variant(request)
        question = question_of(of_all, snapshot, board, expected, at, network_j, monotonic)
    columns = question.columns
    candidates = columns.candidates
    # Of every request, where the record watches: names would cost as much as the copy.
    return DecisionInput(
        request,
        expected,
        board.live(candidates.model, candidates.version).copy(),
        None if question.cached is columns.uncached else question.cached.copy(),
        at,
        monotonic,
        network_j,
        tuple(tried),
        pinned,
        tuple(draws),
        tuple(rulings),
    )


def decide_again(seen: DecisionInput, snapshot: Snapshot) -> Answered:
    """The same decision, on ``snapshot``: its own, or the same carbon data by another policy.

    Of carbon budgets what they said then holds. Raises RequestError leaves, and ValueError where
    the columns are not of the snapshot's candidates.
    """
    request, board = _asked(seen, snapshot)
    try:
        decided = decide(
            request, snapshot, board, seen.expected, seen.at, _DrawsAgain(seen), seen.network_j,
            seen.tried, seen.pinned, _judge(seen), seen.monotonic,
        )  # fmt: skip
    except RefusedError as error:
        return Answered(None, error.reason)
    return Answered(decided.decision, "")


def explain_again(seen: DecisionInput, snapshot: Snapshot) -> Explanation:
    """Every term of every candidate, as the decision saw them; endpoints that were ``tried``
    before, or are not the pinned one, are shown as unhealthy. Raises as `decide_again`."""
    request, board = _asked(seen, snapshot)
    if seen.tried or seen.pinned:
        candidates = snapshot.layout.find(request.model, request.version)
        columns = snapshot.columns[candidates.model, candidates.version]
        live = without_tried(seen.live, columns, seen.tried, seen.pinned)
        board = _SeenBoard(snapshot.layout, candidates, live, seen.cached)
    found = explain(
        request, snapshot, board, seen.expected, seen.at, _DrawsAgain(seen), seen.network_j,
        _judge(seen), seen.monotonic,
    )  # fmt: skip
    return replace(found, request=seen.request._replace(prefix=None))


class _SeenBoard:
    """A `BoardView`: what one decision saw of the board, of all ``candidates``; of an alias also of
    those of them that reach a floor."""

    __slots__ = ("_cached", "_candidates", "_layout", "_live", "templates")

    def __init__(
        self,
        layout: Layout,
        candidates: Candidates,
        live: NDArray[np.float64],
        cached: NDArray[np.float64] | None,
    ) -> None:
        self._layout = layout
        self._candidates = candidates
        self._live = live
        self._cached = cached
        self.templates = _NOTHING_CACHED

    def live(self, model: str, version: str) -> NDArray[np.float64]:
        rows = self._rows(model, version)
        return self._live if rows is None else np.ascontiguousarray(self._live[:, rows])

    def prefixes(self, model: str, version: str) -> CachedOfPrompts | None:
        if self._cached is None:
            return None
        rows = self._rows(model, version)
        return _CachedThen(self._cached if rows is None else self._cached[rows])

    def _rows(self, model: str, version: str) -> list[int] | None:
        """Where among all candidates these are; None where they are all."""
        every, some = self._candidates, self._layout.candidates[model, version]
        if some is every:
            return None
        return [every.row_of(*one) for one in zip(some.endpoints, some.served, strict=True)]


class _CachedThen:
    """`CachedOfPrompts` of the one prompt that was decided."""

    __slots__ = ("_cached",)

    def __init__(self, cached: NDArray[np.float64]) -> None:
        self._cached = cached

    def expected(self, prefix: Prefix, input_tokens: float) -> NDArray[np.float64]:
        return self._cached


class _NothingCached:
    """`CachedOfAll` where it is in what is cached of the one prompt."""

    def of(self, candidates: Candidates) -> NDArray[np.float64] | None:
        return None


_NOTHING_CACHED = _NothingCached()


class _DrawsAgain:
    """An `Rng`: the draws of then; beyond them ones that are the same at every replay."""

    __slots__ = ("_left", "_next")

    def __init__(self, seen: DecisionInput) -> None:
        self._left = list(reversed(seen.draws))
        self._next = math.modf(seen.monotonic * _GOLDEN)[0] % 1.0

    def random(self) -> float:
        if self._left:
            return self._left.pop()
        self._next = (self._next + _GOLDEN) % 1.0
        return self._next


class _RefusedThen(RefusedError):
    """A carbon budget's refusal, of which the reason was kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _asked(seen: DecisionInput, snapshot: Snapshot) -> tuple[Request, _SeenBoard]:
    request, cached = seen.request, seen.cached
    layout = snapshot.layout
    candidates = layout.find(request.model, request.version)
    n = len(candidates.endpoints)
    if seen.live.shape[1] != n or (cached is not None and len(cached) != n):
        raise ValueError(f"columns of {seen.live.shape[1]} candidates, and there are {n}")
    if cached is not None:
        request = request._replace(prefix=_SOME_PREFIX)
    return request, _SeenBoard(layout, candidates, seen.live, cached)


def _judge(seen: DecisionInput) -> Judge | None:
    if not seen.rulings:
        return None
    left = list(reversed(seen.rulings))

    def judge(_: Decision) -> Ruling | None:
        ruled = left.pop() if left else None
        if ruled is None:
            return None
        refusal = _RefusedThen(ruled.refusal) if ruled.refusal else None
        return Ruling((), 0, refusal, ruled.greenest, ruled.flags, ruled.any_quality)

    return judge


def _ruled(ruling: Ruling) -> Ruled:
    refusal = "" if ruling.refusal is None else ruling.refusal.reason
    return Ruled(refusal, ruling.greenest, ruling.flags, ruling.any_quality)
