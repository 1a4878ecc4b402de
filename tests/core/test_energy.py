import math
from dataclasses import replace
from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from router.config.profiles import ProfileSchema
from router.core.energy import (
    Crowd,
    attributional_j_per_token,
    awake_w,
    estimate_run,
    greatest_w,
    idle_w,
    long_run_energy,
    power_w,
    predict_run,
    prefill_w,
    short_run_energy,
    short_run_j_per_token,
    token_rate,
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
    host_awake_w = draw(st.floats(0.0, 1000.0))
    return token_profile(
        base_w=base_w,
        prefill_w=base_w * draw(st.floats(1.0, 4.0)),
        prefill_ms_per_token=draw(st.floats(0.0, 1.0)),
        prefill_ms_per_token2=draw(st.floats(0.0, 1e-3)),
        prefill_ms_per_piece=draw(st.floats(0.0, 5.0)),
        tpot_ms_per_cached_token=draw(st.floats(0.0, 1e-3)),
        host_awake_w=host_awake_w,
        host_idle_w=host_awake_w * draw(st.floats(0.0, 1.0)),
        idle_w=draw(st.floats(0.0, 1.0)) * base_w,
        w_per_token_s=draw(st.floats(0.0, 2.0)),
        tpot_base_ms=draw(st.floats(0.1, 100.0)),
        tpot_ms_per_sequence=draw(st.floats(0.0, 1.0)),
        max_batch=max_batch,
        target_batch=draw(st.integers(1, max_batch)),
        host_fraction=draw(st.floats(0.0, 1.0)),
    )


# J per output token as measured (batch 8, 64, 256, and what ran of the most that may), tokens of an
# answer, and how far the affine fit may be off.
MEASURED = [
    ("llama-3.1-8b@1xh100", 396.0, 0.05, {8: 0.455, 64: 0.119, 256: 0.077, 691: 0.071}),
    ("llama-3.1-70b@4xh100", 351.0, 0.08, {8: 3.76, 64: 0.80, 256: 0.48, 898: 0.37}),
    ("llama-3.1-405b@8xh100", 364.0, 0.05, {8: 13.97, 64: 3.08, 255: 2.06}),
]
# Mean prompt of that task, as the fit has it (tools/fit_profiles.py).
PROMPT = 224.0


@pytest.mark.parametrize(("name", "answer", "tolerance", "measured"), MEASURED)
def test_joules_of_a_request_are_the_measured_ones(name, answer, tolerance, measured):
    """Prompt and answer together, in a steady batch of their like."""
    # Of the GPUs alone, as they were measured.
    profile = replace(SHIPPED[name], host_awake_w=0.0, host_idle_w=0.0, host_fraction=0.0)
    for batch, j_per_token in measured.items():
        crowd = Crowd(float(batch), 0.0, batch * (PROMPT + answer / 2.0))
        found = predict_run(profile, PROMPT, answer, crowd).attributional_j / answer
        assert found == pytest.approx(j_per_token, rel=tolerance), batch


def test_power_and_rate_of_the_measured_curve():
    """8B on one H100 at batch 64: 64 sequences of 9.185 ms a token make 6,968 tokens/s."""
    profile = SHIPPED["llama-3.1-8b@1xh100"]
    assert profile.tpot_ms(64) == pytest.approx(6.19 + 0.0468 * 64)
    assert token_rate(profile, 64) == pytest.approx(6968, rel=1e-3)
    assert power_w(profile, 64) == pytest.approx(477 + 105 + 0.0194 * 6968, rel=1e-3)
    assert power_w(profile, 0) == idle_w(profile) == profile.idle_w + 105


def test_the_host_draws_its_own_watts_and_a_share_of_the_gpus():
    profile = token_profile(host_fraction=0.25, host_awake_w=100.0, host_idle_w=60.0)
    assert idle_w(profile) == 90.0 * 1.25 + 60.0
    assert awake_w(profile) == 477.0 * 1.25 + 100.0
    assert prefill_w(profile) == 665.0 * 1.25 + 100.0
    assert prefill_w(profile, 700.0) == 700.0 * 1.25 + 100.0
    # 8 sequences of 6.8 ms a token make 8,000 / 6.8 tokens/s.
    assert power_w(profile, 8) == pytest.approx(477.0 * 1.25 + 100.0 + 0.024 * 1.25 * 8000.0 / 6.8)
    # 256 / 31.6 ms are 8,101 tokens/s, of 0.02 * 1.25 W each: reading prompts draws more yet.
    frugal = replace(profile, w_per_token_s=0.02)
    assert greatest_w(frugal) == prefill_w(frugal) > power_w(frugal, 256)
    assert greatest_w(profile) == power_w(profile, 256) > prefill_w(profile)


def test_a_thousand_prompt_tokens_cost_what_was_computed_of_them():
    """SCIENCE, 1b: some 0.026 J a prompt token of 8B on one H100, 0.22 of 70B on four, the whole
    cost of its time included; the GPUs' part."""
    for name, joules in (("llama-3.1-8b@1xh100", 0.026), ("llama-3.1-70b@4xh100", 0.22)):
        profile = replace(SHIPPED[name], host_awake_w=0.0, host_fraction=0.0)
        per_ms = long_run_energy(profile).j_per_prompt_ms
        found = per_ms * profile.prefill_ms_per_token
        assert found == pytest.approx(joules, rel=0.05), name


@given(profiles(), st.integers(1, 1023))
def test_energy_is_monotone_in_the_batch(profile, batch):
    fuller = batch + 1
    assert profile.tpot_ms(fuller) >= profile.tpot_ms(batch)
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
        run_s = tokens * profile.tpot_ms(sequences) / 1000.0
        awake_j = (awake_w(profile) - idle_w(profile)) * run_s
        token_j = profile.w_per_token_s * (1.0 + profile.host_fraction)
        return awake_j + token_j * sequences * tokens

    added = above_idle_j(batch + 1) - above_idle_j(batch)
    rounding = 1e-12 * above_idle_j(batch + 1)
    assert added == pytest.approx(short_run_j_per_token(profile) * tokens, rel=1e-9, abs=rounding)


@given(profiles())
def test_the_long_run_price_is_never_below_the_short_run_price(profile):
    long_run, short_run = long_run_energy(profile), short_run_energy(profile)
    assert long_run.j_per_token >= short_run.j_per_token * (1 - 1e-12)
    assert short_run.wake_w == pytest.approx(awake_w(profile) - idle_w(profile))
    assert long_run.j_per_prompt_ms == prefill_w(profile) / 1000.0
    assert short_run.j_per_prompt_ms == (prefill_w(profile) - idle_w(profile)) / 1000.0
    cached_s = profile.tpot_ms_per_cached_token / 1000.0
    assert long_run.j_per_cached_token == pytest.approx(awake_w(profile) * cached_s)
    assert short_run.j_per_cached_token == pytest.approx(
        (awake_w(profile) - idle_w(profile)) * cached_s
    )
    # The long run holds the fixed draw already: waking costs nothing on top.
    assert (long_run.wake_w, long_run.j_per_request, short_run.j_per_request) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_one_more_request_on_a_busy_replica_costs_a_fraction_of_the_average(name):
    """SCIENCE, section 1: 5 to 30 % of the average joules per token at a light load."""
    profile = SHIPPED[name]
    fraction = short_run_j_per_token(profile) / attributional_j_per_token(profile, 8)
    assert 0.03 < fraction < 0.35


def test_task_energy_is_per_request_both_ways():
    profile = task_profile(energy_j=2282.0, host_fraction=0.25)
    for price in (long_run_energy(profile), short_run_energy(profile)):
        assert price == (0.0, 0.0, 0.0, 2282.0 * 1.25, 0.0)
    # No token of it is a prompt's.
    crowd = Crowd(3.0, 5.0, 1000.0)
    assert estimate_run(profile, 100.0, 1.0, crowd, 2.0) == (2282.0 * 1.25, 2282.0 * 1.25, 0.0)
    predicted = predict_run(profile, 100.0, 1.0, crowd)
    assert (predicted.attributional_j, predicted.prompt_j) == (2282.0 * 1.25, 0.0)
    assert math.isnan(predicted.marginal_j)


# 477 W awake, 90 W idle, 665 W of prompts, 0.024 W/(token/s); 6 + 0.1 b ms, 0.05 ms a prompt token.
PLAIN = token_profile(host_fraction=0.0)


def test_estimate_of_a_run_alone_and_in_company():
    # 10 ms of nothing, an iteration of 6 ms, 20 ms of 400 tokens and 150 of 6.1 ms.
    run_s = (10.0 + 6.0 + 20.0 + 150 * 6.1) / 1e3
    alone = estimate_run(PLAIN, 400.0, 150.0, Crowd(1.0), run_s)
    # Everything above idle is its own doing, the pauses included.
    answer_s = run_s - 0.02
    tokens_j = 0.024 * 150
    assert alone.prompt_j == pytest.approx(665 * 0.02)
    assert alone.attributional_j == pytest.approx(477 * answer_s + tokens_j + 665 * 0.02)
    assert alone.marginal_j == pytest.approx((477 - 90) * answer_s + tokens_j + (665 - 90) * 0.02)
    company = estimate_run(PLAIN, 0.0, 150.0, Crowd(64.0), 150 * 12.4e-3)
    assert company.marginal_j == pytest.approx((387 * 0.1e-3 + 0.024) * 150)
    assert company.attributional_j == pytest.approx(150 * (477 * 12.4e-3 / 64 + 0.024))
    assert company.prompt_j == 0.0
    assert company.marginal_j < company.attributional_j


def test_one_request_more_pays_for_its_own_cached_tokens_and_for_nobody_elses():
    """They make every iteration of its answer longer, for as long as it is there."""
    long = replace(PLAIN, tpot_ms_per_cached_token=1e-4)
    more_ms = 0.1 + 1e-4 * (400.0 + 150.0 / 2.0)
    expected_j = (387 * more_ms / 1e3 + 0.024) * 150 + (665 - 90) * 0.02
    for cached in (64 * 475.0, 64 * 5000.0):
        company = estimate_run(long, 400.0, 150.0, Crowd(64.0, 0.0, cached), 60.0)
        assert company.marginal_j == pytest.approx(expected_j)


def test_prompts_of_others_pay_for_themselves():
    """Iterations of 12.4 ms and 7.6 of prompts: of twenty ms each but 12.4 count."""
    quiet = estimate_run(PLAIN, 0.0, 150.0, Crowd(64.0), 150 * 12.4e-3)
    busy = estimate_run(PLAIN, 0.0, 150.0, Crowd(64.0, 7.6), 150 * 20e-3)
    assert busy == pytest.approx(quiet)
    # One that reads the whole time leaves the answers nothing to pay beyond their own time.
    longer = estimate_run(PLAIN, 0.0, 150.0, Crowd(64.0, 7.6), 150 * 12.4e-3)
    assert longer.attributional_j < quiet.attributional_j


def test_cached_tokens_make_iterations_that_those_who_run_pay_for():
    long = replace(PLAIN, tpot_ms_per_cached_token=1e-4)
    # 64 of 1,000 cached tokens: 6.4 ms more.
    company = estimate_run(long, 0.0, 150.0, Crowd(64.0, 0.0, 64_000.0), 150 * 18.8e-3)
    assert company.attributional_j == pytest.approx(150 * (477 * 18.8e-3 / 64 + 0.024))


def test_where_all_that_happens_is_paid_for_the_shares_come_to_the_whole():
    """Sixteen alike, each of 20 ms of prompt and 100 tokens, in a steady crowd: what each is
    charged in its run times sixteen is the power in that time."""
    profile = token_profile(host_fraction=0.2, host_awake_w=100.0)
    prompts_ms = 15 * 20.0 / 100.0
    decode_ms = 6.0 + 1.6
    run_s = (20.0 + 100 * (decode_ms + prompts_ms)) / 1e3
    one = estimate_run(profile, 400.0, 100.0, Crowd(16.0, prompts_ms), run_s)
    # In that time all sixteen prompts were read at the one power, and the rest at the other.
    prompts_s = 16 * 0.020
    whole_j = (
        prefill_w(profile) * prompts_s
        + awake_w(profile) * (run_s - prompts_s)
        + 16 * 100 * 0.024 * 1.2
    )
    assert 16 * one.attributional_j == pytest.approx(whole_j)
    assert 16 * one.prompt_j == pytest.approx(prefill_w(profile) * prompts_s)


def test_the_power_of_prompts_may_be_another():
    known = estimate_run(PLAIN, 400.0, 100.0, Crowd(8.0), 1.0)
    for watts in (600.0, 700.0):
        other = estimate_run(PLAIN, 400.0, 100.0, Crowd(8.0), 1.0, watts)
        more_j = (watts - 665.0) * 0.02
        assert other == pytest.approx(tuple(joules + more_j for joules in known))
    # Of a profile that says nothing of a range, it is that of the profile.
    assert estimate_run(PLAIN, 400.0, 100.0, Crowd(8.0), 1.0, math.nan) == known


def test_an_estimate_is_true_to_the_time_that_a_run_took():
    quick = estimate_run(PLAIN, 0.0, 200.0, Crowd(1.0), 0.11)  # a cache, or a far better machine
    assert quick.attributional_j == pytest.approx(477 * 0.11 + 0.024 * 200)
    flood = estimate_run(PLAIN, 0.0, 1e5, Crowd(1.0), 0.11)
    assert flood.attributional_j == greatest_w(PLAIN) * 0.11
    # A prompt was hardly read that should have taken longer than the whole: it was in a cache.
    warm = estimate_run(PLAIN, 8000.0, 1.0, Crowd(1.0), 0.05)
    assert warm.prompt_j <= warm.attributional_j <= 0.05 * greatest_w(PLAIN)
    # What holds a request up beyond three times its own work is not its work: 100 tokens of 6.1 ms,
    # 10 ms and an iteration of 6 before.
    stuck = estimate_run(PLAIN, 0.0, 100.0, Crowd(1.0), 900.0)
    assert stuck.attributional_j == pytest.approx(477 * 3 * 0.626 + 0.024 * 100)


def test_requests_beyond_the_batch_share_the_power_of_those_that_run():
    profile = replace(PLAIN, max_batch=4)
    own = estimate_run(profile, 0.0, 100.0, Crowd(4.0), 0.64).attributional_j
    # Eight there: twice as long, half of it in the queue.
    assert estimate_run(profile, 0.0, 100.0, Crowd(8.0), 1.28).attributional_j == pytest.approx(own)


CROWDS = st.builds(Crowd, st.floats(-3.0, 3000.0), st.floats(0.0, 1e4), st.floats(0.0, 1e7))


@given(
    profiles(), st.floats(0.0, 1e6), st.floats(1.0, 1e9), CROWDS, st.floats(0.001, 3600.0),
    st.just(math.nan) | st.floats(1.0, 1e5),
)  # fmt: skip
def test_estimates_are_positive_and_within_the_greatest_power(
    profile, prompt, tokens, crowd, service_s, gpu_prefill_w
):
    one = estimate_run(profile, prompt, tokens, crowd, service_s, gpu_prefill_w)
    most_j = greatest_w(profile) * service_s
    assert one.marginal_j <= most_j * (1.0 + 1e-9)
    assert 0.0 < one.attributional_j <= most_j * (1.0 + 1e-9)
    assert 0.0 <= one.prompt_j <= one.attributional_j
    if not gpu_prefill_w < profile.prefill_w:
        assert one.marginal_j >= 0.0


@given(
    profiles(), st.floats(0.0, 1e5), st.floats(1.0, 5000.0), st.floats(1.0, 300.0),
    st.just(1.0) | st.floats(1.0, 100.0),
)  # fmt: skip
def test_one_request_more_never_adds_more_than_its_share_in_a_steady_run(
    profile, prompt, tokens, batch, longer
):
    """Its marginal joules are at most its attributional ones where it ran as the profile says, and
    others have as many tokens cached or more: all pay for those alike."""
    running = min(batch, profile.max_batch)
    own_ms = profile.prompt_ms(prompt)
    context = prompt + tokens / 2.0
    cached = context * (1.0 + longer * (batch - 1.0))
    tpot_ms = profile.tpot_ms(running, cached * running / batch)
    run_s = (own_ms + tokens * tpot_ms) * batch / running / 1e3
    one = estimate_run(profile, prompt, tokens, Crowd(batch, 0.0, cached), run_s)
    # Between alone and in company it is a mix of both, while the share falls as 1 / batch.
    if batch == 1.0 or batch >= 2.0:
        assert one.marginal_j <= one.attributional_j * (1.0 + 1e-9)


@given(profiles(), st.floats(1.0, 5000.0), st.floats(0.0, 1.0))
def test_the_estimate_has_no_step_between_alone_and_in_company(profile, tokens, part):
    run_s = tokens * profile.tpot_ms(1) / 1000.0

    def at(batch):
        return estimate_run(profile, 0.0, tokens, Crowd(batch), run_s).marginal_j

    ends = [at(1.0), at(2.0)]
    between = at(1.0 + part) if profile.max_batch > 1 else ends[0]
    assert min(ends) * (1 - 1e-9) <= between <= max(ends) * (1 + 1e-9)


@given(profiles(), st.floats(0.0, 1e4), st.floats(1.0, 5000.0), st.floats(1.0, 300.0))
def test_a_prediction_is_the_estimate_of_a_run_that_goes_as_predicted(
    profile, prompt, tokens, batch
):
    running = min(batch, profile.max_batch)
    own_ms = profile.prompt_ms(prompt)
    steady = attributional_j_per_token(profile, running) * tokens
    prompt_j = prefill_w(profile) * own_ms / 1e3
    predicted = predict_run(profile, prompt, tokens, Crowd(batch))
    assert predicted.prompt_j == pytest.approx(prompt_j)
    assert predicted.attributional_j == pytest.approx(steady + prompt_j)
    # Each holds its place for its prompt and its tokens, and waits its turn beyond that.
    run_s = (own_ms + tokens * profile.tpot_ms(running)) * batch / running / 1e3
    estimate = estimate_run(profile, prompt, tokens, Crowd(batch), run_s)
    assert estimate.attributional_j == pytest.approx(predicted.attributional_j)
    assert estimate.prompt_j == pytest.approx(predicted.prompt_j)


@given(profiles(), st.floats(1.0, 5000.0), CROWDS, st.floats(0.0, 1e4))
def test_a_prediction_charges_no_prompts_of_others(profile, tokens, crowd, prompts_ms):
    alike = crowd._replace(prompts_ms=prompts_ms)
    ours, theirs = (predict_run(profile, 100.0, tokens, one) for one in (crowd, alike))
    assert (ours.attributional_j, ours.prompt_j) == (theirs.attributional_j, theirs.prompt_j)


def test_no_thousandfold_slip():
    """A 405B answer of 6,706 J at 400 g/kWh and PUE 1.1 is 0.82 g: not mg, not kg."""
    assert facility_grams(6706.0, 1.1, 400.0) == pytest.approx(0.8196, rel=1e-3)
    assert facility_grams(114.0, 1.0, 400.0) == pytest.approx(0.01267, rel=1e-3)
    for profile in SHIPPED.values():
        grams = facility_grams(long_run_energy(profile).j_per_token * 300, 1.2, 400.0)
        assert 0.002 < grams < 1.0, profile.name
        joules = long_run_energy(profile).j_per_token * 300
        assert 10.0 < joules < 3000.0, profile.name
