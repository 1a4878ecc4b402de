import importlib.util
import platform

import pytest

from router.errors import EnvoyPlaneError
from router.planes.envoy import module
from tests.long import LONG
from tests.planes.envoy import host as hosts


def test_what_was_built_is_kept_in_the_users_cache_folder(monkeypatch, tmp_path):
    made = []

    def build(target, sources):
        made.append([source.name for source in sources])
        target.write_bytes(b"a library")

    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "_stamp", lambda: "of-these-sources")
    folder = module.built({"XDG_CACHE_HOME": str(tmp_path)})
    assert folder == tmp_path / "carbon-router" / "envoy" / "of-these-sources"
    assert module.built({"XDG_CACHE_HOME": str(tmp_path)}) == folder
    assert len(made) == 1
    assert "kernel.c" in made[0]


def test_without_a_folder_for_caches_it_is_the_homes():
    assert str(module.cache_folder({"HOME": "/home/x"})) == "/home/x/.cache/carbon-router/envoy"


def test_who_has_no_compiler_is_told_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "kernel_objects", dict)
    with pytest.raises(EnvoyPlaneError, match=r"carbon-router\[envoy\]"):
        module.build(tmp_path / module.FILE, [])
    assert not (tmp_path / module.FILE).exists()


def test_where_envoy_does_not_run_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(EnvoyPlaneError, match="on Linux, x86_64; this is Linux riscv64"):
        module.built({"XDG_CACHE_HOME": str(tmp_path)})


@LONG
@hosts.missing
def test_what_the_compiler_says_is_passed_on(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "kernel_objects", dict)
    wrong = tmp_path / "wrong.c"
    wrong.write_text("int f(void) { return nothing_such; }")
    with pytest.raises(EnvoyPlaneError, match="nothing_such"):
        module.build(tmp_path / module.FILE, [wrong])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["wrong.c"]
