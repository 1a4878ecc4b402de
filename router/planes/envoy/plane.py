"""Envoy's plane as the gateway's process runs it: where fronts of its own would take requests, this
writes tables and reads records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from router.backends.names import Resolve
from router.config.settings import Config
from router.contract import Clock
from router.director import Dispatcher
from router.errors import EnvoyPlaneError
from router.identity.forwarded import ForwardedCertificates
from router.model import Receipt
from router.planes.envoy.bootstrap import (
    TABLE,
    Json,
    bootstrap,
    fronts_of,
)
from router.planes.envoy.callers import CallerAnswers
from router.planes.envoy.envoy_process import EnvoyProcess
from router.planes.envoy.generations import Generations
from router.planes.envoy.hosts import HostFiles
from router.planes.envoy.image import TableTerms, Times
from router.planes.envoy.kept_decisions import KeptDecisions
from router.planes.envoy.keys_file import KEYS, NATIVE, KeysFile
from router.planes.envoy.names import EVERY_S, HostNames
from router.planes.envoy.outcomes import Outcomes
from router.planes.envoy.record_errors import Failed
from router.planes.envoy.routes import native_cluster
from router.planes.envoy.seats import EnvoyHost
from router.planes.envoy.shared_file import RECORDS, SharedFile
from router.planes.envoy.tls import Reaches
from router.planes.envoy.tls_files import TlsFiles

# Between two tables: what is learned, and that a server is out, is decided by after so long.
PUBLISH_S: Final = 0.05
# Between two looks at records, and how many are taken in at a time: the loop has more to do.
_READ_S: Final = 0.02
_AT_A_TIME: Final = 500
_DRAIN_LOOK_S: Final = 0.05
# Whether callers are still those that Envoy was told of, and their limits' parts.
_LOOK_S: Final = 0.1
# Certificates are looked at every two seconds; what is new is Envoy's a moment later.
_RENEW_S: Final = 0.2

_log = logging.getLogger(__name__)


class NativeFronts(Protocol):
    """What takes requests in the gateway's own process, where Envoy passes them on to."""

    async def start(self) -> dict[str, int]:
        """Listen on loopback; the ports."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, let those in flight finish, cut them after ``grace_s``."""
        ...

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What has to be done all the time, by name."""
        ...


class EnvoyPlane:
    """Listens through Envoy. Build it inside a running event loop, once there is a view."""

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        clock: Clock,
        identity: str,
        failed: Failed,
        process: EnvoyProcess,
        tls: TlsFiles,
        callers: CallerAnswers,
        resolve: Resolve,
        keep: Callable[[Receipt], None],
        native: NativeFronts,
        in_force: Callable[[], Config],
        keys: Callable[[str], tuple[str, str] | None],
        forwarded: ForwardedCertificates,
    ) -> None:
        """``config``: that it begins with, ``in_force``: of this moment; ``identity``: of this
        gateway in decision ids; ``failed``: told of what ends badly; ``callers``: who may call;
        ``resolve``: how host names of endpoints are asked for; ``keys``: the header that an address
        is sent its key in; ``native``: serve what Envoy only passes on, and know it by
        ``forwarded``; ``keep``: receipts, to be asked for by id."""
        self._config = config
        self._dispatcher = dispatcher
        self._clock = clock
        self._process = process
        self._tls = tls
        self._speed = config.settings.clock.speed if config.settings.clock else 1.0
        self._callers = callers
        self._native = native
        fronts = [one.name for one in fronts_of(config)]
        self._hosts = HostFiles(process.folder, [*fronts, *map(native_cluster, fronts)])
        self._generations = Generations(
            dispatcher, clock, HostNames(resolve), process, self._hosts,
            TableTerms(
                identity, config.settings.server.grpc_receipts == "full", callers.accounts,
                lambda: in_force().settings.server.energy_tenants,
            ),
            Reaches(config, in_force).of,
        )  # fmt: skip
        kept = KeptDecisions(
            dispatcher, identity, self._generations.snapshots,
            lambda number: None if self._file is None else self._file.sight(number),
        )  # fmt: skip
        self._outcomes = Outcomes(
            dispatcher, identity, failed, callers, self._generations.views, keep, kept
        )  # fmt: skip
        self._file: SharedFile | None = None
        self._keys: KeysFile | None = None
        self._key_of = keys
        self._forwarded = forwarded
        self._lost = self._unsound = 0
        self._draining = False
        # Whether it was ready once, and is not being ended.
        self._is_up = False

    async def start(self) -> dict[str, int]:
        """Start Envoy, or take the one over that runs; the ports. Raises EnvoyPlaneError."""
        how = self._bootstrap()
        await asyncio.to_thread(self._tls.write)
        ports = await self._native.start()
        names = {"oip": "port", "openai": "http_port"}
        self._hosts.stay = [
            EnvoyHost("native", native_cluster(one), f"127.0.0.1:{ports[port]}")
            for one, port in names.items()
            if port in ports
        ]
        if self._process.find(how):
            file = SharedFile.taken_over(self._process.folder / TABLE)
            await self._callers.start(self._known, file.head.head)
            self._outcomes.known = file.head.taken
            _log.info("an Envoy that ran already is taken over")
        else:
            await self._callers.start(self._known)
            file = SharedFile(self._process.folder / TABLE)
        # Rows of budgets are known by now.
        await self._generations.begin(file, self._dispatcher.limits.timeout_s)
        self._file = file
        self._keys = KeysFile(self._process.folder / KEYS)
        self._give_keys()
        self._publish()
        if not self._process.is_alive():
            self._process.start(how)
        try:
            await self._process.until_ready()
        except EnvoyPlaneError:
            # Nobody would be there to write its tables.
            await self._process.stop()
            raise
        self._is_up = True
        # Those of other fronts are listened on as they are.
        listened = {
            names[one.name]: int(one.listen.rpartition(":")[2]) for one in fronts_of(self._config)
        }
        return ports | listened

    async def drain(self, grace_s: float) -> None:
        """Take no new requests, wait for those under way, then end Envoy."""
        self._draining, self._is_up = True, False
        await self._process.drain()
        async with asyncio.TaskGroup() as draining:
            draining.create_task(self._native.drain(grace_s))
            draining.create_task(self._until_quiet(grace_s))
        await self._process.stop()
        await self._callers.close()
        self._take_rest()

    async def _until_quiet(self, grace_s: float) -> None:
        for _ in range(int(grace_s / _DRAIN_LOOK_S)):
            if not self.in_flight:
                return
            await asyncio.sleep(_DRAIN_LOOK_S)

    @property
    def in_flight(self) -> int:
        """Requests of all of Envoy's workers."""
        return 0 if self._file is None else self._file.in_flight

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What has to be done all the time, by name."""
        return {
            **self._native.work(),
            "table": self._write,
            "records": self._read,
            "envoy": self._watch,
            "envoy_tls": self._renew,
            "callers": self._look,
            "endpoints": self._follow,
            "endpoint_names": self._look_up,
        }

    async def _write(self) -> None:
        self._publish()
        await asyncio.sleep(PUBLISH_S)

    async def _follow(self) -> None:
        if self._file is not None and not self._draining:
            # Before anybody is sent there.
            self._give_keys()
            await self._generations.follow()
        await asyncio.sleep(PUBLISH_S)

    def _give_keys(self) -> None:
        if self._keys is None:
            return
        found = [(at, self._key_of(own)) for at, own in self._generations.addresses().items()]
        keys = [(at, *key) for at, key in found if key is not None]
        self._keys.write([*keys, (NATIVE, *self._forwarded.field)])

    async def _look_up(self) -> None:
        await asyncio.sleep(EVERY_S)
        await self._generations.look_up()

    async def _read(self) -> None:
        # Where there are more, the others of the loop come first.
        behind = self._take() == _AT_A_TIME
        await asyncio.sleep(0.0 if behind else _READ_S)

    async def _watch(self) -> None:
        if self._file is not None and self._is_up and not self._process.is_alive():
            _log.error("Envoy has ended: it is started again")
            self._take_rest()
            self._file.forget_requests()
            self._callers.forget_requests()
            self._publish()
            self._process.start(self._bootstrap())
            await self._process.until_ready()
        await asyncio.sleep(PUBLISH_S)

    async def _look(self) -> None:
        self._callers.look()
        await asyncio.sleep(_LOOK_S)

    async def _renew(self) -> None:
        if self._file is not None and self._tls.is_behind:
            await asyncio.to_thread(self._tls.write)
        await asyncio.sleep(_RENEW_S)

    def _take(self) -> int:
        if self._file is None:
            return 0
        taken = self._outcomes.take(self._file.records(_AT_A_TIME))
        if self._file.lost != self._lost:
            lost, self._lost = self._file.lost - self._lost, self._file.lost
            _log.warning("records of requests were overwritten unread", extra={"records": lost})
            self._outcomes.forget(self._file.head.head)
        if self._outcomes.unsound != self._unsound:
            unsound, self._unsound = self._outcomes.unsound - self._unsound, self._outcomes.unsound
            _log.error("records of requests cannot be", extra={"records": unsound})
        return taken

    def _take_rest(self) -> None:
        """Envoy has ended: what it left behind, and what it left undone."""
        for _ in range(RECORDS // _AT_A_TIME + 1):
            self._take()
        if self._file is not None:
            self._outcomes.forget(self._file.head.head)

    def _publish(self) -> None:
        if self._file is None:
            return
        now = self._clock.monotonic()
        if self._dispatcher.places is not None:
            # What this gateway may have is read by all requests until the next table.
            self._dispatcher.places.refresh(now)
        image = self._generations.image()
        image.update(Times(now, self._clock.now(), self._speed), self._outcomes.on_seats())
        self._file.publish(image.data)

    def _bootstrap(self) -> Json:
        return bootstrap(self._config, self._process.folder, self._dispatcher.limits.timeout_s)

    @property
    def _known(self) -> Path:
        return self._process.folder / "table.known"
