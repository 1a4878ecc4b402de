from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.answers import (
    Issue,
    Row,
    fetch_each,
    intensity_g,
    iso,
    mapping,
    number,
    published_forecast,
    rows,
    spans,
    stamp,
)
from router.carbon.provider import Reading
from router.errors import NoDataError, ProviderAnswerError, ProviderBusyError
from router.model import Basis, Factors, Signal

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
HOUR = 3600.0
ISSUE = Issue("x", Signal(Basis.AVERAGE, Factors.LIFECYCLE), HOUR, T0 - HOUR, 24 * HOUR)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("read", [mapping, rows, stamp, number])
@given(value=ANY)
def test_any_value_is_read_or_a_provider_answer_error(
    read: Callable[[Any, str, str], Any], value: Any
) -> None:
    try:
        found = read(value, "em", "zone")
    except ProviderAnswerError as error:
        assert str(error).startswith("em: ")
    else:
        assert found is not None


@pytest.mark.parametrize(
    "text",
    ["2022-05-14T00:00:00Z", "2022-05-14T00:00Z", "2022-05-14T00:00:00.000Z",
     "2022-05-14T00:00:00+00:00"],
)  # fmt: skip
def test_stamps_in_utc(text: str) -> None:
    assert stamp(text, "x", "datetime") == T0
    assert iso(T0) == "2022-05-14T00:00:00Z"


def test_nought_is_missing_with_life_cycle_factors_alone() -> None:
    assert intensity_g(0, "x", "v", Factors.LIFECYCLE) is None
    assert intensity_g(0, "x", "v", Factors.DIRECT) == 0.0
    assert intensity_g(None, "x", "v", Factors.DIRECT) is None
    with pytest.raises(ProviderAnswerError, match="no grid's"):
        intensity_g(5001, "x", "v", Factors.DIRECT)


@given(st.floats(0.0, 1e6), st.floats(0.1, 1e6), st.floats(1e3, 1e6))
def test_spans_cover_all_without_overlap(start: float, length: float, longest: float) -> None:
    found = list(spans(start, start + length, longest))
    assert found[0][0] == start and found[-1][1] == start + length
    assert all(end - begin <= longest * (1 + 1e-9) for begin, end in found)
    assert all(one[1] == two[0] for one, two in pairwise(found))
    assert list(spans(5.0, 5.0, 1.0)) == []


def starts(hours: list[int]) -> list[Row]:
    return [Row(T0 + hour * HOUR, 100.0 + hour) for hour in hours]


@pytest.mark.parametrize(
    ("hours", "now_h", "served"),
    [
        ([0, 1, 2], 0.5, [0, 1, 2]),
        ([0, 1, 3], 0.5, [0, 1]),
        ([0, 2, 3], 2.5, [2, 3]),
        ([0, 2, 4], 1.0, [2]),
        ([5, 6], 0.5, [5, 6]),
    ],
)
def test_a_forecast_is_the_run_of_slots_that_reaches_now_or_beyond(
    hours: list[int], now_h: float, served: list[int]
) -> None:
    found = published_forecast("DE", starts(hours), ISSUE, T0 + now_h * HOUR, "x")
    assert found.start == T0 + served[0] * HOUR
    assert [slot.g_per_kwh for slot in found.slots] == [100.0 + hour for hour in served]
    assert {slot.observed_at for slot in found.slots} == {T0 - HOUR}


def test_no_forecast_and_a_frozen_one() -> None:
    with pytest.raises(NoDataError):
        published_forecast("DE", [], ISSUE, T0, "x")
    for hours in ([0, 1], [0, 2]):
        with pytest.raises(ProviderAnswerError, match="frozen"):
            published_forecast("DE", starts(hours), ISSUE, T0 + 3 * HOUR, "x")


async def test_one_zone_s_error_spares_the_others() -> None:
    async def fetch(zone: str) -> Reading:
        if zone == "DE":
            return Reading()
        raise NoDataError(zone) if zone == "FR" else ProviderBusyError(zone, 5.0)

    found = await fetch_each(["FR", "DE"], fetch)
    assert isinstance(found["FR"], NoDataError) and found["DE"] == Reading()
    with pytest.raises(ProviderBusyError):
        await fetch_each(["FR", "ES"], fetch)
    assert await fetch_each([], fetch) == {}
