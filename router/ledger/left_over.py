"""What writers left in a ledger's folder that nobody goes on from: there were more workers before.

Their rows are on the disk, but in no file: they are sealed, and sent, by one process of those that
there are now.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from router.errors import ConfigError, DataError
from router.ledger.writer_slot import WRITERS, WriterSlot

# At the end it is given up: the next process begins anew.
_LAST_S: Final = 2.0

_log = logging.getLogger(__name__)


class LeftOver:
    """A thread that goes through them once. ``seal``: of one slot, which it may close after."""

    def __init__(
        self, root: Path, name: str, taken: Collection[int], seal: Callable[[WriterSlot], None]
    ) -> None:
        """``name``: of the gateway, ``taken``: numbers of its processes that there are."""
        self._root = root
        self._name = name
        self._taken = taken
        self._seal = seal
        self._thread = threading.Thread(target=self.run, name="ledger left over", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Wait for it, but not long."""
        self._thread.join(min(timeout_s, _LAST_S))

    def run(self) -> None:
        """Every slot of this gateway that has no process. Never raises."""
        pattern = re.compile(re.escape(self._name) + r"-(\d+)")
        for folder in sorted((self._root / WRITERS).glob("*")):
            found = pattern.fullmatch(folder.name)
            if found is None or int(found[1]) in self._taken or not any(folder.glob("*.journal")):
                continue
            try:
                slot = WriterSlot(self._root, folder.name, "")
            except ConfigError:
                # Another gateway of this name has more workers: these are its own.
                continue
            except (OSError, DataError) as error:
                _log.error("rows in %s stay where they are: %s", folder, error)
                continue
            try:
                self._seal(slot)
            except (OSError, DataError) as error:
                _log.error("rows in %s stay where they are: %s", folder, error)
            finally:
                slot.close()
