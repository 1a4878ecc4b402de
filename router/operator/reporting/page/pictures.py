"""Pictures of the page, as SVG inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from router.ledger.month import hour_text
from router.operator.reporting.gather import ZoneHour
from router.operator.reporting.page.look import intensity_class

_CELL: Final = 24
_TOP: Final = 24
# A row: its name above its squares, which leaves a phone's width to the squares.
_ROW: Final = 46
_NAME: Final = 18
_DAY: Final = 24


def hours_by_zones(hours: Sequence[ZoneHour]) -> str:
    """A row a grid zone, a column an hour of the day, UTC: the area of a square is energy, its
    colour the mean intensity. Empty without energy."""
    energy: dict[tuple[str, int], int] = {}
    grams: dict[tuple[str, int], int] = {}
    for one in hours:
        place = (one.grid_zone, one.hour % _DAY)
        energy[place] = energy.get(place, 0) + one.figures.count("facility_q")
        grams[place] = grams.get(place, 0) + one.figures.count("operational_g")
    zones = sorted({zone for zone, _ in energy if zone})
    most = max((energy[place] for place in energy if place[0]), default=0)
    if most <= 0:
        return ""
    # Kilowatt-hours and grams of the two quanta: 2^-20 J and 2^-24 g.
    per_kwh = 3.6e6 / 16.0
    parts = [_axis()]
    for row, zone in enumerate(zones):
        y = _TOP + row * _ROW
        parts.append(f'<text x="0" y="{y + _NAME - 5}">{escape(zone)}</text>')
        y += _NAME
        parts.append(f'<rect class="field" x="0" y="{y}" width="{_DAY * _CELL}" height="{_CELL}"/>')
        for column in range(_DAY):
            drawn = energy.get((zone, column), 0)
            if drawn <= 0:
                continue
            g_per_kwh = grams[zone, column] / drawn * per_kwh
            side = max(2.0, math.sqrt(drawn / most) * (_CELL - 3))
            x = column * _CELL + (_CELL - side) / 2
            kwh = drawn / 2**20 / 3.6e6
            title = f"{zone}, {column:02d}:00 UTC: {kwh:.3g} kWh, {g_per_kwh:.0f} g/kWh"
            parts.append(
                f'<rect class="c{intensity_class(g_per_kwh)}" x="{x:.1f}" '
                f'y="{y + (_CELL - side) / 2:.1f}" width="{side:.1f}" height="{side:.1f}">'
                f"<title>{escape(title)}</title></rect>"
            )
    width, height = _DAY * _CELL, _TOP + len(zones) * _ROW + 4
    return (
        f'<svg class="hours" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(_label(hours))}">{"".join(parts)}</svg>'
    )


def _label(hours: Sequence[ZoneHour]) -> str:
    return f"energy by grid zone and hour of the day, {hour_text(hours[0].hour)[:7]}"


def _axis() -> str:
    return "".join(
        f'<text class="tick" x="{(hour + 0.5) * _CELL:.0f}" y="14" '
        f'text-anchor="middle">{hour:02d}</text>'
        for hour in range(0, _DAY, 3)
    )


def stacked_bar(parts: Mapping[str, float], name: str) -> str:
    """One bar: each part's class, and how much it is. Parts of nothing are left out."""
    whole = sum(max(0.0, size) for size in parts.values())
    if whole <= 0.0:
        return ""
    drawn, x = [], 0.0
    for style, size in parts.items():
        if size <= 0.0:
            continue
        width = 640.0 * size / whole
        drawn.append(f'<rect class="{style}" x="{x:.2f}" y="0" width="{width:.2f}" height="26"/>')
        x += width
    return (
        f'<svg viewBox="0 0 640 26" role="img" aria-label="{escape(name)}">{"".join(drawn)}</svg>'
    )
