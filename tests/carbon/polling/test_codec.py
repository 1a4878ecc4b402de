from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.carbon.polling import codec
from router.carbon.polling.codec import Index, Seen
from router.errors import DataError
from router.model import Basis, Factors, Forecast, Intensity, Kind, Signal
from tests.examples import examples

TIMES = st.floats(-1e12, 1e12)
GRAMS = st.lists(st.floats(0.0, 1e4), min_size=3, max_size=3).map(sorted)
SIGNALS = st.builds(Signal, st.sampled_from(Basis), st.sampled_from(Factors))


def intensities(signals: st.SearchStrategy[Signal] = SIGNALS) -> st.SearchStrategy[Intensity]:
    return st.builds(
        lambda grams, signal, kind, source, seen, until: Intensity(
            grams[1], grams[0], grams[2], signal, kind, source, seen, until
        ),
        GRAMS,
        signals,
        st.sampled_from(Kind),
        st.text(max_size=9),
        TIMES,
        TIMES | st.just(math.inf),
    )


@st.composite
def forecasts(draw: st.DrawFn) -> Forecast:
    slots = draw(st.lists(intensities(st.just(draw(SIGNALS))), min_size=1, max_size=5))
    return Forecast(draw(st.text()), draw(TIMES), draw(st.floats(1.0, 1e5)), tuple(slots))


TOKENS = st.integers(0, 2**63 - 1)


@given(st.lists(intensities(), max_size=9), TOKENS)
def test_values_survive_to_the_last_bit(values: list[Intensity], token: int) -> None:
    assert codec.decode_values(codec.encode_values(values, token)) == (token, tuple(values))


@given(forecasts(), TOKENS)
def test_a_forecast_survives(forecast: Forecast, token: int) -> None:
    assert codec.decode_forecast(codec.encode_forecast(forecast, token)) == (token, forecast)


@given(
    TOKENS,
    TIMES,
    st.dictionaries(st.text(), st.builds(Seen, TIMES, TIMES, TIMES, st.text(), st.text())),
    st.lists(st.text()),
)
def test_an_index_and_names_survive(
    token: int, beat: float, zones: dict[str, Seen], names: list[str]
) -> None:
    index = Index(token, beat, zones)
    assert codec.decode_index(codec.encode_index(index)) == index
    assert codec.decode_zones(codec.encode_zones(names)) == tuple(names)


DECODERS: list[Callable[[bytes], object]] = [
    codec.decode_values,
    codec.decode_forecast,
    codec.decode_index,
    codec.decode_zones,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
)
VALUE = Intensity(
    3, 1, 4, Signal(Basis.AVERAGE, Factors.LIFECYCLE), Kind.MEASURED, "s", 1e9, math.inf
)
REAL = [
    codec.encode_values([VALUE, VALUE], 7),
    codec.encode_forecast(Forecast("Z", 1e9, 3600.0, (VALUE,)), 7),
    codec.encode_index(Index(7, 1.0, {"Z": Seen(1.0, 2.0, 3.0, "a", "b")})),
    codec.encode_zones(["Z"]),
]


def swallows(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except DataError:
        return


@settings(max_examples=examples(40))
@given(st.sampled_from(DECODERS), st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_a_data_error(decode: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(DataError):
        decode(data)


@given(st.sampled_from(DECODERS), st.sampled_from(REAL), st.data())
def test_a_damaged_message_is_a_value_or_a_data_error(
    decode: Callable[[bytes], object], real: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(real) - 1))
    swallows(decode, real[:at] + data.draw(st.binary(max_size=3)) + real[at + 1 :])


@settings(max_examples=examples(40))
@given(st.sampled_from(range(4)), JSON, st.data())
def test_a_foreign_part_is_a_value_or_a_data_error(
    which: int, part: object, data: st.DataObject
) -> None:
    body: dict[str, Any] = json.loads(REAL[which])
    target: Any = body
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], (dict, list)) or not target[key] or data.draw(st.booleans()):
            break
        target = target[key]
    target[key] = part
    swallows(DECODERS[which], json.dumps(body).encode())


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"v":2,"what":"values","origins":' * 9999])
def test_depth_is_a_data_error(nested: bytes) -> None:
    with pytest.raises(DataError, match="not JSON"):
        codec.decode_values(nested)


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_not_written(moment: float) -> None:
    bad = Intensity(3, 1, 4, VALUE.signal, Kind.MEASURED, "s", moment, 1e9)
    with pytest.raises(DataError, match="finite"):
        codec.encode_values([bad], 7)


@pytest.mark.parametrize("version", [0, 1, 3, True, "2", None])
def test_another_version_is_refused(version: object) -> None:
    body = json.loads(REAL[0])
    body["v"] = version
    with pytest.raises(DataError, match="version 2"):
        codec.decode_values(json.dumps(body).encode())


def test_a_stored_zero_or_disorder_is_refused_as_at_construction() -> None:
    body = json.loads(REAL[0])
    body["rows"][0][0] = 99.0
    with pytest.raises(DataError, match="low <= value <= high"):
        codec.decode_values(json.dumps(body).encode())


@pytest.mark.parametrize("token", [-1, 2**63, 1.5, True, "7", None])
def test_what_is_no_token_is_refused(token: object) -> None:
    body = json.loads(REAL[0])
    body["token"] = token
    with pytest.raises(DataError, match="fencing token"):
        codec.decode_values(json.dumps(body).encode())


def test_what_is_too_large_is_not_even_read() -> None:
    with pytest.raises(DataError, match="bytes"):
        codec.decode_values(b" " * (4 * 2**20) + REAL[0])
