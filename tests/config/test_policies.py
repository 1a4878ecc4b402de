"""The shipped policies: each loads, is what its page says, and the page names every field."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from router.config.loading import shipped_policies
from router.config.policy import PolicySchema
from router.model import Energy, Policy, Relax, Spread, StaleCarbon, Weights
from tests.factories import shipped_policy

PAGE = Path(__file__).resolve().parents[2] / "policies" / "README.md"


@pytest.mark.parametrize(
    ("name", "weights", "spread", "near_tie"),
    [
        ("carbon-first", Weights(per_gco2e=1.0), Spread.PACK, 0.002),
        ("carbon-first-spread", Weights(per_gco2e=1.0), Spread.SPREAD, 0.002),
        ("latency-first", Weights(per_ttft_ms=1.0), Spread.SPREAD, 0.05),
        ("latency-first-packed", Weights(per_ttft_ms=1.0), Spread.PACK, 0.05),
        ("least-loaded", Weights(per_load=1.0), Spread.SPREAD, 0.0),
        ("round-robin", Weights(per_turn=1.0), Spread.SPREAD, 0.0),
        ("static-greenest", Weights(per_gco2e=1.0), Spread.SPREAD, 0.002),
        ("static-greenest-packed", Weights(per_gco2e=1.0), Spread.PACK, 0.002),
        ("balanced", Weights(per_gco2e=1.0, per_e2e_ms=5e-7), Spread.PACK, 0.02),
    ],
)
def test_what_each_shipped_policy_weighs(
    name: str, weights: Weights, spread: Spread, near_tie: float
) -> None:
    built = shipped_policy(name)
    assert built.name == name
    assert built.weights == weights
    assert built.spread is spread
    assert built.near_tie == near_tie
    assert built.quantile == 0.95
    assert built.annual_mean is name.startswith("static-greenest")


def test_these_are_all() -> None:
    assert set(shipped_policies()) == {
        "balanced",
        "carbon-first",
        "carbon-first-spread",
        "latency-first",
        "latency-first-packed",
        "least-loaded",
        "round-robin",
        "static-greenest",
        "static-greenest-packed",
    }


def test_baselines_that_split_a_saving_differ_in_one_thing() -> None:
    """Else a step from one to the next would have several causes."""

    def changed(name: str, **changes: object) -> Policy:
        return replace(shipped_policy(name), **changes)  # type: ignore[arg-type]

    unpacked = {"spread": Spread.SPREAD, "wake_share": 0.0, "pack_until": 1.0}
    for name, wanted in (
        ("latency-first-packed", changed("latency-first", spread=Spread.PACK, pack_within=1000.0)),
        ("static-greenest-packed", changed("carbon-first", annual_mean=True)),
        ("carbon-first-spread", changed("carbon-first", **unpacked)),
        ("static-greenest", changed("carbon-first", annual_mean=True, **unpacked)),
    ):
        assert shipped_policy(name) == replace(wanted, name=name)


def test_baselines_differ_from_carbon_first_in_weights_and_ties_only() -> None:
    ours = shipped_policy("carbon-first")
    assert ours.energy is Energy.LONG_RUN
    assert ours.pack_until == 1.0
    assert (ours.wake_share, ours.scarcity) == (0.03, 0.9)
    # Latency has a weight there, and an empty replica is the fastest.
    balanced = shipped_policy("balanced")
    assert (balanced.wake_share, balanced.scarcity) == (1.0, 0.9)
    assert ours.ladder == (Relax.CARBON, Relax.POLICY_LATENCY)
    assert ours.stale_carbon is StaleCarbon.USE_FLAGGED
    for name in shipped_policies():
        other = shipped_policy(name)
        assert (other.quantile, other.budget, other.ladder) == (
            ours.quantile,
            ours.budget,
            ours.ladder,
        )
        assert (other.max_gco2e, other.max_g_per_kwh) == (ours.max_gco2e, ours.max_g_per_kwh)


def test_the_page_has_a_row_for_every_field_and_a_section_for_every_policy() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = {name for line in page.splitlines() for name in re.findall(r"^\| (.+?) \|", line)}
    named = set(re.findall(r"`([a-z_0-9.]+)`", " ".join(rows)))
    wanted = set()
    for name, field in PolicySchema.model_fields.items():
        inner = {"weights": 5, "budget": 3, "signal": 2}.get(name)
        if inner is None:
            wanted.add(name)
        else:
            listed = {row for row in named if row.startswith(f"{name}.")}
            assert len(listed) == inner, field
    assert wanted <= named
    for name in shipped_policies():
        assert f"### {name}\n" in page
        section = page.split(f"### {name}\n")[1].split("\n#")[0]
        for part in ("**Formula:**", "**Inputs:**", "**Parameters:**", "**Limitations:**"):
            assert part in section
