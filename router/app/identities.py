"""Who may call: built from the configuration, and kept as true as its files, its store and its
issuers are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiohttp

from router.app.key_following import LOOK_S, KeyFollower
from router.config.settings import IdentitySettings
from router.contract import Clock, StateStore
from router.errors import CarbonRouterError, ConfigError, DataError
from router.identity.access import Access, Credentials
from router.identity.api_keys import KeyTable
from router.identity.certificates import CertificateTable
from router.identity.jwks import JwksRefresher, KeySet
from router.identity.keys_file import WatchedFile, key_table, read_keys
from router.identity.limits import Limiter
from router.identity.stored_keys import StoredKeys
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
        store: StateStore | None = None,
    ) -> None:
        """``clock``: of the wall; ``session``: for the keys of an issuer; ``sharers``: how many
        processes the limits are shared among; ``store``: that may have keys. Raises ConfigError."""
        self._clock = clock
        self._log = log
        self._store = store
        self._session = session
        self._settings = settings
        self._adopted = asyncio.Event()
        self._watched: WatchedFile | None = None
        self._keys: KeySet | None = None
        self._in_file = KeyTable()
        self._follower: KeyFollower | None = None
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

    async def start(self) -> None:
        """Read what is in the store, before anything is served."""
        if self._follower is not None:
            await self._follower.start()

    async def look(self) -> None:
        """One round: wait, then see whether the store has other keys."""
        await asyncio.sleep(LOOK_S)
        if self._follower is not None:
            await self._follower.look()

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
        if self._watched is watched:
            self._in_file = self._told(key_table(schema))
            self._install()

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
            self._watched = self._keys = self._follower = None
            return None
        follower = self._following(settings)
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
        self._in_file, self._follower = table, follower
        return Credentials(
            self._all_keys(), tokens, CertificateTable(mtls.principals if mtls else ())
        )

    def _following(self, settings: IdentitySettings) -> KeyFollower | None:
        """Who follows the store's keys; the one before, where there is one: what it read stays."""
        if not settings.schema.keys_in_store:
            return None
        if self._store is None:
            # The file is right: this process was started without one.
            problem = "needs state.redis, which takes a restart"
            raise ConfigError("identity", [("keys_in_store", problem)])
        if self._follower is not None:
            return self._follower
        stored = StoredKeys(self._store, self._clock.now)
        return KeyFollower(stored, self._clock.monotonic, self._log, self._install)

    def _all_keys(self) -> KeyTable:
        if self._follower is None:
            return self._in_file
        stored = self._follower.table
        # Of a key that is in both the file's word counts: it is nearer to whoever runs this one.
        return self._in_file.over(KeyTable(whole=False) if stored is None else stored)

    def _install(self) -> None:
        """Put the keys that are known now in force."""
        before = self.access.credentials
        if before is not None:
            self.access.credentials = before._replace(keys=self._all_keys())

    def notes(self) -> list[Reason]:
        """What is wrong with it, for readiness; requests are served as before."""
        notes = []
        if self.refused:
            detail = f"the keys on disk were refused, those before stay: {self.refused}"
            notes.append(Reason("keys_refused", detail[:_MAX_DETAIL], False))
        if self._follower is not None:
            schema = self._settings.schema
            alone = schema.jwt is None and schema.mtls is None and not len(self._in_file)
            notes += self._follower.notes(alone)
        return notes

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
