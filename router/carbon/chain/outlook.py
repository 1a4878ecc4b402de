"""What a chain knows, hour by hour, from what its sources told it.

Per hourly slot the first that has a value wins: the observed value itself when its slot contains
``now``; a published forecast, weighed against the own one where that has proved itself; the
forecaster's nowcast while its newest observation is young enough; climatology; the annual mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from router.carbon.chain.combine import Combiner, Slots, own_slots
from router.carbon.chain.resample import hourly
from router.carbon.chain.revisions import Revisions
from router.carbon.chain.sources import AnnualMeans, SlotSource
from router.contract import Forecaster
from router.errors import MissingIntensityError
from router.model import Forecast, Intensity, Kind
from router.units import HOUR_S


class Outlook:
    """The last good answers per grid zone. Pure: ``now`` is an argument.

    ``observed``: the newest observation; ``published``: the newest forecast.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        combiner: Combiner | None,
        annual: AnnualMeans | None,
        revisions: Revisions,
        nowcast_max_age_s: float,
    ) -> None:
        """``revisions``: what was observed of past slots."""
        self.observed: dict[str, Intensity] = {}
        self.published: dict[str, Forecast] = {}
        self._forecaster = forecaster
        self._combiner = combiner
        self._annual = annual
        self._revisions = revisions
        self._nowcast_max_age_s = nowcast_max_age_s
        # Of the last nowcast before it was too old: time of the observation, below, above.
        self._last_widths: dict[str, tuple[float, float, float]] = {}
        # Readings of kind forecast with the hour they were read for, and those of standing kinds.
        self._forecast_now: dict[str, tuple[int, Intensity]] = {}
        self._flat: dict[tuple[str, Kind], Intensity] = {}

    def take(self, zone: str, value: Intensity, now: float) -> None:
        """A reading that is no observation."""
        if value.kind is Kind.FORECAST:
            self._forecast_now[zone] = (math.floor(now / HOUR_S), value)
        else:
            self._flat[zone, value.kind] = value

    def slots(
        self, zone: str, usual: Sequence[SlotSource], start: float, now: float, hours: int
    ) -> tuple[Intensity, ...]:
        """At most ``hours`` values from the hour at ``start``, which contains ``now``.

        ``usual``: who knows what is usual in this zone.
        """
        own = self.nowcast(zone, start, now, hours)
        layers: list[Slots] = [[self._current(zone, now)]]
        if zone in self.published:
            published = self.issued(zone, start, now, hours)
            if self._combiner is not None:
                mixed = self._combiner.combine(zone, published, own, now)
                published = [
                    both if theirs is not None else None
                    for theirs, both in zip(published, mixed, strict=False)
                ]
            layers.append(published)
        hour, read = self._forecast_now.get(zone, (0, None))
        layers.append([read if hour == start / HOUR_S else None])
        layers.append(own)
        if any(all(_at(layer, i) is None for layer in layers) for i in range(hours)):
            below, above = self._widths(zone, now)
            for layer in self._standing(zone, usual, start, hours):
                layers.append([slot and _widened(slot, below, above) for slot in layer])
        slots = []
        for ahead in range(hours):
            found = next((v for layer in layers if (v := _at(layer, ahead)) is not None), None)
            if found is None:
                break
            slots.append(found)
        return tuple(slots)

    def issued(
        self, zone: str, start: float, now: float, hours: int
    ) -> list[Intensity | None]:  # fmt: skip
        """A zone's published forecast by the hour, with what was observed of the hour so far."""

        def observed(end: float) -> Intensity | None:
            slot = self._revisions.slot(zone, end)
            return None if slot is None else slot.best

        return hourly(self.published[zone], start, now, hours, observed)

    def _current(self, zone: str, now: float) -> Intensity | None:
        """An observed value whose slot contains ``now``."""
        observed = self.observed.get(zone)
        if observed is not None and now < observed.observed_at <= now + HOUR_S:
            return observed
        return None

    def nowcast(self, zone: str, start: float, now: float, hours: int) -> Slots:
        """The forecaster's hours; none once the newest observation is too old.

        Its age alone decides, so that a zone does not go back and forth by the hour. No slot is
        surer than the surest one since the observation was: an interval that was learned from
        errors lead by lead may narrow by chance, ignorance does not.
        """
        observed = self.observed.get(zone)
        if observed is None or observed.age_s(now) > self._nowcast_max_age_s:
            return ()
        begin = min(math.floor(observed.observed_at / HOUR_S) * HOUR_S, start)
        passed = round((start - begin) / HOUR_S)
        try:
            forecast = self._forecaster.forecast(zone, begin, passed + hours)
        except MissingIntensityError:
            return ()
        return _never_narrower(own_slots(forecast, begin), passed)

    def _widths(self, zone: str, now: float) -> tuple[float, float]:
        """How far below and above, relatively, what stands in for a nowcast must reach at least.

        As far as the last nowcast did: what is usual is not known better for its being too old.
        """
        observed = self.observed.get(zone)
        if observed is None or observed.age_s(now) <= self._nowcast_max_age_s:
            return 0.0, 0.0
        known = self._last_widths.get(zone)
        if known is None or known[0] != observed.observed_at:
            begin = math.floor(observed.observed_at / HOUR_S) * HOUR_S
            hours = math.floor(self._nowcast_max_age_s / HOUR_S) + 1
            try:
                met = own_slots(self._forecaster.forecast(zone, begin, hours), begin)
            except MissingIntensityError:
                met = ()
            known = self._last_widths[zone] = (observed.observed_at, *_widest(met))
        return known[1:]

    def _standing(
        self, zone: str, usual: Sequence[SlotSource], start: float, hours: int
    ) -> list[Slots]:
        """Climatology before annual means."""
        layers: list[Slots] = [source.slots(zone, start, hours) for source in usual]
        for kind in (Kind.CLIMATOLOGY, Kind.ANNUAL_MEAN):
            if flat := self._flat.get((zone, kind)):
                layers.append([flat] * hours)
        mean = self._annual.mean(zone) if self._annual else None
        if mean is not None:
            layers.append([mean] * hours)
        return layers


def _never_narrower(slots: Sequence[Intensity], passed: int) -> tuple[Intensity, ...]:
    """The slots after the first ``passed``, relatively as wide as any of those and the next."""
    below, above = _widest(slots[: passed + 1])
    return tuple(_widened(slot, below, above) for slot in slots[passed:])


def _widest(slots: Sequence[Intensity | None]) -> tuple[float, float]:
    """How far below and above its value, relatively, any of the slots reaches."""
    met = [slot for slot in slots if slot is not None and slot.g_per_kwh > 0.0]
    below = max((1.0 - slot.low_g_per_kwh / slot.g_per_kwh for slot in met), default=0.0)
    above = max((slot.high_g_per_kwh / slot.g_per_kwh - 1.0 for slot in met), default=0.0)
    return below, above


def _widened(slot: Intensity, below: float, above: float) -> Intensity:
    low = min(slot.low_g_per_kwh, slot.g_per_kwh * (1.0 - below))
    high = max(slot.high_g_per_kwh, slot.g_per_kwh * (1.0 + above))
    if (low, high) == (slot.low_g_per_kwh, slot.high_g_per_kwh):
        return slot
    return replace(slot, low_g_per_kwh=max(0.0, low), high_g_per_kwh=high)


def _at(slots: Slots, ahead: int) -> Intensity | None:
    return slots[ahead] if ahead < len(slots) else None
