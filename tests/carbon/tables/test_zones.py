"""Parts of a grid zone borrow what is usual in the whole, and say so."""

from __future__ import annotations

from router.app.carbon.build import shipped_climatology
from router.carbon.tables.climatology import Climatology
from router.carbon.tables.static import embedded
from router.carbon.tables.zones import means_of_parts
from router.config.zones import shipped_places
from router.model import Kind


def test_a_part_has_the_climatology_of_the_whole_by_name() -> None:
    whole, parts = Climatology.load(), shipped_climatology()
    (own,) = whole.slots("SE", 0.0, 1)
    (part,) = parts.slots("SE-SE3", 0.0, 1)
    assert (part.g_per_kwh, part.kind) == (own.g_per_kwh, Kind.CLIMATOLOGY)
    assert part.source == f"{own.source} of SE"
    assert parts.slots("SE", 0.0, 1) == (own,)
    assert whole.slots("SE-SE3", 0.0, 1) == ()


def test_a_part_has_the_annual_mean_of_the_whole_unless_it_has_its_own() -> None:
    known = dict(embedded())
    found = means_of_parts(known, shipped_places())
    assert found["AU-NSW"].g_per_kwh == known["AU"].g_per_kwh
    assert found["AU-NSW"].source.endswith(" of AU")
    assert (
        means_of_parts({**known, "AU-NSW": known["DE"]}, shipped_places())["AU-NSW"]
        == (known["DE"])
    )


def test_a_zone_that_is_part_of_nothing_known_stays_unknown() -> None:
    assert "NO-NO1" not in means_of_parts(embedded(), shipped_places())
    assert means_of_parts({}, shipped_places()) == {}
