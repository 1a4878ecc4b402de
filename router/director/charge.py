"""What one request takes of carbon budgets: reserved when it is let in, settled when it ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from router.core.carbon_budgets import Ruling
from router.core.emitted import charged_g
from router.core.lengths import Expected
from router.model import Provenance, Receipt, Request
from router.units import micrograms

if TYPE_CHECKING:
    from router.director.attempt import Attempt
    from router.director.dispatcher import Dispatcher


class Charge:
    """Of a request that was let in, until `settle` or `give_up`: exactly one of them ends it.

    All attempts count: what one emitted that failed, or was given up, is an estimate from how long
    it ran.
    """

    __slots__ = (
        "_cut_short_g", "_dispatcher", "_emulated", "_expected", "_hold", "_request", "ruling",
    )  # fmt: skip

    def __init__(
        self, dispatcher: Dispatcher, ruling: Ruling, expected: Expected, request: Request
    ) -> None:
        """Reserve what ``ruling`` says."""
        self.ruling = ruling
        self._dispatcher = dispatcher
        self._expected = expected
        self._request = request
        self._cut_short_g = 0.0
        self._emulated = False
        self._hold = dispatcher.budgets.hold(ruling, dispatcher.parts.clock.monotonic())

    def cut_short(self, attempt: Attempt) -> None:
        """An attempt ends now without an answer that would say what it took."""
        dispatcher = self._dispatcher
        network_j = dispatcher.network_j(self._request.payload_bytes)
        ended = dispatcher.parts.clock.monotonic()
        self._cut_short_g += attempt.emitted_g(ended, self._expected, network_j)
        self._emulated = self._emulated or attempt.decision.endpoint.emulated

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

    def give_up(self) -> None:
        """It ended without an answer."""
        kind = Provenance.EMULATED if self._emulated else Provenance.ESTIMATED
        self._hold.settle(self._cut_short_g, kind)
