from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.carbon.providers.entsoe_points import LOST_MW, mark_lost
from router.carbon.providers.rows import RowReader

LOST = f"{LOST_MW:.0f}"


def point(position: object, quantity: object) -> str:
    return f"<Point><position>{position}</position><quantity>{quantity}</quantity></Point>"


def period(*points: str) -> str:
    return f"<Period><resolution>PT60M</resolution>{''.join(points)}</Period>"


@pytest.mark.parametrize("quantity", ["--", "", "NaN", "inf", "1e9", "9" * 12, "1,5", "N/A"])
def test_a_quantity_that_cannot_be_used_is_lost_and_no_other(quantity: str) -> None:
    reader = RowReader("entsoe")
    found = mark_lost(period(point(1, 10), point(2, quantity), point(3, 30)), reader)
    assert found == period(point(1, 10), point(2, LOST), point(3, 30))
    assert sum(one.rows for one in reader.dropped) == 1


def test_a_point_without_its_position_is_lost_after_the_one_before() -> None:
    reader = RowReader("entsoe")
    broken = "<Point><quantity>20</quantity></Point>"
    found = mark_lost(period(point(1, 10), broken, point(4, 30)), reader)
    assert found == period(point(1, 10), point(2, LOST), point(4, 30))
    stray = mark_lost(period(point(1, 10), broken, point(2, 30)), reader)
    assert stray == period(point(1, 10), point(2, 30))


def test_a_position_of_two_quantities_is_lost_and_one_repeated_is_not() -> None:
    reader = RowReader("entsoe")
    found = mark_lost(period(point(1, 10), point(1, 20), point(2, 30), point(2, 30)), reader)
    assert found == period(point(1, LOST), point(1, LOST), point(2, 30), point(2, 30))


@given(st.lists(st.floats(-1e6, 1e6).map(lambda mw: f"{mw:.7f}"), min_size=1, max_size=30))
def test_a_sound_document_is_left_as_it_is(quantities: list[str]) -> None:
    reader = RowReader("entsoe")
    text = period(*(point(place, mw) for place, mw in enumerate(quantities, 1)))
    assert mark_lost(text, reader) == text and not reader.dropped
