"""What a policy lets the tuner change, and that serving only shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.free_parameters import value_of, with_values
from router.config.loading import parse_policy, shipped_policies
from router.config.policy import PolicySchema
from router.errors import ConfigError
from router.operator.show.summary import render_summary
from tests.config.samples import loaded


def parse(free: Any, **others: Any) -> PolicySchema:
    values = {"weights": {"per_gco2e": 1.0}, **others, "free": free}
    schema, _ = parse_policy(values, Path("config.yaml"))
    return schema


def problem(free: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(free)
    ((key, text),) = caught.value.problems
    return f"{key}: {text}"


def test_ranges_and_lists() -> None:
    schema = parse({
        "near_tie": {"low": 0, "high": 0.1},
        "spread": ["pack", "spread"],
        "annual_mean": [True, False],
        "weights.per_e2e_ms": {"low": 1e-6, "high": 1e-3, "log": True},
        "budget.e2e_ms": {"low": 1000, "high": 9000},
        "max_g_per_kwh": {"low": 100, "high": 900},
    })  # fmt: skip
    assert {path: str(wanted) for path, wanted in schema.free.items()} == {
        "near_tie": "0 to 0.1",
        "spread": "pack or spread",
        "annual_mean": "true or false",
        "weights.per_e2e_ms": "1e-06 to 0.001 (log)",
        "budget.e2e_ms": "1000 to 9000",
        "max_g_per_kwh": "100 to 900",
    }


@pytest.mark.parametrize(
    ("free", "text"),
    [
        ({"near_ties": {"low": 0, "high": 1}}, "policy.free: near_ties: unknown field"),
        ({"near_ties": {"low": 0, "high": 1}}, "did you mean 'near_tie'?"),
        ({"weights.per_gram": {"low": 0, "high": 1}}, "unknown field 'weights.per_gram'"),
        ({"weights": {"low": 0, "high": 1}}, "weights: unknown field"),
        ({"name": ["a", "b"]}, "name: cannot be tuned"),
        ({"ladder": ["carbon", "policy_latency"]}, "ladder: cannot be tuned"),
        ({"free": [1, 2]}, "free: cannot be tuned"),
        ({"near_tie": {"low": 0, "high": 2}}, "near_tie: 2.0 is no value for it: "),
        ({"near_tie": {"low": 0, "high": 2}}, "less than or equal to 1"),
        ({"spread": ["pack", "stack"]}, "spread: 'stack' is no value for it: must be one of"),
        ({"weights.per_gco2e": [-1.0, 1.0]}, "weights.per_gco2e: -1.0 is no value for it: "),
        ({"near_tie": {"low": 0.1, "high": 0.1}}, "low 0.1 must lie below high 0.1"),
        ({"near_tie": {"low": 0, "high": 0.1, "log": True}}, "log needs low above 0, got 0"),
        ({"near_tie": {"low": 0}}, "policy.free.near_tie: needs low and high"),
        ({"near_tie": {"lo": 0, "high": 1}}, "policy.free.near_tie.lo: unknown key 'lo'"),
        ({"spread": ["pack"]}, "at least two values"),
        ({"spread": {"values": ["pack", "spread"], "low": 1}}, "not both"),
        ({"near_tie": 0.1}, "policy.free.near_tie: expected a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(free: Any, text: str) -> None:
    assert text in problem(free)


def test_what_only_fails_beside_other_values_is_left_to_the_search() -> None:
    """Either weight may be 0, as long as the other one is not."""
    free = {"weights.per_gco2e": [0.0, 1.0], "weights.per_load": [0.0, 1.0]}
    schema = parse(free)
    assert with_values(schema, {"weights.per_load": 1.0, "weights.per_gco2e": 0.0}).free


def test_every_mistake_is_said_at_once() -> None:
    text = problem({"near_ties": [0, 1], "pack_until": {"low": 0, "high": 0.9}})
    assert "near_ties: unknown" in text
    assert "pack_until: 0.0 is no value" in text


def test_values_are_put_in_by_path() -> None:
    schema = parse({"near_tie": [0.0, 0.5]}, budget={"e2e_ms": 900.0})
    changed = with_values(schema, {"near_tie": 0.5, "budget.ttft_ms": 100.0, "weights.per_load": 2})
    assert value_of(changed, "budget.ttft_ms") == 100.0
    assert value_of(changed, "budget.e2e_ms") == 900.0
    assert value_of(changed, "weights.per_gco2e") == 1.0
    assert value_of(schema, "weights.per_load") == 0.0
    assert changed.free == schema.free


def test_serving_takes_the_key_and_check_shows_it(tmp_path: Path) -> None:
    free = {"near_tie": {"low": 0, "high": 0.25}}
    policy = {"weights": {"per_gco2e": 1.0}, "near_tie": 0.03, "free": free}
    config = loaded(tmp_path, {"policy": policy})
    assert config.policy.near_tie == 0.03
    assert config.free == {"near_tie": "0 to 0.25"}
    assert config.notes == ()
    shown = [str(part) for part in render_summary(config, config.notes).renderables]
    assert "free for `tune` (not used by serve): near_tie 0 to 0.25" in shown


@pytest.mark.parametrize("name", sorted(shipped_policies()))
def test_shipped_policies_lie_within_what_they_leave_free(name: str) -> None:
    schema, _ = parse_policy(name, Path("config.yaml"))
    assert schema.free
    for path, wanted in schema.free.items():
        value = value_of(schema, path)
        if wanted.values is not None:
            assert value in wanted.values
        else:
            low, high = wanted.ends()
            assert float(low) <= value <= float(high)


def test_the_example_of_the_page_is_valid() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "tune.md"
    text = page.read_text(encoding="utf-8")
    for block in text.split("```yaml\n")[1:]:
        data = yaml.safe_load(block.split("```")[0])
        if isinstance(data, dict) and "free" in data:
            parse(data["free"])
            return
    pytest.fail("docs/tune.md shows no `free`")
