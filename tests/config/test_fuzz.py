"""Whatever an operator writes, loading it ends in values or in a printable ConfigError."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.app.loading import load
from router.config import Config
from router.errors import ConfigError
from tests.config.samples import sample

_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["us-west", "../x.csv", "a\nb", "\ud800", "llama-3.1-8b@1xh100", "a:1", "/dev/null", "\0"]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4) | st.integers(), st.integers(), max_size=2),
)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in ``data``."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield data, key
        if isinstance(value, dict | list):
            yield from places(value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_value_loads_or_is_refused_in_words(data: st.DataObject) -> None:
    document = sample({"policy": {"weights": {"per_gco2e": 1}, "budget": {"e2e_ms": 9000}}})
    document |= {
        "rtt": {"file": "rtt.csv"},
        "clock": {"start": "2022-05-14T00:00Z"},
        "carbon": {"sources": [{"kind": "trace", "file": "grid.csv"}]},
    }
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(list(places(document))))
        container[key] = data.draw(_VALUES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        (Path(folder) / "rtt.csv").write_text("o,us-west,us-east\nca,1,2\n", encoding="utf-8")
        (Path(folder) / "grid.csv").write_text("datetime,X\n", encoding="utf-8")
        try:
            config = load(path)
        except ConfigError as error:
            assert error.problems
            str(error).encode("utf-8")
        else:
            assert isinstance(config, Config)
