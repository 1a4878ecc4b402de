"""Whose figures end up on a receipt, and what is said of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import UNTIMED, AnswerSize, BackendReport, StatedTimes
from router.core.accounting import Run, account, build_receipt, predict, told_times, with_marginal
from router.core.energy import Crowd, estimate_run, greatest_w, predict_run
from router.core.lengths import Expected
from router.core.reports import MOST_POWERS, Doubt
from router.model import UNPREDICTED, CachedKind, Provenance, TokensKind
from tests.core.worlds import World
from tests.factories import (
    endpoint,
    fleet,
    forecasts,
    intensity,
    region,
    request,
    served,
    task_profile,
    token_profile,
)

NOTHING = BackendReport(math.nan, math.nan, math.nan)
RUN = Run(messages=0, crowd=Crowd(4.0), ttft_ms=math.nan, e2e_ms=1500.0)


# Of a prompt that takes 5 ms, 10 before and an iteration of 6 beside.
EXPECTED = Expected(100.0, 200.0, 500.0)


def decision(profile=None, emulated=False):
    one = endpoint("w", "west", served(profile), emulated=emulated)
    return World(fleet(one)).decide(expected=Expected(1.0, 1.0, 1.0))


def accounted(report=NOTHING, run=RUN, a_decision=None, expected=EXPECTED, **asked):
    return account(request(**asked), a_decision or decision(), run, report, expected)


@pytest.mark.parametrize(
    ("reported", "stated", "messages", "tokens", "kind"),
    [
        (37.0, 38.0, 12, 37.0, TokensKind.REPORTED),
        (math.nan, 38.0, 12, 38.0, TokensKind.REPORTED),
        (math.nan, math.nan, 12, 12.0, TokensKind.COUNTED),
        (0.0, math.nan, 12, 12.0, TokensKind.COUNTED),
        (1e308, 38.0, 0, 38.0, TokensKind.REPORTED),
        (1e308, 1e308, 12, 12.0, TokensKind.COUNTED),
        # One message may hold any number of tokens: (1,500 - 21) ms of 6.4 ms each.
        (math.nan, math.nan, 1, 231.1, TokensKind.ASSUMED),
        (math.nan, math.nan, 0, 231.1, TokensKind.ASSUMED),
    ],
)
def test_tokens_are_those_of_the_best_witness(reported, stated, messages, tokens, kind):
    run = RUN._replace(messages=messages, answer=AnswerSize(math.nan, stated))
    found = accounted(NOTHING._replace(output_tokens=reported), run).tokens
    assert (found.tokens, found.kind) == (pytest.approx(tokens, rel=1e-3), kind)
    assert (found.low == found.high) == (kind is not TokensKind.ASSUMED)


def test_bytes_and_the_learned_pace_of_the_endpoint_make_an_estimate():
    run = RUN._replace(pace=2.0, answer=AnswerSize(462.0, math.nan))
    found = accounted(run=run).tokens
    assert (found.tokens, found.kind) == (pytest.approx(115.5, rel=0.01), TokensKind.ESTIMATED)


def test_prompts_of_others_and_all_cached_tokens_leave_time_for_fewer_tokens():
    one = decision(token_profile(tpot_ms_per_cached_token=1e-3))
    # Iterations of 6.4 ms, 2 of 2,000 cached tokens and 1.6 of prompts: 10 ms.
    run = RUN._replace(crowd=Crowd(4.0, 1.6, 2000.0))
    found = accounted(run=run, a_decision=one).tokens
    assert (found.tokens, found.kind) == (pytest.approx(147.9, rel=1e-3), TokensKind.ASSUMED)


def test_no_witness_has_more_tokens_than_were_asked_for():
    assert accounted(max_output_tokens=16.0).tokens.high == 16.0
    assert accounted(run=RUN._replace(messages=99), max_output_tokens=16.0).tokens.tokens == 16.0
    told = NOTHING._replace(output_tokens=17.0)
    assert accounted(told, max_output_tokens=16.0).doubts == (Doubt.TOKENS_HIGH,)


def test_a_task_has_one_token_whatever_is_said():
    image = decision(task_profile())
    told = NOTHING._replace(output_tokens=50.0)
    assert accounted(told, RUN._replace(messages=9), image).tokens.tokens == 1.0


def test_what_the_backend_measured_wins_over_the_estimate():
    found = accounted(BackendReport(120.0, 30.0, 200.0))
    assert (found.energy_j, found.marginal_energy_j) == (120.0, 30.0)
    assert (found.kind, found.doubts) == (Provenance.MEASURED, ())
    assert math.isnan(found.energy_low_j)


def test_without_a_report_the_profile_estimates_for_the_time_that_it_took():
    one = decision()
    found = accounted(NOTHING._replace(output_tokens=200.0), a_decision=one)
    estimate = estimate_run(one.served.profile, 100.0, 200.0, Crowd(4.0), 1.5)
    assert (found.energy_j, found.marginal_energy_j, found.prompt_energy_j) == estimate
    # 5 ms at 665 W, and 0.3 of that beside.
    assert found.prompt_energy_j == pytest.approx(0.005 * 665.0 * 1.3)
    assert found.kind is Provenance.PROFILE
    assert found.energy_low_j < found.energy_j < found.energy_high_j


def test_a_range_of_tokens_widens_that_of_the_joules():
    known = accounted(NOTHING._replace(output_tokens=231.1))
    assumed = accounted()
    assert assumed.energy_j == pytest.approx(known.energy_j, rel=1e-3)
    assert assumed.energy_low_j < known.energy_low_j
    assert assumed.energy_high_j > known.energy_high_j


def test_a_range_of_the_power_of_prompts_widens_that_of_the_joules():
    """A prompt of 4,000 tokens takes 200 ms, at 600 to 800 W instead of 665."""
    long = Expected(4000.0, 200.0, 500.0)
    told = NOTHING._replace(output_tokens=200.0)
    known = decision(token_profile(prefill_w_low=665.0, prefill_w_high=665.0))
    ranged = decision(token_profile(prefill_w_low=600.0, prefill_w_high=800.0))
    narrow, wide = (accounted(told, a_decision=one, expected=long) for one in (known, ranged))
    assert wide.energy_j == narrow.energy_j
    assert wide.prompt_energy_j == pytest.approx(0.2 * 665.0 * 1.3)
    # Where the truth lies from an estimate at the right figures: 0.75 to 1.5 times.
    assert narrow.energy_low_j - wide.energy_low_j == pytest.approx(0.75 * 0.2 * 65.0 * 1.3)
    assert wide.energy_high_j - narrow.energy_high_j == pytest.approx(1.5 * 0.2 * 135.0 * 1.3)
    # A profile built without a range has none to widen by.
    plain = accounted(told, a_decision=decision(token_profile()), expected=long)
    assert (plain.energy_low_j, plain.energy_high_j) == (narrow.energy_low_j, narrow.energy_high_j)


def test_of_what_a_meter_says_the_prompt_has_the_profiles_proportion():
    one = decision()
    usual = predict_run(one.served.profile, 100.0, 200.0, Crowd(4.0))
    found = accounted(BackendReport(120.0, 30.0, 200.0), a_decision=one)
    part = usual.prompt_j / usual.attributional_j
    assert 0.0 < part < 1.0
    assert found.prompt_energy_j == pytest.approx(120.0 * part)
    # The same joules on a slow way are the same work.
    late = accounted(BackendReport(120.0, 30.0, 200.0), RUN._replace(e2e_ms=4000.0), one)
    assert late.prompt_energy_j == found.prompt_energy_j
    # A task reads no prompt.
    assert accounted(a_decision=decision(task_profile())).prompt_energy_j == 0.0


def test_a_tenth_of_a_second_is_not_charged_for_seconds():
    one = decision()
    quick = RUN._replace(e2e_ms=110.0, crowd=Crowd(1.0), answer=AnswerSize(50_000.0, math.nan))
    assert accounted(run=quick, a_decision=one).energy_j <= 110e-3 * greatest_w(one.served.profile)


def test_the_round_trip_is_not_the_servers_time():
    far = accounted(run=RUN._replace(rtt_ms=500.0))
    assert far.energy_j == pytest.approx(accounted(run=RUN._replace(e2e_ms=1000.0)).energy_j)
    # A table that says more than the whole run is wrong.
    assert accounted(run=RUN._replace(rtt_ms=1501.0)) == accounted()
    assert accounted(run=RUN._replace(rtt_ms=1499.0)).energy_j > 0.2 * accounted().energy_j


def test_of_two_loads_the_lighter_one_costs_a_request_more():
    """Alone at first, then with three others: 1 and 1/4 of the power, as at a steady 1.6."""
    one, told = decision(), NOTHING._replace(output_tokens=200.0)
    run = RUN._replace(crowd=Crowd(2.5, 0.5, 100.0), share=0.625)
    assert (run.batch, run.sharing_crowd) == (2.5, Crowd(1.6, 0.5, 100.0))
    found = accounted(told, run, one)
    steady = estimate_run(one.served.profile, 100.0, 200.0, run.sharing_crowd, 1.5)
    assert (found.energy_j, found.marginal_energy_j, found.prompt_energy_j) == steady
    for unknown in (math.nan, 0.0, 1.5):
        assert run._replace(share=unknown).sharing_crowd == run.crowd


def test_each_joule_that_is_missing_is_estimated_on_its_own():
    one = decision()
    estimate = estimate_run(one.served.profile, 100.0, 200.0, Crowd(4.0), 1.5)
    half = accounted(BackendReport(120.0, math.nan, 200.0), a_decision=one)
    assert (half.energy_j, half.marginal_energy_j) == (120.0, estimate.marginal_j)


@pytest.mark.parametrize("report", [NOTHING, BackendReport(120.0, 30.0, 200.0)])
def test_an_emulated_endpoints_figures_are_called_emulated(report):
    assert accounted(report, a_decision=decision(emulated=True)).kind is Provenance.EMULATED


figures = st.floats(allow_nan=True, allow_infinity=True)
reports = st.builds(BackendReport, figures, figures, figures, st.booleans())
runs = st.builds(
    Run,
    st.integers(0, 10**9),
    st.builds(Crowd, st.floats(0.0, 1e4), st.floats(0.0, 1e5), st.floats(0.0, 1e8)),
    st.just(math.nan),
    st.floats(0.0, 1e9),
    st.floats(0.0, 1e4),
    st.floats(0.02, 50.0),
    st.builds(AnswerSize, figures, figures),
)


@given(reports, runs, st.floats(1.0, 1e6), st.booleans())
def test_any_account_is_finite_within_the_band_and_of_an_honest_kind(report, run, asked, task):
    profile = task_profile() if task else None
    found = accounted(report, run, decision(profile), max_output_tokens=asked)
    assert 0.0 <= found.marginal_energy_j < math.inf
    assert 0.0 < found.energy_j < math.inf
    assert 0.0 <= found.prompt_energy_j <= found.energy_j * (1 + 1e-9)
    assert 1.0 <= found.tokens.low <= found.tokens.tokens * (1 + 1e-9)
    assert found.tokens.tokens <= found.tokens.high * (1 + 1e-9) <= asked * (1 + 1e-9)
    assert (found.kind is Provenance.MEASURED) == (found.energy_j == report.energy_j)
    if found.kind is not Provenance.MEASURED and not task:
        assert found.energy_low_j < found.energy_j < found.energy_high_j
    if not task:
        most_w = greatest_w(decision().served.profile)
        assert found.energy_j <= MOST_POWERS * most_w * (run.e2e_ms / 1e3 + 0.1)


# Predictions


def test_a_prediction_is_priced_as_the_receipt_is_and_alike_for_both_endpoints():
    one = endpoint("e", "east"), endpoint("w", "west")
    regions = {"east": region("east", pue=1.5), "west": region("west", pue=1.1)}
    world = World(fleet(*one, regions=regions.values()), carbon=forecasts(east=500, west=200))
    chosen = world.decide()
    found = predict(chosen, EXPECTED, Crowd(4.0), 3600.0, regions)
    joules = predict_run(chosen.served.profile, 100.0, 200.0, Crowd(4.0)).attributional_j
    assert found.energy_j == joules
    assert found.gco2e == pytest.approx((joules * 1.1 + 3600.0) / 3.6e6 * 200.0)
    assert found.latency_first_gco2e == pytest.approx((joules * 1.5 + 3600.0) / 3.6e6 * 500.0)
    # The price that it was chosen by is another: at the load that the replica is meant for.
    assert chosen.gco2e < 0.2 * found.gco2e


def test_a_run_that_goes_as_predicted_is_receipted_as_predicted():
    one = decision()
    # Its prompt and 200 iterations; what goes by before them is nobody's work.
    run = RUN._replace(e2e_ms=5.0 + 200.0 * 6.4, answer=AnswerSize(math.nan, 200.0))
    predicted = predict(one, EXPECTED, Crowd(4.0), 0.0, {"west": region("west")})
    assert predicted.energy_j == pytest.approx(accounted(run=run, a_decision=one).energy_j)


def test_the_receipt_counts_facility_energy_and_a_network_without_pue():
    one = decision()
    found = accounted(BackendReport(3600.0, 900.0, 200.0), a_decision=one)
    receipt = build_receipt(
        decision_id="d1", request=request(), decision=one, policy="test",
        region=region("west", pue=1.5), attempts=2, account=found,
        predicted=UNPREDICTED,
        ttft_ms=RUN.ttft_ms, e2e_ms=RUN.e2e_ms, network_j=360.0, g_per_kwh=250.0, finished_at=5.0,
    )  # fmt: skip
    assert (receipt.energy_j, receipt.marginal_energy_j) == (3600.0, 900.0)
    assert receipt.prompt_energy_j == found.prompt_energy_j > 0.0
    assert receipt.facility_energy_j == 3600.0 * 1.5 + 360.0
    # 5,760 J are 1.6 Wh: at 250 g/kWh 0.4 g.
    assert receipt.gco2e == pytest.approx(0.4)
    assert (receipt.region, receipt.grid_zone, receipt.attempts) == ("west", "grid-west", 2)
    unknown = build_receipt(
        decision_id="d1", request=request(), decision=one, policy="test",
        region=region("west"), attempts=1, account=found,
        predicted=UNPREDICTED,
        ttft_ms=RUN.ttft_ms, e2e_ms=RUN.e2e_ms, network_j=0.0, g_per_kwh=math.nan, finished_at=5.0,
    )  # fmt: skip
    beside = intensity(500.0)
    told = with_marginal(receipt, beside)
    assert (told.marginal, told.gco2e) == (beside, receipt.gco2e)
    assert told.marginal_gco2e == pytest.approx(0.8)
    assert with_marginal(receipt, None) is receipt
    assert math.isnan(receipt.marginal_gco2e)
    assert math.isnan(unknown.gco2e)
    assert unknown.facility_energy_j > 0.0


# Prompts of which a part was cached: 100 tokens take 5 ms, of 665 W.

CACHED_J = 1.3 * 665.0 * 0.05e-3


def expecting(cached_tokens):
    return decision()._replace(cached_tokens=cached_tokens)


def test_what_was_cached_costs_no_joules():
    whole, part = accounted(), accounted(a_decision=expecting(60.0))
    assert (part.cached_tokens, part.cached_kind) == (60.0, CachedKind.EXPECTED)
    assert whole.prompt_energy_j == pytest.approx(100.0 * CACHED_J)
    assert part.prompt_energy_j == pytest.approx(40.0 * CACHED_J)


@pytest.mark.parametrize(
    ("told", "stated", "cached", "kind", "doubts"),
    [
        (32.0, math.nan, 32.0, CachedKind.REPORTED, ()),
        (0.0, 48.0, 0.0, CachedKind.REPORTED, ()),
        (math.nan, 48.0, 48.0, CachedKind.REPORTED, ()),
        (math.nan, math.nan, 60.0, CachedKind.EXPECTED, ()),
        (500.0, math.nan, 60.0, CachedKind.EXPECTED, (Doubt.CACHED_HIGH,)),
        (500.0, 48.0, 48.0, CachedKind.REPORTED, (Doubt.CACHED_HIGH,)),
    ],
)
def test_what_was_cached_is_what_the_server_says_where_it_can_be(
    told, stated, cached, kind, doubts
):
    run = RUN._replace(answer=AnswerSize(math.nan, 200.0, stated))
    report = NOTHING._replace(cached_tokens=told)
    found = accounted(report, run, expecting(60.0), input_tokens=100.0)
    assert (found.cached_tokens, found.cached_kind) == (cached, kind)
    assert found.doubts == doubts
    assert found.prompt_energy_j == pytest.approx((100.0 - cached) * CACHED_J)


@pytest.mark.parametrize(
    ("told", "stated", "read", "doubts"),
    [
        (150.0, math.nan, 150.0, ()),
        (math.nan, 150.0, 150.0, ()),
        (math.nan, math.nan, 100.0, ()),
        (1e6, math.nan, 100.0, (Doubt.INPUT_HIGH,)),
    ],
)
def test_a_prompt_is_as_long_as_the_server_says_where_it_can_be(told, stated, read, doubts):
    run = RUN._replace(answer=AnswerSize(math.nan, 200.0, math.nan, stated))
    report = NOTHING._replace(input_tokens=told)
    found = accounted(report, run, expecting(0.0), payload_bytes=800)
    assert found.prompt_energy_j == pytest.approx(read * CACHED_J)
    assert found.doubts == doubts
    assert math.isnan(found.input_tokens) == (read == 100.0)


def test_the_counterfactual_counts_what_is_cached_there():
    one = expecting(60.0)
    regions = {"west": region("west")}
    first = one.latency_first._replace(cached_tokens=0.0)
    told = predict(one._replace(latency_first=first), EXPECTED, Crowd(4.0), 0.0, regions)
    same = first._replace(cached_tokens=60.0)
    alike = predict(one._replace(latency_first=same), EXPECTED, Crowd(4.0), 0.0, regions)
    assert alike.latency_first_gco2e == pytest.approx(alike.gco2e)
    assert told.latency_first_gco2e > told.gco2e


IN_ALL = StatedTimes(100.0, 400.0, 1000.0)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("told", "believed", "doubts"),
    [
        (UNTIMED, UNTIMED, ()),
        (IN_ALL, IN_ALL, ()),
        (StatedTimes(decoding_ms=1500.0), StatedTimes(decoding_ms=1500.0), ()),
        (IN_ALL._replace(queue_ms=102.0), UNTIMED, (Doubt.TIMES_HIGH,)),
        (StatedTimes(reading_ms=1e308), UNTIMED, (Doubt.TIMES_HIGH,)),
    ],
)
def test_where_the_time_went_is_within_what_the_gateway_saw(streamed, told, believed, doubts):
    """1,500 ms by its clock. A stream's report states it, a unary call's answer."""
    run, report = RUN, NOTHING._replace(times=told)
    if not streamed:
        run, report = RUN._replace(answer=AnswerSize(9.0, 2.0, times=told)), NOTHING
    assert repr(told_times(run, report)) == repr((believed, doubts))
    assert accounted(report, run).doubts == doubts
