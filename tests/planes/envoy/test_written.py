"""What the module writes of numbers, beside Python's own."""

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.planes.envoy import host as hosts

pytestmark = hosts.missing


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, 3, 9]))
def test_numbers_are_right_to_the_last_place(host, value, places):
    said = host.decimal(value, places)
    exact = f"{value:.{places}f}"
    if said != exact:
        # Of what lies in the middle, to the last bit, either neighbour is right.
        with localcontext(prec=1200):
            step = Decimal(1).scaleb(-places)
            off = abs(abs(Decimal(value)) % step - step / 2)
            assert off < step / 1000
            assert abs(Decimal(said) - Decimal(exact)) <= step


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 0.999, 0.9999, 1e-9, 123.4567891234, 1e22, -2.5])
def test_what_is_written_often_is_as_printf_has_it(host, value):
    assert host.decimal(value, 3) == f"{value:.3f}"
    assert host.decimal(value, 9) == f"{value:.9f}"


@pytest.mark.parametrize(
    ("value", "places"), [(4503599627370497.0, 0), (4469847310623.614, 3), (8389612.845, 9)]
)
def test_large_numbers_are_right_to_the_last_place(host, value, places):
    assert host.decimal(value, places) == f"{value:.{places}f}"


def test_what_is_no_number_is_said_so(host):
    assert host.decimal(math.nan, 3) in {"nan", "-nan"}
    assert host.decimal(math.inf, 3) == "inf"
