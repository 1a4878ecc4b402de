"""A request in the kernel's terms: its origin, its budgets, its scalars."""

import inspect

import pytest

from router.core.evaluation import evaluate
from router.core.lengths import Expected
from router.core.question import ORIGIN_UNKNOWN, question_of
from router.errors import InvalidMetadataError, UnknownModelError
from router.model import Budget
from tests.core.worlds import EXPECTED, World
from tests.factories import HOUR, NOW, endpoint, fleet, request


def asked_of(a_request, expected=EXPECTED, network_j=0.0, world=None):
    world = world or World()
    return question_of(a_request, world.snapshot, world.board, expected, NOW, network_j)


def test_an_unknown_origin_takes_the_default_and_says_so():
    decision = World().decide(request(origin="atlantis"))
    assert (decision.rtt_ms, decision.flags) == (80.0, (ORIGIN_UNKNOWN,))
    silent = World().decide(request(origin=""))
    assert (silent.rtt_ms, silent.flags) == (80.0, ())


@pytest.mark.parametrize("origin", ["", "atlantis"])
def test_without_a_default_an_unknown_origin_is_an_error(origin):
    the_fleet = fleet(endpoint("w"), rtt_ms={"home": {"west": 1.0}}, default_origin="")
    with pytest.raises(InvalidMetadataError, match=r"known origins: home"):
        World(the_fleet).decide(request(origin=origin))


def test_a_model_that_nobody_serves_is_an_error():
    with pytest.raises(UnknownModelError):
        asked_of(request(model="gpt-9"))


def test_the_scalars_come_in_the_order_in_which_the_kernels_take_them():
    wanted = request(budget=Budget(1.0, 2.0, 3.0))
    asked = asked_of(wanted, Expected(10.0, 20.0, 30.0), network_j=7.0)
    names = list(inspect.signature(evaluate.py_func).parameters)
    first = names.index("rtt_row")
    last = names.index("out")
    given = dict(zip(names[first:last], (*asked.scalars, asked.cached), strict=True))
    assert (given["n_in"], given["n_out"], given["n_out_q"], given["network_j"]) == (10, 20, 30, 7)
    assert (given["ttft_budget"], given["tpot_budget"], given["e2e_budget"]) == (1.0, 2.0, 3.0)
    assert (given["rtt_row"], given["residency"]) == (asked.rtt_row, asked.residency)
    # NOW is ten minutes into an hour.
    assert (given["slot_left_s"], given["now_s"]) == (HOUR - 600.0, NOW)
