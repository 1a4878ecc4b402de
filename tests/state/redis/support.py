"""What the tests of a Redis store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from router.errors import StateStoreError
from router.state.redis.clients import Passwords
from router.state.redis.store import RedisStore
from tests.state.redis.servers import DEADLINE_S, settings

# Long enough on a machine that is busy, for what is not about a server that hangs.
PATIENT_MS = 2000.0


@asynccontextmanager
async def store_at(
    url: str, passwords: Callable[[], Passwords] = Passwords, **keys: Any
) -> AsyncIterator[RedisStore]:
    """A store as a gateway has it; ``keys``: of `state.redis`."""
    store = RedisStore(settings(url, **{"timeout_ms": PATIENT_MS, **keys}), passwords)
    try:
        yield store
    finally:
        await store.close()


async def failure_of(call: Awaitable[Any]) -> StateStoreError:
    """What ``call`` fails with; it ends by itself."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            answer = await call
    except StateStoreError as error:
        return error
    raise AssertionError(f"it answered {answer!r}")


async def eventually(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What ``ask`` gives once it does not fail any more."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(StateStoreError):
                return await ask()
            await asyncio.sleep(0.02)
