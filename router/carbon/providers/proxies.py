"""Which proxy the environment names for a provider: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.

Read here rather than by the HTTP library, which would also take passwords from ``~/.netrc``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from router.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443}


def proxy_of(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL for ``url``, with user and password where it has them; None for no proxy.

    Names in lower case win over those in upper case. A loopback address is never asked through a
    proxy. NO_PROXY: ``*``, or a list of hosts (with all below them), ``host:port``, addresses and
    CIDR blocks. Raises ConfigError, which shows no password, for a proxy that cannot be used.
    """
    parts = urlsplit(url)
    found = next(
        (
            (name, value)
            for stem in (f"{parts.scheme}_proxy", "all_proxy")
            for name in (stem, stem.upper())
            if (value := environ.get(name, "").strip())
        ),
        None,
    )
    spared = environ.get("no_proxy") or environ.get("NO_PROXY", "")
    if found is None or _is_spared(parts, spared):
        return None
    name, value = found
    return _checked(name, value if "://" in value else f"http://{value}")


def _is_spared(url: SplitResult, spared: str) -> bool:
    host = (url.hostname or "").rstrip(".")
    port = url.port or _PORTS.get(url.scheme)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (part.strip().lower() for part in spared.split(",")):
        if entry == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
                continue
            except ValueError:
                pass
        name, colon, only = entry.rpartition(":")
        if colon and only.isdecimal():
            if int(only) != port:
                continue
            entry = name
        entry = entry.removeprefix("*").lstrip(".").strip("[]")
        if entry and (host == entry or host.endswith(f".{entry}")):
            return True
    return False


def _checked(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        fix = f"{name} in the environment must name an http proxy, as http://proxy.example:3128"
        raise ConfigError("environment", [("base_url", fix)])
    return value
