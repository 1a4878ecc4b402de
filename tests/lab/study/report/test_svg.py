from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.lab.study.report.svg import Frame, drawing, linear, log_ticks, logarithmic, nines, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_lie_inside_are_equally_spaced_and_about_as_many(
    low: float, span: float, about: int
) -> None:
    found = ticks(low, low + span, about)
    slack = 1e-6 * max(abs(low), span)
    assert all(low - slack <= value <= low + span + slack for value in found)
    assert len(found) <= about + 1
    steps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3, abs_tol=slack) for step in steps)


def test_ticks_are_round() -> None:
    assert ticks(0.0, 10.0, 5) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert ticks(0.0, 0.0, 5) == [0.0]


def test_log_ticks() -> None:
    assert log_ticks(30.0, 600.0) == pytest.approx([50.0, 100.0, 200.0, 500.0])


def test_scales() -> None:
    assert linear(10.0, 20.0)(15.0) == pytest.approx(0.5)
    assert logarithmic(1.0, 100.0)(10.0) == pytest.approx(0.5)
    assert nines(4)(0.0) == 0.0
    assert nines(4)(0.99) == pytest.approx(0.5)
    assert nines(4)(1.0) == 1.0


def test_a_drawing_is_well_formed_and_escapes_names() -> None:
    frame = Frame(0.0, 0.0, 100.0, 50.0, linear(0.0, 2.0), linear(0.0, 1.0))
    frame.x_axis([(0.0, "<0>"), (2.0, "2")], 'a "title" & more')
    frame.steps([0.0, 1.0, 2.0], [0.5, math.nan], "line", "<zone>")
    frame.band([0.0, 1.0, 2.0], [0.0, 0.0], [0.5, 1.0], "area", "a&b")
    frame.curve([0.0, 1.0], [0.0, math.inf], "line")
    frame.mark(1.0, 2.0, 9, "dot", "<b>")
    text = drawing(50.0, [frame], 'shows "it" & <that>')
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == 'shows "it" & <that>'
    assert "nan" not in text
    assert "inf" not in text
    (steps,) = (e for e in root.iter("path") if e.attrib["class"] == "line")
    assert steps.attrib["d"] == "M0 25H50"
