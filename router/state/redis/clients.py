"""redis-py clients: short time-outs, no retries, nothing of what newer servers alone can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from router.config.settings import RedisSettings, RedisTopology

# A call holds one connection; what waits behind these many calls waits here, not in the server.
MAX_CONNECTIONS = 32
# A connection takes a round trip, TLS one or two more; answers alone are in time after one.
CONNECT_TIMEOUTS = 3


class Passwords(NamedTuple):
    """Of the server and of its sentinels; "" for none."""

    server: str = ""
    sentinel: str = ""


class RedisClient(Protocol):
    """What is used of redis-py's clients."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command; raises redis-py's exceptions, and some that are not."""
        ...

    def pipeline(self, transaction: bool = False) -> Any:
        """Commands that travel together."""
        ...


class OpenClient:
    """A client and what has to be closed with it."""

    def __init__(self, settings: RedisSettings, passwords: Passwords) -> None:
        """Opens no connection yet. To be called inside a running event loop."""
        self._sentinel: Any = None
        address = settings.address
        options = _options(settings, settings.username, passwords.server)
        self.redis: Any
        if address.topology is RedisTopology.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.hosts]
            # What is left of a cluster is better than nothing of it.
            self.redis = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
            self.redis.commands_parser = _KeyPlaces()
        elif address.topology is RedisTopology.SENTINEL:
            whom = _options(settings, settings.sentinel_username, passwords.sentinel)
            # Untyped in redis-py.
            sentinel: Any = Sentinel
            self._sentinel = sentinel(
                address.hosts, sentinel_kwargs=whom, db=address.database, **options
            )
            self.redis = self._sentinel.master_for(address.service)
        elif address.path:
            self.redis = Redis(unix_socket_path=address.path, db=address.database, **options)
        else:
            ((host, port),) = address.hosts
            self.redis = Redis(host=host, port=port, db=address.database, **options)

    async def close(self) -> None:
        """Close every connection."""
        try:
            await self.redis.aclose()
        finally:
            if self._sentinel is not None:
                await self._sentinel.aclose()


class _KeyPlaces:
    """Where the key of a command is. redis-py would ask for a table of all commands whenever it
    asks who has which slots, as it does after each failure, and parse it for some 10 ms."""

    async def initialize(self, node: object = None) -> None:
        """Nothing needs to be asked."""

    async def get_keys(self, *command: Any) -> tuple[Any, ...]:
        """Of our commands but EVAL and EVALSHA, whose keys redis-py finds itself."""
        return command[1:2]


async def masters(client: RedisClient) -> list[Callable[..., Awaitable[Any]]]:
    """What asks each server that has keys of its own for one command."""
    if not isinstance(client, RedisCluster):
        return [client.execute_command]
    # Knows its nodes only then.
    await client.initialize()
    return [node.execute_command for node in client.get_primaries()]


def _options(settings: RedisSettings, username: str, password: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUTS * settings.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": MAX_CONNECTIONS,
        "protocol": 3,
        "legacy_responses": False,
        # Neither of these is known to every server, or allowed to every user.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if password:
        options |= {"username": username or "default", "password": password}
    if settings.address.tls:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": _text(settings.ca_file),
            "ssl_certfile": _text(settings.cert_file),
            "ssl_keyfile": _text(settings.key_file),
        }
    return options


def _text(path: object) -> str | None:
    return None if path is None else str(path)
