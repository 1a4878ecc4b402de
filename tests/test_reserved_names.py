"""Which names are ours, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reserved_names import is_reserved


@pytest.mark.parametrize(
    "name",
    ["x-carbon", "x-carbon-", "x-carbon-gco2e", "X-Carbon-GCO2e", "x_carbon_gco2e", "x.carbon.a",
     "x-carbon_bin", "x-carbon-a-bin", "X_CARBON"],
)  # fmt: skip
def test_ours_are_ours_however_they_are_written(name):
    assert is_reserved(name)


@pytest.mark.parametrize(
    "name", ["", "x-carbonite", "carbon", "x-carbo", "ax-carbon-a", "x--carbon", "accept", "ETag"]
)
def test_others_are_not(name):
    assert not is_reserved(name)


@given(st.text(alphabet="abc-_.XY", max_size=8), st.lists(st.booleans(), min_size=9, max_size=9))
def test_case_changes_nothing(rest, upper):
    head = "".join(one.upper() if up else one for one, up in zip("x-carbon-", upper, strict=True))
    assert is_reserved(head + rest)
