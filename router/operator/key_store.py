"""Keys in the store that a configuration names, read and changed for a person."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from router import config as configuration
from router.app.shared_state import build_store
from router.carbon.providers.registry import providers
from router.clock import WallClock
from router.config.identity import KeysFileSchema
from router.config.settings import Config
from router.contract import StateStore
from router.errors import ConfigError, DataError, StateStoreError
from router.identity.stored_keys import NAME, WHERE, StoredKeys, read_document, write_document
from router.operator.key_places import checked, counted, nothing, plain

_T = TypeVar("_T")

# A person waits, and no request does.
_PATIENCE_S: Final = 2.0
_HOLD_S: Final = 15.0
# Longer than a command that was killed holds them.
_WAIT_S: Final = 20.0
_AGAIN_S: Final = 0.1
_NO_KEYS: Final = (
    "the store has no keys: `key new --first` makes the first; after a loss bring all back by "
    "`key import`, as one new key alone would put all others out of force"
)


class KeysInStore:
    """The document in the store that a configuration names. ``is_read``: whether its gateways take
    keys from there."""

    def __init__(self, config_path: Path, first: bool = False) -> None:
        """``first``: `change` may begin where the store has none. Raises ConfigError where the
        configuration names no store."""
        config = configuration.load(config_path, providers)
        redis = config.settings.state.redis
        if redis is None:
            raise ConfigError(
                str(config_path), [("state.redis", "is not given: there is no store")]
            )
        patient = replace(redis, timeout_s=max(redis.timeout_s, _PATIENCE_S))
        state = replace(config.settings.state, redis=patient)
        self._config: Config = replace(config, settings=replace(config.settings, state=state))
        self._clock = WallClock()
        self._holder = f"key-{secrets.token_hex(8)}"
        self.name = f"the store of {config_path}"
        self.is_read = config.settings.identity.schema.keys_in_store
        self._first = first
        self.had_any = True

    def read(self) -> KeysFileSchema:
        """See `KeysPlace`. One that has none is told, as it is to a gateway."""
        held = self.found()
        if held is None:
            raise ConfigError(self.name, [("", _NO_KEYS)])
        return held

    def found(self) -> KeysFileSchema | None:
        """As `read`; None where there are none."""
        return self._run(self._read)

    def change(self, edit: Callable[[dict[str, Any]], _T]) -> _T:
        """See `KeysPlace`; under a lease."""

        async def changed(store: StateStore) -> _T:
            async with self._lease(store) as still:
                stored = StoredKeys(store, self._clock.now)
                head = await stored.head()
                self.had_any = head is not None
                if head is not None:
                    held = plain(read_document(await stored.document(head)))
                elif self._first:
                    held = nothing()
                else:
                    raise ConfigError(self.name, [("", _NO_KEYS)])
                answer = edit(held)
                await stored.replace(self._document(held), head, still)
                return answer

        return self._run(changed)

    def replace(self, schema: KeysFileSchema) -> None:
        """Put ``schema`` there, whatever was there before. Raises ConfigError."""

        async def replaced(store: StateStore) -> None:
            async with self._lease(store) as still:
                stored = StoredKeys(store, self._clock.now)
                await stored.replace(self._document(plain(schema)), await stored.head(), still)

        self._run(replaced)

    def _document(self, held: dict[str, Any]) -> bytes:
        return write_document(checked(held, self.name))

    def _run(self, ask: Callable[[StateStore], Awaitable[_T]]) -> _T:
        async def asked() -> _T:
            store = build_store(self._config, self._clock, self._holder, os.environ)
            assert store is not None
            try:
                return await ask(store)
            finally:
                await store.close()

        try:
            return asyncio.run(asked())
        except (StateStoreError, DataError) as error:
            raise ConfigError(str(self._config.file), [("state.redis", str(error))]) from None

    async def _read(self, store: StateStore) -> KeysFileSchema | None:
        stored = StoredKeys(store, self._clock.now)
        head = await stored.head()
        return None if head is None else read_document(await stored.document(head))

    @asynccontextmanager
    async def _lease(self, store: StateStore) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Nobody else changes them meanwhile; what is given raises ConfigError where that ended."""
        token = await self._acquire(store)

        async def still() -> None:
            if await store.acquire(NAME, self._holder, _HOLD_S, self._clock.now()) != token:
                raise ConfigError(
                    WHERE, [("", "another command changed them meanwhile: try again")]
                )

        try:
            yield still
        finally:
            # It ends by itself.
            with suppress(StateStoreError):
                await store.release(NAME, self._holder)

    async def _acquire(self, store: StateStore) -> int:
        until = self._clock.monotonic() + _WAIT_S
        while True:
            token = await store.acquire(NAME, self._holder, _HOLD_S, self._clock.now())
            if token:
                return token
            if self._clock.monotonic() > until:
                text = f"another command has been changing them for {_WAIT_S:.0f} s: try again"
                raise ConfigError(WHERE, [("", text)])
            await asyncio.sleep(_AGAIN_S)


def stored_keys_note(config_path: Path) -> str:
    """What `check` says of the keys in the store of a configuration. Raises ConfigError where they
    cannot be read, or no gateway would take them."""
    place = KeysInStore(config_path)
    schema = place.found()
    return f"identity.keys_in_store: {_NO_KEYS if schema is None else counted(schema)}"
