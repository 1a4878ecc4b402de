"""``carbon-router top``: one glance at a gateway, as wide as the terminal is.

Nothing that came over the wire reaches the terminal but as text: names lose what a terminal would
obey, and none is read as markup.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from router.operator.watching.frame import GatewayGlance, RegionGlance, glance_document
from router.operator.watching.shapes import FeedBudget, FeedBudgetKept, FeedLatency
from router.telemetry.logs import sanitised

_BARS: Final = "▁▂▃▄▅▆▇█"
_HOURS: Final = 24
_MOST_MODELS: Final = 8
_MOST_BUDGETS: Final = 4
_MOST_REASONS: Final = 3
_NOT_KNOWN: Final = "–"
# Room that lines beside regions take.
_OTHER_LINES: Final = 10
_LEAST_REGIONS: Final = 3


class _Column(NamedTuple):
    """``width``: that it is given room for; ``value``: of one region, and of the highest intensity
    of all, g/kWh."""

    title: str
    width: int
    value: Callable[[RegionGlance, float], Text]
    right: bool = True


def glance_json(glance: GatewayGlance) -> str:
    """One line; ASCII, so that no name moves a cursor."""
    return json.dumps(glance_document(glance), allow_nan=False)


def render_glance(
    glance: GatewayGlance, columns: int, lines: int, title: str, note: str = ""
) -> RenderableType:
    """``title``: whose it is; ``note``: what is wrong with how it is known."""
    parts: list[RenderableType] = [*_head(glance, title), _regions(glance, columns, lines)]
    if glance.tick.latency.models:
        parts.append(_latencies(glance.tick.latency.models, columns))
    parts += [_budget(one) for one in glance.tick.budgets[:_MOST_BUDGETS]]
    for one in glance.tick.status.reasons[:_MOST_REASONS]:
        parts.append(Text(plain(f"{one.reason}: {one.detail}"), "yellow", no_wrap=True))
    if note:
        parts.append(Text(plain(note), "bold red", no_wrap=True))
    # The answer in whole, on as many lines as it takes; the rest on one each.
    for part in parts[2:]:
        if isinstance(part, Text):
            part.no_wrap, part.overflow = True, "ellipsis"
    return Group(*parts)


def plain(text: str) -> str:
    """``text`` as a terminal may have it."""
    return sanitised(text)


def utc(at: float) -> str:
    """Hours, minutes and seconds of a time in unix s."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return _NOT_KNOWN


def number(value: float | None, digits: int = 3) -> str:
    """To so many significant digits."""
    if value is None or not math.isfinite(value):
        return _NOT_KNOWN
    if value == 0.0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def _head(glance: GatewayGlance, title: str) -> list[Text]:
    fleet, tick, rates = glance.fleet, glance.tick, glance.rates
    first = Text()
    first.append(plain(title), "bold")
    first.append(f"  {utc(tick.at)} UTC  policy {plain(fleet.policy)}  ")
    first.append(plain(tick.status.status), "green" if tick.status.status == "ready" else "red")
    if fleet.emulated != "none":
        which = "all" if fleet.emulated == "all" else "some"
        first.append(f"  EMULATED servers: {which}", "bold magenta")
    if not fleet.is_all:
        first.append(f"  of {plain(fleet.scope) or 'one tenant'} alone", "cyan")
    second = Text()
    if rates is not None:
        second.append(f"{number(rates.gco2e_g_per_s)} g/s", "bold")
        second.append(_saved(rates.gco2e_g_per_s, rates.saved_g_per_s))
        second.append(f"  budgets met {_share(rates.budgets_met)}")
        second.append(f"  {number(rates.requests_per_s)} req/s  {number(rates.watts)} W")
        second.append(f"  last {rates.seconds:.0f} s", "dim")
    elif tick.own is not None:
        own = tick.own
        second.append(f"{own.requests} requests  {number(own.gco2e_g)} g", "bold")
        second.append(f"  saved {number(own.saved_g)} g")
        second.append(f"  budgets met {own.met}, missed {own.missed}")
    else:
        second.append("no rates yet", "dim")
    made = [first, second]
    totals = tick.totals
    if totals is not None and totals.grams_kinds:
        words = "; ".join(_kinds(one) for one in sorted(totals.grams_kinds)[:4])
        made.append(Text(f"since it began {number(totals.gco2e_g)} g ({words})", "dim"))
    return made


def _kinds(key: str) -> str:
    intensity, _, joules = plain(key).partition("/")
    return f"intensity {intensity}, joules {joules}"


def _saved(grams: float, saved: float) -> str:
    otherwise = grams + saved
    share = f" ({saved / otherwise:+.0%})" if otherwise > 0.0 else ""
    return f"  saved {number(saved)} g/s{share} against latency-first"


def _share(value: float | None) -> str:
    return _NOT_KNOWN if value is None or not math.isfinite(value) else f"{value:.1%}"


def _intensity(one: RegionGlance, _: float) -> Text:
    known = one.intensity
    if known is None:
        return Text("unknown", "red")
    return Text(number(known.g), "red" if known.stale else "")


def _kind(one: RegionGlance, _: float) -> Text:
    known = one.intensity
    if known is None:
        return Text(_NOT_KNOWN)
    return Text(plain(known.kind) + (" stale" if known.stale else ""))


def _healthy(one: RegionGlance, _: float) -> Text:
    style = "red" if not one.healthy else "yellow" if one.healthy < one.endpoints else ""
    return Text(f"{one.healthy}/{one.endpoints}", style)


# In the order in which they go when there is no room, the last first.
_COLUMNS: Final = (
    _Column("region", 12, lambda one, _: Text(plain(one.name)), right=False),
    _Column("g/kWh", 7, _intensity),
    _Column("req/s", 7, lambda one, _: Text(number(one.requests_per_s))),
    _Column("up", 5, _healthy),
    _Column("g/s", 8, lambda one, _: Text(number(one.gco2e_g_per_s))),
    _Column("in flight", 9, lambda one, _: Text(f"{one.in_flight:.0f}")),
    _Column("awake", 5, lambda one, _: Text(str(one.awake))),
    _Column("next 24 h", 24, lambda one, high: Text(_sparkline(one.ahead, high)), right=False),
    _Column("zone", 8, lambda one, _: Text(plain(one.zone)), right=False),
    _Column("kind", 9, _kind, right=False),
)


def _sparkline(hours: Sequence[float], high: float) -> str:
    """From 0 to ``high``, so that regions can be compared."""
    known = [one for one in hours[:_HOURS] if math.isfinite(one)]
    if not high > 0.0:
        return ""
    return "".join(_BARS[max(0, min(7, int(one / high * 8.0)))] for one in known)


def _fitting(columns: int) -> list[_Column]:
    chosen: list[_Column] = []
    used = 0
    for column in _COLUMNS:
        used += column.width + 2
        if used > columns and len(chosen) > 1:
            break
        chosen.append(column)
    return chosen


def _regions(glance: GatewayGlance, columns: int, lines: int) -> RenderableType:
    chosen = _fitting(columns)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for column in chosen:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=min(column.width, 5),
        )
    models = min(len(glance.tick.latency.models), _MOST_MODELS)
    shown = glance.regions[: max(_LEAST_REGIONS, lines - _OTHER_LINES - models)]
    hours = (hour for one in glance.regions for hour in one.ahead[:_HOURS])
    high = max((hour for hour in hours if math.isfinite(hour)), default=0.0)
    for one in shown:
        table.add_row(*(column.value(one, high) for column in chosen))
    more = len(glance.regions) - len(shown)
    if not more:
        return table
    return Group(table, Text(f"and {more} regions more, of higher intensity", "dim"))


def _latencies(models: Sequence[FeedLatency], columns: int) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    table.add_column("model", no_wrap=True, overflow="ellipsis", min_width=5)
    wide = columns >= 70
    titles = ["answers", "ttft 50/95 %, ms", "kept"]
    if wide:
        titles += ["e2e 50/95 %, ms", "kept"]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True, overflow="ellipsis")
    for one in models[:_MOST_MODELS]:
        row = [str(one.requests), _pair(one.ttft_ms), _kept(one.ttft_budget)]
        if wide:
            row += [_pair(one.e2e_ms), _kept(one.e2e_budget)]
        table.add_row(Text(plain(one.model)), *map(Text, row))
    return table


def _pair(pair: tuple[float, float] | None) -> str:
    return _NOT_KNOWN if pair is None else f"{number(pair[0])}/{number(pair[1])}"


def _kept(kept: FeedBudgetKept | None) -> str:
    if kept is None or kept.met + kept.missed <= 0:
        return _NOT_KNOWN
    return f"{kept.met / (kept.met + kept.missed):.0%} of <={number(kept.least_ms)}"


def _budget(one: FeedBudget) -> Text:
    share = one.left_g / one.limit_g if one.limit_g > 0.0 else math.nan
    left = _share(share)
    name = "all" if one.name is None else plain(one.name)
    grams = f"{number(one.left_g)} of {number(one.limit_g)} g left"
    return Text(
        f"budget {plain(one.budget)} {name}: {grams} ({left})", "red" if share < 0.1 else ""
    )
