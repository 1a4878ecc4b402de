"""What waiting saved, as rows of a report: an estimate, with what it is measured against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from router.ledger.month import US_PER_S
from router.ledger.quantities import CarbonMass
from router.ledger.waiting_savings import WaitedWork
from router.units import HOUR_S

BASELINE: Final = (
    "the same joules at once: where the request would have run when it came, at the intensity "
    "known for that hour then"
)
ALL: Final = "(all)"


def waiting_rows(waited: Sequence[WaitedWork], per: str) -> list[dict[str, Any]]:
    """One a group and basis of the baseline, then those of all groups together: bases are never
    added. What is not known is None, and so are grams where nothing can be compared."""
    return [_row(one, per) for one in (*waited, *of_all(waited))]


def of_all(waited: Iterable[WaitedWork]) -> list[WaitedWork]:
    """By basis, over all groups."""
    found: dict[str, WaitedWork] = {}
    for one in waited:
        before = found.get(one.basis)
        if before is None:
            found[one.basis] = one._replace(group=ALL)
            continue
        found[one.basis] = before._replace(
            answered=before.answered + one.answered,
            waited_us=before.waited_us + one.waited_us,
            compared=before.compared + one.compared,
            at_once_g=before.at_once_g + one.at_once_g,
            emitted_g=before.emitted_g + one.emitted_g,
            kinds=tuple(sorted({*before.kinds, *one.kinds})),
        )
    return [found[basis] for basis in sorted(found)]


def saved(one: WaitedWork) -> CarbonMass | None:
    """Below 0 where it cost; None where nothing can be compared."""
    return CarbonMass.of_quanta(one.at_once_g - one.emitted_g) if one.compared else None


def waited_h(one: WaitedWork) -> float:
    """Of all answers together, hours."""
    return one.waited_us / US_PER_S / HOUR_S


def _row(one: WaitedWork, per: str) -> dict[str, Any]:
    less = saved(one)
    return {
        per: one.group,
        "basis": one.basis or None,
        "answers_that_waited": one.answered,
        "waited_h": waited_h(one),
        "mean_wait_h": waited_h(one) / one.answered,
        "answers_compared": one.compared,
        "at_once_g": CarbonMass.of_quanta(one.at_once_g).g if one.compared else None,
        "emitted_g": CarbonMass.of_quanta(one.emitted_g).g if one.compared else None,
        "saved_g": less.g if less else None,
        "saved_share": less.g / CarbonMass.of_quanta(one.at_once_g).g
        if less and one.at_once_g
        else None,
        "how": "estimated, by receipts; not settled",
        "baseline": BASELINE,
        "baseline_intensity": "; ".join(one.kinds) or None,
    }
