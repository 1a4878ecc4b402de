from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.carbon.providers.registry import providers
from router.config.kinds import config_schema
from router.config.problems import from_validation, key_path, nearest, unknown
from tests.config.samples import DELETE, problems, sample


def test_key_paths() -> None:
    assert key_path(["endpoints", 2, "address"]) == "endpoints[2].address"
    assert key_path(["models", "llama-3.1-8b"]) == "models.'llama-3.1-8b'"
    assert key_path([]) == ""


def test_the_nearest_word_wins_whatever_its_case() -> None:
    assert nearest("Servr", ["server", "carbon"]) == "server"
    assert nearest("us-cal-ciso", ["US-CAL-CISO"]) == "US-CAL-CISO"
    assert nearest("zzz", ["server"]) is None


def test_an_unknown_word_lists_what_is_known_when_nothing_is_near() -> None:
    assert unknown("region", "x", ["b", "a"]) == "unknown region 'x'; known: a, b"
    assert unknown("region", "x", []) == "unknown region 'x'; none is defined"
    assert unknown("zone", "x", [f"name-{i:02}" for i in range(20)]).endswith("name-11 and 8 more")


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"servr": {}}, "servr", "unknown key 'servr'; did you mean 'server'?"),
        ({"server/lisen": "a:1"}, "server.lisen", "did you mean 'listen'?"),
        ({"endpoints/0/adress": 1}, "endpoints[0].adress", "did you mean 'address'?"),
        (
            {"carbon/sources": [{"kind": "trace", "fil": "x"}]},
            "carbon.sources[0].fil",
            "did you mean 'file'?",
        ),
        ({"profiles/classifier@cpu/energy": 1}, "profiles.'classifier@cpu'.energy", "'energy_j'"),
        ({"regions/us-west/pue": DELETE}, "regions.us-west.pue", "required, but missing: power"),
        ({"version": 2}, "version", "must be 1, got 2"),
        ({"server/workers": 0}, "server.workers", "must be greater than or equal to 1, got 0"),
        ({"server/workers": 1.0}, "server.workers", "expected a whole number, got 1.0"),
        ({"server/workers": True}, "server.workers", "expected a whole number, got True"),
        ({"regions/us-west/pue": 0.9}, "regions.us-west.pue", "must be greater than or equal to 1"),
        ({"regions/us-west/pue": "1.1"}, "regions.us-west.pue", "expected a number, got '1.1'"),
        ({"regions/us-west": None}, "regions.us-west", "got nothing; give a value or remove"),
        ({"regions/us-west/grid_zone": 1.5}, "regions.us-west.grid_zone", "put it in quotes"),
        ({"endpoints/0/models/0/version": 1.1}, "endpoints[0].models[0].version", "in quotes"),
        ({"endpoints": []}, "endpoints", "must not be empty"),
        ({"endpoints": {}}, "endpoints", "expected a list, got a mapping"),
        ({"endpoints/0/address": "ftp://h:1"}, "endpoints[0].address", "unknown scheme"),
        ({"endpoints/0/address": "h:0"}, "endpoints[0].address", "port 0 cannot be connected"),
        ({"endpoints/0/name": "a b"}, "endpoints[0].name", "not a usable name"),
        ({"endpoints/0/metrics/engine": "vlm"}, "endpoints[0].metrics.engine", "mean 'vllm'?"),
        ({"endpoints/0/protocol": "oi"}, "endpoints[0].protocol", "did you mean 'oip'?"),
        ({"endpoints/0/metrics/url": "h:1"}, "endpoints[0].metrics.url", "http://host:port"),
        ({"carbon/sources": [{"kind": "trce"}]}, "carbon.sources[0]", "did you mean 'trace'?"),
        ({"carbon/sources": [{}]}, "carbon.sources[0]", "one of trace, climatology, static"),
        ({"carbon/sources": []}, "carbon.sources", "must not be empty"),
        ({"carbon/factors": "none"}, "carbon", "factors: none goes with basis: marginal"),
        ({"clock": {"start": "now"}}, "clock.start", "'now' is not a time"),
        (
            {"profiles/classifier@cpu/energy_j": float("nan")},
            "profiles.'classifier@cpu'.energy_j",
            "expected a finite number",
        ),
        (
            {"models/llama-3.1-8b/output_tokens_p95": 10},
            "models.'llama-3.1-8b'",
            "must be at least output_tokens (200)",
        ),
        ({"policy": 3}, "policy", "a shipped policy's name"),
        ({"policy": None}, "policy", "a shipped policy's name"),
        ({"policy": {1: 2}}, "policy.1", "a key that is text, got 1; put it in quotes"),
        ({"policy": {"weights": {}}}, "policy.weights", "all weights are 0"),
        ({"policy": {"weights": {"per_gco2": 1}}}, "policy.weights.per_gco2", "'per_gco2e'"),
        (
            {"policy": {"weights": {"per_gco2e": 1}, "quantile": 0.5}},
            "policy.quantile",
            "must be greater than 0.5, got 0.5",
        ),
        (
            {"policy": {"weights": {"per_gco2e": 1}, "quantile": 1.0}},
            "policy.quantile",
            "must be less than 1",
        ),
        (
            {"policy": {"weights": {"per_gco2e": 1}, "max_gco2e": 0}},
            "policy.max_gco2e",
            "must be greater than 0",
        ),
        (
            {"policy": {"weights": {"per_gco2e": 1}, "ladder": ["carbon", "carbon"]}},
            "policy.ladder",
            "names a constraint twice",
        ),
        (
            {"policy": {"weights": {"per_gco2e": -1}}},
            "policy.weights.per_gco2e",
            "must be greater than or equal to 0",
        ),
    ],
)
def test_each_defect_names_its_key_and_its_fix(
    tmp_path: Path, changes: dict[str, Any], key: str, text: str
) -> None:
    found = problems(tmp_path, changes)
    assert key in found
    assert text in found[key]


def test_all_defects_are_reported_at_once_those_of_the_policy_included(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        {
            "servr": {},
            "server/workers": 0,
            "regions/us-east/pue": 0.5,
            "policy": {"weights": {"per_gco2e": 1}, "near_tie": 2},
        },
    )
    assert set(found) == {"servr", "server.workers", "regions.us-east.pue", "policy.near_tie"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
_PLACES = st.sampled_from(
    [
        "version",
        "server",
        "server/listen",
        "policy",
        "clock",
        "carbon",
        "carbon/sources",
        "origins",
        "rtt",
        "regions",
        "regions/us-west",
        "models",
        "endpoints",
        "endpoints/0",
        "endpoints/0/models",
        "profiles",
        "profiles/classifier@cpu",
    ]
)


@given(_PLACES, _JSON)
def test_any_value_in_any_place_is_explained(place: str, value: Any) -> None:
    data, schema = sample({place: value}), config_schema(providers())
    try:
        schema.model_validate(data)
    except ValidationError as error:
        found = from_validation(error, schema, data)
        assert found
        for key, text in found:
            assert isinstance(key, str)
            assert text
