"""``state.redis`` of the file: which Redis several gateways share, and how it is reached."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from router.config.fields import EnvName, PathText, Strict, Text, split_address
from router.config.settings import RedisAddress, RedisSettings, RedisTopology, SecretSpec

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_MOST_DATABASES: Final = 1_000_000
_MOST_HOSTS: Final = 64
# Of one Lua script or transaction all keys are in one slot, by braces that only the store writes.
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_EXAMPLES: Final = (
    "write redis://host:6379, rediss://host:6379 (TLS), unix:///run/redis.sock, "
    "redis+sentinel://host:26379,host:26379/service or redis+cluster://host:6379,host:6379"
)
_KINDS: Final = {
    "redis": (RedisTopology.STANDALONE, False),
    "rediss": (RedisTopology.STANDALONE, True),
    "unix": (RedisTopology.STANDALONE, False),
    "redis+sentinel": (RedisTopology.SENTINEL, False),
    "rediss+sentinel": (RedisTopology.SENTINEL, True),
    "redis+cluster": (RedisTopology.CLUSTER, False),
    "rediss+cluster": (RedisTopology.CLUSTER, True),
}


def parse_redis_url(text: str) -> RedisAddress:
    """Where Redis is. Raises ValueError that never repeats what may be a password."""
    scheme, colon, rest = text.partition("://")
    if "@" in text:
        raise ValueError("must be without user and password; give username and password_env")
    if not colon or scheme not in _KINDS:
        raise ValueError(f"{text!r} is not a URL of Redis; {_EXAMPLES}")
    topology, tls = _KINDS[scheme]
    hosts_text, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    if scheme == "unix":
        return _unix(text, hosts_text, path, query)
    if query or "#" in rest:
        raise ValueError(f"{text!r} has a query or a fragment; options are keys beside the URL")
    port = _SENTINEL_PORT if topology is RedisTopology.SENTINEL else _PORT
    hosts = tuple(_host(host, port) for host in hosts_text.split(","))
    if topology is RedisTopology.STANDALONE and len(hosts) > 1:
        raise ValueError(f"{text!r} names {len(hosts)} hosts; {_EXAMPLES}")
    if len(hosts) > _MOST_HOSTS:
        raise ValueError(f"names {len(hosts)} hosts; {_MOST_HOSTS} at most")
    service = ""
    if topology is RedisTopology.SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError(f"{text!r} names no service; {_EXAMPLES}")
    if topology is RedisTopology.CLUSTER and path:
        raise ValueError(f"{text!r}: a cluster has no numbered databases; leave {path!r} out")
    return RedisAddress(topology, hosts, tls, service, _database(path))


def _unix(text: str, host: str, path: str, query: str) -> RedisAddress:
    if host or not path:
        raise ValueError(f"{text!r} is no socket's path; write unix:///run/redis.sock")
    key, _, database = query.partition("=")
    if query and key != "db":
        raise ValueError(f"{text!r}: the only option of a socket is ?db=0")
    return RedisAddress(RedisTopology.STANDALONE, (), path=f"/{path}", database=_database(database))


def _host(text: str, port: int) -> tuple[str, int]:
    bare = text.endswith("]") or ":" not in text
    host, given = split_address(f"{text}:{port}" if bare else text)
    if given == 0:
        raise ValueError(f"{text!r}: port 0 cannot be connected to")
    return host, given


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) >= _MOST_DATABASES:
        raise ValueError(f"{text[:64]!r} is no database's number")
    return int(text)


def _checked(text: str) -> str:
    parse_redis_url(text)
    return text


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(f"{text!r} is no prefix; use 1 to 64 letters, digits and . _ : / -")
    return text


RedisUrl = Annotated[str, Field(max_length=4096), AfterValidator(_checked)]
Prefix = Annotated[str, AfterValidator(_prefix)]


class RedisSchema(Strict):
    """The Redis or Valkey that the gateways of one fleet share."""

    url: RedisUrl = Field(
        description="redis://, rediss:// (TLS), unix://, redis+sentinel://, redis+cluster://, and "
        "those two with rediss+; without user and password"
    )
    prefix: Prefix = Field(
        default="carbon-router",
        description="before every key: gateways with one prefix are one fleet, others are not",
    )
    username: Text | None = Field(default=None, description="ACL user; left out: `default`")
    password_env: EnvName | None = Field(default=None, description="variable with the password")
    password_file: PathText | None = Field(
        default=None, description="file with it, read anew at each reconnection"
    )
    sentinel_username: Text | None = Field(default=None, description="ACL user at the sentinels")
    sentinel_password_env: EnvName | None = Field(
        default=None, description="variable with the sentinels' password"
    )
    sentinel_password_file: PathText | None = Field(default=None, description="file with it")
    ca_file: PathText | None = Field(
        default=None, description="PEM of who signs Redis' certificate; left out: the system's"
    )
    cert_file: PathText | None = Field(default=None, description="PEM of this gateway, for mTLS")
    key_file: PathText | None = Field(default=None, description="PEM of its key")
    timeout_ms: float = Field(
        default=50.0, ge=5, le=5000, description="of one answer, ms; a connection is given three "
        "times that; no retries"
    )  # fmt: skip
    load_mib_per_s: float = Field(
        default=4.0, ge=0.25, le=1024, description="what each process moves at most by its "
        "exchanges of load, MiB/s; less where there are more than 64; beyond it they come rarer"
    )  # fmt: skip

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        address = parse_redis_url(self.url)
        tls = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        given = [key for key, file in tls.items() if file is not None]
        if given and not address.tls:
            raise ValueError(f"{given[0]} needs TLS: rediss:// in url")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("give cert_file and key_file together")
        for stem in ("", "sentinel_"):
            env, file = (getattr(self, f"{stem}password_{how}") for how in ("env", "file"))
            if env is not None and file is not None:
                raise ValueError(f"give {stem}password_env or {stem}password_file, not both")
            if getattr(self, f"{stem}username") is not None and env is None and file is None:
                raise ValueError(f"{stem}username needs {stem}password_env or {stem}password_file")
        sentinel = (
            self.sentinel_username, self.sentinel_password_env, self.sentinel_password_file,
        )  # fmt: skip
        if address.topology is not RedisTopology.SENTINEL and any(sentinel):
            raise ValueError("sentinel_username and its password need redis+sentinel:// in url")
        return self


def redis_settings(schema: RedisSchema, folder: Path) -> RedisSettings:
    """The settings of a checked ``state.redis``; relative paths start at ``folder``."""

    def path(text: str | None) -> Path | None:
        return None if text is None else folder / text

    def secret(env: str | None, file: str | None) -> SecretSpec | None:
        return SecretSpec(env or "", path(file)) if env or file else None

    return RedisSettings(
        address=parse_redis_url(schema.url),
        prefix=schema.prefix,
        timeout_s=schema.timeout_ms / 1e3,
        load_bytes_per_s=schema.load_mib_per_s * 2**20,
        username=schema.username or "",
        password=secret(schema.password_env, schema.password_file),
        sentinel_username=schema.sentinel_username or "",
        sentinel_password=secret(schema.sentinel_password_env, schema.sentinel_password_file),
        ca_file=path(schema.ca_file),
        cert_file=path(schema.cert_file),
        key_file=path(schema.key_file),
    )
