"""What a request may emit, and what one did that was cut short, beside what a receipt would say."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.emitted import UNKNOWN_G_PER_KWH, account_cut_short, charged_g, most_g
from router.core.energy import Crowd, estimate_run, task_j
from router.core.lengths import Expected
from router.model import TokensKind
from router.units import J_PER_KWH
from tests.core.worlds import EXPECTED, World
from tests.factories import endpoint, fleet, served, task_profile

ALONE = Crowd(0.0)
IN_COMPANY = st.floats(0.0, 300.0).map(Crowd)


def decided(profile=None):
    world = World(
        fleet(endpoint("a", "west", *([served(profile)] if profile else []))), carbon=None
    )
    decision = world.decide()
    return decision, world.snapshot.layout.fleet.regions["west"]


def cut_short_g(decision, expected, crowd, service_s, pieces, network_j, region):
    account = account_cut_short(decision, expected, crowd, service_s, pieces)
    return charged_g(account.energy_j * region.pue + network_j, decision.run_g_per_kwh)


def receipt_g(decision, region, tokens, crowd, service_s, network_j=0.0):
    """As a receipt has it that knows the tokens."""
    run = estimate_run(
        decision.served.profile, EXPECTED.input_tokens, tokens, crowd, service_s,
    )  # fmt: skip
    return (run.attributional_j * region.pue + network_j) / J_PER_KWH * decision.run_g_per_kwh


def steady_s(profile, tokens, crowd):
    running = min(max(crowd.batch, 1.0), profile.max_batch)
    waits = max(crowd.batch, 1.0) / running
    own_s = (profile.lone_ttft_ms(EXPECTED.input_tokens) + tokens * profile.tpot_ms(running)) / 1e3
    return own_s * waits


@settings(max_examples=100, deadline=None)
@given(IN_COMPANY, st.floats(1.0, EXPECTED.output_tokens_quantile))
def test_a_steady_run_of_any_usual_length_emits_no_more(crowd, tokens):
    decision, region = decided()
    most = most_g(decision, EXPECTED, crowd, 5.0, region)
    there = Crowd(crowd.batch + 1.0)
    took_s = steady_s(decision.served.profile, tokens, there)
    assert receipt_g(decision, region, tokens, there, took_s, 5.0) <= most


def test_a_task_takes_what_its_profile_says():
    decision, region = decided(task_profile())
    one_j = task_j(decision.served.profile)
    told = charged_g(one_j * region.pue + 7.0, decision.run_g_per_kwh)
    assert most_g(decision, EXPECTED, ALONE, 7.0, region) == pytest.approx(told)
    service_ms = decision.served.profile.service_ms
    for share in (0.0, 0.25, 1.0, 3.0):
        cut = cut_short_g(decision, EXPECTED, ALONE, share * service_ms / 1e3, 0, 0.0, region)
        whole = charged_g(one_j * region.pue, decision.run_g_per_kwh)
        assert cut == pytest.approx(min(share, 1.0) * whole)


def test_a_grid_that_nobody_knows_is_taken_for_a_dirty_one():
    assert charged_g(J_PER_KWH, math.nan) == UNKNOWN_G_PER_KWH
    assert charged_g(J_PER_KWH, 0.0) == 0.0
    decision, region = decided()
    unknown = decision._replace(run_g_per_kwh=math.nan)
    most = most_g(unknown, EXPECTED, ALONE, 0.0, region)
    known = most_g(decision, EXPECTED, ALONE, 0.0, region)
    assert most == pytest.approx(known * UNKNOWN_G_PER_KWH / decision.run_g_per_kwh)


@settings(max_examples=100, deadline=None)
@given(IN_COMPANY, st.floats(1.0, 400.0))
def test_what_is_cut_short_at_its_very_end_emitted_what_it_would_have(crowd, tokens):
    """To within the iteration that nobody can see the middle of."""
    decision, region = decided()
    there = Crowd(crowd.batch + 1.0)
    took_s = steady_s(decision.served.profile, tokens, there)
    whole = receipt_g(decision, region, tokens, there, took_s)
    seen = cut_short_g(decision, EXPECTED, there, took_s, round(tokens), 0.0, region)
    unseen = cut_short_g(decision, EXPECTED, there, took_s, 0, 0.0, region)
    assert seen == pytest.approx(whole, rel=0.02)
    assert unseen == pytest.approx(whole, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 60.0), min_size=2, max_size=5))
def test_longer_is_never_less(seconds):
    decision, region = decided()
    seconds = sorted(seconds)
    found = [cut_short_g(decision, EXPECTED, Crowd(3.0), s, 0, 0.0, region) for s in seconds]
    assert found == sorted(found)
    assert all(g >= 0.0 for g in found)


def test_a_server_that_hangs_for_ever_is_not_charged_beyond_the_requests_limit_or_the_context():
    expected = Expected(100.0, 5.0, 9.0)
    for limit, context, most in ((400.0, 8000.0, 400.0), (math.inf, 8000.0, 8000.0)):
        world = World(fleet(endpoint("a", "west", served(context_tokens=context))), carbon=None)
        day, week = (
            account_cut_short(world.decide(), expected, Crowd(1.0), s, 0, limit)
            for s in (86400.0, 604800.0)
        )
        assert day.tokens.tokens == day.tokens.high == most
        assert day.energy_j == week.energy_j


@pytest.mark.parametrize("seconds", [0.3, 0.54, 2.0])
def test_the_range_of_what_nobody_saw_holds_what_may_have_come_whatever_is_usual(seconds):
    """Answers so far were short; this one is twice as fast as by the profile, or not at all."""
    decision, _ = decided()
    found = account_cut_short(decision, Expected(100.0, 5.0, 9.0), Crowd(1.0), seconds, 0, 5000.0)
    profile = decision.served.profile
    by_time = (seconds * 1e3 - profile.lone_ttft_ms(100.0)) / profile.tpot_ms(1.0)
    assert found.tokens.tokens == pytest.approx(max(by_time, 0.0))
    assert found.tokens.low == 0.0
    assert found.tokens.high >= 2.0 * by_time
    for tokens in (0.0, by_time, 1.5 * by_time):
        truth = estimate_run(profile, 100.0, tokens, Crowd(1.0), seconds)
        assert found.energy_low_j <= truth.attributional_j <= found.energy_high_j


def test_a_slow_endpoint_made_fewer_tokens_in_the_time():
    decision, _ = decided()
    usual, slow = (
        account_cut_short(decision, EXPECTED, Crowd(2.0), 5.0, 0, pace=pace) for pace in (1.0, 2.0)
    )
    assert slow.tokens.tokens == pytest.approx(usual.tokens.tokens / 2.0)
    assert slow.energy_j < usual.energy_j


def test_of_a_stream_what_came_is_counted():
    decision, _ = decided()
    found = account_cut_short(decision, EXPECTED, Crowd(2.0), 5.0, 7, 5000.0)
    assert found.tokens == (7.0, 7.0, 7.0, TokensKind.COUNTED)
    assert found.energy_low_j <= found.energy_j <= found.energy_high_j
