from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from router.app.loading import load
from router.config import loading, shipped_policies
from router.errors import ConfigError
from tests.config.samples import loaded, problems, sample, write


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.yaml")
    assert str(error) == f"{tmp_path / 'none.yaml'}: no such file"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "cannot be read" in str(refused(tmp_path))


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert "empty" in str(refused(path))


@pytest.mark.parametrize("text", ["- a", "just text", "3"])
def test_a_document_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert "expected a mapping" in str(refused(path))


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"version: 1\nname: \xe9\n")
    assert "not UTF-8 at byte 17" in str(refused(path))


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + yaml.safe_dump(sample()).encode())
    assert load(path).policy.name == "carbon-first"


def test_a_shipped_policy_by_name(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"policy": "latency-first"}).policy.name == "latency-first"


def test_an_unknown_policy_suggests_a_shipped_one(tmp_path: Path) -> None:
    found = problems(tmp_path, {"policy": "carbon-frist"})
    assert "did you mean 'carbon-first'?" in found["policy"]


def test_a_policy_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("weights: {per_ttft_ms: 1}\nbudget: {e2e_ms: 9000}\n")
    policy = loaded(tmp_path, {"policy": "own.yaml"}).policy
    assert (policy.name, policy.weights.per_ttft_ms) == ("own", 1.0)
    assert policy.budget.e2e_ms == 9000.0


def test_an_inline_policy(tmp_path: Path) -> None:
    policy = loaded(tmp_path, {"policy": {"weights": {"per_load": 2}}}).policy
    assert (policy.name, policy.weights.per_load) == ("inline", 2.0)


def test_problems_of_a_policy_file_name_it_and_join_those_of_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.yaml").write_text("weights: {per_ttft_m: 1}\n")
    found = problems(tmp_path, {"policy": "own.yaml", "server/workers": 0})
    assert set(found) == {"policy", "server.workers"}
    assert "own.yaml: weights.per_ttft_m: unknown key" in found["policy"]


def test_a_missing_policy_file_is_named(tmp_path: Path) -> None:
    assert "own.yaml: no such file" in problems(tmp_path, {"policy": "own.yaml"})["policy"]


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "version: 1\n")
    assert "version: given twice" in str(refused(path))


def test_policies_come_from_the_installed_package_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "packaged.yaml").write_text("weights: {per_load: 1}\n")
    monkeypatch.setattr(loading.resources, "files", lambda _: tmp_path)
    assert set(shipped_policies()) == {"packaged"}


def test_a_package_without_policies_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.resources, "files", lambda _: tmp_path)
    monkeypatch.setattr(loading, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(ConfigError, match="reinstall"):
        shipped_policies()
