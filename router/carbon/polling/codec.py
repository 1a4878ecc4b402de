"""Intensities and forecasts as JSON bytes, for what several gateways share; strict both ways.

Version 2: ``{"v": 2, "what": ..., "token": ..., "origins": [[basis, factors, source]], "rows": [[g,
low, high, kind, index of origin, observed_at, expires_at]]}``, null standing for an infinite
``expires_at``; a forecast adds ``zone``, ``start`` and ``step_s``. ``token``: the fencing token of
the gateway that wrote it. Any change of meaning takes a new version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from router.errors import DataError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal

VERSION: Final = 2
# More bytes than ten days of five-minute values have.
_MOST_BYTES: Final = 4 * 2**20
_MOST_TOKEN: Final = 2**63


class Seen(NamedTuple):
    """When one grid zone was last asked with success for each want, and how it last failed.

    Unix seconds, 0 for never. ``code``, ``text``: reason and words of the last failure, or "".
    """

    latest_at: float = 0.0
    forecast_at: float = 0.0
    history_at: float = 0.0
    code: str = ""
    text: str = ""


class Index(NamedTuple):
    """What one poller has stored. ``token``: its fencing token; ``beat_at``: unix s, by its clock,
    when it last said so."""

    token: int
    beat_at: float
    zones: Mapping[str, Seen]


class StoredValues(NamedTuple):
    """Observed values of one grid zone, and the token of who wrote them."""

    token: int
    values: tuple[Intensity, ...]


class StoredForecast(NamedTuple):
    """One grid zone's forecast, and the token of who wrote it."""

    token: int
    forecast: Forecast


def encode_values(values: Sequence[Intensity], token: int) -> bytes:
    """Observed values, in their order. Raises DataError for a time that is not a number."""
    return _dump("values", token=token, **_columns(values))


def decode_values(data: bytes) -> StoredValues:
    """The values again, equal to the last bit. Raises DataError for anything else."""
    body = _load(data, "values", {"token", "origins", "rows"})
    return StoredValues(_token(body["token"]), _values(body))


def encode_forecast(forecast: Forecast, token: int) -> bytes:
    """One zone's forecast. Raises DataError for a time that is not a number."""
    times = {"start": _finite(forecast.start), "step_s": _finite(forecast.step_s)}
    columns = _columns(forecast.slots)
    return _dump("forecast", token=token, zone=forecast.grid_zone, **times, **columns)


def decode_forecast(data: bytes) -> StoredForecast:
    """The forecast again. Raises DataError (MixedBasisError when its slots differ in signal)."""
    body = _load(data, "forecast", {"token", "zone", "start", "step_s", "origins", "rows"})
    start, step_s = _finite(body["start"]), _finite(body["step_s"])
    forecast = Forecast(_text(body["zone"]), start, step_s, _values(body))
    return StoredForecast(_token(body["token"]), forecast)


def encode_index(index: Index) -> bytes:
    """What a poller has stored. Raises DataError for a time that is not a number."""
    zones = {zone: [*map(_finite, seen[:3]), *seen[3:]] for zone, seen in index.zones.items()}
    return _dump("index", token=index.token, beat_at=_finite(index.beat_at), zones=zones)


def decode_index(data: bytes) -> Index:
    """The index again. Raises DataError for anything else."""
    body = _load(data, "index", {"token", "beat_at", "zones"})
    zones = {}
    for zone, row in _object(body["zones"]).items():
        latest, forecast, history, code, text = _row(row, 5)
        times = (_finite(latest), _finite(forecast), _finite(history))
        zones[zone] = Seen(*times, _text(code), _text(text))
    return Index(_token(body["token"]), _finite(body["beat_at"]), zones)


def encode_zones(grid_zones: Sequence[str]) -> bytes:
    """Names of grid zones."""
    return _dump("zones", names=list(grid_zones))


def decode_zones(data: bytes) -> tuple[str, ...]:
    """The names again. Raises DataError for anything else."""
    return tuple(_text(name) for name in _list(_load(data, "zones", {"names"})["names"]))


def _columns(values: Sequence[Intensity]) -> dict[str, Any]:
    origins: dict[tuple[str, str, str], int] = {}
    rows = []
    for value in values:
        origin = (str(value.signal.basis), str(value.signal.factors), value.source)
        endless = value.expires_at == math.inf
        rows.append(
            [
                value.g_per_kwh,
                value.low_g_per_kwh,
                value.high_g_per_kwh,
                str(value.kind),
                origins.setdefault(origin, len(origins)),
                _finite(value.observed_at),
                None if endless else _finite(value.expires_at),
            ]
        )
    return {"origins": [list(origin) for origin in origins], "rows": rows}


def _values(body: Mapping[str, Any]) -> tuple[Intensity, ...]:
    origins = []
    for row in _list(body["origins"]):
        basis, factors, source = _row(row, 3)
        try:
            signal = Signal(Basis(basis), Factors(factors))
        except ValueError as error:
            raise DataError(f"stored carbon values: {error}") from None
        origins.append((signal, _text(source)))
    return tuple(_value(_row(row, 7), origins) for row in _list(body["rows"]))


def _value(row: list[Any], origins: Sequence[tuple[Signal, str]]) -> Intensity:
    g_per_kwh, low, high, kind, origin, observed_at, expires_at = row
    if type(origin) is not int or not 0 <= origin < len(origins):
        raise DataError("stored carbon values: a row names an origin that is not there")
    signal, source = origins[origin]
    try:
        return Intensity(
            g_per_kwh=_finite(g_per_kwh),
            low_g_per_kwh=_finite(low),
            high_g_per_kwh=_finite(high),
            signal=signal,
            kind=Kind(kind),
            source=source,
            observed_at=_finite(observed_at),
            expires_at=math.inf if expires_at is None else _finite(expires_at),
        )
    except ValueError as error:
        raise DataError(f"stored carbon values: {error}") from None


def _dump(what: str, **body: Any) -> bytes:
    text = json.dumps({"v": VERSION, "what": what, **body}, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _load(data: bytes, what: str, keys: set[str]) -> dict[str, Any]:
    if len(data) > _MOST_BYTES:
        raise DataError(f"stored {what}: over {_MOST_BYTES} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"stored {what}: not JSON") from None
    body = _object(body)
    if body.get("v") != VERSION or body.get("what") != what or isinstance(body["v"], bool):
        raise DataError(f"stored {what}: not of version {VERSION}; another release wrote it")
    if body.keys() != {"v", "what", *keys}:
        raise DataError(f"stored {what}: has the keys {sorted(body)}")
    return body


def _finite(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise DataError(f"stored carbon values: {str(value)[:40]!r} where a finite number belongs")


def _token(value: Any) -> int:
    if type(value) is int and 0 <= value < _MOST_TOKEN:
        return value
    raise DataError(f"stored carbon values: {str(value)[:40]!r} where a fencing token belongs")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"stored carbon values: {str(value)[:40]!r} where a text belongs")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"stored carbon values: {str(value)[:40]!r} where a list belongs")
    return value


def _row(value: Any, length: int) -> list[Any]:
    row = _list(value)
    if len(row) != length:
        raise DataError(f"stored carbon values: a row of {len(row)} instead of {length}")
    return row


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"stored carbon values: {str(value)[:40]!r} where an object belongs")
    return value
