from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.answers import (
    Issue,
    fetch_each,
    flag,
    intensity_g,
    iso,
    listed,
    mapping,
    number,
    published_forecast,
    retry_after_s,
    spans,
    stamp,
)
from router.carbon.providers.holes import is_stated
from router.carbon.providers.provider import Reading
from router.carbon.providers.rows import RowReader
from router.errors import NoDataError, ProviderAnswerError, ProviderBusyError, ProviderRowError
from router.model import Basis, Factors, Signal

T0 = 1_652_486_400.0  # 2022-05-14T00:00Z
HOUR = 3600.0
ISSUE = Issue("x", Signal(Basis.AVERAGE, Factors.LIFECYCLE), HOUR, T0 - HOUR, 24 * HOUR)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("read", [mapping, listed, stamp, number])
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


@pytest.mark.parametrize(
    ("value", "factors"),
    [(2001, Factors.DIRECT), (2001, Factors.LIFECYCLE), (0.4, Factors.LIFECYCLE)],
)
def test_what_no_grid_can_have_is_a_fault_of_its_row(value: float, factors: Factors) -> None:
    with pytest.raises(ProviderRowError, match="no grid's") as caught:
        intensity_g(value, "x", "v", factors)
    assert caught.value.fault == "out_of_range"


def test_a_flag_is_true_or_false_or_missing() -> None:
    assert [flag(value, "x", "f") for value in (True, False, None)] == [True, False, None]
    with pytest.raises(ProviderRowError):
        flag(0, "x", "f")


@given(st.floats(0.0, 1e6), st.floats(0.1, 1e6), st.floats(1e3, 1e6))
def test_spans_cover_all_without_overlap(start: float, length: float, longest: float) -> None:
    found = list(spans(start, start + length, longest))
    assert found[0][0] == start and found[-1][1] == start + length
    assert all(end - begin <= longest * (1 + 1e-9) for begin, end in found)
    assert all(one[1] == two[0] for one, two in pairwise(found))
    assert list(spans(5.0, 5.0, 1.0)) == []


def starts(hours: list[int]) -> dict[float, float]:
    return {T0 + hour * HOUR: 100.0 + hour for hour in hours}


@given(st.sets(st.integers(0, 95), min_size=1), st.floats(-1.0, 0.999))
def test_a_forecast_states_its_slots_and_nothing_between(hours: set[int], ago_h: float) -> None:
    now = T0 + (max(hours) + ago_h) * HOUR
    found = published_forecast("DE", starts(sorted(hours)), ISSUE, now, RowReader("x"))
    stated = {
        found.start + place * HOUR: slot.g_per_kwh
        for place, slot in enumerate(found.slots)
        if is_stated(slot)
    }
    assert stated == starts(sorted(hours))
    assert all(slot.expires_at <= slot.observed_at for slot in found.slots if not is_stated(slot))


def test_no_forecast_and_a_frozen_one() -> None:
    with pytest.raises(NoDataError):
        published_forecast("DE", {}, ISSUE, T0, RowReader("x"))
    with pytest.raises(ProviderAnswerError, match="frozen"):
        published_forecast("DE", starts([0, 2]), ISSUE, T0 + 3 * HOUR, RowReader("x"))


def test_a_slot_off_the_step_or_of_another_century_costs_itself() -> None:
    series = {**starts([0, 1, 2, 3]), T0 + 500.0: 1.0, T0 - 1e9: 2.0}
    reader = RowReader("x")
    found = published_forecast("DE", series, ISSUE, T0, reader)
    assert [slot.g_per_kwh for slot in found.slots] == [100.0, 101.0, 102.0, 103.0]
    assert [(one.fault, one.rows) for one in reader.dropped] == [("misplaced", 2)]


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


@given(st.text(max_size=40))
def test_any_retry_after_is_a_wait_or_nothing(header: str) -> None:
    after_s = retry_after_s(header, T0)
    assert after_s is None or 0.0 <= after_s <= 86_400.0
