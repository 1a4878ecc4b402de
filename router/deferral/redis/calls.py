"""How scripts are asked: what goes wrong is an error of the queue, and what was asked may be asked
again."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from router.deferral.redis.batch_scripts import FOLDER
from router.deferral.redis.grouped_calls import GroupedCalls
from router.deferral.redis.scripts import SHARED
from router.errors import DeferralFullError, DeferralStoreError, StateStoreError

# What failed may have been done all the same, its answer lost: asked again, it says so.
_TRIES: Final = 3
_BETWEEN_S: Final = 0.25
_AGAIN_S: Final = 1.0
_FULL: Final = "full"

_log = logging.getLogger(__name__)


class RedisCalls(Protocol):
    """A connection: `router.state.redis.link.Link`."""

    async def run(self, ask: Callable[[Any], Awaitable[Any]], limit_s: float | None = None) -> Any:
        """What ``ask`` answers, given a client. Raises StateStoreError."""
        ...

    def run_script(
        self, text: bytes, key: bytes, arguments: Sequence[str | bytes]
    ) -> Coroutine[Any, Any, Any]:
        """What a script about ``key`` answers. Raises StateStoreError."""
        ...

    async def run_scripts(
        self, text: bytes, key: bytes, each: Sequence[Sequence[str | bytes]]
    ) -> list[Any]:
        """What it answers to each, which go together; StateStoreError in the place of an answer
        that is one. Raises StateStoreError."""
        ...

    async def close(self) -> None:
        """Calls after it fail."""
        ...


class Scripts:
    """Of one queue, whose keys all begin with ``prefix:{deferred}``."""

    def __init__(self, calls: RedisCalls, prefix: str, folder: str = "") -> None:
        """``folder``: the name of the one that this process has files in, "" where it has none."""
        self._calls = calls
        self._base = b"%b:{deferred}" % prefix.encode()
        self._folder = folder
        self._closed = False
        self._is_known = not folder
        self._grouped: dict[str, GroupedCalls] = {}
        # Set by a call that nobody knows the end of.
        self.is_unsure = False

    async def run(self, script: str, *arguments: str | bytes | float) -> Any:
        """Raises DeferralStoreError, DeferralFullError: it was not done, or is of no consequence
        once this process has given back what it does not know of (``is_unsure``)."""
        return await self._run(script, arguments, 1)

    async def surely(self, script: str, *arguments: str | bytes | float) -> Any:
        """Likewise, of what changes nothing where it is done twice."""
        return await self._run(script, arguments, _TRIES)

    async def surely_together(self, script: str, *arguments: str | bytes | float) -> Any:
        """`surely`, in one call with others of this script that come at the same time."""
        return await self._run(script, arguments, _TRIES, self._grouped_of(script).ask)

    async def command(self, name: str, key: str) -> Any:
        """What a command that reads one key answers."""
        await self._require_folder()
        whole = b"%b:%b" % (self._base, key.encode())
        return await self._ask(self._calls.run(lambda client: client.execute_command(name, whole)))

    async def close(self) -> None:
        """Calls after it fail."""
        self._closed = True
        await self._calls.close()

    async def _run(
        self,
        script: str,
        arguments: tuple[str | bytes | float, ...],
        tries: int,
        ask: Callable[[Sequence[str | bytes]], Coroutine[Any, Any, Any]] | None = None,
    ) -> Any:
        await self._require_folder()
        sent = [str(one) if isinstance(one, int | float) else one for one in arguments]

        def alone(arguments: Sequence[str | bytes]) -> Coroutine[Any, Any, Any]:
            return self._calls.run_script(_whole(script), self._base, arguments)

        while True:
            tries -= 1
            try:
                return await self._ask((ask or alone)(sent))
            except DeferralStoreError:
                if not tries:
                    raise
                await asyncio.sleep(_BETWEEN_S)

    def _grouped_of(self, script: str) -> GroupedCalls:
        known = self._grouped.get(script)
        if known is None:

            async def send(each: Sequence[Sequence[str | bytes]]) -> Sequence[Any]:
                if len(each) == 1:
                    return [await self._calls.run_script(_whole(script), self._base, each[0])]
                return await self._calls.run_scripts(_whole(script), self._base, each)

            known = self._grouped[script] = GroupedCalls(send)
        return known

    async def _require_folder(self) -> None:
        """Raises DeferralStoreError where others at this queue have their files elsewhere."""
        if self._is_known:
            return
        name, is_kept, evicts = await self._ask(
            self._calls.run_script(_whole(FOLDER), self._base, [self._folder])
        )
        if name != self._folder.encode():
            raise DeferralStoreError(
                "files of this gateway are in another folder than those of others at this queue: "
                "give all of them the same, as deferral.dir"
            )
        self._is_known = True
        if is_kept == b"0":
            _log.warning("deferred work is lost when the Redis server ends: it has no append-only "
                         "file (appendonly yes)")  # fmt: skip
        if evicts not in (b"", b"noeviction"):
            _log.warning("deferred work may be lost when the Redis server is full: it evicts keys "
                         "(maxmemory-policy noeviction)")  # fmt: skip

    async def _ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._closed:
            call.close()
            raise DeferralStoreError("the queue is closed: this gateway is shutting down")
        try:
            return await call
        except StateStoreError as error:
            if error.cause == _FULL:
                raise DeferralFullError(
                    "the store in which deferred work waits is full: nothing of this was kept"
                ) from error
            self.is_unsure = True
            text = f"the queue of deferred work cannot be used just now ({error})"
            raise DeferralStoreError(text, _AGAIN_S) from error
        except asyncio.CancelledError:
            self.is_unsure = True
            raise


@functools.cache
def _whole(script: str) -> bytes:
    """With what all share, below the line that says whether a full server does it."""
    head, end, rest = script.partition("\n") if script.startswith("#!") else ("", "", script)
    return f"{head}{end}{SHARED}{rest}".encode()
