"""Whose figures end up on a receipt, and what is said of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import AnswerSize, BackendReport
from router.core.accounting import Run, account, build_receipt, predict, with_marginal
from router.core.energy import estimate_run, power_w, predict_run
from router.core.lengths import Expected
from router.core.reports import MOST_POWERS, Doubt
from router.model import UNPREDICTED, Provenance, TokensKind
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
)

NOTHING = BackendReport(math.nan, math.nan, math.nan)
RUN = Run(messages=0, batch=4.0, ttft_ms=math.nan, e2e_ms=1500.0)


EXPECTED = Expected(100.0, 200.0, 500.0)  # of a prompt that takes 15 ms


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
        # One message may hold any number of tokens: (1,500 - 15) ms of 6.4 ms each.
        (math.nan, math.nan, 1, 232.0, TokensKind.ASSUMED),
        (math.nan, math.nan, 0, 232.0, TokensKind.ASSUMED),
    ],
)
def test_tokens_are_those_of_the_best_witness(reported, stated, messages, tokens, kind):
    run = RUN._replace(messages=messages, answer=AnswerSize(math.nan, stated))
    found = accounted(NOTHING._replace(output_tokens=reported), run).tokens
    assert (found.tokens, found.kind) == (pytest.approx(tokens, rel=1e-3), kind)
    assert (found.low == found.high) == (kind is not TokensKind.ASSUMED)


def test_bytes_and_the_learned_pace_of_the_endpoint_make_an_estimate():
    run = RUN._replace(pace=2.0, answer=AnswerSize(464.0, math.nan))
    found = accounted(run=run).tokens
    assert (found.tokens, found.kind) == (pytest.approx(116.0, rel=0.01), TokensKind.ESTIMATED)


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
    estimate = estimate_run(one.served.profile, 200.0, 4.0, 1.5, 0.015)
    assert (found.energy_j, found.marginal_energy_j) == estimate
    assert found.kind is Provenance.ESTIMATED
    assert found.energy_low_j < found.energy_j < found.energy_high_j


def test_a_range_of_tokens_widens_that_of_the_joules():
    known = accounted(NOTHING._replace(output_tokens=232.0))
    assumed = accounted()
    assert assumed.energy_j == pytest.approx(known.energy_j, rel=1e-3)
    assert assumed.energy_low_j < known.energy_low_j
    assert assumed.energy_high_j > known.energy_high_j


def test_a_tenth_of_a_second_is_not_charged_for_seconds():
    one = decision()
    quick = RUN._replace(e2e_ms=110.0, batch=1.0, answer=AnswerSize(50_000.0, math.nan))
    assert accounted(run=quick, a_decision=one).energy_j < 110e-3 * 700.0


def test_the_round_trip_is_not_the_servers_time():
    far = accounted(run=RUN._replace(rtt_ms=500.0))
    assert far.energy_j == pytest.approx(accounted(run=RUN._replace(e2e_ms=1000.0)).energy_j)
    # A table that says more than the whole run is wrong.
    assert accounted(run=RUN._replace(rtt_ms=1501.0)) == accounted()
    assert accounted(run=RUN._replace(rtt_ms=1499.0)).energy_j > 0.2 * accounted().energy_j


def test_each_joule_that_is_missing_is_estimated_on_its_own():
    one = decision()
    estimate = estimate_run(one.served.profile, 200.0, 4.0, 1.5, 0.015)
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
    st.floats(0.0, 1e4),
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
    assert 1.0 <= found.tokens.low <= found.tokens.tokens * (1 + 1e-9)
    assert found.tokens.tokens <= found.tokens.high * (1 + 1e-9) <= asked * (1 + 1e-9)
    assert (found.kind is Provenance.MEASURED) == (found.energy_j == report.energy_j)
    if found.kind is Provenance.ESTIMATED and not task:
        assert found.energy_low_j < found.energy_j < found.energy_high_j
    if not task:
        greatest_w = power_w(decision().served.profile, 256) * 1.3
        assert found.energy_j <= MOST_POWERS * greatest_w * (run.e2e_ms / 1e3 + 0.1)


# Predictions


def test_a_prediction_is_priced_as_the_receipt_is_and_alike_for_both_endpoints():
    one = endpoint("e", "east"), endpoint("w", "west")
    regions = {"east": region("east", pue=1.5), "west": region("west", pue=1.1)}
    world = World(fleet(*one, regions=regions.values()), carbon=forecasts(east=500, west=200))
    chosen = world.decide()
    found = predict(chosen, EXPECTED, 4.0, 3600.0, regions)
    joules = predict_run(chosen.served.profile, 100.0, 200.0, 4.0)
    assert found.energy_j == joules
    assert found.gco2e == pytest.approx((joules * 1.1 + 3600.0) / 3.6e6 * 200.0)
    assert found.latency_first_gco2e == pytest.approx((joules * 1.5 + 3600.0) / 3.6e6 * 500.0)
    # The price that it was chosen by is another: at the load that the replica is meant for.
    assert chosen.gco2e < 0.2 * found.gco2e


def test_a_run_that_goes_as_predicted_is_receipted_as_predicted():
    one = decision()
    run = RUN._replace(e2e_ms=15.0 + 200.0 * 6.4, answer=AnswerSize(800.0, math.nan))
    predicted = predict(one, EXPECTED, 4.0, 0.0, {"west": region("west")})
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
