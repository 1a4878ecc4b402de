"""Points of an ENTSO-E document that cannot be used, marked before entsoe-py reads it.

entsoe-py stops at a quantity that is no number, and with curve type A03 it repeats the last value
where a point is left out, which is right for a point that was left out and wrong for one that was
lost. So what cannot be used becomes ``LOST_MW``, which no plant generates, and is found again in
what entsoe-py made of it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from router.carbon.providers.fuel_mix import MOST_MW
from router.carbon.providers.rows import Fault, RowReader
from router.errors import ProviderRowError

LOST_MW: Final = 1e15

_PERIOD = re.compile(r"<Period>.*?</Period>", re.DOTALL)
_POINT = re.compile(r"<Point>.*?</Point>", re.DOTALL)
_POSITION = re.compile(r"<position>\s*([0-9]{1,6})\s*</position>", re.ASCII)
_QUANTITY = re.compile(r"<quantity>\s*([^<]*?)\s*</quantity>")
_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{0,40})?", re.ASCII)


def mark_lost(text: str, reader: RowReader) -> str:
    """``text``, a whole XML document, with every point that cannot be used as ``LOST_MW``.

    A point without its position lies between its neighbours: what follows the one before is lost.
    """
    return _PERIOD.sub(lambda period: _period(period[0], reader), text)


def _period(period: str, reader: RowReader) -> str:
    points = _POINT.findall(period)
    positions = [int(found[1]) if (found := _POSITION.search(p)) else 0 for p in points]
    stated: dict[int, set[str]] = {}
    for point, position in zip(points, positions, strict=True):
        stated.setdefault(position, set()).add(_quantity(point))
    last = 0
    lost: Counter[str] = Counter()
    made: list[str] = []
    for point, position in zip(points, positions, strict=True):
        error = _defect(point, position, len(stated[position]) > 1)
        if error is None:
            made.append(point)
        else:
            reader.drop(error, f"point {position or last + 1}")
            lost[point] += 1
            if position or last + 1 not in stated:
                made.append(_point(position or last + 1))
        last = position or last + 1
    if not lost:
        return period
    head, tail = period.index(points[0]), period.rindex(points[-1]) + len(points[-1])
    return period[:head] + "".join(made) + period[tail:]


def _defect(point: str, position: int, contradicted: bool) -> ProviderRowError | None:
    """Why a point cannot be used."""
    quantity = _quantity(point)
    if position < 1:
        return ProviderRowError("a point without its position")
    if not _NUMBER.fullmatch(quantity):
        return ProviderRowError("no quantity in MW", value=quantity)
    if abs(float(quantity)) > MOST_MW:
        return ProviderRowError("no output in MW", Fault.OUT_OF_RANGE, quantity)
    if contradicted:
        text = "a position stated more than once, and not alike"
        return ProviderRowError(text, Fault.CONTRADICTED)
    return None


def _quantity(point: str) -> str:
    found = _QUANTITY.search(point)
    return found[1] if found else ""


def _point(position: int) -> str:
    return f"<Point><position>{position}</position><quantity>{LOST_MW:.0f}</quantity></Point>"
