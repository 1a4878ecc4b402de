"""The rows of one answer: those that can be read are kept, the others dropped, each with a reason.

A row costs itself: its slot is then unknown, as if it had been left out. What makes all rows
doubtful (another unit, grid zone or emission factors) is no row's fault and refuses the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from router.errors import NoDataError, ProviderAnswerError, ProviderError, ProviderRowError
from router.trust.secrets import Secret, shown
from router.units import DAY_S

_T = TypeVar("_T")
_K = TypeVar("_K", float, tuple[float, str])

# A forecast looks at most four days ahead, and a history at most 31 back; a year would show a
# stamp of another century for a slot.
_MOST_GAP_S: Final = 40 * DAY_S


class Fault(StrEnum):
    """Why a row was dropped."""

    MALFORMED = "malformed"
    """A cell is missing, or no number, time or such as belongs there."""
    OUT_OF_RANGE = "out_of_range"
    """A number that no grid can have."""
    CONTRADICTED = "contradicted"
    """One slot is stated more than once, with different values."""
    MISPLACED = "misplaced"
    """A time that is none of this series: off its step, or far away from now."""


class Dropped(NamedTuple):
    """The rows of one answer that were dropped for one reason; ``example``: the first of them."""

    fault: Fault
    rows: int
    example: str


class RowReader:
    """Reads the rows of one answer. ``kept``: how many could be read."""

    def __init__(self, where: str, *secrets: Secret) -> None:
        """``where``: provider and request, for errors. ``secrets``: never shown."""
        self.where = where
        self.kept = 0
        self._secrets = secrets
        self._counts: Counter[Fault] = Counter()
        self._examples: dict[Fault, str] = {}

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """What was dropped so far, most rows first."""
        counts = self._counts.most_common()
        return tuple(Dropped(fault, rows, self._examples[fault]) for fault, rows in counts)

    def each(
        self, listed: Iterable[Any], read: Callable[[Mapping[str, Any]], _T | None], at: str = ""
    ) -> list[_T]:
        """What ``read`` makes of each row; None is a missing value and no fault.

        ``at``: the cell that names a row. ``read`` raises ProviderRowError for a row that it
        cannot use, and any other error to refuse the answer.
        """
        found = []
        for place, row in enumerate(listed):
            try:
                if not isinstance(row, dict):
                    raise ProviderRowError(f"{self.where}: no object", value=row)
                value = read(row)
            except ProviderRowError as error:
                stamp = row.get(at) if isinstance(row, dict) else None
                named = isinstance(stamp, str | int | float)
                self.drop(error, f"row {shown(stamp, *self._secrets) if named else place}")
                continue
            if value is not None:
                found.append(value)
        self.kept += len(found)
        return found

    def drop(self, error: ProviderRowError, row: str) -> None:
        """Count a row that cannot be used; ``row`` names it."""
        fault = Fault(error.fault)
        self._counts[fault] += 1
        if fault not in self._examples:
            what = str(error).removeprefix(self.where).lstrip(":, ")
            found = error.value
            told = f", {shown(found, *self._secrets)}" if found not in ("", None) else ""
            self._examples[fault] = f"{row}: {what}{told}"

    def once(self, found: Iterable[tuple[_K, _T]]) -> dict[_K, _T]:
        """Values by slot, rising: its start (unix s), or that and what else it is stated for.

        A slot that is stated again with the same value counts once. One with two values is dropped:
        nothing tells which of them is true.
        """
        slots: dict[_K, _T] = {}
        doubtful: dict[_K, None] = {}
        for slot, value in found:
            if slots.setdefault(slot, value) != value:
                doubtful[slot] = None
        for slot in doubtful:
            del slots[slot]
            text = f"{self.where}: stated more than once, and not alike"
            self.drop(ProviderRowError(text, Fault.CONTRADICTED), f"slot {slot}")
        return {slot: slots[slot] for slot in sorted(slots)}

    def in_step(self, slots: Mapping[float, _T], step_s: float, now: float) -> dict[float, _T]:
        """The slots that lie on the step that most of them share, and not far from ``now``."""
        phases = Counter(round(start % step_s) % round(step_s) for start in slots)
        usual = max(phases, key=lambda phase: (phases[phase], -phase), default=0)
        found = {}
        for start, value in slots.items():
            near = abs(start - now) <= _MOST_GAP_S
            if near and round(start % step_s) % round(step_s) == usual:
                found[start] = value
            else:
                why = f"off the step of {step_s:g} s" if near else "far from now"
                text = f"{self.where}: a slot {why}"
                self.drop(ProviderRowError(text, Fault.MISPLACED), f"slot {start}")
        return found

    def nothing(self, otherwise: str) -> ProviderError:
        """The error of an answer without a usable row: of those dropped, else ``otherwise``."""
        dropped = self.dropped
        if not dropped:
            return NoDataError(f"{self.where}: {otherwise}")
        return ProviderAnswerError(f"{self.where}: no usable row: {dropped[0].example}")


def summary(dropped: Iterable[Dropped]) -> str:
    """``3 rows dropped: row '...': ...``; "" for none."""
    listed = sorted(dropped, key=lambda one: -one.rows)
    rows = sum(one.rows for one in listed)
    return f"{rows} row{'s' * (rows != 1)} dropped: {listed[0].example}" if listed else ""


def usual_step_s(starts: Iterable[float], steps_s: Iterable[float]) -> float | None:
    """Which of ``steps_s`` a series has, of which slots may be missing or misplaced; None if none.

    The shortest that a quarter of the gaps have: where every third slot is lost, half of the gaps
    are two steps long.
    """
    gaps = Counter(later - earlier for earlier, later in pairwise(sorted(starts)))
    often = [step for step in sorted(steps_s) if 4 * gaps[step] >= gaps.total() > 0]
    return often[0] if often else None
