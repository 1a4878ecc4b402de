"""Whose name a call came by, where nothing else keeps strangers out.

A page on the internet may have its own name point at our address, and then reads our answers in the
browser of whoever opens it (DNS rebinding). Its name is still its own: it stands in ``Host``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

# No public DNS has them: special by RFC 6761 and ICANN, or of a Kubernetes cluster.
_PRIVATE: Final = ("localhost", "internal", "svc", "cluster.local")


def is_own_name(host: str, names: Collection[str]) -> bool:
    """Whether ``host``, as a header of a call has it, is an address, a name that no stranger can
    have, or one of ``names``, which are in lower case."""
    name = _without_port(host.strip().lower())
    if name in names or (name and "." not in name):
        return True
    if name.endswith(tuple("." + one for one in _PRIVATE)):
        return True
    try:
        ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, _, port = host.partition("]")
        return host if port and port[0] != ":" else name + "]"
    return host.partition(":")[0].removesuffix(".")
