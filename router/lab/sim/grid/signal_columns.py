"""What deciding needs of a carbon signal over a whole span, as arrays: made once, for every policy.

A view of `router.lab.sim.simulation.GridSignal` holds a day of forecast slots with where they came
from; a decision reads the intensity of the coming CI_HOURS hours and whether it may be used. Those
are here by update and grid zone: a year of 34 zones in 20 MB, to be kept, pickled or written to a
file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from router.core import kernel_rows as k
from router.core.rungs import CI_HOURS
from router.lab.sim.simulation import GridSignal
from router.model import Forecast, Intensity, Kind, Policy, StaleCarbon

Floats = NDArray[np.float64]
_UNCERTAIN = (Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN)


@dataclass(frozen=True, slots=True, eq=False)
class SignalColumns:
    """A signal's views over a span. ``at`` (updates,): unix seconds, rising; ``first``: the view at
    the first of them.

    ``g_per_kwh`` (updates, zones, CI_HOURS): from the hour of the update on, the last slot holding
    on; NaN where no source knows the zone. Of the slot of the update itself: ``observed_at`` and
    ``expires_at`` (updates, zones), and ``uncertain``: climatology or an annual mean.
    """

    grid_zones: tuple[str, ...]
    at: Floats
    first: Mapping[str, Forecast]
    g_per_kwh: Floats
    observed_at: Floats
    expires_at: Floats
    uncertain: NDArray[np.bool_]

    def deciding(self, update: int, policy: Policy) -> Floats:
        """Shape (zones, CI_HOURS): twin of `columns._deciding_hours`, UNKNOWN_CI where excluded.

        Not for a policy that decides by annual means: those never change.
        """
        now, hours = float(self.at[update]), self.g_per_kwh[update]
        unknown = np.isnan(hours[:, 0])
        if policy.stale_carbon is StaleCarbon.EXCLUDE:
            age_s = np.maximum(0.0, now - self.observed_at[update])
            stale = (age_s > policy.stale_after_s) | (now > self.expires_at[update])
            unknown |= stale | self.uncertain[update]
        found: Floats = np.where(unknown[:, None], k.UNKNOWN_CI, hours)
        return found


@runtime_checkable
class ColumnSignal(Protocol):
    """A signal that makes the columns of a whole span at once, sooner than view by view."""

    def columns(self, start: float, end: float) -> SignalColumns:
        """Over the updates in [start, end), unix seconds."""
        ...


@runtime_checkable
class SeparableSignal(Protocol):
    """A signal whose grid zones do not depend on each other."""

    def parts(self) -> Sequence[GridSignal]:
        """Signals of some of its grid zones each, always the same ones."""
        ...


def signal_columns(signal: GridSignal, start: float, end: float) -> SignalColumns:
    """Over the updates in [start, end), unix seconds; no view holds what is published after it."""
    if isinstance(signal, ColumnSignal):
        return signal.columns(start, end)
    builder = ColumnsBuilder(list(signal.updates(start, end)))
    for update, now in enumerate(builder.at):
        view = signal.view(now)
        if update == 0:
            builder.first = view
        for zone, forecast in view.items():
            builder.put(update, zone, forecast.slots)
    return builder.build()


class ColumnsBuilder:
    """Columns in the making: what is not put in stays unknown."""

    def __init__(self, at: Sequence[float]) -> None:
        self.at = at
        self.first: Mapping[str, Forecast] = {}
        self._zones: dict[str, tuple[Floats, Floats, Floats, NDArray[np.bool_]]] = {}

    def zone(self, grid_zone: str) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """``g_per_kwh``, ``observed_at``, ``expires_at`` and ``uncertain`` of one, to be filled."""
        if grid_zone not in self._zones:
            count = len(self.at)
            self._zones[grid_zone] = (
                np.full((count, CI_HOURS), math.nan), np.full(count, math.nan),
                np.full(count, math.nan), np.zeros(count, np.bool_),
            )  # fmt: skip
        return self._zones[grid_zone]

    def put(self, update: int, grid_zone: str, slots: Sequence[Intensity]) -> None:
        """Take in the forecast of one zone at one update."""
        g_per_kwh, observed_at, expires_at, uncertain = self.zone(grid_zone)
        values = [slot.g_per_kwh for slot in slots[:CI_HOURS]]
        g_per_kwh[update] = values + values[-1:] * (CI_HOURS - len(values))
        observed_at[update] = slots[0].observed_at
        expires_at[update] = slots[0].expires_at
        uncertain[update] = slots[0].kind in _UNCERTAIN

    def build(self) -> SignalColumns:
        """What was put in."""
        names = tuple(self._zones)
        zones = list(self._zones.values()) or [self.zone("")]
        # Of nothing the shapes still hold.
        g_per_kwh, observed_at, expires_at, uncertain = (
            np.stack(column, axis=1)[:, : len(names)] for column in zip(*zones, strict=True)
        )
        return SignalColumns(
            names, np.array(self.at, np.float64), self.first,
            g_per_kwh, observed_at, expires_at, uncertain.astype(np.bool_),
        )  # fmt: skip


def parts_of(signal: GridSignal) -> Sequence[GridSignal]:
    """Signals to be computed apart, in other processes too; `side_by_side` puts them together."""
    return signal.parts() if isinstance(signal, SeparableSignal) else (signal,)


class PrecomputedSignal:
    """A GridSignal of which one span was computed already."""

    def __init__(
        self, signal: GridSignal, start: float, end: float, columns: SignalColumns
    ) -> None:
        self._signal = signal
        self._span = start, end
        self._columns = columns

    def updates(self, start: float, end: float) -> Iterable[float]:
        """The signal's."""
        return self._signal.updates(start, end)

    def view(self, now: float) -> Mapping[str, Forecast]:
        """The signal's."""
        return self._signal.view(now)

    def columns(self, start: float, end: float) -> SignalColumns:
        """What was computed, or the signal's."""
        if (start, end) == self._span:
            return self._columns
        return signal_columns(self._signal, start, end)


def side_by_side(parts: Sequence[SignalColumns]) -> SignalColumns:
    """Columns of the same updates on different grid zones as one."""
    first: dict[str, Forecast] = {}
    for part in parts:
        first.update(part.first)
    return SignalColumns(
        tuple(zone for part in parts for zone in part.grid_zones),
        parts[0].at,
        first,
        *(
            np.concatenate([getattr(part, name) for part in parts], axis=1)
            for name in ("g_per_kwh", "observed_at", "expires_at", "uncertain")
        ),
    )
