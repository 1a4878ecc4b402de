"""What endpoints drew while they had requests and while they had none, added up span by span.

By the watts of their profiles, at the requests that were there. Where a server has a meter, what
that counted in the span stands beside; to one that counts GPUs alone, what the profile has for the
host is added, and the row's source says so.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from router.core.energy import greatest_w, idle_w, power_w
from router.core.reports import LEAST_SHARE, MOST_POWERS
from router.ledger.columns import J_QUANTUM
from router.ledger.receipt_cells import Cells, in_steps
from router.model import Endpoint, Intensity, Provenance, Region, TokenProfile

_US: Final = 1e6
_PER_J: Final = 1.0 / J_QUANTUM
# Of a server without a profile of tokens: more than a rack of 72 GPUs draws (120 to 140 kW).
_MOST_W: Final = 200e3
# A meter may be read so much later at the one end of a span than at the other.
_METER_LATE_S: Final = 10.0


class SpanGrid(NamedTuple):
    """The grid of a region over a span: mean intensity, NaN where not known, and whose it is."""

    g_per_kwh: float
    intensity: Intensity | None


class EndpointSpan:
    """One endpoint, until `cells`."""

    __slots__ = (
        "_awake_j", "_awake_s", "_batch", "_idle_j", "_idle_s", "_seen_at", "endpoint", "profile",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        profiles = [served.profile for served in endpoint.models]
        tokens = [one for one in profiles if isinstance(one, TokenProfile)]
        # Models of one server share its hardware: the one that draws most stands for it.
        self.profile = max(tokens, key=idle_w) if tokens else None
        self._batch: float | None = None
        self._seen_at = 0.0
        self._idle_s = self._idle_j = self._awake_s = self._awake_j = 0.0

    def see(self, batch: float | None, ticks: float) -> None:
        """From ``ticks`` (monotonic s) on there are ``batch`` requests; None: it is not there."""
        if self._batch is not None and ticks > self._seen_at:
            self._add(self._batch, ticks - self._seen_at)
        self._batch, self._seen_at = batch, ticks

    def _add(self, batch: float, seconds: float) -> None:
        watts = math.nan
        if self.profile is not None:
            watts = power_w(self.profile, min(batch, float(self.profile.max_batch)))
        if batch > 0.0:
            self._awake_s += seconds
            self._awake_j += watts * seconds
        else:
            self._idle_s += seconds
            self._idle_j += watts * seconds

    def _is_believed(self, metered_j: float, seconds: float) -> bool:
        """Whether a server can have drawn that: as what it reports of single requests is held
        against its profile. A meter that stands still, or is of another unit, is none."""
        profile = self.profile
        most_w = _MOST_W if profile is None else MOST_POWERS * greatest_w(profile)
        there_s = max(0.0, self._idle_s + self._awake_s - _METER_LATE_S)
        least_j = 0.0 if profile is None else LEAST_SHARE * profile.idle_w * there_s
        return least_j <= metered_j <= most_w * (seconds + _METER_LATE_S)

    def _host_j(self, metered_j: float) -> float:
        """What the host drew beside GPUs that a meter counted, by the profile."""
        meter, profile = self.endpoint.meter, self.profile
        if profile is None or meter is None or meter.covers_host:
            return 0.0
        constant_j = profile.host_idle_w * self._idle_s + profile.host_awake_w * self._awake_s
        return profile.host_fraction * metered_j + constant_j

    def _kind(self) -> Provenance:
        """Of its watts."""
        if self.profile is None:
            return Provenance.EMULATED if self.endpoint.emulated else Provenance.ESTIMATED
        return self.endpoint.kind_by(self.profile)

    def _source(self, is_metered: bool) -> str | None:
        meter, of_watts = self.endpoint.meter, "" if self.profile is None else self.profile.source
        if not is_metered or meter is None or meter.kind == "emulated":
            return of_watts or None
        how = f"watts of {meter.kind} added up" if meter.adds_watts else meter.kind
        if not meter.covers_host:
            how += ", GPUs alone" if self.profile is None else " for GPUs, host by profile"
        return f"{of_watts}; metered_j: {how}" if of_watts else f"metered_j: {how}"

    def cells(
        self, since: float, until: float, region: Region, grid: SpanGrid, metered_j: float
    ) -> Cells:
        """The row of the span; ``metered_j``: what the meter counted in it, NaN where that is not
        known."""
        is_metered = self._is_believed(metered_j, until - since)
        profile = self.profile
        return (
            round(since * _US),
            round(until * _US),
            "endpoint",
            self.endpoint.name,
            region.name,
            region.grid_zone,
            None if profile is None else profile.name,
            self._idle_s,
            in_steps(self._idle_j, _PER_J),
            self._awake_s,
            in_steps(self._awake_j, _PER_J),
            self._kind(),
            self._source(is_metered),
            in_steps(metered_j + self._host_j(metered_j), _PER_J) if is_metered else None,
            region.pue,
            *_grid_cells(grid),
        )


def gateway_cells(
    since: float,
    until: float,
    cpu_s: float,
    w_per_core: float,
    region: Region | None,
    grid: SpanGrid,
) -> Cells:
    """The row of a gateway's process that took so much processor time."""
    return (
        round(since * _US),
        round(until * _US),
        "gateway",
        None,
        None if region is None else region.name,
        None if region is None else region.grid_zone,
        None,
        None,
        None,
        cpu_s,
        in_steps(cpu_s * w_per_core, _PER_J),
        Provenance.ESTIMATED,
        f"processor time at {w_per_core:g} W a core",
        None,
        None if region is None else region.pue,
        *_grid_cells(grid),
    )


def _grid_cells(grid: SpanGrid) -> tuple[Any, ...]:
    intensity = grid.intensity
    if intensity is None or not math.isfinite(grid.g_per_kwh):
        return (None,) * 5
    signal = intensity.signal
    return (grid.g_per_kwh, signal.basis, signal.factors, intensity.kind, intensity.source)
