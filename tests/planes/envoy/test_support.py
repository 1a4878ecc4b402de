import dataclasses

import pytest
import yaml

from router.app.loading import load
from router.errors import ConfigError
from router.planes.envoy import support
from router.planes.envoy.support import notes, require_supported
from tests.e2e import harness as h
from tests.planes.envoy import rig

FOUND = {
    "kind": "file", "name": "pool", "path": "found.yaml", "region": "here",
    "template": {"max_in_flight": 4, "models": [{"name": h.MODEL, "profile": "fast@test"}]},
}  # fmt: skip


def loaded(folder, **changes):
    made = rig.config()
    server = {**made["server"], **changes.pop("server", {})}
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({**made, **changes, "server": server}))
    return load(path)


def problems(config):
    with pytest.raises(ConfigError) as caught:
        require_supported(config)
    return [key for key, _ in caught.value.problems]


def test_what_it_serves_it_serves(tmp_path):
    require_supported(loaded(tmp_path))
    require_supported(loaded(tmp_path, discovery=[FOUND]))
    server = {"energy_tenants": ["*"], "http_paths": ["/v1/other"]}
    require_supported(loaded(tmp_path, server=server, deferral={"dir": "later"}))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"server": {"listen": "127.0.0.1:0"}}, "server.listen"),
    ],
)
def test_what_it_would_ignore_it_refuses_by_name(tmp_path, changes, key):
    assert problems(loaded(tmp_path, **changes)) == [key]


@pytest.mark.parametrize("kind", support.HELD, ids=lambda kind: kind.__name__)
def test_every_setting_is_held_or_told(kind):
    classed = [name for table in (support.HELD, support.TOLD) for name in table.get(kind, ())]
    assert sorted(classed) == sorted(one.name for one in dataclasses.fields(kind))


def test_what_is_told_is_told_by_its_name(tmp_path):
    told = "\n".join(notes(loaded(tmp_path, retry={"max_attempts": 9})))
    assert "retry.max_attempts" in told
    for kind, names in support.TOLD.items():
        section = kind.__name__.removesuffix("Settings").lower()
        assert all(f"{section}.{name}" in told for name in names)


def test_every_key_is_named_at_once(tmp_path):
    server = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0"}
    assert problems(loaded(tmp_path, server=server)) == ["server.listen", "server.http"]


def test_what_does_not_hold_is_said(tmp_path):
    told = "\n".join(notes(loaded(tmp_path)))
    assert "server.max_wait_ms" in told and "retry.budget_ratio" in told
    otlp = {"otlp": {"endpoint": "http://127.0.0.1:4317"}}
    assert "telemetry.otlp: spans" in "\n".join(notes(loaded(tmp_path, telemetry=otlp)))
    config = loaded(tmp_path, server={"max_wait_ms": 0})
    assert "server.max_wait_ms" not in "\n".join(notes(config))
