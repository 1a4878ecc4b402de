from dataclasses import replace
from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from router.config.profiles import ProfileSchema
from router.core.energy import (
    attributional_j_per_token,
    estimate_run,
    long_run_energy,
    power_w,
    predict_run,
    short_run_energy,
    short_run_j_per_token,
    token_rate,
    tpot_ms,
)
from tests.core.worlds import facility_grams
from tests.factories import task_profile, token_profile

SHIPPED = {
    name: TypeAdapter(ProfileSchema).validate_python(body).build(name)
    for name, body in yaml.safe_load((files("router") / "data" / "profiles.yaml").read_text())[
        "profiles"
    ].items()
}


def watts(low=1.0, high=20_000.0):
    return st.floats(low, high)


@st.composite
def profiles(draw):
    base_w = draw(watts())
    max_batch = draw(st.integers(1, 1024))
    return token_profile(
        base_w=base_w,
        idle_w=draw(st.floats(0.0, 1.0)) * base_w,
        w_per_token_s=draw(st.floats(0.0, 2.0)),
        tpot_base_ms=draw(st.floats(0.1, 100.0)),
        tpot_ms_per_sequence=draw(st.floats(0.0, 1.0)),
        max_batch=max_batch,
        target_batch=draw(st.integers(1, max_batch)),
        host_fraction=draw(st.floats(0.0, 1.0)),
    )


# J per output token as measured (batch 8, 64, 256, max), and how far the affine fit may be off.
MEASURED = [
    ("llama-3.1-8b@1xh100", 0.05, {8: 0.455, 64: 0.119, 256: 0.077, 768: 0.071}),
    ("llama-3.1-70b@4xh100", 0.07, {8: 3.76, 64: 0.80, 256: 0.48, 1024: 0.37}),
    ("llama-3.1-405b@8xh100", 0.05, {8: 13.97, 64: 3.08, 256: 2.06}),
]


@pytest.mark.parametrize(("name", "tolerance", "measured"), MEASURED)
def test_joules_per_token_are_the_measured_ones(name, tolerance, measured):
    profile = SHIPPED[name]
    assert profile.max_batch == max(measured)
    for batch, j_per_token in measured.items():
        assert attributional_j_per_token(profile, batch) == pytest.approx(
            j_per_token, rel=tolerance
        ), batch


def test_power_and_rate_of_the_measured_curve():
    """8B on one H100 at batch 64: 64 sequences of 12.1 ms a token make 5,281 tokens/s."""
    profile = SHIPPED["llama-3.1-8b@1xh100"]
    assert tpot_ms(profile, 64) == pytest.approx(6.19 + 0.0926 * 64)
    assert token_rate(profile, 64) == pytest.approx(5281, rel=1e-3)
    assert power_w(profile, 64) == pytest.approx(477 + 0.0236 * 5281, rel=1e-3)
    assert power_w(profile, 0) == profile.idle_w


@given(profiles(), st.integers(1, 1023))
def test_energy_is_monotone_in_the_batch(profile, batch):
    fuller = batch + 1
    assert tpot_ms(profile, fuller) >= tpot_ms(profile, batch)
    # More tokens a second, so more watts, but never more joules a token.
    assert token_rate(profile, fuller) >= token_rate(profile, batch) * (1 - 1e-12)
    assert power_w(profile, fuller) >= power_w(profile, batch) * (1 - 1e-12)
    assert power_w(profile, batch) >= power_w(profile, 0)
    assert attributional_j_per_token(profile, fuller) <= attributional_j_per_token(
        profile, batch
    ) * (1 + 1e-12)


@given(profiles(), st.integers(1, 1000), st.integers(1, 500))
def test_the_short_run_price_is_what_one_more_sequence_adds(profile, batch, tokens):
    """Energy above idle of a replica that runs ``batch`` answers in step, with one more in it."""

    def above_idle_j(sequences):
        run_s = tokens * tpot_ms(profile, sequences) / 1000.0
        awake_j = (profile.base_w - profile.idle_w) * run_s
        return awake_j + profile.w_per_token_s * sequences * tokens

    added = above_idle_j(batch + 1) - above_idle_j(batch)
    rounding = 1e-12 * above_idle_j(batch + 1)
    assert added == pytest.approx(short_run_j_per_token(profile) * tokens, rel=1e-9, abs=rounding)


@given(profiles())
def test_the_long_run_price_is_never_below_the_short_run_price(profile):
    long_run, short_run = long_run_energy(profile), short_run_energy(profile)
    assert long_run.j_per_token >= short_run.j_per_token * (1 - 1e-12)
    assert short_run.wake_w == pytest.approx(
        (profile.base_w - profile.idle_w) * (1 + profile.host_fraction)
    )
    # The long run holds the fixed draw already: waking costs nothing on top.
    assert (long_run.wake_w, long_run.j_per_request, short_run.j_per_request) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_one_more_request_on_a_busy_replica_costs_a_fraction_of_the_average(name):
    """SCIENCE, section 1: 5 to 30 % of the average joules per token at a light load."""
    profile = SHIPPED[name]
    fraction = short_run_j_per_token(profile) / attributional_j_per_token(profile, 8)
    assert 0.05 < fraction < 0.35


def test_task_energy_is_per_request_both_ways():
    profile = task_profile(energy_j=2282.0, host_fraction=0.25)
    for price in (long_run_energy(profile), short_run_energy(profile)):
        assert price == (0.0, 2282.0 * 1.25, 0.0)
    assert estimate_run(profile, 1.0, 3.0, 2.0, 0.0) == (2282.0 * 1.25, 2282.0 * 1.25)
    assert predict_run(profile, 1.0, 1.0, 3.0) == 2282.0 * 1.25


def test_estimate_of_a_run_alone_and_in_company():
    profile = token_profile(host_fraction=0.0)  # 477 W, 90 W idle, 0.024 W/(token/s), 6 + 0.1 b ms
    run_s = 0.02 + 150 * 6.1e-3
    alone = estimate_run(profile, 150.0, 1.0, run_s, 0.02)
    # Everything above idle is its own doing, the pauses included.
    assert alone.marginal_j == pytest.approx((477 - 90) * run_s + 0.024 * 150)
    assert alone.attributional_j == pytest.approx(477 * run_s + 0.024 * 150)
    company = estimate_run(profile, 150.0, 64.0, 150 * 12.4e-3, 0.0)
    assert company.marginal_j == pytest.approx((387 * 0.1e-3 + 0.024) * 150)
    assert company.attributional_j == pytest.approx(150 * (477 * 12.4e-3 / 64 + 0.024))
    assert company.marginal_j < company.attributional_j


def test_an_estimate_is_true_to_the_time_that_a_run_took():
    profile = token_profile(host_fraction=0.0)
    quick = estimate_run(profile, 200.0, 1.0, 0.11, 0.0)  # a cache, or a far better machine
    assert quick.attributional_j == pytest.approx(477 * 0.11 + 0.024 * 200)
    assert estimate_run(profile, 1e5, 1.0, 0.11, 0.0).attributional_j <= 0.11 * power_w(
        profile, 256
    )
    # What holds a request up beyond three times its own work is not its work.
    stuck = estimate_run(profile, 100.0, 1.0, 900.0, 0.0)
    assert stuck.attributional_j == pytest.approx(477 * 3 * 0.61 + 0.024 * 100)


def test_requests_beyond_the_batch_share_the_power_of_those_that_run():
    profile = token_profile(host_fraction=0.0, max_batch=4)
    own = estimate_run(profile, 100.0, 4.0, 0.64, 0.0).attributional_j
    # Eight there: twice as long, half of it in the queue.
    assert estimate_run(profile, 100.0, 8.0, 1.28, 0.0).attributional_j == pytest.approx(own)


@given(
    profiles(), st.floats(1.0, 1e9), st.floats(-3.0, 3000.0), st.floats(0.001, 3600.0),
    st.floats(0.0, 1e6),
)  # fmt: skip
def test_estimates_are_positive_and_within_the_greatest_power(
    profile, tokens, batch, service_s, prefill_s
):
    one = estimate_run(profile, tokens, batch, service_s, prefill_s)
    most_j = power_w(profile, profile.max_batch) * (1.0 + profile.host_fraction) * service_s
    assert 0.0 <= one.marginal_j <= most_j * (1.0 + 1e-9)
    assert 0.0 < one.attributional_j <= most_j * (1.0 + 1e-9)


@given(profiles(), st.floats(1.0, 5000.0), st.floats(0.0, 1.0))
def test_the_estimate_has_no_step_between_alone_and_in_company(profile, tokens, part):
    run_s = tokens * tpot_ms(profile, 1) / 1000.0

    def at(batch):
        return estimate_run(profile, tokens, batch, run_s, 0.0).marginal_j

    ends = [at(1.0), at(2.0)]
    between = at(1.0 + part) if profile.max_batch > 1 else ends[0]
    assert min(ends) * (1 - 1e-9) <= between <= max(ends) * (1 + 1e-9)


@given(profiles(), st.floats(1.0, 5000.0), st.floats(1.0, 300.0))
def test_a_prediction_is_the_estimate_of_a_run_that_goes_as_predicted(profile, tokens, batch):
    running = min(batch, profile.max_batch)
    steady = attributional_j_per_token(profile, running) * tokens * (1.0 + profile.host_fraction)
    without_prompt = replace(profile, prefill_base_ms=0.0)
    assert predict_run(without_prompt, 0.0, tokens, batch) == pytest.approx(steady)
    assert predict_run(profile, 100.0, tokens, batch) >= steady * (1.0 - 1e-9)


def test_no_thousandfold_slip():
    """A 405B answer of 6,706 J at 400 g/kWh and PUE 1.1 is 0.82 g: not mg, not kg."""
    assert facility_grams(6706.0, 1.1, 400.0) == pytest.approx(0.8196, rel=1e-3)
    assert facility_grams(114.0, 1.0, 400.0) == pytest.approx(0.01267, rel=1e-3)
    for profile in SHIPPED.values():
        grams = facility_grams(long_run_energy(profile).j_per_token * 300, 1.2, 400.0)
        assert 0.002 < grams < 1.0, profile.name
        joules = long_run_energy(profile).j_per_token * 300
        assert 10.0 < joules < 3000.0, profile.name
