from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.samples import loaded, problems

SLOW = {
    "kind": "token",
    "idle_w": 1,
    "base_w": 10,
    "w_per_token_s": 0,
    "tpot_base_ms": 20,
    "tpot_ms_per_sequence": 1,
    "prefill_base_ms": 10,
    "prefill_ms_per_token": 0.5,
    "prefill_w": 20,
    "max_batch": 8,
    "target_batch": 4,
    "host_fraction": 0,
}


def changes(budget: dict[str, float], ladder: list[str]) -> dict[str, Any]:
    """One slow language model in the west: idle TTFT 2 + 10 + 20 + 0.5 * 180 = 122 ms, of which
    20 are the fixed time of its iteration; TPOT 21 ms, and 200 tokens of answer."""
    return {
        "profiles/slow@gpu": SLOW,
        "endpoints/0/models": [{"name": "llama-3.1-8b", "profile": "slow@gpu"}],
        "endpoints/1/models": [{"name": "classifier", "profile": "classifier@cpu"}],
        "policy": {"weights": {"per_gco2e": 1}, "budget": budget, "ladder": ladder},
    }


@pytest.mark.parametrize(
    ("budget", "takes"),
    [({"ttft_ms": 121.9}, "122 ms"), ({"tpot_ms": 20.9}, "21 ms"), ({"e2e_ms": 4321}, "4322 ms")],
)
def test_a_budget_below_the_floor_is_refused_where_it_is_never_relaxed(
    tmp_path: Path, budget: dict[str, float], takes: str
) -> None:
    found = problems(tmp_path, changes(budget, ["carbon"]))
    (key,) = budget
    text = found[f"policy.budget.{key}"]
    assert "can never be met for llama-3.1-8b: its fastest endpoint (west-0" in text
    assert takes in text


@pytest.mark.parametrize("budget", [{"ttft_ms": 122.1}, {"tpot_ms": 21.1}, {"e2e_ms": 4322.1}])
def test_a_budget_at_the_floor_is_accepted(tmp_path: Path, budget: dict[str, float]) -> None:
    config = loaded(tmp_path, changes(budget, []))
    assert not [note for note in config.notes if "budget" in note]


def test_where_some_models_can_meet_it_and_it_may_be_relaxed_it_is_a_note(tmp_path: Path) -> None:
    config = loaded(tmp_path, changes({"ttft_ms": 50}, ["policy_latency"]))
    (note,) = [note for note in config.notes if "budget" in note]
    assert "llama-3.1-8b" in note
    assert "it will always be relaxed" in note


def test_where_no_model_can_meet_it_the_ladder_does_not_help(tmp_path: Path) -> None:
    found = problems(tmp_path, changes({"ttft_ms": 20}, ["policy_latency"]))
    assert "raise it" in found["policy.budget.ttft_ms"]


def test_the_fastest_replica_counts_not_the_first(tmp_path: Path) -> None:
    varied = changes({"ttft_ms": 50}, [])
    varied["endpoints/1/models"] = [
        {"name": "classifier", "profile": "classifier@cpu"},
        {"name": "llama-3.1-8b", "profile": "llama-3.1-8b@1xh100"},
    ]
    assert loaded(tmp_path, varied).policy.budget.ttft_ms == 50.0


EU_ONLY = {"weights": {"per_gco2e": 1}, "residency": ["eu"]}
BOTH = {"regions/us-east/residency": ["eu"], "regions/us-west/residency": ["us"]}


def test_a_model_that_residency_leaves_no_endpoint_is_a_problem(tmp_path):
    found = problems(tmp_path, {**BOTH, "models/classifier": {"residency": ["us"]}})
    assert "no endpoint of classifier" in found["models.classifier.residency"]
    both = {**BOTH, "policy": EU_ONLY, "models/llama-3.1-8b/residency": ["us"]}
    assert "model and the policy may run" in problems(tmp_path, both)["policy.residency"]


def test_a_tenant_without_any_model_is_a_problem_and_without_some_a_note(tmp_path):
    tenant = {"tenants": {"acme": {"residency": ["us"]}}}
    found = problems(tmp_path, {**BOTH, **tenant, "policy": EU_ONLY})
    assert "no endpoint of any model" in found["tenants.acme.residency"]
    notes = loaded(tmp_path, {**BOTH, **tenant}).notes
    assert "tenants.acme.residency: leaves no endpoint of classifier" in notes


def test_a_tensor_model_may_have_a_residency_without_lengths(tmp_path):
    config = loaded(tmp_path, {**BOTH, "models/classifier": {"residency": ["eu"]}})
    assert config.fleet.residency.models == {"classifier": frozenset({"eu"})}
    assert config.fleet.priors["classifier"].output_tokens == 1.0
