"""Certificates, keys and tokens of this process: built from the configuration, and kept fresh.

Everything comes from files that others replace. A look every few seconds puts what is new in force:
listeners show it to the next connection, connections to endpoints are made anew beside those on
which calls still run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from router.config.receipts import ReceiptSigning
from router.config.settings import (
    Config,
    EndpointCredentials,
    EndpointTls,
    ListenerTls,
    PemFiles,
    SecretSpec,
)
from router.contract import Backend, Clock
from router.errors import ConfigError
from router.telemetry.admin import Reason
from router.telemetry.throttle import LineThrottle
from router.trust.access import AccessTable, EndpointKey, EndpointSecurity
from router.trust.contexts import ServerTls
from router.trust.pem import PemMaterial, read_pem
from router.trust.receipt_keys import ReceiptKeys, read_receipt_keys
from router.trust.secrets import Secret, read_secret
from router.trust.watched import Watched

LOOK_S: Final = 2.0

_log = logging.getLogger(__name__)


class TrustListener(Protocol):
    """Who is told of what changes; `router.telemetry.trust.TrustMetrics` in earnest."""

    def know(self, sources: Collection[str]) -> None:
        """These may be told of."""
        ...

    def show(self, expires_at: Mapping[str, float]) -> None:
        """When certificates expire, unix s, by source."""
        ...

    def reloaded(self, source: str, outcome: str) -> None:
        """What is in the files of a source was applied or refused."""
        ...

    def handshake_failed(self, source: str, reason: str) -> None:
        """A client's handshake at a listener came to nothing."""
        ...


class PreparedTrust(NamedTuple):
    """What a configuration needs, read and checked, but not yet in force."""

    addresses: frozenset[str]
    security: Mapping[str, EndpointSecurity]
    keys: Mapping[str, EndpointKey]
    exposed: tuple[str, ...]


class Trust:
    """``server``, ``admin``: TLS of what we listen on, None for plaintext; ``admin_token``,
    ``receipt_keys``: None where there is none. ``access``: how endpoints are reached."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        environ: Mapping[str, str],
        listener: TrustListener | None = None,
    ) -> None:
        """``clock``: the wall's, whatever day is replayed: certificates are of today.

        Blocks. Raises ConfigError for every file and variable that cannot be used.
        """
        self._clock = clock
        self._environ = environ
        self._listener = listener
        self._known: dict[Hashable, Watched[Any]] = {}
        self._changed: set[str] = set()
        self._woken = asyncio.Event()
        self._throttle = LineThrottle()
        self.access = AccessTable()
        settings = config.settings.server
        with _Gathered(config) as gathered:
            self.server = gathered(lambda: self._server("server.tls", settings.tls))
            self.admin = gathered(lambda: self._server("server.admin_tls", settings.admin_tls))
            self.admin_token = gathered(lambda: self._token(settings.admin_token))
            signing = config.settings.receipt_signing
            self.receipt_keys = gathered(lambda: self._receipt_keys(signing))
        self._own = tuple(self._known.values())
        self.adopt(self.prepare(config))
        self._changed.clear()

    def prepare(self, config: Config) -> PreparedTrust:
        """What ``config`` needs of endpoints. Blocks. Raises ConfigError for all that cannot be
        used, and changes nothing."""
        security: dict[str, EndpointSecurity] = {}
        keys: dict[str, EndpointKey] = {}
        with _Gathered(config) as gathered:
            for address, access in config.settings.access.items():
                if access.tls is not None:
                    tls = gathered(partial(self._security, access.tls))
                    if tls is not None:
                        security[address] = tls
                if access.credentials is not None:
                    key = gathered(partial(self._key, access.credentials))
                    if key is not None:
                        keys[address] = key
        addresses = frozenset(endpoint.address for endpoint in config.fleet.endpoints)
        return PreparedTrust(addresses, security, keys, config.settings.exposed)

    def adopt(self, prepared: PreparedTrust) -> None:
        """Reach endpoints so from now on; connections that were made otherwise are made anew."""
        for address in prepared.addresses:
            before, now = self.access.security(address), prepared.security.get(address)
            if before != now:
                self._changed.add(address)
        self._prepared = prepared
        self.access.adopt(prepared.addresses, prepared.security, prepared.keys)
        in_force = {id(one) for one in self._sources()}
        self._known = {key: one for key, one in self._known.items() if id(one) in in_force}
        if self._listener is not None:
            self._listener.know([one.name for one in self._sources()])
            self._show()
        self._woken.set()

    async def run(self, backends: Collection[Backend]) -> None:
        """Look at the files for ever; ends only by being cancelled."""
        async with asyncio.TaskGroup() as renewing:
            while True:
                self._woken.clear()
                changed, self._changed = self._changed, set()
                for address in changed:
                    for backend in backends:
                        renewing.create_task(_renew(backend, address), name="renewal")
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._woken.wait()
                except TimeoutError:
                    await self.look()

    async def look(self) -> None:
        """One look at all files. Never raises."""
        now = self._clock.now()
        for source in tuple(self._sources()):
            refused = source.refused
            try:
                # A file system that hangs holds up nothing else.
                replaced = await asyncio.to_thread(source.look, now)
            except Exception:
                _log.exception("files could not be looked at", extra={"source": source.name})
                continue
            if replaced:
                self._replace(source)
            elif source.refused and source.refused != refused:
                self._refuse(source)
        if self._listener is not None:
            self._show()

    def notes(self) -> list[Reason]:
        """What an operator should know; none of it keeps anybody from being served."""
        found = [Reason("insecure", text, False) for text in self._prepared.exposed]
        now = self._clock.now()
        for source in self._sources():
            if source.refused:
                detail = f"{source.refused}; what was read before stays in force"
                found.append(Reason("trust_refused", detail, False))
            material = source.value
            if isinstance(material, PemMaterial) and material.is_late(now):
                over = material.not_after <= now
                when = f"{'expired' if over else 'expires'} at {_stamp(material.not_after)}"
                detail = f"{source.name}: the certificate for {_for(material)} {when}"
                name = "certificate_expired" if over else "certificate_expires"
                found.append(Reason(name, detail, False))
        return found

    def summary(self) -> list[str]:
        """What is in force, in words, for `check`."""
        told = []
        for source in self._sources():
            material = source.value
            if isinstance(material, ReceiptKeys):
                told.append(f"{source.name}: receipts are signed by the key {material.kid}")
            if isinstance(material, PemMaterial) and material.chain:
                until = f"until {_stamp(material.not_after)}"
                told.append(f"{source.name}: a certificate for {_for(material)}, {until}")
        for server, name in ((self.server, "server.tls"), (self.admin, "server.admin_tls")):
            if server is not None:
                told.append(f"{name}: client certificates: {server.client_auth}")
        return told

    def _sources(self) -> Iterator[Watched[Any]]:
        """Each once."""
        ends = [one.source for one in self._prepared.security.values()]
        keys = [one.source for one in self._prepared.keys.values()]
        yield from {id(one): one for one in (*self._own, *ends, *keys)}.values()

    def _replace(self, source: Watched[Any]) -> None:
        extra = {"source": source.name}
        if isinstance(source.value, PemMaterial):
            extra |= {"names": _for(source.value), "expires": _stamp(source.value.not_after)}
            for address, security in self._prepared.security.items():
                if security.source is source:
                    self._changed.add(address)
            if self._changed:
                self._woken.set()
        _log.info("replaced: in force for new connections", extra=extra)
        if self._listener is not None:
            self._listener.reloaded(source.name, "applied")

    def _refuse(self, source: Watched[Any]) -> None:
        _log.error(
            "refused, what was read before stays in force: %s",
            source.refused,
            extra={"source": source.name},
        )
        if self._listener is not None:
            self._listener.reloaded(source.name, "refused")

    def _handshake_failed(self, at: str, why: str) -> None:
        if self._listener is not None:
            self._listener.handshake_failed(at, why)
        suppressed = self._throttle.admit((at, why), self._clock.monotonic())
        # Who hangs up in between is no news.
        if suppressed is not None and why != "gone":
            extra = {"source": at, "reason": why, "suppressed": suppressed}
            _log.info("a client's TLS handshake failed", extra=extra)

    def _show(self) -> None:
        assert self._listener is not None
        self._listener.show(
            {
                one.name: one.value.not_after
                for one in self._sources()
                if isinstance(one.value, PemMaterial)
            }
        )

    def _server(self, at: str, tls: ListenerTls | None) -> ServerTls | None:
        if tls is None:
            return None
        source = self._pem(at, tls.files, "client_ca_file")
        return ServerTls(source, tls.client_auth, partial(self._handshake_failed, at))

    def _token(self, spec: SecretSpec | None) -> Watched[Secret] | None:
        if spec is None:
            return None
        key = "admin_token_env" if spec.env else "admin_token_file"
        return self._secret("server", key, spec)

    def _receipt_keys(self, signing: ReceiptSigning | None) -> Watched[ReceiptKeys] | None:
        if signing is None:
            return None

        def read(now: float) -> ReceiptKeys:
            return read_receipt_keys("receipts.sign", signing)

        return self._source(signing, "receipts.sign", (signing.key, *signing.old), read)

    def _security(self, tls: EndpointTls) -> EndpointSecurity:
        return EndpointSecurity(self._pem(tls.at, tls.files, "ca_file"), tls.server_name)

    def _key(self, wanted: EndpointCredentials) -> EndpointKey:
        spec = wanted.secret
        source = self._secret(wanted.at, "env" if spec.env else "file", spec)
        return EndpointKey(wanted.header, wanted.scheme, source)

    def _pem(self, at: str, files: PemFiles, ca_key: str) -> Watched[PemMaterial]:
        def read(now: float) -> PemMaterial:
            return read_pem(at, files, now, ca_key)

        return self._source(files, at, files, read)

    def _secret(self, at: str, key: str, spec: SecretSpec) -> Watched[Secret]:
        def read(now: float) -> Secret:
            found = read_secret("", f"{at}.{key}", env=spec.env, file=spec.file,
                                environ=self._environ)  # fmt: skip
            if not found.reveal().isascii():
                where = f"variable {spec.env}" if spec.env else f"file {spec.file}"
                text = f"{where} holds a key that no header can carry: it is not ASCII"
                raise ConfigError("", [(f"{at}.{key}", text)])
            return found

        return self._source(spec, f"{at}.{key}", (spec.file,), read)

    def _source(
        self, key: Hashable, name: str, files: Any, read: Callable[[float], Any]
    ) -> Watched[Any]:
        """What several name is looked at once."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Watched(name, files, read, self._clock.now())
        return known


class _Gathered:
    """Collects the problems of what is built inside it; raises them together."""

    def __init__(self, config: Config) -> None:
        self._file = str(config.file)
        self._problems: dict[tuple[str, str], None] = {}

    def __enter__(self) -> _Gathered:
        return self

    def __call__(self, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except ConfigError as error:
            self._problems.update(dict.fromkeys(error.problems))
            return None

    def __exit__(self, *error: object) -> None:
        if self._problems and error[0] is None:
            raise ConfigError(self._file, list(self._problems))


async def _renew(backend: Backend, address: str) -> None:
    try:
        await backend.renew(address)
    except Exception:
        _log.exception("connections could not be made anew")


def _stamp(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _for(material: PemMaterial) -> str:
    return ", ".join(material.names[:3]) or "nobody"
