"""Field types shared by the schemas: names, addresses, times, bounded numbers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MAX_PORT = 65535
# By the scheme of an endpoint's address; gRPC has no usual port.
_REMOTE_PORTS = {"http": 80, "https": 443, "grpc": None, "grpcs": None}


class Strict(BaseModel):
    """Base of every schema: unknown keys refused, no coercion between types, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=False
    )


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[ipv6]:port``. Raises ValueError saying what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port; write host:port, such as 127.0.0.1:8500")
    if "://" in text:
        raise ValueError(f"{text!r} is a URL; write host:port without a scheme")
    bracketed = host.startswith("[") and host.endswith("]")
    well_formed = _IPV6.fullmatch(host[1:-1]) if bracketed else _HOST.fullmatch(host)
    if not well_formed:
        raise ValueError(f"{text!r} has no usable host; write host:port (IPv6 as [::1]:8500)")
    if not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise ValueError(f"port {port!r} is not a number from 0 to {_MAX_PORT}")
    return (host[1:-1] if bracketed else host), int(port)


def join_address(host: str, port: int) -> str:
    """``host:port``, or ``[ipv6]:port``: what `split_address` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_name(text: str) -> bool:
    """Whether ``text`` is of the letters that a `Name` has, whatever its length."""
    return _NAME.fullmatch(text) is not None


def split_remote(text: str) -> tuple[str, str]:
    """(scheme, ``host:port``) of an endpoint's address; scheme "" where it has none.

    A URL may leave out its protocol's usual port. Raises ValueError saying what is wrong.
    """
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, rest = "", text
    elif scheme not in _REMOTE_PORTS:
        known = ", ".join(f"{one}://" for one in _REMOTE_PORTS)
        raise ValueError(f"{text!r} has an unknown scheme; write host:port, or one of {known}")
    if colon and ("/" in rest.rstrip("/") or "@" in rest):
        # Not repeated: it may hold a key.
        raise ValueError("an address is scheme, host and port alone, without a path or a user")
    rest = rest.rstrip("/") if colon else rest
    port = _REMOTE_PORTS.get(scheme)
    if port is not None and (rest.endswith("]") or ":" not in rest):
        rest = f"{rest}:{port}"
    if split_address(rest)[1] == 0:
        raise ValueError("port 0 cannot be connected to; give the server's port")
    return scheme, rest


def _listen(text: str) -> str:
    split_address(text)
    return text


def _remote(text: str) -> str:
    split_remote(text)
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL; write http://host:port/metrics")
    return text


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(
            f"{text!r} is not a usable name; use ASCII letters, digits and . _ : @ / + - "
            "(names travel in gRPC metadata and metric labels)"
        )
    return text


_STORES: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")


def _store_url(text: str) -> str:
    scheme, found, rest = text.partition("://")
    if not found or scheme not in _STORES or not rest:
        raise ValueError(f"{text!r} is no place for files; write {'://, '.join(_STORES)}://")
    if "@" in rest:
        raise ValueError("must be without credentials: they are those of the environment")
    return text.rstrip("/")


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        usable, bare = False, True
    if not bare:
        # Not repeated: it may hold a key.
        raise ValueError("must be scheme, host and path alone, without a key or a query")
    if not usable:
        raise ValueError(f"{text!r} is not a URL; write https://host/path")
    return text.rstrip("/")


def _env_name(text: str) -> str:
    # What does not look like a variable is not repeated: it may be the key itself.
    if not _ENV_NAME.fullmatch(text):
        raise ValueError("is not a variable's name; give the name, not what it holds")
    return text


def _name_or_empty(text: str) -> str:
    return _name(text) if text else text


def parse_time(value: str | datetime) -> float:
    """Unix seconds of an ISO 8601 time in UTC. Raises ValueError for another or no zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a time; write UTC as 2022-05-14T00:00Z") from None
    offset = value.utcoffset()
    if offset is None:
        raise ValueError(f"{value.isoformat()} has no zone; times are UTC, so append Z")
    if offset.total_seconds() != 0:
        try:
            fix = f"write {value.astimezone(UTC).strftime('%Y-%m-%dT%H:%MZ')}"
        except OverflowError:
            fix = "and in no year that there is"
        raise ValueError(f"{value.isoformat()} is not UTC; {fix}")
    return value.timestamp()


def parse_day_or_time(text: str) -> float:
    """Unix seconds of a time as `parse_time` takes it, or of the start of a day such as 2026-11-30.
    Raises ValueError."""
    return parse_time(f"{text}T00:00Z" if _DAY.fullmatch(text) else text)


def format_time(unix_s: float) -> str:
    """``2022-05-14T00:00Z``, with seconds where they are not 0."""
    when = datetime.fromtimestamp(unix_s, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ" if unix_s % 60 else "%Y-%m-%dT%H:%MZ")


def _time(value: object) -> object:
    return parse_time(value) if isinstance(value, str | datetime) else value


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_name)]
# Of places under one law, such as `eu`: the same whatever its case, and held in lower case.
Jurisdiction = Annotated[Name, AfterValidator(str.lower)]
NameOrEmpty = Annotated[str, Field(max_length=128), AfterValidator(_name_or_empty)]
EnvName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_env_name)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
PathText = Annotated[str, Field(min_length=1, max_length=4096)]
Listen = Annotated[str, AfterValidator(_listen)]
Address = Annotated[str, AfterValidator(_remote)]
Url = Annotated[str, Field(max_length=2048), AfterValidator(_url)]
StoreUrl = Annotated[Text, AfterValidator(_store_url)]
BaseUrl = Annotated[str, Field(max_length=2048), AfterValidator(_base_url)]
UnixTime = Annotated[float, BeforeValidator(_time), Field(ge=0, le=4102444800)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Milliseconds = Annotated[float, Field(gt=0, le=3_600_000)]
RttMs = Annotated[float, Field(ge=0, le=10_000)]
GPerKwh = Annotated[float, Field(ge=0, le=5_000)]
