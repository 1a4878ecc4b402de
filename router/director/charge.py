"""What one request takes of carbon budgets: reserved when it is let in, settled when it ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from router.core.budget_rulings import Ruling
from router.core.emitted import charged_g
from router.model import Provenance, Receipt
from router.units import UG_PER_G, micrograms

if TYPE_CHECKING:
    from router.director.dispatcher import Dispatcher


class Charge:
    """Of a request that was let in, until `settle` or `give_up`: exactly one of them ends it.

    All attempts count: what one emitted that failed, or was given up, is an estimate from how long
    it ran.
    """

    __slots__ = ("_cut_short_g", "_emulated", "_hold", "ruling")

    def __init__(self, dispatcher: Dispatcher, ruling: Ruling) -> None:
        """Reserve what ``ruling`` says."""
        self.ruling = ruling
        self._cut_short_g = 0.0
        self._emulated = False
        self._hold = dispatcher.budgets.hold(ruling, dispatcher.parts.clock.monotonic())

    def cut_short(self, lost: Receipt) -> None:
        """An attempt ended without an answer that would say what it took."""
        self._cut_short_g += charged_g(lost.facility_energy_j, lost.g_per_kwh)
        self._emulated = self._emulated or lost.energy_kind is Provenance.EMULATED

    def move(self, ruling: Ruling) -> None:
        """It goes on at another endpoint, where it may emit what ``ruling`` says."""
        self._hold.raise_to(micrograms(self._cut_short_g) + ruling.ask_ug)

    def settle(self, receipt: Receipt) -> Receipt:
        """It was answered; the receipt with what is left of the budget."""
        emitted_g = receipt.gco2e
        if not math.isfinite(emitted_g):
            emitted_g = charged_g(receipt.facility_energy_j, math.nan)
        self._hold.settle(self._cut_short_g + emitted_g, receipt.energy_kind)
        return receipt._replace(carbon_budget=self._hold.standing())

    def lose(self) -> None:
        """Nobody knows what became of it: it is charged all that it had reserved."""
        self._hold.settle(self.ruling.ask_ug / UG_PER_G, Provenance.ESTIMATED)

    def give_up(self) -> None:
        """It ended without an answer."""
        kind = Provenance.EMULATED if self._emulated else Provenance.ESTIMATED
        self._hold.settle(self._cut_short_g, kind)
