from __future__ import annotations

from typing import Any

from rich.console import Console

from router.lab.study.report.distances import distance_page, distance_table, plan_lines

PARTS = {"whole_replicas": 0.021, "prompts": 0.03, "chance": 0.052, "rest": 0.13}


def plan(grams: float, unserved: float = 0.0) -> dict[str, float]:
    return {
        "gco2e_attributional": grams / 2.0,
        "gco2e_attributional_error": 1.0,
        "gco2e_consequential": grams,
        "gco2e_consequential_error": 2.0,
        "solver_gap": 1e-5,
        "unserved_share": unserved,
        "replicas_awake": 12.84,
    }


def summary(unserved: float = 0.0, valid: bool = True) -> dict[str, Any]:
    bound = {
        "gco2e_consequential": 1000.0,
        "whole_replicas": {"gco2e_attributional": 501.0, "gco2e_consequential": 1002.0},
        "plans": {
            "moments": 288, "whole": plan(1021.0), "mixed": plan(1051.0),
            "kept": plan(1103.0, unserved),
        },
    }  # fmt: skip
    one = {
        "bound": bound,
        "regret": {"attributional": 0.466, "consequential": 0.233, "valid": valid},
        "over_bound": {
            "attributional": {name: 2.0 * part for name, part in PARTS.items()},
            "consequential": PARTS,
        },
    }
    return {"policies": {"mine": one}}


def rendered(of: dict[str, Any]) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(distance_table(of))
    return capture.get()


def test_a_row_a_policy_says_what_its_distance_is_due_to() -> None:
    text = rendered(summary())
    (row,) = (line for line in text.splitlines() if line.startswith("mine"))
    assert row.split() == [
        "mine",
        "+23.3",
        "%",
        "+2.1",
        "%",
        "+3.0",
        "%",
        "+5.2",
        "%",
        "+13.0",
        "%",
    ]
    assert "estimated" in text and "no bound" in text


def test_the_lines_say_how_sure_plans_are() -> None:
    (line,) = plan_lines(summary())
    assert "bound 1 kg" in line and "can be proved 1 kg" in line
    assert "288 moments" in line and "12.8 replicas awake" in line
    assert "±0.20 %" in line and "solver's gap 0.001 %" in line


def test_what_does_not_fit_is_starred() -> None:
    lines = plan_lines(summary(unserved=0.006))
    assert lines[1].startswith("* ") and "kept 0.60 %" in lines[1]
    assert "+23.3 %*" in rendered(summary(unserved=0.006))
    assert "+23.3 %*" in rendered(summary(valid=False))


def test_the_page_has_both_accounts() -> None:
    page = distance_page(summary())
    assert "<th>of the fleet</th>" in page and "<th>of the requests</th>" in page
    assert "+13.0 %" in page and "+26.0 %" in page


def test_without_plans_there_is_nothing() -> None:
    none = {"policies": {"mine": {"over_bound": None}}}
    assert distance_table(none) is None and distance_page(none) == ""
