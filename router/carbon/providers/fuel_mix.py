"""From what power plants produced to gCO2e/kWh: fuels, factors, and which mixes to refuse.

Production-based: what a zone generated, whoever used it. Imports are not counted, so a zone that
imports much, or sells most of what it makes, is shown as it generates, not as it consumes. Storage
is left out both ways: what it gives back was generated, and counted, before.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from statistics import median
from typing import Final, NamedTuple

from router.carbon.providers.bands import with_band
from router.carbon.providers.rows import Fault, RowReader
from router.errors import (
    ConfigError,
    NoDataError,
    ProviderAnswerError,
    ProviderError,
    ProviderRowError,
    TraceError,
)
from router.model import Basis, Factors, Intensity, Kind, Signal


class Fuel(StrEnum):
    """What a provider's fuel codes are mapped to. STORAGE has no factor of its own."""

    COAL = "coal"
    GAS = "gas"
    OIL = "oil"
    NUCLEAR = "nuclear"
    HYDRO = "hydro"
    WIND = "wind"
    SOLAR = "solar"
    GEOTHERMAL = "geothermal"
    MARINE = "marine"
    BIOMASS = "biomass"
    OTHER = "other"
    UNKNOWN = "unknown"
    STORAGE = "storage"


# Output by fuel in any one unit (MW, MWh); None: reported as missing. A fuel that is not reported
# at all has no entry.
Mix = Mapping[Fuel, float | None]

# Relative half-width of the 90 % interval. For eight US zones in 2022, production-based figures
# from EIA-930 with these factors lay within 0.10 to 0.31 of flow-traced life-cycle figures of the
# same hour in 90 % of hours; 0.20 is the median zone. (US-NW-BPAT, which exports its hydro power:
# 1.26.) Computed with information from Electricity Maps, under the Open Database License.
MIX_HALF_WIDTH: Final = 0.20
# Of what is generated, at most this share may be of a fuel that nobody names: in New York a tenth
# and more "other" was nuclear power misreported (560 hours of 2022).
UNNAMED_SHARE: Final = 0.10
# Of one fuel in one grid zone: no zone that is asked for generates a fifth of it in all.
MOST_MW: Final = 1e6
# Plants at rest draw a little power. More than this share below zero is no generation.
_NEGATIVE_SHARE: Final = 0.02
# A fuel with this share is missed when it is not reported.
_DOMINATING_SHARE: Final = 0.10
_LEAST_OF_USUAL: Final = 0.5
# No zone as a whole generates so many times its usual output within the day: a slip of the decimal.
_MOST_OF_USUAL: Final = 5.0
_UNNAMED: Final = (Fuel.OTHER, Fuel.UNKNOWN)
# These do not stop within the hour, all plants of a zone at once: a 0 is a missing report.
_STEADY: Final = frozenset({Fuel.COAL, Fuel.GAS, Fuel.NUCLEAR, Fuel.HYDRO})


@dataclass(frozen=True, slots=True)
class FuelFactors:
    """gCO2e/kWh of every fuel but STORAGE, all of one kind."""

    signal: Signal
    g_per_kwh: Mapping[Fuel, float]

    @classmethod
    def shipped(cls, factors: Factors) -> FuelFactors:
        """The set of ``router/data/fuel_factors.csv``. Raises ConfigError for Factors.NONE."""
        name = "fuel_factors.csv"
        text = resources.files("router.data").joinpath(name).read_text("utf-8")
        return parse(text.splitlines(), name, factors)


class MixIntensity(NamedTuple):
    """g/kWh of one mix, with the bounds that fuels nobody names put on it."""

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float


class Slot(NamedTuple):
    """What was generated from ``start`` to ``end``, unix s."""

    start: float
    end: float
    mix: Mix


def slots_of(
    reports: Mapping[float, Mapping[str, float | None]], fuels: Mapping[str, Fuel], length_s: float
) -> list[Slot]:
    """Slots of ``length_s`` from what was reported by start of slot (unix s) and provider's code.

    A code that ``fuels`` does not list is UNKNOWN. A fuel of several codes is missing where one of
    them is that has a value in another slot: half of the coal is no report of coal.
    """
    every = {c for codes in reports.values() for c, value in codes.items() if value is not None}
    # In one order, so that the same reports always sum to the same figure.
    live = sorted(every)
    slots = []
    for start, codes in sorted(reports.items()):
        mix: dict[Fuel, float | None] = {}
        for code in live:
            fuel, value = fuels.get(code, Fuel.UNKNOWN), codes.get(code)
            known = mix.get(fuel, 0.0)
            mix[fuel] = None if value is None or known is None else known + value
        slots.append(Slot(start, start + length_s, mix))
    return slots


def parse(lines: Iterable[str], name: str, factors: Factors) -> FuelFactors:
    """Parse the table's CSV. Raises TraceError naming file and row, ConfigError without a set."""
    reader = csv.DictReader(lines, strict=True)
    found: dict[Fuel, float] = {}
    for row in reader:
        try:
            fuel, value = Fuel(row["fuel"]), float(row["g_per_kwh"])
            if not (0.0 <= value < math.inf and row["source"] and fuel is not Fuel.STORAGE):
                raise ValueError("needs a factor >= 0, a source, and is not for storage")
            if row["factors"] == factors:
                found[fuel] = value
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{name}: row {reader.line_num}: unusable: {error!r}") from error
    missing = sorted(set(Fuel) - set(found) - {Fuel.STORAGE})
    if missing:
        fix = f"no {factors} factor for {', '.join(missing)}; use lifecycle or direct"
        raise ConfigError(name, [("factors", fix)])
    return FuelFactors(Signal(Basis.AVERAGE, factors), found)


def mix_intensity(
    mix: Mix, factors: FuelFactors, unnamed_share: float = UNNAMED_SHARE
) -> MixIntensity:
    """Generation-weighted mean of the factors.

    Raises NoDataError when nothing was generated or more than ``unnamed_share`` of it is of fuels
    that nobody names, ProviderAnswerError when generation is negative beyond what plants at rest
    draw. The bounds take unnamed fuels for carbon-free, and for coal.
    """
    output = {f: v for f, v in mix.items() if v is not None and f is not Fuel.STORAGE}
    total = sum(v for v in output.values() if v > 0.0)
    if not 0.0 < total < math.inf:
        raise NoDataError("nothing was generated, or nothing reported")
    for fuel, value in output.items():
        if value < -_NEGATIVE_SHARE * total:
            raise ProviderAnswerError(
                f"generation from {fuel} is below 0, by {-value / total:.0%} of all"
            )
    share = {f: max(0.0, v) / total for f, v in output.items()}
    unnamed = sum(share.get(fuel, 0.0) for fuel in _UNNAMED)
    if unnamed > unnamed_share:
        limit = f"more than {unnamed_share:.0%} of what was generated"
        raise NoDataError(f"{unnamed:.0%} is from other or unknown fuels, {limit}")
    by_fuel = factors.g_per_kwh
    named = sum(s * by_fuel[f] for f, s in share.items() if f not in _UNNAMED)
    value = named + sum(share.get(f, 0.0) * by_fuel[f] for f in _UNNAMED)
    return MixIntensity(value, min(named, value), named + unnamed * by_fuel[Fuel.COAL])


def defects(slots: Iterable[Slot]) -> dict[float, str]:
    """Why a slot's report is not complete, by its start; slots without a defect are left out.

    ``slots``: about a day and more of one zone, oldest first, so that it is known what is usual.
    Late or broken reports look like a clean hour (PJM, 2022-10-01: 47 g/kWh from 0.3 % of the
    usual output), hence refusal rather than a wide interval.
    """
    slots = list(slots)
    totals = [_total(slot.mix) for slot in slots]
    usual = median(totals) if totals else 0.0
    found = {}
    for slot, total in zip(slots, totals, strict=True):
        if total < _LEAST_OF_USUAL * usual:
            found[slot.start] = f"only {total / usual:.0%} of the usual output is reported"
        elif total > _MOST_OF_USUAL * usual:
            found[slot.start] = f"{total / usual:.0f} times the usual output is reported"
    sound = [slot for slot in slots if slot.start not in found]
    for fuel in Fuel:
        if fuel is not Fuel.STORAGE and fuel not in _UNNAMED:
            for start, share in _missing(fuel, sound):
                if share > _DOMINATING_SHARE:
                    found[start] = f"{fuel} is not reported, lately {share:.0%} of the output"
    return found


def observed(
    slots: Iterable[Slot],
    factors: FuelFactors,
    source: str,
    *,
    lag_s: float,
    reader: RowReader | None = None,
) -> tuple[Intensity, ...]:
    """The intensity of every slot with a complete report, oldest first.

    ``reader``: counts the slots whose report cannot be true.

    Of kind ESTIMATED: output is measured (and later revised), what a kWh of a fuel emits is
    assumed. A value is stale ``lag_s`` and two slots after its slot's end. Raises the error of
    the newest slot when none can be used, NoDataError without a slot.
    """
    slots = sorted(slots, key=lambda slot: slot.start)
    refused = defects(slots)
    values = []
    problem: ProviderError = NoDataError(f"{source}: no generation is reported for this time")
    for slot in slots:
        try:
            mixed = mix_intensity(slot.mix, factors)
            if slot.start in refused:
                raise NoDataError(refused[slot.start])
        except (NoDataError, ProviderAnswerError) as error:
            untrue = not isinstance(error, NoDataError)
            told = error if untrue else refused.get(slot.start, error)
            problem = type(error)(f"{source}: {told}")
            if reader is not None and (untrue or _is_below_zero(slot.mix)):
                reader.drop(ProviderRowError(str(told), Fault.OUT_OF_RANGE), f"slot {slot.start}")
            continue
        values.append(_with_band(slot, mixed, factors.signal, source, lag_s))
    if not values:
        raise problem
    return tuple(values)


def _with_band(
    slot: Slot, mixed: MixIntensity, signal: Signal, source: str, lag_s: float
) -> Intensity:
    value = mixed.g_per_kwh
    unnamed = max(value - mixed.low_g_per_kwh, mixed.high_g_per_kwh - value)
    return with_band(
        value,
        signal,
        Kind.ESTIMATED,
        source,
        observed_at=slot.end,
        expires_at=slot.end + lag_s + 2 * (slot.end - slot.start),
        half_g=value * MIX_HALF_WIDTH + unnamed,
    )


def _total(mix: Mix) -> float:
    return sum(v for f, v in mix.items() if v is not None and v > 0.0 and f is not Fuel.STORAGE)


def _missing(fuel: Fuel, slots: list[Slot]) -> Iterable[tuple[float, float]]:
    """The slots that lack ``fuel``, with its share as last reported (or else as first reported)."""
    reported = [_reported(fuel, slot.mix) for slot in slots]
    last = next((value for value in reported if value is not None), None)
    for slot, value in zip(slots, reported, strict=True):
        if value is not None:
            last = value
        elif last is not None:
            yield slot.start, last / (last + _total(slot.mix) or 1.0)


def _reported(fuel: Fuel, mix: Mix) -> float | None:
    value = mix.get(fuel)
    # Plants at rest draw a little power: below 0 is no more of a report than 0.
    return None if value is not None and value <= 0.0 and fuel in _STEADY else value


def _is_below_zero(mix: Mix) -> bool:
    """Whether a fuel that does not stop is reported to take power."""
    return any((mix.get(fuel) or 0.0) < 0.0 for fuel in _STEADY)
