import math

import pytest

from router.contract import BackendReport
from router.core.accounting import Run, account, build_receipt, output_tokens, with_marginal
from router.core.energy import estimate_run
from router.core.lengths import Expected
from router.model import Provenance
from tests.core.worlds import World
from tests.factories import endpoint, fleet, intensity, region, request, served, task_profile

NOTHING = BackendReport(math.nan, math.nan, math.nan)
RUN = Run(messages=0, batch=4.0, ttft_ms=math.nan, e2e_ms=1500.0)


def decision(profile=None, emulated=False):
    one = endpoint("w", "west", served(profile), emulated=emulated)
    return World(fleet(one)).decide(expected=Expected(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("reported", "messages", "expected"),
    [
        (37.0, 0, 37.0),
        (37.0, 12, 37.0),  # the backend knows best
        (math.nan, 12, 12.0),
        (0.0, 12, 12.0),
        (math.nan, 1, math.nan),  # one message may hold any number of tokens
        (math.nan, 0, math.nan),
    ],
)
def test_output_tokens(reported, messages, expected):
    run, report = RUN._replace(messages=messages), NOTHING._replace(output_tokens=reported)
    assert output_tokens(decision(), run, report) == pytest.approx(expected, nan_ok=True)


def test_a_task_has_one_token_whatever_is_said():
    image = decision(task_profile())
    report = NOTHING._replace(output_tokens=50.0)
    assert output_tokens(image, RUN._replace(messages=9), report) == 1.0


def test_what_the_backend_measured_wins_over_the_estimate():
    found = account(decision(), RUN, BackendReport(120.0, 30.0, 200.0), 999.0)
    assert found == (200.0, 120.0, 30.0, Provenance.MEASURED)


def test_without_a_report_the_profile_estimates():
    one = decision()
    found = account(one, RUN, NOTHING._replace(output_tokens=200.0), 999.0)
    estimate = estimate_run(one.served.profile, 200.0, 4.0, 1.5)
    assert found == (200.0, estimate.attributional_j, estimate.marginal_j, Provenance.ESTIMATED)
    # Tokens that nobody counted are not invented on the receipt, but the energy still counts.
    blind = account(one, RUN, NOTHING, 200.0)
    assert math.isnan(blind.output_tokens)
    assert (blind.energy_j, blind.marginal_energy_j) == (found.energy_j, found.marginal_energy_j)


def test_each_joule_that_is_missing_is_estimated_on_its_own():
    one = decision()
    estimate = estimate_run(one.served.profile, 200.0, 4.0, 1.5)
    half = account(one, RUN, BackendReport(120.0, math.nan, 200.0), 1.0)
    assert (half.energy_j, half.marginal_energy_j) == (120.0, estimate.marginal_j)


@pytest.mark.parametrize("report", [NOTHING, BackendReport(120.0, 30.0, 200.0)])
def test_an_emulated_endpoints_figures_are_called_emulated(report):
    assert account(decision(emulated=True), RUN, report, 200.0).kind is Provenance.EMULATED


def test_the_receipt_counts_facility_energy_and_a_network_without_pue():
    one = decision()
    found = account(one, RUN, BackendReport(3600.0, 900.0, 200.0), 1.0)
    receipt = build_receipt(
        decision_id="d1", request=request(), decision=one, policy="test",
        region=region("west", pue=1.5), attempts=2, account=found,
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
