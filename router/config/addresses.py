"""Addresses of servers as Envoy writes them, by which it tells one from another."""

from __future__ import annotations

import socket

from router.config.fields import split_address


def ip_and_port(address: str) -> tuple[str, int] | None:
    """Of ``host:port``: the IP address in its one usual form, so that two of the same are equal;
    None where the host is a name but localhost, which is 127.0.0.1."""
    host, port = split_address(address)
    if host == "localhost":
        host = "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, host)), port
        except OSError:
            continue
    return None


def as_envoy_writes(address: str) -> str:
    """``ip:port`` or ``[ipv6]:port``; a name as it is."""
    found = ip_and_port(address)
    if found is None:
        return address
    host, port = found
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
