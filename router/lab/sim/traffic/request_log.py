"""A log of requests, as ``serve`` writes it, read as a workload: other days, counts nobody knew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.lab.sim.traffic.request_rows import ARRIVAL, TIME, RequestRows
from router.units import DAY_S

_COUNTS: Final = ("input_tokens", "output_tokens")


class LogReplay:
    """Turns rows with a time of day into rows of a workload, and remembers what it had to assume.

    Times move by whole days, so that the first ones lie in the day after ``start`` (unix s): hours
    keep their meaning, for people and for grids. ``lengths``: mean prompt and answer of each model,
    tokens, which stand in where a log has a blank.
    """

    def __init__(self, start: float, lengths: Mapping[str, tuple[float, float]]) -> None:
        self._start = start
        self._lengths = lengths
        self._shift_s: float | None = None
        self._assumed = dict.fromkeys(_COUNTS, 0)
        self._sample = 1.0

    def completed(self, rows: RequestRows) -> tuple[RequestRows, int | None]:
        """``rows`` with seconds since the start, below 0 for what comes before it, and without
        blank token counts; or the place of a bad time."""
        at, wrong = self._arrivals(rows.texts[TIME])
        if wrong is not None:
            return rows, wrong
        numbers = {**rows.numbers, ARRIVAL: at}
        for column in _COUNTS:
            blank = np.isnan(numbers[column])
            if blank.any():
                self._assumed[column] += int(blank.sum())
                stand_in = self._means(rows.texts["model"], column)
                if column == "output_tokens" and "max_output_tokens" in numbers:
                    stand_in = np.fmin(stand_in, numbers["max_output_tokens"])
                numbers[column] = np.where(blank, stand_in, numbers[column])
        known = numbers.get("sample", np.ones(1))
        known = known[(known > 0.0) & (known <= 1.0)]
        self._sample = float(known.min(initial=self._sample))
        return rows._replace(numbers=numbers), None

    def notes(self) -> list[str]:
        """What the log did not say, or said of another day; after one pass over it."""
        notes = []
        if self._shift_s:
            notes.append(f"times are moved by {self._shift_s / DAY_S:+.0f} days to its start")
        for column, count in self._assumed.items():
            if count:
                text = f"{count} requests have no {column}; the mean of their model stands in"
                notes.append(f"{text} (models)")
        if self._sample < 1.0:
            text = f"a sample of {self._sample:g} of the requests: the fleet sees that much of its"
            notes.append(f"{text} traffic")
        return [f"workload.file: {note}" for note in notes]

    def _arrivals(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], int | None]:
        at = np.empty(len(texts))
        for place, text in enumerate(texts):
            try:
                when = datetime.fromisoformat(text)
            except ValueError:
                return at, place
            at[place] = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        at -= self._start
        if self._shift_s is None:
            self._shift_s = -math.floor(at.min() / DAY_S) * DAY_S
        return at + self._shift_s, None

    def _means(self, models: Sequence[str], column: str) -> NDArray[np.float64]:
        place = _COUNTS.index(column)
        means = [self._lengths.get(model, (1.0, 1.0))[place] for model in models]
        return np.maximum(1.0, np.rint(means))
