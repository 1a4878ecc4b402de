"""The connection to Redis: every call bounded, every failure one error, a stuck client rebuilt."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError

from router.config.settings import RedisSettings
from router.errors import CarbonRouterError, StateStoreError
from router.state.redis.clients import CONNECT_TIMEOUTS, OpenClient, Passwords, RedisClient
from router.state.redis.failures import StoreFault, UnexpectedAnswerError, as_store_error

_T = TypeVar("_T")

# redis-py's own limit on connections is above it, and reached only if it loses some.
MAX_CALLS: Final = 16
# A client whose every call failed for so long is given up: some never find back to their cluster.
REBUILD_S: Final = 5.0
# It is connected to who is no master any more, by another password, or has lost connections.
_SOON_S: Final = 1.0
_SOON: Final = frozenset({StoreFault.READ_ONLY, StoreFault.DENIED, StoreFault.OTHER})
# The server answers, only not so as we wish.
_ANSWERS: Final = frozenset({StoreFault.FULL, StoreFault.REFUSED, StoreFault.LOADING})
_CLOSE_S: Final = 1.0


class Link:
    """One client at a time, made when it is needed."""

    def __init__(self, settings: RedisSettings, passwords: Callable[[], Passwords]) -> None:
        """``passwords``: as they are now; may take a while, and raise ConfigError."""
        self._settings = settings
        self._passwords = passwords
        self._open: OpenClient | None = None
        self._closed = False
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._building = asyncio.Lock()
        # When the failures began that no success has ended; monotonic, of the loop.
        self._failing_since: float | None = None
        address = settings.address
        # A connection, its greeting and an answer; sentinels and nodes are asked one by one.
        answers = 2 + min(len(address.hosts) - 1, 6)
        self.limit_s = settings.timeout_s * (CONNECT_TIMEOUTS + answers)
        if address.path:
            self.limit_s = 2 * settings.timeout_s

    async def run(
        self, ask: Callable[[RedisClient], Awaitable[_T]], limit_s: float | None = None
    ) -> _T:
        """What ``ask`` answers. Raises StateStoreError for whatever goes wrong in it."""
        limit = asyncio.timeout(self.limit_s if limit_s is None else limit_s)
        used: OpenClient | None = None
        try:
            async with limit, self._calls:
                used = await self._client()
                answer = await ask(used.redis)
        except StateStoreError:
            raise
        except CarbonRouterError as error:
            raise StateStoreError(f"state store: {error}", StoreFault.DENIED) from None
        except Exception as error:
            failure = as_store_error(error)
            await self._failed(used, failure)
            if isinstance(error, UnexpectedAnswerError):
                # Others on the same client may still be answered as they should.
                await self._give_up(used)
            raise failure from None
        self._failing_since = None
        return answer

    async def run_script(self, text: bytes, key: bytes, arguments: Sequence[str | bytes]) -> Any:
        """What a Lua script answers; ``key``: the one that it is about.

        It is asked for by its digest: the text goes only to a server that does not have it, as one
        that began anew, or was a replica. Raises StateStoreError.
        """
        sha1 = hashlib.sha1(text, usedforsecurity=False).hexdigest()

        async def ask(client: RedisClient) -> Any:
            try:
                return await client.execute_command("EVALSHA", sha1, 1, key, *arguments)
            except NoScriptError:
                return await client.execute_command("EVAL", text, 1, key, *arguments)

        return await self.run(ask)

    async def run_scripts(
        self, text: bytes, key: bytes, each: Sequence[Sequence[str | bytes]]
    ) -> list[Any]:
        """What a script answers to ``each``, which go together: the server's log is brought to its
        disk once for all. A StateStoreError in the place of an answer that is one. Raises
        StateStoreError where nobody knows what was done.
        """
        sha1 = hashlib.sha1(text, usedforsecurity=False).hexdigest()

        async def ask(client: RedisClient) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for arguments in each:
                pipeline.execute_command("EVALSHA", sha1, 1, key, *arguments)
            return list(await pipeline.execute(raise_on_error=False))

        found = []
        for arguments, answer in zip(each, await self.run(ask), strict=True):
            if isinstance(answer, NoScriptError):
                try:
                    found.append(await self.run_script(text, key, arguments))
                except StateStoreError as error:
                    found.append(error)
            elif isinstance(answer, Exception):
                found.append(as_store_error(answer))
            else:
                found.append(answer)
        return found

    async def close(self) -> None:
        """Close every connection; calls after it fail."""
        self._closed = True
        opened, self._open = self._open, None
        await _close(opened)

    async def _client(self) -> OpenClient:
        if self._open is not None:
            return self._open
        async with self._building:
            if self._closed:
                raise StateStoreError("state store: it is closed")
            if self._open is None:
                # Read from files, perhaps.
                passwords = await asyncio.to_thread(self._passwords)
                self._open = OpenClient(self._settings, passwords)
            return self._open

    async def _failed(self, used: OpenClient | None, failure: StateStoreError) -> None:
        if failure.cause in _ANSWERS:
            self._failing_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        after_s = _SOON_S if failure.cause in _SOON else REBUILD_S
        if now - self._failing_since >= after_s and used is self._open is not None:
            self._failing_since = now
            await self._give_up(used)

    async def _give_up(self, used: OpenClient | None) -> None:
        if used is self._open:
            self._open = None
            await _close(used)


async def _close(opened: OpenClient | None) -> None:
    if opened is None:
        return
    # Of a server that hangs nothing is expected any more.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSE_S):
            await opened.close()
