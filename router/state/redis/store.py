"""StateStore that several gateways share, on Redis 7 or Valkey."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from router.config.settings import RedisSettings
from router.errors import StateStoreError
from router.state.redis import scripts
from router.state.redis.answers import MARK, MAX_VALUE_BYTES, number_of, room_of, value_of
from router.state.redis.clients import Passwords, RedisClient, masters
from router.state.redis.keys import StoreKeys
from router.state.redis.link import Link

MAX_NAME_BYTES: Final = 1024
MAX_ROWS: Final = 1024
# What an answer of a room may have in the time of any call; for more there is more time, and of all
# rooms a gateway holds no more than that.
_USUAL_ROOM_BYTES: Final = 2 * 1024 * 1024
MAX_ROOM_BYTES: Final = 256 * 1024 * 1024
_LEAST_BYTES_PER_S: Final = 20.0 * 1024 * 1024
_PATIENCE_S: Final = 30.0
MAX_SCANNED: Final = 100_000
MAX_SCANNED_BYTES: Final = 64 * 1024 * 1024
_MAX_TTL_S: Final = 366 * 86_400.0
# Tokens rise without it as long as the server's clock does not step back.
_TOKEN_MS: Final = 30 * 86_400_000
# A pipeline's answers are held at once.
_BATCH: Final = 256
_SCAN_COUNT: Final = 1000
_SCAN_LIMIT_S: Final = 10.0
_MAX_AMOUNT: Final = 2**62

_Passwords = Callable[[], Passwords]
_T = TypeVar("_T")


class RedisStore:
    """Values, counters, holds and rooms of one fleet under one prefix.

    Expiry is judged by the server alone: ``now`` is not used, and gateways' clocks need not agree.
    Every call ends within a few ``timeout_s``, by its result or by StateStoreError. The connection
    is opened at the first call, inside the event loop that this makes it belong to.
    """

    def __init__(self, settings: RedisSettings, passwords: _Passwords) -> None:
        """``passwords``: read them now; raises ConfigError when they cannot be."""
        self._keys = StoreKeys(settings.prefix)
        self._settings = settings
        self._passwords = passwords
        self._link = Link(settings, passwords)
        # Whose connections wait longer for an answer, for rooms that are large; and those, by name.
        self._patient: Link | None = None
        self._room_bytes: dict[str, int] = {}

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        """As in the contract. Raises ValueError for an unusable ``ttl_s``, and for what is too
        large to be shared."""
        command = self._write(key, value, _lasting(ttl_s))
        await self._link.run(lambda c: c.execute_command(*command))

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        """As in the contract. Raises ValueError as `put` does, before anything is stored."""
        lasting = _lasting(ttl_s)
        commands = [self._write(key, value, lasting) for key, value in values.items()]
        for some in _batches(commands):
            await self._together(some, _anything)

    async def get(self, key: str, now: float) -> bytes | None:
        """As in the contract."""
        command = self._read(self._keys.value(_named(key)))
        return await self._ask(command, value_of)

    async def scan(self, prefix: str, now: float) -> Mapping[str, bytes]:
        """As in the contract; takes the longer the more keys the whole database has.

        Raises StateStoreError for more than 100,000 keys or 64 MiB, too.
        """
        pattern = self._keys.values(_named(prefix))
        names = await self._link.run(lambda c: self._names(c, pattern), _SCAN_LIMIT_S)
        found: dict[str, bytes] = {}
        size = 0
        for some in _batches(sorted(names)):
            values = await self._together([self._read(name) for name in some], value_of)
            for name, value in zip(some, values, strict=True):
                key = self._keys.name_of(name)
                if key is not None and value is not None and key.startswith(prefix):
                    found[key] = value
                    size += len(value)
            if size > MAX_SCANNED_BYTES:
                raise StateStoreError(f"state store: over {MAX_SCANNED_BYTES} bytes are found")
        return found

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        """As in the contract. Raises ValueError for an unusable ``ttl_s`` or an ``amount`` of 2^62
        and more."""
        ttl_ms = _ttl_ms(ttl_s)
        if abs(amount) >= _MAX_AMOUNT:
            raise ValueError(f"an amount of {amount} is too large to add")
        key = self._keys.counter(_named(counter))
        return await self._script(number_of, scripts.ADD, [key], amount, ttl_ms)

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        """As in the contract; a token is about the time in ms at which the hold began.

        While a server fails over to a replica that lacks the hold, there can be two holders: the
        later one's token is the larger.
        """
        ttl_ms = _ttl_ms(ttl_s)
        keys = self._keys.hold(_named(name))
        arguments = (_text(holder), ttl_ms, max(ttl_ms, _TOKEN_MS))
        return await self._script(number_of, scripts.ACQUIRE, keys, *arguments)

    async def release(self, name: str, holder: str) -> None:
        """As in the contract."""
        held, _ = self._keys.hold(_named(name))
        await self._script(_anything, scripts.RELEASE, [held], _text(holder))

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        """As in the contract. Raises StateStoreError, too, when the room has 1024 rows, or over
        256 MiB.

        A large room is read within a time that its bytes need.
        """
        ttl_ms = _ttl_ms(ttl_s)
        _sized(member, row)
        most = self._room_bytes.get(room, _USUAL_ROOM_BYTES)
        arguments = (_text(member), bytes(row), ttl_ms, MAX_ROWS, int(_MAX_TTL_S * 1e3))
        key = self._keys.room(_named(room))
        there = await self._read_room(key, arguments, most)
        if isinstance(there, int):
            if there > MAX_ROOM_BYTES:
                raise StateStoreError(f"state store: a room has over {MAX_ROOM_BYTES} bytes")
            # It grows as gateways come: there is time for twice as much.
            there = await self._read_room(key, arguments, _room_for(there))
            if isinstance(there, int):
                raise StateStoreError("state store: a room grows faster than it can be read")
        # And no longer than it is large: who waits for a small one waits for a server that hangs.
        self._room_bytes[room] = _room_for(sum(map(len, there.values())))
        return there

    async def leave(self, room: str, member: str) -> None:
        """As in the contract."""
        key, field = self._keys.room(_named(room)), _text(member)
        await self._link.run(lambda c: c.execute_command("HDEL", key, field))

    async def close(self) -> None:
        """Close every connection; never raises."""
        await self._link.close()
        if self._patient is not None:
            await self._patient.close()

    async def _script(
        self, means: Callable[[Any], _T], script: str, keys: Sequence[bytes], *arguments: object
    ) -> _T:
        return await self._ask(("EVAL", script, len(keys), *keys, *arguments), means)

    async def _ask(self, command: Sequence[object], means: Callable[[Any], _T]) -> _T:
        return await _asked(self._link, None, command, means)

    async def _read_room(
        self, key: bytes, arguments: Sequence[object], most: int
    ) -> dict[str, bytes] | int:
        """The rows, or how many bytes there are, where those are more than ``most``."""
        command = ("EVAL", scripts.EXCHANGE, 1, key, *arguments, most)
        if most <= _USUAL_ROOM_BYTES:
            return await self._ask(command, room_of)
        if self._patient is None:
            self._patient = Link(replace(self._settings, timeout_s=_PATIENCE_S), self._passwords)
        limit_s = self._link.limit_s + most / _LEAST_BYTES_PER_S
        return await _asked(self._patient, limit_s, command, room_of)

    async def _together(
        self, commands: Sequence[Sequence[object]], means: Callable[[Any], _T]
    ) -> list[_T]:
        """The answers to commands that travel together, of whatever slots."""

        async def ask(client: RedisClient) -> list[_T]:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            return [means(answer) for answer in await pipe.execute()]

        return await self._link.run(ask)

    async def _names(self, client: RedisClient, pattern: bytes) -> set[bytes]:
        names: set[bytes] = set()
        for ask in await masters(client):
            cursor = 0
            while True:
                cursor, some = await ask("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
                names.update(some)
                if len(names) > MAX_SCANNED:
                    raise StateStoreError(f"state store: over {MAX_SCANNED} keys are found")
                if int(cursor) == 0:
                    break
        return names

    def _write(self, key: str, value: bytes, lasting: tuple[object, ...]) -> tuple[object, ...]:
        return ("SET", self._keys.value(_named(key)), MARK + _sized(key, value), *lasting)

    def _read(self, name: bytes) -> tuple[object, ...]:
        # No more of a value than a gateway could have written.
        return ("GETRANGE", name, 0, MAX_VALUE_BYTES + 1)


async def _asked(
    link: Link, limit_s: float | None, command: Sequence[object], means: Callable[[Any], _T]
) -> _T:
    """What the answer to one command means: read within the call, so that one that is no answer
    is a failure as any other."""

    async def ask(client: RedisClient) -> _T:
        return means(await client.execute_command(*command))

    return await link.run(ask, limit_s)


def _room_for(size: int) -> int:
    """Bytes that a room of ``size`` may have come to by its next answer."""
    return min(max(_USUAL_ROOM_BYTES, 2 * size), MAX_ROOM_BYTES)


def _anything(answer: object) -> None:
    """It was answered, and that is all."""


def _sized(key: str, value: bytes) -> bytes:
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"{key[:64]!r}: {len(value)} bytes are too large to share")
    return bytes(value)


def _named(name: str) -> str:
    if len(name) > MAX_NAME_BYTES:
        raise ValueError(f"{name[:64]!r} and so on: a name of {len(name)} letters is too long")
    return name


def _text(text: str) -> bytes:
    return _named(text).encode(errors="surrogatepass")


def _ttl_ms(ttl_s: float) -> int:
    if not (ttl_s > 0.0 and math.isfinite(ttl_s)):
        raise ValueError(f"ttl_s must be a finite number of seconds > 0, got {ttl_s}")
    return math.ceil(min(ttl_s, _MAX_TTL_S) * 1e3)


def _lasting(ttl_s: float) -> tuple[object, ...]:
    """How long a value is kept, as SET takes it."""
    return () if ttl_s == math.inf else ("PX", _ttl_ms(ttl_s))


def _batches(all_of_them: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(all_of_them)
    return (listed[i : i + _BATCH] for i in range(0, len(listed), _BATCH))
