"""A store on a real server whose time passes when a test says so."""

from __future__ import annotations

import atexit
import functools
import itertools
from collections.abc import Mapping

from router.contract import StateStore
from router.state.redis.clients import Passwords
from router.state.redis.store import RedisStore
from tests.state.redis.servers import Cluster, Server, settings

T0 = 1_795_303_267.0
# Seconds of the server to one of a test: what a test takes itself is then none of its seconds.
SLOW = 100.0
# What is left of a time to live when it has passed but for what a round trip takes.
ROUNDING_MS = 0.1 * SLOW * 1e3

# Every key that ends at all ends earlier, and every row of a room.
AGE = """
local time = redis.call('TIME')
local now, passed, rounding = time[1] * 1000 + time[2] / 1000, tonumber(ARGV[2]), tonumber(ARGV[3])
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local lives = redis.call('PTTL', key)
  local left = lives - passed
  if lives >= 0 and left <= rounding then
    redis.call('DEL', key)
  elseif lives >= 0 then
    redis.call('PEXPIRE', key, string.format('%.0f', left))
    if redis.call('TYPE', key).ok == 'hash' then
      local rows = redis.call('HGETALL', key)
      for i = 1, #rows, 2 do
        local ends, row = string.match(rows[i + 1], '^(%d+):(.*)$')
        ends = ends - passed
        if ends - now <= rounding then ends = 0 end
        redis.call('HSET', key, rows[i], string.format('%.0f:', ends) .. row)
      end
    end
  end
end
"""
_numbers = itertools.count()


@functools.cache
def running(program: str, cluster: bool) -> Server | Cluster:
    """One for all tests of this process."""
    made = Cluster(program) if cluster else Server(program)
    atexit.register(made.close)
    return made.start()


class SlowStore:
    """A store in which all lives ``SLOW`` times as long."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.get = store.get
        self.scan = store.scan
        self.release = store.release
        self.leave = store.leave
        self.close = store.close

    async def put(self, key: str, value: bytes, ttl_s: float, now: float) -> None:
        await self._store.put(key, value, ttl_s * SLOW, now)

    async def put_all(self, values: Mapping[str, bytes], ttl_s: float, now: float) -> None:
        await self._store.put_all(values, ttl_s * SLOW, now)

    async def add(self, counter: str, amount: int, ttl_s: float, now: float) -> int:
        return await self._store.add(counter, amount, ttl_s * SLOW, now)

    async def acquire(self, name: str, holder: str, ttl_s: float, now: float) -> int:
        return await self._store.acquire(name, holder, ttl_s * SLOW, now)

    async def exchange(
        self, room: str, member: str, row: bytes, ttl_s: float, now: float
    ) -> Mapping[str, bytes]:
        return await self._store.exchange(room, member, row, ttl_s * SLOW, now)


class AgingRedis:
    """A fleet of its own on a server that others use, too."""

    def __init__(self, program: str, cluster: bool = False) -> None:
        self._server = running(program, cluster)
        self._nodes = getattr(self._server, "nodes", [self._server])
        self._prefix = f"test-{next(_numbers)}"
        # A machine that stands still for a while is no failure here.
        keys = settings(self._server.url, prefix=self._prefix, timeout_ms=5000)
        self.store: StateStore = SlowStore(RedisStore(keys, Passwords))
        self.now = T0

    async def age(self, seconds: float) -> None:
        self.now += seconds
        if seconds > 0.0:
            for node in self._nodes:
                passed_ms = seconds * SLOW * 1e3
                node.ask("EVAL", AGE, 0, f"{self._prefix}:*", passed_ms, ROUNDING_MS)

    async def close(self) -> None:
        await self.store.close()
        for node in self._nodes:
            node.ask("FLUSHDB")
