from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.suggestions import HINT, meant
from router.config.zones import shipped_places


@pytest.mark.parametrize(
    ("word", "zone"),
    [
        ("de", "DE"), ("Germany", "DE"), ("germany", "DE"), ("DEU", "DE"), ("UK", "GB"),
        ("GBR", "GB"), ("AUS-NSW", "AU-NSW"), ("au_nsw", "AU-NSW"), ("us-cal-ciso", "US-CAL-CISO"),
        ("US-TEX-ERCOT", "US-TEX-ERCO"), ("New South Wales", "AU-NSW"),
    ],
)  # fmt: skip
def test_a_country_or_a_slip_is_taken_for_the_zone_that_is_meant(word: str, zone: str) -> None:
    said = meant(word, shipped_places())
    assert f"{zone!r}" in said and HINT in said


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        ("US", "US-CAL-BANC, "), ("USA", "US-CAL-BANC, "), ("us", "46 more"), ("CA", "CA-QC"),
        ("US-CA", "US-CAL-BANC, "), ("SE-NO", "SE-SE1, SE-SE2"), ("SE-SE", "SE-SE1, SE-SE2"),
    ],
)  # fmt: skip
def test_a_country_or_a_part_of_it_with_many_zones_lists_them(word: str, listed: str) -> None:
    said = meant(word, shipped_places())
    assert "its grid zones are" in said and listed in said and HINT in said


def test_the_columns_of_a_table_are_meant_too() -> None:
    assert "'MY-GRID'" in meant("my-grid", shipped_places(), ["MY-GRID"])


@given(st.text(max_size=20))
def test_whatever_is_written_the_list_is_pointed_at(word: str) -> None:
    said = meant(word, shipped_places())
    assert HINT in said and f"mean {word!r}" not in said
