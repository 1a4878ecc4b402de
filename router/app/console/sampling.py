"""A sample of the decisions, and all receipts, for as long as somebody looks on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.app.observers import LoggedRequests
from router.console.decisions import ShownDecision, ShownDecisions
from router.console.traffic import ReceiptTraffic
from router.contract import Rng
from router.director import Dispatcher
from router.director.recording import Certain, Recorder
from router.model import Receipt

# Decisions to be opened, a second; refusals and what follows failures come first.
SHOWN_PER_S: Final = 4.0
_CERTAIN: Final = Certain(2.0, 8.0)
# Of a gateway that nobody looked at yet, which may be a busy one.
_FIRST_SHARE: Final = 0.02


class Sampling:
    """``decisions``, ``traffic``: what was taken; empty while it is not `begun`."""

    def __init__(self, observer: LoggedRequests, rng: Rng, prefix: str) -> None:
        """``rng``: of its own, and none of the ledger's share; ``prefix``: of decisions' keys."""
        self.decisions = ShownDecisions(prefix=prefix)
        self.traffic = ReceiptTraffic()
        self._observer = observer
        self._rng = rng
        self._dispatcher: Dispatcher | None = None
        self._ledgers: Recorder | None = None
        self._recorder: Recorder | None = None
        self._answered_per_s = 0.0

    @property
    def share(self) -> float:
        """Of decisions, kept by chance."""
        return 0.0 if self._recorder is None else self._recorder.share

    def attach(self, dispatcher: Dispatcher) -> None:
        """Look at decisions of ``dispatcher``, whose recorder is the ledger's."""
        self._dispatcher = dispatcher
        self._ledgers = dispatcher.recorder

    def begin(self) -> None:
        """From here on; again is no matter."""
        dispatcher = self._dispatcher
        if self._recorder is not None or dispatcher is None:
            return
        self._recorder = Recorder(
            self.decisions.keep, _FIRST_SHARE, self._rng, _CERTAIN, self._ledgers
        )
        self._answered_per_s = 0.0
        dispatcher.recorder = self._recorder
        self._observer.onlooker = self.traffic.take

    def end(self) -> None:
        """Nobody looks on any more."""
        if self._dispatcher is not None:
            self._dispatcher.recorder = self._ledgers
        self._observer.onlooker = None
        self._recorder = None
        self.decisions.clear()
        self.traffic = ReceiptTraffic()

    def follow(self, answered: int, seconds: float) -> None:
        """Let the share of decisions follow how many there are."""
        if self._recorder is None or not seconds > 0.0:
            return
        part = 0.3 if self._answered_per_s else 1.0
        self._answered_per_s += part * (answered / seconds - self._answered_per_s)
        share = min(1.0, SHOWN_PER_S / max(self._answered_per_s, SHOWN_PER_S))
        if not 0.67 < share / max(self._recorder.share, 1e-9) < 1.5:
            self._recorder.adopt(share)

    def news(self, receipts: Sequence[Receipt]) -> list[ShownDecision]:
        """Decisions since the last call, and those of which ``receipts`` tell how they ended."""
        new = self.decisions.turn()
        told = {one.key: one for one in (*new, *self.decisions.answered(receipts))}
        return list(told.values())
