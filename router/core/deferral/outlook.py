"""What a scheduler of waiting work sees: forecasts by region, and the room that others leave.

Room is counted in places: requests that endpoints of a model take at once. Of each region, model
and slot there are those on replicas that are awake anyway, and those on replicas that would have to
be woken; both as interactive traffic is expected to leave them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.errors import DataError
from router.model import Forecast, require_same_signal
from router.units import HOUR_S

Floats = NDArray[np.float64]

LOW, VALUE, HIGH = range(3)
# Pearson and Tukey's: the mean of a distribution by its 5, 50 and 95 % quantiles.
_MEAN: Final = np.array((0.185, 0.63, 0.185))


@dataclass(frozen=True, slots=True, eq=False)
class DeferralOutlook:
    """Slots of ``step_s`` from ``start`` (unix s) on, in the first of which it is now.

    ``g_per_kwh``: (3, regions, slots), the 5 % quantile, the forecast and the 95 % quantile.
    ``pue``: (regions,). ``awake_places``, ``asleep_places``: (models, regions, slots), expected.
    ``least_places``: (models, regions, slots), all that interactive traffic leaves at worst.
    ``woken_ratio``: (models, regions), joules of work on a replica that was woken for it over those
    on one that is awake anyway; 1 at the least. Raises DataError for anything else.
    """

    models: tuple[str, ...]
    regions: tuple[str, ...]
    start: float
    step_s: float
    g_per_kwh: Floats
    pue: Floats
    awake_places: Floats
    asleep_places: Floats
    least_places: Floats
    woken_ratio: Floats

    def __post_init__(self) -> None:
        slots = self.g_per_kwh.shape[-1] if self.g_per_kwh.ndim else 0
        models, regions = len(self.models), len(self.regions)
        if not (slots and self.step_s > 0.0):
            raise DataError("deferral: an outlook needs a slot of more than 0 s at the least")
        room = (models, regions, slots)
        for name, shape, least in (
            ("g_per_kwh", (3, regions, slots), 0.0), ("pue", (regions,), 1.0),
            ("awake_places", room, 0.0), ("asleep_places", room, 0.0),
            ("least_places", room, 0.0), ("woken_ratio", (models, regions), 1.0),
        ):  # fmt: skip
            given = getattr(self, name)
            if given.shape != shape:
                raise DataError(f"deferral: {name} has shape {given.shape}, and must have {shape}")
            if not (np.isfinite(given).all() and (given >= least).all()):
                raise DataError(f"deferral: {name} must be finite and {least:g} or more throughout")
        if not (np.diff(self.g_per_kwh, axis=0) >= 0.0).all():
            raise DataError("deferral: g_per_kwh must rise from its low to its high quantile")

    @property
    def end(self) -> float:
        """Unix s."""
        slots: int = self.g_per_kwh.shape[-1]
        return self.start + self.step_s * slots

    @property
    def mean_g_per_kwh(self) -> Floats:
        """Expected facility g for each kWh of IT (regions, slots)."""
        mean: Floats = np.tensordot(_MEAN, self.g_per_kwh, 1) * self.pue[:, None]
        return mean

    @classmethod
    def steady(
        cls,
        forecasts: Mapping[str, Forecast],
        pue: Mapping[str, float],
        models: Sequence[str],
        *,
        now: float,
        awake_places: Floats,
        asleep_places: Floats | None = None,
        least_places: Floats | None = None,
        woken_ratio: Floats | None = None,
    ) -> DeferralOutlook:
        """Of regions whose room is the same in every slot, as far as all ``forecasts`` reach.

        ``forecasts``: by region, of equal steps; what of them lies before ``now`` is left out.
        Places: (models, regions), regions in the order of ``forecasts``; left out: none asleep, and
        at worst half of those awake. Raises DataError where a forecast does not cover ``now``,
        MixedBasisError where their signals differ.
        """
        regions = tuple(forecasts)
        if not regions:
            raise DataError("deferral: an outlook needs the forecast of a region at the least")
        require_same_signal(*(one.slots[0] for one in forecasts.values()))
        ahead = {name: _slots_ahead(name, one, now) for name, one in forecasts.items()}
        step_s = next(iter(forecasts.values())).step_s
        slots = min(len(rows) for rows in ahead.values())
        g_per_kwh = np.stack([ahead[name][:slots] for name in regions]).transpose(2, 0, 1)

        def spread(places: Floats) -> Floats:
            return np.repeat(np.asarray(places, np.float64)[:, :, None], slots, axis=2)

        nothing = np.zeros_like(awake_places, dtype=np.float64)
        asleep = nothing if asleep_places is None else asleep_places
        least = awake_places / 2.0 if least_places is None else least_places
        ratio = nothing + 1.0 if woken_ratio is None else woken_ratio
        return cls(
            models=tuple(models),
            regions=regions,
            start=math.floor(now / step_s) * step_s,
            step_s=step_s,
            g_per_kwh=np.ascontiguousarray(g_per_kwh),
            pue=np.array([pue[name] for name in regions], np.float64),
            awake_places=spread(awake_places),
            asleep_places=spread(asleep),
            least_places=spread(least),
            woken_ratio=np.asarray(ratio, np.float64),
        )


def _slots_ahead(region: str, forecast: Forecast, now: float) -> Floats:
    """(slots, 3) from the slot that contains ``now`` on."""
    if forecast.step_s != HOUR_S:
        raise DataError(f"deferral: the forecast of {region} needs steps of an hour")
    first = math.floor((now - forecast.start) / forecast.step_s)
    if not 0 <= first < len(forecast.slots):
        raise DataError(f"deferral: the forecast of {region} does not cover the present")
    return np.array(
        [(s.low_g_per_kwh, s.g_per_kwh, s.high_g_per_kwh) for s in forecast.slots[first:]]
    )
