from __future__ import annotations

from datetime import UTC, datetime

import pytest

from router.carbon.tables.static import embedded
from router.errors import ConfigError
from router.operator.footprint.places import CALIFORNIA, WEST_VIRGINIA, own_place, places


def test_a_place_is_its_annual_mean_and_the_hours_of_its_year() -> None:
    california, virginia = places((CALIFORNIA, WEST_VIRGINIA), None)
    assert (california.label, virginia.label) == ("California", "West Virginia (PJM)")
    assert california.g_per_kwh == embedded()[CALIFORNIA].g_per_kwh < virginia.g_per_kwh
    mean = sum(california.by_hour) / 24
    assert mean == pytest.approx(california.g_per_kwh, abs=0.2)
    # The sun of California stands highest at 20 h UTC.
    assert min(range(24), key=lambda hour: california.by_hour[hour]) in (18, 19, 20, 21)


def test_a_month_and_hour_may_be_asked_for() -> None:
    noon = datetime(2026, 7, 15, 20, 30, tzinfo=UTC).timestamp()
    (place,) = places((CALIFORNIA,), noon)
    assert place.g_per_kwh == pytest.approx(place.by_hour[20])
    assert place.when == "usual of July, 20 h UTC"
    (winter,) = places((CALIFORNIA,), datetime(2026, 1, 15, 20, tzinfo=UTC).timestamp())
    assert winter.g_per_kwh != place.g_per_kwh


def test_a_part_of_a_zone_says_who_stands_in_for_it() -> None:
    (place,) = places(("SE-SE3",), None)
    assert "as SE" in place.label
    assert place.g_per_kwh == embedded()["SE"].g_per_kwh


def test_a_zone_without_hours_has_its_mean_alone() -> None:
    (place,) = places(("JP",), None)
    assert place.by_hour == ()
    with pytest.raises(ConfigError, match="annual mean alone"):
        places(("JP",), 1.7e9)


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("US-TEX", ("is no grid zone", "US-TEX-ERCO")),
        ("FR", ("no annual mean ships for FR", "--g-per-kwh", "DE")),
        ("MARS", ("'MARS' is no grid zone", "carbon-router zones")),
    ],
)
def test_an_unknown_zone_is_told_with_the_fix(zone: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        places((zone,), None)
    assert all(word in str(caught.value) for word in ("--zone", *words)), str(caught.value)


def test_a_figure_of_ones_own() -> None:
    assert own_place(0.0).g_per_kwh == 0.0
    with pytest.raises(ConfigError, match="--g-per-kwh"):
        own_place(-1.0)
