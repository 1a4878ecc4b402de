"""Field types of a scenario file beside those of the configuration: durations and moments."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from router.config.fields import UnixTime, parse_time

_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)", re.ASCII)
_DECADE_S = 3660 * 86400


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{value[:40]!r} is not a duration; write seconds, or 90s, 15m, 24h, 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def _moment(value: object) -> object:
    if isinstance(value, str) and "-" in value:
        return parse_time(value)
    return _duration(value)


# What the JSON schema says of them: text is allowed where a number is.
_DURATION_JSON = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": rf"^\s*{_DURATION.pattern}\s*$"},
    ]
}
_TIME_JSON = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}
_MOMENT_JSON = {"anyOf": [*_TIME_JSON["anyOf"], *_DURATION_JSON["anyOf"]]}

Start = Annotated[UnixTime, WithJsonSchema(_TIME_JSON)]
Duration = Annotated[
    float, BeforeValidator(_duration), Field(ge=0, le=_DECADE_S), WithJsonSchema(_DURATION_JSON)
]
Period = Annotated[
    float, BeforeValidator(_duration), Field(gt=0, le=_DECADE_S), WithJsonSchema(_DURATION_JSON)
]
# A date, as unix seconds, or a duration since the start: no scenario lasts until 1980.
Moment = Annotated[
    float, BeforeValidator(_moment), Field(ge=0, le=4102444800), WithJsonSchema(_MOMENT_JSON)
]
