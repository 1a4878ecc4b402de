"""What one worker says of the others: with a shared port, whichever worker answers must tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from router.peers.beats import BeatWatch
from router.peers.rows import PARENT, Phase, ProcessRows, Reload
from router.telemetry.admin import Liveness, Reason

# A slow one is not worth a word yet.
_STILL_S: Final = 2.0
# The parent replaces workers; by then it should have.
_PARENT_STILL_S: Final = 15.0


class Siblings:
    """The other processes of a gateway, as worker ``row`` sees them in their shared rows."""

    def __init__(self, rows: ProcessRows, row: int) -> None:
        self._rows = rows
        self._others = [r for r in range(rows.size.workers + 1) if r not in (PARENT, row)]
        self._watch = BeatWatch(rows.beats, (PARENT, *self._others))

    def look(self, now: float) -> None:
        """Look who has beaten; ``now``: monotonic, s. To be called about every half second."""
        self._watch.look(now)

    def reasons(self) -> Sequence[Reason]:
        """What is wrong with the others; none of it keeps this worker from serving."""
        return [reason for row in self._others for reason in self._of(row)]

    def liveness(self) -> Liveness:
        """Not alive when nobody looks after the workers any more."""
        still_s = self._watch.still_s(PARENT)
        if still_s <= _PARENT_STILL_S:
            return Liveness(True, tuple(self.reasons()))
        detail = f"the parent process has stood still for {still_s:.0f} s: restart the gateway"
        return Liveness(False, (Reason("parent_frozen", detail, False), *self.reasons()))

    def _of(self, row: int) -> Sequence[Reason]:
        phase, still_s = self._rows.phase(row), self._watch.still_s(row)
        who = f"worker {row} of {self._rows.size.workers} (process {self._rows.pid(row)})"
        if phase is Phase.GONE:
            detail = f"worker {row} of {self._rows.size.workers} has ended and is to be replaced"
            return [Reason("worker_down", detail, False)]
        if phase is Phase.STARTING:
            return [Reason("worker_starting", f"{who} does not serve yet", False)]
        found = []
        if still_s > _STILL_S:
            detail = f"{who} has stood still for {still_s:.0f} s"
            found.append(Reason("worker_frozen", detail, False))
        if self._rows.reload(row) is Reload.REFUSED:
            detail = (
                f"{who} refused the file on disk; the configuration before stays in force there"
            )
            found.append(Reason("reload_refused", detail, False))
        return found
