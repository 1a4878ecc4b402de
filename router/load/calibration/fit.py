"""Watts and joules of a server's work, from spans of which both are known (SCIENCE, 1b).

Two regressions, of spans of seconds:

    awake seconds = d0 * iterations + d1 * answer tokens + c * prompt tokens
    joules        = idle_w * idle seconds + base_w * awake seconds + w * answer tokens
                    + e * prompt tokens

The first over spans that had requests from end to end, where the server counts iterations; it says,
too, how much of the others was awake. Prompts are read at ``base_w + e / c``. A figure that the
spans cannot tell is refused, with the reason: what is 0 throughout, what only ever comes with
something else, what comes out of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np

from router.errors import DataError
from router.load.calibration.identification import (
    Identified,
    half_width,
    identify,
    nothing,
    too_wide,
    wider,
)
from router.load.calibration.series import WorkSeries, WorkSpan

LEAST_SPANS: Final = 20
# Of each state, for its watts.
_LEAST_S: Final = 5.0
_LEAST_SHARE: Final = 0.01
# Requests at both ends of a step that had some throughout: of few all may be gone for a moment.
_FILLED: Final = (4.0, 2.0, 1.0)
# Of the time, in which nobody says whether the server was at work.
_MOST_UNSURE: Final = 0.1
_MS: Final = 1e3
# What takes an iteration's time, and the counter of it.
_WORK: Final[Mapping[str, str]] = {
    "iteration": "iterations",
    "answer": "answer_tokens",
    "prompt": "prompt_tokens",
}


class FittedFigure(NamedTuple):
    """``key``: of a profile; "" of what follows from those. ``why_not``: why it is not known; the
    figures are NaN then."""

    key: str
    name: str
    unit: str
    value: float
    low: float
    high: float
    why_not: str = ""


class CalibrationFit(NamedTuple):
    """``r2``: of joules; ``time_r2``: of awake time, NaN where no iterations are counted;
    ``spans``: that were used; ``outliers``: that were set aside."""

    figures: tuple[FittedFigure, ...]
    r2: float
    time_r2: float
    spans: int
    outliers: int
    seconds: float
    mean_w: float

    def of(self, key: str) -> FittedFigure:
        """The figure of a key of profiles. Raises KeyError."""
        return {figure.key: figure for figure in self.figures if figure.key}[key]


def fit(series: WorkSeries, confidence: float = 0.95) -> CalibrationFit:
    """Raises DataError where nothing at all can be told."""
    spans = series.spans
    if len(spans) < LEAST_SPANS:
        raise DataError(
            f"{len(spans)} spans in {series.seconds:.0f} s: at least {LEAST_SPANS} are needed; "
            "read for longer, or more often"
        )
    if _all_unknown(spans, "answer_tokens"):
        if _all_unknown(spans, "requests"):
            raise DataError("the server counts neither tokens nor requests: is it its page?")
        return _task_fit(series, confidence)
    return _token_fit(series, confidence)


def _token_fit(series: WorkSeries, confidence: float) -> CalibrationFit:
    spans = series.spans
    time = _time_fit(spans, confidence)
    awake = [_awake_s(span, time) for span in spans]
    unsure_s = math.fsum(seconds for _, seconds in awake)
    known = [(span, seconds) for span, (seconds, _) in zip(spans, awake, strict=True)]
    sure = [one for one, (_, seconds) in zip(known, awake, strict=True) if seconds == 0.0]
    if len(sure) >= LEAST_SPANS:
        # Half of a step is right on the mean alone, which would take draw from work to idleness.
        known = sure
    elif unsure_s > _MOST_UNSURE * series.seconds:
        raise DataError(
            f"of {unsure_s:.0f} of {series.seconds:.0f} s it is not known whether the server was "
            "at work: read more often, or keep it busy, and idle, for longer at a time"
        )
    power = _power_fit(known, confidence)
    if time.model and not any(map(_is_counted, spans)):
        power = _with_errors_of_time(power, time, known)
    power = _without_wrong_order(power)
    figures = [
        _figure("idle_w", "idle draw", "W", power, "idle"),
        _figure("base_w", "draw while an iteration runs, tokens apart", "W", power, "awake"),
        _figure("w_per_token_s", "joules of an answer token beside that", "J", power, "answer"),
        _figure("", "joules of a prompt token beside that", "J", power, "prompt"),
        _prefill(power, time),
        _figure("tpot_base_ms", "an iteration, tokens apart", "ms", time, "iteration", _MS),
        _figure("tpot_ms_per_sequence", "an answer token's part of it", "ms", time, "answer", _MS),
        _figure("prefill_ms_per_token", "a prompt token's part of it", "ms", time, "prompt", _MS),
    ]
    return CalibrationFit(
        tuple(figures),
        power.r2,
        time.r2,
        len(known),
        power.outliers,
        math.fsum(span.seconds for span, _ in known),
        series.mean_w,
    )


def _task_fit(series: WorkSeries, confidence: float) -> CalibrationFit:
    spans = series.spans
    columns = {
        "idle": [span.seconds for span in spans],
        "request": [span.total("requests") for span in spans],
    }
    power = identify(columns, [span.energy_j for span in spans], confidence, "the meter's joules")
    figures = (
        _figure("", "draw without requests", "W", power, "idle"),
        _figure("energy_j", "joules of a request beside that", "J", power, "request"),
    )
    mean_w = series.mean_w
    return CalibrationFit(
        figures, power.r2, math.nan, len(spans), power.outliers, series.seconds, mean_w
    )


def _time_fit(spans: Sequence[WorkSpan], confidence: float) -> Identified:
    if _all_unknown(spans, "iterations"):
        return nothing(tuple(_WORK), "the server counts no iterations")
    rows: list[WorkSpan] = []
    for least in _FILLED:
        rows = [row for span in spans for row in _awake_runs(span, least)]
        if len(rows) >= LEAST_SPANS:
            break
    if len(rows) < LEAST_SPANS:
        why = f"{len(rows)} spans had requests from end to end, and {LEAST_SPANS} are needed"
        return nothing(tuple(_WORK), why)
    columns = {name: [row.total(counter) for row in rows] for name, counter in _WORK.items()}
    seconds = [row.total("busy_s" if _is_counted(row) else "awake_s") for row in rows]
    return identify(columns, seconds, confidence, "the awake time")


def _awake_runs(span: WorkSpan, least: float) -> Iterator[WorkSpan]:
    """Of ``span`` what ``least`` requests at once filled from end to end; all of it where busy
    seconds are counted."""
    if _is_counted(span):
        if span.total("busy_s") > 0.0:
            yield span
        return
    for is_filled, steps in groupby(span.steps, lambda step: step.running >= least):
        if is_filled:
            yield WorkSpan(math.nan, tuple(steps))


def _is_counted(span: WorkSpan) -> bool:
    return not math.isnan(span.total("busy_s"))


def _awake_s(span: WorkSpan, time: Identified) -> tuple[float, float]:
    """Of ``span``: seconds in which the server was at work, and in how many of those in question
    nothing tells; of them half are taken.

    By its work, where that is known to tell the time: gauges do not see a server that is without
    requests for a moment.
    """
    if _is_counted(span):
        return min(span.total("busy_s"), span.seconds), 0.0
    if time.model:
        work_s = (one.value * span.total(_WORK[name]) for name, one in time.model.items())
        return math.fsum(work_s), 0.0
    unsure_s = math.fsum(step.seconds for step in span.steps if math.isnan(step.awake_s))
    sure_s = math.fsum(step.awake_s for step in span.steps if not math.isnan(step.awake_s))
    return sure_s + unsure_s / 2.0, unsure_s


def _power_fit(known: Sequence[tuple[WorkSpan, float]], confidence: float) -> Identified:
    total_s = math.fsum(span.seconds for span, _ in known)
    awake_s = math.fsum(seconds for _, seconds in known)
    why_not = {}
    columns = {
        "idle": [span.seconds - seconds for span, seconds in known],
        "awake": [seconds for _, seconds in known],
        "answer": [span.total("answer_tokens") for span, _ in known],
        "prompt": [span.total("prompt_tokens") for span, _ in known],
    }
    least_s = max(_LEAST_S, _LEAST_SHARE * total_s)
    if total_s - awake_s < least_s:
        why_not["idle"] = (
            f"idle for {total_s - awake_s:.1f} of {total_s:.0f} s: let it stand without requests "
            f"for {least_s:.0f} s at least"
        )
        columns["awake"] = [span.seconds for span, _ in known]
        del columns["idle"]
    if awake_s < least_s:
        for name in ("awake", "answer", "prompt"):
            why_not[name] = f"at work for {awake_s:.1f} of {total_s:.0f} s"
            columns.pop(name)
    found = identify(
        columns, [span.energy_j for span, _ in known], confidence, "the meter's joules"
    )
    return found._replace(why_not={**why_not, **found.why_not})


def _with_errors_of_time(
    power: Identified, time: Identified, known: Sequence[tuple[WorkSpan, float]]
) -> Identified:
    """``power``, whose awake seconds are those that ``time`` tells: its errors count, too.

    What the meter tells is joules of an iteration, ``(base_w - idle_w) * d0``, and of a token
    beside that; with ``d0`` off by a part, ``base_w - idle_w`` is off by as much.
    """
    awake, idle = power.found.get("awake"), power.found.get("idle")
    if awake is None or idle is None:
        return power
    pace = time.found.get("iteration")
    if pace is None:
        why = time.why_not["iteration"]
        lacking = [name for name in ("awake", "answer", "prompt") if name in power.found]
        found = {name: one for name, one in power.found.items() if name not in lacking}
        why_not = {**power.why_not, **dict.fromkeys(lacking, why)}
        return power._replace(found=found, why_not=why_not)
    more_w = max(0.0, awake.value - idle.value)
    base_off_w = more_w * half_width(pace) / pace.value
    found, why_not = dict(power.found), dict(power.why_not)
    target = np.array([span.energy_j for span, _ in known])
    found["awake"] = wider(awake, base_off_w)
    for name in ("answer", "prompt"):
        one, part = found.get(name), time.model.get(name)
        if one is None or part is None:
            continue
        less_sure = wider(one, more_w * half_width(part), part.value * base_off_w)
        column = np.array([span.total(_WORK[name]) for span, _ in known])
        why = too_wide(less_sure, column, target)
        if why:
            del found[name]
            why_not[name] = why
        else:
            found[name] = less_sure
    return power._replace(found=found, why_not=why_not)


def _without_wrong_order(power: Identified) -> Identified:
    """A server at work that would draw less than an idle one, by more than the noise, is none."""
    idle, awake = power.found.get("idle"), power.found.get("awake")
    if idle is None or awake is None or awake.high >= idle.low:
        return power
    text = f"at work {awake.value:.4g} W, idle {idle.value:.4g} W: another's work is in the joules"
    found = {name: one for name, one in power.found.items() if name not in ("idle", "awake")}
    return power._replace(found=found, why_not={**power.why_not, "idle": text, "awake": text})


def _prefill(power: Identified, time: Identified) -> FittedFigure:
    """``base_w + e / c``, its interval as of independent errors."""
    key, name = "prefill_w", "draw while prompts are read"
    for known, part in ((power, "awake"), (power, "prompt"), (time, "prompt")):
        if part not in known.found:
            why = known.why_not.get(part, "")
            return FittedFigure(key, name, "W", math.nan, math.nan, math.nan, why)
    base, extra, pace = power.found["awake"], power.found["prompt"], time.found["prompt"]
    if not pace.value > 0.0:
        why = "prompts took no time that could be told from the rest"
        return FittedFigure(key, name, "W", math.nan, math.nan, math.nan, why)
    more_w = extra.value / pace.value
    value = base.value + more_w
    extra_off_w, pace_off_w = half_width(extra) / pace.value, more_w * half_width(pace) / pace.value
    half = math.hypot(half_width(base), extra_off_w, pace_off_w)
    return FittedFigure(key, name, "W", value, max(0.0, value - half), value + half)


def _figure(
    key: str, name: str, unit: str, known: Identified, part: str, factor: float = 1.0
) -> FittedFigure:
    one = known.found.get(part)
    if one is None:
        why = known.why_not.get(part, "not told")
        return FittedFigure(key, name, unit, math.nan, math.nan, math.nan, why)
    return FittedFigure(key, name, unit, one.value * factor, one.low * factor, one.high * factor)


def _all_unknown(spans: Sequence[WorkSpan], name: str) -> bool:
    return all(math.isnan(span.total(name)) for span in spans)
