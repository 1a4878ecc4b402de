"""The file of endpoints: llm-d's format and ours, and all that it must not be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.discovery.file import MAX_BYTES, parse_endpoints
from router.errors import ConfigError
from router.model import FoundEndpoint


def parsed(text):
    return parse_endpoints(text.encode(), "pods.yaml")


def test_the_format_of_llm_d():
    one = {
        "name": "vllm-0", "namespace": "inference", "address": "10.0.0.1", "port": "8000",
        "labels": {"role": "decode"},
    }  # fmt: skip
    assert parsed(json.dumps({"endpoints": [one]})) == [
        FoundEndpoint("inference/vllm-0", "10.0.0.1:8000", "", {"role": "decode"})
    ]


def test_a_list_of_addresses_with_their_ports():
    text = "- {name: a, address: 'fd00::1', port: 80, region: west}\n- {name: b, address: 'h:81'}"
    assert parsed(text) == [
        FoundEndpoint("a", "[fd00::1]:80", "west", {}),
        FoundEndpoint("b", "h:81", "", {}),
    ]


def test_nobody_is_said_and_not_left_out():
    assert parsed("[]") == parsed("endpoints: []") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no list"),
        ("endpoints", "holds no list"),
        ("{}", "required, but missing"),
        ("- {name: a}", "address: required, but missing"),
        ("- {name: a, address: h:1, adress: h}", "unknown key"),
        ("- {name: a, address: 1}", "expected text"),
        ("- {name: a, address: h:1, labels: {a: 1}}", "expected text"),
        ("- 1", "expected a mapping"),
        ("- {name: a, address: h:1", "line"),
        ("a: &a [*a]", "alias"),
        ("x" * (MAX_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_wrong_is_said(text, why):
    with pytest.raises(ConfigError, match=why):
        parsed(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_endpoints_or_an_error(content):
    try:
        found = parse_endpoints(content, "pods.yaml")
    except ConfigError:
        return
    assert all(isinstance(one, FoundEndpoint) for one in found)
