"""What stands in files that others replace: in force until something better is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from router.errors import ConfigError

_Value = TypeVar("_Value")


class Watched(Generic[_Value]):
    """``value``: in force. ``version``: counts its replacements. ``refused``: why what is in the
    files now is not in force, "" when it is.

    Files are replaced by a rename, one after the other, or by a symbolic link to another folder, as
    Kubernetes does; what is read in between does not fit and is refused until it does.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path | None],
        read: Callable[[float], _Value],
        now: float,
    ) -> None:
        """``name``: the key of the configuration that names the files. ``read``: blocks, and
        raises ConfigError for what cannot be used, as this does; its argument: unix s."""
        self.name = name
        self.version = 1
        self.refused = ""
        self._files = [file for file in files if file is not None]
        self._read = read
        self._seen = self._signature()
        self.value = read(now)

    def look(self, now: float) -> bool:
        """Whether there is a new value; ``now``: unix s. Blocks: to be called beside the event
        loop, whose readers see the old value or the new one."""
        signature = self._signature()
        # What was refused may be complete by now, or valid, though the files look the same.
        if signature == self._seen and not self.refused:
            return False
        try:
            value = self._read(now)
        except ConfigError as error:
            self.refused = "; ".join(f"{key}: {text}" for key, text in error.problems)
            return False
        self._seen, self.refused = signature, ""
        if value == self.value:
            return False
        self.value = value
        self.version += 1
        return True

    def _signature(self) -> tuple[tuple[int, ...], ...]:
        """Of the files that stand there now, wherever links lead."""
        found: list[tuple[int, ...]] = []
        for file in self._files:
            try:
                told = file.stat()
                found.append((told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size))
            except OSError:
                found.append(())
        return tuple(found)
