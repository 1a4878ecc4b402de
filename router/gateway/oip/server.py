"""The gRPC server: every service on one port, and its orderly end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import grpc

from router.director import Director
from router.errors import ConfigError, DrainingError
from router.gateway.capacity import Capacity
from router.gateway.failures import Failures
from router.gateway.holding import Holding
from router.gateway.oip import control, health, servicer
from router.gateway.oip.calls import Desk, UnknownMethods
from router.gateway.oip.control import Control, ControlService
from router.gateway.oip.credentials import server_credentials
from router.gateway.oip.draining import Watchers
from router.gateway.oip.health import HealthService
from router.gateway.oip.intake import Intake, IntakeLimits
from router.gateway.oip.reflection import ReflectionService
from router.gateway.oip.servicer import InferenceService
from router.gateway.oip.sockets import Sockets
from router.identity.access import Access
from router.trust.contexts import ServerTls

_MAX_INT = 2**31 - 1
# Calls that nobody has looked at yet, some 75 KiB each at most with what gRPC takes in of them.
_MAX_PENDING = 16_384
# For the refusals of calls that are cut to reach their callers.
_CUT_S = 0.5


class ServerOptions(NamedTuple):
    """``listen``: ``host:port``, port 0 for any free one. ``reuse_port``: several processes share
    the port. ``keepalive_ms``: how soon a client that vanished is noticed, so that its requests
    stop upstream. ``max_age_ms``: connections are renewed after it, so that clients spread over
    workers and replicas anew; calls in flight finish first. ``max_idle_ms``: without a call.
    ``handshake_ms``: a new connection that has not begun to speak HTTP/2 by then is closed.
    ``max_buffered_bytes``, ``max_calls``: of this process, see `IntakeLimits`.
    ``max_streams``: concurrent calls of one connection; clients keep to it and queue.
    ``show_addresses``: of endpoints, to whoever asks the control API. ``full_receipts``: to whoever
    does not say how. ``tls``: None for plaintext HTTP/2 (h2c)."""

    listen: str
    max_message_bytes: int = 64 * 2**20
    deadline_margin_ms: float = 5.0
    reuse_port: bool = False
    keepalive_ms: int = 30_000
    keepalive_timeout_ms: int = 10_000
    max_age_ms: int = 30 * 60_000
    max_idle_ms: int = 5 * 60_000
    handshake_ms: int = 10_000
    max_buffered_bytes: int = 256 * 2**20
    max_calls: int = 16_384
    max_streams: int = 1_024
    max_connections: int = 8_192
    max_metadata_bytes: int = 16 * 2**10
    show_addresses: bool = False
    full_receipts: bool = False
    tls: ServerTls | None = None

    def as_limits(self) -> IntakeLimits:
        """What our own intake holds to."""
        return IntakeLimits(
            self.max_message_bytes,
            self.max_buffered_bytes,
            self.max_calls,
            self.max_metadata_bytes,
            encrypted=self.tls is not None,
        )

    def as_arguments(self) -> list[tuple[str, int]]:
        """The arguments of the grpc.aio server."""
        return [
            # gRPC's default is 1: a second gateway would share the port in silence.
            ("grpc.so_reuseport", int(self.reuse_port)),
            # Over their limits messages and headers are refused by us, with a reason; gRPC, which
            # gives none, refuses what is far beyond.
            ("grpc.max_receive_message_length", min(2 * self.max_message_bytes, _MAX_INT)),
            ("grpc.max_metadata_size", 4 * self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", 4 * self.max_metadata_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", self.keepalive_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            # Clients may ping as often themselves; by default the second ping within 5 minutes
            # would cost them the connection.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.max_connection_age_ms", self.max_age_ms),
            ("grpc.max_connection_idle_ms", self.max_idle_ms),
            ("grpc.server_handshake_timeout_ms", self.handshake_ms),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_concurrent_streams", self.max_streams),
            # It counts streams that have ended but are not cleared away yet, and so refuses clients
            # that keep to the limit.
            ("grpc.http.overload_protection", 0),
            # What waits for its first look would be cancelled at random from 1,000 calls on.
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            # Before a message is read, gRPC takes in this window of it and no more.
            ("grpc.http2.bdp_probe", 0),
            # Inflated by us, within the limits.
            ("grpc.per_message_decompression", 0),
        ]


class Gateway:
    """One listening server. Build it inside a running event loop."""

    def __init__(
        self,
        options: ServerOptions,
        director: Director,
        control_source: Control,
        ready: Callable[[], bool],
        models: Callable[[], Mapping[str, bool]],
        failures: Failures,
        access: Access,
        capacity: Capacity | None = None,
        holding: Holding | None = None,
    ) -> None:
        """``ready``: whether requests are taken now; ``models``: name -> whether it is served;
        ``access``: who may call; ``capacity``: shared with other fronts, None where there is
        none; ``holding``: of requests that may wait, likewise."""
        services = (servicer.SERVICE, control.SERVICE)
        self._options = options
        self._watchers = Watchers()
        self.intake = Intake(options.as_limits(), Sockets(), access, capacity)
        desk = Desk(self.intake, failures)
        self._inference = InferenceService(
            director, desk, ready, models, options.deadline_margin_ms, options.full_receipts,
            holding,
        )  # fmt: skip
        self._server = grpc.aio.server(options=options.as_arguments())
        controlled = ControlService(control_source, desk, self._watchers, options.show_addresses)
        # All that is served, so that a test can walk it.
        self.handlers = (
            self._inference.handlers(),
            controlled.handlers(),
            HealthService(ready, models, services, self._watchers, desk).handlers(),
            *ReflectionService((*services, health.SERVICE), self._watchers, desk).handlers(),
            UnknownMethods(failures),
        )
        self._server.add_generic_rpc_handlers(self.handlers)

    async def start(self) -> int:
        """Listen; returns the port. Raises ConfigError when the address cannot be had."""
        try:
            port = self._bind()
        except RuntimeError as error:
            problem = f"cannot listen on {self._options.listen}: is it taken, or not of this host?"
            raise ConfigError("", [("server.listen", problem)]) from error
        await self._server.start()
        return port

    def _bind(self) -> int:
        """Raises RuntimeError when the address cannot be had."""
        listen, tls = self._options.listen, self._options.tls
        if tls is None:
            return self._server.add_insecure_port(listen)
        return self._server.add_secure_port(listen, server_credentials(tls))

    async def drain(self, grace_s: float) -> None:
        """Say not ready, take no new calls, let those in flight finish, cut them after ``grace_s``.

        Streams on which nothing runs, and watchers, end at once. Safe to call twice.
        """
        self._inference.drain()
        self._watchers.drain()
        # gRPC would cut calls without a reason: it gets to do so only where ours is not taken.
        cutting = self.intake.loop.call_later(grace_s, self.intake.end_all, _shutting_down())
        try:
            await self._server.stop(grace_s + _CUT_S)
        finally:
            cutting.cancel()

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()


def _shutting_down() -> DrainingError:
    return DrainingError("this gateway is shutting down: the call did not end in time")
