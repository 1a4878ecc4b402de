"""The fronts of one process: gRPC, and HTTP and the picker where they are served, over one
director."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from router.app.control import ControlApi
from router.app.deferral.process import ProcessDeferral
from router.app.deferral.room_ahead import none_asleep
from router.app.descriptors import affordable
from router.app.runtime import Runtime
from router.app.scaling.process import ProcessScaling
from router.app.trust import Trust
from router.config.exposure import is_loopback
from router.config.fields import split_address
from router.config.settings import Config, ServerSettings
from router.director import Director, Dispatcher
from router.errors import ConfigError
from router.gateway.capacity import Capacity
from router.gateway.failures import Failures
from router.gateway.oip import status
from router.gateway.oip.server import Gateway, ServerOptions
from router.gateway.openai import refusal
from router.gateway.openai.deferred.jobs import JobParts, JobRunner
from router.gateway.openai.front import FrontParts
from router.gateway.openai.kept_receipts import KeptReceipts
from router.gateway.openai.receipts_api import ReceiptSources
from router.gateway.openai.server import HttpGateway, HttpServerOptions
from router.gateway.picker.picking import PickerParts
from router.gateway.picker.server import PickerOptions, PickerServer
from router.gateway.scaler.server import ScalerServer
from router.identity.access import Access
from router.trust.contexts import ServerTls

# With which requests that fail are answered: names of gRPC statuses, and numbers of HTTP's.
CODES: Final = status.NAMES | refusal.NAMES


class Carrier(Protocol):
    """What takes requests in and carries them: the fronts of this process, or Envoy."""

    async def start(self) -> dict[str, int]:
        """Listen; the ports. Raises ConfigError when an address cannot be had."""
        ...

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let those in flight finish, cut them after ``grace_s``."""
        ...

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """What it needs done in the background, by name."""
        ...


def on_loopback(server: ServerSettings) -> ServerSettings:
    """``server`` behind somebody who listens for it, on ports of the system's choice."""
    if server.http is None:
        return replace(server, listen="127.0.0.1:0")
    names = server.http_hosts | {split_address(server.http)[0].lower()}
    return replace(server, listen="127.0.0.1:0", http="127.0.0.1:0", http_hosts=names)  # fmt: skip


class Fronts:
    """Build it inside a running event loop."""

    def __init__(
        self,
        server: ServerSettings,
        director: Director,
        runtime: Runtime,
        failures: Failures,
        access: Access,
        reuse_port: bool,
        receipts: KeptReceipts,
        asked: ReceiptSources,
        tls: ServerTls | None = None,
        deferral: ProcessDeferral | None = None,
        is_behind: bool = False,
        scaling: ProcessScaling | None = None,
    ) -> None:
        """``access``: who may call; ``asked``: where receipts are that are in no memory;
        ``deferral``: None where no work is deferred; ``is_behind``: somebody else ends TLS of gRPC
        and HTTP; ``scaling``: None where nobody scales replicas."""
        # Whichever front a call comes by, the process holds no more than it may.
        self._capacity = Capacity(server.max_requests, server.max_buffered_mib * 2**20)
        self._server = server
        self._director = director
        self._runtime = runtime
        self._failures = failures
        self._access = access
        self._reuse_port = reuse_port
        self._receipts = receipts
        self._asked = asked
        self._tls = tls
        self._front_tls = None if is_behind else tls
        self._deferral = deferral
        self._holding = None if deferral is None else deferral.holding(lambda: self._director)
        self._connections = affordable(server, runtime.config.most_endpoints)
        self._grpc = self._build_grpc()
        self._http = self._build_http() if server.http is not None else None
        self._picker = self._build_picker() if server.picker is not None else None
        self._scaling = scaling
        self._scaler = None
        if server.scaler is not None and scaling is not None:
            options = self._grpc_options(self._tls)
            self._scaler = ScalerServer(server.scaler, options, scaling.demand)

    async def start(self) -> dict[str, int]:
        """Listen; the ports. Raises ConfigError when an address cannot be had."""
        ports = {"port": await self._grpc.start()}
        try:
            if self._http is not None:
                ports["http_port"] = await self._http.start()
            if self._picker is not None:
                ports["picker_port"] = await self._picker.start()
            if self._scaler is not None:
                ports["scaler_port"] = await self._scaler.start()
        except ConfigError:
            for front in (self._grpc, self._http, self._picker):
                if front is not None:
                    await front.drain(0.0)
            raise
        return ports

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let those in flight finish, cut them after ``grace_s``."""
        if self._holding is not None:
            self._holding.stop()
        async with asyncio.TaskGroup() as draining:
            draining.create_task(self._grpc.drain(grace_s))
            for front in (self._http, self._picker, self._scaler):
                if front is not None:
                    draining.create_task(front.drain(grace_s))
            if self._deferral is not None:
                draining.create_task(self._deferral.stop(grace_s))
        if self._deferral is not None:
            await self._deferral.close()
        if self._scaling is not None:
            await self._scaling.close()

    def work(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Deferred work, and looks at what runs where; each call does its own."""
        scaling, deferral = self._scaling, self._deferral
        looks = scaling.work() if scaling is not None else {}
        if deferral is None:
            return looks
        runner = JobRunner(
            JobParts(
                self._director,
                self._capacity,
                self._access.limiter,
                self._receipts,
                self._failures,
                deferral.parts.blobs,
                deferral.parts.now,
                deferral.max_tries,
                lambda model, urgent: deferral.among(self._director.view, model, urgent),
                deferral.most_waiting,
            )
        )
        if self._holding is not None:
            looks = {**looks, "held requests": self._holding.run}
        asleep = scaling.demand.asleep if scaling is not None else none_asleep
        return {**looks, **deferral.work(runner, lambda: self._director.view, asleep)}

    def _grpc_options(self, tls: ServerTls | None) -> ServerOptions:
        server = self._server
        return ServerOptions(
            listen=server.listen,
            max_message_bytes=server.max_message_mib * 2**20,
            deadline_margin_ms=server.deadline_margin_ms,
            reuse_port=self._reuse_port,
            max_buffered_bytes=server.max_buffered_mib * 2**20,
            max_calls=server.max_requests,
            max_streams=server.max_streams,
            max_connections=self._connections,
            max_metadata_bytes=server.max_metadata_kib * 2**10,
            max_idle_ms=int(server.idle_s * 1e3),
            max_age_ms=int(server.max_age_s * 1e3),
            show_addresses=server.show_addresses,
            full_receipts=server.grpc_receipts == "full",
            tls=tls,
        )

    def _build_picker(self) -> PickerServer:
        return PickerServer(
            PickerOptions(self._server.picker or "", self._grpc_options(self._tls)),
            PickerParts(
                self._director, self._capacity, self._access, self._receipts, self._failures
            ),
            self._is_ready,
        )

    def _build_grpc(self) -> Gateway:
        return Gateway(
            self._grpc_options(self._front_tls),
            self._director,
            ControlApi(self._director, self._runtime),
            self._is_ready,
            self._runtime.models_ready,
            self._failures,
            self._access,
            self._capacity,
            self._holding,
        )

    def _build_http(self) -> HttpGateway:
        server = self._server
        return HttpGateway(
            HttpServerOptions(
                listen=server.http or "",
                max_body_bytes=server.max_message_mib * 2**20,
                max_header_bytes=server.max_metadata_kib * 2**10,
                max_connections=self._connections,
                idle_s=server.idle_s,
                max_age_s=server.max_age_s,
                reuse_port=self._reuse_port,
                tls=self._front_tls,
            ),
            FrontParts(
                self._director,
                self._capacity,
                self._access,
                self._receipts,
                self._failures,
                self._is_ready,
                self._runtime.models_ready,
                self._tells_energy,
                lambda: self._runtime.config.settings.server.http_paths,
                self._runtime.clock.now(),
                self._asked,
                self._deferral.parts if self._deferral is not None else None,
                self._own_names(),
                self._holding,
            ),
        )

    def _own_names(self) -> frozenset[str] | None:
        """Whoever reaches a port on loopback is of this machine: but for a page of a stranger's."""
        listens = self._server.http or ""
        if self._front_tls is not None or not is_loopback(listens):
            return None
        return self._server.http_hosts | {split_address(listens)[0].lower()}

    def _is_ready(self) -> bool:
        return self._runtime.readiness().ready

    def _tells_energy(self, tenant: str) -> bool:
        told = self._runtime.config.settings.server.energy_tenants
        return bool(told) and ("*" in told or tenant in told)


class CarrierParts(NamedTuple):
    """What a carrier in the place of `Fronts` is built of. ``identity``: of this process in
    decision ids; ``access``: who may call; ``receipts``: to be asked for by id; ``native``: this
    process's own fronts, on loopback; ``in_force``: the configuration of this moment."""

    dispatcher: Dispatcher
    failures: Failures
    identity: str
    trust: Trust
    access: Access
    receipts: KeptReceipts
    native: Fronts
    in_force: Callable[[], Config]


class BuildCarrier(Protocol):
    """Of what carries requests in the place of a process's own fronts."""

    def __call__(self, parts: CarrierParts) -> Carrier:
        """Once there is a view."""
        ...

    def require(self, config: Config) -> None:
        """Raises ConfigError that names what of ``config`` it cannot do."""
        ...
