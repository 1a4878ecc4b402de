import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import kernel_rows as k
from router.core.columns import is_stale, mean_over
from router.core.energy import long_run_energy, short_run_energy
from router.core.rungs import CI_HOURS
from router.errors import MixedBasisError
from router.model import Basis, Energy, Factors, Kind, Signal, StaleCarbon
from tests.factories import (
    HOUR,
    NOW,
    endpoint,
    fleet,
    forecast,
    forecasts,
    intensity,
    policy,
    region,
    served,
    snapshot,
    task_profile,
    token_profile,
)

RTT = {"home": {"east": 90.0, "west": 15.0}, "far": {"east": 5.0, "west": 150.0}}
TOKENS = token_profile(
    max_batch=100, prefill_ms_per_piece=1.5, prefill_ms_per_token2=2e-5,
    tpot_ms_per_cached_token=1e-4, max_batched_tokens=2000,
)  # fmt: skip
TASK = task_profile()
FLEET = fleet(
    endpoint("w", "west", served(TOKENS, context_tokens=8192.0), served(TASK, "image")),
    endpoint("e", "east", served(TOKENS), max_in_flight=40),
    regions=[region("east", pue=1.5), region("west", pue=1.1)],
    rtt_ms=RTT,
)
CARBON = forecasts(east=(500, 400, 300), west=(250, 150, 50))


def hours(a_snapshot, row, model="llama"):
    table = a_snapshot.columns[model, ""].table
    return table[k.CI_FROM : k.CI_FROM + CI_HOURS, row].tolist()


@pytest.mark.parametrize("energy", [Energy.LONG_RUN, Energy.SHORT_RUN])
def test_the_rows_of_a_token_model(energy):
    built = snapshot(FLEET, policy(energy=energy), CARBON)
    columns = built.columns["llama", ""]
    joules = (long_run_energy if energy is Energy.LONG_RUN else short_run_energy)(TOKENS)
    assert [one.name for one in columns.candidates.endpoints] == ["e", "w"]
    assert columns.table.flags.c_contiguous
    assert columns.table.dtype == np.float64
    for row, (name, max_in_flight, context, pue) in enumerate(
        [("east", 40, math.inf, 1.5), ("west", 64, 8192.0, 1.1)]
    ):
        column = columns.table[:, row]
        assert column[k.PREFILL_BASE_MS] == TOKENS.prefill_base_ms
        assert column[k.PREFILL_MS_PER_TOKEN] == TOKENS.prefill_ms_per_token
        assert column[k.PREFILL_MS_PER_PIECE] == 1.5
        assert column[k.HALF_PREFILL_MS_PER_TOKEN2] == 1e-5
        assert column[k.TPOT_MS_PER_CACHED_TOKEN] == 1e-4
        # What fills one iteration: a piece, 2,000 tokens of 0.05 ms, and two million pairs of them.
        assert column[k.CHUNK_MS] == pytest.approx(1.5 + 100.0 + 40.0)
        assert column[k.J_PER_PROMPT_MS] == joules.j_per_prompt_ms > 0.0
        assert column[k.PREFILL_MS_PER_IN_FLIGHT] == 0.0
        assert column[k.TPOT_BASE_MS] == TOKENS.tpot_base_ms
        assert column[k.TPOT_MS_PER_SEQUENCE] == TOKENS.tpot_ms_per_sequence
        assert (column[k.MAX_BATCH], column[k.PER_MAX_BATCH]) == (100.0, 0.01)
        assert column[k.MAX_IN_FLIGHT] == max_in_flight
        assert column[k.PER_MAX_IN_FLIGHT] == 1.0 / max_in_flight
        assert column[k.J_PER_TOKEN] == joules.j_per_token
        assert column[k.J_PER_CACHED_TOKEN] == joules.j_per_cached_token > 0.0
        assert column[k.J_PER_REQUEST] == 0.0
        assert column[k.WAKE_W] == short_run_energy(TOKENS).wake_w > 0.0
        assert column[k.KWH_PER_J] == pytest.approx(pue / 3.6e6, rel=1e-15)
        assert column[k.CONTEXT_TOKENS] == context
        for origin, at in columns.origin_rows.items():
            assert column[at] == RTT[origin][name]
    assert sorted(columns.origin_rows) == ["far", "home"]


def test_the_rows_of_a_task():
    columns = snapshot(FLEET, carbon=CARBON).columns["image", ""]
    assert columns.table.shape[1] == 1
    column = columns.table[:, 0]
    assert column[k.PREFILL_BASE_MS] == TASK.service_ms
    assert column[k.PREFILL_MS_PER_IN_FLIGHT] == TASK.service_ms_per_in_flight
    assert column[k.J_PER_REQUEST] == TASK.energy_j * (1 + TASK.host_fraction)
    for zero in (
        k.PREFILL_MS_PER_PIECE, k.PREFILL_MS_PER_TOKEN, k.HALF_PREFILL_MS_PER_TOKEN2,
        k.TPOT_BASE_MS, k.TPOT_MS_PER_SEQUENCE, k.TPOT_MS_PER_CACHED_TOKEN, k.CHUNK_MS,
        k.J_PER_TOKEN, k.J_PER_PROMPT_MS,
    ):  # fmt: skip
        assert column[zero] == 0.0


def test_the_hours_of_each_region_from_now_on():
    built = snapshot(FLEET, carbon=CARBON)
    # The last known slot stands for the hours beyond it.
    assert hours(built, 0) == [500.0, 400.0, 300.0, 300.0, 300.0, 300.0]
    assert hours(built, 1) == [250.0, 150.0, 50.0, 50.0, 50.0, 50.0]
    assert hours(built, 0, "image") == hours(built, 1)
    assert built.hour_ends_at == NOW // HOUR * HOUR + HOUR
    later = snapshot(FLEET, carbon=CARBON, now=NOW + HOUR)
    assert hours(later, 0)[:2] == [400.0, 300.0]
    assert later.hour_ends_at == built.hour_ends_at + HOUR


def test_half_hour_slots_count_for_what_is_left_of_the_hour():
    start = NOW // HOUR * HOUR
    halves = forecast("grid-west", 100.0, 400.0, 200.0, 300.0, start=start, step_s=1800.0)
    carbon = {**CARBON, "grid-west": halves}
    # Ten minutes in: 20 minutes of the first half hour and 30 of the second are left.
    first = (20 * 100 + 30 * 400) / 50
    assert hours(snapshot(FLEET, carbon=carbon), 1)[:2] == pytest.approx([first, 250.0])
    late = snapshot(FLEET, carbon=carbon, now=start + 2400.0)
    assert hours(late, 1)[0] == 400.0


def test_a_grid_zone_that_no_source_knows_is_unknown_and_never_zero():
    built = snapshot(FLEET, carbon=forecasts(west=250))
    assert hours(built, 0) == [k.UNKNOWN_CI] * CI_HOURS
    assert built.intensity("east", NOW) is None
    assert math.isnan(built.mean_g_per_kwh("east", NOW, 10.0))
    assert built.intensity("west", NOW).g_per_kwh == 250.0


def test_an_annual_mean_policy_decides_by_annual_means_alone():
    means = {"grid-east": intensity(333.0, kind=Kind.ANNUAL_MEAN)}
    built = snapshot(FLEET, policy(annual_mean=True), CARBON, means)
    assert hours(built, 0) == [333.0] * CI_HOURS
    # No annual mean for the west: the hourly values must not slip in.
    assert hours(built, 1) == [k.UNKNOWN_CI] * CI_HOURS
    assert built.intensity("east", NOW).g_per_kwh == 500.0


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, False),
        ({"observed_at": NOW - 7200.0}, False),
        ({"observed_at": NOW - 7201.0}, True),
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW - 1.0}, True),
        ({"kind": Kind.FORECAST}, False),
        ({"kind": Kind.CLIMATOLOGY}, True),
        ({"kind": Kind.ANNUAL_MEAN}, True),
    ],
)
def test_what_counts_as_stale_and_its_exclusion(changes, stale):
    carbon = {**CARBON, "grid-west": forecast("grid-west", 250.0, **changes)}
    used = policy(stale_carbon=StaleCarbon.USE_FLAGGED)
    excluded = policy(stale_carbon=StaleCarbon.EXCLUDE)
    assert is_stale(used, carbon["grid-west"].at(NOW), NOW) == stale
    assert hours(snapshot(FLEET, used, carbon), 1)[0] == 250.0
    found = hours(snapshot(FLEET, excluded, carbon), 1)
    assert found == [k.UNKNOWN_CI if stale else 250.0] * CI_HOURS
    assert hours(snapshot(FLEET, excluded, carbon), 0)[0] == 500.0


def test_scarcity_goes_by_the_capacity_of_the_model():
    columns = snapshot(FLEET, carbon=CARBON).columns
    assert columns["llama", ""].table[k.PER_CAPACITY].tolist() == [1 / 104, 1 / 104]
    assert columns["image", ""].table[k.PER_CAPACITY].tolist() == [1 / 64]


MARGINAL = Signal(Basis.MARGINAL, Factors.NONE)
DIRECT = Signal(Basis.AVERAGE, Factors.DIRECT)


@pytest.mark.parametrize("other", [MARGINAL, DIRECT])
def test_signals_of_different_bases_never_meet(other):
    mixed = {**CARBON, "grid-west": forecast("grid-west", 250.0, signal=other)}
    with pytest.raises(MixedBasisError):
        snapshot(FLEET, carbon=mixed)
    means = {"grid-east": intensity(333.0, signal=other)}
    with pytest.raises(MixedBasisError):
        snapshot(FLEET, policy(annual_mean=True), CARBON, means)
    # Annual means that decide nothing are nobody's concern.
    snapshot(FLEET, policy(), CARBON, means)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=8),
    st.sampled_from([300, 900, 1800, 3600]),
    st.integers(-5000, 30_000),
    st.integers(1, 20_000),
)
def test_the_mean_over_a_run_is_the_sum_over_its_seconds(values, step_s, offset_s, run_s):
    start = int(NOW)
    one = forecast("grid-west", *values, start=float(start), step_s=float(step_s))
    begin = start + offset_s
    brute = sum(one.at(second + 0.5).g_per_kwh for second in range(begin, begin + run_s)) / run_s
    assert mean_over(one, float(begin), float(run_s)) == pytest.approx(brute, rel=1e-9, abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(
    st.floats(0.0, 2e9),
    st.floats(0.1, 1e4),
    st.floats(-1.0, 20.0),
    st.floats(0.0, 30.0),
)
def test_the_mean_over_any_run_ends_and_stays_inside_the_values(start, step_s, at, length):
    """Starts and steps that no float holds exactly must neither hang nor lose a slot."""
    one = forecast("grid-west", 10.0, 20.0, 40.0, start=start, step_s=step_s)
    mean = mean_over(one, start + at * step_s, length * step_s)
    assert 10.0 * (1 - 1e-12) <= mean <= 40.0 * (1 + 1e-12)


def test_the_mean_over_no_time_is_the_value_of_the_moment():
    one = forecast("grid-west", 10.0, 20.0)
    assert mean_over(one, NOW, 0.0) == 10.0
    assert mean_over(one, NOW + HOUR, 1e-12) == 20.0


@settings(max_examples=300, deadline=None)
@given(st.floats(0.0, allow_nan=False), st.floats(-1e12, 1e12), st.sampled_from([1, 24, 300]))
def test_the_mean_over_a_run_of_any_length_takes_no_more_steps_than_slots(run_s, ahead_s, slots):
    one = forecast("grid-west", *[10.0, 20.0] * slots)
    assert 10.0 * (1 - 1e-12) <= mean_over(one, NOW + ahead_s, run_s) <= 20.0 * (1 + 1e-12)


@pytest.mark.parametrize("run_s", [1e12, 1e297, 1e308, math.inf])
def test_an_endless_run_is_priced_at_the_last_value(run_s):
    assert mean_over(forecast("grid-west", 10.0, 20.0), NOW, run_s) == pytest.approx(20.0)


def test_room_is_worth_at_most_twice_what_the_same_work_emits_at_the_dirtiest_place():
    carbon = forecasts(clean=(20.0, 50.0), dirty=(300.0, 600.0, 100.0))
    one = fleet(endpoint("c", "clean"), endpoint("d", "dirty"))
    assert snapshot(one, None, carbon).columns["llama", ""].table[k.MAX_PREMIUM] == pytest.approx(
        [1200.0, 1200.0]
    )
    thirsty = served(token_profile(w_per_token_s=1.0))
    mixed = fleet(endpoint("c", "clean"), endpoint("d", "dirty", thirsty))
    clean, dirty = snapshot(mixed, None, carbon).columns["llama", ""].table[k.MAX_PREMIUM]
    assert dirty == pytest.approx(1200.0)
    assert clean > 5 * dirty


def test_room_is_worth_more_where_prompts_take_more_energy_elsewhere_than_answers_do():
    """The dirty place reads prompts at ten times the joules, and answers at as many: who has
    but a prompt saves by ten times as much of what it takes at the clean one."""
    carbon = forecasts(clean=20, dirty=600)
    slow = served(token_profile(prefill_ms_per_token=0.5))
    one = fleet(endpoint("c", "clean"), endpoint("d", "dirty", slow))
    clean, dirty = snapshot(one, None, carbon).columns["llama", ""].table[k.MAX_PREMIUM]
    assert clean == pytest.approx(2 * 600.0 * 10.0)
    assert dirty == pytest.approx(2 * 600.0)


@given(st.floats(0.0, 1e5), st.floats(1.0, 1e5), st.floats(0.01, 5.0), st.floats(0.1, 5.0))
def test_no_mix_of_prompt_and_answer_gains_more_than_room_is_said_to_be_worth(
    n_in, n_out, prompt_ms, token_j
):
    """Whatever it pays at the dirtiest place, per kWh of what it takes here."""
    other = served(token_profile(prefill_ms_per_token=prompt_ms, w_per_token_s=token_j))
    one = fleet(endpoint("c", "clean"), endpoint("d", "dirty", other))
    table = snapshot(one, None, forecasts(clean=20, dirty=600)).columns["llama", ""].table
    prompts = table[k.J_PER_PROMPT_MS] * table[k.PREFILL_MS_PER_TOKEN] * n_in
    kwh = (table[k.J_PER_TOKEN] * n_out + prompts) * table[k.KWH_PER_J]
    gain = (kwh * [20.0, 600.0]).max() / kwh
    assert (2.0 * gain <= table[k.MAX_PREMIUM] * (1.0 + 1e-9)).all()
