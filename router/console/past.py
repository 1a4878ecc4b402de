"""A moment of the ledger as a scene: what the page draws of now, as it was then.

Rates are of the receipts themselves, so that they are what counters grew by; where requests would
have gone, and how endpoints were, is as far as the decisions that were kept tell it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.console.decisions import ShownDecision, decision_document, explained
from router.console.decisions import explanation_document as told_terms
from router.console.outlooks import HOURS, Observed, PastHours, grid_document
from router.console.receipt_columns import Floats, ReceiptColumns
from router.console.scene import STATES
from router.console.traffic import latency_of
from router.core import kernel_rows as k
from router.core.answered import answer_of, differences
from router.core.columns import Snapshot
from router.core.health import State
from router.core.seen import DecisionKind, KeptDecision, Sight, decide_again
from router.errors import RequestError
from router.ledger.asking.moments import FoundDecision, LedgerMoment
from router.ledger.decisions.newest import KeyedRow
from router.model import Fleet
from router.telemetry.view import Json
from router.units import HOUR_S
from router.unknown_figures import or_none

# Of the wall; a clock that replays a day has as much of its own in that as its speed makes it.
RATES_S: Final = 10.0
LATENCY_S: Final = 60.0
LINE_S: Final = 300.0
# Of the ledger's clock, whatever its speed.
MOST_LINE_S: Final = 12.0 * HOUR_S
_POINTS: Final = 60
_MOST_MODELS: Final = 50


class MomentSpans(NamedTuple):
    """How much of the ledger's clock is in each, s; ``speed``: of it, by the wall's."""

    rates_s: float
    latency_s: float
    line_s: float
    speed: float


def spans_of(speed: float) -> MomentSpans:
    """At a clock of so many times the wall's speed."""

    def within(seconds: float) -> float:
        return min(seconds * speed, MOST_LINE_S)

    return MomentSpans(within(RATES_S), within(LATENCY_S), within(LINE_S), speed)


def newest_snapshot(moment: LedgerMoment) -> Snapshot | None:
    """That the last decision was taken on; None where none is known."""
    for one in reversed(moment.others):
        kept = moment.snapshots.get(one.row.snapshot)
        if kept is not None:
            return kept.snapshot
    return None


def past_tick(
    moment: LedgerMoment, fleet: Fleet, spans: MomentSpans, is_all: bool
) -> dict[str, Json]:
    """As `router.console.scene.tick_document` has it of now. ``fleet``: as it was then."""
    rows = ReceiptColumns(moment.rows.table)
    own: Json = None if is_all else {"requests": int(rows.answered.sum())}
    return {
        "at": moment.at,
        "wall": moment.at,
        "mono": 0.0,
        "totals": None,
        "own": own,
        "rates": _rates(rows, rows.since(moment.at - spans.rates_s), spans.rates_s / spans.speed),
        "kinds": _kinds(rows),
        "sums": _sums(rows, spans),
        "endpoints": _endpoints(moment, fleet),
        "flows": _flows(moment, fleet, spans),
        "latency": _latency(rows, moment.at, spans),
        "budgets": None,
        "status": {"status": "past", "reasons": []},
        "decisions": {"share": None},
    }


def past_line(moment: LedgerMoment, spans: MomentSpans) -> list[Json]:
    """The line over time that leads there: rows of seconds of the wall, rates, budgets met."""
    rows = ReceiptColumns(moment.rows.table)
    step_s = spans.line_s / _POINTS
    start = moment.at - spans.line_s
    # Until the end of a step, that included.
    places = np.clip(np.ceil((rows.at - start) / step_s).astype(np.int64) - 1, 0, _POINTS - 1)

    def sums(values: NDArray[Any], chosen: NDArray[np.bool_]) -> Floats:
        known = np.nan_to_num(np.asarray(values, np.float64)[chosen])
        return np.asarray(np.bincount(places[chosen], known, _POINTS), np.float64)

    mine, seconds = rows.answered, step_s / spans.speed
    grams, saved = sums(rows.figures("gco2e"), mine), sums(_saved(rows), mine)
    requests = sums(mine, mine)
    met, missed = (sums(one, mine) for one in _held(rows))
    return [
        [
            moment.at + (start + (point + 1) * step_s - moment.at) / spans.speed,
            float(grams[point]) / seconds,
            float(saved[point]) / seconds,
            float(requests[point]) / seconds,
            float(met[point] / (met[point] + missed[point]))
            if met[point] + missed[point]
            else None,
        ]
        for point in range(_POINTS)
    ]


def past_grid(
    snapshot: Snapshot, at: float, observed: Observed, leads_h: Sequence[int], now: float
) -> dict[str, Json]:
    """As `grid_document` has it of now: what was forecast then, and ``came``: by zone, what has
    been observed of the hours ahead by ``now``, unix s."""
    found = grid_document(snapshot, at, PastHours(observed), (), leads_h)
    start = math.floor(at / HOUR_S) * HOUR_S
    zones = found["zones"]
    assert isinstance(zones, dict)
    for name, zone in zones.items():
        hours = [start + HOUR_S * hour for hour in range(HOURS)]
        came = [observed(name, hour) if hour + HOUR_S <= now else None for hour in hours]
        assert isinstance(zone, dict)
        zone["came"] = {
            "start": start,
            "step_s": HOUR_S,
            "g": [None if one is None else one.g_per_kwh for one in came],
        }
    return found


def past_decisions(moment: LedgerMoment, fleet: Fleet) -> list[Json]:
    """Those of who asks, oldest first, with the receipts of those that had ended."""
    receipts = receipts_of(moment.rows.table, {one.row.decision_id for one in moment.decisions})
    return [kept_document(one, fleet, receipts) for one in moment.decisions]


def kept_document(one: KeyedRow, fleet: Fleet, receipts: Mapping[str, Json]) -> Json:
    """As `decision_document` has it of one that is here; its figures as they were kept."""
    row, answer = one.row, one.row.answer
    request = row.seen.request
    regions = {endpoint.name: endpoint.region for endpoint in fleet.endpoints}
    told: dict[str, Json] = {
        "key": one.key,
        "id": row.decision_id,
        "request_id": "",
        "at": row.seen.at,
        "kind": row.kind.value,
        "attempt": row.attempt,
        "model": request.model,
        "tenant": request.tenant,
        "origin": request.origin,
        "budget": {
            "ttft_ms": or_none(request.budget.ttft_ms),
            "tpot_ms": or_none(request.budget.tpot_ms),
            "e2e_ms": or_none(request.budget.e2e_ms),
        },
        "refusal": answer.refusal,
        "probability": row.probability,
        "policy": row.policy.partition(" ")[0],
        "receipt": receipts.get(row.decision_id),
    }
    if not answer.refusal:
        region = regions.get(answer.endpoint, "")
        told |= {
            "endpoint": answer.endpoint,
            "region": region,
            "zone": fleet.regions[region].grid_zone if region in fleet.regions else "",
            "emulated": None,
            "gco2e_g": or_none(answer.figure("gco2e")),
            "energy_j": or_none(answer.figure("energy_j")),
            "g_per_kwh": or_none(answer.figure("run_g_per_kwh")),
            "intensity_kind": None,
            "ttft_ms": or_none(answer.figure("ttft_ms")),
            "e2e_ms": or_none(answer.figure("e2e_ms")),
            "latency_first": {
                "endpoint": answer.latency_first_endpoint,
                "region": regions.get(answer.latency_first_endpoint, ""),
                "gco2e_g": or_none(answer.figure("latency_first_gco2e")),
            },
            "relaxed": list(answer.relaxed),
            "flags": list(answer.flags),
        }
    return told


def receipts_of(table: Any, decision_ids: set[str]) -> dict[str, Json]:
    """By decision id, of the answers among the rows of ``table``."""
    rows = ReceiptColumns(table)
    found: dict[str, Json] = {}
    wanted = rows.having("decision_id", decision_ids - {""}) & rows.answered
    for place in np.flatnonzero(wanted):
        row = {name: cells[0] for name, cells in table.slice(int(place), 1).to_pydict().items()}
        found[row["decision_id"]] = {
            "gco2e_g": row["gco2e"],
            "energy_j": row["energy_j"],
            "energy_kind": row["energy_kind"],
            "g_per_kwh": row["g_per_kwh"],
            "ttft_ms": row["ttft_ms"],
            "e2e_ms": row["e2e_ms"],
            "output_tokens": row["output_tokens"],
            "attempts": row["attempt"],
            "region": row["region"],
        }
    return found


def opened(found: FoundDecision) -> dict[str, Json] | None:
    """One kept decision with every term, taken again; ``otherwise``: in what this code takes it
    otherwise. None where that cannot be."""
    one, kept = found.keyed, found.kept
    if kept is None:
        return None
    row = one.row
    try:
        again = decide_again(row.seen, kept.snapshot)
        sight = Sight(kept.snapshot, row.seen, again, row.probability)
        shown = ShownDecision(one.key, KeptDecision(row.decision_id, row.kind, row.attempt, sight))
        terms = told_terms(shown, explained(shown))
    except (RequestError, ValueError):
        return None
    receipts = receipts_of(found.rows.table, {row.decision_id})
    document = kept_document(one, kept.snapshot.layout.fleet, receipts)
    assert isinstance(document, dict)
    if again.decision is not None:
        document |= {"intensity_kind": decision_document(shown)["intensity_kind"]}
    what: list[Json] = list(differences(row.answer, answer_of(again)))
    return {"decision": document, "explanation": terms, "otherwise": what}


def _rates(rows: ReceiptColumns, chosen: NDArray[np.bool_], seconds: float) -> dict[str, Json]:
    """As `router.console.totals.rates_between`; ``seconds``: of the wall."""
    mine = chosen & rows.answered
    grams, saved = rows.figures("gco2e"), _saved(rows)
    names, places = rows.coded("region")
    regions: dict[str, Json] = {}
    for place in np.unique(places[mine]):
        here = mine & (places == place)
        regions[names[place]] = {
            "requests_per_s": float(here.sum()) / seconds,
            "gco2e_g_per_s": float(np.nansum(grams[here])) / seconds,
        }
    met, missed = (float(one[mine].sum()) for one in _held(rows))
    return {
        "seconds": seconds,
        "gco2e_g_per_s": float(np.nansum(grams[mine])) / seconds,
        "saved_g_per_s": float(np.nansum(saved[mine])) / seconds,
        "requests_per_s": float(mine.sum()) / seconds,
        "watts": float(np.nansum(rows.figures("energy_j")[mine])) / seconds,
        "budgets_met": met / (met + missed) if met + missed else None,
        "regions": regions,
    }


def _saved(rows: ReceiptColumns) -> Floats:
    """Net grams against latency-first, as predicted, scaled by what was then emitted: rows do not
    have the joules that were predicted."""
    predicted, first = rows.figures("predicted_gco2e"), rows.figures("latency_first_gco2e")
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(predicted > 0.0, rows.figures("gco2e") / predicted, math.nan)
    found: Floats = (first - predicted) * scale
    return found


def _held(rows: ReceiptColumns) -> tuple[Floats, Floats]:
    """(rows,) each: how many budgets that its caller set each met and missed, as
    `carbon_router_latency_budget_total` counts."""
    met, missed = np.zeros(len(rows.at)), np.zeros(len(rows.at))
    for name in ("ttft", "e2e"):
        limit, took = rows.figures(f"{name}_budget_ms"), rows.figures(f"{name}_ms")
        held = (limit < math.inf) & (took > 0.0)
        met += held & (took <= limit)
        missed += held & (took > limit)
    return met, missed


def _kinds(rows: ReceiptColumns) -> dict[str, Json]:
    """Grams by how they are known, as the totals have them."""
    mine = rows.answered
    grams = rows.figures("gco2e")
    intensities, joules = rows.coded("intensity_kind"), rows.coded("energy_kind")
    found: dict[str, Json] = {}
    for intensity in np.unique(intensities.codes[mine]):
        for energy in np.unique(joules.codes[mine]):
            here = mine & (intensities.codes == intensity) & (joules.codes == energy)
            if here.any():
                kinds = f"{intensities.names[intensity]}/{joules.names[energy]}"
                found[kinds] = float(np.nansum(grams[here]))
    return {"grams_kinds": found, "saved_kinds": {"predicted": 1.0}}


def _sums(rows: ReceiptColumns, spans: MomentSpans) -> dict[str, Json]:
    """Of the line's time."""
    mine = rows.answered
    return {
        "seconds": spans.line_s,
        "answered": int(mine.sum()),
        "refused": int(rows.having("outcome", ("refused",)).sum()),
        "failed": int(rows.having("outcome", ("failed",)).sum()),
        "gco2e_g": float(np.nansum(rows.figures("gco2e")[mine])),
        "energy_j": float(np.nansum(rows.figures("energy_j")[mine])),
        "saved_g": float(np.nansum(_saved(rows)[mine])),
    }


def _endpoints(moment: LedgerMoment, fleet: Fleet) -> Json:
    """Rows of state, requests there, whether that keeps it awake, and since when that is known, as
    the last decisions saw their candidates; nulls of an endpoint that none saw."""
    seen: dict[str, list[Json]] = {}
    for one in moment.others:
        kept = moment.snapshots.get(one.row.snapshot)
        if kept is None:
            continue
        request, live = one.row.seen.request, one.row.seen.live
        try:
            candidates = kept.snapshot.layout.find(request.model, request.version)
        except RequestError:
            continue
        for place, endpoint in enumerate(candidates.endpoints[: live.shape[1]]):
            state = State.HEALTHY if live[k.ELIGIBLE, place] else State.EJECTED
            batch = float(live[k.BATCH, place])
            seen[endpoint.name] = [STATES.index(state), round(batch), batch > 0.0, ""]
    return [seen.get(endpoint.name, [None, None, None, "unknown"]) for endpoint in fleet.endpoints]


def _flows(moment: LedgerMoment, fleet: Fleet, spans: MomentSpans) -> dict[str, Json]:
    """Of first decisions of the latencies' time, each for as many as it was kept for."""
    regions = {endpoint.name: endpoint.region for endpoint in fleet.endpoints}
    rows: dict[tuple[str, str], list[float]] = {}
    count = 0
    for one in moment.decisions:
        row, answer = one.row, one.row.answer
        is_recent = row.seen.at > moment.at - spans.latency_s
        if row.kind is not DecisionKind.FIRST or answer.refusal or not is_recent:
            continue
        pair = regions.get(answer.latency_first_endpoint), regions.get(answer.endpoint)
        if pair[0] is None or pair[1] is None:
            continue
        count += 1
        stands_for = 1.0 / row.probability
        flow = rows.setdefault((pair[0], pair[1]), [0.0, 0.0, 0.0])
        grams, first = answer.figure("gco2e"), answer.figure("latency_first_gco2e")
        for place, value in enumerate((1.0, grams, first - grams)):
            flow[place] += stands_for * value if math.isfinite(value) else 0.0
    return {
        "seconds": spans.latency_s / spans.speed,
        "seen": count,
        "answered": count,
        "rows": [[*pair, *row] for pair, row in sorted(rows.items())],
    }


def _latency(rows: ReceiptColumns, at: float, spans: MomentSpans) -> dict[str, Json]:
    recent = rows.answered & rows.since(at - spans.latency_s)
    names, models = rows.coded("model")
    counts = np.bincount(models[recent], minlength=len(names))
    columns = [
        rows.at,
        rows.figures("ttft_ms"),
        rows.figures("e2e_ms"),
        *(
            np.nan_to_num(rows.figures(f"{name}_budget_ms"), nan=math.inf, posinf=math.inf)
            for name in ("ttft", "e2e")
        ),
    ]
    table = np.stack(columns, axis=1)
    # Of as many, by name.
    order = sorted(np.flatnonzero(counts), key=lambda place: (-counts[place], names[place]))
    shown = order[:_MOST_MODELS]
    return {
        "window_s": LATENCY_S,
        "models": [latency_of(names[one], table[recent & (models == one)]) for one in shown],
    }
