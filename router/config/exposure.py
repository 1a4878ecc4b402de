"""What strangers can reach: listeners beyond loopback, and what each of them lacks.

Without TLS whoever is on the way reads prompts and keys; without authentication whoever gets there
is served. Either is refused unless ``server.insecure`` says that the operator means it.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from router.config.addresses import ip_and_port
from router.config.fields import split_address
from router.config.problems import Problem
from router.config.schema import ConfigSchema, ServerSchema
from router.config.settings import ClientAuth
from router.config.tls import ListenerTlsSchema


class Exposure(NamedTuple):
    """A listener that others than this host may reach. ``key``: of the file; ``lacks``: what it
    should have, never empty; ``fix``: how it gets that."""

    key: str
    address: str
    lacks: tuple[str, ...]
    fix: str

    def __str__(self) -> str:
        return f"{self.address} is reached from beyond this host without {' and '.join(self.lacks)}"


def exposures(server: ServerSchema, authenticates: bool) -> list[Exposure]:
    """Every listener beyond loopback that lacks something. ``authenticates``: whether callers have
    to say who they are."""
    known = authenticates or _requires_certificates(server.tls)
    has_token = server.admin_token_env is not None or server.admin_token_file is not None
    admin_known = has_token or _requires_certificates(server.admin_tls)
    checked = [
        ("server.listen", server.listen, server.tls, known),
        ("server.http", server.http, server.tls, known),
        ("server.picker", server.picker, server.tls, known),
        # Nobody has a key who asks there.
        ("server.scaler", server.scaler, server.tls, _requires_certificates(server.tls)),
        ("server.admin", server.admin, server.admin_tls, admin_known),
    ]
    found = []
    for key, address, tls, asks in checked:
        if address is None or is_loopback(address):
            continue
        wanted = _fixes(key)
        has = {"TLS": tls is not None, "authentication": asks}
        lacks = [name for name in wanted if not has[name]]
        if lacks:
            fix = " and ".join(wanted[name] for name in lacks)
            found.append(Exposure(key, address, tuple(lacks), fix))
    return found


def check_exposure(server: ServerSchema, authenticates: bool) -> list[Problem]:
    """What has to be mended before this may listen; none where the operator says ``insecure``."""
    if server.insecure:
        return []
    return [
        (one.key, f"{one}: give {one.fix}, or say server.insecure: true")
        for one in exposures(server, authenticates)
    ]


def exposure_notes(server: ServerSchema, authenticates: bool) -> list[str]:
    """What an operator who says ``insecure`` is told of it."""
    return [f"{one.key}: {one}" for one in exposures(server, authenticates)]


def transport_notes(schema: ConfigSchema) -> list[str]:
    """What is worth a look of how we are reached, and how endpoints are."""
    notes = []
    server = schema.server
    if server.tls is not None and server.tls.client_auth_or_default is ClientAuth.OPTIONAL:
        asked = "only clients over HTTP are asked" if server.http else "nobody is asked"
        notes.append(
            "server.tls.client_auth: gRPC cannot ask for a certificate without requiring one: "
            f"{asked}"
        )
    for endpoint in schema.endpoints:
        key = schema.backends.credentials if endpoint.credentials is None else endpoint.credentials
        gets_key = key is not None and (key.env or key.file)
        secure = endpoint.is_secure(schema.backends.tls is not None)
        picks = server.picker is not None and endpoint.protocol == "openai"
        if picks and ip_and_port(endpoint.host_port) is None:
            notes.append(
                f"{endpoint.name}: {endpoint.host_port} is no IP address: server.picker sends no "
                "proxy there"
            )
        if gets_key and not secure and not is_loopback(endpoint.host_port):
            notes.append(
                f"{endpoint.name}: its key travels in plaintext to {endpoint.host_port}; whoever "
                "is on the way can read it: give tls"
            )
    return notes


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` is reached from this host alone; no name but ``localhost`` is."""
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def _requires_certificates(tls: ListenerTlsSchema | None) -> bool:
    return tls is not None and tls.client_auth_or_default is ClientAuth.REQUIRED


def _fixes(key: str) -> dict[str, str]:
    if key == "server.admin":
        return {"TLS": "server.admin_tls", "authentication": "server.admin_token_file or _env"}
    if key == "server.scaler":
        return {"TLS": "server.tls", "authentication": "server.tls.client_auth: required"}
    return {"TLS": "server.tls", "authentication": "identity"}
