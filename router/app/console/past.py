"""What was, for whoever looks back: the last minutes as they were shown, and the ledger's hours.

The ledger is read in threads that nobody waits for longer than a few seconds, one after the other:
for operators within a fifth of a core, and for tenants within another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from router.app.console.audiences import Audiences
from router.app.runtime import Runtime
from router.app.turns import Turns
from router.carbon.chain.combine import LEADS_H
from router.carbon.chain.revisions import Revisions
from router.console.scene import FORMAT, Scope, fleet_document
from router.console.what_if import policy_names
from router.core.columns import Snapshot
from router.errors import DataError, ReceiptsUnreachableError
from router.telemetry.view import Json
from router.units import HOUR_S

if TYPE_CHECKING:
    from router.console.past import MomentSpans
    from router.ledger.asking.moments import LedgerMoment, LedgerMoments
    from router.ledger.asking.threads import ReadingThreads

_WAIT_S: Final = 10.0
# The hours that a ledger has are looked up so seldom.
_LISTED_S: Final = 30.0
_AROUND_S: Final = 25.0 * HOUR_S
# What was shown is of a moment for so long, s of the wall: ticks may be as far apart.
_NEAR_S: Final = 15.0

_Value = TypeVar("_Value")


class _Ledger(NamedTuple):
    moments: LedgerMoments
    threads: ReadingThreads


class PastScenes:
    """Of one process. ``moments``: of its ledger, None where it keeps none; inside a running event
    loop."""

    def __init__(
        self,
        runtime: Runtime,
        audiences: Audiences,
        moments: LedgerMoments | None,
        workers: int,
    ) -> None:
        self._runtime = runtime
        self._audiences = audiences
        self._workers = workers
        # Operators do not stand in line behind tenants, nor do those who look at the last minutes
        # behind those who look at the ledger.
        self._turns, self._of_tenants, self._showing = Turns(), Turns(), Turns()
        self._listed: list[tuple[float, float]] = []
        self._listed_at = float("-inf")
        self._ledger: _Ledger | None = None
        if moments is not None:
            from router.ledger.asking.threads import ReadingThreads

            # One of its own: whoever looks back takes no place of callers who ask for receipts.
            self._ledger = _Ledger(moments, ReadingThreads(1))

    async def reach(self, scope: Scope) -> dict[str, Json]:
        """How far back there is anything. Raises ReceiptsUnreachableError."""
        audience = self._audiences.find(scope)
        recent = None if audience is None else audience.recent.span
        spans: list[Json] = []
        if self._ledger is not None and self._sees_ledger(scope):
            spans = [list(span) for span in await self._hours(self._ledger, scope)]
        return {
            "format": FORMAT,
            "now": self._runtime.clock.now(),
            "recent": None if recent is None else list(recent),
            "has_ledger": self._ledger is not None,
            "sees_ledger": self._sees_ledger(scope),
            "hours": spans,
        }

    async def scene(self, scope: Scope, at: float) -> dict[str, Json] | None:
        """As it was at ``at``, unix s of the clock that dates intensities; None where nothing is
        known of then. Raises ReceiptsUnreachableError."""
        audience = self._audiences.find(scope)
        shown = (
            None if audience is None else audience.recent.scene(at, _NEAR_S * _speed(self._runtime))
        )
        if shown is not None:
            async with self._showing.turn() as turn:
                document = await turn.aside(shown.document)
            return {"format": FORMAT, "how": "recent", "is_whole": True, **document}
        if self._ledger is None or not self._sees_ledger(scope):
            return None
        known = self._runtime.carbon.chain.revisions.during(at - _AROUND_S, at + _AROUND_S)
        now, ledger, owner = self._runtime.clock.now(), self._ledger, self._owner(scope)
        spans = _spans(self._runtime)
        return await self._read(
            scope,
            lambda: self._scene(ledger.moments.moment(at, spans.line_s, owner), scope, known, now),
        )

    async def decision(self, scope: Scope, key: str) -> dict[str, Json] | None:
        """A kept one with every term; None where there is none, or it is not of the scope. Raises
        ReceiptsUnreachableError."""
        if self._ledger is None or not self._sees_ledger(scope):
            return None
        from router.console.past import opened

        moments, owner = self._ledger.moments, self._owner(scope)

        def look() -> dict[str, Json] | None:
            found = moments.decision(key, owner)
            return None if found is None else opened(found)

        return await self._read(scope, look)

    def _scene(
        self, moment: LedgerMoment, scope: Scope, known: Revisions, now: float
    ) -> dict[str, Json] | None:
        from router.console import past

        snapshot = past.newest_snapshot(moment)
        if snapshot is None and not moment.rows.table.num_rows:
            return None
        # Without a decision that tells it the fleet is the one that is in force.
        fleet = self._runtime.config.fleet if snapshot is None else snapshot.layout.fleet
        spans = _spans(self._runtime)
        return {
            "format": FORMAT,
            "how": "ledger",
            "is_whole": moment.is_whole,
            "known_at": None if not moment.others else moment.others[-1].row.seen.at,
            "at": moment.at,
            "fleet": self._fleet(snapshot, scope),
            "grid": None
            if snapshot is None
            else past.past_grid(snapshot, moment.at, known.mean, LEADS_H, now),
            "history": past.past_line(moment, spans),
            "decisions": past.past_decisions(moment, fleet),
            "tick": past.past_tick(moment, fleet, spans, scope.is_all),
        }

    def _fleet(self, snapshot: Snapshot | None, scope: Scope) -> dict[str, Json]:
        dispatcher = self._runtime.dispatcher
        assert dispatcher is not None
        then = dispatcher.view.snapshot if snapshot is None else snapshot
        speed = _speed(self._runtime)
        return fleet_document(
            then.layout.fleet, then.policy, policy_names(), speed, self._workers, scope
        )

    async def _hours(self, ledger: _Ledger, scope: Scope) -> Sequence[tuple[float, float]]:
        now = self._runtime.clock.monotonic()
        if now - self._listed_at >= _LISTED_S:
            self._listed = await self._read(scope, ledger.moments.spans)
            self._listed_at = now
        return self._listed

    def _sees_ledger(self, scope: Scope) -> bool:
        return scope.is_all or self._owner(scope) is not None

    def _owner(self, scope: Scope) -> str | None:
        if scope.owner is None or self._ledger is None:
            return None
        return self._ledger.moments.owner(scope.owner)

    async def _read(self, scope: Scope, work: Callable[[], _Value]) -> _Value:
        assert self._ledger is not None

        took_s = 0.0

        def timed() -> _Value:
            nonlocal took_s
            began = time.thread_time()
            try:
                return work()
            finally:
                took_s = time.thread_time() - began

        turns = self._turns if scope.is_all else self._of_tenants
        async with turns.turn() as turn:
            try:
                return await self._ledger.threads.run(timed, _WAIT_S)
            except (DataError, OSError) as error:
                raise ReceiptsUnreachableError(
                    f"the ledger cannot be read: {type(error).__name__}; ask again", 1.0
                ) from error
            finally:
                # Whoever asks for what cannot be read has no more of a core for that.
                turn.took(took_s)


def _speed(runtime: Runtime) -> float:
    clock = runtime.config.settings.clock
    return clock.speed if clock else 1.0


def _spans(runtime: Runtime) -> MomentSpans:
    from router.console.past import spans_of

    return spans_of(_speed(runtime))
