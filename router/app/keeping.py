"""What was learned survives a restart: read at the start, written every minute and at the end.

In a file, or in the store that gateways share (`router.app.learned_sharing`), or both. Of several
workers each learns from its share of the same requests. Of one file one of them is the writer, for
several would replace each other's; in the store each has a place of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Final

from router.app.carbon.build import grid_zones
from router.app.learned_sharing import LearnedSharing
from router.app.runtime import Runtime
from router.config.settings import StateSettings
from router.contract import StateStore
from router.core.learned import Learned
from router.director.learned import learned_by, restore
from router.errors import DataError
from router.state.learned_file import LearnedFile

_EVERY_S: Final = 60.0
# At the end, on a disk that has stalled, or to a store that hangs.
_LAST_S: Final = 2.0

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
        self._shared = LearnedSharing(store, identity, runtime) if store else None
        self._failing = False

    async def restore(self) -> None:
        """Go on from what was learned before, and elsewhere; before anything is served."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is None:
            return
        before, processes = self._from_file(), 0
        if self._shared is not None:
            now = self._runtime.clock.now()
            age_s = self._file.age_s(now) if self._file is not None else 0.0
            before, processes = await self._shared.first(before, age_s)
        if before is None:
            return
        restore(dispatcher, before)
        chain = self._runtime.carbon.chain
        zones = grid_zones(self._runtime.config.fleet)
        chain.restore(chain.restorable(before.skills, zones))
        if self._shared is not None:
            self._shared.took_up()
        told = {"file": str(self._path)} if self._path else {}
        _log.info("what was learned before is taken up", extra={**told, "processes": processes})

    async def run(self) -> None:
        """One round: wait, then write off the event loop, and take up what others learned."""
        await asyncio.sleep(_EVERY_S)
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None and self._writes:
            await asyncio.to_thread(self._write, learned)
        if self._shared is not None:
            await self._shared.tell(learned, _EVERY_S)
            await self._shared.take_up()

    async def close(self) -> None:
        """The last write, given up on a disk that has stalled and a store that hangs."""
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None and self._writes:
            last = threading.Thread(target=self._write, args=(learned,), daemon=True, name="state")
            last.start()
            last.join(_LAST_S)
        if self._shared is not None:
            await self._shared.tell(learned, _LAST_S)

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

    def _write(self, learned: Learned) -> None:
        if self._file is None:
            return
        try:
            self._file.write(learned)
        except OSError as error:
            # Once, until it succeeds again.
            if not self._failing:
                _log.error("what is learned is not written to %s: %s", self._path, error)
            self._failing = True
        else:
            self._failing = False
