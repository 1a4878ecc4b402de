from __future__ import annotations

import math

import pytest

from router.lab.study.report.units import (
    figure,
    grams,
    joules,
    milliseconds,
    percent,
    signed_percent,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 g"), (0.00123, "1.23 mg"), (5.0, "5 g"), (12.34, "12.3 g"), (477_036.0, "477 kg"),
        (2.5e6, "2.5 t"), (7e9, "7,000 t"), (-1500.0, "-1.5 kg"), (math.nan, "-"),
    ],
)  # fmt: skip
def test_grams(value: float, text: str) -> None:
    assert grams(value) == text


def test_the_rest() -> None:
    assert joules(3.149e9) == "3.15 GJ"
    assert figure(1234.5) == "1,234"
    assert (percent(0.4523), percent(math.nan)) == ("45.2 %", "-")
    assert (signed_percent(0.07), signed_percent(-0.001)) == ("+7.0 %", "-0.1 %")
    assert (milliseconds(276.4), milliseconds(21_700.0)) == ("276 ms", "21.7 s")
    assert milliseconds(math.nan) == "-"
