"""Figures that are not known, for programs and for people."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pytest

from router.unknown_figures import or_dash, or_none, plain_values

NOWHERE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NOWHERE)
def test_what_is_not_known_or_unbounded_is_null_or_a_dash(value):
    assert or_none(value) is None
    assert or_dash(value, "{:.1f} ms") == "-"
    assert plain_values({"a": [value, (np.float64(value),)]}) == {"a": [None, [None]]}


def test_what_is_known_stays_zero_too():
    assert (or_none(0.0), or_none(-1.5)) == (0.0, -1.5)
    assert or_dash(0.0, "{:.1f} ms") == "0.0 ms"
    assert plain_values({"x": (0.0, -1.5, "nan")}) == {"x": [0.0, -1.5, "nan"]}


def test_values_become_plain_ones():
    class Colour(StrEnum):
        GREEN = "green"

    class Pair(NamedTuple):
        left: float
        right: frozenset[str]

    @dataclass(frozen=True)
    class Whole:
        pair: Pair
        colour: Colour
        counts: dict[int, object]

    found = plain_values(Whole(Pair(math.nan, frozenset("ba")), Colour.GREEN, {1: np.int64(2)}))
    assert found == {
        "pair": {"left": None, "right": ["a", "b"]},
        "colour": "green",
        "counts": {"1": 2},
    }
    assert type(found["counts"]["1"]) is int
