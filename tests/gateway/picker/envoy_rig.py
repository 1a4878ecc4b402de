"""A real Envoy as a Gateway API gateway configures it, before emulated servers and a picker: a
filter of the external processing protocol, and a cluster that goes where that says."""

import contextlib
import io
import json
import re
import subprocess
import time
from pathlib import Path

import aiohttp
import yaml

from router.planes.envoy.envoy_process import envoy_program
from tests.e2e import harness as h
from tests.ports import free_ports

CHAT = "/v1/chat/completions"
PAGE = Path(__file__).parents[3] / "docs" / "picker.md"
TYPE = "type.googleapis.com/envoy"
# As the conformance tests of the Gateway API Inference Extension name whom to pick.
SELECTION = "test-epp-endpoint-selection"
DESTINATION = "x-gateway-destination-endpoint"
PATIENCE_S = 60.0
_MODES = {
    "request_header_mode": "SEND",
    "response_header_mode": "SEND",
    "request_body_mode": "FULL_DUPLEX_STREAMED",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "request_trailer_mode": "SEND",
    "response_trailer_mode": "SEND",
}


def fleet(count=3, **changes):
    """A picker before ``count`` servers over HTTP, each in a region of its own, cleanest first."""
    ports = free_ports(count)
    names = [f"clean-{place}" for place in range(count)]
    regions = {
        name: {"grid_zone": f"Z{place}", "pue": 1.1, "residency": ["eu", name]}
        for place, name in enumerate(names)
    }
    endpoints = [
        h.endpoint(name, name, f"127.0.0.1:{port}", protocol="openai")
        for name, port in zip(names, ports, strict=True)
    ]
    g_per_kwh = {f"Z{place}": 50 * (place + 1) for place in range(count)}
    made = h.base(endpoints, **changes)
    made["carbon"] = {"sources": [{"kind": "static", "g_per_kwh": g_per_kwh}]}
    made["regions"] = regions
    made["origins"] = {"home": {"rtt_ms": dict.fromkeys(names, 2)}}
    made["server"]["picker"] = f"127.0.0.1:{free_ports(1)[0]}"
    return made


class PickerGateway(h.Gateway):
    @property
    def picker(self):
        return self.config["server"]["picker"]


def bootstrap(listen, admin, pools):
    """``pools``: (hostname, picker, servers, fails open, HTTP/2 to them) of each."""
    hosts, clusters, filters = [], [], []
    for place, (hostname, picker, servers, opens, h2) in enumerate(pools):
        name = f"pool-{place}"
        route = {
            "cluster": name,
            "timeout": "30s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request,gateway-error",
                "num_retries": 2,
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
            },
        }
        overrides = {
            "@type": f"{TYPE}.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
            "overrides": {
                "grpc_service": _service(f"picker-{place}"),
                "failure_mode_allow": opens,
            },
        }
        if opens:
            # In full duplex Envoy keeps no copy of a body, and so cannot go on without a picker.
            overrides["overrides"]["processing_mode"] = {
                **_MODES, "request_body_mode": "BUFFERED",
            }  # fmt: skip
        hosts.append({
            "name": name,
            "domains": [hostname],
            "routes": [{
                "match": {"prefix": "/"},
                "route": route,
                "typed_per_filter_config": {"envoy.filters.http.ext_proc": overrides},
            }],
        })  # fmt: skip
        clusters += [_pool(name, servers, h2), _pickers(f"picker-{place}", picker)]
    filters = [_selection(), _ext_proc("picker-0"), _router()]
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "http_filters": filters,
        "route_config": {"virtual_hosts": hosts},
    }
    listener = {
        "name": "gateway",
        "address": _socket(listen),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]
        }],
    }  # fmt: skip
    return {
        "admin": {"address": _socket(admin)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


def _selection():
    """What a request says of whom to pick, as the subset that a data plane may hand to a picker."""
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [{
                "header": SELECTION,
                "on_header_present": {
                    "metadata_namespace": "envoy.lb.subset_hint",
                    "key": "x-gateway-destination-endpoint-subset",
                },
            }],
        },
    }  # fmt: skip


def _ext_proc(picker):
    return {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": _service(picker),
            "message_timeout": "5s",
            "processing_mode": _MODES,
            "metadata_options": {
                "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
                "receiving_namespaces": {"untyped": ["envoy.lb"]},
            },
        },
    }


def _router():
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"},
    }


def _pool(name, servers, h2):
    where = [{"metadata": _key(DESTINATION)}, {"header": DESTINATION}]
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    protocol = {"http2_protocol_options": {}} if h2 else {"http_protocol_options": {}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _hosts(name, servers),
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": protocol,
            }
        },
        "load_balancing_policy": _policy("override_host", "OverrideHost", {
            "override_host_sources": where,
            "selected_host_key": _key(f"{DESTINATION}-served"),
            "fallback_policy": _policy("round_robin", "RoundRobin", {}),
        }),
    }  # fmt: skip


def _key(name):
    return {"key": "envoy.lb", "path": [{"key": name}]}


def _policy(name, kind, fields):
    where = f"load_balancing_policies.{name}"
    config = {"@type": f"{TYPE}.extensions.{where}.v3.{kind}", **fields}
    one = {"typed_extension_config": {"name": f"envoy.{where}", "typed_config": config}}
    return {"policies": [one]}


def _pickers(name, address):
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _hosts(name, [address]),
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _hosts(name, addresses):
    found = [{"endpoint": {"address": _socket(address)}} for address in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": found}]}


def _service(cluster):
    return {"envoy_grpc": {"cluster_name": cluster}, "timeout": "5s"}


def _socket(address):
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def of_page(listen, admin, pool):
    """As docs/picker.md has it. ``pool``: (picker, servers)."""
    picker, servers = pool
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (shown,) = (yaml.safe_load(one) for one in blocks if "http_filters" in one)
    made = bootstrap(listen, admin, [("*", picker, servers, False, False)])
    static = made["static_resources"]
    (listener,) = static["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [*shown["http_filters"], _router()]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pool"}}
    manager["route_config"] = {
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]
    }
    # But for addresses.
    addresses = {"picker": [picker], "pool": servers}
    static["clusters"] = [
        {**one, "load_assignment": _hosts(one["name"], addresses[one["name"]])}
        for one in shown["clusters"]
    ]
    return made


class Envoy:
    """One Envoy with `bootstrap` of these ``pools``; listens on return."""

    def __init__(self, folder, pools, concurrency=1, configured=bootstrap):
        listen, admin = free_ports(2)
        self.address, self.admin = f"127.0.0.1:{listen}", f"127.0.0.1:{admin}"
        path = folder / "envoy.json"
        path.write_text(json.dumps(configured(self.address, self.admin, pools), indent=1))
        self.log = folder / "envoy.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [
                    str(envoy_program()), "-c", str(path), "--concurrency", str(concurrency),
                    "--disable-hot-restart", "--log-level", "warning",
                ],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._wait()

    def _wait(self):
        for _ in range(int(PATIENCE_S / h.POLL_S)):
            with contextlib.suppress(OSError):
                if h.http(self.admin, "/ready")[0] == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(h.POLL_S)
        self.stop()
        raise AssertionError("Envoy was not ready")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Caller:
    """A client of Envoy's."""

    def __init__(self, session, address):
        self.session = session
        self.address = address

    async def post(self, payload=None, path=CHAT, host="primary.example.com", **headers):
        """(status, fields, body)."""
        named = {key.replace("_", "-"): str(value) for key, value in headers.items()}
        asked = {
            "model": h.MODEL, "messages": [{"role": "user", "content": "Hello"}],
            "output_tokens": 4, **(payload or {}),
        }  # fmt: skip
        named = {"host": host, "content-type": "application/json", **named}
        body = io.BytesIO(json.dumps(asked).encode())
        url = f"http://{self.address}{path}"
        async with self.session.post(url, data=body, headers=named) as reply:
            return reply.status, reply.headers, await reply.read()

    async def carbon(self, *arguments, **headers):
        """The field ``x-carbon`` of an answer, as a dictionary."""
        status, fields, body = await self.post(*arguments, **headers)
        assert status == 200, body
        pairs = (part.partition("=") for part in fields["x-carbon"].split(", "))
        return {name: value.strip('"') for name, _, value in pairs}


@contextlib.asynccontextmanager
async def caller(envoy):
    timeout = aiohttp.ClientTimeout(total=h.PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Caller(session, envoy.address)
