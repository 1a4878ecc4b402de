"""What all gateways learned, in the store that they share: told every minute, taken up at the start
and every few minutes after it.

Off the event loop where it takes long, and never on a request's way. What is its own evidence and
what others' is kept apart by `router.core.evidence`, what many told is made one by
`router.core.merging`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from router.app.carbon.build import grid_zones
from router.app.runtime import Runtime
from router.contract import StateStore
from router.core.evidence import Evidence, Told
from router.core.learned import Learned
from router.core.merging import HALF_LIFE_S, Witness
from router.director.learned import merged_for, take_up
from router.errors import StateStoreError
from router.state.learned_store import Kept, LearnedStore

# A gateway that starts does not wait longer for what others learned.
_FIRST_S: Final = 5.0
_READ_S: Final = 30.0
# Between two readings of what others learned, at least; and what they may take of the network.
LEAST_PERIOD_S: Final = 300.0
READ_BYTES_PER_S: Final = 65_536.0
# Entries that are taken up in a row: a few milliseconds, in which no request is served.
_AT_ONCE: Final = 500

_log = logging.getLogger(__name__)


def reading_period_s(read_bytes: int) -> float:
    """Until all is read again, after so many bytes were."""
    return max(LEAST_PERIOD_S, read_bytes / READ_BYTES_PER_S)


class _Last(NamedTuple):
    """What this process told last: all that it knew, and whose it was."""

    learned: Learned
    told: Told


class LearnedSharing:
    """One process's side. Never raises: what cannot be read or written is said in the log."""

    def __init__(
        self, store: StateStore, identity: str, runtime: Runtime, evidence: Evidence
    ) -> None:
        """``identity``: of this process in the ``store``; ``evidence``: of this process."""
        self._place = runtime.config.fleet.gateway_origin
        self._store = LearnedStore(store, identity, self._place, runtime.clock)
        self._runtime = runtime
        self._evidence = evidence
        self._last: _Last | None = None
        self._due_at = -math.inf
        self._has_read = False
        self._failing = False

    async def first(self, before: Learned | None, age_s: float) -> tuple[Learned | None, int]:
        """What all learned, and ``before`` what this one did ``age_s`` ago where nobody else tells;
        by how many. Before anything is served."""
        dispatcher = self._runtime.dispatcher
        try:
            async with asyncio.timeout(_FIRST_S):
                found = await self._store.read()
        except (StateStoreError, TimeoutError) as error:
            _log.warning("what other gateways learned is not known: %s", str(error) or "no answer")
            return before, 0
        self._has_read, self._due_at = True, self._next_at(found)
        if dispatcher is None or not found:
            return before, 0
        witnesses = self._witnesses(found)
        if before is not None:
            # The process before this one told it, too.
            witnesses.append(possible(self._runtime, Witness(before, age_s, is_own=False)))
        return await asyncio.to_thread(merged_for, dispatcher, witnesses), len(found)

    async def tell(self, learned: Learned, within_s: float) -> None:
        """Replace what this process told: ``learned``, all that is known here."""
        told = await asyncio.to_thread(self._evidence.told, learned, self._ticks)
        self._last = _Last(learned, told)
        try:
            async with asyncio.timeout(within_s):
                await self._store.write(told.own, told.others)
        except (StateStoreError, TimeoutError) as error:
            # Once, until it succeeds again.
            if not self._failing:
                _log.error("what is learned is not shared: %s", str(error) or "no answer")
            self._failing = True
        else:
            self._failing = False

    async def take_up(self) -> None:
        """Where it is time: what others learned of things of which little was learned here. After
        `tell`."""
        dispatcher, last = self._runtime.dispatcher, self._last
        if dispatcher is None or last is None or self._ticks < self._due_at:
            return
        try:
            async with asyncio.timeout(_READ_S):
                # Of those that have ended all was taken up at the start.
                found = await self._store.read(HALF_LIFE_S if self._has_read else math.inf)
        except (StateStoreError, TimeoutError):
            # Told already, by whoever calls it more often.
            return
        self._has_read, self._due_at = True, self._next_at(found)
        if not found:
            return
        witnesses = self._witnesses(found)
        witnesses.append(possible(self._runtime, Witness(last.told.own, 0.0)))
        witnesses.append(Witness(last.told.others, 0.0, is_own=False))
        merged = await asyncio.to_thread(merged_for, dispatcher, witnesses)
        taken = await asyncio.to_thread(self._evidence.lacking, last.learned, merged, self._ticks)
        for piece in _pieces(taken):
            take_up(dispatcher, piece)
            await asyncio.sleep(0)
        chain = self._runtime.carbon.chain
        chain.restore(chain.restorable(taken.skills, grid_zones(self._runtime.config.fleet)))

    @property
    def _ticks(self) -> float:
        return self._runtime.clock.monotonic()

    def _next_at(self, found: Sequence[Kept]) -> float:
        return self._ticks + reading_period_s(sum(kept.size for kept in found))

    def _witnesses(self, found: Sequence[Kept]) -> list[Witness]:
        witnesses = []
        for kept in found:
            here = kept.place == self._place
            own = Witness(kept.own, kept.age_s, here)
            others = Witness(kept.others, kept.age_s, here, is_own=False)
            witnesses += [possible(self._runtime, one) for one in (own, others)]
        return witnesses


def possible(runtime: Runtime, witness: Witness) -> Witness:
    """Without what cannot be of the forecasts; the rest is the dispatcher's to tell."""
    zones = grid_zones(runtime.config.fleet)
    skills = runtime.carbon.chain.restorable(witness.learned.skills, zones)
    return witness._replace(learned=replace(witness.learned, skills=skills))


def _pieces(learned: Learned) -> Iterator[Learned]:
    """``learned`` in parts of so many entries, forecasts aside."""
    for first in range(0, len(learned.latency), _AT_ONCE):
        yield Learned(latency=learned.latency[first : first + _AT_ONCE])
    for first in range(0, len(learned.margins), _AT_ONCE):
        yield Learned(margins=learned.margins[first : first + _AT_ONCE])
    for first in range(0, len(learned.lengths), _AT_ONCE):
        yield Learned(lengths=learned.lengths[first : first + _AT_ONCE])
    yield Learned(answer_bytes=learned.answer_bytes, prompt_bytes=learned.prompt_bytes)
