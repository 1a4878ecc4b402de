from __future__ import annotations

import math
from typing import Any

from rich.console import Console

from router.lab.study.causes import ChainOrder, SavingCause
from router.lab.study.report.splits import (
    cause_cell,
    split_page,
    split_rows,
    split_table,
    split_words,
    with_interval,
)

UNKNOWN = {"mean": math.nan, "low": math.nan, "high": math.nan}


def figure(mean: float, half: float = math.nan) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half}


def both(mean: float, half: float = math.nan) -> dict[str, Any]:
    return {"consequential": figure(mean, half), "attributional": figure(2.0 * mean, half)}


def split(half: float = math.nan, **changes: Any) -> dict[str, Any]:
    causes = {str(cause): both(0.0) for cause in SavingCause}
    step = {
        "cause": "packing", "from": "a <b>", "to": "c", "consequential": 0.2, "attributional": 0.3,
        "tpot_ms_before": {"p50": 26.0, "p95": 30.0}, "tpot_ms_after": {"p50": 42.0, "p95": 45.0},
        "equal_work": True, "quality_before": math.nan, "quality_after": math.nan,
    }  # fmt: skip
    return {
        "total": both(0.25, half),
        "packing_first": causes | {"packing": both(0.2, half), "when": both(0.05), "steps": [step]},
        "packing_last": causes | {"packing": both(0.01, half), "when": both(0.05), "steps": []},
        "absent": {"waiting": "nothing may wait in this scenario",
                   "which_model": "no aliases in this scenario",
                   "scale_down": "no autoscaling in this scenario"},
        "equal_work": True,
        "tpot_ms_of_baseline": {"p50": 26.0, "p95": 30.0},
        "tpot_ms": {"p50": 42.0, "p95": 45.0},
        "quality_of_baseline": math.nan,
        "quality": math.nan,
        **changes,
    }  # fmt: skip


def printed(what: Any) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(what)
    return capture.get()


def test_each_order_has_a_row_and_equal_ones_share_it() -> None:
    causes = (SavingCause.PACKING, SavingCause.WHEN)
    assert split_rows("b", split(), causes) == [
        ("b", "packing first", "25.0 %", "20.0 %", "5.0 %", "26.0, 30.0 -> 42.0, 45.0 ms"),
        ("", "packing last", "", "1.0 %", "5.0 %", ""),
    ]
    (row,) = split_rows("b", split(), (SavingCause.WHEN,), "attributional")
    assert row[:4] == ("b", "either", "50.0 %", "10.0 %")
    cell = cause_cell(split(), SavingCause.WHICH_MODEL, ChainOrder.PACKING_FIRST)
    assert cell == "no aliases"
    assert split_words(split()) == "packing 1.0 to 20.0 %, when 5.0 %"


def test_an_interval_stands_where_there_is_one_and_zero_has_no_sign() -> None:
    assert with_interval(figure(0.204, 0.003)) == "20.4 ±0.3 %"
    assert with_interval(figure(-0.0001)) == "0.0 %"
    assert with_interval(figure(-0.02)) == "-2.0 %"
    assert with_interval(UNKNOWN) == "-"


def test_the_table_names_baseline_cause_price_and_what_was_not_chosen() -> None:
    text = printed(split_table("mine", {"nearest": split()}, "emulated", 1))
    assert "What mine saves, and what by (emulated; one seed: no interval)" in text
    for piece in ("nearest", "25.0 %", "20.0 %", "1.0 %", "26.0, 30.0 -> 42.0, 45.0 ms",
                  "which model: no aliases in this scenario",
                  "scale-down: no autoscaling in this scenario"):  # fmt: skip
        assert piece in text
    starred = split(0.01, equal_work=False)
    text = printed(split_table("mine", {"nearest": starred}, "emulated", 5))
    assert "25.0 ±1.0 % *" in text and "mean of 5 seeds with its 90 % interval" in text


def test_the_quality_that_was_given_up_stands_beside_what_it_saved() -> None:
    sized = split(quality_of_baseline=0.66, quality=0.612, absent={})
    text = printed(split_table("mine", {"nearest": sized}, "emulated", 1))
    assert "nearest (quality 0.660 -> 0.612)" in text


def test_flows_have_no_pace() -> None:
    unknown = {"p50": math.nan, "p95": math.nan}
    (row,) = split_rows("b", split(tpot_ms=unknown), (SavingCause.WHEN,))
    assert row[-1] == "-"


def test_a_cause_of_one_row_keeps_its_column() -> None:
    kept_on = split(absent={"which_model": "no aliases in this scenario"})
    text = printed(split_table("mine", {"kept on": kept_on, "nearest": split()}, "emulated", 1))
    assert "scale-down" in text.splitlines()[1]
    assert "not configured" in text


def test_the_page_has_every_step() -> None:
    page = split_page({
        "mode": "requests", "asked": ["mine"], "scenario": {"seeds_of_split": [7]},
        "policies": {"mine": {"saving_split": {"nearest": split()}}},
    })  # fmt: skip
    for piece in ("What mine saves", "Of the requests (attributional)", "a &lt;b&gt;",
                  "26.0, 30.0 -&gt; 42.0, 45.0 ms", "20.00 %", "packing last",
                  "not at equal"):  # fmt: skip
        assert piece in page
    assert [order.value for order in ChainOrder] == ["packing_first", "packing_last"]
