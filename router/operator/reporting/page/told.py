"""What the page's sections read of a report: one model's month."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from router.ledger.quantities import CarbonMass, EnergyAmount
from router.operator.reporting.gather import GroupSums, Report, ZoneHour


@dataclass(frozen=True)
class ModelMonth:
    """``figures``: the model's sums."""

    report: Report
    figures: GroupSums

    @cached_property
    def hours(self) -> tuple[ZoneHour, ...]:
        """The model's own."""
        name = self.figures.group
        return tuple(one for one in self.report.group_hours if one.figures.group == name)

    @property
    def answered(self) -> int:
        """Answers."""
        return self.figures.count("answered")

    @property
    def tokens(self) -> int:
        """Of prompts and answers; 0 of what has one token an answer, and no others."""
        output = self.figures.count("output_tokens")
        return self.figures.count("input_tokens") + output if output > self.answered else 0

    def energy(self, *names: str) -> EnergyAmount:
        """As of `GroupSums`."""
        return self.figures.energy(*names)

    def mass(self, *names: str) -> CarbonMass:
        """As of `GroupSums`."""
        return self.figures.mass(*names)

    @cached_property
    def split(self) -> dict[str, EnergyAmount]:
        """Energy by part of the fleet, in the page's order; they add up to the whole."""
        sums = self.figures.sums
        host = sums["gpu_known_q"] - sums["gpu_q"]
        rest = sums["it_q"] - sums["gpu_known_q"]
        parts = {
            "gpu": sums["gpu_q"],
            "host": host,
            "machines": rest,
            "idle": sums["idle_q"],
            "difference": sums["difference_q"],
            "overhead": sums["overhead_q"],
            "network": sums["network_q"],
            "gateway": sums["gateway_q"],
        }
        return {name: EnergyAmount.of_quanta(quanta) for name, quanta in parts.items()}

    @cached_property
    def market(self) -> tuple[CarbonMass, int] | None:
        """Market-based grams and the energy, in quanta, that they are of; None without factors."""
        found = self.report.market.get(f"{self.report.per}:{self.figures.group}")
        if not self.report.market or found is None:
            return None
        return CarbonMass.of_quanta(found[0]), found[1]
