"""The shipped profiles against the sets they were fitted to, where those are at hand."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from router.config import shipped_profiles
from router.config.profiles import (
    ProfileSchema,
    calibrated_name,
    name_before_calibration,
)
from router.model import PromptOrder, Provenance, TokenProfile

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared" / "data" / "gpu-energy"
RUNS = "mlenergy_v3_llm_h100_b200.csv"
SPLITWISE = "splitwise_perf_power.csv"

needs_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the measured sets are not at {FOLDER}: profiles NOT refitted"
)


def tool(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def chat_j_per_token(profile: TokenProfile, batch: float, answer_tokens: float) -> float:
    """GPU joules per output token of a steady batch of the task that the fits have seen, by the
    law of iterations; written out here, apart from the code that serves.
    """
    prompt = 224.0
    prompt_ms = (
        profile.prefill_ms_per_piece
        + profile.prefill_ms_per_token * prompt
        + profile.prefill_ms_per_token2 * prompt**2 / 2
    )
    cached = prompt + answer_tokens / 2
    decode_ms = profile.tpot_base_ms + batch * (
        profile.tpot_ms_per_sequence + profile.tpot_ms_per_cached_token * cached
    )
    prompts_ms = batch / answer_tokens * prompt_ms
    joules = (profile.base_w * decode_ms + profile.prefill_w * prompts_ms) / 1000.0
    return joules / batch + profile.w_per_token_s


def test_every_shipped_profile_states_where_it_comes_from() -> None:
    profiles = shipped_profiles()
    assert {"llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100", "llama-3.1-405b@8xh100"} <= set(profiles)
    for name, profile in profiles.items():
        assert isinstance(profile, TokenProfile), name
        assert profile.name == name
        assert profile.provenance is Provenance.MEASURED
        assert "ML.ENERGY" in profile.source
        assert "prompts of 224 tokens taken out" in profile.source
        assert "estimated" in profile.source
        gpus = int(name.rpartition("@")[2].partition("x")[0])
        assert profile.host_fraction == 0
        assert profile.host_awake_w == profile.host_idle_w == 105 * gpus
        assert 60 <= profile.idle_w / gpus <= 120
        assert profile.target_batch <= profile.max_batch / 2


def test_prompts_cost_power_near_the_limit_and_time_beside_the_iteration() -> None:
    for name, profile in shipped_profiles().items():
        assert isinstance(profile, TokenProfile), name
        limit_w = {"h100": 700, "b200": 1000}[name[-4:]] * int(name.rpartition("@")[2][0])
        assert profile.base_w < profile.prefill_w_low < profile.prefill_w < profile.prefill_w_high
        assert profile.prefill_w_high == limit_w
        assert profile.tpot_ms_per_cached_token > 0
        # The marginal token costs twice as much somewhere between a few thousand and many.
        assert 3_000 < profile.prefill_ms_per_token / profile.prefill_ms_per_token2 < 100_000, name
        assert profile.max_batched_tokens == {"h100": 8192, "b200": 16384}[name[-4:]]


def test_only_servers_that_showed_it_have_a_cost_a_piece() -> None:
    profiles = shipped_profiles()
    costly = {
        name
        for name, profile in profiles.items()
        if isinstance(profile, TokenProfile) and profile.prefill_ms_per_piece > 0
    }
    # State-space layers, and small models on B200s.
    assert costly == {
        "gemma-3-12b@1xb200",
        "gemma-3-27b@1xb200",
        "nemotron-nano-12b-v2@1xh100",
        "nemotron-nano-9b-v2@1xh100",
    }


def test_bigger_models_cost_more_and_bigger_batches_less() -> None:
    profiles = shipped_profiles()
    costs = []
    for name in ("llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100", "llama-3.1-405b@8xh100"):
        profile = profiles[name]
        assert isinstance(profile, TokenProfile)
        by_batch = [chat_j_per_token(profile, batch, 400.0) for batch in (8, 64, 256)]
        assert by_batch == sorted(by_batch, reverse=True)
        costs.append(by_batch[1])
    assert costs[0] * 4 < costs[1] < costs[2] / 3


@needs_data
def test_the_file_is_what_the_fit_gives() -> None:
    fit = tool("fit_profiles")
    assert fit.build(FOLDER) == fit.TARGET.read_text(encoding="utf-8")


@needs_data
@pytest.mark.parametrize(
    ("name", "base_w", "itl_base_ms", "itl_slope_ms", "measured_j"),
    [
        ("llama-3.1-8b@1xh100", 477, 6.2, 0.081, {8: 0.455, 64: 0.119, 256: 0.077}),
        ("llama-3.1-70b@4xh100", 1672, 15.3, 0.107, {8: 3.76, 64: 0.80, 256: 0.48}),
        ("llama-3.1-405b@8xh100", 3088, 31.3, 0.144, {8: 13.97, 64: 3.08, 256: 2.06}),
    ],
)
def test_the_published_table_is_recovered(
    name: str, base_w: float, itl_base_ms: float, itl_slope_ms: float, measured_j: dict[int, float]
) -> None:
    serving_fit = tool("serving_fit")
    run = serving_fit.read_runs(FOLDER / RUNS, "lm-arena-chat")[name]
    profile = shipped_profiles()[name]
    assert isinstance(profile, TokenProfile)
    assert profile.base_w == pytest.approx(base_w, abs=0.5)
    median = serving_fit.fit_line(run.batch, run.median_itl_ms)
    assert (median.base, median.slope) == pytest.approx((itl_base_ms, itl_slope_ms), abs=0.06)
    # Of the GPUs alone, as they were measured.
    profile = replace(profile, host_awake_w=0.0, host_fraction=0.0)
    for batch, joules in measured_j.items():
        at = int(np.flatnonzero(run.max_num_seqs == batch)[0])
        assert run.j_per_token[at] == pytest.approx(joules, rel=0.01)
        implied = chat_j_per_token(profile, run.batch[at], run.answer_tokens[at])
        assert implied == pytest.approx(joules, rel=0.08)


@needs_data
def test_what_prompts_took_is_near_what_the_latencies_show() -> None:
    fit, serving_fit = tool("fit_profiles"), tool("serving_fit")
    for name, (run, found) in fit.fits(FOLDER).items():
        share = serving_fit.prompt_ms(run) / found.prefill.time_ms(serving_fit.PROMPT_TOKENS)
        assert 0.6 < share <= 1.001, name


@needs_data
def test_the_law_meets_tasks_that_it_has_not_seen() -> None:
    serving_fit = tool("serving_fit")
    reference = serving_fit.read_reference(FOLDER / SPLITWISE)
    chat = serving_fit.read_runs(FOLDER / RUNS, "lm-arena-chat")
    for task, prompt, name, within in (
        ("image-chat", 330.0, "gemma-3-27b@2xh100", 0.09),
        ("gpqa", 634.0, "qwen3-14b@1xh100", 0.09),
        ("gpqa", 634.0, "qwen3-8b@1xh100", 0.19),
    ):
        run = serving_fit.read_runs(FOLDER / RUNS, task)[name]
        made = serving_fit.fit(chat[name], reference)
        law = made.j_per_token(run.batch, prompt, run.answer_tokens) / run.j_per_token
        as_chat = np.interp(run.batch, chat[name].batch, chat[name].j_per_token) / run.j_per_token
        assert abs(law - 1).max() < within, name
        assert abs(law - 1).mean() < abs(as_chat - 1).mean(), name


@needs_data
def test_the_median_gap_would_price_tokens_too_low() -> None:
    serving_fit = tool("serving_fit")
    run, found = tool("fit_profiles").fits(FOLDER)["llama-3.1-405b@8xh100"]
    power = serving_fit.fit_line(run.token_s, run.power_w)
    median = serving_fit.fit_line(run.batch, run.median_itl_ms)
    rate = run.batch * 1000.0 / (median.base + median.slope * run.batch)
    error = (power.base / rate + power.slope) / run.j_per_token - 1.0
    assert error.min() < -0.2
    assert found.j_error < 0.05


@needs_data
def test_prefill_is_scaled_from_the_measured_reference() -> None:
    serving_fit = tool("serving_fit")
    prefill = serving_fit.read_reference(FOLDER / SPLITWISE)
    profile = shipped_profiles()["llama-3.1-70b@4xh100"]
    assert isinstance(profile, TokenProfile)
    # An iteration is in the reference's intercept.
    whole_ms = profile.prefill_base_ms + profile.tpot_base_ms
    assert whole_ms == pytest.approx(prefill.base, abs=0.1)
    assert profile.prefill_ms_per_token == pytest.approx(prefill.slope, rel=0.001)
    assert profile.prefill_ms_per_token2 == pytest.approx(prefill.slope / 10_000, rel=0.001)
    assert prefill.r2 > 0.95
    for tokens, measured_ms in ((4096, 463.5), (8192, 953.6)):
        made_ms = prefill.base + prefill.slope * (tokens + tokens**2 / 2 / serving_fit.DOUBLES_AT)
        assert made_ms == pytest.approx(measured_ms, rel=0.06)


# What an operator may say of hardware of their own

OURS = {
    "kind": "token", "idle_w": 80, "base_w": 400, "w_per_token_s": 0.02, "tpot_base_ms": 6,
    "tpot_ms_per_sequence": 0.1, "prefill_base_ms": 2, "prefill_ms_per_token": 0.05,
    "prefill_w": 600, "max_batch": 64, "target_batch": 16, "host_fraction": 0.1,
}  # fmt: skip


def ours(**changes: object) -> TokenProfile:
    schema = TypeAdapter(ProfileSchema).validate_python({**OURS, **changes})
    built = schema.build("ours")
    assert isinstance(built, TokenProfile)
    return built


def test_what_is_not_said_of_prompts_is_nothing_or_as_engines_have_it() -> None:
    profile = ours()
    assert profile.prefill_w == profile.prefill_w_low == profile.prefill_w_high == 600.0
    assert profile.prefill_ms_per_piece == profile.prefill_ms_per_token2 == 0.0
    assert profile.tpot_ms_per_cached_token == 0.0
    assert (profile.host_awake_w, profile.host_idle_w) == (0.0, 0.0)
    assert (profile.max_batched_tokens, profile.prompt_order) == (8192, PromptOrder.FCFS)


def test_all_that_is_said_of_prompts_arrives() -> None:
    said: dict[str, object] = {
        "prefill_w_low": 500, "prefill_w_high": 700, "prefill_ms_per_piece": 1.5,
        "prefill_ms_per_token2": 1e-5, "tpot_ms_per_cached_token": 1e-4, "host_awake_w": 100,
        "host_idle_w": 60, "max_batched_tokens": 2048, "prompt_order": "slot",
    }  # fmt: skip
    profile = ours(**said)
    for key, value in said.items():
        assert getattr(profile, key) == value
    assert profile.prompt_order is PromptOrder.SLOT


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target_batch": 65}, "target_batch (65) must not exceed max_batch (64)"),
        ({"max_batched_tokens": 64}, "max_batched_tokens (64) must exceed max_batch (64)"),
        ({"idle_w": 401}, "idle_w (401) must not exceed base_w (400)"),
        ({"prefill_w": 399}, "base_w (400) must not exceed prefill_w (399)"),
        ({"host_idle_w": 1}, "host_idle_w (1) must not exceed host_awake_w (0)"),
        ({"prefill_w_low": 601}, "prefill_w_low (601) must not exceed prefill_w (600)"),
        ({"prefill_w_high": 599}, "prefill_w (600) must not exceed prefill_w_high (599)"),
        ({"prefill_w": None}, "valid number"),
        ({"prompt_order": "lifo"}, "'fcfs' or 'slot'"),
        ({"max_batched_tokens": 1}, "greater than or equal to 2"),
        ({"prefill_ms_per_token2": -1e-9}, "greater than or equal to 0"),
        ({"prefill_ms_per_piece": -1}, "greater than or equal to 0"),
        ({"tpot_ms_per_cached_token": float("inf")}, "finite number"),
        ({"host_awake_w": float("nan")}, "finite number"),
    ],
)
def test_figures_that_cannot_be_are_refused_and_why(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(text)):
        ours(**changes)


def test_ends_that_meet_are_no_error() -> None:
    assert ours(idle_w=400, prefill_w=400, prefill_w_low=400, prefill_w_high=400).prefill_w == 400.0
    assert ours(max_batched_tokens=65).max_batched_tokens == 65


def test_a_profile_without_the_power_of_prompts_is_incomplete() -> None:
    left = {key: value for key, value in OURS.items() if key != "prefill_w"}
    with pytest.raises(ValidationError, match="prefill_w"):
        TypeAdapter(ProfileSchema).validate_python(left)


def test_a_calibrated_profile_says_on_which_meter_and_until_when() -> None:
    told = {"provenance": "calibrated", "calibrated_on": "west-0"}
    built = ours(**told, as_of=date(2026, 11, 30))
    assert (built.provenance, built.calibrated_on) == (Provenance.CALIBRATED, "west-0")
    assert built.as_of == "2026-11-30"
    for changes, text in (
        (told, "calibrated needs as_of"),
        ({"provenance": "calibrated"}, "calibrated needs calibrated_on and as_of"),
        ({"calibrated_on": "west-0"}, "and this one is estimated"),
        ({"as_of": "last week"}, "last week"),
        ({**told, "as_of": "2026-11-30T08:00+09:00"}, "is not UTC; write 2026-11-29T23:00Z"),
    ):
        with pytest.raises(ValidationError, match=re.escape(text)):
            ours(**changes)


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("llama-3.1-8b@1xh100", "llama-3.1-8b:west/0@1xh100"),
        ("own", "own:west/0"),
        ("a@b@2xb200", "a@b:west/0@2xb200"),
    ],
)
def test_a_calibrated_profile_ends_with_its_hardware(former: str, name: str) -> None:
    assert calibrated_name(former, "west/0") == name
    assert name_before_calibration(name) == former == name_before_calibration(former)
