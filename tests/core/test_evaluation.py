"""Every term of every candidate, against the twin."""

import pytest
from hypothesis import assume, given, settings

from tests.core import naive_terms
from tests.core.kernel_worlds import ASKS, EVALUATED, evaluate, worlds


@settings(max_examples=150, deadline=None)
@given(worlds(), ASKS)
def test_evaluate_gives_the_twins_figures_and_reasons(world, ask):
    found = evaluate(world, ask)
    for row, _, region, c in naive_terms.rows_of(world):
        expected = naive_terms.figures(region, c, ask, world["rule"])
        for name in EVALUATED:
            assert found[row][name] == pytest.approx(expected[name], rel=1e-9, abs=1e-300), name
        assume(not naive_terms.on_the_edge(region, c, ask, world["rule"]))
    assert [one["reason"] for one in found] == naive_terms.reasons(world, ask)
