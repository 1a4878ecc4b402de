"""Hints to a program: run once for each, with the hint on its standard input, and ended in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from typing import IO, Final

from router.config.settings import CommandSettings
from router.errors import HintNotTakenError

# Nothing else of the gateway's environment, which holds keys, is for it.
_PASSED: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")
_MOST_TOLD: Final = 500
_MOST_READ: Final = 64 * 1024


class Command:
    """One program, in a process group of its own, which ends as a whole where it takes too long;
    what a program leaves running that ended by itself is let alone: servers, for instance."""

    name: Final = "command"

    def __init__(self, settings: CommandSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = {name: environ[name] for name in _PASSED if name in environ}

    async def tell(self, body: bytes) -> None:
        """Run it. Raises HintNotTakenError where it cannot be, fails, or takes too long."""
        settings = self._settings
        program = settings.argv[0]
        words = _LastWords()
        hint = await asyncio.to_thread(_file_of, body)
        try:
            process = await asyncio.create_subprocess_exec(
                *settings.argv,
                stdin=hint,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=words.end,
                env=self._environ,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            words.close()
            raise HintNotTakenError(f"{program}: cannot be started: {error}") from None
        finally:
            hint.close()
        try:
            async with asyncio.timeout(settings.timeout_s):
                await process.wait()
        except TimeoutError:
            text = f"{program}: took over {settings.timeout_s:g} s, and was ended"
            raise HintNotTakenError(text) from None
        finally:
            told = words.close()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            why = told or "it says nothing"
            raise HintNotTakenError(f"{program}: ended with code {process.returncode}: {why}")


class _LastWords:
    """The end of what a program says on its standard error; what it started and left running may
    still hold that. ``end``: what it writes to."""

    def __init__(self) -> None:
        self._source, self.end = os.pipe()
        os.set_blocking(self._source, False)
        self._said = bytearray()
        asyncio.get_running_loop().add_reader(self._source, self._listen)

    def close(self) -> str:
        """Hear what there is to hear, and no more."""
        os.close(self.end)
        self._listen()
        asyncio.get_running_loop().remove_reader(self._source)
        os.close(self._source)
        return " ".join(self._said.decode(errors="replace").split())

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            # At most what a pipe holds.
            self._said.extend(os.read(self._source, _MOST_READ))
            del self._said[:-_MOST_TOLD]


def _file_of(body: bytes) -> IO[bytes]:
    """``body`` to be read from its begin: unlike a pipe it may be left unread."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever takes it closes it)
    file.write(body)
    file.seek(0)
    return file
