import math

from router.core.answered import ANSWER_FIGURES, KeptAnswer, answer_of, differences
from router.core.seen import Answered
from tests.core.worlds import World


def test_an_answer_is_every_figure_of_its_decision():
    decision = World().decide(network_j=3600.0)
    answer = answer_of(Answered(decision, ""))
    assert (answer.endpoint, answer.latency_first_endpoint, answer.refusal) == ("w", "e", "")
    for name in ("ttft_ms", "energy_j", "gco2e", "run_g_per_kwh"):
        assert answer.figure(name) == getattr(decision, name)
    assert answer.figure("burden_pace_ms") == decision.burden.pace_ms
    assert len(answer.figures) == len(ANSWER_FIGURES)


def test_a_refusal_has_a_reason_and_no_figures():
    answer = answer_of(Answered(None, "shed"))
    assert answer == KeptAnswer("shed")
    assert math.isnan(answer.figure("ttft_ms"))


def test_the_last_bit_is_a_difference_and_one_nan_is_as_another():
    answer = answer_of(Answered(World().decide(), ""))
    assert differences(answer, answer) == ()
    for name in ("ttft_ms", "burden_pace_cap_ms"):
        place = ANSWER_FIGURES.index(name)
        figures = list(answer.figures)
        figures[place] = math.nextafter(figures[place], 0.0)
        assert differences(answer, answer._replace(figures=tuple(figures))) == (name,)
        figures[place] = math.nan
        unknown = answer._replace(figures=tuple(figures))
        assert differences(answer, unknown) == (name,)
        assert differences(unknown, unknown._replace(figures=tuple(figures))) == ()
    assert differences(answer, answer._replace(flags=("x",))) == ("flags",)
    assert "refusal" in differences(answer, KeptAnswer("shed"))
