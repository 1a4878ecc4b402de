from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.config import checks
from router.core import layout
from tests.config.samples import DELETE, loaded, problems, sample

MARGINAL = {"carbon/basis": "marginal", "carbon/factors": "none"}


def trace(folder: Path) -> dict[str, Any]:
    (folder / "grid.csv").write_text("datetime,X\n")
    return {"kind": "trace", "file": "grid.csv"}


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"endpoints/0/region": "us-wst"}, "endpoints[0].region", "did you mean 'us-west'?"),
        ({"endpoints/1/name": "west-0"}, "endpoints[1].name", "already used by endpoints[0]"),
        (
            {"endpoints/1/address": "127.0.0.1:9001"},
            "endpoints[1].address",
            "list both models under one endpoint",
        ),
        (
            {"endpoints/0/models/0/profile": "llama-3.1-8b@1xh10"},
            "endpoints[0].models[0].profile",
            "did you mean 'llama-3.1-8b@1xh100'?",
        ),
        (
            {"models": DELETE},
            "endpoints[0].models[0].name",
            "a token profile needs models.llama-3.1-8b",
        ),
        (
            {
                "models/llama-3.1-8": {
                    "input_tokens": 1,
                    "output_tokens": 1,
                    "output_tokens_p95": 1,
                }
            },
            "models.'llama-3.1-8'",
            "did you mean 'llama-3.1-8b'?",
        ),
        (
            {"endpoints/1/models/1": {"name": "llama-3.1-8b", "profile": "classifier@cpu"}},
            "endpoints[1].models[1].name",
            "is listed twice here",
        ),
        ({"identity": {"keys_in_store": True}}, "identity.keys_in_store", "needs state.redis"),
        ({"default_origin": "wst"}, "default_origin", "did you mean 'west'?"),
        ({"server/origin": "eats"}, "server.origin", "did you mean 'east'?"),
        (
            {"origins/west/rtt_ms/us-wset": 3},
            "origins.west.rtt_ms.us-wset",
            "did you mean 'us-west'?",
        ),
        (
            {"origins/west/rtt_ms/us-east": DELETE},
            "origins.west.rtt_ms",
            "no round-trip time to us-east",
        ),
        (
            {"profiles/llama-3.1-8b@1xh100": sample()["profiles"]["classifier@cpu"]},
            "profiles.'llama-3.1-8b@1xh100'",
            "is the name of a shipped profile",
        ),
        (
            {"carbon/sources": [{"kind": "trace", "file": "none.csv"}]},
            "carbon.sources[0].file",
            "none.csv: no such file",
        ),
        (
            {"carbon/sources": [{"kind": "static", "g_per_kwh": {"DE": 0}}]},
            "carbon.sources[0].g_per_kwh.DE",
            "0 g/kWh lifecycle does not exist",
        ),
        (
            {**MARGINAL, "carbon/sources": [{"kind": "climatology"}]},
            "carbon.sources[0]",
            "cannot stand in for marginal/none",
        ),
        (
            {**MARGINAL, "carbon/sources": [{"kind": "static"}]},
            "carbon.sources[0]",
            "give your own g_per_kwh",
        ),
        (
            {"server/listen": "localhost:1", "server/admin": "localhost:1"},
            "server.admin",
            "is server.listen too",
        ),
        ({"load/stale_after_s": 0.5}, "load.stale_after_s", "at least load.scrape_s (1 s)"),
        ({"health/max_ejection_s": 1}, "health.max_ejection_s", "base_ejection_s (10 s)"),
        (
            {
                "policy": {
                    "weights": {"per_gco2e": 1},
                    "signal": {"basis": "marginal", "factors": "none"},
                }
            },
            "policy.signal",
            "carbon provides average/lifecycle",
        ),
        (
            {
                f"regions/r{i}": {"grid_zone": "US-CAL-CISO", "pue": 1.1, "residency": [f"j{i}"]}
                for i in range(62)
            },
            "regions",
            "at most 62 are told apart",
        ),
        (
            {"models/llama-3.1-8b/residency": ["uss"]},
            "models.'llama-3.1-8b'.residency[0]",
            "did you mean 'us'?",
        ),
        (
            {"tenants": {"acme": {"residency": ["us", "su"]}}},
            "tenants.acme.residency[1]",
            "unknown jurisdiction 'su'",
        ),
        (
            {"policy": {"weights": {"per_gco2e": 1}, "residency": ["USA"]}},
            "policy.residency[0]",
            "unknown jurisdiction 'usa'",
        ),
        (
            {"tenants": {"acme": {"residency": []}}},
            "tenants.acme.residency",
            "must not be empty",
        ),
        (
            {"models/llama-3.1-8b": {"residency": ["us"]}},
            "endpoints[0].models[0].name",
            "its lengths are missing",
        ),
        (
            {
                "profiles": {
                    "image": {
                        "kind": "task",
                        "energy_j": 5,
                        "service_ms": 5,
                        "max_batch": 2,
                        "host_fraction": 0,
                    }
                },
                "endpoints/0/models/0/profile": "image",
                "endpoints/0/models/0/prefix_cache_tokens": 1000,
            },
            "endpoints[0].models[0].prefix_cache_tokens",
            "no prompts are read there",
        ),
        (
            {"models/llama-3.1-8b": {"input_tokens": 1}},
            "models.'llama-3.1-8b'",
            "output_tokens, output_tokens_p95: required, but missing",
        ),
    ],
)
def test_each_contradiction_names_its_key_and_its_fix(
    tmp_path: Path, changes: dict[str, Any], key: str, text: str
) -> None:
    found = problems(tmp_path, changes)
    assert key in found
    assert text in found[key]


def test_all_contradictions_are_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        {
            "endpoints/0/region": "nowhere",
            "default_origin": "nowhere",
            "health/max_ejection_s": 1,
            "carbon/sources": [{"kind": "trace", "file": "none.csv"}],
        },
    )
    assert set(found) == {
        "endpoints[0].region",
        "default_origin",
        "health.max_ejection_s",
        "carbon.sources[0].file",
    }


def test_two_free_ports_are_not_the_same_port(tmp_path: Path) -> None:
    changes = {"server/listen": "127.0.0.1:0", "server/admin": "127.0.0.1:0"}
    assert loaded(tmp_path, changes).settings.server.listen == "127.0.0.1:0"


def test_one_model_may_be_served_in_two_versions(tmp_path: Path) -> None:
    entry = {"profile": "classifier@cpu", "name": "classifier"}
    models = [{**entry, "version": "1"}, {**entry, "version": "2"}]
    endpoint = loaded(tmp_path, {"endpoints/1/models": models, "endpoints/0/models/1": entry})
    assert [model.version for model in endpoint.fleet.endpoints[1].models] == ["1", "2"]


def test_a_marginal_trace_with_own_annual_means_is_allowed(tmp_path: Path) -> None:
    sources = [trace(tmp_path), {"kind": "static", "g_per_kwh": {"X": 0}}]
    carbon = loaded(tmp_path, {**MARGINAL, "carbon/sources": sources}).settings.carbon
    assert [type(source).__name__ for source in carbon.sources] == ["TraceSpec", "StaticSpec"]


def test_jurisdictions_are_the_same_whatever_their_case(tmp_path: Path) -> None:
    made = loaded(tmp_path, {"tenants": {"acme": {"residency": ["US"]}}})
    assert made.fleet.residency.tenants["acme"] == {"us"}


def test_as_many_residency_lists_are_allowed_as_a_decision_tells_apart():
    assert checks.MAX_RESIDENCY_SETS == layout.MAX_RESIDENCY_SETS
