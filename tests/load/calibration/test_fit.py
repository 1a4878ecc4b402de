"""The truth of a known law comes out, within what is said of it, or not at all."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import DataError
from router.load.calibration.fit import fit
from router.load.calibration.series import EnergyReading, series_of
from router.load.energy_meter import NO_READING, MeterReading
from router.load.work_counters import WorkCounters
from tests.load.calibration.servers import LAW, Law, readings


def fitted(found, confidence=0.95):
    return fit(series_of(found, 4.0), confidence)


def without(found, **values):
    """``found``, of a server that does not tell so much."""
    return [one._replace(work=one.work._replace(**values)) for one in found]


@given(
    st.integers(0, 10_000),
    st.builds(
        Law,
        idle_w=st.floats(30.0, 400.0),
        base_w=st.floats(450.0, 3000.0),
        token_j=st.floats(0.01, 0.2),
        prefill_w=st.floats(3000.0, 6000.0),
        base_s=st.floats(2e-3, 3e-2),
        sequence_s=st.floats(2e-5, 1e-3),
        prompt_s=st.floats(1e-5, 5e-4),
    ),
)
@settings(max_examples=25)
def test_without_noise_the_law_itself_comes_out(seed, law):
    found = fitted(readings(seed, law=law))
    for key, true in law.figures.items():
        figure = found.of(key)
        assert figure.value == pytest.approx(true, rel=1e-4)
        assert figure.low <= true * (1 + 1e-6) and true * (1 - 1e-6) <= figure.high


@given(st.integers(0, 10_000), st.sampled_from([0.0, 10.0, 30.0]), st.floats(0.001, 0.05))
@settings(max_examples=25)
def test_with_noise_it_lies_within_intervals_of_all_but_certainty(seed, moves_s, noise):
    found = fitted(readings(seed, 700, noise=noise, moves_s=moves_s), confidence=0.999999)
    for key, true in LAW.figures.items():
        figure = found.of(key)
        if not figure.why_not:
            assert figure.low <= true <= figure.high, key


@pytest.mark.parametrize("moves_s", [0.0, 30.0])
def test_intervals_hold_the_truth_as_often_as_they_say(moves_s):
    hits: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for seed in range(100):
        found = fitted(readings(seed, 500, noise=0.02, moves_s=moves_s))
        for key, true in LAW.figures.items():
            figure = found.of(key)
            told[key] += not figure.why_not
            hits[key] += figure.low <= true <= figure.high
    assert min(told.values()) >= 90
    for key, times in told.items():
        assert hits[key] >= 0.88 * times, key


def test_a_server_that_counts_no_iterations_has_watts_and_no_times():
    found = fitted(without(readings(noise=0.01), iterations=math.nan))
    for key in ("idle_w", "base_w", "w_per_token_s"):
        assert found.of(key).value == pytest.approx(LAW.figures[key], rel=0.1)
    for key in ("tpot_base_ms", "prefill_ms_per_token", "prefill_w"):
        assert "counts no iterations" in found.of(key).why_not
        assert math.isnan(found.of(key).value)


@pytest.mark.parametrize(
    ("found", "key", "why"),
    [
        (readings(awake=1.0), "idle_w", "idle for 0.0 of"),
        (readings(awake=0.0), "base_w", "at work for 0.0 of"),
        (readings(batches=(16, 17), prompts=0.0), "w_per_token_s", "one proportion"),
        (readings(batches=(16, 17), prompts=0.0), "base_w", "one proportion"),
        (readings(prompts=0.0), "prefill_w", "there was none (prompt)"),
        (readings(count=60, noise=0.3), "w_per_token_s", "is all that can be told"),
        (without(readings(), prompt_tokens=math.nan), "prefill_w", "does not count it (prompt)"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_reason(found, key, why):
    assert why in fitted(found).of(key).why_not


def test_what_is_refused_does_not_spoil_the_rest():
    one_batch = fitted(readings(batches=(16, 17), prompts=0.0))
    assert one_batch.of("idle_w").value == pytest.approx(LAW.idle_w, rel=1e-3)
    always = fitted(readings(awake=1.0))
    assert always.of("base_w").value == pytest.approx(LAW.base_w, rel=1e-3)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (readings(count=30), "at least 20 are needed"),
        (
            without(
                readings(), answer_tokens=math.nan, prompt_tokens=math.nan, iterations=math.nan
            ),
            "neither tokens nor requests",
        ),
        (
            without(readings(), iterations=math.nan, running=math.nan),
            "not known whether the server was at work",
        ),
    ],
)
def test_where_nothing_can_be_told_it_is_an_error(found, why):
    with pytest.raises(DataError, match=why):
        fitted(found)


def beside(mine, other):
    """The readings of one server on a GPU on which another one works as well."""
    joules = [
        a.meter.joules["gpu"] + b.meter.joules["gpu"] for a, b in zip(mine, other, strict=True)
    ]
    return [
        one._replace(meter=MeterReading({"gpu": total}))
        for one, total in zip(mine, joules, strict=True)
    ]


def test_another_server_on_the_same_gpu_is_found_where_it_draws_more():
    heavy = Law(idle_w=0.0, base_w=3000.0, token_j=0.5)
    with pytest.raises(DataError, match=r"explains \d+ % of the meter's joules: something else"):
        fitted(beside(readings(1), readings(2, law=heavy, awake=0.5)))


def test_another_server_of_the_same_kind_makes_intervals_wide_and_no_false_certainty():
    found = fitted(beside(readings(1, 700), readings(2, 700)))
    figure = found.of("base_w")
    assert figure.why_not or figure.high - figure.low > 0.05 * figure.value


def test_watts_of_a_gauge_do_as_well():
    exact = readings(3)
    found = []
    for place, one in enumerate(exact):
        near = exact[max(place - 1, 0)], exact[min(place + 1, len(exact) - 1)]
        joules = near[1].meter.joules["gpu"] - near[0].meter.joules["gpu"]
        watts = joules / (near[1].at - near[0].at)
        found.append(one._replace(meter=NO_READING, watts=watts))
    assert fitted(found).of("idle_w").value == pytest.approx(LAW.idle_w, rel=0.15)
    assert fitted(found).of("base_w").value == pytest.approx(LAW.base_w, rel=0.1)


def test_a_server_of_requests_has_joules_a_request():
    found, joules, requests = [], 0.0, 0.0
    for second in range(400):
        more = (second // 7) % 5
        requests += more
        joules += 40.0 + 3.2 * more
        work = WorkCounters(requests=requests)
        found.append(EnergyReading(float(second), MeterReading({"gpu": joules}), work))
    told = fitted(found)
    assert told.of("energy_j").value == pytest.approx(3.2, rel=1e-6)
    assert told.figures[0].value == pytest.approx(40.0, rel=1e-6)


# Batch, W, answer tokens/s of one H100 with Llama 3.1 8B at each of its loads: the ML.ENERGY
# Benchmark V3 data set (Apache-2.0, ml-energy/data), task lm-arena-chat.
ML_ENERGY = (
    (7.9782, 486.43805, 1069.56885), (15.95169, 513.28083, 1953.57107),
    (31.9115, 559.71345, 3391.07017), (63.91781, 610.34762, 5147.15325),
    (95.70175, 643.95324, 6260.14592), (127.62, 669.2439, 7036.53158),
    (191.65854, 688.25457, 8223.34653), (255.18987, 690.50838, 9009.61172),
    (383.01429, 686.5186, 9248.01198), (510.86885, 688.29832, 9805.58775),
    (690.86813, 685.14095, 9602.77433),
)  # fmt: skip


def test_a_measured_card_comes_out_as_its_publishers_say():
    """Each load for a minute. Nobody was idle there, and prompts were not counted."""
    at = joules = tokens = iterations = 0.0
    found = []
    for batch, watts, rate in ML_ENERGY:
        for _ in range(30):
            work = WorkCounters(tokens, math.nan, iterations, math.nan, math.nan, batch)
            found.append(EnergyReading(at, MeterReading({"gpu": joules}), work))
            at += 2.0
            joules += 2.0 * watts
            tokens += 2.0 * rate
            iterations += 2.0 * rate / batch
    told = fitted(found)
    base, token = told.of("base_w").value, told.of("w_per_token_s").value
    assert told.of("idle_w").why_not
    assert 430.0 < base < 530.0
    assert told.r2 > 0.9
    for _, watts, rate in ML_ENERGY:
        assert (base + token * rate) / rate == pytest.approx(watts / rate, rel=0.08)
    pace = told.of("tpot_base_ms").value, told.of("tpot_ms_per_sequence").value
    for batch, _, rate in ML_ENERGY:
        assert pace[0] + pace[1] * batch == pytest.approx(1e3 * batch / rate, rel=0.15)
