import pytest

from router.core.lengths import Expected
from router.errors import (
    BudgetImpossibleError,
    NothingFeasibleError,
    PolicyExcludesError,
    ResidencyError,
    ShedError,
)
from router.model import (
    Budget,
)
from tests.core.worlds import REGIONS, RTT, World, refusal, two
from tests.factories import (
    BOTH_RUNGS,
    endpoint,
    fleet,
    policy,
    request,
    served,
    token_profile,
)


def test_full_everywhere_is_shed():
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    world.fill("e")
    world.fill("w")
    error = refusal(world)
    assert isinstance(error, ShedError)
    assert error.retry_after_s == 1.0
    assert "'llama'" in str(error)


def test_nobody_healthy():
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    world.eject("e", "w")
    error = refusal(world)
    assert isinstance(error, NothingFeasibleError)
    assert error.retry_after_s == 1.0
    assert "2 out" in str(error)


def test_only_those_out_that_could_have_served_are_counted():
    world = World()
    world.eject("e", "w")
    error = refusal(world, request(residency=frozenset({"ca"})))
    assert isinstance(error, NothingFeasibleError)
    assert "1 out" in str(error)


@pytest.mark.parametrize("allowed", [{"eu"}, {"eu", "de"}])
def test_residency_that_nobody_meets(allowed):
    world = World(the_policy=policy(ladder=BOTH_RUNGS))
    error = refusal(world, request(residency=frozenset(allowed)))
    assert isinstance(error, ResidencyError)
    assert error.retry_after_s is None
    assert ", ".join(sorted(allowed)) in str(error)
    # Not even when those outside are down: that would promise that waiting helps.
    world.eject("e", "w")
    assert isinstance(refusal(world, request(residency=frozenset(allowed))), ResidencyError)


# East: 10 ms of round trip and 10 + 6.1 + 5 ms times 1.179; 6.1 ms times that for each token.
@pytest.mark.parametrize(
    ("budget", "name", "best"),
    [
        (Budget(ttft_ms=20.0), "TTFT budget of 20 ms", r"35 ms"),
        (Budget(tpot_ms=5.0), "TPOT budget of 5 ms", r"7 ms"),
        (Budget(e2e_ms=900.0), "end-to-end budget of 900 ms", r"3630 ms"),
    ],
)
def test_a_budget_that_nobody_meets_names_the_best_prediction(budget, name, best):
    error = refusal(World(the_policy=policy(ladder=BOTH_RUNGS)), request(budget=budget))
    assert isinstance(error, BudgetImpossibleError)
    assert name in str(error)
    assert best in str(error)
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_g_per_kwh": 100.0}, "carbon budget"),
        ({"max_gco2e": 1e-9}, "carbon budget"),
    ],
)
def test_a_carbon_limit_that_nobody_meets(changes, text):
    error = refusal(World(the_policy=policy(**changes)))
    assert isinstance(error, PolicyExcludesError)
    assert text in str(error)


def test_carbon_that_nobody_knows():
    error = refusal(World(carbon={}))
    assert isinstance(error, PolicyExcludesError)
    assert "unknown or stale" in str(error)


def test_a_context_that_nobody_has():
    world = World(two(served(context_tokens=299.0)), policy(ladder=BOTH_RUNGS))
    error = refusal(world)
    assert isinstance(error, PolicyExcludesError)
    assert "context" in str(error)
    assert world.decide(expected=Expected(99.0, 200.0, 500.0)).endpoint.name == "w"


def test_the_obstacle_of_those_that_came_closest_is_named():
    """One is down, one is full: waiting for the full one helps."""
    world = World()
    world.eject("w")
    world.fill("e")
    assert isinstance(refusal(world), ShedError)
    # One is outside, the other too slow: the budget is what could be changed.
    slow = refusal(World(), request(residency=frozenset({"ca"}), budget=Budget(ttft_ms=50.0)))
    assert isinstance(slow, BudgetImpossibleError)


def test_figures_that_are_not_finite_are_refused_with_a_reason():
    endless = served(token_profile(tpot_base_ms=1e308, w_per_token_s=1e308))
    world = World(fleet(endpoint("w", "west", endless), regions=REGIONS, rtt_ms=RTT))
    error = refusal(world)
    assert isinstance(error, NothingFeasibleError)
    assert error.retry_after_s is None
    assert "check its profile" in str(error)
