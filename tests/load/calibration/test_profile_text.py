"""What is printed is a profile, whatever was found and whatever was not."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.profiles import TokenProfileSchema
from router.errors import DataError
from router.load.calibration.fit import CalibrationFit, FittedFigure
from router.load.calibration.profile_text import (
    ProfileFacts,
    former_value,
    profile_values,
    profile_yaml,
)
from router.model import EnergyMeter
from tests.factories import task_profile, token_profile

FACTS = ProfileFacts(
    "west-0", "vllm", EnergyMeter("", "dcgm"), False, "2026-11-30T12:00Z", "2026-11-30T13:00Z"
)
KEYS = (
    "idle_w", "base_w", "w_per_token_s", "prefill_w", "tpot_base_ms", "tpot_ms_per_sequence",
    "prefill_ms_per_token",
)  # fmt: skip


def figure(key, value):
    if value is None:
        return FittedFigure(key, key, "W", math.nan, math.nan, math.nan, "there was none")
    return FittedFigure(key, key, "W", value, 0.9 * value, 1.1 * value)


def fit_of(**values):
    figures = tuple(figure(key, value) for key, value in values.items())
    return CalibrationFit(figures, 0.99, 0.99, 100, 0, 900.0, 300.0)


@given(
    st.fixed_dictionaries({key: st.none() | st.floats(0.0, 9000.0) for key in KEYS}),
    st.booleans(),
    st.booleans(),
)
def test_whatever_was_found_the_file_takes_it(values, covers_host, by_watts):
    if values["tpot_base_ms"] is not None:
        values["tpot_base_ms"] = max(values["tpot_base_ms"], 1e-3)
    if values["w_per_token_s"] is not None:
        values["w_per_token_s"] /= 10.0
    for key in ("base_w", "prefill_w"):
        if values[key] is not None:
            values[key] = max(values[key], 0.05)
    facts = FACTS._replace(
        meter=EnergyMeter("", "dcgm", covers_host=covers_host), by_watts=by_watts
    )
    if set(values.values()) == {None}:
        with pytest.raises(DataError, match=r"nothing can be told: .*idle_w: there was none"):
            profile_yaml(token_profile(), fit_of(**values), facts)
        return
    text = profile_yaml(token_profile(), fit_of(**values), facts)
    ((name, found),) = yaml.safe_load(text)["profiles"].items()
    assert name == "llama-3.1-8b:west-0@1xh100"
    built = TokenProfileSchema.model_validate(found).build(name)
    assert built.idle_w <= built.base_w <= built.prefill_w
    decisive = (values["idle_w"], values["base_w"], values["w_per_token_s"])
    assert (built.provenance == "calibrated") == (None not in decisive and not by_watts)


def test_what_is_not_known_stays_and_says_why():
    text = profile_yaml(token_profile(), fit_of(idle_w=None, base_w=500.0), FACTS)
    assert "idle_w: 90.0  # as before: there was none" in text
    assert "base_w: 500.0  # 450 to 550; was 477" in text
    assert "; as before: idle_w'" in text or "; as before: idle_w\n" in text


def test_terms_that_are_within_what_was_found_count_once():
    former = token_profile(tpot_ms_per_cached_token=1e-4, prefill_ms_per_token2=1e-6)
    values = profile_values(former, fit_of(tpot_ms_per_sequence=0.2), FACTS)
    assert (values["tpot_ms_per_cached_token"], values["prefill_ms_per_token2"]) == (0.0, 1e-6)


def test_a_meter_of_gpu_and_host_has_the_hosts_draw():
    former = token_profile(host_idle_w=100.0, host_awake_w=110.0, host_fraction=0.1)
    whole = EnergyMeter("", "emulated", covers_host=True)
    values = profile_values(former, fit_of(idle_w=200.0), FACTS._replace(meter=whole))
    assert (values["host_idle_w"], values["host_awake_w"], values["host_fraction"]) == (0, 0, 0)
    # What nothing was found of had the host's beside it, and has it within from now on.
    assert values["base_w"] == pytest.approx(477.0 * 1.1 + 110.0, rel=1e-3)
    assert values["prefill_w"] == pytest.approx(665.0 * 1.1 + 110.0, rel=1e-3)
    assert values["w_per_token_s"] == pytest.approx(0.0264)
    assert former_value(former, "idle_w", whole) == pytest.approx(199.0)
    assert former_value(former, "idle_w", FACTS.meter) == 90.0
    assert former_value(former, "w_per_token_s", whole) == pytest.approx(0.0264)
    assert former_value(former, "tpot_base_ms", whole) == 6.0


def test_a_profile_of_another_kind_is_not_filled():
    with pytest.raises(DataError, match="a profile of tokens, which the server does not count"):
        profile_yaml(token_profile(), fit_of(energy_j=2.5), FACTS)
    with pytest.raises(DataError, match="a profile of requests"):
        profile_yaml(task_profile(), fit_of(idle_w=90.0), FACTS)


def test_a_task_has_joules_a_request():
    former = task_profile()
    text = profile_yaml(former, fit_of(energy_j=2.5), FACTS)
    (found,) = yaml.safe_load(text)["profiles"].values()
    assert (found["kind"], found["energy_j"], found["provenance"]) == ("task", 2.5, "calibrated")
