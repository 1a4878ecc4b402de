from __future__ import annotations

from typing import Any

from router.lab.study.report.terminal import warnings
from router.lab.study.summary import saving
from tests.lab.study.results import result


def figures(**changes: Any) -> dict[str, Any]:
    return {
        "requests": 10, "shed": 0, "shed_reasons": {}, "failed": 0, "relaxed": {},
        "regret": {"valid": True}, "saving_against": {}, **changes,
    }  # fmt: skip


def test_warnings_name_what_was_lost_relaxed_or_unequal() -> None:
    unequal = saving(result(completed=900, met=0.9), result())
    found = warnings({
        "asked": ["mine"],
        "policies": {
            "mine": figures(
                shed=3, shed_reasons={"shed": 3}, failed=1, relaxed={"carbon": 2},
                regret={"valid": False}, saving_against={"round-robin": unequal},
            ),
            "round-robin": figures(),
        },
    })  # fmt: skip
    assert found[0] == "mine: 4 of 10 not answered (3 shed; 1 lost with their replica)"
    assert found[1] == "mine: nothing was feasible, so the ladder dropped: carbon 2 times"
    assert found[2].startswith("* mine: not all of the work")
    assert "mine against round-robin is no saving at equal work: completed 90.00 %" in found[3]
    assert len(found) == 4
