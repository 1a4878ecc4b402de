"""New values in a policy file's own text."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.document import parse
from router.config.free_parameters import with_values
from router.config.policy import PolicySchema
from router.lab.study.tune_files import rewritten


def change(text: str, changes: dict[str, Any]) -> str:
    schema = PolicySchema.model_validate(parse(text, "p.yaml"))
    wanted = with_values(schema, changes)
    found = rewritten(text, changes, wanted)
    assert PolicySchema.model_validate(parse(found, "p.yaml")).model_dump() == wanted.model_dump()
    return found


def test_values_change_in_place() -> None:
    text = "# top\nweights: {per_gco2e: 1.0}  # w\nnear_tie: 0.01  # t\nspread: pack\n"
    found = change(text, {"near_tie": 0.0125, "spread": "spread", "weights.per_gco2e": 2.5})
    expected = "# top\nweights: {per_gco2e: 2.5}  # w\nnear_tie: 0.0125  # t\nspread: spread\n"
    assert found == expected


def test_a_missing_key_goes_above_what_is_free() -> None:
    text = "weights:\n  per_gco2e: 1.0\n# ranges\nfree:\n  near_tie: {low: 0, high: 1}\n"
    found = change(text, {"near_tie": 0.5})
    assert found.endswith("# ranges\nnear_tie: 0.5\nfree:\n  near_tie: {low: 0, high: 1}\n")


def test_a_missing_key_of_a_nested_mapping() -> None:
    block = "weights:\n  per_gco2e: 1.0\n"
    assert change(block, {"weights.per_load": 0.5}) == (
        "weights:\n  per_load: 0.5\n  per_gco2e: 1.0\n"
    )
    flow = "weights: {per_gco2e: 1.0}\n"
    assert change(flow, {"weights.per_load": 0.5}) == "weights: {per_gco2e: 1.0, per_load: 0.5}\n"
    assert "budget: {e2e_ms: 900.0}" in change(flow, {"budget.e2e_ms": 900.0})


@pytest.mark.parametrize(
    "text",
    [
        "weights: &w {per_gco2e: 1.0}\nfree:\n  near_tie: &range {low: 0, high: 1}\n"
        "  pack_until: {values: [0.5, 1]}\nbudget: {}\n",
        "{weights: {per_gco2e: 1.0}, near_tie: 0.1}",
        "weights: {per_gco2e: 1.0}\nnear_tie:\n  0.1\n",
        "---\nweights: {per_gco2e: 1.0}\nnear_tie: 0.1\n...\n",
        "weights: {per_gco2e: 1.0}\n'near_tie': 0.1\n",
    ],
)
def test_unusual_layouts_still_say_what_they_should(text: str) -> None:
    change(text, {"near_tie": 0.25, "budget.e2e_ms": 100.0, "annual_mean": True})


def test_an_alias_is_written_anew_without_it() -> None:
    text = "weights: {per_gco2e: &x 0.5}\nnear_tie: *x\n"
    found = change(text, {"near_tie": 0.25})
    assert parse(found, "p.yaml") == {"weights": {"per_gco2e": 0.5}, "near_tie": 0.25}
