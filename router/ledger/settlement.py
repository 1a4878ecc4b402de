"""Which prices a settlement adds: intensities as known in the end, beside those on receipts.

Receipts stay as they were written. A price is the intensity of one grid zone in one hour; whoever
wants settled grams joins energy with prices, and a run of several hours by its time in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from router.errors import DataError
from router.ledger.columns import CellType, Column
from router.ledger.month import US_PER_S, hour_text
from router.model import Basis, Factors, Kind
from router.units import DAY_S, HOUR_S

# Operators of grids and data services revise their figures for weeks; then books are closed.
SETTLED_WITHIN_S: Final = 30.0 * DAY_S
_TRUST: Final = {Kind.MEASURED: 0, Kind.ESTIMATED: 1}

_N, _D = CellType.NAME, CellType.DOUBLE

PRICE_COLUMNS: Final = (
    Column("grid_zone", _N, "", "as receipts name it", False),
    Column("hour", CellType.TIME, "UTC", "start of the hour", False),
    Column("basis", _N, "", "average or marginal: two figures that are never added", False),
    Column("factors", _N, "", "lifecycle, direct or none", False),
    Column("g_per_kwh", _D, "g/kWh", "mean intensity of the hour", False),
    Column("low_g_per_kwh", _D, "g/kWh", "90 % interval", False),
    Column("high_g_per_kwh", _D, "g/kWh", "", False),
    Column("kind", _N, "", "measured or estimated", False),
    Column("source", _N, "", "who says so", False),
    Column("revision", CellType.COUNT, "", "1, 2, ... of zone, hour, basis and factors", False),
    Column("observed_at", CellType.TIME, "UTC", "when its source said so", False),
    Column("settled_at", CellType.TIME, "UTC", "when it was taken into this ledger", False),
)  # fmt: skip


class PriceKey(NamedTuple):
    """Of what there is one price at a time. ``hour``: hours since 1970."""

    grid_zone: str
    hour: int
    basis: Basis
    factors: Factors


class MeasuredHour(NamedTuple):
    """What a source says of one hour. ``observed_at``: unix s."""

    key: PriceKey
    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    kind: Kind
    source: str
    observed_at: float


class Price(NamedTuple):
    """One row of `PRICE_COLUMNS`. ``settled_at``: unix s."""

    measured: MeasuredHour
    revision: int
    settled_at: float


class Settlement(NamedTuple):
    """``added``: in order of their keys. ``unchanged``: hours whose price stands as it is;
    ``worse``: of which something better is known; ``late``: too old; ``early``: not over yet;
    ``elsewhere``: in zones or hours of which there is no receipt; ``older``: of which the same
    source said the price that stands later. Each is a number of hours."""

    added: tuple[Price, ...]
    unchanged: int
    worse: int
    late: int
    early: int
    elsewhere: int
    older: int


def settle(
    known: Mapping[PriceKey, Price],
    measured: Iterable[MeasuredHour],
    used: Mapping[str, frozenset[int]],
    now: float,
) -> Settlement:
    """``known``: the newest price of each hour; ``used``: by grid zone the hours with receipts.

    A source may revise its own value, by what it said no earlier. Another source replaces it only
    by a better kind: a measured value an estimated one. Raises DataError for a value that is
    neither, for no number, and for two values of one hour.
    """
    added: dict[PriceKey, Price] = {}
    seen: dict[PriceKey, MeasuredHour] = {}
    counts = {"unchanged": 0, "worse": 0, "late": 0, "early": 0, "elsewhere": 0, "older": 0}
    for one in measured:
        _check(one)
        before = seen.get(one.key)
        if before is not None:
            if before[1:] == one[1:]:
                continue
            raise DataError(
                f"{_name(one.key)} has two values, {before.g_per_kwh:g} g/kWh ({before.source}) "
                f"and {one.g_per_kwh:g} ({one.source}): give one at a time"
            )
        seen[one.key] = one
        why = _why_not(known.get(one.key), one, used, now)
        if why:
            counts[why] += 1
            continue
        last = known.get(one.key)
        added[one.key] = Price(one, last.revision + 1 if last else 1, now)
    return Settlement(tuple(added[key] for key in sorted(added)), **counts)


def _why_not(
    last: Price | None, one: MeasuredHour, used: Mapping[str, frozenset[int]], now: float
) -> str:
    end = (one.key.hour + 1) * HOUR_S
    if one.key.hour not in used.get(one.key.grid_zone, frozenset()):
        return "elsewhere"
    if end > now:
        return "early"
    if last is not None:
        old = last.measured
        if _figures(old) == _figures(one):
            return "unchanged"
        if one.source != old.source and _TRUST[one.kind] >= _TRUST[old.kind]:
            return "worse"
        # Held to a microsecond, as files of prices keep times.
        if one.source == old.source and _said_us(one) < _said_us(old):
            return "older"
    return "late" if now - end > SETTLED_WITHIN_S else ""


def _said_us(one: MeasuredHour) -> int:
    return round(one.observed_at * US_PER_S)


def _figures(one: MeasuredHour) -> tuple[object, ...]:
    return one.g_per_kwh, one.low_g_per_kwh, one.high_g_per_kwh, one.kind, one.source


def _check(one: MeasuredHour) -> None:
    if one.kind not in _TRUST:
        raise DataError(f"{_name(one.key)}: books are settled on measurements, not on a {one.kind}")
    if not 0.0 <= one.low_g_per_kwh <= one.g_per_kwh <= one.high_g_per_kwh < float("inf"):
        raise DataError(
            f"{_name(one.key)}: {one.low_g_per_kwh:g} <= {one.g_per_kwh:g} <= "
            f"{one.high_g_per_kwh:g} g/kWh is no intensity with its interval"
        )


def _name(key: PriceKey) -> str:
    return f"{key.grid_zone}, {hour_text(key.hour)}, {key.basis}/{key.factors}"
