"""The command of Envoy's plane: the gateway's process, with Envoy in the place of its fronts."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

from router.app import event_loop
from router.app.compose import build_clock
from router.app.descriptors import affordable_in_all, raise_limit
from router.app.fronts import CarrierParts
from router.app.gateway_process import GatewayProcess
from router.app.ledger import require_ledger
from router.app.listening import require_free
from router.app.loading import load
from router.app.process import cause_of
from router.backends.names import SystemResolver
from router.clock import WallClock
from router.config.settings import Config
from router.errors import EnvoyPlaneError
from router.identity.forwarded import ForwardedCertificates
from router.planes.envoy.bootstrap import fronts_of, tls_folder
from router.planes.envoy.callers import CallerAnswers
from router.planes.envoy.envoy_process import EnvoyProcess, envoy_program
from router.planes.envoy.module import built
from router.planes.envoy.plane import EnvoyPlane
from router.planes.envoy.support import notes, require_supported
from router.planes.envoy.tls_files import TlsFiles
from router.telemetry import logs

# In memory, where the system has such a place: Envoy's workers write there at every request.
_MEMORY = Path("/dev/shm")

_log = logging.getLogger(__name__)


def serve(config_path: Path) -> int:
    """Run Envoy and what decides in it until SIGTERM or SIGINT. Returns an exit code.

    Raises ConfigError, TraceError or EnvoyPlaneError before anything listens.
    """
    # A reload that is asked for before the handler stands waits until it does.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        return _serve(config_path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(config_path: Path) -> int:
    config = load(config_path)
    require_supported(config)
    require_ledger(config)
    envoy_program()
    output = logs.install(now=build_clock(config.settings.clock).monotonic)
    try:
        for note in notes(config):
            _log.warning("not on Envoy's plane: %s", note)
        server = config.settings.server
        wanted = server.max_connections * server.workers
        raise_limit(replace(server, max_connections=wanted), config.most_endpoints)
        connections = affordable_in_all(wanted, config.most_endpoints)
        process = EnvoyProcess(
            run_folder(config_path), built(os.environ), server.workers, os.environ
        )
        if not (process.runs() or server.share_port):
            require_free(
                str(config_path), [(f"server.{one.key}", one.listen) for one in fronts_of(config)]
            )
        carrier = _Build(_of_connections(config, connections), process)
        return event_loop.run(GatewayProcess(config, config_path, None, carrier).run())
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
    finally:
        output.close()


def _of_connections(config: Config, connections: int) -> Config:
    """With so many of callers, of all workers together."""
    server = config.settings.server
    each = max(1, connections // server.workers)
    server = replace(server, max_connections=each)
    return replace(config, settings=replace(config.settings, server=server))


class _Build:
    """A `BuildCarrier`."""

    def __init__(self, config: Config, process: EnvoyProcess) -> None:
        self._config = config
        self._process = process

    def require(self, config: Config) -> None:
        """See `BuildCarrier`."""
        require_supported(config)

    def __call__(self, parts: CarrierParts) -> EnvoyPlane:
        trust = parts.trust
        forwarded = ForwardedCertificates(native_key(self._process.folder))
        parts.access.forwarded = forwarded
        tls = TlsFiles(
            tls_folder(self._process.folder), self._config, trust.server, trust.access
        )  # fmt: skip
        return EnvoyPlane(
            self._config, parts.dispatcher, parts.dispatcher.parts.clock, parts.identity,
            parts.failures.failed, self._process, tls,
            CallerAnswers(parts.access, parts.dispatcher, WallClock(), parts.failures.failed),
            SystemResolver(), parts.receipts.keep, parts.native, parts.in_force,
            trust.access.field, forwarded,
        )  # fmt: skip


def native_key(folder: Path) -> str:
    """By which the gateway's process knows its Envoy: made once for a run, so that an Envoy that is
    taken over has it already. ``folder``: of the run, which this user alone may read."""
    path = folder / "native.key"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    made, new = secrets.token_urlsafe(32), path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with new.open("x") as file:
        new.chmod(0o600)
        file.write(made)
    new.replace(path)
    return made


def run_folder(config_path: Path) -> Path:
    """What is shared with Envoy: of this user and this file, so that it is found again.

    Raises EnvoyPlaneError for a folder of somebody else's.
    """
    digest = hashlib.sha256(str(config_path.resolve()).encode()).hexdigest()[:16]
    base = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    folder = base / f"carbon-router-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise EnvoyPlaneError(f"{folder} is not this user's: remove it")
    return folder
