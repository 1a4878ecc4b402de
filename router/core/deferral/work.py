"""Work that can wait, as columns: a million jobs in some fifty megabytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.errors import DataError

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

_FIGURES: Final = ("arrived_at", "deadline", "joules", "run_s", "places")


class WaitingJob(NamedTuple):
    """One job. Times in unix seconds.

    ``deadline``: by when it is to have ended. ``joules``: expected IT energy beside other requests,
    on a replica that is awake. ``run_s``: expected time in its places, of one attempt. ``places``:
    of an endpoint's ``max_in_flight``, that it holds meanwhile. ``regions``: where it may run;
    empty: anywhere.
    """

    arrived_at: float
    deadline: float
    model: str
    joules: float
    run_s: float
    places: float = 1.0
    regions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class WaitingWork:
    """Jobs in the order in which they were given; a job is its row. Arrays of shape (jobs,).

    ``model``: codes into ``models``. ``region_set``: codes into ``region_sets``, of which the empty
    one is anywhere. Raises DataError where a figure is missing, infinite or out of range.
    """

    arrived_at: Floats
    deadline: Floats
    joules: Floats
    run_s: Floats
    places: Floats
    model: Codes
    region_set: Codes
    models: tuple[str, ...]
    region_sets: tuple[frozenset[str], ...]

    def __post_init__(self) -> None:
        count = len(self.deadline)
        for name in (*_FIGURES, "model", "region_set"):
            if getattr(self, name).shape != (count,):
                raise DataError(f"waiting work: {name} needs one figure for each of {count} jobs")
        for name in _FIGURES:
            self._require(name, np.isfinite(getattr(self, name)), "a finite number")
        self._require("joules", self.joules >= 0.0, "0 or more")
        for name in ("run_s", "places"):
            self._require(name, getattr(self, name) > 0.0, "more than 0")
        for name, names in (("model", self.models), ("region_set", self.region_sets)):
            codes = getattr(self, name)
            self._require(name, (codes >= 0) & (codes < len(names)), f"below {len(names)}")

    def __len__(self) -> int:
        return len(self.deadline)

    def taken(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> WaitingWork:
        """The jobs at ``rows``, in that order."""
        columns = {name: getattr(self, name)[rows] for name in (*_FIGURES, "model", "region_set")}
        return replace(self, **columns)

    def _require(self, name: str, fine: NDArray[np.bool_], what: str) -> None:
        if not fine.all():
            row = int(np.argmin(fine))
            found = getattr(self, name)[row]
            raise DataError(f"waiting work: job {row}: {name} must be {what}, got {found}")

    @classmethod
    def of(cls, jobs: Iterable[WaitingJob]) -> WaitingWork:
        """From jobs one by one; they may be made while they are read."""
        models: dict[str, int] = {}
        sets: dict[frozenset[str], int] = {}

        def row(job: WaitingJob) -> tuple[float, ...]:
            return (
                *(getattr(job, name) for name in _FIGURES),
                models.setdefault(job.model, len(models)),
                sets.setdefault(job.regions, len(sets)),
            )

        kind = np.dtype([*((name, "f8") for name in _FIGURES), ("model", "i4"), ("set", "i4")])
        rows = np.fromiter((row(job) for job in jobs), kind)
        figures = {name: np.ascontiguousarray(rows[name]) for name in _FIGURES}
        return cls(
            **figures,
            model=np.ascontiguousarray(rows["model"]),
            region_set=np.ascontiguousarray(rows["set"]),
            models=tuple(models),
            region_sets=tuple(sets),
        )
