import math

import pytest

from router.errors import ConfigError
from router.lab.sim.engine.run import simulate
from router.lab.sim.tune.figures import (
    FIGURES,
    figures,
    parse_constraint,
    parse_constraints,
    parse_figure,
)
from tests import factories as f
from tests.lab.sim import worlds as w


def test_every_figure_of_a_run_is_known():
    fleet = w.fleet(("a", w.SMALL, "m"), ("b", w.SMALL, "m"))
    rows = [(1.0 + i, 0, 0, 0, 0, 100, 50, f.policy().budget) for i in range(20)]
    simulation = w.simulation(fleet, rows, {"grid-a": 400.0, "grid-b": 50.0})
    result = simulate(simulation, f.policy(name="p"))
    found = figures(result)
    assert set(found) == set(FIGURES)
    assert found["gco2e"] == result.gco2e > 0.0
    assert found["gco2e_consequential"] == result.fleet.total_g > found["gco2e"]
    assert found["completed"] == found["slo"] == 1.0
    assert found["ttft_p50_ms"] < found["e2e_p50_ms"] <= found["e2e_p99_ms"]
    assert found["moved_share"] == 0.0


@pytest.mark.parametrize(
    ("text", "figure", "least", "limit"),
    [
        ("slo>=0.99", "slo", True, 0.99),
        (" e2e_p95_ms <= 2e3 ", "e2e_p95_ms", False, 2000.0),
        ("completed>=1", "completed", True, 1.0),
        ("peak_over_cap<=-0.1", "peak_over_cap", False, -0.1),
    ],
)
def test_a_constraint(text, figure, least, limit):
    constraint = parse_constraint(text)
    assert (constraint.figure, constraint.least, constraint.limit) == (figure, least, limit)
    assert parse_constraint(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slo", "write FIGURE>=NUMBER or FIGURE<=NUMBER"),
        ("", "write FIGURE>=NUMBER"),
        ("slo>=", "write FIGURE>=NUMBER"),
        ("slo>0.99", "> is not known; write >= or <="),
        ("slo==0.99", "== is not known"),
        ("slo=>0.99", "=> is not known"),
        ("slp>=0.99", "unknown figure 'slp'; did you mean 'slo'?; all: gco2e"),
        ("slo>=99", "slo is a share, from 0 to 1, not 99"),
        ("slo>=99%", "'99%' is not a finite number"),
        ("e2e_p95_ms<=2s", "'2s' is not a finite number"),
        ("e2e_p95_ms<=inf", "'inf' is not a finite number"),
        ("e2e_p95_ms<=nan", "'nan' is not a finite number"),
    ],
)
def test_what_is_wrong_with_a_constraint_is_said(text, says):
    with pytest.raises(ConfigError) as caught:
        parse_constraint(text)
    assert str(caught.value).startswith("--subject-to: ")
    assert says in str(caught.value)


def test_the_same_side_twice_is_refused():
    with pytest.raises(ConfigError, match="slo is limited twice"):
        parse_constraints(["slo>=0.9", "slo>=0.99"])
    assert len(parse_constraints(["e2e_p95_ms>=1", "e2e_p95_ms<=9"])) == 2


def test_an_unknown_figure_is_refused_by_its_option():
    with pytest.raises(ConfigError, match=r"--minimise: unknown figure 'co2'"):
        parse_figure("co2", "--minimise")


def test_how_far_a_constraint_is_broken():
    at_least, at_most = parse_constraint("slo>=0.99"), parse_constraint("e2e_p95_ms<=2000")
    assert at_least.excess({"slo": 0.97}) == pytest.approx(0.02)
    assert at_least.excess({"slo": 1.0}) < 0.0
    assert at_most.excess({"e2e_p95_ms": 3000.0}) == pytest.approx(0.5)
    assert at_most.excess({"e2e_p95_ms": 2000.0}) == 0.0
    assert at_most.excess({"e2e_p95_ms": math.nan}) == math.inf
