"""Open Inference Protocol servers over pooled grpc.aio channels; messages travel as bytes."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from router._pb.inference_pb2 import ModelReadyRequest, ServerReadyResponse
from router.backends.oip.credentials import channel_credentials
from router.backends.oip.upstream_errors import error_of
from router.contract import Metadata, Probe, UnaryReply
from router.errors import (
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.model import Endpoint
from router.reserved_names import is_reserved
from router.trust.access import AccessTable

_SERVICE = "/inference.GRPCInferenceService/"

# What the transport of each hop writes for itself; grpc-* is dropped by prefix.
_HOP_BY_HOP = frozenset(("te", "content-type", "user-agent", "host", "connection"))

_CHECK_S = 0.1


class ChannelOptions(NamedTuple):
    """How channels to endpoints behave.

    ``keepalive_ms``: servers of every gRPC implementation tolerate one ping in 5 minutes by
    default and drop connections that ping more often. ``keepalive_timeout_ms`` also bounds how
    long written data may stay unacknowledged (TCP_USER_TIMEOUT). ``connect_ms``: for one attempt to
    connect. ``max_backoff_ms``: longest wait between attempts, so that a probe of a server that
    came back finds it; gRPC's own 2 minutes would outlast an ejection. ``leave_s``: how long calls
    may still take on channels to where a name pointed before.
    """

    channels_per_endpoint: int = 1
    max_message_bytes: int = 64 * 2**20
    keepalive_ms: int = 330_000
    keepalive_timeout_ms: int = 20_000
    connect_ms: int = 5_000
    max_backoff_ms: int = 1_000
    leave_s: float = 900.0

    def as_arguments(self) -> list[tuple[str, int]]:
        """The arguments of one grpc.aio channel."""
        return [
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.keepalive_time_ms", self.keepalive_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.initial_reconnect_backoff_ms", min(200, self.max_backoff_ms)),
            ("grpc.min_reconnect_backoff_ms", self.connect_ms),
            ("grpc.max_reconnect_backoff_ms", self.max_backoff_ms),
            # The director retries, on another endpoint; a channel that also does would hide faults
            # from it and keep a second copy of every message.
            ("grpc.enable_retries", 0),
            # One connection a channel, closed with it.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.enable_http_proxy", 0),
        ]


class GrpcBackend:
    """``contract.Backend`` over gRPC. Channels open lazily, one pool an address."""

    def __init__(
        self, options: ChannelOptions | None = None, access: AccessTable | None = None
    ) -> None:
        """``access``: TLS and keys by address; None where there are none."""
        self._options = options or ChannelOptions()
        self._access = access or AccessTable()
        self._channels: dict[str, list[grpc.aio.Channel]] = {}
        self._targets: dict[str, str] = {}
        self._busy: dict[str, _Busy] = {}
        # Channels to where a name pointed before, on which calls finish.
        self._leaving: dict[str, list[grpc.aio.Channel]] = {}
        self._unary: dict[tuple[str, str], Iterator[Any]] = {}
        self._streams: dict[str, Iterator[Any]] = {}
        self._closed = False

    def unary(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> Coroutine[Any, Any, UnaryReply]:
        """One ModelInfer. Raises UpstreamError leaves."""
        return self.ask(endpoint, "ModelInfer", payload, metadata, timeout_s)

    async def ask(
        self, endpoint: Endpoint, method: str, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One call of a method with one answer. Raises UpstreamError leaves."""
        calls = self._unary.get((endpoint.address, method))
        if calls is None:
            calls = self._open_unary(endpoint, method)
        busy = self._busy[endpoint.address]
        sent = _forwarded(self._access.sent(endpoint.address, metadata))
        call = next(calls)(payload, metadata=sent, timeout=_timeout(timeout_s))
        busy.calls += 1
        try:
            reply = await call
            initial_metadata = await call.initial_metadata()
            trailers = await call.trailing_metadata()
        except grpc.aio.AioRpcError as error:
            raise error_of(endpoint, error, self._access.secret(endpoint.address)) from error
        except asyncio.CancelledError:
            _raise_unless_cancelled_here(endpoint)
            raise
        finally:
            busy.calls -= 1
        if reply is None:
            raise UpstreamFaultError(f"{endpoint.name}: {method} ended without an answer")
        address = endpoint.address
        return UnaryReply(
            reply,
            self._access.told(address, tuple(initial_metadata)),
            self._access.told(address, tuple(trailers)),
        )

    def stream(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> GrpcStream:
        """One ModelStreamInfer with ``payload`` as its only message, then half-closed."""
        calls = self._streams.get(endpoint.address)
        if calls is None:
            calls = self._open_streams(endpoint)
        sent = _forwarded(self._access.sent(endpoint.address, metadata))
        call = next(calls)(payload, metadata=sent, timeout=_timeout(timeout_s))
        return GrpcStream(endpoint, call, self._busy[endpoint.address], self._access)

    async def probe(self, endpoint: Endpoint, timeout_s: float) -> Probe:
        """ServerReady, as far as it is answered."""
        return await self._probe(endpoint, "ServerReady", b"", timeout_s)

    async def probe_model(
        self, endpoint: Endpoint, model: str, version: str, timeout_s: float
    ) -> Probe:
        """ModelReady, as far as it is answered."""
        asked = ModelReadyRequest(name=model, version=version).SerializeToString()
        return await self._probe(endpoint, "ModelReady", asked, timeout_s)

    async def reset(self, endpoint: Endpoint) -> None:
        """Give up the connections to an address: its calls end with UpstreamLostError."""
        await self.prune([one for one in self._addresses() if one != endpoint.address])

    async def prune(self, addresses: Collection[str]) -> None:
        """Close the channels to every address that is not among ``addresses``, at once."""
        channels = []
        for address in self._addresses() - set(addresses):
            self._targets.pop(address, None)
            channels += self._forget(address) + self._leaving.pop(address, [])
        await asyncio.gather(*(channel.close() for channel in channels))

    async def redirect(self, address: str, hosts: Sequence[str]) -> None:
        """The name in ``address`` stands for other IP addresses now: calls from here on go there,
        those under way finish where they are. Returns when they have, or after a while."""
        self._targets[address] = _target(address, hosts)
        await self.renew(address)

    async def renew(self, address: str) -> None:
        """Calls from here on go over new channels, which a certificate that has changed takes;
        those under way finish where they are. Returns when they have, or after a while."""
        busy = self._busy.get(address)
        leaving = self._forget(address)
        self._leaving.setdefault(address, []).extend(leaving)
        waited_s = 0.0
        while busy is not None and busy.calls and waited_s < self._options.leave_s:
            await asyncio.sleep(_CHECK_S)
            waited_s += _CHECK_S
        await asyncio.gather(*(channel.close() for channel in leaving))
        left = [one for one in self._leaving.pop(address, ()) if one not in leaving]
        if left:
            self._leaving[address] = left

    async def close(self) -> None:
        """Close every channel; calls in flight end with UpstreamLostError."""
        self._closed = True
        await self.prune(())

    async def _probe(
        self, endpoint: Endpoint, method: str, asked: bytes, timeout_s: float
    ) -> Probe:
        try:
            reply = await self.ask(endpoint, method, asked, (), timeout_s)
            # ServerReadyResponse and ModelReadyResponse have the same one field.
            ready = ServerReadyResponse.FromString(reply.payload).ready
        except UpstreamUnreachedError as error:
            self._access.failed(endpoint, error)
            # A stream that was not taken, on a connection that ends in peace: it is there.
            return Probe.REFUSED if error.refused else Probe.UNKNOWN
        except UpstreamLostError:
            return Probe.REFUSED
        except UpstreamTimeoutError:
            return Probe.SILENT
        except (UpstreamFaultError, DecodeError):
            return Probe.NOT_READY
        except UpstreamError:
            return Probe.UNKNOWN
        return Probe.READY if ready else Probe.NOT_READY

    def _addresses(self) -> set[str]:
        return {*self._channels, *self._targets, *self._leaving}

    def _forget(self, address: str) -> list[grpc.aio.Channel]:
        """The next call opens channels anew; those so far are the caller's to close."""
        for key in [key for key in self._unary if key[0] == address]:
            del self._unary[key]
        self._streams.pop(address, None)
        self._busy.pop(address, None)
        return self._channels.pop(address, [])

    def _pool(self, endpoint: Endpoint) -> list[grpc.aio.Channel]:
        if self._closed:
            raise UpstreamUnreachedError(
                f"{endpoint.name}: this gateway has closed its channels", refused=False
            )
        pool = self._channels.get(endpoint.address)
        if pool is None:
            pool = [
                self._channel(endpoint.address) for _ in range(self._options.channels_per_endpoint)
            ]
            self._channels[endpoint.address] = pool
            self._busy[endpoint.address] = _Busy()
        return pool

    def _channel(self, address: str) -> grpc.aio.Channel:
        arguments: list[tuple[str, int | str]] = [*self._options.as_arguments()]
        target = self._targets.get(address, address)
        security = self._access.security(address)
        if security is not None and security.server_name:
            # The name that is asked for, and that the certificate must have.
            port = address.rpartition(":")[2]
            arguments.append(("grpc.default_authority", f"{security.server_name}:{port}"))
        elif target != address:
            # Servers and proxies still hear the name, and certificates are held against it.
            arguments.append(("grpc.default_authority", address))
        if security is None:
            return grpc.aio.insecure_channel(target, options=arguments)
        credentials = channel_credentials(security.source.value)
        return grpc.aio.secure_channel(target, credentials, options=arguments)

    def _open_unary(self, endpoint: Endpoint, method: str) -> Iterator[Any]:
        pool = self._pool(endpoint)
        calls: Iterator[Any] = itertools.cycle(
            [channel.unary_unary(_SERVICE + method) for channel in pool]
        )
        self._unary[endpoint.address, method] = calls
        return calls

    def _open_streams(self, endpoint: Endpoint) -> Iterator[Any]:
        # One message and a half-close look the same on the wire from a unary-stream stub, which
        # sends them in one operation; a bidirectional stub needs a task and four.
        pool = self._pool(endpoint)
        method = _SERVICE + "ModelStreamInfer"
        calls: Iterator[Any] = itertools.cycle([channel.unary_stream(method) for channel in pool])
        self._streams[endpoint.address] = calls
        return calls


class _Busy:
    """How many calls run on the channels to one address."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class GrpcStream:
    """``contract.UpstreamStream`` of one call. Iterate once."""

    def __init__(self, endpoint: Endpoint, call: Any, busy: _Busy, access: AccessTable) -> None:
        self._endpoint = endpoint
        self._access = access
        self._call = call
        self._busy: _Busy | None = busy
        self._trailers: Metadata = ()
        busy.calls += 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        call = self._call
        try:
            async for message in call:
                yield message
            told = tuple(await call.trailing_metadata())
            self._trailers = self._access.told(self._endpoint.address, told)
        except grpc.aio.AioRpcError as error:
            secret = self._access.secret(self._endpoint.address)
            raise error_of(self._endpoint, error, secret) from error
        except asyncio.CancelledError:
            _raise_unless_cancelled_here(self._endpoint)
            raise
        finally:
            self.cancel()

    def initial_metadata(self) -> Metadata:
        """None: a stream's callers are not told of its server's."""
        return ()

    def trailers(self) -> Metadata:
        """Trailing metadata; empty before the end."""
        return self._trailers

    def cancel(self) -> None:
        """Stop upstream work at once. Safe to call twice and after the end."""
        self._call.cancel()
        if self._busy is not None:
            self._busy.calls -= 1
            self._busy = None


def _target(address: str, hosts: Sequence[str]) -> str:
    """A gRPC target for IP addresses: those of one family, or the name where there are both."""
    port = address.rpartition(":")[2]
    if all(":" not in host for host in hosts):
        return "ipv4:" + ",".join(f"{host}:{port}" for host in hosts)
    if all(":" in host for host in hosts):
        return "ipv6:" + ",".join(f"[{host}]:{port}" for host in hosts)
    return address


def _forwarded(metadata: Metadata) -> list[tuple[str, str | bytes]]:
    return [
        item
        for item in metadata
        if item[0] not in _HOP_BY_HOP
        and not item[0].startswith(("grpc-", ":"))
        and not is_reserved(item[0])
    ]


def _timeout(timeout_s: float) -> float | None:
    return None if timeout_s == math.inf else timeout_s


def _raise_unless_cancelled_here(endpoint: Endpoint) -> None:
    """A closed channel cancels its calls; nobody asked this task to stop."""
    task = asyncio.current_task()
    if task is not None and task.cancelling() == 0:
        raise UpstreamLostError(
            f"{endpoint.name}: the connection was given up during the call"
        ) from None
