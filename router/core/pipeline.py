"""filter -> score -> pick -> Decision, over an immutable snapshot and the live board.

Pure: `now` and `rng` are arguments, nothing is awaited, the caller acts on what comes back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.contract import Rng
from router.core import kernel as k
from router.core.board import Board
from router.core.columns import ModelColumns, Snapshot, is_stale, mean_over
from router.core.energy import J_PER_KWH
from router.core.lengths import Expected
from router.core.question import Question, ask, evaluate, merge_budgets
from router.core.residency import listed, parties
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    RefusedError,
    ResidencyError,
    ShedError,
)
from router.model import (
    UNLIMITED,
    Alternative,
    Budget,
    Decision,
    Intensity,
    Relax,
    Request,
    TokenProfile,
)

CARBON_STALE = "carbon_stale"
CARBON_UNKNOWN = "carbon_unknown"

# When a caller that is refused for want of room or health may try again.
SHED_RETRY_S = 1.0
_UNKNOWN_INTENSITY = (None, math.nan)


def decide(
    request: Request,
    snapshot: Snapshot,
    board: Board,
    expected: Expected,
    now: float,
    rng: Rng,
    network_j: float = 0.0,
    tried: Collection[str] = (),
    pinned: str = "",
) -> Decision:
    """Where ``request`` goes at ``now``; changes nothing. ``network_j``: joules to carry it;
    ``tried``: endpoints that failed it already; ``pinned``: the only endpoint allowed (it holds a
    sequence's state).

    Raises UnknownModelError, InvalidMetadataError (origin, tenant), or the RefusedError leaf that
    says what stood in the way, after the policy's ladder is exhausted.
    """
    question = ask(request, snapshot, expected, now, network_j)
    columns = question.columns
    live = board.live(columns.candidates.model, columns.candidates.version)
    if tried or pinned:
        live = _without(live, columns, tried, pinned)
    choice = _choose(request, question, snapshot, live, rng)
    return _decision(choice, question, snapshot, live, now)


def decide_and_teach(
    request: Request,
    snapshot: Snapshot,
    board: Board,
    expected: Expected,
    now: float,
    rng: Rng,
    network_j: float = 0.0,
) -> Decision:
    """As `decide`, for a request that is forwarded: its need teaches ``board`` what room is worth.

    A retry or a pinned request is no free choice and tells nothing: `decide` does for those.
    """
    question = ask(request, snapshot, expected, now, network_j)
    columns = question.columns
    candidates = columns.candidates
    live = board.live(candidates.model, candidates.version)
    choice = _choose(request, question, snapshot, live, rng)
    if choice.draw < k.TEACHES:
        k.learn_premiums(
            columns.table, live, candidates.labels, candidates.starts, choice.params,
            *question.scalars(choice.budget), columns.scratch,
        )  # fmt: skip
    return _decision(choice, question, snapshot, live, now)


class _Choice(NamedTuple):
    """What the kernel found, and on which rung of the ladder, with which draw."""

    found: Sequence[float]
    params: NDArray[np.float64]
    budget: Budget
    relaxed: tuple[Relax, ...]
    draw: float


def _choose(
    request: Request,
    question: Question,
    snapshot: Snapshot,
    live: NDArray[np.float64],
    rng: Rng,
) -> _Choice:
    columns = question.columns
    candidates = columns.candidates
    policy = snapshot.policy
    own = request.budget
    budget = merge_budgets(own, policy.budget)
    relaxed: tuple[Relax, ...] = ()
    params = snapshot.params
    rungs = iter(policy.ladder)
    while True:
        draw = rng.random()
        found = k.choose(
            columns.table, live, candidates.labels, candidates.starts, params,
            *question.scalars(budget), draw, columns.scratch,
        )  # fmt: skip
        if found[0] >= 0:
            return _Choice(found, params, budget, relaxed, draw)
        rung = next(rungs, None)
        if rung is None:
            raise _refusal(request, question, snapshot, live, params, budget)
        relaxed = (*relaxed, rung)
        if rung is Relax.CARBON:
            params = snapshot.relaxed_params
        else:
            budget = own


def _without(
    live: NDArray[np.float64], columns: ModelColumns, tried: Collection[str], pinned: str
) -> NDArray[np.float64]:
    copy, rows = live.copy(), columns.candidates.rows
    if pinned:
        copy[k.ELIGIBLE] = 0.0
        mine = rows.get(pinned, [])
        copy[k.ELIGIBLE, mine] = live[k.ELIGIBLE, mine]
    for name in tried:
        copy[k.ELIGIBLE, rows.get(name, [])] = 0.0
    return copy


def _decision(
    choice: _Choice,
    question: Question,
    snapshot: Snapshot,
    live: NDArray[np.float64],
    now: float,
) -> Decision:
    row, ttft_ms, tpot_ms, e2e_ms, energy_j, run_s, nearest, first_energy_j, first_run_s = (
        choice.found
    )
    columns = question.columns
    candidates = columns.candidates
    endpoint, served = candidates.endpoints[int(row)], candidates.served[int(row)]
    intensity, mean = _over_run(snapshot, endpoint.region, now, run_s)
    first = candidates.endpoints[int(nearest)]
    _, first_mean = _over_run(snapshot, first.region, now, first_run_s)
    kwh_per_j = columns.table[k.KWH_PER_J]
    network_kwh = question.network_j / J_PER_KWH
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
        batch_cap(
            served.profile,
            choice.budget,
            ttft_ms,
            float(live[k.TPOT_FACTOR, int(row)]),
            question.expected,
        )
        if isinstance(served.profile, TokenProfile)
        else UNLIMITED,
        choice.relaxed,
        flags,
        Alternative(first, candidates.served[int(nearest)], first_mean),
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
    intensity = forecast.at(now)
    if (now - forecast.start) % forecast.step_s + run_s <= forecast.step_s:
        return intensity, intensity.g_per_kwh
    return intensity, mean_over(forecast, now, run_s)


def batch_cap(
    profile: TokenProfile, budget: Budget, ttft_ms: float, tpot_factor: float, expected: Expected
) -> float:
    """Concurrency beyond which a request placed now would break its own TPOT or e2e budget.

    The e2e budget leaves (e2e - ttft) / n_out for each token. At least 1: the request itself.
    """
    allowed_ms = budget.tpot_ms
    if budget.e2e_ms < UNLIMITED:
        left_ms = (budget.e2e_ms - ttft_ms) / max(expected.output_tokens_quantile, 1.0)
        allowed_ms = min(allowed_ms, left_ms)
    if allowed_ms == UNLIMITED or profile.tpot_ms_per_sequence <= 0.0:
        return UNLIMITED
    room_ms = allowed_ms / tpot_factor - profile.tpot_base_ms
    sequences = room_ms / profile.tpot_ms_per_sequence
    # Requests beyond max_batch wait and slow nobody down.
    if sequences >= profile.max_batch:
        return UNLIMITED
    cap = max(1.0, math.floor(sequences))
    return cap if cap < profile.max_batch else UNLIMITED


def _refusal(
    request: Request,
    question: Question,
    snapshot: Snapshot,
    live: NDArray[np.float64],
    params: NDArray[np.float64],
    budget: Budget,
) -> RefusedError:
    """Why nothing is feasible: the obstacle of the candidates that came closest."""
    terms, reasons = evaluate(question, live, params, budget)
    labels = question.columns.candidates.labels
    seen = set(reasons.tolist())
    model = request.model
    down = (reasons == k.UNHEALTHY) & ((labels & question.residency) != 0)
    if k.FULL in seen:
        return ShedError(
            f"every endpoint that could serve {model!r} is at its concurrency cap", SHED_RETRY_S
        )
    for reason, column, name, limit in (
        (k.E2E_BUDGET, k.E_E2E, "end-to-end", budget.e2e_ms),
        (k.TPOT_BUDGET, k.E_TPOT, "TPOT", budget.tpot_ms),
        (k.TTFT_BUDGET, k.E_TTFT, "TTFT", budget.ttft_ms),
    ):
        if reason in seen:
            best = float(terms[reasons == reason, column].min())
            return BudgetImpossibleError(
                f"no endpoint of {model!r} meets the {name} budget of {limit:g} ms: the best "
                f"prediction is {best:.0f} ms"
            )
    if down.any():
        return NothingFeasibleError(
            f"no healthy endpoint serves {model!r} now ({int(down.sum())} out)", SHED_RETRY_S
        )
    if k.NOT_FINITE in seen:
        return NothingFeasibleError(
            f"no endpoint of {model!r} has finite predictions for this request: check its profile"
        )
    for reason, text in (
        (k.CARBON_BUDGET, "exceeds the policy's carbon budget"),
        (k.CARBON_UNKNOWN, "lies in a grid zone whose carbon intensity is unknown or stale"),
        (k.CONTEXT, "has too short a context for this request"),
    ):
        if reason in seen:
            return PolicyExcludesError(f"every endpoint of {model!r} {text}")
    return ResidencyError(_nowhere(request, snapshot))


def _nowhere(request: Request, snapshot: Snapshot) -> str:
    layout = snapshot.layout
    limits = parties(request, snapshot.policy, layout.fleet)
    unknown = sorted(request.residency - layout.known(request.residency))
    hint = f"; no region here lies in {', '.join(unknown)}" if unknown else ""
    return f"no endpoint of {request.model!r} lies in: {listed(limits)}{hint}"
