"""filter -> score -> pick -> Decision, over an immutable snapshot and the live board.

Pure: `now` and `rng` are arguments, nothing is awaited and nothing changes. What comes back says
what was decided, and what the request would teach if it is forwarded; the caller acts on both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import Rng
from router.core import kernel_rows as k
from router.core.board import Board
from router.core.budget_rulings import Judge, Ruling
from router.core.burden import burden_of
from router.core.columns import GREENEST, ModelColumns, Snapshot, is_stale, mean_over
from router.core.kernel import choose
from router.core.lengths import Expected
from router.core.premiums import TEACHES, learn_premiums
from router.core.question import BoardView, Question, asked_anew, question_of
from router.core.refusal import refusal
from router.core.variants import FLOOR_DROPPED, with_variant
from router.model import (
    UNBURDENED,
    Alternative,
    Burden,
    Decision,
    Intensity,
    Relax,
    Request,
    ServedModel,
    TaskProfile,
)
from router.units import J_PER_KWH

CARBON_STALE = "carbon_stale"
CARBON_UNKNOWN = "carbon_unknown"

_UNKNOWN_INTENSITY = (None, math.nan)


class Need(NamedTuple):
    """What a request that is forwarded teaches of scarce room. ``best`` (regions,): the least cost
    in each; ``params``: of the rung of the ladder on which it was decided.
    """

    question: Question
    params: NDArray[np.float64]
    best: NDArray[np.float64]

    def teach(self, board: Board) -> None:
        """Once the request is forwarded, before it takes its place: what room on ``board`` is
        worth."""
        columns = self.question.columns
        candidates = columns.candidates
        learn_premiums(
            columns.table, board.live(candidates.model, candidates.version), candidates.labels,
            candidates.starts, self.params, *self.question.scalars, self.question.cached, self.best,
        )  # fmt: skip


class Decided(NamedTuple):
    """A decision, and what it would teach; ``need`` None where that is nothing. ``ruling``: what
    it would reserve of carbon budgets, None where none has a say. ``sight``: what it saw, where
    that is kept. ``question``: that it answers."""

    decision: Decision
    need: Need | None
    ruling: Ruling | None = None
    sight: object = None
    question: Question | None = None

    def seen_by(self, sight: object) -> Decided:
        """The same, with its ``sight``: on the way of every request, so no `_replace`."""
        return Decided(self.decision, self.need, self.ruling, sight, self.question)

    def flagged(self, flag: str) -> Decided:
        """The same, told with one flag more."""
        decision = self.decision
        return self._replace(decision=decision._replace(flags=(*decision.flags, flag)))


def decide(
    request: Request,
    snapshot: Snapshot,
    board: BoardView,
    expected: Expected,
    now: float,
    rng: Rng,
    network_j: float = 0.0,
    tried: Collection[str] = (),
    pinned: str = "",
    judge: Judge | None = None,
    monotonic: float | None = None,
) -> Decided:
    """Where ``request`` goes at ``now``; changes nothing. ``network_j``: joules to carry it;
    ``tried``: endpoints that failed it already; ``pinned``: the only endpoint allowed (it holds a
    sequence's state). With either it is no free choice, and tells nothing of what room is worth.
    ``judge``: what carbon budgets say of a decision; one that has nothing left refuses it, has it
    taken anew by grams alone, with or without the agreed quality floor, or flags it. ``monotonic``:
    see `question_of`.

    Raises UnknownModelError, InvalidMetadataError (origin, tenant), or the RefusedError leaf that
    says what stood in the way, after the policy's ladder is exhausted.
    """
    question = question_of(request, snapshot, board, expected, now, network_j, monotonic)
    columns = question.columns
    candidates = columns.candidates
    live = board.live(candidates.model, candidates.version)
    is_free = not (tried or pinned)
    if not is_free:
        live = without_tried(live, columns, tried, pinned)
    taken = 0
    for params in snapshot.rungs:
        draw = rng.random()
        found = choose(
            columns.table, live, candidates.labels, candidates.starts, params,
            *question.scalars, question.cached, draw, columns.scratch,
        )  # fmt: skip
        if found[0] >= 0:
            break
        taken += 1
    else:
        raise refusal(request, question, snapshot, live, params)
    need = None
    if is_free and draw < TEACHES:
        need = Need(question, params, columns.scratch[k.S_BEST].copy())
    relaxed = snapshot.policy.ladder[:taken]
    decision = decision_of(found, relaxed, question, snapshot, now)
    ruling = None
    if judge is not None:
        ruling = judge(decision)
        if ruling is not None and ruling.refusal is not None:
            raise ruling.refusal
        if ruling is not None and ruling.greenest:
            need = None
            # No floor gives way that the caller sets as high as was agreed.
            if ruling.any_quality and request.agreed_floor > request.quality_floor:
                request = request._replace(agreed_floor=0.0)
                question = asked_anew(question, request, snapshot, board, now)
                ruling = ruling._replace(flags=(*ruling.flags, FLOOR_DROPPED))
            draw = rng.random()
            decision, ruling = _greenest_as_ruled(
                request, question, snapshot, board, now, draw, tried, pinned, judge, ruling
            )
        if ruling is not None and ruling.flags:
            decision = decision._replace(flags=(*decision.flags, *ruling.flags))
    alias = snapshot.layout.fleet.aliases.get(request.model)
    if alias is not None:
        decision = with_variant(decision, request, alias, question, snapshot, board, now)
    return Decided(decision, need, ruling, question=question)


def _greenest_as_ruled(
    request: Request,
    question: Question,
    snapshot: Snapshot,
    board: BoardView,
    now: float,
    draw: float,
    tried: Collection[str],
    pinned: str,
    judge: Judge,
    ruling: Ruling,
) -> tuple[Decision, Ruling]:
    """A decision anew, by grams alone, and what is ruled of it. Raises RefusedError leaves."""
    columns = question.columns
    live = board.live(columns.candidates.model, columns.candidates.version)
    if tried or pinned:
        live = without_tried(live, columns, tried, pinned)
    decision = greenest(request, question, snapshot, live, now, draw)
    anew = judge(decision)
    if anew is not None and anew.refusal is not None:
        raise anew.refusal
    # What led here stands, though it may fit now.
    ruling = ruling._replace(ask_ug=ruling.ask_ug if anew is None else anew.ask_ug)
    return decision, ruling


def greenest(
    request: Request,
    question: Question,
    snapshot: Snapshot,
    live: NDArray[np.float64],
    now: float,
    draw: float,
) -> Decision:
    """Where the request emits least. Raises the RefusedError leaf that says why nowhere."""
    columns = question.columns
    candidates = columns.candidates
    live = without_premiums(live)
    for params, relaxed in snapshot.green_rungs:
        found = choose(
            columns.table, live, candidates.labels, candidates.starts, params,
            *question.scalars, question.cached, draw, columns.scratch,
        )  # fmt: skip
        if found[0] >= 0:
            decision = decision_of(found, relaxed, question, snapshot, now)
            return decision._replace(flags=(*decision.flags, GREENEST))
    raise refusal(request, question, snapshot, live, params)


def without_premiums(live: NDArray[np.float64]) -> NDArray[np.float64]:
    """``live`` (k.LIVE_ROWS, n) where room has no price."""
    live = live.copy()
    live[k.PREMIUM] = 0.0
    return live


def without_tried(
    live: NDArray[np.float64], columns: ModelColumns, tried: Collection[str], pinned: str
) -> NDArray[np.float64]:
    """``live`` (k.LIVE_ROWS, n) where nothing is eligible that was ``tried``, or that is not the
    one endpoint ``pinned``."""
    copy, rows = live.copy(), columns.candidates.rows
    if pinned:
        copy[k.ELIGIBLE] = 0.0
        mine = rows.get(pinned, [])
        copy[k.ELIGIBLE, mine] = live[k.ELIGIBLE, mine]
    for name in tried:
        copy[k.ELIGIBLE, rows.get(name, [])] = 0.0
    return copy


def decision_of(
    found: Sequence[float],
    relaxed: tuple[Relax, ...],
    question: Question,
    snapshot: Snapshot,
    now: float,
) -> Decision:
    """``found``: what `router.core.kernel.choose` returned, with ``relaxed`` dropped."""
    (
        row, ttft_ms, tpot_ms, e2e_ms, energy_j, run_s, prompt_ms, prefill_ms, queue_ms, nearest,
        first_energy_j, first_run_s, pace_cap_ms, paced_ms,
    ) = found  # fmt: skip
    columns = question.columns
    candidates = columns.candidates
    endpoint, served = candidates.endpoints[int(row)], candidates.served[int(row)]
    intensity, mean = _over_run(snapshot, endpoint.region, now, run_s)
    first = candidates.endpoints[int(nearest)]
    _, first_mean = _over_run(snapshot, first.region, now, first_run_s)
    kwh_per_j = columns.table[k.KWH_PER_J]
    network_kwh = question.network_j / J_PER_KWH
    cached = cached_first = 0.0
    if question.cached is not columns.uncached:
        cached = float(question.cached[int(row)])
        cached_first = float(question.cached[int(nearest)])
    flags = question.flags
    if intensity is None:
        flags = (*flags, CARBON_UNKNOWN)
    elif is_stale(snapshot.policy, intensity, now):
        flags = (*flags, CARBON_STALE)
    return Decision(
        endpoint,
        served,
        intensity,
        mean,
        float(columns.table[question.rtt_row, int(row)]),
        ttft_ms,
        tpot_ms,
        e2e_ms,
        energy_j,
        (energy_j * float(kwh_per_j[int(row)]) + network_kwh) * mean,
        first.name,
        (first_energy_j * float(kwh_per_j[int(nearest)]) + network_kwh) * first_mean,
        prefill_ms,
        queue_ms,
        _burden(served, question, prompt_ms, pace_cap_ms, paced_ms),
        relaxed,
        flags,
        Alternative(first, candidates.served[int(nearest)], first_mean, cached_first),
        cached,
    )


def _burden(
    served: ServedModel,
    question: Question,
    prompt_ms: float,
    pace_cap_ms: float,
    paced_ms: float,
) -> Burden:
    if isinstance(served.profile, TaskProfile):
        return UNBURDENED
    expected = question.expected
    return burden_of(
        prompt_ms, expected.input_tokens, expected.output_tokens, pace_cap_ms, paced_ms
    )


def _over_run(
    snapshot: Snapshot, region: str, now: float, run_s: float
) -> tuple[Intensity | None, float]:
    if snapshot.built_at <= now and now + run_s <= snapshot.hour_ends_at:
        current = snapshot.current.get(region)
        if current is not None:
            return current, current.g_per_kwh
    forecast = snapshot.forecasts.get(snapshot.layout.fleet.regions[region].grid_zone)
    if forecast is None:
        return _UNKNOWN_INTENSITY
    return forecast.at(now), mean_over(forecast, now, run_s)
