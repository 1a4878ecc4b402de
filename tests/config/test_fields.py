from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.fields import format_time, parse_time, split_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8500", ("127.0.0.1", 8500)),
        ("localhost:0", ("localhost", 0)),
        ("triton-0.ns.svc:8001", ("triton-0.ns.svc", 8001)),
        ("[::1]:8500", ("::1", 8500)),
        ("a_b:1", ("a_b", 1)),
    ],
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":8500",
        "::1:8500",
        "h:65536",
        "h:-1",
        "h: 1",
        "h:",
        "h:８",
        "http://h:1",
        "a b:1",
    ],
)
def test_what_is_no_address_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|not a number"):
        split_address(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535


def test_times() -> None:
    assert parse_time("2022-05-14T00:00Z") == 1652486400.0
    assert parse_time("2022-05-14T00:00:30+00:00") == 1652486430.0
    assert parse_time(datetime(2022, 5, 14, tzinfo=UTC)) == 1652486400.0


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("2022-05-14T02:00+02:00", "write 2022-05-14T00:00Z"),
        ("2022-05-14T00:00", "append Z"),
        ("0001-01-01T00:00+23:59", "in no year that there is"),
        ("tomorrow", "is not a time"),
        (datetime(2022, 5, 14), "append Z"),
        (datetime(2022, 5, 14, tzinfo=timezone(timedelta(hours=-7))), "write 2022-05-14T07:00Z"),
    ],
)
def test_times_outside_utc_say_what_to_write(value: str | datetime, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_time(value)


@given(st.integers(0, 4_000_000_000))
def test_times_survive_a_round_trip(unix_s: int) -> None:
    assert parse_time(format_time(float(unix_s))) == unix_s
