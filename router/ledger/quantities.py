"""Figures that know their unit: energy, mass, and mass for each unit of use.

Published specifications print figures a hundred and a thousand times off, in their own examples,
because kg, g, Wh and kWh are plain numbers there. Here a kind of figure is a type: what does not
belong together cannot be added, and a unit is named where a number comes in and where it goes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from router.ledger.columns import G_QUANTUM, J_QUANTUM
from router.units import J_PER_KWH, J_PER_WH

J_QUANTA: Final = round(1.0 / J_QUANTUM)
G_QUANTA: Final = round(1.0 / G_QUANTUM)

_Number = int | float | Fraction


@dataclass(frozen=True, slots=True)
class EnergyAmount:
    """Energy. Sums are exact."""

    joules: Fraction

    @classmethod
    def of_j(cls, joules: _Number) -> EnergyAmount:
        """Of joules."""
        return cls(Fraction(joules))

    @classmethod
    def of_wh(cls, wh: _Number) -> EnergyAmount:
        """Of watt-hours."""
        return cls(Fraction(wh) * int(J_PER_WH))

    @classmethod
    def of_kwh(cls, kwh: _Number) -> EnergyAmount:
        """Of kilowatt-hours."""
        return cls(Fraction(kwh) * int(J_PER_KWH))

    @classmethod
    def of_quanta(cls, quanta: int) -> EnergyAmount:
        """Of the ledger's own unit, 2^-20 J."""
        return cls(Fraction(quanta, J_QUANTA))

    @property
    def j(self) -> float:
        """In joules."""
        return float(self.joules)

    @property
    def wh(self) -> float:
        """In watt-hours."""
        return float(self.joules / int(J_PER_WH))

    @property
    def kwh(self) -> float:
        """In kilowatt-hours."""
        return float(self.joules / int(J_PER_KWH))

    def __add__(self, other: object) -> EnergyAmount:
        if not isinstance(other, EnergyAmount):
            return NotImplemented
        return EnergyAmount(self.joules + other.joules)

    def at(self, g_per_kwh: _Number) -> CarbonMass:
        """What it emits at an intensity."""
        return CarbonMass(self.joules / int(J_PER_KWH) * Fraction(g_per_kwh))


@dataclass(frozen=True, slots=True)
class CarbonMass:
    """CO2 equivalent. Sums are exact."""

    grams: Fraction

    @classmethod
    def of_g(cls, grams: _Number) -> CarbonMass:
        """Of grams."""
        return cls(Fraction(grams))

    @classmethod
    def of_kg(cls, kg: _Number) -> CarbonMass:
        """Of kilograms."""
        return cls(Fraction(kg) * 1000)

    @classmethod
    def of_quanta(cls, quanta: int) -> CarbonMass:
        """Of the ledger's own unit, 2^-24 g."""
        return cls(Fraction(quanta, G_QUANTA))

    @property
    def g(self) -> float:
        """In grams."""
        return float(self.grams)

    @property
    def kg(self) -> float:
        """In kilograms."""
        return float(self.grams / 1000)

    def __add__(self, other: object) -> CarbonMass:
        if not isinstance(other, CarbonMass):
            return NotImplemented
        return CarbonMass(self.grams + other.grams)

    def per(self, count: _Number, unit: FunctionalUnit) -> CarbonPerUnit | None:
        """For each unit of use; None where there was none."""
        return CarbonPerUnit(self.grams / Fraction(count), unit) if count > 0 else None


class FunctionalUnit(StrEnum):
    """What a score is for (ISO/IEC 21031, R; SCI for AI, functional units of consumers)."""

    # Of a prompt or of an answer: what language models are asked and say.
    TOKEN = "token"
    OUTPUT_TOKEN = "output token"
    REQUEST = "request"
    IMAGE = "image"
    VIDEO_SECOND = "second of video"
    AUDIO_SECOND = "second of audio"
    PAGE = "page"
    EXECUTION = "execution"
    # Of providers, in published examples.
    PARAMETER = "parameter"


@dataclass(frozen=True, slots=True)
class CarbonPerUnit:
    """A score: mass for each unit of use. Scores are never added: add masses and counts first."""

    grams: Fraction
    unit: FunctionalUnit

    @property
    def g(self) -> float:
        """Grams for one."""
        return float(self.grams)

    def g_per(self, count: int) -> float:
        """Grams for so many, such as a million."""
        return float(self.grams * count)

    def kg_per(self, count: int) -> float:
        """Kilograms for so many, such as a billion."""
        return float(self.grams * count / 1000)
