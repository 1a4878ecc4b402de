"""What an exporter's page says of the energy that an endpoint drew.

DCGM exporter: ``DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION`` since boot, mJ, and
``DCGM_FI_DEV_POWER_USAGE``, W, a sample a GPU; where a GPU is divided (MIG) or shared, one a part,
each with the whole GPU's figure (NVIDIA/dcgm-exporter#353). Triton: ``nv_energy_consumption`` since
it began, J, and ``nv_gpu_power_usage``, W. Both know GPUs alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from router.load.samples import PageSample, SampleScan
from router.model import EnergyMeter


class MeterNames(NamedTuple):
    """``unit_j``: joules of one of ``energy``; ``watts``: "" where it has no such gauge."""

    energy: str
    unit_j: float
    watts: str


METERS: Final[Mapping[str, MeterNames]] = {
    # GPU and host, idle draw included.
    "emulated": MeterNames("emulated:energy_joules_total", 1.0, ""),
    "dcgm": MeterNames(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1e-3, "DCGM_FI_DEV_POWER_USAGE"
    ),
    "triton": MeterNames("nv_energy_consumption", 1.0, "nv_gpu_power_usage"),
}  # fmt: skip
# A GPU of 1 kW counts as much in 30,000 years; DCGM's "blank" is above.
_MOST_J: Final = 1e15
_MOST_W: Final = 1e6
_IDENTITIES: Final = ("UUID", "gpu_uuid", "uuid", "GPU_UUID")


class MeterReading(NamedTuple):
    """By meter, which is a GPU where the page tells them apart; empty where nothing is known.

    ``joules``: since it began to count. ``shared``: GPUs that are others' as well.
    """

    joules: Mapping[str, float] = {}
    watts: Mapping[str, float] = {}
    shared: tuple[str, ...] = ()

    @property
    def total_w(self) -> float:
        """Of all; NaN where nothing is known."""
        return math.fsum(self.watts.values()) if self.watts else math.nan


NO_READING: Final = MeterReading()


def drawn_j(before: MeterReading, after: MeterReading) -> float:
    """Joules between two readings; NaN where one of them is of other meters, or one of these began
    anew meanwhile."""
    first, last = before.joules, after.joules
    if not first or first.keys() != last.keys():
        return math.nan
    drawn = [last[meter] - first[meter] for meter in first]
    return math.fsum(drawn) if min(drawn) >= 0.0 else math.nan


class MeterScan:
    """Reads one page of ``meter``, piece by piece."""

    def __init__(self, meter: EnergyMeter) -> None:
        """Raises KeyError for a kind that is not of METERS."""
        self._meter = meter
        self._names = METERS[meter.kind]
        self._scan = SampleScan(name for name in (self._names.energy, self._names.watts) if name)

    def take(self, piece: bytes) -> None:
        """The next bytes of the page."""
        self._scan.take(piece)

    def reading(self) -> MeterReading:
        """What the page says. A sample that cannot be used is as if it were not there; so is one
        of a GPU that has samples of others, too."""
        joules: dict[str, float] = {}
        watts: dict[str, float] = {}
        others: set[str] = set()
        names = self._names
        for sample in self._scan.samples:
            who = _identity(sample)
            if not _is_of(sample, self._meter.labels):
                others.add(who)
            elif sample.name == names.energy:
                _keep(joules, who, sample.value * names.unit_j, _MOST_J)
            else:
                _keep(watts, who, sample.value, _MOST_W)
        shared = others & (joules.keys() | watts.keys())
        for who in shared:
            joules.pop(who, None)
            watts.pop(who, None)
        return MeterReading(joules, watts, tuple(sorted(shared)))


def _identity(sample: PageSample) -> str:
    for name in _IDENTITIES:
        if name in sample.labels:
            return sample.labels[name]
    return ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))


def _is_of(sample: PageSample, labels: Mapping[str, frozenset[str]]) -> bool:
    return all(sample.labels.get(name) in values for name, values in labels.items())


def _keep(values: dict[str, float], who: str, value: float, most: float) -> None:
    """Parts of one GPU tell its figure as of the moment that they were read: the latest counts."""
    if 0.0 <= value <= most:
        values[who] = max(value, values.get(who, 0.0))


class WattSum:
    """Watts, read often, as a meter of joules: each held to lie on a line to the next (trapezoids).

    An estimate: what happens between two readings is not seen. After a gap it is another meter.
    """

    def __init__(self, longest_s: float) -> None:
        """``longest_s``: between two readings that are joined."""
        self._longest_s = longest_s
        self._joules = 0.0
        self._watts = self._at = math.nan
        self._gaps = 0

    def take(self, watts: float, ticks: float) -> None:
        """Read at ``ticks``, monotonic s; NaN where nothing was."""
        if math.isnan(watts):
            return
        seconds = ticks - self._at
        if 0.0 < seconds <= self._longest_s:
            self._joules += seconds * (watts + self._watts) / 2.0
        elif seconds > self._longest_s:
            self._gaps += 1
        self._watts, self._at = watts, ticks

    def reading(self, ticks: float) -> MeterReading:
        """What was drawn up to the last reading, where that is not long ago."""
        if not ticks - self._at <= self._longest_s:
            return NO_READING
        return MeterReading({f"watts, added up since gap {self._gaps}": self._joules})
