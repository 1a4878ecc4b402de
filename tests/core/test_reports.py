"""Which figures of a server are believed."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import BackendReport
from router.core.energy import greatest_w, power_w
from router.core.lengths import Expected
from router.core.reports import (
    FASTEST,
    LEAST_LIMIT,
    MOST_POWERS,
    Doubt,
    believed_cached,
    believed_energy,
    believed_input,
    believed_tokens,
    energy_band,
    most_tokens,
)
from router.core.tokens import TokenBytes
from router.lab.replay.replica import Ended, Replica
from tests.factories import request, served, task_profile, token_profile

NOTHING = BackendReport(math.nan, math.nan, math.nan)
# 477 W, 0.024 J a token, 6 + 0.1 b ms, at most 256; 0.3 of it beside.
PROFILE = token_profile()
EXPECTED = Expected(100.0, 200.0, 500.0)
RUN_MS = 1500.0


def most(a_request=None, expected=EXPECTED, run_ms=1e9, **model):
    return most_tokens(a_request or request(), served(**model), PROFILE, expected, run_ms)


def test_a_request_has_no_more_tokens_than_it_asked_for_or_the_context_holds():
    assert most(request(max_output_tokens=64.0)) == 64.0
    assert most(context_tokens=8192.0) == 8192.0
    assert most(request(max_output_tokens=1e-300)) == 1.0


def test_a_request_without_limits_has_no_more_than_a_hundred_long_answers():
    assert most() == 100.0 * 500.0
    assert most(expected=Expected(1.0, 2.0, 3.0)) == LEAST_LIMIT


def test_nor_more_than_ten_times_the_pace_of_a_lone_sequence_allows_beyond_a_cached_answer():
    assert most(run_ms=6100.0) == LEAST_LIMIT + FASTEST * 1000.0


@pytest.mark.parametrize(
    ("reported", "believed", "doubts"),
    [
        (200.0, 200.0, ()),
        (1.0, 1.0, ()),
        (math.nan, math.nan, ()),
        (0.0, math.nan, ()),  # a counter that nobody filled in
        (1e308, math.nan, (Doubt.TOKENS_HIGH,)),
        (math.inf, math.nan, (Doubt.TOKENS_HIGH,)),
        (201.0, math.nan, (Doubt.TOKENS_HIGH,)),
        (1e-300, math.nan, (Doubt.TOKENS_LOW,)),
        (-1.0, math.nan, (Doubt.TOKENS_LOW,)),
    ],
)
def test_a_reported_count_is_believed_whole_or_not_at_all(reported, believed, doubts):
    assert believed_tokens(reported, 200.0) == (pytest.approx(believed, nan_ok=True), doubts)


def believed(energy_j=math.nan, marginal_j=math.nan, profile=PROFILE, run_ms=RUN_MS, tokens=50.0):
    report = NOTHING._replace(energy_j=energy_j, marginal_energy_j=marginal_j)
    return believed_energy(report, energy_band(profile, run_ms, run_ms, tokens))


@pytest.mark.parametrize(
    ("energy_j", "doubts"),
    [
        (930.0, ()),  # all of the machine for 1.5 s
        (20.0, ()),
        (math.nan, ()),
        (1e308, (Doubt.ENERGY_HIGH,)),
        (math.inf, (Doubt.ENERGY_HIGH,)),
        (20_000.0, (Doubt.ENERGY_HIGH,)),  # millijoules
        (0.02, (Doubt.ENERGY_LOW,)),  # kilojoules
        (1e-300, (Doubt.ENERGY_LOW,)),
        (0.0, (Doubt.ENERGY_LOW,)),
        (-1.0, (Doubt.ENERGY_LOW,)),
    ],
)
def test_joules_are_believed_within_what_the_replica_can_draw(energy_j, doubts):
    found, _, told = believed(energy_j)
    assert told == doubts
    assert found == pytest.approx(math.nan if doubts else energy_j, nan_ok=True)


def test_marginal_joules_may_be_none_but_not_more_than_the_replica_draws():
    assert believed(marginal_j=0.0)[1:] == (0.0, ())
    assert believed(20.0, 1e308)[0] == 20.0
    assert believed(20.0, 1e308)[2] == (Doubt.MARGINAL_HIGH,)
    assert believed(20.0, -1.0)[2] == (Doubt.MALFORMED,)
    assert believed(1e308, 1e308)[2] == (Doubt.ENERGY_HIGH, Doubt.MARGINAL_HIGH)


def test_a_short_run_may_be_charged_a_tick_of_the_energy_counter():
    assert believed(0.1 * power_w(PROFILE, 256), run_ms=2.0, tokens=1.0)[2] == ()


def test_a_long_prompt_at_the_power_limit_is_believed():
    """Twelve seconds of reading at five times 650 W, for one token of answer: a profile may be
    wrong threefold, and the rest is what no profile has."""
    hungry = replace(PROFILE, prefill_w=1300.0)
    joules = 12.0 * 5.0 * 1300.0 * 1.3
    assert believed(joules * 0.99, profile=hungry, run_ms=12_000.0, tokens=1.0)[2] == ()
    assert believed(joules * 1.01, profile=hungry, run_ms=12_000.0, tokens=1.0)[2] == (
        Doubt.ENERGY_HIGH,
    )
    # The watts of the host count as well.
    hosted = replace(hungry, host_awake_w=1690.0)
    assert believed(joules * 1.9, profile=hosted, run_ms=12_000.0, tokens=1.0)[2] == ()


def test_a_long_wait_for_few_tokens_does_not_make_their_joules_too_few():
    assert believed(10.0, run_ms=600_000.0, tokens=50.0)[2] == ()


@pytest.mark.parametrize(
    ("energy_j", "run_ms", "doubts"),
    [
        (2282.0, 800.0, ()),
        (761.0, 800.0, ()),
        (6846.0, 800.0, ()),
        (22_820.0, 8000.0, ()),  # ten times the steps, ten times as long
        (120.0, 80.0, ()),  # a tenth of the steps
        (22.0, 800.0, (Doubt.ENERGY_LOW,)),
        (22_820.0, 800.0, (Doubt.ENERGY_HIGH,)),
        (1e308, 8000.0, (Doubt.ENERGY_HIGH,)),
    ],
)
def test_the_joules_of_a_task_lie_around_its_profile_and_grow_with_its_time(
    energy_j, run_ms, doubts
):
    profile = task_profile(energy_j=2282.0, service_ms=800.0)
    assert believed(energy_j, profile=profile, run_ms=run_ms, tokens=1.0)[2] == doubts


loads = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 400)), min_size=1, max_size=20)
wrong = st.sampled_from([1 / 3, 1.0, 3.0])


@given(loads, wrong, wrong, wrong, st.integers(1, 8))
def test_a_server_whose_profile_is_wrong_threefold_keeps_its_figures(
    arrivals, watts, token_j, pace, max_batch
):
    true = token_profile(
        base_w=477.0 * watts, idle_w=90.0 * watts, w_per_token_s=0.024 * token_j,
        tpot_base_ms=6.0 * pace, tpot_ms_per_sequence=0.1 * pace, max_batch=max_batch,
    )  # fmt: skip
    assumed = token_profile(max_batch=max_batch)
    for ended in served_by(true, arrivals):
        run_ms = (ended.at - ended.admitted_at) * 1e3
        band = energy_band(assumed, run_ms, run_ms, ended.output_tokens)
        report = BackendReport(ended.energy_j, ended.marginal_energy_j, ended.output_tokens)
        assert believed_energy(report, band) == (*report[:2], ())
        most = most_tokens(request(), served(), assumed, EXPECTED, run_ms)
        assert believed_tokens(ended.output_tokens, most) == (ended.output_tokens, ())


def served_by(profile, arrivals):
    """Every request of ``arrivals`` (seconds, output tokens) as the replica ended it."""
    replica, at = Replica(profile, 0.0), 0.0
    events = []
    for key, (wait_s, tokens) in enumerate(arrivals):
        at += wait_s
        events += replica.advance(at)
        replica.admit(at, key, 100.0, float(tokens), 0)
    events += replica.advance(at + 3600.0)
    ended = [event for event in events if isinstance(event, Ended)]
    assert len(ended) == len(arrivals)
    return ended


figures = st.floats(allow_nan=True, allow_infinity=True)


@given(figures, figures, st.floats(0.0, 1e7), st.floats(1.0, 1e6), st.booleans())
def test_whatever_is_believed_is_finite_and_within_the_greatest_power(
    energy_j, marginal_j, run_ms, tokens, task
):
    profile = task_profile() if task else PROFILE
    band = energy_band(profile, run_ms, run_ms, tokens)
    found = believed_energy(NOTHING._replace(energy_j=energy_j, marginal_energy_j=marginal_j), band)
    for value in found[:2]:
        assert math.isnan(value) or 0.0 <= value <= band.most_j < math.inf
    if not task:
        seconds = run_ms / 1e3 + 0.1
        # 665 W of prompts and 0.3 of that beside; 256 sequences draw 477 and 194 and their part.
        assert band.most_j == pytest.approx(MOST_POWERS * greatest_w(profile) * seconds)
        assert greatest_w(profile) == pytest.approx(1.3 * (477.0 + 0.024 * 256.0 / 31.6e-3))


def test_of_a_prompt_no_more_is_cached_than_it_has():
    usual, stated = 100.0, request(input_tokens=80.0)
    assert believed_cached(64.0, usual, stated) == (64.0, ())
    assert believed_cached(0.0, usual, stated) == (0.0, ())
    told, doubts = believed_cached(81.0, usual, stated)
    assert math.isnan(told) and doubts == (Doubt.CACHED_HIGH,)
    # One that was but guessed at may be longer than it is thought to be.
    assert believed_cached(300.0, usual, request()) == (99.0, ())
    # But a token has a byte at least.
    sized = request(payload_bytes=500)
    assert believed_cached(500.0, usual, sized) == (99.0, ())
    for absurd, asked in ((501.0, sized), (1e308, sized), (math.inf, sized), (math.inf, request())):
        told, doubts = believed_cached(absurd, usual, asked)
        assert math.isnan(told) and doubts == (Doubt.CACHED_HIGH,)
    for nothing in (math.nan, -1.0):
        told, doubts = believed_cached(nothing, usual, stated)
        assert math.isnan(told) and doubts == ()


def test_a_prompt_has_no_more_tokens_than_its_bytes_the_pictures_it_names_and_the_context_allow():
    asked, model = request(payload_bytes=1000), served(context_tokens=8192)
    assert believed_input(800.0, asked, model) == (800.0, ())
    # Of a picture by its URL.
    assert believed_input(4000.0, asked, model) == (4000.0, ())
    for absurd in (8193.0, 1e308, math.inf):
        told, doubts = believed_input(absurd, asked, model)
        assert math.isnan(told) and doubts == (Doubt.INPUT_HIGH,)
    wide = served(context_tokens=math.inf)
    assert math.isnan(believed_input(1000.0 + 16_385.0, asked, wide)[0])
    assert believed_input(1e6, request(), wide) == (1e6, ())
    for nothing in (math.nan, -1.0, 0.0):
        told, doubts = believed_input(nothing, asked, model)
        assert math.isnan(told) and doubts == ()


@pytest.mark.parametrize("told", [math.inf, 1e300])
def test_a_prompt_of_which_nothing_is_known_is_no_longer_than_figures_can_be_made_of(told):
    found, doubts = believed_input(told, request(payload_bytes=0), served())
    assert math.isnan(found)
    assert doubts == (Doubt.INPUT_HIGH,)


FOUR_BYTES = TokenBytes(math.log(4.0), 0.1)


@pytest.mark.parametrize(
    ("said", "doubts"),
    [
        (100.0, ()), (290.0, ()), (40.0, ()),
        (400.0, (Doubt.TOKENS_HIGH,)), (20.0, (Doubt.TOKENS_LOW,)),
    ],
)  # fmt: skip
def test_a_count_that_is_nothing_like_its_answer_is_not_believed(said, doubts):
    told, found = believed_tokens(said, 1e6, 400.0, FOUR_BYTES)
    assert found == doubts
    assert told == pytest.approx(math.nan if doubts else said, nan_ok=True)
    assert believed_tokens(said, 1e6, 400.0) == (said, ())


@pytest.mark.parametrize(
    ("said", "doubts"), [(100.0, ()), (9.0, (Doubt.INPUT_LOW,)), (900.0, (Doubt.INPUT_HIGH,))]
)
def test_a_prompt_is_compared_with_its_bytes(said, doubts):
    asked = request(payload_bytes=400)
    told, found = believed_input(said, asked, served(), FOUR_BYTES)
    assert found == doubts
    assert told == pytest.approx(math.nan if doubts else said, nan_ok=True)
    assert believed_input(said, asked, served()) == (said, ())
