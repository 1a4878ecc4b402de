"""A report's pictures of policies side by side: latency, grams, the carbon-latency frontier.

Each returns an `svg` drawing; policies are told apart by colour and by dash or shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.histogram import LOWEST_EXPONENT, Histogram
from router.lab.study.execute import Study
from router.lab.study.report.svg import (
    INNER,
    LEFT,
    WIDTH,
    Frame,
    drawing,
    linear,
    log_ticks,
    logarithmic,
    nines,
    ticks,
)
from router.lab.study.report.units import grams, milliseconds, percent


def latency(study: Study, kind: str) -> str:
    """Share of the answered requests within a latency, by policy; budgets as vertical lines.

    ``kind``: "ttft" or "e2e".
    """
    histograms = [getattr(run.result, f"{kind}_ms") for run in study.runs]
    budgets = study.totals.budgets[f"{kind}_ms"]
    curves = [_distribution(one) for one in histograms]
    if not any(len(xs) for xs, _ in curves):
        return ""
    reach = [ms for xs, _ in curves for ms in (xs[:1].tolist() + xs[-1:].tolist())] + [*budgets]
    low, high = min(reach) * 0.9, max(reach) * 1.1
    frame = Frame(LEFT, 30, INNER, 250, logarithmic(low, high), nines(4))
    title = {"ttft": "time to the first token", "e2e": "end to end"}[kind]
    frame.y_axis(
        [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.95, "95 %"), (0.99, "99 %"),
         (0.999, "99.9 %"), (0.9999, "99.99 %")],
        f"answered requests within it (emulated): {title}",
    )  # fmt: skip
    frame.x_axis(_times(_thinned(log_ticks(low, high))), title)
    for ms, count in budgets.items():
        at = frame.x(ms)
        frame.line((at, frame.top), (at, frame.top + frame.height), "budget")
        low_y = frame.top + frame.height - 24
        frame.text(at - 4, low_y, f"budget {milliseconds(ms)}", "note end")
        frame.text(at - 4, low_y + 14, f"of {count:,} requests", "note end")
    for place, (xs, ps) in reversed(list(enumerate(curves))):
        frame.curve(xs, ps, f"line p{place % 8}", study.policies[place].name)
    return drawing(330.0, [frame], f"Distribution of latency by policy: {title}")


def _times(values: list[float]) -> list[tuple[float, str]]:
    """Milliseconds as ticks, all in one unit."""
    if values and values[-1] >= 10_000.0:
        return [(value, f"{value / 1e3:,g} s") for value in values]
    return [(value, f"{value:,g} ms") for value in values]


def _distribution(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds and the share of requests within, evenly spaced in nines."""
    total = int(histogram.counts.sum())
    if not total:
        return np.empty(0), np.empty(0)
    shares = np.cumsum(histogram.counts) / total
    wanted = 1.0 - 10.0 ** -np.linspace(0.002, 4.0, 240)
    bins = np.unique(np.minimum(np.searchsorted(shares, wanted), len(shares) - 1))
    octaves, parts = bins // 256, bins % 256
    ms = np.ldexp(1.0 + (parts + 1.0) / 256.0, LOWEST_EXPONENT + octaves)
    # From the lower end of the first bin on, which may hold most of them.
    begins = np.ldexp(1.0 + parts[0] / 256.0, LOWEST_EXPONENT + int(octaves[0]))
    before = shares[bins[0] - 1] if bins[0] else 0.0
    return np.append(begins, ms), np.append(before, shares[bins])


def _thinned(values: list[float]) -> list[float]:
    """Only powers of ten where there are many."""
    if len(values) <= 10:
        return values
    return [value for value in values if math.isclose(math.log10(value) % 1.0, 0.0, abs_tol=1e-9)]


def gram_bars(study: Study, summary: Mapping[str, Any]) -> str:
    """Grams by policy, attributional and of the whole fleet, each beside its bound."""
    rows = [(name, one) for name, one in summary["policies"].items()]
    most = max(max(one["gco2e_attributional"], one["gco2e_consequential"]) for _, one in rows)
    frame = Frame(150, 26, WIDTH - 380, 58.0 * len(rows), linear(0.0, most or 1.0), linear(0, 1))
    frame.x_axis([(v, grams(v)) for v in ticks(0.0, most, 5)], "gCO2e")
    for place, (name, one) in enumerate(rows):
        top = frame.top + 58.0 * place + 8.0
        frame.text(142, top + 25, name, "row end")
        limit, regret = one["bound"], one["regret"]
        _bar(frame, top, [(one["gco2e_attributional"], "own")], limit["gco2e_attributional"],
             _regret("", one["gco2e_attributional"], regret["attributional"]))  # fmt: skip
        fleet = one["fleet"]
        parts = [(fleet["busy_g"], "busy"), (fleet["idle_g"], "idle"), (fleet["wake_g"], "wake")]
        _bar(frame, top + 21, parts, limit["gco2e_consequential"],
             _regret("fleet ", one["gco2e_consequential"], regret["consequential"]))  # fmt: skip
    return drawing(frame.height + 76.0, [frame], "Grams by policy beside the lower bound")


def _regret(what: str, value: float, over: float) -> str:
    return f"{what}{grams(value)}, {'+' if over >= 0 else ''}{percent(over)} over bound"


def _bar(
    frame: Frame, top: float, parts: Sequence[tuple[float, str]], limit: float, text: str
) -> None:
    at = 0.0
    for value, style in parts:
        left, right = frame.x(at), frame.x(at + value)
        frame.rect(left, top, right - left, 17, f"bar {style}", f"{style}: {grams(value)}")
        at += value
    if math.isfinite(limit):
        mark = frame.x(limit)
        frame.line((mark, top - 2), (mark, top + 19), "limit")
    frame.text(frame.x(at) + 6, top + 13, text, "note")


def frontier(study: Study, summary: Mapping[str, Any], kind: str) -> str:
    """Grams of the requests against p95 latency, each policy a point, the bound a line.

    ``kind``: "ttft_ms" or "e2e_ms". Hollow: did not do the same work within its budgets.
    """
    rows = list(summary["policies"].items())
    xs = [one[kind]["p95"] for _, one in rows]
    ys = [one["gco2e_attributional"] for _, one in rows]
    limit = rows[0][1]["bound"]["gco2e_attributional"]
    known = [x for x in xs if math.isfinite(x)]
    if not known:
        return ""
    low, high = min(known), max(known)
    room = max(high - low, 0.05 * high) * 0.2
    frame = Frame(LEFT + 20, 30, INNER - 150, 230, linear(max(0.0, low - room), high + room),
                  linear(0.0, max(ys) * 1.1 or 1.0))  # fmt: skip
    frame.y_axis([(v, grams(v)) for v in ticks(0.0, max(ys) * 1.1, 5)], "attributional gCO2e")
    title = {"ttft_ms": "time to the first token", "e2e_ms": "end to end"}[kind]
    frame.x_axis(_times(ticks(max(0.0, low - room), high + room, 6)), f"p95 {title}")
    at = frame.y(limit)
    frame.line((frame.left, at), (frame.left + frame.width, at), "budget")
    frame.text(frame.left + frame.width + 6, at + 4, f"bound {grams(limit)}", "note")
    taken: list[float] = [at + 4]
    for place in sorted(range(len(rows)), key=lambda i: -ys[i]):
        name, one = rows[place]
        if not math.isfinite(xs[place]):
            continue
        x, y = frame.x(xs[place]), frame.y(ys[place])
        full = "" if one["regret"]["valid"] else " hollow"
        tip = f"{name}: {grams(ys[place])}, {milliseconds(xs[place])}"
        frame.mark(x, y, place, f"dot p{place % 8}{full}", tip)
        text_y = _free(y + 4, taken, frame.top + frame.height - 4)
        taken.append(text_y)
        frame.text(x + 12, text_y, name, "note")
    return drawing(310.0, [frame], f"Grams against p95 {title} by policy")


def _free(y: float, taken: Sequence[float], lowest: float) -> float:
    """The height nearest to ``y`` at which a label meets no other, above ``lowest``."""
    for offset in range(200):
        for candidate in (y + offset, y - offset):
            if candidate <= lowest and all(abs(candidate - other) >= 13 for other in taken):
                return candidate
    return y
