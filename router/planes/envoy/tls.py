"""TLS as Envoy is told of it: of the listeners, and towards each endpoint that has it.

Certificates and keys themselves are in files beside (`router.planes.envoy.tls_files`), which hold
what `router.trust` has read and checked, so that Envoy takes nothing that the native gateway would
refuse. Versions and ciphers as `router.trust.contexts` has them.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.config import split_address
from router.config.settings import (
    ClientAuth,
    Config,
    EndpointAccess,
    EndpointCredentials,
    EndpointTls,
    ListenerTls,
    PemFiles,
)
from router.model import Endpoint

Json = dict[str, Any]

# Resources of a file: what we show, and whom we believe.
SHOWN, BELIEVED = "shown", "believed"
_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_VERSIONS: Final[Json] = {
    "tls_minimum_protocol_version": "TLSv1_2",
    "tls_maximum_protocol_version": "TLSv1_3",
    "cipher_suites": [
        "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
        "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ],
}
# By which Envoy tells how an endpoint of a cluster is reached.
MATCH: Final = "envoy.transport_socket_match"


def stem_of(files: PemFiles) -> str:
    """How the files of ``files`` are called in the folder that Envoy watches."""
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def listener_socket(tls: ListenerTls | None, folder: Path) -> Json:
    """What a filter chain has; nothing for plaintext."""
    if tls is None:
        return {}
    stem = stem_of(tls.files)
    common: Json = {
        "tls_params": _VERSIONS,
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [_secret(folder, stem, SHOWN)],
    }
    context: Json = {"@type": f"{_TYPE}.DownstreamTlsContext", "common_tls_context": common}
    if tls.client_auth is not ClientAuth.NONE:
        common["validation_context_sds_secret_config"] = _secret(folder, stem, BELIEVED)
        context["require_client_certificate"] = tls.client_auth is ClientAuth.REQUIRED
        # A session that is resumed is not asked for its certificate again.
        context["disable_stateless_session_resumption"] = True
        context["disable_stateful_session_resumption"] = True
    return {"transport_socket": _socket(context)}


def endpoint_sockets(config: Config, endpoints: Sequence[Endpoint], folder: Path) -> Json:
    """What a cluster has: a way for each that its endpoints are reached by over TLS."""
    ways: dict[str, Json] = {}
    for one in endpoints:
        tls = _tls_of(config, one)
        if tls is not None:
            socket = _socket(_towards(one, tls, folder))
            name = _way(one, tls)
            ways[name] = {"name": name, "match": {"way": name}, "transport_socket": socket}
    return {"transport_socket_matches": list(ways.values())} if ways else {}


class Reach(NamedTuple):
    """How Envoy reaches an endpoint. ``way``: which of `endpoint_sockets`, "" for plaintext;
    ``credentials``: what its key is, None where it is sent none."""

    way: str
    credentials: EndpointCredentials | None


class Reaches:
    """Of an Envoy that ``begun`` has configured: what it was not told of at its start it cannot
    reach. ``in_force``: the configuration of this moment."""

    def __init__(self, begun: Config, in_force: Callable[[], Config]) -> None:
        ways = {_reach(begun, endpoint).way for endpoint in begun.fleet.endpoints}
        self._ways = frozenset((*ways, ""))
        self._has_keys = has_keys(begun)
        self._in_force = in_force

    def of(self, endpoint: Endpoint) -> Reach | None:
        """None of one that Envoy cannot reach."""
        reach = _reach(self._in_force(), endpoint)
        if reach.way not in self._ways or (reach.credentials is not None and not self._has_keys):
            return None
        return reach


def has_keys(config: Config) -> bool:
    """Whether any server is sent a key, of those that are yet to be found, too."""
    places = (place.access for place in config.settings.discovery)
    accesses = (*config.settings.access.values(), *places)
    return any(one.credentials is not None for one in accesses)


def _reach(config: Config, endpoint: Endpoint) -> Reach:
    access = config.settings.access.get(endpoint.address, EndpointAccess())
    credentials = access.credentials
    # Wherever the file says so, the key is the same.
    shown = None if credentials is None else credentials._replace(at="")
    return Reach("" if access.tls is None else _way(endpoint, access.tls), shown)


def way_metadata(way: str) -> Json:
    """What a host has that is reached so."""
    return {"metadata": {"filter_metadata": {MATCH: {"way": way}}}} if way else {}


def _tls_of(config: Config, endpoint: Endpoint) -> EndpointTls | None:
    access = config.settings.access.get(endpoint.address)
    return None if access is None else access.tls


def _way(endpoint: Endpoint, tls: EndpointTls) -> str:
    return f"{stem_of(tls.files)}-{endpoint.protocol}-{_name(endpoint, tls)}"


def _name(endpoint: Endpoint, tls: EndpointTls) -> str:
    """That its certificate has to be for."""
    return tls.server_name or split_address(endpoint.address)[0]


def _towards(endpoint: Endpoint, tls: EndpointTls, folder: Path) -> Json:
    name, stem = _name(endpoint, tls), stem_of(tls.files)
    is_ip = _is_ip(name)
    san = {"san_type": "IP_ADDRESS" if is_ip else "DNS", "matcher": {"exact": name}}
    common: Json = {
        "tls_params": _VERSIONS,
        "alpn_protocols": ["h2" if endpoint.protocol == "oip" else "http/1.1"],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [san]},
            "validation_context_sds_secret_config": _secret(folder, stem, BELIEVED),
        },
    }
    if tls.files.cert is not None:
        common["tls_certificate_sds_secret_configs"] = [_secret(folder, stem, SHOWN)]
    context: Json = {"@type": f"{_TYPE}.UpstreamTlsContext", "common_tls_context": common}
    # RFC 6066, 3: an address is no name to ask by.
    return context if is_ip else {**context, "sni": name}


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _secret(folder: Path, stem: str, what: str) -> Json:
    path = {"path": str(folder / f"{stem}-{what}.json")}
    return {"name": what, "sds_config": {"path_config_source": path, "resource_api_version": "V3"}}


def _socket(context: Json) -> Json:
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}
