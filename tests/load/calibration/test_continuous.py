"""The command's own fit, in a process of its own; what is no figure of a machine steers nothing."""

import math
import re

import pytest

from router.load.calibration.continuous import (
    FitAnswer,
    FitQuestion,
    fit_apart,
    fitted,
    says_the_same,
    why_not,
)
from router.load.calibration.profile_text import undecided
from router.load.energy_meter import MeterReading
from tests.factories import token_profile
from tests.load.calibration.servers import LAW, readings

TRUE = token_profile(
    idle_w=LAW.idle_w, base_w=LAW.base_w, w_per_token_s=LAW.token_j, prefill_w=LAW.prefill_w
)


async def test_a_child_answers_as_the_fit_here_does():
    question = FitQuestion(readings(noise=0.01), 4.0)
    answer = await fit_apart(question)
    assert answer == fitted(question)
    assert why_not(answer) == ""
    assert answer.fit.of("idle_w").value == pytest.approx(LAW.idle_w, rel=0.02)
    assert not undecided(TRUE, answer.fit)
    assert says_the_same(answer.fit, TRUE)
    assert not says_the_same(answer.fit, token_profile(idle_w=2 * LAW.idle_w))


def with_meter(change, **options):
    return [
        one._replace(meter=MeterReading({"gpu": change(at, one.meter.joules["gpu"])}))
        for at, one in enumerate(readings(**options))
    ]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (with_meter(lambda at, joules: math.nan), "began anew"),
        (with_meter(lambda at, joules: -joules), "began anew|stood still"),
        (with_meter(lambda at, joules: joules / 3.6e6), "stand still"),
        (with_meter(lambda at, joules: joules * 3.6e6), "unit smaller"),
        (with_meter(lambda at, joules: joules * 1e3), "unit smaller"),
        (with_meter(lambda at, joules: joules % 700.0), "explains|spans|at work for 0"),
        (with_meter(lambda at, joules: 1e6 + at * 1000.0), "no more at work"),
        ([one._replace(at=0.0) for one in readings()], "clock"),
        (list(reversed(readings())), "clock"),
        ([one._replace(at=one.at * 1e300) for one in readings()], ""),
        (readings(count=3), "too short"),
        ([], "too few"),
    ],
    ids=["nan", "negative", "kWh as J", "J as kWh", "mJ as J", "resets", "unmoved by work",
         "clock still", "clock back", "time beyond all", "few", "none"],
)  # fmt: skip
def test_garbage_steers_nothing_and_says_why(found, why):
    answer = fitted(FitQuestion(found, 4.0))
    refused = why_not(answer) or undecided(TRUE, answer.fit)
    assert refused
    if why:
        assert re.search(why, refused), refused


def test_an_estimate_of_watts_and_a_meter_of_something_else_steer_nothing():
    fit = fitted(FitQuestion(readings(), 4.0)).fit
    assert "watts alone" in why_not(FitAnswer(fit, True, ""))
    assert "explains 60 %" in why_not(FitAnswer(fit._replace(r2=0.6), False, ""))
    assert why_not(FitAnswer(fit._replace(r2=math.nan), False, ""))
