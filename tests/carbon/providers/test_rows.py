from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.answers import number
from router.carbon.providers.rows import Dropped, Fault, RowReader, summary
from router.errors import NoDataError, ProviderAnswerError, ProviderRowError
from router.trust.secrets import Secret

KEY = "k-3f9a71c2e5"
ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def read(row: Mapping[str, Any]) -> float:
    return number(row.get("v"), "em", "v")


@given(st.lists(ANY | st.fixed_dictionaries({"v": ANY, "at": ANY})))
def test_every_row_is_kept_or_dropped_and_the_first_of_a_fault_is_told(listed: list[Any]) -> None:
    reader = RowReader("em")
    kept = reader.each(listed, read, "at")
    assert reader.kept == len(kept)
    assert len(kept) + sum(one.rows for one in reader.dropped) == len(listed)
    assert all(0.0 <= value <= 1e12 for value in kept)
    assert all(one.example.startswith("row ") for one in reader.dropped)


def test_a_row_that_echoes_the_key_does_not_tell_it() -> None:
    reader = RowReader("em", Secret(KEY))
    reader.each([{"v": KEY, "at": KEY}], read, "at")
    assert reader.dropped == (Dropped(Fault.MALFORMED, 1, "row ***: v is str, not a number, ***"),)


def test_what_is_no_fault_of_a_row_refuses_the_answer() -> None:
    def other_zone(row: Mapping[str, Any]) -> None:
        raise ProviderAnswerError("em: answered for FR")

    with pytest.raises(ProviderAnswerError, match="FR"):
        RowReader("em").each([{}], other_zone)


@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 2))))
def test_a_slot_counts_once_and_not_at_all_where_it_is_contradicted(
    found: list[tuple[float, int]],
) -> None:
    reader = RowReader("em")
    stated = {slot: {value for at, value in found if at == slot} for slot, _ in found}
    alike = {slot: values.pop() for slot, values in stated.items() if len(values) == 1}
    slots = reader.once(found)
    assert slots == alike and list(slots) == sorted(slots)
    assert sum(one.rows for one in reader.dropped) == len(stated) - len(alike)


def test_nothing_usable_is_told_by_the_first_row_dropped() -> None:
    reader = RowReader("em")
    assert isinstance(reader.nothing("no value"), NoDataError)
    reader.drop(ProviderRowError("em: v is no number", Fault.OUT_OF_RANGE, -4), "row 3")
    assert str(reader.nothing("no value")) == "em: no usable row: row 3: v is no number, '-4'"
    assert summary(reader.dropped) == "1 row dropped: row 3: v is no number, '-4'"
    assert summary(()) == ""
