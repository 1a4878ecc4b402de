"""The configuration of a gateway under test: one endpoint a backend, under the default policy."""

from __future__ import annotations

from typing import Any

ZONES = ("US-CAL-CISO", "US-MIDA-PJM", "FR", "DE")
TASK = {
    "kind": "task",
    "energy_j": 1.0,
    "service_ms": 1.0,
    "max_batch": 64,
    "host_fraction": 0.0,
}


def gateway_config(listen: str, admin: str, backends: list[str], model: str) -> dict[str, Any]:
    """Endpoints that speak gRPC and serve ``model``, a task, in four regions."""
    return {
        "version": 1,
        "server": {"listen": listen, "admin": admin},
        "origins": {"client": {"rtt_ms": {f"region-{zone}": 1.0 for zone in ZONES}}},
        "default_origin": "client",
        "regions": {f"region-{zone}": {"grid_zone": zone, "pue": 1.1} for zone in ZONES},
        "carbon": {"sources": [{"kind": "static", "g_per_kwh": dict.fromkeys(ZONES, 400.0)}]},
        "profiles": {"echo": TASK},
        "endpoints": [
            {
                "name": f"echo-{number}",
                "region": f"region-{ZONES[number % len(ZONES)]}",
                "address": address,
                "models": [{"name": model, "profile": "echo"}],
                "max_in_flight": 64,
            }
            for number, address in enumerate(backends)
        ],
    }


def http_gateway_config(
    listen: str, admin: str, http: str, backends: list[str], model: str
) -> dict[str, Any]:
    """The same of endpoints that speak OpenAI's API and serve a language model."""
    config = gateway_config(listen, admin, backends, model)
    config["server"]["http"] = http
    for endpoint in config["endpoints"]:
        endpoint["protocol"] = "openai"
        endpoint["models"] = [{"name": model, "profile": "llama-3.1-8b@1xh100"}]
    lengths = {"input_tokens": 32, "output_tokens": 64, "output_tokens_p95": 256}
    config["models"] = {model: lengths}
    del config["profiles"]
    return config
