"""The shipped profiles against the sets they were fitted to, where those are at hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from router.config import shipped_profiles
from router.core.energy import attributional_j_per_token
from router.model import Provenance, TokenProfile

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT.parent / "shared" / "data" / "gpu-energy"

needs_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the measured sets are not at {FOLDER}: profiles NOT refitted"
)


def fitter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_profiles", ROOT / "tools/fit_profiles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_profiles"] = module
    spec.loader.exec_module(module)
    return module


def test_every_shipped_profile_states_where_it_comes_from() -> None:
    profiles = shipped_profiles()
    assert {"llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100", "llama-3.1-405b@8xh100"} <= set(profiles)
    for name, profile in profiles.items():
        assert isinstance(profile, TokenProfile), name
        assert profile.name == name
        assert profile.provenance is Provenance.MEASURED
        assert "ML.ENERGY" in profile.source
        assert "estimated" in profile.source
        assert profile.host_fraction == 0.3
        gpus = int(name.rpartition("@")[2].partition("x")[0])
        assert 60 <= profile.idle_w / gpus <= 120
        assert profile.target_batch <= profile.max_batch / 2
        tpot_ms = profile.tpot_base_ms + profile.tpot_ms_per_sequence * profile.target_batch
        assert tpot_ms <= 40.0


def test_bigger_models_cost_more_and_bigger_batches_less() -> None:
    profiles = shipped_profiles()
    costs = []
    for name in ("llama-3.1-8b@1xh100", "llama-3.1-70b@4xh100", "llama-3.1-405b@8xh100"):
        profile = profiles[name]
        assert isinstance(profile, TokenProfile)
        by_batch = [attributional_j_per_token(profile, batch) for batch in (8, 64, 256)]
        assert by_batch == sorted(by_batch, reverse=True)
        costs.append(by_batch[1])
    assert costs[0] * 4 < costs[1] < costs[2] / 3


@needs_data
def test_the_file_is_what_the_fit_gives() -> None:
    fit = fitter()
    assert fit.build(FOLDER) == fit.TARGET.read_text(encoding="utf-8")


@needs_data
@pytest.mark.parametrize(
    ("name", "base_w", "w_per_token_s", "itl_base_ms", "itl_slope_ms", "measured_j"),
    [
        ("llama-3.1-8b@1xh100", 477, 0.024, 6.2, 0.081, {8: 0.455, 64: 0.119, 256: 0.077}),
        ("llama-3.1-70b@4xh100", 1671, 0.133, 15.3, 0.107, {8: 3.76, 64: 0.80, 256: 0.48}),
        ("llama-3.1-405b@8xh100", 3084, 0.793, 31.3, 0.144, {8: 13.97, 64: 3.08, 256: 2.06}),
    ],
)
def test_the_published_table_is_recovered(
    name: str,
    base_w: float,
    w_per_token_s: float,
    itl_base_ms: float,
    itl_slope_ms: float,
    measured_j: dict[int, float],
) -> None:
    fit = fitter()
    run = fit.read_runs(FOLDER / "mlenergy_v3_llm_h100_b200.csv")[name]
    profile = shipped_profiles()[name]
    assert isinstance(profile, TokenProfile)
    assert profile.base_w == pytest.approx(base_w, abs=0.5)
    assert profile.w_per_token_s == pytest.approx(w_per_token_s, abs=0.0006)
    median = fit.fit_line(run.batch, run.median_itl_ms)
    assert (median.base, median.slope) == pytest.approx((itl_base_ms, itl_slope_ms), abs=0.06)
    for batch, joules in measured_j.items():
        at = int(np.flatnonzero(run.max_num_seqs == batch)[0])
        assert run.j_per_token[at] == pytest.approx(joules, rel=0.01)
        assert attributional_j_per_token(profile, run.batch[at]) == pytest.approx(joules, rel=0.08)


@needs_data
def test_the_median_gap_would_price_tokens_too_low() -> None:
    fit = fitter()
    run = fit.read_runs(FOLDER / "mlenergy_v3_llm_h100_b200.csv")["llama-3.1-405b@8xh100"]
    found = fit.fit(run)
    median = fit.fit_line(run.batch, run.median_itl_ms)
    rate = run.batch * 1000.0 / (median.base + median.slope * run.batch)
    error = (found.power.base / rate + found.power.slope) / run.j_per_token - 1.0
    assert error.min() < -0.2
    assert found.j_error < 0.05


@needs_data
def test_prefill_is_scaled_from_the_measured_reference() -> None:
    prefill = fitter().read_prefill(FOLDER / "splitwise_perf_power.csv")
    profile = shipped_profiles()["llama-3.1-70b@4xh100"]
    assert isinstance(profile, TokenProfile)
    assert profile.prefill_base_ms == pytest.approx(prefill.base, abs=0.1)
    # Llama-3.1-70B counts 70.6 rather than 70 billion parameters.
    assert profile.prefill_ms_per_token == pytest.approx(prefill.slope, rel=0.02)
    assert prefill.r2 > 0.95
