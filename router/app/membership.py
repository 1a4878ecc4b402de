"""One worker's place among the workers of a gateway: what it shows them, and what it sees."""

from __future__ import annotations

from router.app.runtime import Runtime
from router.app.siblings import Siblings
from router.app.workers import WorkerOrder
from router.contract import Clock
from router.director import Dispatcher
from router.director.sequences import Sequences
from router.peers.loads import PeerLoads
from router.peers.rows import Phase, Reload
from router.telemetry.admin import Liveness, Reason
from router.telemetry.shared_files import unshared


class Membership:
    """Built in the worker, before its event loop runs. ``spending``: of carbon budgets;
    ``limits``: of principals."""

    def __init__(self, order: WorkerOrder, clock: Clock) -> None:
        self._row = order.row
        self._rows = order.memory.rows
        self._clock = clock
        self._siblings = Siblings(self._rows, order.row)
        self._pins = order.memory.pins(clock)
        # Of the last answers, this worker's and the others'.
        self.receipts = order.memory.receipts(order.row)
        self.spending = order.memory.spending(order.row)
        self.limits = order.memory.limits(order.row)

    def join(self, runtime: Runtime, dispatcher: Dispatcher) -> None:
        """Share requests in flight and sequences with the others from here on."""
        runtime.peers = peers = PeerLoads(self._rows, self._row)
        peers.adopt(runtime.board)
        self.know(runtime)
        dispatcher.places = peers
        dispatcher.sequences = Sequences(self._pins)
        runtime.processes = self._liveness

    def beat(self) -> None:
        """The event loop turns: show it, and look at the others."""
        self._rows.beat(self._row)
        self._siblings.look(self._clock.monotonic())

    def enter(self, phase: Phase) -> None:
        """Show where this worker is in its life."""
        self._rows.enter(self._row, phase)

    def reloaded(self, how: Reload, runtime: Runtime) -> None:
        """Show how a reload went here."""
        self._rows.reloaded(self._row, how)
        self.know(runtime)

    def _liveness(self) -> Liveness:
        liveness = self._siblings.liveness()
        if not unshared():
            return liveness
        detail = (
            "the disk for temporary files is full: /metrics of the other workers lacks this one"
        )
        note = Reason("metrics_not_shared", detail, False)
        return liveness._replace(notes=(*liveness.notes, note))

    def know(self, runtime: Runtime) -> None:
        """Another fleet may be in force."""
        self._pins.know(endpoint.name for endpoint in runtime.config.fleet.endpoints)
