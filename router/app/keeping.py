"""What was learned survives a restart: read at the start, written every minute and at the end.

In files, or in the store that gateways share (`router.app.learned_sharing`), or both. Of several
workers each learns from requests of its own, and writes them in a place of its own; each reads what
all wrote.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from router.app.carbon.build import grid_zones
from router.app.learned_sharing import LearnedSharing, possible
from router.app.runtime import Runtime
from router.config.settings import StateSettings
from router.contract import StateStore
from router.core.evidence import Evidence, Told
from router.core.learned import Learned
from router.core.merging import Witness
from router.director import Dispatcher
from router.director.learned import learned_by, merged_for, restore
from router.errors import DataError
from router.peers.rows import PARENT
from router.state.learned_file import LearnedFile, learned_path, learned_paths

_EVERY_S: Final = 60.0
# At the end, on a disk that has stalled, or to a store that hangs.
_LAST_S: Final = 2.0

_log = logging.getLogger(__name__)


class Keeper:
    """One a process; without file and store it keeps nothing.

    Never raises: what cannot be read or written is said in the log.
    """

    def __init__(
        self,
        settings: StateSettings,
        runtime: Runtime,
        row: int = PARENT,
        workers: int = 1,
        store: StateStore | None = None,
        identity: str = "",
    ) -> None:
        """``row``: of one of ``workers``, PARENT of a process alone; ``identity``: of this process
        in the ``store``."""
        number = max(row, PARENT + 1)
        self._path = settings.file
        self._file = None
        if settings.file is not None:
            self._file = LearnedFile(learned_path(settings.file, number))
        self._is_first = number == PARENT + 1
        self._workers = workers
        self._runtime = runtime
        self._evidence = Evidence()
        self._shared = None
        if store is not None:
            self._shared = LearnedSharing(store, identity, runtime, self._evidence)
        # Of workers that there were before and are not now.
        self._left_over: list[LearnedFile] = []
        self._failing = False

    async def restore(self) -> None:
        """Go on from what was learned before, and elsewhere; before anything is served."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is None:
            return
        (before, age_s), processes = self._from_files(dispatcher), 0
        if self._shared is not None:
            before, processes = await self._shared.first(before, age_s)
        if before is None:
            return
        restore(dispatcher, before)
        chain = self._runtime.carbon.chain
        zones = grid_zones(self._runtime.config.fleet)
        chain.restore(chain.restorable(before.skills, zones))
        # Of others, or of a process before this one.
        self._evidence.took_up(learned_by(dispatcher), self._ticks)
        told: dict[str, object] = {"file": str(self._path)} if self._path else {}
        if self._shared is not None:
            told["processes"] = processes
        _log.info("what was learned before is taken up", extra=told)

    async def run(self) -> None:
        """One round: wait, then write off the event loop, and take up what others learned."""
        await asyncio.sleep(_EVERY_S)
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None:
            told = await asyncio.to_thread(self._told, learned, self._ticks)
            await asyncio.to_thread(self._write, self._file, told)
        if self._shared is not None:
            await self._shared.tell(learned, _EVERY_S)
            await self._shared.take_up()

    async def close(self) -> None:
        """The last write, given up on a disk that has stalled and a store that hangs."""
        learned = self._learned()
        if learned is None:
            return
        if self._file is not None:
            told = self._told(learned, self._ticks)
            last = threading.Thread(
                target=self._write, args=(self._file, told), daemon=True, name="state"
            )
            last.start()
            last.join(_LAST_S)
        if self._shared is not None:
            await self._shared.tell(learned, _LAST_S)

    @property
    def _ticks(self) -> float:
        return self._runtime.clock.monotonic()

    def _learned(self) -> Learned | None:
        """What is to be written; None where nothing is."""
        dispatcher = self._runtime.dispatcher
        if dispatcher is None or (self._file is None and self._shared is None):
            return None
        return replace(learned_by(dispatcher), skills=self._runtime.carbon.chain.learned())

    def _told(self, learned: Learned, ticks: float) -> Told:
        """For the file: a process alone goes on exactly where it was, of workers each says which
        is its own evidence, so that what all took up has no more say than what one has seen."""
        if self._workers == 1:
            return Told(learned, Learned())
        return self._evidence.told(learned, ticks)

    def _from_files(self, dispatcher: Dispatcher) -> tuple[Learned | None, float]:
        """What is kept, and how old the newest of it is, s."""
        if self._file is None or self._path is None:
            return None, 0.0
        self._file.clean()
        paths = learned_paths(self._path)
        if self._is_first:
            self._left_over = [
                LearnedFile(path) for number, path in paths.items() if number > self._workers
            ]
        witnesses = []
        for path in paths.values():
            witnesses += self._read(path)
        if not witnesses:
            return None, 0.0
        age_s = min(one.age_s for one in witnesses)
        if len(witnesses) == 1:
            return witnesses[0].learned, age_s
        possibles = [possible(self._runtime, one) for one in witnesses]
        return merged_for(dispatcher, possibles), age_s

    def _read(self, path: Path) -> list[Witness]:
        file = LearnedFile(path)
        age_s = file.age_s(self._runtime.clock.now())
        try:
            found = file.read()
        except (DataError, OSError) as error:
            _log.warning("nothing is known from before: %s: %s", path, error)
            return []
        if found is None:
            return []
        witnesses = [Witness(found.own, age_s)]
        if found.others != Learned():
            witnesses.append(Witness(found.others, age_s, is_own=False))
        return witnesses

    def _write(self, file: LearnedFile, told: Told) -> None:
        try:
            file.write(told)
        except OSError as error:
            # Once, until it succeeds again.
            if not self._failing:
                _log.error("what is learned is not written to %s: %s", file.path, error)
            self._failing = True
        else:
            self._failing = False
            left_over, self._left_over = self._left_over, []
            for one in left_over:
                one.remove()
