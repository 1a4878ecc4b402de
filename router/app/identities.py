"""Who may call: built from the configuration, and kept as true as its files and issuers are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

from router.config.settings import IdentitySettings
from router.contract import Clock
from router.errors import CarbonRouterError, ConfigError, DataError
from router.identity.access import Access, Credentials
from router.identity.api_keys import KeyTable
from router.identity.certificates import CertificateTable
from router.identity.jwks import JwksRefresher, KeySet
from router.identity.keys_file import WatchedFile, key_table, read_keys
from router.identity.limits import Limiter
from router.identity.tokens import TokenVerifier
from router.telemetry.admin import Reason
from router.telemetry.security import SecurityEvent, SecurityLog

_LOOK_S: Final = 1.0
_FETCH_S: Final = 5.0
_MAX_DETAIL: Final = 2000
_MAX_JWKS_BYTES: Final = 2**20


class IdentityKeeper:
    """One a process. ``access``: what the fronts ask."""

    def __init__(
        self,
        settings: IdentitySettings,
        clock: Clock,
        log: SecurityLog,
        session: Callable[[], aiohttp.ClientSession],
        sharers: Callable[[], int],
    ) -> None:
        """``clock``: of the wall; ``session``: for the keys of an issuer; ``sharers``: how many
        processes the limits are shared among. Raises ConfigError."""
        self._log = log
        self._session = session
        self._settings = settings
        self._adopted = asyncio.Event()
        self._watched: WatchedFile | None = None
        self._keys: KeySet | None = None
        # Why the keys on disk are not those in force, "" where they are.
        self.refused = ""
        self.access = Access(clock, Limiter(clock.monotonic, sharers), None, log)
        self.access.credentials = self._build(settings)

    def adopt(self, settings: IdentitySettings) -> None:
        """After a reload: ``settings`` are in force from here on, and every file is read again.

        What is wrong with it is told, and what was in force stays.
        """
        try:
            credentials = self._build(settings)
        except ConfigError as error:
            self._refuse(error)
            return
        self._settings = settings
        self.access.credentials = credentials
        self._adopted.set()

    async def watch(self) -> None:
        """One round: wait, then read the file of keys again where it has changed."""
        await asyncio.sleep(_LOOK_S)
        watched = self._watched
        if watched is None or not await asyncio.to_thread(watched.changed):
            return
        try:
            schema = await asyncio.to_thread(read_keys, watched.path)
        except CarbonRouterError as error:
            self._refuse(error)
            return
        before = self.access.credentials
        if self._watched is watched and before is not None:
            self.access.credentials = before._replace(keys=self._told(key_table(schema)))

    async def follow(self) -> None:
        """Keep the keys of the issuer in force fresh, for ever."""
        while True:
            self._adopted.clear()
            jwt, keys = self._settings.schema.jwt, self._keys
            if jwt is None or keys is None:
                await self._adopted.wait()
                continue
            refresher = JwksRefresher(
                keys, self._fetch, jwt.algorithms, jwt.refresh_s, self._followed
            )
            async with asyncio.TaskGroup() as group:
                work = group.create_task(refresher.run(), name="issuer")
                await self._adopted.wait()
                work.cancel()

    def _build(self, settings: IdentitySettings) -> Credentials | None:
        if not settings.authenticates:
            self._watched = self._keys = None
            return None
        table, watched = KeyTable(), None
        if settings.keys_file is not None:
            # Looked at first: what changes while it is read is read again.
            watched = WatchedFile(settings.keys_file)
            table = self._told(key_table(read_keys(settings.keys_file)))
        tokens, keys = None, None
        jwt = settings.schema.jwt
        if jwt is not None:
            same = jwt == self._settings.schema.jwt and self._keys is not None
            keys = self._keys if same and self._keys is not None else KeySet()
            tokens = TokenVerifier(jwt, keys)
        mtls = settings.schema.mtls
        self._watched, self._keys = watched, keys
        return Credentials(table, tokens, CertificateTable(mtls.principals if mtls else ()))

    def notes(self) -> list[Reason]:
        """What is wrong with it, for readiness; requests are served as before."""
        if not self.refused:
            return []
        detail = f"the keys on disk were refused, those before stay: {self.refused}"
        return [Reason("keys_refused", detail[:_MAX_DETAIL], False)]

    def _refuse(self, error: CarbonRouterError) -> None:
        self.refused = str(error)
        self._log.tell(SecurityEvent.KEYS_REFUSED, self.refused)

    def _told(self, table: KeyTable) -> KeyTable:
        self.refused = ""
        self._log.tell(SecurityEvent.KEYS_LOADED, f"{len(table)} keys")
        return table

    def _followed(self, well: bool, why: str) -> None:
        if well:
            self._log.tell(SecurityEvent.ISSUER_LOADED)
        else:
            self._log.tell(SecurityEvent.ISSUER_FAILED, why)

    async def _fetch(self) -> bytes:
        jwt = self._settings.schema.jwt
        if jwt is None:
            raise DataError("no issuer is configured")
        if jwt.jwks_file is not None:
            return await asyncio.to_thread(_read, self._settings.folder / jwt.jwks_file)
        timeout = aiohttp.ClientTimeout(total=_FETCH_S)
        try:
            # A redirect could lead from https to anywhere.
            async with self._session().get(
                jwt.jwks_url or "", timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise DataError(f"the issuer answered with {answer.status}")
                body = await answer.content.read(_MAX_JWKS_BYTES + 1)
                while len(body) <= _MAX_JWKS_BYTES and not answer.content.at_eof():
                    body += await answer.content.read(_MAX_JWKS_BYTES + 1 - len(body))
                return body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DataError(f"cannot be had: {type(error).__name__}") from None


def _read(path: Path) -> bytes:
    return path.read_bytes()
