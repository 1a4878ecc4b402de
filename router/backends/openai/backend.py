"""Servers of OpenAI's and Anthropic's APIs over pooled HTTP connections; bodies travel as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from router.backends.openai.answers import require_answer
from router.backends.openai.call import UpstreamCall
from router.backends.openai.catalogue import read_elsewhere, read_models, stated
from router.backends.openai.pool import ConnectionPool, HttpOptions
from router.backends.openai.sending import Sending, end_to_end, sending
from router.backends.openai.stream import HttpStream, reports_of
from router.contract import Metadata, Probe, StatedModel, UnaryReply
from router.errors import (
    UpstreamBlamingError,
    UpstreamError,
    UpstreamFaultError,
    UpstreamLostError,
    UpstreamTimeoutError,
    UpstreamUnreachedError,
)
from router.http_api import USAGE, api_of
from router.model import Endpoint
from router.trust.access import AccessTable

_MODELS: Final = "GET /v1/models"
# An answer in one piece is looked into for energy where it is no longer.
_LOOKED_BYTES: Final = 64 * 1024
# What a server says of itself is longer only by mistake.
_ABOUT_BYTES: Final = 2**20


class HttpBackend:
    """``contract.Backend`` over HTTP. Connections open as they are needed, one pool an address."""

    def __init__(
        self, options: HttpOptions | None = None, access: AccessTable | None = None
    ) -> None:
        """``access``: TLS and keys by address; None where there are none."""
        self._options = options or HttpOptions()
        self._access = access or AccessTable()
        self._pools: dict[str, ConnectionPool] = {}
        self._hosts: dict[str, Sequence[str]] = {}
        # Pools to where a name pointed before, on which calls finish.
        self._leaving: dict[str, list[ConnectionPool]] = {}
        self._closed = False

    async def unary(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One request with one answer. Raises UpstreamError leaves."""
        request = self._sending(endpoint, payload, metadata)
        reply = await self._answer(endpoint, request, timeout_s)
        require_answer(endpoint, api_of(request.path), reply.initial_metadata, reply.payload)
        return reply

    def stream(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> HttpStream:
        """One request, sent when the answers are iterated over."""
        request = self._sending(endpoint, payload, metadata)
        call = self._call(endpoint, request, timeout_s)
        return HttpStream(
            call, api_of(request.path), self._options.max_event_bytes, request.hides_usage
        )

    async def ask(
        self, endpoint: Endpoint, method: str, payload: bytes, metadata: Metadata, timeout_s: float
    ) -> UnaryReply:
        """One question; ``method``: such as ``GET /v1/models/x``. Raises UpstreamError leaves."""
        request = self._sending(endpoint, payload, metadata, method)
        return await self._answer(endpoint, request, timeout_s)

    async def probe(self, endpoint: Endpoint, timeout_s: float) -> Probe:
        """``/health``, or whether models are listed where there is no such page."""
        try:
            await self._about(endpoint, "GET /health", timeout_s)
        except UpstreamError as error:
            if not _is_no_page(error):
                if isinstance(error, UpstreamUnreachedError):
                    self._access.failed(endpoint, error)
                return _told_by(error)
        else:
            return Probe.READY
        try:
            await self._about(endpoint, _MODELS, timeout_s)
        except UpstreamError as error:
            return _told_by(error)
        return Probe.READY

    async def probe_model(
        self, endpoint: Endpoint, model: str, version: str, timeout_s: float
    ) -> Probe:
        """Whether the model is among those listed; engines that serve any name may not list it."""
        try:
            listed = read_models(await self._about(endpoint, _MODELS, timeout_s))
        except UpstreamError as error:
            return _told_by(error)
        if listed.has(model):
            return Probe.READY
        return Probe.NOT_READY if listed.lacks(model, endpoint.engine) else Probe.UNKNOWN

    async def models(self, endpoint: Endpoint, timeout_s: float) -> Mapping[str, StatedModel]:
        """See `contract.ModelCatalogue`; ``timeout_s``: of each page that is read."""
        listed = read_models(await self._about(endpoint, _MODELS, timeout_s))
        names = [served.name for served in endpoint.models]

        async def ask(method: str, payload: bytes = b"") -> bytes:
            try:
                return await self._about(endpoint, method, timeout_s, payload)
            except UpstreamBlamingError:
                # It has no such page.
                return b""

        told = await read_elsewhere(ask, endpoint.engine or listed.engine, listed, names)
        return stated(names, listed, told)

    async def reset(self, endpoint: Endpoint) -> None:
        """Give up the connections to an address: its calls end with UpstreamLostError."""
        await asyncio.gather(*(pool.close() for pool in self._forget(endpoint.address)))

    async def prune(self, addresses: Collection[str]) -> None:
        """Close the connections to every address that is not among ``addresses``, at once."""
        pools: list[ConnectionPool] = []
        for address in {*self._pools, *self._hosts, *self._leaving} - set(addresses):
            self._hosts.pop(address, None)
            pools += self._forget(address)
        await asyncio.gather(*(pool.close() for pool in pools))

    async def redirect(self, address: str, hosts: Sequence[str]) -> None:
        """The name in ``address`` stands for other IP addresses now: calls from here on go there,
        those under way finish where they are. Returns when they have, or after a while."""
        self._hosts[address] = tuple(hosts)
        await self.renew(address)

    async def renew(self, address: str) -> None:
        """Calls from here on connect anew, which a certificate that has changed takes; those under
        way finish where they are. Returns when they have, or after a while."""
        left = self._pools.pop(address, None)
        if left is None:
            return
        leaving = self._leaving.setdefault(address, [])
        leaving.append(left)
        await left.idle(self._options.leave_s)
        await left.close()
        if left in leaving:
            leaving.remove(left)
        if not leaving and self._leaving.get(address) is leaving:
            del self._leaving[address]

    async def close(self) -> None:
        """Close every connection; calls in flight end with UpstreamLostError."""
        self._closed = True
        await self.prune(())

    async def _about(
        self, endpoint: Endpoint, method: str, timeout_s: float, payload: bytes = b""
    ) -> bytes:
        """A page on which a server tells of itself. Raises UpstreamError leaves."""
        fields = (("content-type", "application/json"),) if payload else ()
        request = self._sending(endpoint, payload, fields, method)
        options = self._options._replace(
            max_message_bytes=min(self._options.max_message_bytes, _ABOUT_BYTES)
        )
        return (await self._answer(endpoint, request, timeout_s, options)).payload

    async def _answer(
        self,
        endpoint: Endpoint,
        request: Sending,
        timeout_s: float,
        options: HttpOptions | None = None,
    ) -> UnaryReply:
        call = self._call(endpoint, request, timeout_s, options)
        try:
            await call.open()
            fields = call.fields()
            body = await call.body()
        finally:
            call.end()
        trailers = reports_of(fields)
        if len(body) <= _LOOKED_BYTES and b'"energy"' in body:
            trailers = (*trailers, (USAGE, body))
        return UnaryReply(body, fields, trailers)

    def _sending(
        self, endpoint: Endpoint, payload: bytes, metadata: Metadata, target: str = ""
    ) -> Sending:
        sent = self._access.sent(endpoint.address, end_to_end(metadata))
        return sending(endpoint, payload, sent, target)

    def _call(
        self,
        endpoint: Endpoint,
        request: Sending,
        timeout_s: float,
        options: HttpOptions | None = None,
    ) -> UpstreamCall:
        secret = self._access.secret(endpoint.address)
        return UpstreamCall(
            endpoint, request, timeout_s, self._pool, options or self._options, secret
        )

    def _pool(self, endpoint: Endpoint) -> ConnectionPool:
        address = endpoint.address
        pool = self._pools.get(address)
        if pool is None:
            if self._closed:
                raise UpstreamUnreachedError(
                    f"{endpoint.name}: this gateway has closed its connections", refused=False
                )
            security = self._access.security(address)
            pool = ConnectionPool(
                self._options,
                address,
                self._hosts.get(address, ()),
                self._access.context(address),
                security.server_name if security is not None else "",
            )
            self._pools[address] = pool
        return pool

    def _forget(self, address: str) -> list[ConnectionPool]:
        """The next call connects anew; the pools so far are the caller's to close."""
        pools = self._leaving.pop(address, [])
        pool = self._pools.pop(address, None)
        return pools if pool is None else [*pools, pool]


def _is_no_page(error: UpstreamError) -> bool:
    """Whether the server answered that it does not have what was asked for."""
    return isinstance(error, UpstreamBlamingError) and error.status in ("404", "405")


def _told_by(error: UpstreamError) -> Probe:
    """What a probe that was not answered well says of the server."""
    if isinstance(error, UpstreamUnreachedError):
        return Probe.REFUSED if error.refused else Probe.UNKNOWN
    if isinstance(error, UpstreamLostError):
        return Probe.REFUSED
    if isinstance(error, UpstreamTimeoutError):
        return Probe.SILENT
    return Probe.NOT_READY if isinstance(error, UpstreamFaultError) else Probe.UNKNOWN
