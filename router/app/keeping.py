"""What was learned survives a restart: read at the start, written every minute and at the end.

In a file, or in the store that gateways share, or both. Of several workers each learns from its
share of the same requests. Of one file one of them is the writer, for several would replace each
other's; in the store each has a place of its own. Whoever starts goes on from all that is there,
made one by `router.core.merging`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Final

from router.app.carbon.build import grid_zones
from router.app.runtime import Runtime
from router.config.settings import StateSettings
from router.contract import StateStore
from router.core.learned import Learned
from router.core.merging import Witness
from router.director.learned import learned_by, merged_for, restore
from router.errors import DataError, StateStoreError
from router.state.learned_file import LearnedFile
from router.state.learned_store import Kept, LearnedStore

_EVERY_S: Final = 60.0
# At the end, on a disk that has stalled, or to a store that hangs.
_LAST_S: Final = 2.0
# A gateway that starts does not wait longer for what others learned.
_FIRST_S: Final = 5.0

_log = logging.getLogger(__name__)


class Keeper:
    """One a process; without file and store it keeps nothing. ``writes``: whether it is the one
    that writes the file.

    Never raises: what cannot be read or written is said in the log.
    """

    def __init__(
        self,
        settings: StateSettings,
        runtime: Runtime,
        writes: bool,
        store: StateStore | None = None,
        identity: str = "",
    ) -> None:
        """``identity``: of this process in the ``store``."""
        self._file = LearnedFile(settings.file) if settings.file is not None else None
        self._path = settings.file
        self._runtime = runtime
        self._writes = writes
        place = runtime.config.fleet.gateway_origin
        self._place = place
        self._shared = LearnedStore(store, identity, place, runtime.clock) if store else None
        self._failing: set[str] = set()

    async def restore(self) -> None:
        """Go on from what was learned before, and elsewhere; before anything is served."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is None:
            return
        before, elsewhere = self._from_file(), await self._from_store()
        if elsewhere:
            witnesses = [
                Witness(kept.learned, kept.age_s, kept.place == self._place) for kept in elsewhere
            ]
            if before is not None and self._file is not None:
                witnesses.append(Witness(before, self._file.age_s(self._runtime.clock.now())))
            sifted = [self._possible(witness) for witness in witnesses]
            before = await asyncio.to_thread(merged_for, dispatcher, sifted)
        if before is None:
            return
        restore(dispatcher, before)
        chain = self._runtime.carbon.chain
        chain.restore(chain.restorable(before.skills, self._zones()))
        told = {"file": str(self._path)} if self._path else {}
        _log.info(
            "what was learned before is taken up", extra={**told, "processes": len(elsewhere)}
        )

    async def run(self) -> None:
        """One round: wait, then write off the event loop."""
        await asyncio.sleep(_EVERY_S)
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None and self._writes:
            await asyncio.to_thread(self._write, learned)
        await self._share(learned, _EVERY_S)

    async def close(self) -> None:
        """The last write, given up on a disk that has stalled and a store that hangs."""
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None and self._writes:
            last = threading.Thread(target=self._write, args=(learned,), daemon=True, name="state")
            last.start()
            last.join(_LAST_S)
        await self._share(learned, _LAST_S)

    def _possible(self, witness: Witness) -> Witness:
        """Without what cannot be of the forecasts; the rest is the dispatcher's to tell."""
        chain = self._runtime.carbon.chain
        skills = chain.restorable(witness.learned.skills, self._zones())
        return witness._replace(learned=replace(witness.learned, skills=skills))

    def _zones(self) -> list[str]:
        return grid_zones(self._runtime.config.fleet)

    def _learned(self) -> Learned | None:
        """What is to be written; None where nothing is."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is None or not (self._shared or (self._file is not None and self._writes)):
            return None
        return replace(learned_by(dispatcher), skills=self._runtime.carbon.chain.learned())

    def _from_file(self) -> Learned | None:
        if self._file is None:
            return None
        if self._writes:
            self._file.clean()
        try:
            return self._file.read()
        except (DataError, OSError) as error:
            _log.warning("nothing is known from before: %s: %s", self._path, error)
            return None

    async def _from_store(self) -> list[Kept]:
        if self._shared is None:
            return []
        try:
            async with asyncio.timeout(_FIRST_S):
                return await self._shared.read()
        except (StateStoreError, TimeoutError) as error:
            _log.warning("what other gateways learned is not known: %s", str(error) or "no answer")
            return []

    async def _share(self, learned: Learned, within_s: float) -> None:
        if self._shared is None:
            return
        try:
            async with asyncio.timeout(within_s):
                await self._shared.write(learned)
        except (StateStoreError, TimeoutError) as error:
            self._failed("store", f"what is learned is not shared: {str(error) or 'no answer'}")
        else:
            self._failing.discard("store")

    def _write(self, learned: Learned) -> None:
        if self._file is None:
            return
        try:
            self._file.write(learned)
        except OSError as error:
            self._failed("file", f"what is learned is not written to {self._path}: {error}")
        else:
            self._failing.discard("file")

    def _failed(self, where: str, why: str) -> None:
        # Once, until it succeeds again.
        if where not in self._failing:
            _log.error("%s", why)
        self._failing.add(where)
