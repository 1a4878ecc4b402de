"""The configuration of Envoy: two listeners, the module before its router, a cluster a protocol.

Envoy sends each request to the first of the endpoints that the module names for it, and to the next
where that fails before the answer began. It never picks one itself: the policy that stands in where
the list is exhausted has no hosts at all, since any host may lie where the request may not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from router.config import split_address
from router.config.addresses import ip_and_port
from router.config.settings import ClientAuth, Config
from router.planes.envoy.hosts import hosts_file
from router.planes.envoy.keys_file import KEYS
from router.planes.envoy.local_replies import local_replies
from router.planes.envoy.module import KEYS_NAME, NAME
from router.planes.envoy.routes import (
    DECIDED,
    is_of_this_machine,
    native_cluster,
    seconds,
    virtual_host,
)
from router.planes.envoy.tls import endpoint_sockets, has_keys, listener_socket

# Of the folder: what is decided by, and where Envoy is asked and told.
TABLE: Final = "table"
ADMIN: Final = "admin.sock"
_METADATA: Final = "carbon_router"
_METADATA_KEY: Final = "endpoints"
# As source/asking.c has it, and where it is answered.
WHO: Final = "carbon_router_who"
SOCKET: Final = "who.sock"
_TYPE: Final = "type.googleapis.com/envoy"
# Before each message of gRPC.
_GRPC_HEAD: Final = 5
# More than source/request.h reads.
_MAX_HEADERS: Final = 1000
_UNLIMITED: Final = 1_000_000
_CONNECT_S: Final = 2.0

Json = dict[str, Any]


class EnvoyListener(NamedTuple):
    """A listener, and the cluster behind it. ``name``: of the protocol, as endpoints have it;
    ``key``: of the configuration, below ``server``."""

    name: str
    listen: str
    key: str


def fronts_of(config: Config) -> list[EnvoyListener]:
    """What is listened on: gRPC always, HTTP where it is configured."""
    server = config.settings.server
    found = [EnvoyListener("oip", server.listen, "listen")]
    if server.http is not None:
        found.append(EnvoyListener("openai", server.http, "http"))
    return found


def bootstrap(config: Config, folder: Path, longest_s: float) -> Json:
    """Envoy's whole configuration, which no endpoint is in. ``folder``: of what is shared with it;
    ``longest_s``: a request may take without a deadline."""
    fronts = fronts_of(config)
    return {
        "node": {"id": "carbon-router", "cluster": "carbon-router"},
        "admin": {"address": {"pipe": {"path": str(folder / ADMIN), "mode": 0o600}}},
        "overload_manager": {"resource_monitors": [_connections(config)]},
        "static_resources": {
            "listeners": [_listener(one, config, folder, longest_s) for one in fronts],
            "clusters": [
                *(_cluster(one.name, one.name, folder, config) for one in fronts),
                *(_cluster(one.name, native_cluster(one.name), folder, config) for one in fronts),
                _who(folder / SOCKET),
            ],
        },
    }


def tls_folder(run: Path) -> Path:
    """Where certificates are, in the folder of a run."""
    return run / "tls"


def _connections(config: Config) -> Json:
    name = "resource_monitors.downstream_connections"
    most = config.settings.server.max_connections * config.settings.server.workers
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{_TYPE}.extensions.{name}.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": most,
        },
    }


def _listener(front: EnvoyListener, config: Config, folder: Path, longest_s: float) -> Json:
    server = config.settings.server
    max_bytes = server.max_message_mib * 2**20 + (_GRPC_HEAD if front.name == "oip" else 0)
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": front.name,
        "codec_type": "AUTO",
        "generate_request_id": False,
        "use_remote_address": True,
        "skip_xff_append": True,
        **_certificates(config),
        "max_request_headers_kb": server.max_metadata_kib,
        "common_http_protocol_options": {
            "idle_timeout": seconds(server.idle_s),
            "max_connection_duration": seconds(server.max_age_s),
            # Who has more than the module reads is told so by it.
            "max_headers_count": _MAX_HEADERS,
        },
        # Many a proxy asks by it, nginx as it is installed among them.
        "http_protocol_options": {"accept_http_10": True},
        "stream_idle_timeout": seconds(longest_s),
        "http2_protocol_options": {
            "max_concurrent_streams": server.max_streams,
            # So much of one is held until it is decided.
            "initial_stream_window_size": max_bytes,
        },
        "route_config": {
            "virtual_hosts": [virtual_host(front.name, front.listen, config, longest_s)]
        },
        "local_reply_config": local_replies(front.name == "oip"),
        "http_filters": [
            {
                "name": NAME,
                "typed_config": _module(NAME, front.name, _lines(front, config, folder)),
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }
    return {
        "name": front.name,
        "address": _socket(front.listen),
        "per_connection_buffer_limit_bytes": max_bytes,
        # So that nobody else may listen there, too.
        "enable_reuse_port": server.share_port,
        "filter_chains": [
            {
                **listener_socket(server.tls, tls_folder(folder)),
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ],
            }
        ],
    }


def _lines(front: EnvoyListener, config: Config, folder: Path) -> str:
    """Of the module's: its table, and where strangers' names are none of this host's, its own."""
    lines = [str(folder / TABLE)]
    if is_of_this_machine(front.name, front.listen, config):
        host = split_address(front.listen)[0].lower()
        host = f"[{host}]" if ":" in host else host
        lines += sorted({*config.settings.server.http_hosts, host, "localhost"})
    return "\n".join(lines)


def _module(module: str, filter_name: str, lines: str) -> Json:
    return {
        "@type": f"{_TYPE}.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": module, "do_not_close": True},
        "filter_name": filter_name,
        "filter_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": lines,
        },
    }


def _cluster(protocol: str, name: str, folder: Path, config: Config) -> Json:
    options: Json = {"http_protocol_options": {}}
    if protocol == "oip":
        options = {"http2_protocol_options": {}}
    endpoints = [one for one in config.fleet.endpoints if one.protocol == name]
    secured = endpoint_sockets(config, endpoints, tls_folder(folder))
    renewed: Json = {}
    if secured:
        # An open connection goes on by the certificates that it began with.
        longest = {"max_connection_duration": seconds(config.settings.server.max_age_s)}
        renewed = {"common_http_protocol_options": longest}
    # All that a broken connection took along moves at once, which Envoy cannot tell from other
    # retries: no budget of them would be the right one.
    limits = dict.fromkeys(
        ("max_requests", "max_pending_requests", "max_connections", "max_retries"), _UNLIMITED
    )
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": seconds(_CONNECT_S),
        **secured,
        "eds_cluster_config": {
            "eds_config": {
                "path_config_source": {"path": str(hosts_file(folder, name))},
                "resource_api_version": "V3",
            },
        },
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            f"{_PROTOCOL_OPTIONS}": {
                "@type": f"type.googleapis.com/{_PROTOCOL_OPTIONS}",
                "explicit_http_config": options,
                **renewed,
                **_keys(name, folder, config),
            }
        },
        "load_balancing_policy": _named_hosts() if name == protocol else _anybody(),
    }


def _keys(name: str, folder: Path, config: Config) -> Json:
    """Before each attempt leaves, the key of the server that it goes to: no caller's filter knows
    which one that will be. By its own the gateway's process knows that it is Envoy who calls."""
    is_native = name not in DECIDED
    if not (is_native or has_keys(config)):
        return {}
    codec = f"{_TYPE}.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
    # As source/keys/filter.c has it.
    kind = "native" if is_native else name
    filters = [
        {"name": KEYS_NAME, "typed_config": _module(KEYS_NAME, kind, str(folder / KEYS))},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": codec}},
    ]
    return {"http_filters": filters}


_PROTOCOL_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _anybody() -> Json:
    return _policy("round_robin", "RoundRobin", {})


def _named_hosts() -> Json:
    """The hosts that the module names, in their order, and nobody else."""
    key = {"key": _METADATA, "path": [{"key": _METADATA_KEY}]}
    nobody = _policy(
        "subset",
        "Subset",
        {
            "fallback_policy": "NO_FALLBACK",
            "subset_selectors": [{"keys": [_METADATA]}],
            "subset_lb_policy": _policy("least_request", "LeastRequest", {}),
        },
    )
    return _policy(
        "override_host",
        "OverrideHost",
        {"override_host_sources": [{"metadata": key}], "fallback_policy": nobody},
    )


def _policy(name: str, kind: str, fields: Json) -> Json:
    where = f"load_balancing_policies.{name}"
    config = {"@type": f"{_TYPE}.extensions.{where}.v3.{kind}", **fields}
    return {
        "policies": [{"typed_extension_config": {"name": f"envoy.{where}", "typed_config": config}}]
    }


def tells_certificates(config: Config) -> bool:
    """Whether callers may be known by certificates, which Envoy alone sees."""
    tls = config.settings.server.tls
    asked = tls is not None and tls.client_auth is not ClientAuth.NONE
    return asked and config.settings.identity.schema.mtls is not None


def _certificates(config: Config) -> Json:
    """Who clients' certificates are of is the gateway's to say; what a client says of that itself
    is taken out in any case."""
    if not tells_certificates(config):
        return {"forward_client_cert_details": "SANITIZE"}
    return {
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {"cert": True},
    }


def _who(socket: Path) -> Json:
    """The gateway's process, which is asked who calls."""
    address = {"pipe": {"path": str(socket)}}
    limits = {"max_connections": 16, "max_pending_requests": 1024, "max_requests": 1024}
    return {
        "name": WHO,
        "type": "STATIC",
        "connect_timeout": seconds(_CONNECT_S),
        "load_assignment": {
            "cluster_name": WHO,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "circuit_breakers": {"thresholds": [limits]},
    }


def _socket(address: str) -> Json:
    host, port = ip_and_port(address) or split_address(address)
    return {"socket_address": {"address": host, "port_value": port}}
